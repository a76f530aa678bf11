package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab/results"
)

const claimsHelp = `Usage: kvwire verify-claims [flags] DIR…

Examples:
  kvwire verify-claims results/latest
  kvwire verify-claims results/aurora-ring-designs-20261121-100000 results/kvell-ycsb-20261121-120000 --json
  kvwire verify-claims results/old --experiment aurora-ring-designs     (the claims as they are now)

Compares each claim in an experiment's claims.yaml with the figures in a folder of results. The finding is agrees, disagrees, can't tell
(the interval is too wide, or the baseline differs from itself), not measured, or too few generations (6 for one comparison, 10 for 20). A claim is about the
ratio of two cells, of the last cell of an axis to the first, or about a cell's own figure. Ratios are paired generation by generation.
The intervals cover 95 %, where there are enough generations. p is adjusted for all claims of the file (Holm).

A disagreement is a finding, not a failure: the exit code is 0. With --strict it is 6.`

func claimsCommand(_ context.Context, args []string) error {
	f := newFactors("verify-claims", claimsHelp)
	var name string
	strict := false
	f.set.StringVar(&name, "experiment", "", "take the claims of this experiment (a folder, or a name under experiments/); default: those that the run copied, else those of the experiment's name")
	f.set.BoolVar(&strict, "strict", false, "exit code 6 if the figures disagree with a claim")
	f.set.BoolVar(&f.json, "json", false, "print the findings as JSON")
	var dirs []string
	if err := f.parse(args, func(rest []string) error {
		if dirs = rest; len(rest) == 0 {
			return exit.Usagef("verify-claims needs folders that kvwire run has made (kvwire verify-claims DIR…)")
		}
		return nil
	}); err != nil {
		return err
	}
	var all []results.FolderClaims
	for _, dir := range dirs {
		r, err := results.Open(dir, program().Reader())
		if err != nil {
			return err
		}
		if lost := r.LostSlices(dir); lost != "" {
			fmt.Fprintf(os.Stderr, "kvwire: %s: %s\n", dir, lost)
		}
		v, err := r.JudgeClaims(name)
		if err != nil {
			return err
		}
		all = append(all, v)
	}
	if err := results.PrintClaims(stdout, all, f.json); err != nil {
		return err
	}
	if ids := results.Disagreements(all); strict && len(ids) > 0 {
		return exit.With(exit.Missed, fmt.Errorf("the figures disagree with these claims: %s", strings.Join(ids, ", ")))
	}
	return nil
}
