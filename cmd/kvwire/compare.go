package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/report"
)

const compareHelp = `Examples:
  kvwire compare results/quick-20261120-100000 results/quick-20261121-100000
  kvwire compare before after --metric cpu_ns_per_op

Compares the cells that two folders of results have in common: the ratio of the second to the first, with an exact interval. Runs of
two folders were not made side by side, so neighbours and weather are in the ratio too, and there is no verdict: to compare
two builds, run both in one experiment. benchstat reads both folders' bench.txt as well.`

func compareCommand(_ context.Context, args []string) error {
	f := newFactors("compare", compareHelp)
	name := "ops_per_s"
	f.set.StringVar(&name, "metric", name, "what to compare: ops_per_s, lat_p50_ns, lat_p99_ns or cpu_ns_per_op")
	var dirs []string
	if err := f.parse(args, func(rest []string) error {
		if len(rest) != 2 {
			return usagef("compare takes two folders that kvwire run has made")
		}
		dirs = rest
		return nil
	}); err != nil {
		return err
	}
	m, err := report.FindMetric(name)
	if err != nil {
		return usagef("--metric: %v", err)
	}
	var r [2]*runner
	var env [2]report.Env
	for i, dir := range dirs {
		if r[i], err = openResults(dir); err != nil {
			return err
		}
		if env[i], err = r[i].env(); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%c  %s: commit %s, %s, Linux %s\n", 'A'+i, r[i].plan.ID, env[i].GitRev, env[i].CPUModel, env[i].Kernel)
	}
	if env[0].CPUModel != env[1].CPUModel || env[0].CPUs != env[1].CPUs || env[0].Kernel != env[1].Kernel {
		fmt.Fprintln(stdout, "   The machines or kernels differ: the ratios include this difference.")
	}
	changed := r[0].plan.Inputs.differ(r[1].plan.Inputs)
	for _, name := range changed {
		fmt.Fprintf(stdout, "   %s is not the same file in both: its cells are left out.\n", name)
	}
	cells := map[string]int{} // of the second
	for i, c := range r[1].x.Cells {
		cells[c.String()] = i
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s\tB/A\tinterval\tcovers\tp\truns\n", m.Name)
	common := 0
	for i, c := range r[0].x.Cells {
		k, ok := cells[c.String()]
		if !ok || slices.ContainsFunc(c, func(f experiments.Flag) bool {
			return slices.Contains(inputFlags, f.Name) && slices.Contains(changed, f.Value)
		}) {
			continue
		}
		a, b := r[0].runsOf(i, false), r[1].runsOf(k, false)
		x, err := report.Unpaired(a, b, m)
		if err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
		if x.Pairs == 0 {
			continue
		}
		common++
		q, v := r[0].x.Split(c)
		runs := fmt.Sprintf("%d and %d", len(a), len(b))
		switch {
		case x.Invalid > 0:
			runs += fmt.Sprintf(", of them invalid and counted: %d", x.Invalid)
		case x.LeftOut > 0:
			runs += fmt.Sprintf(", of them invalid and left out: %d", x.LeftOut)
		}
		fmt.Fprintf(w, "%s %s\t%.3f\t%.3f to %.3f\t%.0f %%\t%.3f\t%s\n", named(r[0].x, v), r[0].asked(q), x.Ratio, x.Low, x.High, 100*x.Level, x.P, runs)
	}
	if common == 0 {
		return fmt.Errorf("%s and %s have no cell in common that both have measured by %s", dirs[0], dirs[1], m.Name)
	}
	return w.Flush()
}

// runsOf are a cell's rows, by block: those of the cell itself, or those of the baseline once more.
func (r *runner) runsOf(cell int, aa bool) (rows []report.Row) {
	for block := range r.plan.Blocks {
		if row, ok := r.rows[r.plan.runID(experiments.Run{Block: block + 1, Cell: cell, AA: aa})]; ok {
			rows = append(rows, row)
		}
	}
	return rows
}
