package results

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/stats"
	"github.com/kvwire/kvwire/report"
)

// WriteReport rewrites all results of the folder's runs: compare.csv, carryover.csv and steps.csv, the page, and the files of WritePage.
func (r *Folder) WriteReport() error {
	found, err := r.Findings()
	if err != nil {
		return err
	}
	return r.WritePage(&found)
}

// WritePage writes report.html with its charts, bill.csv, and the files for other programs: bench.txt, hist.csv.gz,
// datapackage.json, MANIFEST.sha256.
func (r *Folder) WritePage(f *Findings) error {
	p := r.page(f)
	var err, serr, uerr error
	p.Env, err = r.Env()
	p.Stages, serr = r.stages()
	p.Units, uerr = report.ReadUnits(r.Dir)
	if err := errors.Join(err, serr, uerr); err != nil {
		return err
	}
	p.Warnings, p.NoCharts = r.warnings(), r.publish
	return errors.Join(report.WritePage(r.Dir, p), r.bills(p), r.benchText(), r.finish(r.RowsInOrder(), r.Experiment.Name))
}

// finish writes the files of a report that describe the others: hist.csv.gz, datapackage.json and MANIFEST.sha256.
func (r *files) finish(rows []report.Row, name string) error {
	if r.publish {
		return report.WritePackage(r.Dir, name)
	}
	return errors.Join(report.WriteHistograms(r.Dir, rows), report.WritePackage(r.Dir, name), report.WriteManifest(r.Dir, !r.measured))
}

// page is the report's content that follows from the findings alone.
func (r *Folder) page(f *Findings) *report.Page {
	p := &report.Page{Name: r.Experiment.Name, Description: r.Experiment.Description, ID: r.Plan.ID, Generations: r.Plan.Generations, Comparisons: f.Comparisons, Carry: f.Carry, Steps: f.Steps,
		Command: r.command(f), Factor: r.Experiment.Compare, Matters: cmp.Or(r.Experiment.Matters, stats.Matters), Curves: r.curves(f.Questions)}
	for _, a := range f.Questions {
		q := report.PageQuestion{Title: r.questionName(a.Flags)}
		for i, row := range a.Rows {
			q.Variants = append(q.Variants, report.PageVariant{Label: r.variantName(a.RowCells[i]), Row: row, Lat: a.Histograms[i]})
		}
		p.Questions = append(p.Questions, q)
	}
	return p
}

// command returns the command line that runs the same experiment again. If the rows were measured in a guest, it is for the guest's host and has --vm.
func (r *Folder) command(f *Findings) string {
	guest := ""
	if slices.ContainsFunc(f.Questions, func(q QuestionResult) bool {
		return slices.ContainsFunc(q.Rows, func(row report.Row) bool { return row.Accel != "" })
	}) {
		guest = "--vm "
		if r.Plan.Launch.Addr != "" {
			guest = "--vm=two "
		}
	}
	s := fmt.Sprintf("kvwire run %s%s --generations %d --slice %v", guest, r.Experiment.Name, r.Plan.Generations, r.Plan.Slice)
	if r.Plan.Time > 0 {
		s += fmt.Sprintf(" --time %v", r.Plan.Time)
	}
	if r.Plan.Until > 0 {
		s += fmt.Sprintf(" --until %g%%", 100*r.Plan.Until)
	}
	if r.Plan.Primary {
		s += " --primary"
	}
	if r.Plan.Retry > 0 {
		s += fmt.Sprintf(" --retry %d", r.Plan.Retry)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Plan.Device)) {
		s += fmt.Sprintf(" --%s %s", name, r.Plan.Device[name])
	}
	return s
}

// bills writes bill.csv, if there are unit costs.
func (r *Folder) bills(p *report.Page) error {
	if len(p.Units) == 0 {
		return nil
	}
	return r.write("bill.csv", func(w io.Writer) error { return report.WriteBills(w, p.Questions, p.Units) })
}

// benchText writes bench.txt, in the format of benchstat.
func (r *Folder) benchText() error {
	cells := map[string]experiment.Cell{} // by run
	var rows []report.Row                 // the baseline first: benchstat compares the others with it
	for i, c := range r.Experiment.Cells {
		for _, row := range r.CellRows(i, false) {
			cells[row.RunID] = c
			rows = append(rows, row)
		}
	}
	name := func(row *report.Row) string {
		q, v := r.Experiment.Split(cells[row.RunID])
		parts := []string{strings.NewReplacer("-", "_").Replace(r.Experiment.Name)}
		for _, flag := range slices.Concat(v, q) {
			if r.Experiment.Sweeps(flag.Name) {
				parts = append(parts, flag.Name+"="+strings.ReplaceAll(flag.Value, " ", "_"))
			}
		}
		if row.Modelled() {
			parts = append(parts, "device=model")
		}
		return strings.ToUpper(parts[0][:1]) + strings.Join(parts, "/")[1:]
	}
	return r.write("bench.txt", func(w io.Writer) error { return report.WriteBench(w, r.Experiment.Name, rows, name) })
}

// warnings are the lines above the figures in the report: missing slices, and missing, skipped, failed and invalid runs.
func (r *Folder) warnings() (lines []string) {
	failed, invalid := 0, 0
	measured := map[report.Int]bool{} // generations
	skipped := map[string]int{}       // by reason
	for _, row := range r.Rows {
		valid, _ := row.Valid.Get()
		if row.Ops.Known() {
			measured[row.Generation] = true
		}
		switch {
		case row.SkippedReason != "":
			skipped[row.SkippedReason]++
		case !row.Ops.Known():
			failed++
		case !valid:
			invalid++
		}
	}
	lines = r.dataWarnings(len(measured))
	if lost := r.LostSlices("DIR"); lost != "" {
		lines = append(lines, lost+".")
	}
	ended, last := r.ended()
	if ended > 0 {
		of := 0
		for _, q := range r.Experiment.Questions() {
			if len(q.Cells) > 1 {
				of++
			}
		}
		lines = append(lines, fmt.Sprintf("%d of %d questions ended before generation %d, as planned: the half-widths of their intervals are at most %g %% (--until).", ended, of, r.Plan.Generations, 100*r.Plan.Until))
	}
	if missing := len(r.missingRuns(last)); missing > 0 {
		lines = append(lines, fmt.Sprintf("%d of %d runs are missing: kvwire run --resume measures them.", missing, len(r.Runs)))
	}
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		lines = append(lines, fmt.Sprintf("%d of %d runs were skipped: %s.", skipped[why], len(r.Runs), why))
	}
	for _, w := range []struct {
		n    int
		what string
	}{{failed, "failed: see run.log"}, {invalid, "are invalid: see invalid_reason in runs.csv"}} {
		if w.n > 0 {
			lines = append(lines, fmt.Sprintf("%d of %d runs %s.", w.n, len(r.Runs), w.what))
		}
	}
	return lines
}

// loadAxes are the flags that change only the amount of load.
var loadAxes = []string{"target-per-s", "depth", "conns"}

// curves are charts of latency over throughput, for cells that differ only in the amount of load.
func (r *Folder) curves(questions []QuestionResult) (all []report.PageCurve) {
	axis := ""
	for _, a := range loadAxes {
		if r.Experiment.Sweeps(a) && a != r.Experiment.Compare {
			axis = a
			break
		}
	}
	if axis == "" {
		return nil
	}
	at := map[string]int{}
	for _, a := range questions {
		rest := slices.DeleteFunc(slices.Clone(a.Flags), func(f experiment.Flag) bool { return f.Name == axis })
		k, known := at[rest.String()]
		if !known {
			k = len(all)
			at[rest.String()] = k
			all = append(all, report.PageCurve{Title: r.questionName(rest)})
		}
		for i, row := range a.Rows {
			label := r.variantName(a.RowCells[i])
			l := slices.IndexFunc(all[k].Lines, func(l report.PageLine) bool { return l.Label == label })
			if l < 0 {
				l = len(all[k].Lines)
				all[k].Lines = append(all[k].Lines, report.PageLine{Label: label})
			}
			all[k].Lines[l].Rows = append(all[k].Lines[l].Rows, row)
		}
	}
	return all
}
