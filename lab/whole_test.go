package lab

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/kvwire/kvwire/report"
)

func TestSlicesAreComparedWithWholeRuns(t *testing.T) {
	f, s := newStudy(t, 1, nil)
	rng := rand.New(rand.NewPCG(3, 3))
	f.run = func(string) *report.Row { // a whole run that takes 10 % more CPU time
		row := noisy(rng, func(Variant) float64 { return 1.2 })(Variant{})
		row.Valid, row.Ops = report.B(true), report.U(1)
		return row
	}
	trials, err := s.Whole(t.Context(), 0, 30)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.runs) != 30 || f.most != together || len(f.forgot) != 30*(1+together) {
		t.Errorf("%d whole runs, %d processes at once, %d runs forgotten", len(f.runs), f.most, len(f.forgot))
	}
	for _, trial := range trials {
		if trial.Pairs != 30 {
			t.Errorf("%s: %d pairs", trial.Metric.Name, trial.Pairs)
		}
		if ratio := trial.Ratio; trial.Metric.Name == "cpu_ns_per_op" && (ratio < 0.88 || ratio > 0.94) {
			t.Errorf("CPU time of slices to whole runs: %v", ratio)
		}
	}
}

func TestAnInterruptedComparisonWithWholeRunsHasItsCompletePairs(t *testing.T) {
	f, s := newStudy(t, 1, nil)
	ctx, cancel := context.WithCancel(t.Context())
	f.run = func(string) *report.Row {
		if len(f.runs) == 4 {
			cancel()
		}
		return &report.Row{Valid: report.B(true), Ops: report.U(1), OpsPerS: report.F(1)}
	}
	trials, err := s.Whole(ctx, 0, 30)
	if err != nil || len(trials) == 0 || trials[0].Pairs != 3 && trials[0].Pairs != 4 {
		t.Errorf("%v, %+v", err, trials)
	}
}
