// Package run owns kvwire run: it reads an experiment and checks its cells, forecasts it, executes it by processes,
// here or in a guest, and prints the results. It joins lab, lab/cell, lab/results and fleet, and only cmd imports it.
package run

import (
	"io"
	"slices"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
)

// Program is what an execution needs of the program. It belongs to one goroutine.
type Program struct {
	*cell.Program
	Environment func(links ...string) report.Env // this machine, and the links of modelled RDMA devices that processes use
	Temporary   func() string                    // the folder of temporary folders
}

// ReadExperiment reads the experiment that arg names, a name, a folder or a file, and checks every cell as kvwire bench would.
func (p *Program) ReadExperiment(arg string) (*experiment.Experiment, error) { return p.read(arg, nil) }

// read is ReadExperiment, with the flags of device in place of those of the experiment.
func (p *Program) read(arg string, device lab.Device) (*experiment.Experiment, error) {
	for name, value := range device {
		if _, err := p.ExperimentFlags()[name].Parse(value); err != nil {
			return nil, exit.With(exit.Usage, err)
		}
	}
	path, err := experiment.Find(arg)
	if err != nil {
		return nil, exit.With(exit.Usage, err)
	}
	return p.readFile(path, "", device, len(device) == 0) // which may leave keys of the file without effect
}

// readFile is read for a file. name is the experiment's name if the text has none. With strict, a key that applies to none of its cells is an error; a copy in a folder of
// results may have such keys, if an older version made it.
func (p *Program) readFile(path, name string, device lab.Device, strict bool) (*experiment.Experiment, error) {
	x, err := experiment.LoadAs(path, name, p.ExperimentFlags())
	if err == nil {
		err = device.Replace(x)
	}
	if err != nil {
		return nil, exit.With(exit.Usage, err)
	}
	all := make([]experiment.Cell, len(x.Cells))
	for i, c := range x.Cells {
		all[i] = cell.Applicable(c)
	}
	if strict {
		if err := x.Unused(all, func(flag string) string { return factor.All.Find(flag).WhereSwept() }); err != nil {
			return nil, exit.With(exit.Usage, err)
		}
	}
	var cells []experiment.Cell
	seen := map[string]bool{} // cells that differ only in what does not apply to them are one cell
	for _, c := range all {
		if _, _, err := p.Cell(c); err != nil {
			return nil, exit.Usagef("%s: %v, in the cell %s", path, err, c)
		}
		if !seen[c.String()] {
			cells = append(cells, c)
		}
		seen[c.String()] = true
	}
	x.Reduce(cells)
	if err := results.CheckPrimary(path, x); err != nil {
		return nil, err
	}
	return x, results.CheckThresholds(x, factor.ParseRate)
}

// Reader returns the reader of folders of results, with this program's flags.
func (p *Program) Reader() results.Reader {
	return results.Reader{
		Flags: p.ExperimentFlags(),
		Experiment: func(path, name string, device lab.Device, copies lab.Inputs) (*experiment.Experiment, error) {
			p.Inputs = copies
			return p.readFile(path, name, device, false)
		},
		Factors: func(c experiment.Cell) (*report.Row, error) {
			f, _, err := p.Cell(c)
			if err != nil {
				return nil, err
			}
			return f.Row(), nil
		},
		Rate: factor.ParseRate,
	}
}

// NewExec returns an Exec that starts the processes of an experiment, with servers from the kvwire host at; "": none.
func (p *Program) NewExec(x *experiment.Experiment, at string) *fleet.Exec {
	return &fleet.Exec{Experiment: x, At: at, Describe: p.Describe, Log: io.Discard}
}

// planner returns a Runner that only plans.
func (p *Program) planner(x *experiment.Experiment, settings lab.Settings, at string) *lab.Runner {
	return results.New("", x, lab.Plan{Settings: settings}, p.Reader()).Runner(p.NewExec(x, at))
}

// OthersEnvironment is this machine without GOMAXPROCS, which other processes choose for themselves. links are those of the modelled RDMA devices that they use.
func (p *Program) OthersEnvironment(links ...string) report.Env {
	env := p.Environment(links...)
	env.GOMAXPROCS = 0
	return env
}

// modelledLinks are those of the modelled RDMA devices of an experiment, with all parameters.
func (p *Program) modelledLinks(x *experiment.Experiment) (all []string) {
	for _, c := range x.Cells {
		if !lab.Modelled(c) {
			continue
		}
		if f, _, err := p.Cell(c); err == nil && !slices.Contains(all, f.RDMA.Model) { // readFile has checked the cell
			all = append(all, f.RDMA.Model)
		}
	}
	return all
}
