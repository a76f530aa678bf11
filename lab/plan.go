// Package lab owns an execution of an experiment: the order of generations, rounds and slices, the Runner that measures them through the interface
// Exec, the plan (design.json), the copies of the experiment, of its claims and of its input files, and the names of runs, cells, variants and questions.
// lab/results reads a folder back.
// It may import experiments, report and bench with its parts; never cmd, no transport, no store, and not lab/results.
package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/report"
)

// Files of an experiment's folder.
const (
	PlanFile       = "design.json"     // the plan
	ExperimentCopy = "experiment.yaml" // the experiment's text; its claims are in experiments.ClaimsFile
	RowsFile       = "runs.csv"        // a row for each run
)

// Plan is the content of design.json: what is needed to go on with a folder of results.
type Plan struct {
	ID     string `json:"id"`
	GitRev string `json:"git_rev"`
	Settings
	Blocks int `json:"blocks,omitempty"` // the generations of early versions, whose runs were whole

	Experiment string `json:"experiment,omitempty"` // its name, which the folder's is not when it is moved
	Inputs     Copies `json:"inputs,omitempty"`     // what its file names, and where it is here

	Launch  Launchers `json:"launch,omitzero"`   // where the runs' processes are, which is the same for all runs
	Primary bool      `json:"primary,omitempty"` // only the primary family

	numbers map[int]int // of cells in runs' names; nil: they are counted from 1
}

// Launchers are commands that stand in front of a run's processes, so that these run on other hosts: ssh lab1, srun -w n1, ip
// netns exec n1. The zero value: all processes run here.
type Launchers struct {
	Server  string   `json:"server,omitempty"`  // in front of the server
	Clients []string `json:"clients,omitempty"` // in front of one load process each
	Addr    string   `json:"addr,omitempty"`    // the server's host, for itself and for its clients
	Path    string   `json:"path,omitempty"`    // kvwire on those hosts; "": as here
}

// ReadPlan reads the plan of a folder.
func ReadPlan(dir string) (p Plan, err error) {
	name := filepath.Join(dir, PlanFile)
	b, err := os.ReadFile(name)
	if err != nil {
		return p, Usagef("%w (name a folder that kvwire run has made)", err)
	}
	err = json.Unmarshal(b, &p)
	if p.Generations == 0 {
		p.Generations = p.Blocks
	}
	if err != nil || p.Generations < 1 || p.Generations > experiments.MaxGenerations || p.Slice < 0 {
		return p, fmt.Errorf("%s is damaged (%v): run the experiment anew", name, err)
	}
	return p, nil
}

// Text is the plan as design.json has it.
func (p *Plan) Text() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", " ")
	return append(b, '\n'), err
}

// LockPlan opens the plan's file of a folder with the flags of os.OpenFile. Its lock keeps other processes from the folder's runs until the file is closed.
func LockPlan(dir string, flags int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, PlanFile), flags, 0o644)
	if err != nil {
		return nil, err
	}
	if err := report.TryLock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: another kvwire run uses this folder: %w", dir, err), f.Close())
	}
	return f, nil
}

// Runs are all runs of the plan, generation by generation. Load hosts measure no stages: with them the experiment's stages are removed.
func (p *Plan) Runs(x *experiments.Experiment) (runs []experiments.Run) {
	if len(p.Launch.Clients) > 0 {
		x.Stages = nil
	}
	questions := x.Questions()
	for g := 1; g <= p.Generations; g++ {
		var stages []experiments.Run
		for _, q := range questions {
			for _, c := range q.Cells {
				runs = append(runs, experiments.Run{Block: g, Cell: c})
				if x.Stages.Concerns(x.Cells[c]) && (g <= breakdownMax || p.Blocks > 0) {
					stages = append(stages, experiments.Run{Block: g, Cell: c, Stages: true})
				}
			}
			if len(q.Cells) > 1 && (p.Slice > 0 || p.Generations > 1) {
				runs = append(runs, experiments.Run{Block: g, Cell: q.Cells[0], AA: true})
			}
		}
		runs = append(runs, stages...)
	}
	return runs
}

// RunID names a run: it is the same when it is tried again.
func (p *Plan) RunID(run experiments.Run) string {
	number := run.Cell + 1
	if p.numbers != nil {
		number = p.numbers[run.Cell]
	}
	id := fmt.Sprintf("%s-b%02d-c%03d", p.ID, run.Block, number)
	switch {
	case run.AA:
		id += "-aa"
	case run.Stages:
		id += "-stages"
	}
	return id
}

// NumberQuestionCells makes RunID count only the cells that are in questions, as early versions did for the primary claims alone.
func (p *Plan) NumberQuestionCells(x *experiments.Experiment) {
	var cells []int
	for _, q := range x.Questions() {
		cells = append(cells, q.Cells...)
	}
	slices.Sort(cells)
	p.numbers = map[int]int{}
	for i, cell := range cells {
		p.numbers[cell] = i + 1
	}
}
