package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/report"
)

// goal is what a rate has to keep.
type goal struct {
	percentile float64 // 0 to 100
	below      time.Duration
	text       string
}

// parseGoal reads "p99<200us".
func parseGoal(s string) (*goal, error) {
	name, limit, ok := strings.Cut(s, "<")
	digits, isP := strings.CutPrefix(strings.TrimSpace(name), "p")
	p, err := factor.ParseDecimal(digits)
	d, derr := time.ParseDuration(strings.TrimSpace(limit))
	if !ok || !isP || err != nil || derr != nil || !(p > 0 && p < 100) || d <= 0 {
		return nil, fmt.Errorf("%q is no goal (such as p99<200us or p99.9<5ms)", s)
	}
	return &goal{percentile: p, below: d, text: s}, nil
}

// A search doubles the rate until the goal is missed, and then halves the distance, on a logarithmic scale, until the rate that keeps
// it and the one that does not are this close.
const (
	searchFrom  = 1000 // or more
	searchMost  = 100_000_000
	searchClose = 1.05
	searchSteps = 40
)

// from is a rate at which a window has enough operations to know the percentile (report.Percentile).
func (g *goal) from(window time.Duration) float64 {
	enough := 120 / (min(g.percentile, 100-g.percentile) / 100)
	return math.Ceil(max(searchFrom, enough/window.Seconds()))
}

// keeps says whether a run kept the goal, and in words what it did.
func (g *goal) keeps(res *bench.Result) (ok bool, did string, err error) {
	if res.Errors > 0 || res.VerifyFailures > 0 {
		return false, "operations failed", nil
	}
	ratio, _ := res.Achieved()
	ns, known := report.Percentile(res.Lat, g.percentile).Get()
	if !known {
		if ratio < report.MinAchieved {
			return false, fmt.Sprintf("%.0f %% of it done", 100*ratio), nil
		}
		return false, "", fmt.Errorf("%d operations are too few to know p%v: give a longer --duration, or a higher --target-per-s to begin with", res.Ops, g.percentile)
	}
	did = fmt.Sprintf("p%v %s, %.0f %% of it done", g.percentile, report.Duration(ns), 100*ratio)
	return ratio >= report.MinAchieved && time.Duration(ns) < g.below, did, nil
}

// search gives the run of the highest rate that kept the goal.
func search(ctx context.Context, spec bench.Spec, g *goal, run func(bench.Spec) (*measured, error), say func(line string)) (best *measured, err error) {
	low, high := 0.0, math.Inf(1)
	for step := 1; step <= searchSteps && high/low > searchClose && spec.TargetPerS <= searchMost; step++ {
		m, err := run(spec)
		if err != nil || m == nil || m.result.Interrupted || ctx.Err() != nil {
			if best == nil {
				best = m
			}
			return best, err
		}
		ok, did, err := g.keeps(m.result)
		if err != nil {
			if !math.IsInf(high, 1) {
				err = fmt.Errorf("%s/s misses %s, and at %s/s %w", report.Rate(high), g.text, report.Rate(spec.TargetPerS), err)
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
		say(fmt.Sprintf("%s/s %s %s: %s", report.Rate(spec.TargetPerS), word, g.text, did))
		switch {
		case math.IsInf(high, 1):
			spec.TargetPerS = 2 * low
		case low == 0:
			spec.TargetPerS = high / 4
			if spec.TargetPerS < 1 {
				return nil, errors.New("not even one operation per second keeps " + g.text)
			}
		default:
			spec.TargetPerS = math.Sqrt(low * high)
		}
	}
	if best == nil {
		return nil, fmt.Errorf("no rate kept %s, down to %s/s", g.text, report.Rate(spec.TargetPerS))
	}
	return best, nil
}
