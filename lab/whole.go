package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kvwire/kvwire/report"
)

// Each round of Whole has as much load in slices, which alternate with slices of a second process, as in one uninterrupted piece.
const (
	pieceWindow = time.Second
	pieceRounds = 10
)

// WholeTime is the time that Whole takes, about.
func WholeTime(generations int) time.Duration {
	return time.Duration(generations) * (pieceRounds*3*pieceWindow + 2*time.Second)
}

// Whole measures a process in slices, which alternate with slices of a second process of the same cell, and in pieces of a second without interruption, in
// so many generations with fresh processes. The order within a round is random. The trials are those of one experiment: the ratio of slices to pieces, by
// each metric that slices have. The end of ctx is no error: then the trials are those of the complete generations.
func (s *Study) Whole(ctx context.Context, cell, generations int) (trials []TrialResult, err error) {
	if err := s.Runner.Prepare(); err != nil {
		return nil, err
	}
	whole := report.Series{Label: "whole", Rows: map[int]*report.Row{}, Slices: map[int][]report.Slice{}}
	sliced := report.Series{Label: "slices", Rows: map[int]*report.Row{}, Slices: map[int][]report.Slice{}}
	rng := rand.New(rand.NewPCG(s.Runner.Seed, uint64(generations)))
	for n := 1; n <= generations && ctx.Err() == nil; n++ {
		var row *report.Row
		var pieces, sums []report.Slice
		err := s.measure(ctx, 2, func(ids []string) (err error) {
			row, pieces, sums, err = s.pieces(ctx, cell, ids, rng)
			return err
		})
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return nil, err
		}
		row.Generation = report.I(n)
		whole.Rows[n], sliced.Rows[n] = row, row
		whole.Slices[n], sliced.Slices[n] = pieces, sums
		if s.Show != nil {
			s.Show(n)
		}
	}
	found, err := report.Compare([]report.Pairs{{Baseline: whole, Variants: []report.Series{sliced}}}, report.Options{})
	for _, c := range found {
		if report.OfSlices(c.Metric) {
			trials = append(trials, TrialResult{Number: 1, Expected: 1, Comparison: c})
		}
	}
	return trials, err
}

// pieces measures one generation of Whole, with two processes. It returns the row of the first and, for each round, the piece and the sum of the slices.
func (s *Study) pieces(ctx context.Context, cell int, ids []string, rng *rand.Rand) (row *report.Row, pieces, sums []report.Slice, err error) {
	var live [2]Process
	defer func() {
		for _, p := range live {
			if p != nil {
				p.Kill()
			}
		}
	}()
	for i := range live {
		v := Variant{Cell: cell, Generation: s.made, Place: i, RunID: ids[i], Label: fmt.Sprintf("s%d", i+1)}
		if live[i], err = s.Runner.Exec.Start(ctx, v); err != nil {
			return nil, nil, nil, err
		}
	}
	settle := s.Runner.settle()
	window := s.Runner.Slice - settle
	inPiece := func() error {
		p, err := live[0].Slice(ctx, settle, pieceWindow)
		pieces = append(pieces, p)
		return err
	}
	inSlices := func() error {
		var all []report.Slice
		for range max(1, int(pieceWindow/window)) {
			for i, p := range live {
				one, err := p.Slice(ctx, settle, window)
				if err != nil {
					return err
				}
				if i == 0 {
					all = append(all, one)
				}
			}
		}
		sums = append(sums, sumOf(all))
		return nil
	}
	for round := range pieceRounds {
		order := []func() error{inPiece, inSlices}
		rng.Shuffle(2, func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, measure := range order {
			if err := measure(); err != nil {
				return nil, nil, nil, err
			}
		}
		pieces[round].Round, sums[round].Round = report.I(round+1), report.I(round+1)
	}
	row, err = live[0].Finish(ctx)
	return row, pieces, sums, err
}

// sumOf combines slices, by the metrics that slices have: the mean rate, the cost over all operations, and the median of the medians.
func sumOf(all []report.Slice) (s report.Slice) {
	var rate, cpu, ops float64
	var p50 []float64
	for i := range all {
		r, _ := all[i].OpsPerS.Get()
		c, _ := all[i].CPUNsPerOp.Get()
		n, _ := all[i].SliceOps.Get()
		rate, cpu, ops = rate+r, cpu+c*float64(n), ops+float64(n)
		if p, ok := all[i].LatP50Ns.Get(); ok {
			p50 = append(p50, float64(p))
		}
	}
	if len(all) > 0 {
		s.OpsPerS = report.F(rate / float64(len(all)))
	}
	if ops > 0 {
		s.CPUNsPerOp = report.F(cpu / ops)
	}
	if len(p50) > 0 {
		s.LatP50Ns = report.I(int64(median(p50)))
	}
	return s
}
