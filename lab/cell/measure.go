package cell

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
)

// Measured is the result of one run.
type Measured struct {
	Started time.Time
	Result  *bench.Result
	Hosts   []report.LoadHost // the load hosts' parts of Result; nil: the load was made by this process

	before, after server.Counters // of the server, at the window's ends
	err           error           // of reading them
	port          *rdmaPort       // of Hosts
}

// isLoaded reports whether the folder that --dir names has as many items already. They are assumed to be from an earlier load; the run finds out if not.
func (s *Session) isLoaded(spec bench.Spec) (bool, error) {
	if !s.f.Given("dir") {
		return false, nil
	}
	items, err := s.Items()
	if items > 0 && items != spec.Records && err == nil {
		what := "all records are loaded again"
		if items > spec.Records {
			what = fmt.Sprintf("the run uses the first %d, and leaves the others as they are", spec.Records)
		}
		s.f.Program.Note("the store in %s has %d items, and --records asks for %d: %s", s.f.Store.Dir, items, spec.Records, what)
	}
	return items >= spec.Records, err
}

// Items returns how many items the store has.
func (s *Session) Items() (n uint64, err error) {
	c, err := s.counters(firstAnswerMax)
	for i := range c.Stores {
		n += c.Stores[i].Items
	}
	return n, err
}

// load fills the store, unless it is loaded already.
func (s *Session) load(ctx context.Context, spec bench.Spec, show func(bench.Progress)) error {
	if s.hosts != nil {
		return s.hosts.load(ctx, spec, show)
	}
	loaded, err := s.isLoaded(spec)
	if s.dataSet = lab.DataReused; err == nil && !loaded {
		s.dataSet = lab.DataFresh
		err = s.fillFast(ctx, spec, show)
	}
	return err
}

// fillFast is Fill with as many requests in flight as kvwire load has, whatever the measurement has.
func (s *Session) fillFast(ctx context.Context, spec bench.Spec, show func(bench.Progress)) error {
	threads, hangUp := s.client.loaders(ctx, loadDepth(len(s.client.threads), spec.ValueBytes))
	defer hangUp()
	spec.Conns, spec.Depth = 0, 0 // those of the measurement
	_, err := bench.Load(ctx, spec, threads, show)
	return err
}

// Fill writes the records of spec to the store, whatever it has.
func (s *Session) Fill(ctx context.Context, spec bench.Spec, show func(bench.Progress)) (bench.Loaded, error) {
	return bench.Load(ctx, spec, s.client.threads, show)
}

// Measure loads the store, warms up and measures: once, or at the rates of a search. With an error, it returns what was measured before.
func (s *Session) Measure(ctx context.Context, spec bench.Spec, show func(bench.Progress)) (*Measured, error) {
	if s.f.Target == "" && factor.Keeps(s.f.Store.Backend) {
		if err := s.load(ctx, spec, show); err != nil {
			s.NoteHang(nil, err)
			if errors.Is(err, context.Canceled) {
				return nil, errors.New("interrupted while loading: nothing was measured")
			}
			return nil, fmt.Errorf("load %d records: %w", spec.Records, err)
		}
	}
	run := func(spec bench.Spec) (*Measured, error) {
		if s.hosts != nil {
			return s.hosts.window(ctx, spec, show)
		}
		return s.window(ctx, spec, show)
	}
	if s.f.Goal == nil {
		return run(spec)
	}
	result := func(m *Measured) *bench.Result { return m.Result }
	return lab.Search(ctx, spec, *s.f.Goal, run, result, func(line string) { s.f.Program.Note("%s", line) })
}

// window warms up and measures once.
func (s *Session) window(ctx context.Context, spec bench.Spec, show func(bench.Progress)) (m *Measured, err error) {
	m = &Measured{Started: time.Now()}
	var after chan error
	spec.OnWindow = func(begin bool) {
		s.port.look(begin)
		if begin {
			m.before, m.err = s.counters(answerMax)
			return
		}
		after = make(chan error, 1)
		go func() { // during the drain, so that the two waits for a server that does not answer overlap
			var err error
			m.after, err = s.counters(answerMax)
			after <- err
		}()
	}
	m.Result, err = bench.Run(ctx, spec, s.client.threads, show)
	if after != nil {
		aerr := <-after
		m.err = cmp.Or(m.err, aerr)
	}
	if m.Result == nil {
		return nil, err
	}
	return m, cmp.Or(err, m.err) // if requests have no answer, neither have the counters: one error is enough
}

// Record writes the latencies of a run and its throughput over time to dir, and then calls also, which may be nil. Other processes may write to dir at the same time.
func (s *Session) Record(dir string, row *report.Row, res *bench.Result, also func() error) error {
	return report.Locked(dir, func() error {
		err := report.Record(dir, row.RunID, res)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("run %s exists already, so nothing was written: %w", row.RunID, err)
		}
		if err = errors.Join(err, s.writeHosts(dir)); also != nil {
			err = errors.Join(err, also())
		}
		return err
	})
}

// Verdict is an error if the run did not do what its flags ask for.
func (m *Measured) Verdict() error {
	switch r := m.Result; {
	case r.VerifyFailures > 0:
		return wrongData(r.VerifyFailures, r.FirstFailure)
	case r.ByStatus[kv.StatusTooSmall] > 0:
		return fmt.Errorf("%d operations failed: %s (the store's values are larger than %d B: set --value-bytes as when it was loaded)", r.Errors, r.StatusErrors(), r.Spec.ValueBytes)
	case r.Errors > r.Truncated():
		return fmt.Errorf("%d operations failed: %s", r.Errors, r.StatusErrors())
	case r.Misses > 0 && r.Spec.Verify:
		return fmt.Errorf("%d records are not in the store (set --records and --key-bytes as when it was loaded)", r.Misses)
	case r.Ops+r.Errors == 0 && !r.Interrupted:
		return errors.New("no operation completed in the window")
	}
	return nil
}

func wrongData(n uint64, first string) error {
	return exit.With(exit.Wrong, fmt.Errorf("%d values differ from those that were written; the first: %s", n, first))
}
