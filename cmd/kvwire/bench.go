package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
)

const benchHelp = `Examples:
  kvwire bench --transport uring --backend mem --conns 64 --depth 16 --value-bytes 1KiB
  kvwire bench --mix a --loop open --target-per-s 50k --duration 30s --output-dir results/mine
  kvwire bench --search 'p99<1ms' --duration 2s      (the highest rate that keeps it)
  kvwire bench --transport uring --depth 1 --stages 16   (where a request's time goes)
  kvwire bench --tls on      (its cost, beside --tcp-engine goroutine --tcp-client-engine goroutine)
  kvwire bench --workload workloada --duration 30s   (a YCSB property file; flags beat it)
  kvwire bench --trace trace.csv --trace-speed 2x    (columns time,op,key,size: each request at its time)
  kvwire bench --target redis://127.0.0.1:6379 --transport tcp --mix b     (a Redis, loaded by kvwire load --target redis://…)
  kvwire bench --transport inproc --backend null     (the generator's own ceiling)
  kvwire bench --transport inproc --backend raw --disk-engine aio --conns 1 --depth 64     (an engine's)
  kvwire bench --server-launch 'ssh lab1' --server-addr 10.0.0.1 --client-launch 'ssh lab2' --client-launch 'ssh lab3'

Starts a server, loads it (unless --dir names a store that has as many records), warms up, measures, and prints one row. With --target it measures a server
that runs already and was loaded with the same --records, --seed and sizes: kvwire's own, or one that speaks Redis's protocol (redis://).`

func benchCommand(ctx context.Context, args []string) error {
	f := newFactors("bench", benchHelp)
	f.benchFlags()
	if err := f.parse(args, nil); err != nil {
		return err
	}
	spec, err := f.checkBench()
	if err != nil {
		return err
	}
	if f.outputDir != "" { // a folder that refuses the row is found out before the measurement, not after
		if err := results.ReadyForRow(f.outputDir); err != nil {
			return err
		}
	}
	s, err := prepare(ctx, f)
	if err != nil {
		return err
	}
	f.warn() // after prepare, which may have executed the program again
	spec.Verify = factor.Keeps(s.flags["backend"])
	m, err := measure(ctx, s, spec, f.goal)
	s.noteHang(m, err)
	err = s.child.Explain(err)
	if cerr := s.close(); err == nil {
		err = cerr
	}
	if m == nil {
		return err
	}
	row := m.row(s)
	if row.RunID = f.runID; row.RunID == "" {
		row.RunID = newRunID(m.started)
	}
	werr := s.save(row, m.result) // before the output, whose reader may have gone: then SIGPIPE ends the process
	werr = errors.Join(werr, output(f, row))
	if !f.json {
		werr = errors.Join(werr, report.PrintStages(os.Stdout, m.result))
	}
	if err == nil {
		err = m.verdict()
	}
	return errors.Join(err, werr)
}

// newRunID is a name that no other run has, here or elsewhere: its time, and 32 bits by chance.
func newRunID(started time.Time) string {
	var chance [4]byte
	_, _ = rand.Read(chance[:]) // it cannot fail
	return fmt.Sprintf("%s-%x", started.UTC().Format("20060102-150405.000"), chance)
}

// save leaves in --output-dir and --record-dir what a run has found, beside what other processes leave there at the same time.
func (s *session) save(row *report.Row, res *bench.Result) (err error) {
	f := s.f
	for _, dir := range slices.Compact([]string{f.outputDir, f.recordDir}) {
		if dir == "" {
			continue
		}
		err = errors.Join(err, report.Locked(dir, func() error {
			err := report.Record(dir, row.RunID, res)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("run %s exists already, so nothing was written: %w", row.RunID, err)
			}
			err = errors.Join(err, s.writeHosts(dir))
			if dir == f.outputDir {
				err = errors.Join(err, results.AppendRow(dir, row, environment()))
			}
			return err
		}))
	}
	return err
}

// verdict is an error when the run did not do what it was asked to.
func (m *measured) verdict() error {
	switch r := m.result; {
	case r.VerifyFailures > 0:
		return exit.With(exit.Wrong, fmt.Errorf("%d values were read that are not those that were written; the first: %s", r.VerifyFailures, r.FirstFailure))
	case r.Errors > r.Truncated():
		return fmt.Errorf("%d operations failed: %s", r.Errors, r.StatusErrors())
	case r.Misses > 0 && r.Spec.Verify:
		return fmt.Errorf("%d records are not there (was the store loaded with these --records?)", r.Misses)
	case r.Ops+r.Errors == 0 && !r.Interrupted:
		return errors.New("no operation completed in the window")
	}
	return nil
}

// leavesServerAlone refuses flags of a server when there is one that runs already.
func (f *factors) leavesServerAlone() error {
	for _, name := range factor.All.Names(func(x *factor.Factor) bool {
		return x.Has(factor.Server) && !x.HasAny(factor.Client|factor.Load|factor.Bench)
	}) {
		if f.sets(name) {
			return usagef("--%s concerns the server, which runs already at --target %s", name, f.target)
		}
	}
	return nil
}

// checkBench refuses flags that contradict each other, before anything is started.
func (f *factors) checkBench() (spec bench.Spec, err error) {
	if err := f.readSource(); err != nil {
		return spec, err
	}
	if err := f.readTarget(); err != nil {
		return spec, err
	}
	if f.target != "" {
		if f.inProcess() {
			return spec, usagef("--target needs a network, not --transport %s", f.Server.Transport)
		}
		if err := f.leavesServerAlone(); err != nil {
			return spec, err
		}
	}
	if f.serverAt != "" {
		if err := checkAddress("server-at", f.serverAt, 1); err != nil {
			return spec, err
		}
		switch {
		case f.target != "":
			return spec, usagef("--server-at starts a server, and --target has one: give one of them")
		case f.inProcess():
			return spec, usagef("--server-at needs a network, not --transport %s", f.Server.Transport)
		case f.sets("dir"):
			return spec, usagef("--dir %s: a server at --server-at chooses its folder itself", f.Store.Dir)
		}
	}
	if err := f.checkLaunch(); err != nil {
		return spec, err
	}
	if spec, err = f.spec(); err != nil || len(f.launch.Clients) == 0 {
		return spec, err
	}
	spec.AllThreads = len(f.launch.Clients) * f.Load.Threads
	if err := spec.Check(); err != nil {
		return spec, usagef("%d load hosts: %v", len(f.launch.Clients), err)
	}
	return spec, nil
}

// measured is one run and what surrounds it.
type measured struct {
	started       time.Time
	result        *bench.Result
	before, after server.Counters // of the server, at the window's ends
	err           error           // of reading them

	hosts []report.LoadHost // whose result it is together; nil: the load was here
	port  *rdmaPort         // of these
}

// isLoaded says whether the folder that --dir names holds as many items already: then they are those of an earlier load,
// or the run finds out that they are not.
func (s *session) isLoaded(spec bench.Spec) (bool, error) {
	if !s.f.sets("dir") {
		return false, nil
	}
	items, err := s.items()
	if items > 0 && items != spec.Records && err == nil {
		what := "all records are loaded again"
		if items > spec.Records {
			what = fmt.Sprintf("the run uses the first %d, and leaves the others as they are", spec.Records)
		}
		fmt.Fprintf(os.Stderr, "kvwire: the store in %s has %d items, and --records asks for %d: %s\n", s.f.Store.Dir, items, spec.Records, what)
	}
	return items >= spec.Records, err
}

// items is how many the store has.
func (s *session) items() (n uint64, err error) {
	c, err := s.counters(firstAnswerMax)
	for i := range c.Stores {
		n += c.Stores[i].Items
	}
	return n, err
}

// load fills the store, unless it is loaded already.
func (s *session) load(ctx context.Context, spec bench.Spec, show func(bench.Progress)) error {
	if s.hosts != nil {
		return s.hosts.load(ctx, spec, show)
	}
	loaded, err := s.isLoaded(spec)
	if s.data = dataReused; err == nil && !loaded {
		s.data = dataFresh
		_, err = bench.Load(ctx, spec, s.client.threads, show)
	}
	return err
}

// measure loads the store, warms up and measures: once, or at the rates that a search asks for. What was found until an error
// comes back with it.
func measure(ctx context.Context, s *session, spec bench.Spec, g *goal) (*measured, error) {
	p := terminal.Stderr()
	defer p.Clear()
	show := showProgress(p)
	if s.f.target == "" && factor.Keeps(s.f.Store.Backend) {
		if err := s.load(ctx, spec, show); err != nil {
			s.noteHang(nil, err)
			if errors.Is(err, context.Canceled) {
				return nil, errors.New("interrupted while loading: nothing was measured")
			}
			return nil, fmt.Errorf("load %d records: %w", spec.Records, err)
		}
	}
	run := func(spec bench.Spec) (*measured, error) {
		if s.hosts != nil {
			return s.hosts.window(ctx, spec, show)
		}
		return window(ctx, s, spec, show)
	}
	if g != nil {
		result := func(m *measured) *bench.Result { return m.result }
		return lab.Search(ctx, spec, lab.Goal{Percentile: g.percentile, Below: g.below, Text: g.text}, run, result, func(line string) {
			p.Clear()
			fmt.Fprintln(os.Stderr, "kvwire:", line)
		})
	}
	return run(spec)
}

// window warms up and measures once.
func window(ctx context.Context, s *session, spec bench.Spec, show func(bench.Progress)) (m *measured, err error) {
	m = &measured{started: time.Now()}
	var after chan error
	spec.OnWindow = func(begin bool) {
		s.port.look(begin)
		if begin {
			m.before, m.err = s.counters(answerMax)
			return
		}
		after = make(chan error, 1)
		go func() { // beside the drain: a server that does not answer takes its time once
			var err error
			m.after, err = s.counters(answerMax)
			after <- err
		}()
	}
	m.result, err = bench.Run(ctx, spec, s.client.threads, show)
	if after != nil {
		aerr := <-after
		m.err = cmp.Or(m.err, aerr)
	}
	if m.result == nil {
		return nil, err
	}
	return m, cmp.Or(err, m.err) // where requests have no answer, that the counters have none is no other error
}

// output prints the row.
func output(f *factors, row *report.Row) error {
	if f.json {
		return json.NewEncoder(os.Stdout).Encode(row)
	}
	return report.PrintTable(os.Stdout, []report.Row{*row})
}
