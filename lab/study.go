package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/kvwire/kvwire/report"
)

// A Study tests the instrument by many small trials whose true ratios are known beforehand. They are measured with real processes and
// slices, and evaluated like experiments. A Study belongs to one goroutine.
type Study struct {
	Runner      *Runner       // its Exec, Keeper, Watcher, Slice and Seed are used; nothing is kept
	Generations int           // of each trial
	Time        time.Duration // of a generation, about; the least number of rounds may take longer
	ID          string        // prefix of the run IDs
	Show        func(generations int)

	made int // number of generations begun
}

// PairsTogether is how many trials of two processes share a generation: each trial has two processes of its own.
// Four processes have a balanced set of orders in as many rounds as a generation has at least (roundsMin).
const PairsTogether = 2

// TrialResult is the result of one trial of a study, for one variant and metric.
type TrialResult struct {
	Number            int     // of the trial, from 1
	Expected          float64 // the ratio to the baseline that is known beforehand; NaN: not known
	report.Comparison         // AA compares the baseline's second process with the first, if there was one
}

// Known is a variant whose cost is known, by one metric. If it is known by several metrics, there is a Known for each, with the same label and cell.
type Known struct {
	Label    string
	Cell     int
	Metric   string
	Expected func(baseline *report.Row) float64 // the expected ratio, from the baseline's row of a generation; NaN: the row lacks a value
}

// AA measures trials in which two processes of one cell are compared. It returns the results of complete trials, also with
// an error. The end of ctx is no error.
func (s *Study) AA(ctx context.Context, cell, experiments int) (trials []TrialResult, err error) {
	for made := 0; made < experiments && ctx.Err() == nil; {
		pairs := min(PairsTogether, experiments-made)
		var variants []Variant
		for i := range pairs {
			variants = append(variants, Variant{Cell: cell, Label: fmt.Sprintf("a%d", i+1)}, Variant{Cell: cell, Label: fmt.Sprintf("b%d", i+1)})
		}
		series, err := s.trial(ctx, variants)
		if err != nil || series == nil {
			return trials, err
		}
		for i := range pairs {
			found, err := report.Compare([]report.Pairs{{Baseline: series[2*i], Variants: series[2*i+1 : 2*i+2]}}, report.Options{})
			if err != nil {
				return trials, err
			}
			made++
			for _, c := range found {
				trials = append(trials, TrialResult{Number: made, Expected: 1, Comparison: c})
			}
		}
	}
	return trials, nil
}

// Inject measures trials in which variants with a known cost are compared with a baseline, which is measured twice. There are verdicts
// on the metrics in known, corrected for all claims of a trial together. It returns the results of complete trials, also with an error.
// The end of ctx is no error.
func (s *Study) Inject(ctx context.Context, baseline int, known []Known, experiments int) (trials []TrialResult, err error) {
	variants := []Variant{{Cell: baseline, Label: "baseline"}, {Cell: baseline, Label: "baseline again", Again: true}}
	var primary []string
	for _, k := range known {
		if !slices.ContainsFunc(variants, func(v Variant) bool { return v.Label == k.Label }) {
			variants = append(variants, Variant{Cell: k.Cell, Label: k.Label})
		}
		if !slices.Contains(primary, k.Metric) {
			primary = append(primary, k.Metric)
		}
	}
	for made := 0; made < experiments && ctx.Err() == nil; {
		series, err := s.trial(ctx, variants)
		if err != nil || series == nil {
			return trials, err
		}
		found, err := report.Compare([]report.Pairs{{Primary: primary, Baseline: series[0], Again: series[1], Variants: series[2:]}}, report.Options{})
		if err != nil {
			return trials, err
		}
		made++
		for _, c := range found {
			trials = append(trials, TrialResult{Number: made, Expected: expected(known, series[0], c.Variant, c.Metric.Name), Comparison: c})
		}
	}
	return trials, nil
}

// expected is the median of a variant's expected ratios over the generations of a trial.
func expected(known []Known, baseline report.Series, label, metric string) float64 {
	i := slices.IndexFunc(known, func(k Known) bool { return k.Label == label && k.Metric == metric })
	if i < 0 {
		return math.NaN()
	}
	var all []float64
	for _, row := range baseline.Rows {
		if v := known[i].Expected(row); !math.IsNaN(v) {
			all = append(all, v)
		}
	}
	return median(all)
}

// Alone measures the generations of one cell, without a comparison, and returns a row for each. The end of ctx is no error:
// then there are no rows.
func (s *Study) Alone(ctx context.Context, cell int) (rows []*report.Row, err error) {
	series, err := s.trial(ctx, []Variant{{Cell: cell, Label: "alone"}})
	if err != nil || series == nil {
		return nil, err
	}
	for _, row := range series[0].Rows {
		rows = append(rows, row)
	}
	return rows, nil
}

// trial measures the generations of one trial. It returns a series for each variant, in their order, or nil if ctx ended before the last generation was
// complete.
func (s *Study) trial(ctx context.Context, variants []Variant) ([]report.Series, error) {
	series := make([]report.Series, len(variants))
	for i, v := range variants {
		series[i] = report.Series{Label: v.Label, Rows: map[int]*report.Row{}, Slices: map[int][]report.Slice{}}
	}
	for g := 1; g <= s.Generations; g++ {
		rows, found, err := s.generation(ctx, variants)
		if ctx.Err() != nil {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for i, v := range variants {
			for _, row := range rows {
				if row.Variant == v.Label {
					row.Generation = report.I(g)
					series[i].Rows[g] = row
				}
			}
			for _, slice := range found {
				if slice.Variant == v.Label {
					slice.Generation = report.I(g)
					series[i].Slices[g] = append(series[i].Slices[g], slice)
				}
			}
		}
		if s.Show != nil {
			s.Show(s.made)
		}
	}
	return series, nil
}

// generation measures one generation of variants.
func (s *Study) generation(ctx context.Context, variants []Variant) (rows []*report.Row, found []report.Slice, err error) {
	err = s.measure(ctx, len(variants), func(ids []string) (err error) {
		named := slices.Clone(variants)
		for i := range named {
			named[i].RunID = ids[i]
		}
		rows, found, err = s.Runner.Measure(ctx, "study", s.made, named, s.Time)
		return err
	})
	return rows, found, err
}

// measure measures a generation of some processes with do, and once more if that fails. Variants that cannot run here are not tried again. Each try has run IDs
// of its own; what the processes record under them is removed.
func (s *Study) measure(ctx context.Context, processes int, do func(ids []string) error) error {
	for try := 1; ; try++ {
		s.made++
		var ids []string
		for i := range processes {
			ids = append(ids, fmt.Sprintf("%s-%06d-%d", s.ID, s.made, i+1))
		}
		err := do(ids)
		if ferr := s.Runner.Keeper.Forget(ids); ferr != nil {
			return errors.Join(err, ferr)
		}
		var fatal *Fatal
		var nothere *NotHere
		if err == nil || try == 2 || ctx.Err() != nil || errors.As(err, &fatal) || errors.As(err, &nothere) {
			return err
		}
		s.Runner.Watcher.Noted(Position{Question: -1, Generation: s.made}, "a generation failed and is measured again: "+oneLine(err))
	}
}
