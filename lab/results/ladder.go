package results

import (
	"io"
	"strings"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// rungs are the rungs of the ladder that the experiment's cells make: from inproc over codec to each network, from null over mem to
// disk on each of them, and from spinning to sleeping.
func (r *Folder) rungs() (all []report.Rung) {
	cells := map[string]int{}
	keys := make([]rungKey, len(r.Experiment.Cells))
	for i, c := range r.Experiment.Cells {
		keys[i] = r.rungKey(c)
		cells[keys[i].String()] = i
	}
	add := func(step string, from rungKey, to int) bool {
		i, ok := cells[from.String()]
		if ok {
			k := keys[to]
			all = append(all, report.Rung{Question: k.rest, Path: k.network, Step: step, From: r.rung(i, keys[i]), To: r.rung(to, k)})
		}
		return ok
	}
	for i, k := range keys {
		if k.backend == "null" && k.network != "inproc" {
			if k.network == "codec" {
				add("codec", k.with("inproc", k.backend, k.wait), i)
			} else if !add("network", k.with("codec", k.backend, k.wait), i) {
				add("network", k.with("inproc", k.backend, k.wait), i)
			}
		}
		switch k.backend {
		case "mem":
			add("store", k.with(k.network, "null", k.wait), i)
		case "disk":
			add("disk", k.with(k.network, "mem", k.wait), i)
		}
		if k.wait == "block" {
			add("notification", k.with(k.network, k.backend, "spin"), i)
		}
	}
	return all
}

// rungKey is a cell's place in the ladder: the values of its swept flags. A cell lacks flags that do not apply to it, so only
// swept flags can be compared.
type rungKey struct{ network, backend, wait, rest string }

func (k rungKey) String() string {
	return strings.Join([]string{k.network, k.backend, k.wait, k.rest}, "\n")
}

func (k rungKey) with(network, backend, wait string) rungKey {
	return rungKey{network, backend, wait, k.rest}
}

func (r *Folder) rungKey(c experiment.Cell) (k rungKey) {
	var network, rest []string
	for _, f := range c {
		switch {
		case f.Name == "backend":
			k.backend = f.Value
		case f.Name == "wait":
			k.wait = f.Value
		case f.Name == "transport" || strings.HasPrefix(f.Name, "rdma-") && r.Experiment.Sweeps(f.Name):
			network = append(network, f.Value)
		case r.Experiment.Sweeps(f.Name):
			rest = append(rest, f.Name+"="+f.Value)
		}
	}
	k.network, k.rest = lab.WithDevice(strings.Join(network, " "), c), strings.Join(rest, " ")
	return k
}

// rung is a cell's series, with a label that distinguishes it from the others.
func (r *Folder) rung(cell int, k rungKey) report.Series {
	label := k.network
	for _, f := range []struct{ name, value string }{{"backend", k.backend}, {"wait", k.wait}} {
		if r.Experiment.Sweeps(f.name) {
			label += " " + f.value
		}
	}
	s := r.series(cell, false)
	s.Label = label
	return s
}

// steps writes steps.csv, if the cells make a ladder.
func (r *Folder) steps() ([]report.Step, error) {
	all, err := report.Steps(r.rungs())
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all, r.write("steps.csv", func(w io.Writer) error { return report.WriteSteps(w, all) })
}

// stages are the stages of the cells with stages runs, by question.
func (r *Folder) stages() (all []report.PageStages, err error) {
	lines, err := report.ReadStages(r.Dir)
	if err != nil || len(lines) == 0 {
		return nil, err
	}
	of := map[string][]report.StageLine{}
	for _, l := range lines {
		of[l.RunID] = append(of[l.RunID], l)
	}
	for _, q := range r.Experiment.Questions() {
		p := report.PageStages{Title: r.questionName(q.Flags)}
		for _, c := range q.Cells {
			var runs []report.StageLine
			for generation := range r.Plan.Generations {
				runs = append(runs, of[r.Plan.RunID(experiment.Run{Generation: generation + 1, Cell: c, Stages: true})]...)
			}
			p.Bars = append(p.Bars, report.StageBars(r.variantName(c), runs)...)
		}
		if len(p.Bars) > 0 {
			all = append(all, p)
		}
	}
	return all, nil
}
