package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/bench/units"
	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
	"github.com/spf13/pflag"
)

const runHelp = `Examples:
  kvwire run experiments/quick
  kvwire run quick --output-dir results/mine
  kvwire run network-overhead --estimate        (time and disk space; --dry-run prints the runs, too)
  kvwire run network-overhead --primary         (only what it makes claims about)
  kvwire run network-overhead --quick           (3 blocks: no verdicts)
  kvwire run --resume results/network-overhead-20261121-100000
  kvwire run quick --server-launch 'ssh lab1' --server-addr 10.0.0.1 --client-launch 'ssh lab2'     (docs/hosts.md)
  kvwire run --vm quick-rdma      (in a guest with soft-RoCE, where this machine has no RDMA)

Runs every cell of an experiment in fresh processes, once in each block (in an order of its own; the baseline of each question
twice, to be compared with itself), and leaves report.html, runs.csv, compare.csv, timeseries.csv, hist.csv.gz, datapackage.json and more in
results/NAME-TIME (and results/latest). A transport that does not work here is a row with its reason.
The first ^C finishes the run and writes what there is; --resume goes on from there.

Each data set on disk is loaded once, under TMPDIR (else /tmp or /var/tmp, whichever has a disk under it): runs that only read use it as it
is, others a copy (the column data_set). They are removed at the end; --keep-data leaves them to --resume. Cells with a dir of their own
are left alone, and servers at another host load their own store each time.

With --vm the whole experiment runs in a guest that test/vm/vm.sh boots (kvm where it works, else emulation: the
column accel says which). Its rows compare with each other, never with those of another machine. With --vm=two,
client and servers are in two guests on one wire; on 2 CPUs without kvm that shows that things work, and not how
fast. Exit codes of its own: 123 the guest's clock ran too fast or too slow, 124 it took too long, 125 no guest can
be had here, 130 ended by the second ^C.`

func runCommand(ctx context.Context, args []string) error {
	f := newFactors("run", runHelp)
	f.set.StringVar(&f.outputDir, "output-dir", "", "the folder for the results; default: results/NAME-TIME")
	f.set.BoolVar(&f.json, "json", false, "print the rows as JSON")
	f.set.StringVar(&f.serverAt, "server-at", "", "host:port of a kvwire host on another machine, where the servers are started; default: here")
	f.launch.add(f.set)
	var arg, vm string
	vmFlag(f, &vm)
	var b blocksFlags
	b.add(f.set)
	if err := f.parse(args, func(rest []string) error {
		if len(rest) == 0 && b.resume != "" {
			arg = filepath.Join(b.resume, lab.ExperimentCopy)
			return nil
		}
		if vm == "one" && b.resume == "" { // --vm alone, or --vm VALUE: a flag whose value may be left out does not take the word behind it
			var err error
			if vm, rest, err = vmWord(rest); err != nil {
				return err
			}
		}
		if len(rest) != 1 || b.resume != "" {
			return usagef("run takes one experiment: a folder, a file, or a name under experiments/ (with --resume: none)")
		}
		arg = rest[0]
		return nil
	}); err != nil {
		return err
	}
	if b.resume != "" && (vm != "" || f.outputDir != "") {
		return usagef("--resume goes on in its own folder: leave out --vm and --output-dir")
	}
	if err := f.checkRunLaunch(b.resume, vm); err != nil {
		return err
	}
	if b.resume != "" && (b.primary || b.dryRun || b.estimate || b.retry > 0) {
		return usagef("--resume does what was planned when its folder was made: leave out --primary, --retry, --dry-run and --estimate")
	}
	read := func() (*experiments.Experiment, error) { return readExperiment(arg) }
	if b.resume != "" {
		read = func() (*experiments.Experiment, error) { return results.ReadExperiment(b.resume, resultsReader()) }
	}
	x, err := read()
	if err != nil {
		return err
	}
	if b.of(x) < 0 {
		return usagef("choose one of --quick, --paper and --blocks (1 to %d)", experiments.MaxBlocks)
	}
	claims, err := results.ReadClaims(arg, x, experimentFlags())
	if err != nil {
		return err
	}
	if b.primary && !x.OnlyPrimary() {
		return usagef("--primary: %s names no primary claims: leave it out", x.Name)
	}
	if b.dryRun || b.estimate {
		return forecast(stdout, x, b.of(x), f.serverAt, b.dryRun)
	}
	if vm != "" {
		return runInGuest(vm, x, arg, f, b)
	}
	r, err := newRunner(x, f, arg, b)
	if err != nil {
		return err
	}
	r.claims = len(claims)
	err = r.run(ctx)
	return errors.Join(err, r.finish())
}

// readExperiment reads the file and checks every cell as bench would, before anything runs.
func readExperiment(arg string) (*experiments.Experiment, error) {
	path, err := experiments.Find(arg)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return readExperimentAs(path, "")
}

// readExperimentAs is readExperiment of a file whose experiment has that name, where the text has none.
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
	return x, results.CheckThresholds(x, parseRate)
}

// experimentFlags are the flags that an experiment may set.
func experimentFlags() experiments.Flags {
	flags := experiments.Flags{}
	newBenchFactors().set.VisitAll(func(g *pflag.Flag) {
		if !slices.Contains(slices.Concat([]string{"json", "target", "server-at", "output-dir", "record-dir", "run-id", "stages"}, identityFlags, launchFlags), g.Name) {
			flags[g.Name] = func(value string) (string, error) {
				f := newBenchFactors()
				if err := f.set.Set(g.Name, value); err != nil {
					return "", reason(err)
				}
				return f.set.Lookup(g.Name).Value.String(), f.checkNames()
			}
		}
	})
	return flags
}

func newBenchFactors() *factors {
	f := newFactors("bench", benchHelp)
	f.serverFlags()
	f.loadFlags()
	f.benchFlags()
	f.limit()
	return f
}

// applicable leaves out of a cell what does not apply to it: an experiment that sweeps backend may set the
// disk's cache for all cells. On a command line the same is a contradiction, and refused.
func applicable(c experiments.Cell) experiments.Cell {
	is := func(flag, value string) bool { v, ok := c.Get(flag); return ok && v == value }
	engine, _ := c.Get("disk-engine") // "": the default
	if engine == "" {
		engine = store.EngineUring
	}
	return slices.DeleteFunc(slices.Clone(c), func(f experiments.Flag) bool {
		sockets := hasUring(is) && slices.Contains(ringFlags, f.Name)
		if slices.Contains(diskFlags, f.Name) && (is("backend", "null") || is("backend", "mem")) && !sockets {
			return true
		}
		switch f.Name {
		case "cache-bytes", "update":
			return is("backend", "raw")
		case "value-dist", "value-min-bytes": // it keeps no values whose sizes could differ
			return is("backend", "null")
		case "raw-bytes":
			return !is("backend", "raw")
		case "iopoll":
			return engine != store.EngineUring
		case "disk-wait":
			return engine != store.EngineUring || is("wait", "spin")
		case "disk-wait-max":
			return engine != store.EngineUring || is("wait", "spin") || is("disk-wait", "1")
		case "taskrun":
			return engine != store.EngineUring && !sockets || is("sqpoll", "true")
		case "sqpoll", "fixed-buffers", "fixed-files":
			return !store.NeedsRing(engine) && !sockets
		case "spin-max":
			return !is("wait", "hybrid")
		case "ring":
			return !is("transport", "uring")
		case "net-loops", "store-loops":
			return !is("placement", "dispatched")
		case "server-threads":
			return is("placement", "dispatched")
		case "target-per-s", "arrival":
			return !is("loop", "open")
		case "rdma-export-bytes":
			return !is("transport", "rdma") || !is("rdma-verb", "read")
		case "rdma-srq":
			return !is("transport", "rdma") || is("rdma-verb", "write")
		}
		return rdmaOnly(f.Name) && !is("transport", "rdma") || !tcpApplies(f.Name, is) || !uringApplies(f.Name, is)
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
	if _, err := f.plan(); err != nil {
		return nil, err
	}
	_, err := f.store(1)
	return f, err
}

// runner is one execution of an experiment.
type runner struct {
	json     bool
	at       string // --server-at
	launch   launchers
	folder   *results.Folder // the experiment, its plan, and the rows that there are
	csv      *os.File        // the rows' file
	planLock *os.File        // the plan's file: its lock is this process'
	w        *report.Writer  // of csv
	log      *os.File
	begun    time.Time
	table    *live
	costs    costs
	pace     pace // of the runs by this process
	data     dataSets

	loading time.Duration // that the run under way took to load data for all
	wrong   int           // runs with wrong data
	bad     int           // runs that failed
	cut     bool

	claims int // beside the experiment: kvwire verify-claims answers for them
}

func newRunner(x *experiments.Experiment, f *factors, path string, b blocksFlags) (*runner, error) {
	r := &runner{json: f.json, at: f.serverAt, launch: f.launch, begun: time.Now()}
	var err error
	if b.resume == "" {
		if err = r.required(x); err == nil {
			err = r.create(x, path, f.outputDir, b)
		}
	} else if err = r.resume(x, b.resume); err == nil {
		err = r.required(x)
	}
	if err != nil {
		return nil, err
	}
	r.table, r.data.keep = newLive(x, len(r.folder.Runs)), b.keepData
	name := filepath.Join(r.folder.Dir, lab.RowsFile)
	if err := report.WriteRows(name, r.folder.RowsInOrder()); err != nil {
		return nil, err
	}
	if r.csv, err = os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return nil, err
	}
	r.w = report.AppendTo(r.csv)
	if r.log, err = os.OpenFile(filepath.Join(r.folder.Dir, "run.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
		return nil, err
	}
	env := environment()
	env.GOMAXPROCS = 0 // of this process, and not of those that measure
	return r, env.WriteFile(r.folder.Dir)
}

// required is why a transport does not work that the experiment requires. With launchers its hosts say it, when a run needs it.
func (r *runner) required(x *experiments.Experiment) error {
	if r.launch.used() {
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

// afford sees what the missing runs take, and that there is room for it: before anything is written.
func (r *runner) afford() (err error) {
	if r.costs, err = estimates(r.folder.Experiment, r.at); err != nil {
		return err
	}
	for _, why := range r.costs.long(r.folder.MissingRuns()) {
		fmt.Fprintln(os.Stderr, "kvwire:", why)
	}
	r.data.dir = r.dataFolder()
	return roomy(r.costs.demands(r.folder.MissingRuns(), filepath.Dir(r.data.dir), used(r.data.dir)))
}

// dataFolder is where the runs' stores are loaded.
func (r *runner) dataFolder() string {
	return filepath.Join(temporaryParent(), fmt.Sprintf("%s%s-%x", temporaryName, r.folder.Plan.ID, r.folder.Plan.Seed))
}

// run does the runs that are not there yet, in the order of the design.
func (r *runner) run(ctx context.Context) error {
	// A child dies with this thread (Pdeathsig), so the thread must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() { r.cut = ctx.Err() != nil }()
	block := 0
	for i, run := range r.folder.Runs {
		id := r.folder.Plan.RunID(run)
		if _, there := r.folder.Rows[id]; there {
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if run.Block != block {
			block = run.Block
			err := r.calibrate(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
		}
		row, err := r.attempts(ctx, i, run, id)
		if err != nil {
			return err
		}
		row.ExpID, row.RunID = r.folder.Experiment.Name, id
		switch {
		case run.AA:
			row.Phase = "aa"
		case run.Stages:
			row.Phase = "breakdown"
		default:
			row.Phase = "measure"
		}
		row.Block, row.OrderInBlock = report.I(run.Block), report.I(run.Order)
		r.folder.Rows[id] = *row
		if err := r.w.Append(*row); err != nil {
			return err
		}
	}
	return nil
}

// attempts does a run, and again where the machine disturbed it, as often as was asked for. The last one counts.
func (r *runner) attempts(ctx context.Context, i int, run experiments.Run, id string) (*report.Row, error) {
	for n := 1; ; n++ {
		begun := time.Now()
		row, err := r.cell(ctx, i, run)
		if err != nil {
			return nil, err
		}
		if row.SkippedReason == "" {
			r.pace.add(r.costs.of[run.Cell].run, time.Since(begun)-r.loading)
			row.Attempts = report.I(n)
		}
		r.loading = 0
		if n > r.folder.Plan.Retry || !row.Disturbed() || ctx.Err() != nil {
			return row, nil
		}
		if err := report.Forget(r.folder.Dir, func(other string) bool { return other != id }); err != nil {
			return nil, err
		}
	}
}

// cell gives the row of one cell: measured, or with the reason why not.
func (r *runner) cell(ctx context.Context, i int, run experiments.Run) (*report.Row, error) {
	c := r.folder.Experiment.Cells[run.Cell]
	f, err := cellFactors(c)
	if err != nil {
		return nil, err
	}
	if !f.inProcess() {
		f.serverAt, f.launch = r.at, r.launch
	}
	label := fmt.Sprintf("[%d/%d] %s %s %s %s", i+1, len(r.folder.Runs), report.Network(f.row()), f.backend, f.mix, f.valueBytes.String())
	if run.Stages {
		label += " stages"
	}
	if f.backend == store.Raw.String() {
		label += fmt.Sprintf(" %s depth %d", f.diskEngine, f.depth)
	}
	n, err := find(f.transport)
	if err != nil {
		return nil, err
	}
	if !f.launch.used() { // else its hosts say it
		if err = n.works(); err == nil && f.serverAt == "" {
			f.settleEngine()
			err = f.engineWorks()
		}
	}
	if err != nil {
		return r.skipped(f, i, run, label, err.Error()), nil
	}
	row, err := r.bench(ctx, i, label, f, run)
	if err == nil {
		r.table.finished(i, run, row, label+": "+summary(row))
		return row, nil
	}
	var exit *exec.ExitError
	code := exitFailed
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if code == exitMissing && f.launch.used() { // which only its hosts could say
		if slices.Contains(r.folder.Experiment.Require, f.transport) {
			return nil, &exitError{exitMissing, fmt.Errorf("experiment %s requires transport %s: %w", r.folder.Experiment.Name, f.transport, err)}
		}
		return r.skipped(f, i, run, label, strings.TrimPrefix(err.Error(), exit.Error()+": ")), nil
	}
	if code == exitWrong {
		r.wrong++
	} else {
		r.bad++
	}
	if row == nil {
		row = f.row()
	}
	row.Valid, row.InvalidReason = report.B(false), quote.Line(err.Error())
	r.table.finished(i, run, row, fmt.Sprintf("%s: failed: %s", label, row.InvalidReason))
	return row, nil
}

// skipped is the row of a run that cannot take place.
func (r *runner) skipped(f *factors, i int, run experiments.Run, label, reason string) *report.Row {
	reason = quote.Line(reason)
	why := reason
	for _, o := range r.folder.Rows {
		if o.SkippedReason == reason {
			why = "as above"
		}
	}
	row := f.row()
	row.SkippedReason = reason
	r.table.finished(i, run, row, label+": skipped: "+why)
	return row
}

// bench runs kvwire bench for a cell, with its processes where f says, on a store that is loaded where it may be.
func (r *runner) bench(ctx context.Context, i int, label string, f *factors, run experiments.Run) (row *report.Row, err error) {
	args := append([]string{"bench", "--json", "--record-dir=" + r.folder.Dir, "--run-id=" + r.folder.Plan.RunID(run)}, inputs.Args(r.folder.Experiment.Cells[run.Cell])...)
	if run.Stages {
		args = append(args, fmt.Sprintf("--stages=%d", r.folder.Experiment.Stages.OneIn))
	}
	if f.serverAt != "" {
		args = append(args, "--server-at="+f.serverAt)
	}
	args = append(args, f.launch.args()...)
	how := ""
	if d, ok := f.dataSet(); ok {
		r.data.run = func(ctx context.Context, args []string) error {
			begun := time.Now()
			_, err := r.program(ctx, i, label, run, loadingNow, args)
			r.loading = time.Since(begun)
			return err
		}
		var dir string
		if dir, how, err = r.data.take(ctx, &d, f.writes()); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, r.data.leave()) }()
		args = append(args, "--dir="+dir)
	}
	out, err := r.program(ctx, i, label, run, runningNow, args)
	if len(out) == 0 {
		return nil, err
	}
	row = new(report.Row)
	if jerr := json.Unmarshal(out, row); jerr != nil {
		return nil, errors.Join(err, jerr)
	}
	if how != "" {
		row.DataSet = how
	}
	return row, err
}

// What is under way.
const (
	loadingNow = "loading its data"
	runningNow = "running"
)

// program runs a command of kvwire's, and gives what it prints. Its last words are in the error.
func (r *runner) program(ctx context.Context, i int, label string, run experiments.Run, what string, args []string) ([]byte, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout = &out
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(os.Interrupt) })
	defer stop()
	last := r.watch(i, label, run, what, said)
	err = cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == exitInterrupted && ctx.Err() != nil && out.Len() > 0 {
		err = nil // its row says so
	}
	if err != nil && last != "" {
		err = fmt.Errorf("%w: %s", err, strings.TrimPrefix(last, "kvwire: "))
	}
	return out.Bytes(), err
}

// calibrate measures the units of the bill of materials, in a process of its own: once for each block, since a machine changes.
func (r *runner) calibrate(ctx context.Context) error {
	had, err := report.ReadUnits(r.folder.Dir)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "calibrate", "--json")
	cmd.Stderr = r.log
	b, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("kvwire calibrate: %w (%s has what it said)", err, filepath.Join(r.folder.Dir, "run.log"))
	}
	var more []units.Unit
	if err := json.Unmarshal(b, &more); err != nil {
		return fmt.Errorf("kvwire calibrate: %w", err)
	}
	return report.WriteUnits(r.folder.Dir, units.Join(had, more))
}

// summary is a run's line while the experiment runs.
func summary(r *report.Row) string {
	s := "no operations"
	if v, ok := r.OpsPerS.Get(); ok {
		s = report.Rate(v) + " ops/s"
	}
	for _, p := range []struct {
		name string
		v    report.Int
	}{{"p50", r.LatP50Ns}, {"p99", r.LatP99Ns}} {
		if v, ok := p.v.Get(); ok {
			s += ", " + p.name + " " + report.Duration(v)
		}
	}
	return s
}

// watch shows on a terminal how far the experiment is, logs what the run says, and returns its last line.
func (r *runner) watch(i int, label string, run experiments.Run, what string, said io.Reader) (last string) {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(said); s.Scan(); {
			lines <- s.Text()
		}
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	begun, of := time.Now(), r.pace.of(r.costs.of[run.Cell].run)
	if what == loadingNow {
		of = r.pace.of(r.costs.of[run.Cell].load)
	}
	left := r.left()
	for {
		since := time.Since(begun)
		r.table.underWay(i, run, what, since, of, max(0, left-since))
		select {
		case s, ok := <-lines:
			if !ok {
				return last
			}
			last = s
			fmt.Fprintf(r.log, "%s: %s\n", label, s)
		case <-tick.C:
		}
	}
}

// left is about how long the missing runs take, the one under way among them.
func (r *runner) left() time.Duration {
	runs := r.folder.MissingRuns()
	left := r.pace.of(r.costs.time(runs))
	for _, l := range r.costs.loads(runs) {
		if l.dir == "" && !r.data.has(l.data) {
			left += r.pace.of(l.load)
		}
	}
	return left
}

// finish closes the files, prints the tables, and says how it went.
func (r *runner) finish() error {
	r.table.clear()
	rows := r.folder.RowsInOrder()
	all, err := json.MarshalIndent(rows, "", " ")
	err = errors.Join(err, r.data.close(), r.csv.Close(), r.log.Close(), r.planLock.Close(), report.WriteFile(filepath.Join(r.folder.Dir, "runs.json"), append(all, '\n')), linkLatest(r.folder.Dir))
	found, ferr := r.folder.Findings()
	if err = errors.Join(err, ferr); err == nil {
		err = r.folder.WritePage(&found)
	}
	if r.json {
		_, werr := fmt.Fprintf(stdout, "%s\n", all)
		err = errors.Join(err, werr)
	} else {
		fmt.Fprint(stdout, guestTitle(r.at != ""))
		var table []report.Row
		for _, q := range found.Questions {
			table = append(table, q.Rows...)
		}
		err = errors.Join(err, report.PrintTable(stdout, table), r.folder.PrintVerdicts(stdout, found.Comparisons))
		if len(found.Steps) > 0 && r.folder.Plan.Blocks > 1 {
			fmt.Fprintln(stdout)
			err = errors.Join(err, report.PrintSteps(stdout, found.Steps))
		}
		files := "report.html, runs.csv, runs.json, timeseries.csv, hist.csv.gz, hdr/, charts/, bench.txt, bill.csv, datapackage.json, env.json, run.log"
		if len(found.Steps) > 0 {
			files = "steps.csv, " + files
		}
		if len(found.Comparisons) > 0 {
			files = "compare.csv, " + files
		}
		fmt.Fprintf(stdout, "\n%s: %s (%v)\n", r.folder.Dir, files, time.Since(r.begun).Round(time.Second))
		if r.data.keep && r.data.made {
			fmt.Fprintf(stdout, "%s: the stores of the runs (--keep-data; rm -r it when you are done)\n", r.data.dir)
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
	case r.wrong > 0:
		return &exitError{exitWrong, fmt.Errorf("%d runs read wrong data", r.wrong)}
	case r.bad > 0:
		return fmt.Errorf("%d of %d runs failed; %s has what they said (kvwire run --resume %s tries them again)", r.bad, len(r.folder.Runs), filepath.Join(r.folder.Dir, "run.log"), r.folder.Dir)
	}
	if missed := r.folder.MissedThresholds(found.Questions); len(missed) > 0 {
		return &exitError{exitMissed, fmt.Errorf("thresholds that were missed: %d\n  %s", len(missed), strings.Join(missed, "\n  "))}
	}
	return nil
}

// linkLatest points results/latest at a folder that lies in results.
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
	return os.Rename(part, link) // whoever looks finds a link, and of two runs that end at once either's
}
