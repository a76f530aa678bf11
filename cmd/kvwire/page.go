package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/report"
)

const reportHelp = `Examples:
  kvwire report results/latest
  kvwire report docs/results/…

Writes compare.csv, report.html with its charts, bench.txt, hist.csv.gz, datapackage.json and MANIFEST.sha256 anew from what a run
left in a folder: runs.csv, timeseries.csv, hdr/, experiment.yaml, inputs/, design.json and env.json. What is missing is named, and the rest
is drawn; of a folder of kvwire bench --output-dir, too.`

func reportCommand(_ context.Context, args []string) error {
	f := newFactors("report", reportHelp)
	var dir string
	if err := f.parse(args, func(rest []string) error {
		if len(rest) != 1 {
			return usagef("report takes one folder that kvwire run has made")
		}
		dir = rest[0]
		return nil
	}); err != nil {
		return err
	}
	r, draw, err := openReport(dir)
	if err == nil {
		err = draw()
	}
	if err != nil {
		return err
	}
	if missing := r.absent(); missing != "" {
		fmt.Fprintf(os.Stderr, "kvwire: %s has no %s: the report leaves it out\n", dir, missing)
	}
	fmt.Fprintln(stdout, filepath.Join(dir, "report.html"))
	return nil
}

// openReport reads what there is in a folder, and says how it is drawn: as an experiment, or as rows alone.
func openReport(dir string) (r *runner, draw func() error, err error) {
	for _, name := range []string{planFile, experimentCopy} {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return openRows(dir)
		}
	}
	if r, err = openResults(dir); err != nil {
		return nil, nil, err
	}
	return r, func() error {
		found, err := r.findings()
		if err == nil {
			err = r.page(&found)
		}
		return err
	}, nil
}

// factorColumns are the columns by which rows without an experiment are told apart.
var factorColumns = []string{"transport", "client_transport", "rdma_verb", "device", "wait", "placement", "server_threads", "ring", "tcp_engine", "tcp_client_engine", "tls", "backend", "disk_engine",
	"disk_batch", "durability", "update", "cache_bytes", "workload", "trace", "trace_speed", "mix", "key_dist", "theta", "scan_items", "key_bytes", "value_bytes", "value_dist", "value_min_bytes", "records",
	"conns", "depth", "client_threads", "load_hosts", "loop", "arrival", "target_per_s", "accel", "uring_receive", "uring_large", "sqpoll"}

// openRows is for a folder of kvwire bench --output-dir, or what is left of an experiment's: runs.csv alone says what was run.
func openRows(dir string) (r *runner, draw func() error, err error) {
	rows, err := readRows(filepath.Join(dir, "runs.csv"))
	if err != nil {
		return nil, nil, err
	}
	if len(rows) == 0 {
		return nil, nil, usagef("%s has no runs.csv with rows (name a folder that kvwire run has made, or kvwire bench --output-dir)", dir)
	}
	r = &runner{dir: dir, x: &experiments.Experiment{Name: cmp.Or(rows[0].ExpID, "bench")}, rows: map[string]report.Row{}}
	q, blocks, err := r.question(rows)
	if err != nil {
		return nil, nil, err
	}
	return r, func() error {
		env, err := r.env()
		if err != nil {
			return err
		}
		p := &report.Page{Name: r.x.Name, Description: "Rows without an experiment: each line combines the runs with the same factors.", ID: filepath.Base(filepath.Clean(dir)),
			Blocks: blocks, Env: env, Questions: []report.PageQuestion{q}, Warnings: r.warnings()}
		return errors.Join(report.WritePage(dir, p), report.WriteHistograms(dir, rows), report.WritePackage(dir, r.x.Name), report.WriteManifest(dir))
	}, nil
}

// question puts rows that agree in all factors together, and labels them by the factors that differ. blocks is how many there are of
// the most frequent ones.
func (r *runner) question(rows []report.Row) (q report.PageQuestion, blocks int, err error) {
	value := func(i int, column string) string { v, _ := rows[i].Value(column); return v }
	differ := slices.DeleteFunc(slices.Clone(factorColumns), func(column string) bool {
		return !slices.ContainsFunc(rows, func(row report.Row) bool { v, _ := row.Value(column); return v != value(0, column) })
	})
	var labels []string
	of := map[string][]report.Row{}
	for i := range rows {
		if phase := rows[i].Phase; phase == "breakdown" || phase == "aa" {
			continue
		}
		var say []string
		for _, column := range differ {
			if v := value(i, column); v != "" {
				say = append(say, column+"="+v)
			}
		}
		label := cmp.Or(strings.Join(say, " "), value(i, "transport"))
		if of[label] == nil {
			labels = append(labels, label)
		}
		of[label] = append(of[label], rows[i])
	}
	for _, label := range labels {
		blocks = max(blocks, len(of[label]))
		row, lat, err := report.Together(of[label], r.histogram)
		if err != nil {
			return q, 0, err
		}
		q.Variants = append(q.Variants, report.PageVariant{Label: label, Row: row, Lat: lat})
	}
	return q, blocks, nil
}

// openResults reads what a run left in a folder.
func openResults(dir string) (*runner, error) {
	if _, err := os.Stat(filepath.Join(dir, planFile)); err != nil {
		return nil, usagef("%v (name a folder that kvwire run has made)", err)
	}
	x, err := readCopy(dir)
	if err != nil {
		return nil, err
	}
	r := &runner{x: x}
	if err := r.load(dir); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return r, nil
}

// absent lists what a folder of results usually has, and this one has not; "" for nothing.
func (r *runner) absent() string {
	var all []string
	for _, name := range []string{experimentCopy, planFile, "env.json", "timeseries.csv", report.UnitsFile} {
		if _, err := os.Stat(filepath.Join(r.dir, name)); errors.Is(err, fs.ErrNotExist) {
			all = append(all, name)
		}
	}
	if r.lost > 0 {
		all = append(all, fmt.Sprintf("latencies in hdr/ of %d runs", r.lost))
	}
	return strings.Join(all, ", ")
}

// env is env.json; empty where there is none.
func (r *runner) env() (e report.Env, err error) {
	name := filepath.Join(r.dir, "env.json")
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err == nil {
		if err = json.Unmarshal(b, &e); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}
	return e, err
}

// findings are what a folder's runs come to.
type findings struct {
	compared []report.Comparison
	steps    []report.Step
	answers  []answer
}

// findings writes compare.csv and steps.csv, where there is something for them. What was found until an error comes with it.
func (r *runner) findings() (f findings, err error) {
	var cerr, serr, aerr error
	f.compared, cerr = r.compare()
	f.steps, serr = r.steps()
	f.answers, aerr = r.answers()
	return f, errors.Join(cerr, serr, aerr)
}

// write makes a file of the folder anew.
func (r *runner) write(name string, write func(w io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	return report.WriteFile(filepath.Join(r.dir, name), b.Bytes())
}

// page writes report.html and its charts with the bills in it (bill.csv), and what other programs read: bench.txt, hist.csv.gz,
// datapackage.json, MANIFEST.sha256.
func (r *runner) page(f *findings) error {
	p := &report.Page{Name: r.x.Name, Description: r.x.Description, ID: r.plan.ID, Blocks: r.plan.Blocks, Comparisons: f.compared, Steps: f.steps,
		Command: r.command(), Curves: r.curves(f.answers)}
	var err, serr, uerr error
	p.Env, err = r.env()
	p.Stages, serr = r.stages()
	p.Units, uerr = report.ReadUnits(r.dir)
	if err := errors.Join(err, serr, uerr); err != nil {
		return err
	}
	for _, a := range f.answers {
		q := report.PageQuestion{Title: r.asked(a.Flags)}
		for i, row := range a.rows {
			_, v := r.x.Split(r.x.Cells[a.cell[i]])
			q.Variants = append(q.Variants, report.PageVariant{Label: named(r.x, v), Row: row, Lat: a.lats[i]})
		}
		p.Questions = append(p.Questions, q)
	}
	p.Warnings = r.warnings()
	return errors.Join(report.WritePage(r.dir, p), r.bills(p), r.benchText(), report.WriteHistograms(r.dir, r.inOrder()), report.WritePackage(r.dir, r.x.Name),
		report.WriteManifest(r.dir))
}

// command is what runs the same again.
func (r *runner) command() string {
	s := fmt.Sprintf("kvwire run %s --blocks %d", r.x.Name, r.plan.Blocks)
	if r.plan.Primary {
		s += " --primary"
	}
	if r.plan.Retry > 0 {
		s += fmt.Sprintf(" --retry %d", r.plan.Retry)
	}
	return s
}

// bills writes bill.csv, where there are units.
func (r *runner) bills(p *report.Page) error {
	if len(p.Units) == 0 {
		return nil
	}
	return r.write("bill.csv", func(w io.Writer) error { return report.WriteBills(w, p.Questions, p.Units) })
}

// benchText writes bench.txt, for benchstat.
func (r *runner) benchText() error {
	cells := map[string]experiments.Cell{} // by run
	var rows []report.Row                  // the baseline first, beside which benchstat puts the others
	for i, c := range r.x.Cells {
		for _, row := range r.runsOf(i, false) {
			cells[row.RunID] = c
			rows = append(rows, row)
		}
	}
	name := func(row *report.Row) string {
		q, v := r.x.Split(cells[row.RunID])
		parts := []string{strings.NewReplacer("-", "_").Replace(r.x.Name)}
		for _, flag := range slices.Concat(v, q) {
			if r.x.Sweeps(flag.Name) {
				parts = append(parts, flag.Name+"="+strings.ReplaceAll(flag.Value, " ", "_"))
			}
		}
		return strings.ToUpper(parts[0][:1]) + strings.Join(parts, "/")[1:]
	}
	return r.write("bench.txt", func(w io.Writer) error { return report.WriteBench(w, r.x.Name, rows, name) })
}

// warnings are what a reader has to know before the figures.
func (r *runner) warnings() (say []string) {
	failed, invalid := 0, 0
	skipped := map[string]int{} // by reason
	for _, row := range r.rows {
		valid, _ := row.Valid.Get()
		switch {
		case row.SkippedReason != "":
			skipped[row.SkippedReason]++
		case !row.Ops.Known():
			failed++
		case !valid:
			invalid++
		}
	}
	if r.plan.Blocks < report.MinPairs {
		say = append(say, fmt.Sprintf("%d of each run: this shows, and proves nothing.", r.plan.Blocks))
	}
	if r.lost > 0 {
		say = append(say, fmt.Sprintf("hdr/ lacks the latencies of %d runs: percentiles of several blocks together, and their curves, are left out.", r.lost))
	}
	if missing := len(r.runs) - len(r.rows); missing > 0 {
		say = append(say, fmt.Sprintf("%d of %d runs are missing: kvwire run --resume goes on.", missing, len(r.runs)))
	}
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		say = append(say, fmt.Sprintf("%d of %d runs were skipped: %s.", skipped[why], len(r.runs), why))
	}
	for _, w := range []struct {
		n    int
		what string
	}{{failed, "failed: run.log has what they said"}, {invalid, "were disturbed (valid = false): runs.csv says by what"}} {
		if w.n > 0 {
			say = append(say, fmt.Sprintf("%d of %d runs %s.", w.n, len(r.runs), w.what))
		}
	}
	return say
}

// loadAxes are the flags that change how much is asked for, and nothing else.
var loadAxes = []string{"target-per-s", "depth", "conns"}

// curves are the cells that differ in how much is asked for alone: latency over throughput.
func (r *runner) curves(answers []answer) (all []report.PageCurve) {
	axis := ""
	for _, a := range loadAxes {
		if r.x.Sweeps(a) && a != r.x.Compare {
			axis = a
			break
		}
	}
	if axis == "" {
		return nil
	}
	at := map[string]int{}
	for _, a := range answers {
		rest := slices.DeleteFunc(slices.Clone(a.Flags), func(f experiments.Flag) bool { return f.Name == axis })
		k, known := at[rest.String()]
		if !known {
			k = len(all)
			at[rest.String()] = k
			all = append(all, report.PageCurve{Title: r.asked(rest)})
		}
		for i, row := range a.rows {
			_, v := r.x.Split(r.x.Cells[a.cell[i]])
			label := named(r.x, v)
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
