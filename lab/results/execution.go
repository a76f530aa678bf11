package results

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// Program is the program that executes an experiment. Its functions are called by the goroutine that calls Create or Resume.
type Program struct {
	GitRev string
	Env    report.Env // for env.json

	Check  func() error                  // whether the program can execute the experiment here
	Exec   func(plan *lab.Plan) lab.Exec // makes what starts the plan's processes; it starts none
	Data   func(plan *lab.Plan) string   // the folder for the plan's data sets
	Failed func(row *report.Row) bool    // whether Resume measures a run again because it failed or was interrupted
	Note   func(format string, a ...any) // shows a line to the user
}

// Execution is an execution of an experiment, which fills a folder. It belongs to one goroutine.
type Execution struct {
	*Folder
	Runner *lab.Runner // the caller sets its Watcher
	Log    *os.File    // run.log
	Cut    bool        // Run was interrupted

	keeper      *Keeper
	planLock    *os.File // the plan's file: its lock is this process'
	planChanged bool     // and must be written
	begun       time.Time
	reported    bool // Finish has written the report
}

// Create makes the folder for a new execution of the experiment that arg names: dir, or one below Parent if dir is "". plan has the settings, the
// launchers and whether only primary claims are measured. Nothing is written if the disks lack the space.
func Create(x *experiment.Experiment, arg, dir string, plan lab.Plan, reader Reader, p Program) (*Execution, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	begun := time.Now()
	now := begun.UTC()
	plan.Experiment, plan.ID, plan.GitRev, plan.Seed = x.Name, NewID(x, now), p.GitRev, uint64(now.UnixNano())
	e := &Execution{Folder: New(dir, x, plan, reader), begun: begun}
	if err := e.prepare(p.Exec(&e.Plan), p); err != nil {
		return nil, err
	}
	file, err := experiment.Find(arg)
	if err != nil {
		return nil, err
	}
	text, err := experiment.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := e.makeFolder(); err != nil {
		return nil, err
	}
	if e.Plan.Inputs, err = lab.CopyInputs(x, e.Dir); err != nil {
		return nil, err
	}
	if err := e.writePlan(); err != nil {
		return nil, err
	}
	if err := errors.Join(lab.CopyClaims(file, e.Dir), report.WriteFile(filepath.Join(e.Dir, lab.ExperimentCopy), text)); err != nil {
		return nil, err
	}
	return e, e.open(p)
}

// NewID is the name of an execution that begins now, and of its folder.
func NewID(x *experiment.Experiment, now time.Time) string {
	return x.Name + "-" + now.UTC().Format("20060102-150405")
}

// prepare makes the Runner, and checks that the disks have space for the missing steps.
func (e *Execution) prepare(exec lab.Exec, p Program) error {
	e.Runner = e.Folder.Runner(exec)
	if err := e.Runner.Prepare(); err != nil {
		return err
	}
	missing := e.RemainingRuns()
	for _, why := range e.Runner.Remarks(missing) {
		p.Note("%s", why)
	}
	return e.Runner.Afford(missing, p.Data(&e.Plan))
}

// makeFolder makes the folder, which has no results.
func (e *Execution) makeFolder() (err error) {
	if e.Dir == "" {
		if e.Dir, err = NewFolder(Parent, e.Plan.ID); err == nil {
			e.Plan.ID = filepath.Base(e.Dir)
		}
		return err
	}
	if err := os.MkdirAll(e.Dir, 0o755); err != nil {
		return exit.Named(fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err))
	}
	if _, err := os.Stat(filepath.Join(e.Dir, lab.RowsFile)); err == nil {
		return hasResults(e.Dir)
	}
	return nil
}

func (e *Execution) writePlan() error {
	text, err := e.Plan.Text()
	if err != nil {
		return err
	}
	e.planLock, err = lab.LockPlan(e.Dir, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		return hasResults(e.Dir)
	}
	if err == nil {
		_, err = e.planLock.Write(text)
	}
	return err
}

func hasResults(dir string) error {
	return exit.Usagef("%s has results already: choose another --output-dir (or continue with --resume)", dir)
}

// Resume continues the execution in a folder. Runs that have lost slices are dropped, with their generation. Generations in which a run failed, or was skipped
// and can be run here now, are measured again, and keep their rows until then. generations is the new total, not below the planned one; 0 keeps the planned number.
func Resume(x *experiment.Experiment, dir string, generations int, reader Reader, p Program) (*Execution, error) {
	e := &Execution{begun: time.Now()}
	if err := e.resume(x, dir, generations, reader, p); err != nil {
		return nil, fmt.Errorf("--resume %w", err)
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	return e, e.open(p)
}

func (e *Execution) resume(x *experiment.Experiment, dir string, generations int, reader Reader, p Program) (err error) {
	if e.planLock, err = lab.LockPlan(dir, os.O_RDWR); err != nil {
		return err
	}
	if err := FinishReplacing(dir); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if e.Folder, err = Load(dir, x, reader); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if e.Plan.GitRev != p.GitRev {
		return fmt.Errorf("%s: it was started by kvwire %s, and this is %s: continue with that version, or run the experiment again", dir, e.Plan.GitRev, p.GitRev)
	}
	if generations != 0 && generations != e.Plan.Generations {
		plan, err := e.extended(generations)
		if err != nil {
			return err
		}
		if e.Folder, err = load(dir, x, plan, reader); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		e.planChanged = true
	}
	maps.DeleteFunc(e.Rows, func(_ string, row report.Row) bool {
		n, _ := row.Slices.Get()
		return int64(len(e.Slices[row.RunID])) < n
	})
	e.DropPartGenerations()
	exec := p.Exec(&e.Plan)
	e.MeasureAgain(p.Failed, func(run experiment.Run) bool {
		facts, err := exec.Facts(run.Cell)
		return err == nil && facts.Here // an error ends prepare
	})
	p.Note("%s has %d of its runs", dir, len(e.Rows)-len(e.Again))
	if n := len(e.Again); n > 0 {
		p.Note("%d more runs are measured again, because a variant of their generation failed or was skipped; their rows are replaced when the generation is complete", n)
	}
	if len(e.RemainingRuns()) == 0 {
		p.Note("%s is complete: nothing is left to measure", dir)
	}
	if err := e.prepare(exec, p); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if err := report.Forget(dir, func(run string) bool { _, there := e.Rows[run]; return there }); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}

// extended returns the plan with more generations, and with as much time for each as before.
func (e *Execution) extended(generations int) (lab.Plan, error) {
	p := e.Plan
	switch {
	case generations < p.Generations:
		return p, exit.Usagef("%s: it has %d generations, and --generations %d can only add some", e.Dir, p.Generations, generations)
	case generations > experiment.MaxGenerations:
		return p, exit.Usagef("%s: --generations %d: at most %d", e.Dir, generations, experiment.MaxGenerations)
	case p.Until > 0:
		return p, exit.Usagef("%s: it ends by --until, which has its number of generations: leave out --generations", e.Dir)
	}
	p.Time = p.Time * time.Duration(generations) / time.Duration(p.Generations)
	p.Generations = generations
	return p, nil
}

// replacePlan writes the changed plan. The lock of the file before is held until that of the new one is there.
func (e *Execution) replacePlan() error {
	text, err := e.Plan.Text()
	if err == nil {
		err = report.WriteFile(filepath.Join(e.Dir, lab.PlanFile), text)
	}
	if err != nil {
		return fmt.Errorf("%s: plan %d generations: %w", e.Dir, e.Plan.Generations, err)
	}
	before := e.planLock
	if e.planLock, err = lab.LockPlan(e.Dir, os.O_RDWR); err != nil {
		return err
	}
	_ = before.Close()
	return nil
}

// RunLog is the file with what processes write to standard error.
const RunLog = "run.log"

// open opens the files that Run writes.
func (e *Execution) open(p Program) (err error) {
	if err := report.ForgetManifest(e.Dir); err != nil { // Finish writes a new one
		return err
	}
	if e.planChanged {
		if err := e.replacePlan(); err != nil {
			return err
		}
	}
	if e.Log, err = os.OpenFile(filepath.Join(e.Dir, RunLog), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
		return err
	}
	if e.keeper, err = e.Folder.Keeper(); err != nil {
		return err
	}
	e.Runner.Keeper = e.keeper
	return p.Env.WriteFile(e.Dir)
}

// Run measures what is not kept yet. The end of ctx is no error, and sets Cut.
func (e *Execution) Run(ctx context.Context) error {
	// A child of a whole run dies with this thread (Pdeathsig), so the thread must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := e.Runner.Run(ctx)
	e.Cut = ctx.Err() != nil
	if err != nil {
		err = fmt.Errorf("stopped after %d of %d runs: %w (kvwire run --resume %s continues when the cause is removed)", len(e.Rows), len(e.Runs), err, e.Dir)
	}
	return err
}

// Finish closes the files and writes the report. rows are all rows as JSON, as in runs.json. With an error there are the results that could be had.
func (e *Execution) Finish() (found Findings, rows []byte, err error) {
	rows, err = json.MarshalIndent(e.RowsInOrder(), "", " ")
	rows = append(rows, '\n')
	err = errors.Join(err, e.keeper.Close(), e.Log.Close(), e.planLock.Close(), report.WriteFile(filepath.Join(e.Dir, rowsJSON), rows), linkLatest(e.Dir))
	e.measured = true
	found, ferr := e.Findings()
	if err = errors.Join(err, ferr); err == nil {
		err = e.WritePage(&found)
	}
	e.reported = err == nil
	return found, rows, err
}

// Print prints the tables.
func (e *Execution) Print(w io.Writer, found *Findings) error {
	err := e.page(found).Print(w)
	above := func(s report.Step) bool { return s.Step != "network" } // a network's step is in the ratios, too
	if slices.ContainsFunc(found.Steps, above) && e.Plan.Generations > 1 {
		fmt.Fprintln(w)
		err = errors.Join(err, report.PrintSteps(w, found.Steps))
	}
	return err
}

// ReportLine names the report. If Finish could not write it, the line names the rows instead, and the command that writes the report.
func (e *Execution) ReportLine() string {
	took := time.Since(e.begun).Round(time.Second)
	if !e.reported {
		return fmt.Sprintf("Rows: %s (%v); no report (kvwire report %s writes it when the cause is gone)", filepath.Join(e.Dir, lab.RowsFile), took, e.Dir)
	}
	return fmt.Sprintf("Report: %s (%v)", filepath.Join(e.Dir, "report.html"), took)
}

// Parent is the folder of the folders of results that the user did not name.
const Parent = "results"

// foldersMax bounds the folders of one experiment that are made in one second.
const foldersMax = 1000

// NewFolder makes a folder of that name, or of the name with -2, -3 and so on where another process has it.
func NewFolder(parent, name string) (dir string, err error) {
	if err = os.MkdirAll(parent, 0o755); err == nil {
		dir = filepath.Join(parent, name)
		for n := 2; n <= foldersMax; n++ {
			if err = os.Mkdir(dir, 0o755); !errors.Is(err, fs.ErrExist) {
				break
			}
			dir = filepath.Join(parent, fmt.Sprintf("%s-%d", name, n))
		}
	}
	if err != nil {
		return "", fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
	}
	return dir, nil
}

// linkLatest points results/latest at dir, if dir lies in Parent and is not that link.
func linkLatest(dir string) error {
	parent, name := filepath.Split(filepath.Clean(dir))
	if filepath.Clean(parent) != Parent || name == "latest" { // kvwire run --resume results/latest: the link is right, and would point at itself
		return nil
	}
	link := filepath.Join(parent, "latest")
	if st, err := os.Lstat(link); err == nil && st.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("%s is not a link, and was not changed", link)
	}
	part := fmt.Sprintf("%s.%d.new", link, os.Getpid())
	if err := os.Symlink(name, part); err != nil {
		return err
	}
	return os.Rename(part, link) // atomic: a reader always finds a link, and of two runs that end at once one of theirs
}
