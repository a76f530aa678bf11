package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/report"
)

const benchHelp = `Examples:
  kvwire bench --transport uring --backend mem --conns 64 --depth 16 --value-bytes 1KiB
  kvwire bench --mix a --loop open --target-per-s 50k --duration 30s --output-dir results/mine
  kvwire bench --search 'p99<1ms' --duration 2s      (the highest rate that keeps it)
  kvwire bench --transport inproc --backend null     (the generator's own ceiling)
  kvwire bench --transport inproc --backend raw --disk-engine aio --conns 1 --depth 64     (an engine's)

Starts a server, loads it (unless --dir names a store that has as many records), warms up, measures, and prints one row. With --target it measures a server
that runs already and was loaded with the same --records, --seed and sizes.`

func benchCommand(ctx context.Context, args []string) error {
	f := newFactors("bench", benchHelp)
	f.serverFlags()
	f.loadFlags()
	f.benchFlags()
	if err := f.parse(args, nil); err != nil {
		return err
	}
	spec, err := f.checkBench()
	if err != nil {
		return err
	}
	if f.outputDir != "" { // a folder that refuses the row is found out before the measurement, not after
		if err := readyFor(f.outputDir); err != nil {
			return err
		}
	}
	s, err := prepare(ctx, f)
	if err != nil {
		return err
	}
	spec.Verify = keeps(s.flags["backend"])
	m, err := measure(ctx, s, spec, f.goal)
	if cerr := s.close(); err == nil {
		err = cerr
	}
	if m == nil {
		return err
	}
	row := m.row(s)
	if row.RunID = f.runID; row.RunID == "" {
		row.RunID = m.started.UTC().Format("20060102-150405.000")
	}
	werr := output(f, row)
	for _, dir := range []string{f.outputDir, f.recordDir} {
		if dir != "" {
			werr = errors.Join(werr, report.Record(dir, row.RunID, m.result))
		}
	}
	if err == nil {
		err = m.verdict()
	}
	return errors.Join(err, werr)
}

// verdict is an error when the run did not do what it was asked to.
func (m *measured) verdict() error {
	switch r := m.result; {
	case r.VerifyFailures > 0:
		return &exitError{exitWrong, fmt.Errorf("%d values were read that are not those that were written; the first: %s", r.VerifyFailures, r.FirstFailure)}
	case r.Errors > 0:
		return fmt.Errorf("%d operations failed: %s", r.Errors, r.StatusErrors())
	case r.Misses > 0 && r.Spec.Verify:
		return fmt.Errorf("%d records are not there (was the store loaded with these --records?)", r.Misses)
	case r.Ops == 0 && !r.Interrupted:
		return errors.New("no operation completed in the window")
	}
	return nil
}

// leavesServerAlone refuses flags of a server when there is one that runs already.
func (f *factors) leavesServerAlone() error {
	for _, name := range serverFlags {
		both := slices.Contains([]string{"transport", "backend", "wait", "spin-max", "value-bytes", "scan-items"}, name) || slices.Contains(rdmaFlags, name)
		if f.sets(name) && !both {
			return usagef("--%s concerns the server, which runs already at --target %s", name, f.target)
		}
	}
	return nil
}

// checkBench refuses flags that contradict each other, before anything is started.
func (f *factors) checkBench() (spec bench.Spec, err error) {
	if f.target != "" {
		if f.transport == "inproc" {
			return spec, usagef("--target needs a network, not --transport inproc")
		}
		if err := f.leavesServerAlone(); err != nil {
			return spec, err
		}
	}
	if f.serverAt != "" {
		switch {
		case f.target != "":
			return spec, usagef("--server-at starts a server, and --target has one: give one of them")
		case f.transport == "inproc":
			return spec, usagef("--server-at needs a network, not --transport inproc")
		case f.sets("dir"):
			return spec, usagef("--dir %s: a server at --server-at chooses its folder itself", f.dir)
		}
	}
	return f.spec()
}

// inprocThreads are the loops that an inproc client lives on.
func (f *factors) inprocThreads() int { return max(1, f.serverThreads, f.netLoops) }

// measured is one run and what surrounds it.
type measured struct {
	started       time.Time
	result        *bench.Result
	before, after counters // of the server, at the window's ends
	err           error    // of reading them
}

// isLoaded says whether the folder that --dir names holds as many items already: then they are those of an earlier load,
// or the run finds out that they are not.
func (s *session) isLoaded(spec bench.Spec) (bool, error) {
	if !s.f.sets("dir") {
		return false, nil
	}
	c, err := s.counters()
	if err != nil {
		return false, err
	}
	items := uint64(0)
	for i := range c.Stores {
		items += c.Stores[i].Items
	}
	return items >= spec.Records, nil
}

// measure loads the store, warms up and measures: once, or at the rates that a search asks for. What was found until an error
// comes back with it.
func measure(ctx context.Context, s *session, spec bench.Spec, g *goal) (*measured, error) {
	p := newProgress("")
	defer p.clear()
	loaded, err := s.isLoaded(spec)
	if err != nil {
		return nil, err
	}
	if s.f.target == "" && keeps(s.f.backend) && !loaded {
		if _, err := bench.Load(ctx, spec, s.client.threads, p.show); err != nil {
			if errors.Is(err, context.Canceled) {
				return nil, errors.New("interrupted while loading: nothing was measured")
			}
			return nil, fmt.Errorf("load %d records: %w", spec.Records, err)
		}
	}
	if g != nil {
		return search(ctx, spec, g, func(spec bench.Spec) (*measured, error) { return window(ctx, s, spec, p) }, func(line string) {
			p.clear()
			fmt.Fprintln(os.Stderr, "kvwire:", line)
		})
	}
	return window(ctx, s, spec, p)
}

// window warms up and measures once.
func window(ctx context.Context, s *session, spec bench.Spec, p *progress) (m *measured, err error) {
	m = &measured{started: time.Now()}
	spec.OnWindow = func(begin bool) {
		c, err := s.counters()
		s.port.look(begin)
		if begin {
			m.before = c
		} else {
			m.after = c
		}
		m.err = errors.Join(m.err, err)
	}
	if m.result, err = bench.Run(ctx, spec, s.client.threads, p.show); m.result == nil {
		return nil, err
	}
	return m, errors.Join(err, m.err)
}

// output prints the row, and appends it to --output-dir's runs.csv.
func output(f *factors, row *report.Row) (err error) {
	if f.json {
		err = json.NewEncoder(os.Stdout).Encode(row)
	} else {
		err = report.PrintTable(os.Stdout, []report.Row{*row})
	}
	if f.outputDir != "" {
		err = errors.Join(err, appendRow(f.outputDir, row))
	}
	return err
}

// readyFor makes a folder for results and sees that a row can be added there.
func readyFor(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
	}
	if _, err := readRows(filepath.Join(dir, "runs.csv")); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".kvwire-")
	if err != nil {
		return fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func readRows(name string) ([]report.Row, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := report.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (nothing was added to it: name another --output-dir)", name, err)
	}
	return rows, nil
}

// appendRow adds a row to the runs.csv of a folder that may have one, with env.json beside it.
func appendRow(dir string, row *report.Row) error {
	name := filepath.Join(dir, "runs.csv")
	rows, err := readRows(name)
	if err != nil {
		return err
	}
	return errors.Join(writeRows(name, append(rows, *row)), environment().WriteFile(dir))
}

// writeRows replaces a file of rows, whole or not at all.
func writeRows(name string, rows []report.Row) error {
	var b bytes.Buffer
	w, err := report.NewWriter(&b)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := w.Append(r); err != nil {
			return err
		}
	}
	if err := os.WriteFile(name+".new", b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
