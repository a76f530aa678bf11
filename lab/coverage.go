package lab

import (
	"math"
	"slices"

	"github.com/kvwire/kvwire/lab/stats"
	"github.com/kvwire/kvwire/report"
)

// coverageLevel is the confidence level of the exact interval of an observed coverage.
const coverageLevel = 0.95

// Coverage is, for one metric, the share of trials whose interval contains the true ratio, which is 1.
type Coverage struct {
	Metric      string  `json:"metric"`
	Experiments int     `json:"experiments"`
	Short       int     `json:"short"`      // of these, the trials that lack a generation because a run was invalid (Coverages only)
	Covered     int     `json:"covered"`    // trials whose interval contains 1
	Attained    float64 `json:"attained"`   // coverage of the intervals by theory, for their numbers of generations: mean
	Low         float64 `json:"low"`        // exact 95 % interval of the observed share
	High        float64 `json:"high"`       //
	HalfWidth   float64 `json:"half_width"` // median half-width of the trials' intervals, as a ratio less 1
}

// Agrees reports whether the coverage by theory lies within the interval of the observed share.
func (c *Coverage) Agrees() bool { return c.Low <= c.Attained && c.Attained <= c.High }

// Coverages summarizes, by metric, the results of trials in which a cell was compared with itself.
func Coverages(trials []TrialResult) []Coverage {
	all := coverages(trials, func(t *TrialResult) report.Interval { return t.Interval })
	for i := range all {
		for _, t := range trials {
			if t.Metric.Name == all[i].Metric && t.Pairs > 0 && t.LeftOut > 0 {
				all[i].Short++
			}
		}
	}
	return all
}

// Controls summarizes, by metric, the A/A comparisons in trials with a known cost.
func Controls(trials []TrialResult) []Coverage {
	var once []TrialResult // one result per trial: all its variants have the same A/A interval
	seen := map[string]int{}
	for _, t := range trials {
		if seen[t.Metric.Name] != t.Number {
			seen[t.Metric.Name] = t.Number
			once = append(once, t)
		}
	}
	return coverages(once, func(t *TrialResult) report.Interval { return t.AA })
}

func coverages(trials []TrialResult, of func(t *TrialResult) report.Interval) (all []Coverage) {
	for _, m := range report.Metrics {
		c := Coverage{Metric: m.Name}
		var widths []float64
		for i := range trials {
			t := &trials[i]
			interval := of(t)
			if t.Metric.Name != m.Name || math.IsNaN(interval.Level) {
				continue
			}
			c.Experiments++
			c.Attained += interval.Level
			if interval.Low <= 1 && 1 <= interval.High {
				c.Covered++
			}
			widths = append(widths, halfWidth(interval))
		}
		if c.Experiments == 0 {
			continue
		}
		c.Attained /= float64(c.Experiments)
		c.Low, c.High = stats.Binomial(c.Covered, c.Experiments, coverageLevel)
		c.HalfWidth = median(widths)
		all = append(all, c)
	}
	return all
}

// Injected summarizes the trials with one known cost, by one metric.
type Injected struct {
	Variant     string  `json:"variant"`
	Metric      string  `json:"metric"`
	Experiments int     `json:"experiments"`
	Expected    float64 `json:"expected"`   // expected ratio to the baseline: median over the trials
	Ratio       float64 `json:"ratio"`      // median of the estimates
	Error       float64 `json:"error"`      // median relative error of an estimate: |estimate / expected - 1|
	Found       int     `json:"found"`      // trials whose interval excludes 1 on the expected side
	Opposite    int     `json:"opposite"`   // trials whose interval excludes 1 on the other side
	Covered     int     `json:"covered"`    // trials whose interval contains the expected ratio
	Verdicts    int     `json:"verdicts"`   // trials with a verdict
	HalfWidth   float64 `json:"half_width"` // median half-width of the intervals, as a ratio less 1
}

// Injections summarizes the trials of each known cost, in the order of known. A cost whose trials all lack an interval, as when a slice had too
// few requests for a percentile, or when all generations but one are invalid, has no trials and no figures.
func Injections(trials []TrialResult, known []Known) (all []Injected) {
	for _, k := range known {
		x := Injected{Variant: k.Label, Metric: k.Metric}
		var expects, ratios, errs, widths []float64
		for i := range trials {
			t := &trials[i]
			if t.Variant != k.Label || t.Metric.Name != k.Metric || math.IsNaN(t.Expected) || math.IsNaN(t.Level) {
				continue
			}
			x.Experiments++
			above, below := t.Low > 1, t.High < 1
			switch {
			case above && t.Expected > 1, below && t.Expected < 1:
				x.Found++
			case above, below:
				x.Opposite++
			}
			if t.Low <= t.Expected && t.Expected <= t.High {
				x.Covered++
			}
			if t.Decided() {
				x.Verdicts++
			}
			expects, ratios = append(expects, t.Expected), append(ratios, t.Ratio)
			errs, widths = append(errs, math.Abs(t.Ratio/t.Expected-1)), append(widths, halfWidth(t.Interval))
		}
		if x.Experiments > 0 {
			x.Expected, x.Ratio, x.Error, x.HalfWidth = median(expects), median(ratios), median(errs), median(widths)
		}
		all = append(all, x)
	}
	return all
}

// halfWidth is the half-width of an interval of ratios, as a ratio less 1.
func halfWidth(i report.Interval) float64 { return math.Sqrt(i.High/i.Low) - 1 }

// median sorts the values and returns their median; NaN without values.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return stats.Median(v)
}
