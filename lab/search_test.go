package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/report"
)

var below1ms = Goal{Percentile: 99, Below: time.Millisecond, Text: "p99<1ms"}

func itself(r *bench.Result) *bench.Result { return r }

// machine is a run on a machine whose p99 rises from 100 µs to 5 ms above one rate, and whose rate cannot exceed another.
func machine(leaps, most float64) func(bench.Spec) (*bench.Result, error) {
	return func(s bench.Spec) (*bench.Result, error) {
		n := int64(s.TargetPerS)
		res := &bench.Result{Spec: s, Scheduled: uint64(n), Ops: uint64(min(s.TargetPerS, most)), Lat: hdrhistogram.New(1, 1e10, 3)}
		ns := int64(100_000)
		if s.TargetPerS > leaps {
			ns = 5_000_000
		}
		_ = res.Lat.RecordValues(ns, int64(res.Ops))
		return res, nil
	}
}

func TestSearchFindsTheHighestRate(t *testing.T) {
	for name, c := range map[string]struct {
		from, leaps, most float64
		want              float64 // at least 1/1.05 of it
		wantErr           string  // the error
	}{
		"the latency leaps":      {12_000, 37_000, 1e9, 37_000, ""},
		"it does no more":        {12_000, 1e9, 50_000, 50_000 / report.MinAchieved, ""},
		"it begins too high":     {1e6, 90_000, 1e9, 90_000, ""},
		"it begins at the rate":  {40_000, 40_000, 1e9, 40_000, ""},
		"it is never kept":       {12_000, 1, 1e9, 0, "too few for p99"},
		"the rate is not enough": {1000, 1e9, 1e9, 0, "1000 operations are too few"},
		"it is always kept":      {1e6, 1e12, 1e12, searchMost / 2, ""},
	} {
		steps := 0
		m, err := Search(t.Context(), bench.Spec{Loop: bench.Open, TargetPerS: c.from}, below1ms, machine(c.leaps, c.most), itself, func(string) { steps++ })
		if c.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := m.Spec.TargetPerS; got > c.want*1.001 && name != "it is always kept" || got < c.want/searchClose {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if steps > 25 {
			t.Errorf("%s: %d steps", name, steps)
		}
	}
}

func TestSearchThatIsCutShortHasWhatItFound(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	n := 0
	run := func(s bench.Spec) (*bench.Result, error) {
		if n++; n == 3 {
			stop()
		}
		m, _ := machine(1e9, 1e9)(s)
		m.Interrupted = n == 3
		return m, nil
	}
	m, err := Search(ctx, bench.Spec{Loop: bench.Open, TargetPerS: 20_000}, below1ms, run, itself, func(string) {})
	if err != nil || m.Spec.TargetPerS != 40_000 {
		t.Errorf("%v, %v", m, err)
	}
	broken := errors.New("the server is gone")
	if _, err := Search(t.Context(), bench.Spec{Loop: bench.Open, TargetPerS: 20_000}, below1ms, func(bench.Spec) (*bench.Result, error) { return nil, broken }, itself, func(string) {}); !errors.Is(err, broken) {
		t.Error(err)
	}
}
