package lab

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kvwire/kvwire/report"
)

// slowStart is a process that computes for the first 2 ms of each slice and completes nothing in this time.
type slowStart struct{ *studyProcess }

func (p slowStart) Slice(ctx context.Context, settle, window time.Duration) (report.Slice, error) {
	s, err := p.studyProcess.Slice(ctx, settle, window)
	ops := float64(window-2*time.Millisecond) / float64(10*time.Microsecond)
	s.Ops, s.SliceOps = report.U(uint64(ops)), report.U(uint64(ops))
	s.OpsPerS = report.F(ops / window.Seconds())
	s.CPUNsPerOp = report.F(float64(window) / ops)
	s.LatP50Ns = report.I(10_000)
	return s, err
}

type slowLab struct{ *studyLab }

func (l slowLab) Start(ctx context.Context, v Variant) (Process, error) {
	p, err := l.studyLab.Start(ctx, v)
	if err != nil {
		return nil, err
	}
	return slowStart{p.(*studyProcess)}, nil
}

func TestTheCostOfAlternationIsFound(t *testing.T) {
	f, s := newStudy(t, 1, nil)
	s.Runner.Exec = slowLab{f}
	s.Runner.Slice = 50 * time.Millisecond
	trials, err := s.Whole(t.Context(), 0, 6)
	if err != nil {
		t.Fatal(err)
	}
	if f.most != 2 || len(f.started) != 12 || len(f.forgot) != 12 {
		t.Errorf("%d processes at once, %d in all, %d runs forgotten", f.most, len(f.started), len(f.forgot))
	}
	want := map[string]float64{"ops_per_s": (43.0 / 45) / (998.0 / 1000), "cpu_ns_per_op": (45.0 / 43) / (1000.0 / 998), "lat_p50_ns": 1}
	for _, x := range trials {
		if x.Pairs != 6 || x.Ratio < want[x.Metric.Name]*0.999 || x.Ratio > want[x.Metric.Name]*1.001 {
			t.Errorf("%s: %d pairs, ratio %v, and not %v", x.Metric.Name, x.Pairs, x.Ratio, want[x.Metric.Name])
		}
	}
	if len(trials) != len(want) {
		t.Errorf("%d metrics", len(trials))
	}
}

func TestAGenerationOfWholeThatFailsIsDoneAgainOnce(t *testing.T) {
	f, s := newStudy(t, 1, nil)
	s.Runner.Exec = slowLab{f}
	s.Runner.Slice = 50 * time.Millisecond
	fail := func(generations ...int) {
		f.finish = func(v Variant) error {
			if slices.Contains(generations, v.Generation) {
				return errors.New("no row")
			}
			return nil
		}
	}
	fail(2)
	trials, err := s.Whole(t.Context(), 0, 3)
	if err != nil || len(trials) == 0 || trials[0].Pairs != 3 || s.made != 4 || len(f.forgot) != 8 || len(f.alive) != 0 {
		t.Errorf("%v, %+v, %d generations, %d runs forgotten, %d processes alive", err, trials, s.made, len(f.forgot), len(f.alive))
	}
	fail(5, 6)
	if _, err = s.Whole(t.Context(), 0, 3); err == nil || s.made != 6 {
		t.Errorf("%v after %d generations", err, s.made)
	}
}

func TestAnInterruptedComparisonWithWholeRunsHasItsCompleteGenerations(t *testing.T) {
	f, s := newStudy(t, 1, nil)
	s.Runner.Exec = slowLab{f}
	s.Runner.Slice = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	s.Show = func(n int) {
		if n == 3 {
			cancel()
		}
	}
	trials, err := s.Whole(ctx, 0, 30)
	if err != nil || len(trials) == 0 || trials[0].Pairs != 3 {
		t.Errorf("%v, %+v", err, trials)
	}
}
