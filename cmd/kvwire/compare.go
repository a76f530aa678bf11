package main

import (
	"context"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
)

const compareHelp = `Usage: kvwire compare [flags] BEFORE AFTER

Examples:
  kvwire compare results/quick-20261120-100000 results/quick-20261121-100000
  kvwire compare before after --metric cpu_ns_per_op

Compares the cells that two folders of results have in common: the ratio of the second folder to the first, with an exact interval. The two
folders were measured at different times, so the interval does not cover changes of the machine between them, and there is no verdict.
Invalid runs are left out. benchstat reads both folders' bench.txt as well.`

func compareCommand(_ context.Context, args []string) error {
	f := newFactors("compare", compareHelp)
	name := "ops_per_s"
	f.set.StringVar(&name, "metric", name, "what to compare: ops_per_s, lat_p50_ns, lat_p99_ns or cpu_ns_per_op")
	var dirs []string
	if err := f.parse(args, func(rest []string) error {
		if len(rest) != 2 {
			return exit.Usagef("compare needs two folders that kvwire run has made (kvwire compare DIR DIR)")
		}
		dirs = rest
		return nil
	}); err != nil {
		return err
	}
	m, err := report.FindMetric(name)
	if err != nil {
		return exit.Usagef("--metric: %v", err)
	}
	return results.PrintRatios(stdout, [2]string(dirs), m, program().Reader())
}
