package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/report"
)

// Goal is what a rate has to keep: a percentile of the latency below a bound.
type Goal struct {
	Percentile float64 // 0 to 100
	Below      time.Duration
	Text       string // as the user wrote it
}

// A search doubles the rate until the goal is missed, and then halves the distance, on a logarithmic scale, until the rate that keeps
// it and the one that does not are this close.
const (
	SearchFrom  = 1000 // or more
	searchMost  = 100_000_000
	searchClose = 1.05
	searchSteps = 40
)

// keeps reports whether a run kept the goal, and describes what it did.
func (g *Goal) keeps(res *bench.Result) (ok bool, did string, err error) {
	if res.Errors > 0 || res.VerifyFailures > 0 {
		return false, "operations failed", nil
	}
	ratio, _ := res.Achieved()
	ns, known := report.Percentile(res.Lat, g.Percentile).Get()
	if !known {
		if ratio < report.MinAchieved {
			return false, fmt.Sprintf("%.0f %% of it done", 100*ratio), nil
		}
		return false, "", fmt.Errorf("%d operations are too few for p%v: set a longer --duration, or a higher --target-per-s to start with", res.Ops, g.Percentile)
	}
	did = fmt.Sprintf("p%v %s, %.0f %% of it done", g.Percentile, report.Duration(ns), 100*ratio)
	return ratio >= report.MinAchieved && time.Duration(ns) < g.Below, did, nil
}

// Search returns the run of the highest rate that kept the goal. run measures at a rate, result is the result of a run, and show shows a line after each step.
func Search[R any](ctx context.Context, spec bench.Spec, g Goal, run func(bench.Spec) (*R, error), result func(*R) *bench.Result, show func(line string)) (best *R, err error) {
	low, high := 0.0, math.Inf(1)
	for step := 1; step <= searchSteps && high/low > searchClose && spec.TargetPerS <= searchMost; step++ {
		m, err := run(spec)
		if err != nil || m == nil || result(m).Interrupted || ctx.Err() != nil {
			if best == nil {
				best = m
			}
			return best, err
		}
		ok, did, err := g.keeps(result(m))
		if err != nil {
			if !math.IsInf(high, 1) {
				err = fmt.Errorf("%s/s misses %s, and at %s/s %w", report.Rate(high), g.Text, report.Rate(spec.TargetPerS), err)
			}
			return best, err
		}
		word := "misses"
		if ok {
			word = "keeps"
			best, low = m, spec.TargetPerS
		} else {
			high = spec.TargetPerS
		}
		show(fmt.Sprintf("%s/s %s %s: %s", report.Rate(spec.TargetPerS), word, g.Text, did))
		switch {
		case math.IsInf(high, 1):
			spec.TargetPerS = 2 * low
		case low == 0:
			spec.TargetPerS = high / 4
			if spec.TargetPerS < 1 {
				return nil, errors.New("no rate keeps " + g.Text + ": one operation per second misses it, too")
			}
		default:
			spec.TargetPerS = math.Sqrt(low * high)
		}
	}
	if best == nil {
		return nil, fmt.Errorf("no rate kept %s, down to %s/s", g.Text, report.Rate(spec.TargetPerS))
	}
	return best, nil
}
