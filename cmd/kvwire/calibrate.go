package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/kvwire/kvwire/bench/units"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
)

const calibrateHelp = `Usage: kvwire calibrate [flags]

Examples:
  kvwire calibrate
  kvwire calibrate --json

Measures the unit costs of a request's parts: a system call, a message through a socket, a wake-up, a hop between threads, a copy, a call
into C, the load generator's own work. kvwire run does so before each of the first 3 generations. It multiplies the median of each unit cost
by the counts of each run. The products, and the rest that they do not explain, are in bill.csv and in the bill of materials of report.html.`

func calibrateCommand(ctx context.Context, args []string) error {
	f := newFactors("calibrate", calibrateHelp)
	f.set.BoolVar(&f.json, "json", false, "print the units as JSON")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	loop.SetGOMAXPROCS(2)
	all, err := units.Measure(rdma.CallC)
	if err != nil {
		return err
	}
	own, err := program().OwnUnits(ctx)
	if err != nil {
		return err
	}
	all = append(all, own...)
	if f.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", " ")
		return e.Encode(all)
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, u := range all {
		fmt.Fprintf(t, "%s\t%.0f ns\t%s\n", u.Name, u.Ns, u.What)
	}
	return t.Flush()
}
