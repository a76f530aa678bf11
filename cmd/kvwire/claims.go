package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/kvwire/kvwire/lab/results"
)

const claimsHelp = `Examples:
  kvwire verify-claims results/latest
  kvwire verify-claims results/aurora-ring-designs-20261121-100000 results/kvell-ycsb-20261121-120000 --json
  kvwire verify-claims results/old --experiment aurora-ring-designs     (the claims as they are now)

Says of each claim in an experiment's claims.yaml whether the figures in a folder of results agree with it: agrees, disagrees, can't
tell (the figure is too uncertain), not measured, or, of fewer than 6 blocks, no verdict. A claim is about a ratio, paired block
by block, along an axis or between two cells, or about a cell's own figure. The intervals cover 95 %, where the pairs allow it; p is
adjusted for all claims of the file (Holm).

To disagree with somebody is a finding and no failure: exit code 0. With --strict it is 6.`

func claimsCommand(_ context.Context, args []string) error {
	f := newFactors("verify-claims", claimsHelp)
	var name string
	strict := false
	f.set.StringVar(&name, "experiment", "", "take the claims of this experiment (a folder, or a name under experiments/); default: those that the run copied, else those of the experiment's name")
	f.set.BoolVar(&strict, "strict", false, "exit code 6 where a claim is disagreed with")
	f.set.BoolVar(&f.json, "json", false, "print the answers as JSON")
	var dirs []string
	if err := f.parse(args, func(rest []string) error {
		if dirs = rest; len(rest) == 0 {
			return usagef("verify-claims takes folders that kvwire run has made")
		}
		return nil
	}); err != nil {
		return err
	}
	var all []results.FolderClaims
	for _, dir := range dirs {
		r, err := results.Open(dir, resultsReader())
		if err != nil {
			return err
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
		return &exitError{exitMissed, fmt.Errorf("claims that are disagreed with: %s", strings.Join(ids, ", "))}
	}
	return nil
}
