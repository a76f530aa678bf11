// Package results owns reading an experiment's folder back: its rows by run, and what follows from them: comparisons, steps, stages, thresholds, answers to
// claims, and the report with its files. It measures nothing. It may import lab, experiments, report, bench/stats and bench/units; never cmd, no
// transport, no store: the caller's Reader interprets the flags of cells.
package results

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// Reader interprets the flags of experiments. Its functions are called by the goroutine that calls this package.
type Reader struct {
	Flags experiments.Flags // the flags that an experiment and its claims may set

	// Experiment reads the experiment in a file and checks its cells, thresholds and primary claims. name is its name if the text has none. From
	// then on the input files of its cells are read from their copies.
	Experiment func(path, name string, inputs lab.Inputs) (*experiments.Experiment, error)

	// Factors returns a row with only the factors of a cell, as for a skipped run.
	Factors func(c experiments.Cell) (*report.Row, error)

	// Rate parses a rate in operations per second: 50k, 1.5M.
	Rate func(text string) (float64, error)
}

// Folder is the folder of an experiment: its plan, and the rows and slices of its runs. It belongs to one goroutine.
type Folder struct {
	files
	Experiment *experiments.Experiment
	Plan       lab.Plan
	Runs       []experiments.Run         // all runs of the plan, in its order
	Rows       map[string]report.Row     // the existing rows, by run ID
	Slices     map[string][]report.Slice // the slices of runs that have a row, by run ID
	Again      map[string]bool           // runs that have a row and will be measured again, by run ID; MeasureAgain sets it
	reader     Reader
}

// New returns a folder without rows. dir may be "" until its path is known.
func New(dir string, x *experiments.Experiment, plan lab.Plan, reader Reader) *Folder {
	return &Folder{files: files{Dir: dir}, Experiment: x, Plan: plan, Runs: plan.Runs(x), Rows: map[string]report.Row{}, Slices: map[string][]report.Slice{}, Again: map[string]bool{}, reader: reader}
}

// Open reads a folder that kvwire run has made.
func Open(dir string, reader Reader) (*Folder, error) {
	if _, err := os.Stat(filepath.Join(dir, lab.PlanFile)); err != nil {
		return nil, lab.Usagef("%v (name a folder that kvwire run has made)", err)
	}
	x, err := ReadExperiment(dir, reader)
	if err != nil {
		return nil, err
	}
	r, err := Load(dir, x, reader)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return r, nil
}

// timeOfID matches the end of a plan's ID, after the experiment's name.
var timeOfID = regexp.MustCompile(`-[0-9]{8}-[0-9]{6}(-[0-9]+)?$`)

// ReadExperiment reads the experiment of a folder of results from the files in it only, so the folder may be moved and renamed. From
// then on its inputs are the copies in the folder.
func ReadExperiment(dir string, reader Reader) (*experiments.Experiment, error) {
	p, err := lab.ReadPlan(dir)
	if err != nil {
		return nil, err
	}
	if err := p.Inputs.Check(dir); err != nil {
		return nil, err
	}
	name := cmp.Or(p.Experiment, timeOfID.ReplaceAllString(p.ID, ""))
	return reader.Experiment(filepath.Join(dir, lab.ExperimentCopy), name, lab.Inputs{Dir: dir, Copies: p.Inputs})
}

// Load reads the plan, the rows and the slices of a folder. x is its experiment.
func Load(dir string, x *experiments.Experiment, reader Reader) (*Folder, error) {
	plan, err := lab.ReadPlan(dir)
	if err != nil {
		return nil, err
	}
	if plan.Primary && !x.OnlyPrimary() {
		return nil, fmt.Errorf("%s has only the questions with primary claims, but %s has no primary claims: run the experiment again", filepath.Join(dir, lab.PlanFile), lab.ExperimentCopy)
	}
	r := New(dir, x, plan, reader)
	rows, err := report.ReadRows(filepath.Join(dir, lab.RowsFile))
	for _, row := range rows {
		r.Rows[row.RunID] = row
	}
	if err := errors.Join(err, r.numberCells(), r.readSlices()); err != nil {
		return nil, err
	}
	return r, nil
}

// readSlices reads the slices of the runs that have a row.
func (r *Folder) readSlices() error {
	all, err := report.ReadSlices(filepath.Join(r.Dir, report.SlicesFile))
	for _, s := range all {
		if _, there := r.Rows[s.RunID]; there {
			r.Slices[s.RunID] = append(r.Slices[s.RunID], s)
		}
	}
	return err
}

// numberCells finds how run IDs number the cells, by the factors in the rows. In a folder that version 1 made with --primary,
// only the cells of these questions are counted.
func (r *Folder) numberCells() error {
	err := r.checkRowsBelong()
	if err == nil || !r.Plan.Primary {
		return err
	}
	r.Plan.NumberQuestionCells(r.Experiment)
	if r.checkRowsBelong() != nil {
		return err
	}
	return nil
}

// cellColumns are flags whose columns have the same name and the value as it was given.
var cellColumns = []string{"transport", "backend", "mix", "value-bytes", "key-bytes", "depth", "wait", "placement", "loop", "rdma-verb", "disk-engine", "update", "durability"}

// checkRowsBelong returns an error if a row does not belong to the cell in its run ID: then the plan or the rows are of another experiment.
func (r *Folder) checkRowsBelong() error {
	factors := map[int]*report.Row{} // by cell
	found := 0
	for _, run := range r.Runs {
		id := r.Plan.RunID(run)
		row, there := r.Rows[id]
		if !there {
			continue
		}
		found++
		c := r.Experiment.Cells[run.Cell]
		if factors[run.Cell] == nil {
			row, err := r.reader.Factors(c)
			if err != nil {
				return err
			}
			factors[run.Cell] = row
		}
		for _, name := range cellColumns {
			column := strings.ReplaceAll(name, "-", "_")
			want, _ := factors[run.Cell].Value(column)
			got, _ := row.Value(column)
			if _, sets := c.Get(name); sets && want != "" && got != "" && got != want {
				return fmt.Errorf("run %s in runs.csv has %s %s, and its cell in %s has %s: they belong to different experiments", id, column, got, lab.ExperimentCopy, want)
			}
		}
	}
	if found == 0 && len(r.Rows) > 0 {
		return fmt.Errorf("%s names none of the %d runs in runs.csv: they belong to different experiments", lab.PlanFile, len(r.Rows))
	}
	return nil
}

// RowsInOrder are the existing rows, in the order of the plan.
func (r *Folder) RowsInOrder() (rows []report.Row) {
	for _, run := range r.Runs {
		if row, ok := r.Rows[r.Plan.RunID(run)]; ok {
			rows = append(rows, row)
		}
	}
	return rows
}

// CellRows are a cell's rows, by generation: of the cell itself, or, with again, of its second process (A/A).
func (r *Folder) CellRows(cell int, again bool) (rows []report.Row) {
	for generation := range r.Plan.Generations {
		if row, ok := r.Rows[r.Plan.RunID(experiments.Run{Block: generation + 1, Cell: cell, AA: again})]; ok {
			rows = append(rows, row)
		}
	}
	return rows
}

// series are a cell's runs by generation: of the cell itself, or, with again, of its second process (A/A).
func (r *Folder) series(cell int, again bool) report.Series {
	s := report.Series{Label: r.variantName(cell), Rows: map[int]*report.Row{}, Slices: map[int][]report.Slice{}}
	for _, row := range r.CellRows(cell, again) {
		generation, _ := row.Generation.Get()
		s.Rows[int(generation)] = &row
		if of := r.Slices[row.RunID]; of != nil {
			s.Slices[int(generation)] = of
		}
	}
	return s
}
