package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
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
	f.set.StringVar(&f.ServerAt, "server-at", "", "host:port of a kvwire host on another machine, which starts the servers; default: this machine")
	f.launchFlags()
	factor.Group(f.set, hostsGroup, "server-at")
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
	read := func() (*experiment.Experiment, error) { return readExperiment(arg) }
	if g.resume != "" {
		read = func() (*experiment.Experiment, error) { return results.ReadExperiment(g.resume, resultsReader()) }
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
		return planner(x, settings, f.ServerAt).Forecast(stdout, temporaryParent(), g.dryRun)
	}
	if vm != "" {
		return runInGuest(vm, x, arg, f, g, settings)
	}
	return execute(ctx, x, f, arg, g, settings, len(claims))
}

// readExperiment reads the experiment that arg names and checks every cell as bench would, before anything runs.
func readExperiment(arg string) (*experiment.Experiment, error) {
	path, err := experiment.Find(arg)
	if err != nil {
		return nil, exit.With(exit.Usage, err)
	}
	return readExperimentAs(path, "")
}

// readExperimentAs is readExperiment for a file. name is the experiment's name if the text has none.
func readExperimentAs(path, name string) (*experiment.Experiment, error) {
	x, err := experiment.LoadAs(path, name, experimentFlags())
	if err != nil {
		return nil, exit.With(exit.Usage, err)
	}
	var cells []experiment.Cell
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
func experimentFlags() experiment.Flags {
	flags := experiment.Flags{}
	for _, name := range factor.All.Names(func(x *factor.Factor) bool { return x.Name != "stages" }) {
		flags[name] = experiment.Rule{OfTransport: factor.All.Find(name).BelongsTo("transport"), Parse: func(value string) (string, error) {
			f := newBenchFactors()
			if err := f.set.Set(name, value); err != nil {
				return "", factor.Reason(err)
			}
			return f.set.Lookup(name).Value.String(), f.checkValue()
		}}
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
func applicable(c experiment.Cell) experiment.Cell {
	defaults := factor.NewValues()
	get := factor.All.Get(&defaults)
	of := func(name string) string {
		if v, ok := c.Get(name); ok {
			return v
		}
		return get(name)
	}
	return slices.DeleteFunc(slices.Clone(c), func(f experiment.Flag) bool {
		x := factor.All.Find(f.Name)
		return x != nil && !x.Swept(of)
	})
}

// cellFactors are a cell's flags, checked against each other.
func cellFactors(c experiment.Cell) (*factors, error) {
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

// newExec starts the processes of an experiment, with servers from the kvwire host at; "": none.
func newExec(x *experiment.Experiment, at string) *fleet.Exec {
	return &fleet.Exec{Experiment: x, At: at, Describe: describe, Log: io.Discard}
}

// describe checks a cell's flags and describes it.
func describe(c experiment.Cell, e *fleet.Exec) (*fleet.Cell, error) {
	f, err := cellFactors(c)
	if err != nil {
		return nil, err
	}
	d := &fleet.Cell{Transport: f.Server.Transport, InProcess: f.InProcess(), Writes: f.Writes()}
	if !d.InProcess {
		f.ServerAt, f.Launch = e.At, e.Launchers
	}
	d.Facts = f.Facts()
	if set, ok := f.DataSet(); ok {
		d.DataSet, d.LoadArgs = set.Name(), set.LoadArgs
	}
	if f.Launch.Used() { // only the launched hosts know what works
		return d, nil
	}
	n, err := find(f.Server.Transport)
	if err != nil {
		return nil, err
	}
	if d.Missing = cmp.Or(f.LinkWorks(), n.works()); d.Missing == nil && f.ServerAt == "" {
		f.settleEngine()
		d.Missing = f.engineWorks()
	}
	return d, nil
}

// required is an error if a transport that the experiment requires does not work. With launchers only the launched hosts know, so the first run that needs it fails.
func required(x *experiment.Experiment, l *fleet.Launchers) error {
	if l.Used() {
		return nil
	}
	for _, name := range x.Require {
		n, err := find(name)
		if err == nil {
			err = n.works()
		}
		if err != nil {
			return exit.With(exit.Missing, fmt.Errorf("experiment %s requires a transport: %w", x.Name, err))
		}
	}
	return nil
}

// planner is a lab.Runner that only plans.
func planner(x *experiment.Experiment, settings lab.Settings, at string) *lab.Runner {
	return results.New("", x, lab.Plan{Settings: settings}, resultsReader()).Runner(newExec(x, at))
}

// execute makes or resumes an execution, runs it, and prints the results.
func execute(ctx context.Context, x *experiment.Experiment, f *factors, arg string, g *generationsFlags, settings lab.Settings, claims int) error {
	p := newExec(x, f.ServerAt)
	p.Launchers = f.Launch
	program := results.Program{GitRev: version, Env: othersEnvironment(), Check: func() error { return required(x, &p.Launchers) }, Failed: failed,
		Exec: func(plan *lab.Plan) lab.Exec { p.Launchers = fleet.Launchers(plan.Launch); return p },
		Data: dataFolder,
		Note: func(format string, a ...any) { fmt.Fprintf(os.Stderr, "kvwire: "+format+"\n", a...) }}
	var e *results.Execution
	var err error
	if g.resume == "" {
		e, err = results.Create(x, arg, f.outputDir, lab.Plan{Settings: settings, Launch: lab.Launchers(f.Launch), Primary: g.primary}, resultsReader(), program)
	} else {
		e, err = results.Resume(x, g.resume, resultsReader(), program)
	}
	if err != nil {
		return err
	}
	inputs = lab.Inputs{Dir: e.Dir, Copies: e.Plan.Inputs} // runs read the copies, which nobody changes meanwhile
	p.Dir, p.Log, p.Inputs = e.Dir, e.Log, inputs
	p.Data = lab.DataSets{Dir: dataFolder(&e.Plan), Keep: g.keepData, Copy: store.Copy}
	display := lab.NewDisplay(terminal.Stderr(), x, e.Log)
	e.Runner.Watcher = display
	err = e.Run(ctx)
	display.Clear()
	return errors.Join(err, finish(e, p, f.json, claims))
}

// othersEnvironment is this machine without GOMAXPROCS, which would be this process's, where other processes measure.
func othersEnvironment() report.Env {
	env := environment()
	env.GOMAXPROCS = 0
	return env
}

// dataFolder is the folder of an execution's data sets.
func dataFolder(plan *lab.Plan) string {
	return filepath.Join(temporaryParent(), fmt.Sprintf("%s%s-%x", fleet.TemporaryPrefix, plan.ID, plan.Seed))
}

// failedRun begins the reason of a run that failed, though it counted operations; one that read wrong data is not tried again.
var failedRun = fmt.Sprintf("exit status %d: ", exit.Failed)

// failed reports whether --resume measures a run again because it failed or was interrupted.
func failed(row *report.Row) bool {
	return row.SkippedReason == "" && !row.Ops.Known() || strings.Contains(row.InvalidReason, "interrupted") || strings.HasPrefix(row.InvalidReason, failedRun)
}

// finish writes and prints the results, and returns the error that sets the exit code.
func finish(e *results.Execution, p *fleet.Exec, asJSON bool, claims int) error {
	err := p.Data.Close()
	found, rows, ferr := e.Finish()
	err = errors.Join(err, ferr)
	if asJSON {
		_, werr := stdout.Write(rows)
		err = errors.Join(err, werr)
	} else {
		fmt.Fprint(stdout, fleet.GuestTitle(p.At != ""))
		err = errors.Join(err, e.Print(stdout, &found))
		if p.Data.Keep && p.Data.Made() {
			fmt.Fprintf(stdout, "%s: the stores of the runs (--keep-data; rm -r it when you are done)\n", p.Data.Dir)
		}
		if claims > 0 {
			fmt.Fprintf(stdout, "What others claimed of this (%d): kvwire verify-claims %s\n", claims, e.Dir)
		}
		fmt.Fprintln(stdout, e.ReportLine())
	}
	log := filepath.Join(e.Dir, results.RunLog)
	switch {
	case err != nil:
		return err
	case e.Cut:
		return fmt.Errorf("interrupted after %d of %d runs (kvwire run --resume %s goes on)", len(e.Rows), len(e.Runs), e.Dir)
	case p.Wrong.Load() > 0:
		return exit.With(exit.Wrong, fmt.Errorf("%d processes read wrong data: see %s", p.Wrong.Load(), log))
	case e.Failed() > 0:
		return fmt.Errorf("%d of %d runs failed: see %s (kvwire run --resume %s tries them again)", e.Failed(), len(e.Runs), log, e.Dir)
	}
	if missed := e.MissedThresholds(found.Questions); len(missed) > 0 {
		return exit.With(exit.Missed, fmt.Errorf("thresholds that were missed: %d\n  %s", len(missed), strings.Join(missed, "\n  ")))
	}
	return nil
}
