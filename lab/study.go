package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/kvwire/kvwire/bench/stats"
	"github.com/kvwire/kvwire/report"
)

// A Study is a proof of the instrument: many small experiments whose answers are known, measured with real processes and slices, and
// evaluated as all experiments are.
type Study struct {
	Runner      *Runner
	Generations int           // of each experiment
	Time        time.Duration // of a generation
	ID          string        // begins the run IDs
	Show        func(done, of int)

	made int // generations
}

// pairsTogether is how many experiments of two variants share a generation's processes: each has two of its own.
const pairsTogether = 3

// Coverage is what experiments of a cell beside itself show of a metric.
type Coverage struct {
	Metric      string
	Experiments int
	Covered     int     // whose interval contains a ratio of 1
	Attained    float64 // what the interval covers for that number of generations, exactly
	Low, High   float64 // exact 95 % interval of the covered share
	HalfWidth   float64 // median half-width of the intervals, as a ratio less 1
}

// Agrees says whether what the intervals are said to cover lies within the interval of what they did.
func (c *Coverage) Agrees() bool { return c.Low <= c.Attained && c.Attained <= c.High }

// AA measures so many experiments in which a cell is compared with itself. It ends early with ctx, with what there is.
func (s *Study) AA(ctx context.Context, cell, experiments int) ([]Coverage, error) {
	var all [][]report.Comparison
	for len(all) < experiments && ctx.Err() == nil {
		pairs := make([]report.Pairs, min(pairsTogether, experiments-len(all)))
		var labels []string
		for i := range pairs {
			labels = append(labels, fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i))
		}
		of := func(string) int { return cell }
		series, err := s.experiment(ctx, labels, of)
		if err != nil {
			return coverages(all), err
		}
		for i := range pairs {
			found, err := report.Compare([]report.Pairs{{Baseline: series[2*i], Variants: series[2*i+1 : 2*i+2]}}, report.Options{})
			if err != nil {
				return coverages(all), err
			}
			all = append(all, found)
		}
		s.Show(len(all), experiments)
	}
	return coverages(all), nil
}

// coverages sums up comparisons of experiments, metric by metric.
func coverages(all [][]report.Comparison) (out []Coverage) {
	for _, m := range report.Metrics {
		c := Coverage{Metric: m.Name}
		var widths []float64
		for _, x := range pick(all, m.Name, "") {
			if x.Pairs == 0 {
				continue
			}
			c.Experiments++
			c.Attained = x.Level
			if x.Low <= 1 && 1 <= x.High {
				c.Covered++
			}
			widths = append(widths, math.Sqrt(x.High/x.Low)-1)
		}
		if c.Experiments == 0 {
			continue
		}
		slices.Sort(widths)
		c.HalfWidth = stats.Median(widths)
		c.Low, c.High = stats.Binomial(c.Covered, c.Experiments, 0.95)
		out = append(out, c)
	}
	return out
}

// pick are the comparisons of a metric and a variant ("": any).
func pick(all [][]report.Comparison, metric, variant string) (some []report.Comparison) {
	for _, found := range all {
		for _, x := range found {
			if x.Metric.Name == metric && (variant == "" || x.Variant == variant) {
				some = append(some, x)
			}
		}
	}
	return some
}

// experiment measures the generations of one experiment. of gives the cell of a label.
func (s *Study) experiment(ctx context.Context, labels []string, of func(label string) int) ([]report.Series, error) {
	series := make([]report.Series, len(labels))
	for i, label := range labels {
		series[i] = report.Series{Label: label, Rows: map[int]*report.Row{}, Slices: map[int][]report.Slice{}}
	}
	for g := 1; g <= s.Generations; g++ {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		rows, found, err := s.generation(ctx, labels, of)
		if err != nil { // as Run, once more
			if rows, found, err = s.generation(ctx, labels, of); err != nil {
				return nil, err
			}
		}
		for i, label := range labels {
			for _, row := range rows {
				if row.Variant == label {
					row.Generation = report.I(g)
					series[i].Rows[g] = row
				}
			}
			for _, slice := range found {
				if slice.Variant == label {
					series[i].Slices[g] = append(series[i].Slices[g], slice)
				}
			}
		}
	}
	return series, nil
}

func (s *Study) generation(ctx context.Context, labels []string, of func(string) int) ([]*report.Row, []report.Slice, error) {
	s.made++
	var variants []Variant
	for i, label := range labels {
		variants = append(variants, Variant{Cell: of(label), Label: label, RunID: fmt.Sprintf("%s-%06d-%d", s.ID, s.made, i)})
	}
	rows, found, err := s.Runner.Measure(ctx, "study", s.made, variants, s.Time)
	var ids []string
	for _, v := range variants {
		ids = append(ids, v.RunID)
	}
	return rows, found, errors.Join(err, s.Runner.Keeper.Forget(ids))
}

// Injected is what experiments with a known cost in one variant show of a metric.
type Injected struct {
	Variant     string
	Metric      string
	Expected    float64 // ratio to the baseline
	Experiments int
	Found       int     // whose interval excludes a ratio of 1
	Verdicts    int     // with a verdict other than can't tell
	Ratio       float64 // median of the estimates
	Error       float64 // median of their distances from what is expected, as a ratio less 1
	HalfWidth   float64 // median half-width of the intervals
}

// Known is a variant whose cost is known.
type Known struct {
	Label    string
	Cell     int
	Metric   string
	Expected func(baseline *report.Row) float64 // ratio to a row of the baseline
}

// Inject measures so many experiments in which variants with a known cost are compared with a baseline, which is measured twice.
func (s *Study) Inject(ctx context.Context, baseline int, known []Known, experiments int) ([]Injected, error) {
	labels := []string{"baseline", "baseline again"}
	cells := map[string]int{"baseline": baseline, "baseline again": baseline}
	for _, k := range known {
		labels = append(labels, k.Label)
		cells[k.Label] = k.Cell
	}
	var all [][]report.Comparison
	expected := make([][]float64, len(known))
	for len(all) < experiments && ctx.Err() == nil {
		series, err := s.experiment(ctx, labels, func(label string) int { return cells[label] })
		if err != nil {
			return s.injected(known, all, expected), err
		}
		var metrics []string
		for _, m := range report.Metrics {
			metrics = append(metrics, m.Name)
		}
		found, err := report.Compare([]report.Pairs{{Primary: metrics, Baseline: series[0], Again: series[1], Variants: series[2:]}}, report.Options{})
		if err != nil {
			return s.injected(known, all, expected), err
		}
		all = append(all, found)
		for i, k := range known {
			for _, row := range series[0].Rows {
				expected[i] = append(expected[i], k.Expected(row))
			}
		}
		s.Show(len(all), experiments)
	}
	return s.injected(known, all, expected), nil
}

func (s *Study) injected(known []Known, all [][]report.Comparison, expected [][]float64) (out []Injected) {
	if len(all) == 0 {
		return nil
	}
	for i, k := range known {
		slices.Sort(expected[i])
		x := Injected{Variant: k.Label, Metric: k.Metric, Expected: stats.Median(expected[i])}
		var ratios, errs, widths []float64
		for _, c := range pick(all, k.Metric, k.Label) {
			if c.Pairs == 0 {
				continue
			}
			x.Experiments++
			if c.Low > 1 || c.High < 1 {
				x.Found++
			}
			if c.Verdict != "" && c.Verdict != string(stats.CantTell) {
				x.Verdicts++
			}
			ratios, errs, widths = append(ratios, c.Ratio), append(errs, math.Abs(c.Ratio/x.Expected-1)), append(widths, math.Sqrt(c.High/c.Low)-1)
		}
		if x.Experiments == 0 {
			continue
		}
		for _, v := range [][]float64{ratios, errs, widths} {
			slices.Sort(v)
		}
		x.Ratio, x.Error, x.HalfWidth = stats.Median(ratios), stats.Median(errs), stats.Median(widths)
		out = append(out, x)
	}
	return out
}

// Compete burns CPU time on one thread, on and off for 20 to 300 ms at a time, until the returned function is called.
func Compete(seed uint64) (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		rng := rand.New(rand.NewPCG(seed, 0))
		for burn := true; ; burn = !burn {
			until := time.Now().Add(time.Duration(20+rng.IntN(280)) * time.Millisecond)
			for time.Now().Before(until) {
				select {
				case <-done:
					return
				default:
				}
				if !burn {
					time.Sleep(5 * time.Millisecond)
				}
			}
		}
	})
	return func() { close(done); ended.Wait() }
}
