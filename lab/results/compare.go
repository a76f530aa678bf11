package results

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// PrintRatios compares the cells that two folders have in common by a metric, and prints the ratio of the second to the first with its interval.
func PrintRatios(out io.Writer, dirs [2]string, m report.Metric, reader Reader) (err error) {
	var r [2]*Folder
	var env [2]report.Env
	for i, dir := range dirs {
		if r[i], err = Open(dir, reader); err != nil {
			return err
		}
		if env[i], err = r[i].Env(); err != nil {
			return err
		}
		fmt.Fprintf(out, "%c  %s: commit %s, %s, Linux %s\n", 'A'+i, r[i].Plan.ID, env[i].GitRev, env[i].CPUModel, env[i].Kernel)
	}
	if env[0].CPUModel != env[1].CPUModel || env[0].CPUs != env[1].CPUs || env[0].Kernel != env[1].Kernel {
		fmt.Fprintln(out, "   The machines or kernels differ: the ratios include this difference.")
	}
	changed := r[0].Plan.Inputs.Differ(r[1].Plan.Inputs)
	for _, name := range changed {
		fmt.Fprintf(out, "   %s is not the same file in both: its cells are left out.\n", name)
	}
	cells := map[string]int{} // of the second
	for i, c := range r[1].Experiment.Cells {
		cells[c.String()] = i
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s\tB/A\tinterval\tcovers\tp\truns\n", m.Name)
	common := 0
	for i, c := range r[0].Experiment.Cells {
		k, ok := cells[c.String()]
		if !ok || slices.ContainsFunc(c, func(f experiment.Flag) bool {
			return slices.Contains(lab.InputFlags, f.Name) && slices.Contains(changed, f.Value)
		}) {
			continue
		}
		a, b := r[0].CellRows(i, false), r[1].CellRows(k, false)
		x, err := report.Unpaired(a, b, m)
		if err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
		if x.Pairs == 0 {
			continue
		}
		common++
		q, _ := r[0].Experiment.Split(c)
		runs := fmt.Sprintf("%d and %d", len(a), len(b))
		if x.LeftOut > 0 {
			runs += fmt.Sprintf(", of them invalid and left out: %d", x.LeftOut)
		}
		fmt.Fprintf(w, "%s %s\t%.3f\t%.3f to %.3f\t%.0f %%\t%.3f\t%s\n", r[0].variantName(i), r[0].questionName(q), x.Ratio, x.Low, x.High, 100*x.Level, x.P, runs)
	}
	if common == 0 {
		return fmt.Errorf("%s and %s have no cell in common that both have measured by %s", dirs[0], dirs[1], m.Name)
	}
	return w.Flush()
}
