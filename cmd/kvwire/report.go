package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab/results"
)

const reportHelp = `Usage: kvwire report [flags] DIR

Examples:
  kvwire report results/latest
  kvwire report --publish docs/results/…

Rewrites compare.csv, carryover.csv, steps.csv, bill.csv, report.html with its charts, bench.txt, hist.csv.gz, datapackage.json and
MANIFEST.sha256 from the files that a run left in a folder: runs.csv, slices.csv, timeseries.csv, stages.csv, calibration.json, hdr/,
experiment.yaml, inputs/, design.json and env.json. It names missing files and those that differ from MANIFEST.sha256, which keeps their old
sums, and uses what is there. A folder of
kvwire bench --output-dir works, too.`

func reportCommand(_ context.Context, args []string) error {
	f := newFactors("report", reportHelp)
	publish := false
	f.set.BoolVar(&publish, "publish", publish, "write only report.html, picture.svg (its chart of CPU time) and datapackage.json, and no charts/: the other files stay as they are")
	var dir string
	if err := f.parse(args, func(rest []string) error {
		if len(rest) != 1 {
			return exit.Usagef("report needs one folder that kvwire run has made (kvwire report DIR)")
		}
		dir = rest[0]
		return nil
	}); err != nil {
		return err
	}
	damage, err := results.Damage(dir)
	for _, line := range damage {
		fmt.Fprintf(os.Stderr, "kvwire: %s: %s\n", dir, line)
	}
	if err != nil {
		return exit.Named(err)
	}
	r, err := results.OpenReport(dir, program().Reader(), publish)
	if err != nil {
		return exit.Named(err)
	}
	if err := r.WriteReport(); err != nil {
		return err
	}
	if lost := r.LostSlices(dir); lost != "" {
		fmt.Fprintf(os.Stderr, "kvwire: %s: %s\n", dir, lost)
	}
	if missing := r.MissingFiles(); missing != "" {
		fmt.Fprintf(os.Stderr, "kvwire: %s has no %s: the report leaves it out\n", dir, missing)
	}
	fmt.Fprintln(stdout, filepath.Join(dir, "report.html"))
	return nil
}
