// Package results owns the folder of an execution. An Execution makes the folder and fills it by a lab.Runner. A
// Folder reads it: the rows of each run, and the results computed from them: comparisons, steps, stages, thresholds,
// findings about claims, and the report with its files. It may import lab with its parts, report and bench/units;
// never cmd, no transport, no store: the caller's Reader interprets the flags of cells, and Program starts processes.
package results

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// Reader interprets the flags of experiments. Its functions are called by the goroutine that calls this package.
type Reader struct {
	Flags experiment.Flags // the flags that an experiment and its claims may set

	// Experiment reads the experiment in a file and checks its cells, thresholds and primary claims. name is its name if the text has none. The flags of
	// device replace those of its cells. From then on the input files of its cells are read from their copies.
	Experiment func(path, name string, device lab.Device, inputs lab.Inputs) (*experiment.Experiment, error)

	// Factors returns a row with only the factors of a cell, as for a skipped run.
	Factors func(c experiment.Cell) (*report.Row, error)

	// Rate parses a rate in operations per second: 50k, 1.5M.
	Rate func(text string) (float64, error)
}

// Folder is the folder of an experiment: its plan, and the rows and slices of its runs. It belongs to one goroutine.
type Folder struct {
	files
	Experiment *experiment.Experiment
	Plan       lab.Plan
	Runs       []experiment.Run          // all runs of the plan, in its order
	Rows       map[string]report.Row     // the existing rows, by run ID
	Slices     map[string][]report.Slice // the slices of runs that have a row, by run ID
	Again      map[string]bool           // runs that have a row and will be measured again, by run ID; MeasureAgain sets it
	reader     Reader

	lostSlices map[string]int // the number of slices in slices.csv, by run ID: of the runs for which runs.csv counts another number
}

// New returns a folder without rows. dir may be "" until its path is known.
func New(dir string, x *experiment.Experiment, plan lab.Plan, reader Reader) *Folder {
	return &Folder{files: files{Dir: dir}, Experiment: x, Plan: plan, Runs: plan.Runs(x), Rows: map[string]report.Row{}, Slices: map[string][]report.Slice{}, Again: map[string]bool{}, reader: reader}
}

// checkFolder returns an error if dir is not the name of a folder.
func checkFolder(dir string) error {
	const remedy = "name a folder that kvwire run has made, or kvwire bench --output-dir"
	switch st, err := os.Stat(dir); {
	case err == nil && st.IsDir():
		return nil
	case err == nil:
		return exit.Usagef("%s is not a folder (%s)", dir, remedy)
	case errors.Is(err, fs.ErrNotExist):
		return exit.Usagef("there is no folder %s (%s)", dir, remedy)
	default:
		return exit.Usagef("%w (%s)", err, remedy)
	}
}

// Open reads a folder that kvwire run has made.
func Open(dir string, reader Reader) (*Folder, error) {
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, lab.PlanFile)); err != nil {
		return nil, lab.NoPlan(dir, err)
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
func ReadExperiment(dir string, reader Reader) (*experiment.Experiment, error) {
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	p, err := lab.ReadPlan(dir)
	if err != nil {
		return nil, err
	}
	if err := p.Inputs.Check(dir); err != nil {
		return nil, err
	}
	name := cmp.Or(p.Experiment, timeOfID.ReplaceAllString(p.ID, ""))
	return reader.Experiment(filepath.Join(dir, lab.ExperimentCopy), name, p.Device, lab.Inputs{Dir: dir, Copies: p.Inputs})
}

// Load reads the plan, the rows and the slices of a folder. x is its experiment.
func Load(dir string, x *experiment.Experiment, reader Reader) (*Folder, error) {
	plan, err := lab.ReadPlan(dir)
	if err != nil {
		return nil, err
	}
	return load(dir, x, plan, reader)
}

// load is Load with a plan that is not the file's.
func load(dir string, x *experiment.Experiment, plan lab.Plan, reader Reader) (*Folder, error) {
	if plan.Primary && !x.OnlyPrimary() {
		return nil, fmt.Errorf("%s has only the questions with primary claims, but %s has no primary claims: run the experiment again", filepath.Join(dir, lab.PlanFile), lab.ExperimentCopy)
	}
	r := New(dir, x, plan, reader)
	rows, err := r.readRows()
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		r.Rows[row.RunID] = row
	}
	for _, read := range []func() error{r.numberCells, func() error { return r.checkRowsPlanned(rows) }, r.readSlices} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// readSlices reads the slices of the runs that have a row. It leaves out the slices of generations that lack some.
func (r *Folder) readSlices() error {
	all, err := report.ReadSlices(filepath.Join(r.Dir, report.SlicesFile))
	if err != nil {
		return err
	}
	first := map[string]int{} // the index of each slice, by run ID and number
	for i, s := range all {
		row, there := r.Rows[s.RunID]
		if !there {
			continue
		}
		key := s.RunID + " " + s.Slice.String()
		if k, twice := first[key]; twice {
			return r.lineError(report.SlicesFile, i, "it has slice %s of run %s, as line %d has (remove one of the two lines)", s.Slice, s.RunID, r.line(report.SlicesFile, k))
		}
		first[key] = i
		if column, got, want := differentColumn(&s, &row); column != "" {
			return r.lineError(report.SlicesFile, i, "its run %s has %s %q here and %q in %s (remove this line; kvwire run --resume then measures the run again)", s.RunID, column, got, want, lab.RowsFile)
		}
		r.Slices[s.RunID] = append(r.Slices[s.RunID], s)
	}
	r.dropPartSlices()
	return nil
}

// differentColumn finds a column that slice and row have in common, with different values; "": none.
func differentColumn(s *report.Slice, row *report.Row) (column, got, want string) {
	for _, c := range []struct{ name, got, want string }{{"generation", s.Generation.String(), row.Generation.String()}, {"variant", s.Variant, row.Variant}, {"question", s.Question, row.Question},
		{"cell", s.Cell.String(), row.Cell.String()}} {
		if words := strings.Fields(c.want); c.got != strings.Join(words, " ") { // slices.csv has no line breaks
			return c.name, c.got, c.want
		}
	}
	return "", "", ""
}

// dropPartSlices removes the slices of each generation of a question in which a run has another number of slices than runs.csv counts, so that the
// ratios of this generation come from the totals of both sides. A part of the rounds may be the slow part.
func (r *Folder) dropPartSlices() {
	type generation struct{ question, number string }
	of := func(row *report.Row) generation { return generation{row.Question, row.Generation.String()} }
	part := map[generation]bool{}
	r.lostSlices = map[string]int{}
	for id, row := range r.Rows {
		n, known := row.Slices.Get()
		if has := len(r.Slices[id]); known && row.Method == report.MethodSlices && int64(has) != n {
			r.lostSlices[id] = has
			part[of(&row)] = true
		}
	}
	for id, row := range r.Rows {
		if part[of(&row)] {
			delete(r.Slices, id)
		}
	}
}

// LostSlices describes in one line, without a full stop, that slices.csv lacks slices which runs.csv counts, or has more; "": it does not. dir names the folder.
func (r *Folder) LostSlices(dir string) string {
	var runs, have, want, more int64
	for id, has := range r.lostSlices {
		row, there := r.Rows[id]
		n, _ := row.Slices.Get()
		if !there || int64(len(r.Slices[id])) == n { // it was measured again
			continue
		}
		runs, want, have, more = runs+1, want+n, have+min(n, int64(has)), more+max(0, int64(has)-n)
	}
	if runs == 0 {
		return ""
	}
	of := fmt.Sprintf("%d runs", runs)
	if runs == 1 {
		of = "a run"
	}
	text := fmt.Sprintf("%s has %d of the %d slices of %s", report.SlicesFile, have, want, of)
	if _, err := os.Stat(filepath.Join(r.Dir, report.SlicesFile)); errors.Is(err, fs.ErrNotExist) {
		text = fmt.Sprintf("%s, with the %d slices of %s, is missing", report.SlicesFile, want, of)
	}
	if more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text + fmt.Sprintf(": ratios of the same generations come from totals, and kvwire run --resume %s measures these generations again", dir)
}

// checkRowsPlanned returns an error if a row's run or generation is not in the plan. rows are in the order of runs.csv.
func (r *Folder) checkRowsPlanned(rows []report.Row) error {
	planned := map[string]int{} // the generation of each run
	for _, run := range r.Runs {
		planned[r.Plan.RunID(run)] = run.Generation
	}
	for i, row := range rows {
		g, there := planned[row.RunID]
		switch {
		case !there:
			return r.lineError(lab.RowsFile, i, "run %q is not among the runs of the %d generations that %s plans (restore %[3]s, or remove this line)", row.RunID, r.Plan.Generations, lab.PlanFile)
		case row.Generation != report.I(g):
			return r.lineError(lab.RowsFile, i, "run %s has generation %q here and %d in %s (remove this line; kvwire run --resume then measures the run again)", row.RunID, row.Generation, g, lab.PlanFile)
		}
	}
	return nil
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
		if row, ok := r.Rows[r.Plan.RunID(experiment.Run{Generation: generation + 1, Cell: cell, AA: again})]; ok {
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
