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

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
	"github.com/spf13/pflag"
)

const runHelp = `Examples:
  kvwire run experiments/quick
  kvwire run quick --output-dir results/mine
  kvwire run network-overhead --dry-run         (the runs, and how long they take)
  kvwire run network-overhead --quick           (3 blocks: no verdicts)
  kvwire run --resume results/network-overhead-20261121-100000
  kvwire run --vm quick-rdma      (in a guest with soft-RoCE, where this machine has no RDMA)

Runs every cell of an experiment in fresh processes, once in each block (in an order of its own; the baseline of each question
twice, to be compared with itself), and leaves runs.csv, runs.json, compare.csv, timeseries.csv, hdr/, env.json and run.log in
results/NAME-TIME (and results/latest). A transport that does not work here is a row with its reason.
The first ^C finishes the run and writes what there is; --resume goes on from there.

With --vm the whole experiment runs in a guest that test/vm/vm.sh boots (kvm where it works, else emulation: the
column accel says which). Its rows compare with each other, never with those of another machine. With --vm=two,
client and servers are in two guests on one wire; on 2 CPUs without kvm that shows that things work, and not how
fast. Exit codes of its own: 124 it took too long, 125 no guest can be had here, 130 ended by the second ^C.`

func runCommand(ctx context.Context, args []string) error {
	f := newFactors("run", runHelp)
	f.set.StringVar(&f.outputDir, "output-dir", "", "the folder for the results; default: results/NAME-TIME")
	f.set.BoolVar(&f.json, "json", false, "print the rows as JSON")
	f.set.StringVar(&f.serverAt, "server-at", "", "host:port of a kvwire host on another machine, where the servers are started; default: here")
	var arg, vm string
	vmFlag(f, &vm)
	var b blocksFlags
	b.add(f.set)
	if err := f.parse(args, func(rest []string) error {
		if len(rest) == 0 && b.resume != "" {
			arg = filepath.Join(b.resume, experimentCopy)
			return nil
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
	x, err := readExperiment(arg)
	if err != nil {
		return err
	}
	if b.of(x) < 0 {
		return usagef("choose one of --quick, --paper and --blocks (1 to %d)", experiments.MaxBlocks)
	}
	if b.dryRun {
		return dryRun(os.Stdout, x, b.of(x))
	}
	if vm != "" {
		return runInGuest(vm, x, arg, f, b)
	}
	r, err := newRunner(x, f, arg, b)
	if err != nil {
		return err
	}
	err = r.run(ctx)
	return errors.Join(err, r.finish())
}

// readExperiment reads the file and checks every cell as bench would, before anything runs.
func readExperiment(arg string) (*experiments.Experiment, error) {
	path, err := experiments.Find(arg)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	flags := experiments.Flags{}
	newBenchFactors().set.VisitAll(func(g *pflag.Flag) {
		if !slices.Contains([]string{"json", "target", "server-at", "output-dir", "record-dir", "run-id"}, g.Name) {
			flags[g.Name] = func(value string) error {
				f := newBenchFactors()
				if err := f.set.Set(g.Name, value); err != nil {
					return err
				}
				return f.checkNames()
			}
		}
	})
	x, err := experiments.Load(path, flags)
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
	x.Cells = cells
	if err := checkClaims(path, x); err != nil {
		return nil, err
	}
	return x, checkThresholds(x)
}

func newBenchFactors() *factors {
	f := newFactors("bench", benchHelp)
	f.serverFlags()
	f.loadFlags()
	f.benchFlags()
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
		if slices.Contains(diskFlags, f.Name) && (is("backend", "null") || is("backend", "mem")) {
			return true
		}
		switch f.Name {
		case "cache-bytes", "update":
			return is("backend", "raw")
		case "raw-bytes":
			return !is("backend", "raw")
		case "iopoll":
			return engine != store.EngineUring
		case "disk-wait":
			return engine != store.EngineUring || is("wait", "spin")
		case "disk-wait-max":
			return engine != store.EngineUring || is("wait", "spin") || is("disk-wait", "1")
		case "taskrun":
			return engine != store.EngineUring || is("sqpoll", "true")
		case "sqpoll", "fixed-buffers", "fixed-files":
			return !store.NeedsRing(engine)
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
		return rdmaOnly(f.Name) && !is("transport", "rdma")
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
	x     *experiments.Experiment
	json  bool
	at    string // --server-at
	plan  plan
	dir   string
	runs  []experiments.Run // all that are to be
	csv   *os.File
	w     *report.Writer // of csv
	log   *os.File
	rows  map[string]report.Row // by run
	done  int                   // by this process
	begun time.Time
	wrong int // runs with wrong data
	bad   int // runs that failed
	cut   bool
}

func newRunner(x *experiments.Experiment, f *factors, path string, b blocksFlags) (*runner, error) {
	r := &runner{x: x, json: f.json, at: f.serverAt, begun: time.Now(), dir: f.outputDir, rows: map[string]report.Row{}}
	for _, name := range x.Require {
		n, err := find(name)
		if err == nil {
			err = n.works()
		}
		if err != nil {
			return nil, &exitError{exitMissing, fmt.Errorf("experiment %s requires a transport: %w", x.Name, err)}
		}
	}
	var err error
	if b.resume != "" {
		err = r.resume(b.resume)
	} else {
		err = r.create(path, b)
	}
	if err != nil {
		return nil, err
	}
	name := filepath.Join(r.dir, "runs.csv")
	if err := writeRows(name, r.inOrder()); err != nil {
		return nil, err
	}
	if r.csv, err = os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return nil, err
	}
	r.w = report.AppendTo(r.csv)
	if r.log, err = os.OpenFile(filepath.Join(r.dir, "run.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
		return nil, err
	}
	env := environment()
	env.GOMAXPROCS = 0 // of this process, and not of those that measure
	return r, env.WriteFile(r.dir)
}

// run does the runs that are not there yet, in the order of the design.
func (r *runner) run(ctx context.Context) error {
	// A child dies with this thread (Pdeathsig), so the thread must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() { r.cut = ctx.Err() != nil }()
	for i, run := range r.runs {
		id := r.plan.runID(run)
		if _, there := r.rows[id]; there {
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		row, err := r.cell(ctx, i, run)
		if err != nil {
			return err
		}
		row.ExpID, row.RunID, row.Phase = r.x.Name, id, "measure"
		if run.AA {
			row.Phase = "aa"
		}
		row.Block, row.OrderInBlock = report.I(run.Block), report.I(run.Order)
		r.rows[id] = *row
		r.done++
		if err := r.w.Append(*row); err != nil {
			return err
		}
	}
	return nil
}

// cell gives the row of one cell: measured, or with the reason why not.
func (r *runner) cell(ctx context.Context, i int, run experiments.Run) (*report.Row, error) {
	c := r.x.Cells[run.Cell]
	f, err := cellFactors(c)
	if err != nil {
		return nil, err
	}
	if f.transport != "inproc" {
		f.serverAt = r.at
	}
	label := fmt.Sprintf("[%d/%d] %s %s %s %s", i+1, len(r.runs), report.Network(f.row()), f.backend, f.mix, f.valueBytes.String())
	if f.backend == store.Raw.String() {
		label += fmt.Sprintf(" %s depth %d", f.diskEngine, f.depth)
	}
	n, err := find(f.transport)
	if err != nil {
		return nil, err
	}
	err = n.works()
	if err == nil && f.serverAt == "" {
		f.settleEngine()
		err = f.engineWorks()
	}
	if err != nil {
		why := err.Error()
		for _, o := range r.rows {
			if o.SkippedReason == err.Error() {
				why = "as above"
			}
		}
		fmt.Fprintf(os.Stderr, "%s: skipped: %s\n", label, why)
		row := f.row()
		row.SkippedReason = err.Error()
		return row, nil
	}
	row, err := r.bench(ctx, label, f.serverAt, run)
	if err == nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", label, summary(row))
		return row, nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitWrong {
		r.wrong++
	} else {
		r.bad++
	}
	fmt.Fprintf(os.Stderr, "%s: failed: %v\n", label, err)
	if row == nil {
		row = f.row()
	}
	row.Valid, row.InvalidReason = report.B(false), strings.ReplaceAll(err.Error(), "\n", "; ")
	return row, nil
}

// bench runs kvwire bench for a cell.
func (r *runner) bench(ctx context.Context, label, at string, run experiments.Run) (*report.Row, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := append([]string{"bench", "--json", "--record-dir=" + r.dir, "--run-id=" + r.plan.runID(run)}, r.x.Cells[run.Cell].Args()...)
	if at != "" {
		args = append(args, "--server-at="+at)
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
	last := r.watch(label, said)
	err = cmd.Wait()
	if err != nil && last != "" {
		err = fmt.Errorf("%w: %s", err, strings.TrimPrefix(last, "kvwire: "))
	}
	if out.Len() == 0 {
		return nil, err
	}
	row := new(report.Row)
	if jerr := json.Unmarshal(out.Bytes(), row); jerr != nil {
		return nil, errors.Join(err, jerr)
	}
	return row, err
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
func (r *runner) watch(label string, said io.Reader) (last string) {
	p := newProgress("")
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(said); s.Scan(); {
			lines <- s.Text()
		}
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer p.clear()
	begun := time.Now()
	for {
		p.line("%s … %v%s", label, time.Since(begun).Round(time.Second), r.left())
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

// left estimates the rest from the runs that are done.
func (r *runner) left() string {
	if r.done == 0 {
		return ""
	}
	per := time.Since(r.begun) / time.Duration(r.done)
	return fmt.Sprintf(", about %v left", (per * time.Duration(len(r.runs)-len(r.rows))).Round(time.Second))
}

// finish closes the files, prints the tables, and says how it went.
func (r *runner) finish() error {
	rows := r.inOrder()
	all, err := json.MarshalIndent(rows, "", " ")
	err = errors.Join(err, r.csv.Close(), r.log.Close(), os.WriteFile(filepath.Join(r.dir, "runs.json"), append(all, '\n'), 0o644), r.latest())
	compared, cerr := r.compare()
	answers, aerr := r.answers()
	err = errors.Join(err, cerr, aerr)
	if err == nil {
		err = r.page(answers, compared)
	}
	if r.json {
		_, werr := fmt.Printf("%s\n", all)
		err = errors.Join(err, werr)
	} else {
		fmt.Print(guestTitle(r.at != ""))
		var table []report.Row
		for _, a := range answers {
			table = append(table, a.rows...)
		}
		err = errors.Join(err, report.PrintTable(os.Stdout, table), r.printVerdicts(os.Stdout, compared))
		files := "report.html, runs.csv, runs.json, timeseries.csv, hdr/, charts/, bench.txt, env.json, run.log"
		if len(compared) > 0 {
			files = "compare.csv, " + files
		}
		fmt.Printf("\n%s: %s (%v)\n", r.dir, files, time.Since(r.begun).Round(time.Second))
	}
	switch {
	case err != nil:
		return err
	case r.cut:
		return fmt.Errorf("interrupted after %d of %d runs (kvwire run --resume %s goes on)", len(r.rows), len(r.runs), r.dir)
	case r.wrong > 0:
		return &exitError{exitWrong, fmt.Errorf("%d runs read wrong data", r.wrong)}
	case r.bad > 0:
		return fmt.Errorf("%d of %d runs failed; %s has what they said (kvwire run --resume %s tries them again)", r.bad, len(r.runs), filepath.Join(r.dir, "run.log"), r.dir)
	}
	if missed := r.missed(answers); len(missed) > 0 {
		return &exitError{exitMissed, fmt.Errorf("thresholds that were missed: %d\n  %s", len(missed), strings.Join(missed, "\n  "))}
	}
	return nil
}

// latest points results/latest at this folder, when it lies in results.
func (r *runner) latest() error {
	parent, name := filepath.Split(filepath.Clean(r.dir))
	if filepath.Clean(parent) != "results" {
		return nil
	}
	link := filepath.Join(parent, "latest")
	if st, err := os.Lstat(link); err == nil && st.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("%s is not a link and was left alone", link)
	}
	_ = os.Remove(link)
	return os.Symlink(name, link)
}
