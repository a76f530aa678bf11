package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
)

const runHelp = `Examples:
  kvwire run experiments/quick
  kvwire run quick --output-dir results/mine
  kvwire run network-overhead --estimate        (time and disk space; --dry-run prints the cells, too)
  kvwire run network-overhead --primary         (only the questions with primary claims)
  kvwire run network-overhead --quick           (3 generations: no verdicts, a quarter of the time)
  kvwire run network-overhead --time 20s        (20 seconds for each question)
  kvwire run uring-options --until 3%           (until the half-widths of the intervals are at most 3 %; 24 generations at most)
  kvwire run network-overhead --slice 0         (whole runs, one after the other)
  kvwire run --resume results/network-overhead-20261121-100000
  kvwire run quick --server-launch 'ssh lab1' --server-addr 10.0.0.1 --client-launch 'ssh lab2'     (docs/hosts.md)
  kvwire run --vm quick-rdma      (in a guest with soft-RoCE, where this machine has no RDMA)

An experiment consists of questions. A question is all cells that differ only in the compared factor. It is measured in generations.
Each generation starts a server and a client for each variant, and for the baseline twice (A/A). All of them live at once and alternate: one
variant has a slice of load (--slice) while the others are parked, so slow changes of the machine are the same for all. What cannot be cut
into slices (a trace, a mix with inserts, a cell with its own dir) is measured in whole runs (the column method). The results are report.html,
runs.csv, slices.csv, compare.csv, hist.csv.gz, datapackage.json and more, in results/NAME-TIME (and results/latest). A transport that does
not work here gets a row with the reason.
When the process of a variant dies, hangs or reads wrong data, its generation is measured once more. If it fails again, the variant's rows
have the reason, and the other variants go on. The first ^C drops the current generation and keeps all complete ones; --resume continues.

Each data set on disk is loaded once, under TMPDIR (else /tmp or /var/tmp, whichever is on a disk), and copied for each variant
(the column data_set). The data sets are removed at the end; --keep-data keeps them for --resume. Cells with a dir of their own
are measured in whole runs. Servers on another host load their own store each time.

With --vm the whole experiment runs in a guest that test/vm/vm.sh boots (kvm where it works, else emulation: the
column accel has which). Its rows compare with each other, never with those of another machine. With --vm=two,
client and servers are in two guests on one wire; on 2 CPUs without kvm that shows that things work, and not how
fast. Exit codes of its own: 123 the guest's clock ran too fast or too slow, 124 it took too long, 125 no guest can
be had here, 130 ended by the second ^C.`

func runCommand(ctx context.Context, args []string) error {
	f := newFactors("run", runHelp)
	f.set.StringVar(&f.outputDir, "output-dir", "", "the folder for the results; default: results/NAME-TIME")
	f.set.BoolVar(&f.json, "json", false, "print the rows as JSON")
	f.set.StringVar(&f.serverAt, "server-at", "", "host:port of a kvwire host on another machine, which starts the servers; default: this machine")
	f.launch.add(f.set)
	var arg, vm string
	vmFlag(f, &vm)
	g := new(generationsFlags)
	g.add(f.set)
	if err := f.parse(args, func(rest []string) error {
		if len(rest) == 0 && g.resume != "" {
			arg = filepath.Join(g.resume, lab.ExperimentCopy)
			return nil
		}
		if vm == "one" && g.resume == "" { // --vm alone, or --vm VALUE: a flag whose value may be left out does not take the word behind it
			var err error
			if vm, rest, err = vmWord(rest); err != nil {
				return err
			}
		}
		if len(rest) != 1 || g.resume != "" {
			return usagef("run takes one experiment: a folder, a file, or a name under experiments/ (with --resume: none)")
		}
		arg = rest[0]
		return nil
	}); err != nil {
		return err
	}
	if g.resume != "" && (vm != "" || f.outputDir != "") {
		return usagef("--resume goes on in its own folder: leave out --vm and --output-dir")
	}
	if err := f.checkRunLaunch(g.resume, vm); err != nil {
		return err
	}
	if err := g.checkResume(f.set); err != nil {
		return err
	}
	read := func() (*experiments.Experiment, error) { return readExperiment(arg) }
	if g.resume != "" {
		read = func() (*experiments.Experiment, error) { return results.ReadExperiment(g.resume, resultsReader()) }
	}
	x, err := read()
	if err != nil {
		return err
	}
	settings, err := g.settings(f.set, x)
	if err != nil {
		return err
	}
	claims, err := results.ReadClaims(arg, x, experimentFlags())
	if err != nil {
		return err
	}
	if g.primary && !x.OnlyPrimary() {
		return usagef("--primary: %s names no primary claims: leave it out", x.Name)
	}
	if g.dryRun || g.estimate {
		return forecast(stdout, x, settings, f.serverAt, g.dryRun)
	}
	if vm != "" {
		return runInGuest(vm, x, arg, f, g, settings)
	}
	r, err := newRunner(x, f, arg, g, settings)
	if err != nil {
		return err
	}
	r.claims = len(claims)
	err = r.run(ctx)
	return errors.Join(err, r.finish())
}

// readExperiment reads the experiment that arg names and checks every cell as bench would, before anything runs.
func readExperiment(arg string) (*experiments.Experiment, error) {
	path, err := experiments.Find(arg)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return readExperimentAs(path, "")
}

// readExperimentAs is readExperiment for a file. name is the experiment's name if the text has none.
func readExperimentAs(path, name string) (*experiments.Experiment, error) {
	x, err := experiments.LoadAs(path, name, experimentFlags())
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	var cells []experiments.Cell
	seen := map[string]bool{} // a sweep over what does not apply to a cell is one cell
	for _, c := range x.Cells {
		c = applicable(c)
		if _, err := cellFactors(c); err != nil {
			return nil, usagef("%s: %v, in the cell %s", path, err, c)
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

// experimentFlags are the flags that an experiment may set, each with the function that checks and normalizes a value: all factors but
// stages, which has a key of its own.
func experimentFlags() experiments.Flags {
	flags := experiments.Flags{}
	for _, name := range factor.All.Names(func(x *factor.Factor) bool { return x.Name != "stages" }) {
		flags[name] = func(value string) (string, error) {
			f := newBenchFactors()
			if err := f.set.Set(name, value); err != nil {
				return "", factor.Reason(err)
			}
			return f.set.Lookup(name).Value.String(), f.checkValue()
		}
	}
	return flags
}

func newBenchFactors() *factors {
	f := newFactors("bench", benchHelp)
	f.benchFlags()
	factor.Limit(f.set, spans)
	return f
}

// applicable removes from a cell the flags that do not apply to it: an experiment that sweeps backend may set the
// disk's cache for all cells. On a command line such a flag is a contradiction, and refused.
func applicable(c experiments.Cell) experiments.Cell {
	defaults := factor.NewValues()
	get := factor.All.Get(&defaults)
	of := func(name string) string {
		if v, ok := c.Get(name); ok {
			return v
		}
		return get(name)
	}
	return slices.DeleteFunc(slices.Clone(c), func(f experiments.Flag) bool {
		x := factor.All.Find(f.Name)
		return x != nil && !x.Swept(of)
	})
}

// cellFactors are a cell's flags, checked against each other.
func cellFactors(c experiments.Cell) (*factors, error) {
	f := newBenchFactors()
	if err := f.parse(c.Args(), nil); err != nil {
		return nil, err
	}
	if _, err := f.checkBench(); err != nil {
		return nil, err
	}
	_, err := f.plan()
	return f, err
}

// runner is one execution of an experiment. lab.Runner decides the order; runner makes the folder and prints the results.
type runner struct {
	lab      *lab.Runner
	exec     *processes
	folder   *results.Folder // the experiment, its plan, and its rows so far
	keeper   *results.Keeper
	planLock *os.File // the plan's file: its lock is this process'
	table    *live
	log      *os.File
	json     bool
	begun    time.Time
	cut      bool
	claims   int // number of claims of others about the experiment
}

func newRunner(x *experiments.Experiment, f *factors, path string, g *generationsFlags, settings lab.Settings) (r *runner, err error) {
	r = &runner{json: f.json, begun: time.Now(), exec: &processes{x: x, serverAt: f.serverAt, launch: f.launch}}
	if g.resume == "" {
		if err = r.required(x); err == nil {
			err = r.create(x, path, f.outputDir, g.primary, settings)
		}
	} else if err = r.resume(x, g.resume); err == nil {
		err = r.required(x)
	}
	if err != nil {
		return nil, err
	}
	dir := r.folder.Dir
	if r.log, err = os.OpenFile(filepath.Join(dir, "run.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
		return nil, err
	}
	if r.keeper, err = r.folder.Keeper(); err != nil {
		return nil, err
	}
	r.exec.dir, r.exec.log, r.exec.data.keep = dir, r.log, g.keepData
	r.exec.data.load = r.exec.loadData
	r.table = newLive(r.folder, r.log)
	r.lab.Keeper, r.lab.Watcher = r.keeper, r.table
	env := environment()
	env.GOMAXPROCS = 0 // of this process, and not of those that measure
	return r, env.WriteFile(dir)
}

// plan makes the lab's runner for the folder's plan. It starts nothing.
func (r *runner) plan() error {
	r.lab = r.folder.Runner(r.exec)
	return r.lab.Prepare()
}

// required is an error if a transport that the experiment requires does not work. With launchers only the launched hosts know, so the first run that needs it fails.
func (r *runner) required(x *experiments.Experiment) error {
	if r.exec.launch.used() {
		return nil
	}
	for _, name := range x.Require {
		n, err := find(name)
		if err == nil {
			err = n.works()
		}
		if err != nil {
			return &exitError{exitMissing, fmt.Errorf("experiment %s requires a transport: %w", x.Name, err)}
		}
	}
	return nil
}

// afford checks, before anything is written, that the disks have space for the missing steps, and warns of runs that take long.
func (r *runner) afford() error {
	c, err := estimates(r.folder.Experiment, r.exec.serverAt)
	if err != nil {
		return err
	}
	missing := r.folder.RemainingRuns()
	for _, why := range c.long(missing) {
		fmt.Fprintln(os.Stderr, "kvwire:", why)
	}
	r.exec.data.dir = r.dataFolder()
	return roomy(c.demands(r.lab, missing, filepath.Dir(r.exec.data.dir), used(r.exec.data.dir)))
}

// dataFolder is the folder of the data sets.
func (r *runner) dataFolder() string {
	return filepath.Join(temporaryParent(), fmt.Sprintf("%s%s-%x", temporaryName, r.folder.Plan.ID, r.folder.Plan.Seed))
}

// run measures what is not kept yet.
func (r *runner) run(ctx context.Context) error {
	// A child of a whole run dies with this thread (Pdeathsig), so the thread must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := r.lab.Run(ctx)
	r.cut = ctx.Err() != nil
	if err != nil {
		err = fmt.Errorf("stopped after %d of %d runs: %w (kvwire run --resume %s goes on when the cause is gone)", len(r.folder.Rows), len(r.folder.Runs), err, r.folder.Dir)
	}
	return err
}

// summary is the part of a progress line about one run.
func summary(r *report.Row) string {
	if r.SkippedReason != "" {
		return "skipped: " + r.SkippedReason
	}
	if !r.Ops.Known() && r.InvalidReason != "" {
		return "failed: " + r.InvalidReason
	}
	s := "no operations"
	if v, ok := r.OpsPerS.Get(); ok {
		s = report.Rate(v) + " ops/s"
	}
	if v, ok := r.LatP50Ns.Get(); ok {
		s += ", p50 " + report.Duration(v)
	}
	if m, err := report.FindMetric("cpu_ns_per_op"); err == nil {
		if v, ok := m.Of(r).Get(); ok {
			s += ", CPU " + m.Text(v)
		}
	}
	return s
}

// finish closes the files, prints the tables, and returns the error that sets the exit code.
func (r *runner) finish() error {
	r.table.clear()
	rows := r.folder.RowsInOrder()
	all, err := json.MarshalIndent(rows, "", " ")
	err = errors.Join(err, r.exec.data.close(), r.keeper.Close(), r.log.Close(), r.planLock.Close(), report.WriteFile(filepath.Join(r.folder.Dir, "runs.json"), append(all, '\n')), linkLatest(r.folder.Dir))
	found, ferr := r.folder.Findings()
	if err = errors.Join(err, ferr); err == nil {
		err = r.folder.WritePage(&found)
	}
	if r.json {
		_, werr := fmt.Fprintf(stdout, "%s\n", all)
		err = errors.Join(err, werr)
	} else {
		fmt.Fprint(stdout, guestTitle(r.exec.serverAt != ""))
		var table []report.Row
		for _, q := range found.Questions {
			table = append(table, q.Rows...)
		}
		err = errors.Join(err, report.PrintTable(stdout, table), r.folder.PrintVerdicts(stdout, found.Comparisons))
		if len(found.Steps) > 0 && r.folder.Plan.Generations > 1 {
			fmt.Fprintln(stdout)
			err = errors.Join(err, report.PrintSteps(stdout, found.Steps))
		}
		files := "report.html, runs.csv, runs.json, timeseries.csv, hist.csv.gz, hdr/, charts/, bench.txt, bill.csv, datapackage.json, env.json, run.log"
		if r.folder.Plan.Slice > 0 {
			files = "slices.csv, " + files
		}
		if len(found.Carry) > 0 {
			files = "carryover.csv, " + files
		}
		if len(found.Steps) > 0 {
			files = "steps.csv, " + files
		}
		if len(found.Comparisons) > 0 {
			files = "compare.csv, " + files
		}
		fmt.Fprintf(stdout, "\n%s: %s (%v)\n", r.folder.Dir, files, time.Since(r.begun).Round(time.Second))
		if r.exec.data.keep && r.exec.data.made {
			fmt.Fprintf(stdout, "%s: the stores of the runs (--keep-data; rm -r it when you are done)\n", r.exec.data.dir)
		}
		if r.claims > 0 {
			fmt.Fprintf(stdout, "What others claimed of this (%d): kvwire verify-claims %s\n", r.claims, r.folder.Dir)
		}
	}
	switch {
	case err != nil:
		return err
	case r.cut:
		return fmt.Errorf("interrupted after %d of %d runs (kvwire run --resume %s goes on)", len(r.folder.Rows), len(r.folder.Runs), r.folder.Dir)
	case r.exec.wrong.Load() > 0:
		return &exitError{exitWrong, fmt.Errorf("%d processes read wrong data: see %s", r.exec.wrong.Load(), filepath.Join(r.folder.Dir, "run.log"))}
	case r.folder.Failed() > 0:
		return fmt.Errorf("%d of %d runs failed: see %s (kvwire run --resume %s tries them again)", r.folder.Failed(), len(r.folder.Runs), filepath.Join(r.folder.Dir, "run.log"), r.folder.Dir)
	}
	if missed := r.folder.MissedThresholds(found.Questions); len(missed) > 0 {
		return &exitError{exitMissed, fmt.Errorf("thresholds that were missed: %d\n  %s", len(missed), strings.Join(missed, "\n  "))}
	}
	return nil
}

// linkLatest points results/latest at dir, if dir lies in results.
func linkLatest(dir string) error {
	parent, name := filepath.Split(filepath.Clean(dir))
	if filepath.Clean(parent) != resultsFolder {
		return nil
	}
	link := filepath.Join(parent, "latest")
	if st, err := os.Lstat(link); err == nil && st.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("%s is not a link and was left alone", link)
	}
	part := fmt.Sprintf("%s.%d.new", link, os.Getpid())
	if err := os.Symlink(name, part); err != nil {
		return err
	}
	return os.Rename(part, link) // atomic: a reader always finds a link, and of two runs that end at once one of theirs
}
