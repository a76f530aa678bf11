// Package lab owns the execution of an experiment: the order of generations, rounds and slices, the Runner that
// measures them through the interface Exec, the trials that test the instrument, the plan (design.json), the data
// sets, the copies of the experiment's files, and the names of runs, cells, variants and questions. lab/experiment
// reads the experiment's files, lab/results writes and reads the folder of an execution, lab/instrument is kvwire
// instrument, and lab/stats computes the statistics. It may import lab/experiment, lab/stats, report and bench with
// its parts; never cmd, no transport, no store, and not lab/results.
package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// Files of an experiment's folder.
const (
	PlanFile       = "design.json"     // the plan
	ExperimentCopy = "experiment.yaml" // the experiment's text; the claims of others are in experiment.ClaimsFile
	RowsFile       = "runs.csv"        // a row for each run
)

// Plan is the content of design.json: what --resume needs to continue in a folder of results.
type Plan struct {
	ID     string `json:"id"`
	GitRev string `json:"git_rev"`
	Settings
	Blocks int `json:"blocks,omitempty"` // the generations of version 1, which measured in whole runs

	Experiment string `json:"experiment,omitempty"` // its name; a folder that was renamed does not have it
	Inputs     Copies `json:"inputs,omitempty"`     // copies of the input files that the experiment names

	Launch  Launchers `json:"launch,omitzero"`   // the hosts of the processes, the same for all runs
	Primary bool      `json:"primary,omitempty"` // only the questions with primary claims
	Device  Device    `json:"device,omitempty"`  // flags that replace those of the experiment's cells over rdma

	numbers map[int]int // numbers of the cells in run IDs; nil: they count from 1
}

// Launchers are commands that stand in front of a run's processes, so that these run on other hosts: ssh lab1, srun -w n1, ip
// netns exec n1. The zero value: all processes run here.
type Launchers struct {
	Server  string   `json:"server,omitempty"`  // in front of the server
	Clients []string `json:"clients,omitempty"` // each in front of one load process
	Addr    string   `json:"addr,omitempty"`    // the address of the server's host, to listen on and to connect to
	Path    string   `json:"path,omitempty"`    // path of kvwire on those hosts; "": as here
}

// ReadPlan reads the plan of a folder.
func ReadPlan(dir string) (p Plan, err error) {
	name := filepath.Join(dir, PlanFile)
	b, err := os.ReadFile(name)
	if err != nil {
		return p, NoPlan(dir, err)
	}
	err = json.Unmarshal(b, &p)
	if p.Generations == 0 {
		p.Generations = p.Blocks
	}
	if err == nil && (p.Generations < 1 || p.Generations > experiment.MaxGenerations || p.Slice < 0) {
		err = fmt.Errorf("%d generations, slices of %v", p.Generations, p.Slice)
	}
	if err != nil {
		return p, fmt.Errorf("%s is damaged (%v): run the experiment again", name, err)
	}
	return p, nil
}

// NoPlan is the error for a folder whose plan cannot be opened because of err.
func NoPlan(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return exit.Usagef("%s has no %s (name a folder that kvwire run has made)", dir, PlanFile)
	}
	return exit.Usagef("%w (name a folder that kvwire run has made)", err)
}

// Text is the plan as text for design.json.
func (p *Plan) Text() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", " ")
	return append(b, '\n'), err
}

// LockPlan opens the plan's file in a folder, with flags as for os.OpenFile, and locks it. No other kvwire run can use the folder until the file is closed.
func LockPlan(dir string, flags int) (*os.File, error) {
	name := filepath.Join(dir, PlanFile)
	for {
		f, err := os.OpenFile(name, flags, 0o644)
		if err != nil {
			return nil, err
		}
		if err := report.TryLock(f); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: another kvwire run uses this folder: %w", dir, err), f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if now, err := os.Stat(name); err == nil && os.SameFile(mine, now) {
			return f, nil
		}
		if err := f.Close(); err != nil { // it was replaced between the two steps: the lock is that of a file without a name
			return nil, err
		}
	}
}

// Runs are all runs of the plan, by generation. Load hosts measure no stages, so with load hosts Runs removes the experiment's stages.
func (p *Plan) Runs(x *experiment.Experiment) (runs []experiment.Run) {
	if len(p.Launch.Clients) > 0 {
		x.Stages = nil
	}
	questions := x.Questions()
	for g := 1; g <= p.Generations; g++ {
		var stages []experiment.Run
		for _, q := range questions {
			for _, c := range q.Cells {
				runs = append(runs, experiment.Run{Generation: g, Cell: c})
				if x.Stages.Concerns(x.Cells[c]) && (g <= breakdownMax || p.Blocks > 0) {
					stages = append(stages, experiment.Run{Generation: g, Cell: c, Stages: true})
				}
			}
			if len(q.Cells) > 1 && (p.Slice > 0 || p.Generations > 1) {
				runs = append(runs, experiment.Run{Generation: g, Cell: q.Cells[0], AA: true})
			}
		}
		runs = append(runs, stages...)
	}
	return runs
}

// RunID is the name of a run. It stays the same when the run is tried again. Its b is for block, the old name of a generation: folders of results have these names.
func (p *Plan) RunID(run experiment.Run) string {
	number := run.Cell + 1
	if p.numbers != nil {
		number = p.numbers[run.Cell]
	}
	id := fmt.Sprintf("%s-b%02d-c%03d", p.ID, run.Generation, number)
	switch {
	case run.AA:
		id += "-aa"
	case run.Stages:
		id += "-stages"
	}
	return id
}

// NumberQuestionCells makes RunID count only the cells that belong to questions, as version 1 did with --primary.
func (p *Plan) NumberQuestionCells(x *experiment.Experiment) {
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
