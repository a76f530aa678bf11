package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
	"github.com/spf13/pflag"
)

// generationsFlags are the flags for how an experiment is measured.
type generationsFlags struct {
	quick, paper     bool
	dryRun, estimate bool
	primary          bool
	keepData         bool
	retry            int
	generations      int
	blocks           int // the old name of generations
	slice, time      time.Duration
	until            factor.Percent
	resume           string
}

// Generations of --quick and --paper.
const (
	quickGenerations = 3 // no verdicts
	paperGenerations = 24
)

func (g *generationsFlags) add(s *pflag.FlagSet) {
	s.IntVar(&g.generations, "generations", 0, fmt.Sprintf("number of generations: how often each question gets fresh processes; default: the experiment's, else %d (with --until %d)", lab.DefaultGenerations, lab.UntilGenerations))
	s.DurationVar(&g.slice, "slice", lab.DefaultSlice, "time of load on one variant at a time, while the others are parked; its first tenth is not counted; 0: whole runs, one after the other")
	s.DurationVar(&g.time, "time", 0, "time for each question, all generations together; 0: the experiment's, else 60s (with more than 5 variants 12s for each; on disk three times as long), in proportion to the number of generations")
	s.Var(&g.until, "until", "end a question when the 98.3 % intervals of its ratios have half-widths of at most this, such as 3%; checked after half of the generations, three quarters and all")
	s.BoolVar(&g.quick, "quick", false, fmt.Sprintf("%d generations, without verdicts; without --time, the time is in proportion", quickGenerations))
	s.BoolVar(&g.paper, "paper", false, fmt.Sprintf("%d generations; without --time, the time is in proportion", paperGenerations))
	s.IntVar(&g.blocks, "blocks", 0, "the old name of --generations")
	_ = s.MarkHidden("blocks")
	s.BoolVar(&g.primary, "primary", false, "only the questions with primary claims")
	s.BoolVar(&g.dryRun, "dry-run", false, "print the cells and the time and disk space that they take; run nothing")
	s.BoolVar(&g.estimate, "estimate", false, "print the time and disk space; run nothing")
	s.IntVar(&g.retry, "retry", 0, "whole runs only: repeat a run that the machine disturbed (steal, a CPU quota, other processes, drift), at most this many times; the column attempts has the number of tries")
	s.BoolVar(&g.keepData, "keep-data", false, "keep the stores that were loaded for the runs; default: they are removed at the end")
	s.StringVar(&g.resume, "resume", "", "a folder of results: measure the generations and runs that are missing or have failed there")
}

// plannedFlags are the flags that are decided when a folder is made.
var plannedFlags = []string{"primary", "retry", "dry-run", "estimate", "generations", "blocks", "quick", "paper", "slice", "time", "until"}

func (g *generationsFlags) checkResume(s *pflag.FlagSet) error {
	if g.resume == "" {
		return nil
	}
	for _, name := range plannedFlags {
		if s.Changed(name) {
			return usagef("--resume goes on as planned when its folder was made: leave out --%s", name)
		}
	}
	return nil
}

// settings are how the experiment is measured: by the flags, else by its file, else by default.
func (g *generationsFlags) settings(s *pflag.FlagSet, x *experiments.Experiment) (o lab.Settings, err error) {
	o = lab.Settings{Slice: lab.DefaultSlice, Time: x.Time, Until: x.Until, Retry: g.retry, Generations: x.Generations}
	switch {
	case s.Changed("slice"):
		o.Slice = g.slice
	case x.Slice == experiments.SliceWhole:
		o.Slice = 0
	case x.Slice > 0:
		o.Slice = x.Slice
	}
	if s.Changed("time") {
		o.Time = g.time
	}
	if s.Changed("until") {
		o.Until = float64(g.until)
	}
	said := 0
	for _, f := range []struct {
		set bool
		n   int
	}{{g.quick, quickGenerations}, {g.paper, paperGenerations}, {g.blocks != 0, g.blocks}, {g.generations != 0, g.generations}} {
		if f.set {
			o.Generations = f.n
			said++
		}
	}
	if said > 0 && o.Time > 0 && !s.Changed("time") { // the file's time is for the file's generations
		o.Time = o.Time * time.Duration(o.Generations) / time.Duration(max(1, cmp.Or(x.Generations, lab.DefaultGenerations)))
	}
	if o.Generations == 0 {
		if o.Generations = lab.DefaultGenerations; o.Until > 0 {
			o.Generations = lab.UntilGenerations
		}
	}
	switch {
	case said > 1 || o.Generations < 1 || o.Generations > experiments.MaxGenerations:
		return o, usagef("choose one of --quick, --paper and --generations (1 to %d)", experiments.MaxGenerations)
	case o.Slice != 0 && o.Slice < lab.SliceMin:
		return o, usagef("--slice %v: %v at least, or 0 for whole runs: starting and ending the load takes some 8 ms", o.Slice, lab.SliceMin)
	case o.Until > 0 && o.Slice == 0:
		return o, usagef("--until needs slices: leave out --slice 0")
	}
	return o, nil
}

// create makes the folder of a new execution: dir, or where that is "" one of its own.
func (r *runner) create(x *experiments.Experiment, path, dir string, primary bool, settings lab.Settings) error {
	now := r.begun.UTC()
	settings.Seed = uint64(now.UnixNano())
	plan := lab.Plan{Experiment: x.Name, ID: x.Name + "-" + now.Format("20060102-150405"), Settings: settings, GitRev: version, Launch: lab.Launchers(r.exec.launch), Primary: primary}
	r.folder = results.New(dir, x, plan, resultsReader())
	if err := errors.Join(r.plan(), r.afford()); err != nil {
		return err
	}
	file, err := experiments.Find(path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	folder := r.folder
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
		}
		if _, err := os.Stat(filepath.Join(dir, lab.RowsFile)); err == nil {
			return hasResults(dir)
		}
	} else {
		if dir, err = newFolder(resultsFolder, folder.Plan.ID); err != nil {
			return err
		}
		folder.Dir, folder.Plan.ID = dir, filepath.Base(dir)
		r.exec.data.dir = r.dataFolder()
	}
	if folder.Plan.Inputs, err = lab.CopyInputs(x, dir); err != nil {
		return err
	}
	inputs = lab.Inputs{Dir: dir, Copies: folder.Plan.Inputs} // runs take the copies, which nobody changes meanwhile
	j, err := folder.Plan.Text()
	if err != nil {
		return err
	}
	r.planLock, err = lab.LockPlan(dir, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		return hasResults(dir)
	}
	if err != nil {
		return err
	}
	_, err = r.planLock.Write(j)
	return errors.Join(err, lab.CopyClaims(file, dir), report.WriteFile(filepath.Join(dir, lab.ExperimentCopy), text))
}

func hasResults(dir string) error {
	return usagef("%s has results already: choose another --output-dir (or go on with --resume)", dir)
}

// resultsFolder is the parent of folders of results where --output-dir names none.
const resultsFolder = "results"

// newFolder makes a folder of that name, or of the name with -2, -3 and so on where another process has it.
func newFolder(parent, name string) (dir string, err error) {
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

// foldersMax bounds the folders of one experiment that are made in one second.
const foldersMax = 1000

// failedRun begins the reason of a run that failed, though it counted operations; one that read wrong data is not tried again.
var failedRun = fmt.Sprintf("exit status %d: ", exitFailed)

// failed reports whether --resume measures a run again because it failed or was interrupted.
func failed(row *report.Row) bool {
	return row.SkippedReason == "" && !row.Ops.Known() || strings.Contains(row.InvalidReason, "interrupted") || strings.HasPrefix(row.InvalidReason, failedRun)
}

// resume goes on in a folder. Runs that have lost slices are dropped, with their generation. Generations in which a run failed, or was skipped and can be run here
// now, are measured again, and keep their rows until then.
func (r *runner) resume(x *experiments.Experiment, dir string) (err error) {
	if r.planLock, err = lab.LockPlan(dir, os.O_RDWR); err != nil {
		return fmt.Errorf("--resume %w", err)
	}
	if err := results.FinishReplacing(dir); err != nil {
		return fmt.Errorf("--resume %s: %w", dir, err)
	}
	if r.folder, err = results.Load(dir, x, resultsReader()); err != nil {
		return fmt.Errorf("--resume %s: %w", dir, err)
	}
	plan, rows := &r.folder.Plan, r.folder.Rows
	r.exec.launch = launchers(plan.Launch)
	if plan.GitRev != version {
		return fmt.Errorf("--resume %s: it was begun by kvwire %s, this is %s: continue with that version, or run the experiment again", dir, plan.GitRev, version)
	}
	maps.DeleteFunc(rows, func(_ string, row report.Row) bool {
		n, _ := row.Slices.Get()
		return int64(len(r.folder.Slices[row.RunID])) < n
	})
	r.folder.DropPartGenerations()
	r.folder.MeasureAgain(failed, func(run experiments.Run) bool {
		facts, err := r.exec.Facts(run.Cell)
		return err == nil && facts.Here // an error ends the run below
	})
	fmt.Fprintf(os.Stderr, "kvwire: %s has %d of its runs\n", dir, len(rows)-len(r.folder.Again))
	if n := len(r.folder.Again); n > 0 {
		fmt.Fprintf(os.Stderr, "kvwire: %d more runs are measured again, because a variant of their generation failed or was skipped; their rows are replaced when the generation is complete\n", n)
	}
	if len(r.folder.RemainingRuns()) == 0 {
		fmt.Fprintf(os.Stderr, "kvwire: %s is complete: nothing is left to measure\n", dir)
	}
	if err := errors.Join(r.plan(), r.afford()); err != nil {
		return fmt.Errorf("--resume %s: %w", dir, err)
	}
	if err := report.Forget(dir, func(run string) bool { _, there := rows[run]; return there }); err != nil {
		return fmt.Errorf("--resume %s: %w", dir, err)
	}
	return nil
}
