package lab

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/report"
)

// together is how many processes take turns where slices are compared with whole runs.
const together = 3

// Whole measures a cell in slices, by turns with two more processes of the same cell, and in one whole run, in a random order: so many
// times. The trials are of one experiment: the ratio of slices to whole runs by each metric, whose rows are paired. The end of ctx is no error, and then the
// trials are of the complete pairs.
func (s *Study) Whole(ctx context.Context, cell, pairs int) (trials []Trial, err error) {
	whole := report.Series{Label: "whole", Rows: map[int]*report.Row{}}
	sliced := report.Series{Label: "slices", Rows: map[int]*report.Row{}}
	rng := rand.New(rand.NewPCG(s.Runner.Seed, uint64(pairs)))
	for n := 1; n <= pairs && ctx.Err() == nil; n++ {
		var one, other *report.Row
		run := []func() error{
			func() (err error) { one, err = s.whole(ctx, cell); return err },
			func() (err error) { other, err = s.slicesOf(ctx, cell); return err },
		}
		first := rng.IntN(2)
		for i := range run {
			if err := run[(first+i)%2](); err != nil && ctx.Err() == nil {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			break
		}
		one.Generation, other.Generation = report.I(n), report.I(n)
		whole.Rows[n], sliced.Rows[n] = one, other
		if s.Show != nil {
			s.Show(n)
		}
	}
	found, err := report.Compare([]report.Pairs{{Baseline: whole, Variants: []report.Series{sliced}}}, report.Options{})
	for _, c := range found {
		trials = append(trials, Trial{Number: 1, Expected: 1, Comparison: c})
	}
	return trials, err
}

// whole is the row of one whole run.
func (s *Study) whole(ctx context.Context, cell int) (*report.Row, error) {
	s.made++
	id := fmt.Sprintf("%s-%06d-whole", s.ID, s.made)
	row, err := s.Runner.Exec.Run(ctx, experiments.Run{Block: s.made, Cell: cell}, id)
	if err != nil {
		return nil, err
	}
	return row, s.Runner.Keeper.Forget([]string{id})
}

// slicesOf is the row of one of several processes that take turns.
func (s *Study) slicesOf(ctx context.Context, cell int) (*report.Row, error) {
	var variants []Variant
	for i := range together {
		variants = append(variants, Variant{Cell: cell, Label: fmt.Sprintf("s%d", i+1)})
	}
	rows, _, err := s.generation(ctx, variants)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}
