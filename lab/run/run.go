package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
	"github.com/spf13/pflag"
)

// Options are the flags of kvwire run.
type Options struct {
	lab.Choice
	Planned []string // the flags that are decided when a folder is made, as the user gave them: --NAME=VALUE

	Experiment string // a name, a folder or a file
	OutputDir  string // "": results/NAME-TIME
	Resume     string // a folder of results to continue; "": a new one
	VM         string // "": here; one: in a guest; two: in two, client and servers apart

	ServerAt string // the kvwire host that starts the servers; "": none
	Launch   fleet.Launchers
	Device   lab.Device

	DryRun, Estimate bool // print the plan, or the time that it takes, and run nothing
	Primary          bool // only questions with primary claims
	KeepData, JSON   bool
}

// Bind adds the flags of hosts and of RDMA's device.
func (o *Options) Bind(s *pflag.FlagSet) {
	s.StringVar(&o.ServerAt, "server-at", "", "host:port of a kvwire host on another machine, which starts the servers; default: this machine")
	o.Launch.Bind(s)
	factor.Group(s, fleet.HostsGroup, "server-at")
	for _, name := range lab.DeviceFlags {
		s.Func(name, "replaces the experiment's value in all cells over rdma; "+factor.All.Find(name).Help, func(value string) error {
			if o.Device == nil {
				o.Device = lab.Device{}
			}
			o.Device[name] = value
			return nil
		})
	}
}

// SetArguments sets the experiment from the arguments that are no flags.
func (o *Options) SetArguments(words []string) (err error) {
	if len(words) == 0 && o.Resume != "" {
		o.Experiment = filepath.Join(o.Resume, lab.ExperimentCopy)
		return nil
	}
	if o.VM == "one" && o.Resume == "" { // --vm alone, or --vm VALUE: a flag whose value may be left out does not include the next word
		if o.VM, words, err = splitVM(words); err != nil {
			return err
		}
	}
	if len(words) != 1 || o.Resume != "" {
		return exit.Usagef("run needs one experiment: a folder, a file, or a name under experiments/ (with --resume: none)")
	}
	o.Experiment = words[0]
	return nil
}

// check returns an error for flags that contradict each other.
func (o *Options) check() error {
	if o.Resume != "" && (o.VM != "" || o.OutputDir != "") {
		return exit.Usagef("--resume continues in its own folder: leave out --vm and --output-dir")
	}
	if err := o.checkLaunch(); err != nil {
		return err
	}
	for _, given := range o.Planned {
		if name, _, _ := strings.Cut(given, "="); o.Resume != "" && name != "--generations" {
			return exit.Usagef("--resume continues as planned when its folder was made: leave out %s (--generations can add some)", name)
		}
	}
	return nil
}

func (o *Options) checkLaunch() error {
	if o.ServerAt != "" {
		if err := factor.CheckHostPort("server-at", o.ServerAt, 1); err != nil {
			return exit.With(exit.Usage, err)
		}
	}
	if err := o.Launch.Check(); err != nil || !o.Launch.Used() {
		return err
	}
	switch {
	case o.Resume != "":
		return exit.Usagef("--resume continues with the launchers with which %s was begun: leave them out", o.Resume)
	case o.VM != "":
		return exit.Usagef("--vm has its processes in guests: leave --server-launch and --client-launch out")
	case o.ServerAt != "":
		return exit.Usagef("--server-at %s starts the servers: leave --server-launch and --client-launch out", o.ServerAt)
	}
	return nil
}

// Run reads an experiment, and forecasts or executes it. It prints the results to out.
func (p *Program) Run(ctx context.Context, o *Options, out io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	var x *experiment.Experiment
	var err error
	if o.Resume == "" {
		x, err = p.read(o.Experiment, o.Device)
	} else {
		x, err = results.ReadExperiment(o.Resume, p.Reader())
	}
	if err != nil {
		return err
	}
	settings, err := o.Settings(x)
	if err != nil {
		return err
	}
	claims, err := results.ReadClaims(o.Experiment, x, p.ExperimentFlags())
	if err != nil {
		return err
	}
	switch {
	case o.Primary && !x.OnlyPrimary():
		return exit.Usagef("--primary: %s names no primary claims: leave it out", x.Name)
	case o.DryRun || o.Estimate:
		return p.planner(x, settings, o.ServerAt).Forecast(out, p.Temporary(), o.DryRun)
	case o.VM != "":
		return p.runInGuest(x, o, settings)
	}
	return p.execute(ctx, x, o, settings, len(claims), out)
}

// execute makes or resumes an execution, runs it, and prints the results.
func (p *Program) execute(ctx context.Context, x *experiment.Experiment, o *Options, settings lab.Settings, claims int, out io.Writer) error {
	exec := p.NewExec(x, o.ServerAt)
	exec.Launchers = o.Launch
	program := results.Program{GitRev: p.Version, Env: p.OthersEnvironment(p.modelledLinks(x)...), Check: func() error { return p.checkRequired(x, &exec.Launchers) }, Failed: failed,
		Exec: func(plan *lab.Plan) lab.Exec { exec.Launchers = fleet.Launchers(plan.Launch); return exec },
		Data: p.dataFolder, Note: p.Note}
	var e *results.Execution
	var err error
	if o.Resume == "" {
		e, err = results.Create(x, o.Experiment, o.OutputDir, lab.Plan{Settings: settings, Launch: lab.Launchers(o.Launch), Primary: o.Primary, Device: o.Device}, p.Reader(), program)
	} else {
		e, err = results.Resume(x, o.Resume, o.Generations, p.Reader(), program)
	}
	if err != nil {
		return err
	}
	p.Inputs = lab.Inputs{Dir: e.Dir, Copies: e.Plan.Inputs} // runs read the copies, which do not change meanwhile
	exec.Dir, exec.Log, exec.Inputs = e.Dir, e.Log, p.Inputs
	exec.Data = lab.DataSets{Dir: p.dataFolder(&e.Plan), Keep: o.KeepData, Copy: store.Copy}
	display := lab.NewDisplay(terminal.Stderr(), x, e.Log)
	e.Runner.Watcher = display
	err = e.Run(ctx)
	display.Clear()
	return errors.Join(err, finish(e, exec, o.JSON, claims, out))
}

// checkRequired returns an error if a transport that the experiment requires does not work. With launchers only the launched hosts know, so the first run that needs
// it fails.
func (p *Program) checkRequired(x *experiment.Experiment, l *fleet.Launchers) error {
	if l.Used() {
		return nil
	}
	for _, name := range x.Require {
		n, err := p.Network(name)
		if err == nil {
			err = p.works(n, x)
		}
		if err != nil {
			return exit.With(exit.Missing, fmt.Errorf("experiment %s requires a transport: %w", x.Name, err))
		}
	}
	return nil
}

// works returns nil if a network works in a cell of the experiment: over rdma it depends on the device.
func (p *Program) works(n *server.Network, x *experiment.Experiment) error {
	err := fmt.Errorf("transport %s: no cell has it", n.Name) // the reader of experiments has checked that one has
	for _, c := range x.Cells {
		if f, _, cerr := p.Cell(c); cerr == nil && f.Server.Transport == n.Name {
			if err = n.Works(&f.Values); err == nil {
				break
			}
		}
	}
	return err
}

// dataFolder is the folder of an execution's data sets.
func (p *Program) dataFolder(plan *lab.Plan) string {
	return filepath.Join(p.Temporary(), fmt.Sprintf("%s%s-%x", server.TemporaryPrefix, plan.ID, plan.Seed))
}

// failedRun begins the reason of a run that failed, though it counted operations; one that read wrong data is not tried again.
var failedRun = fmt.Sprintf("exit status %d: ", exit.Failed)

// failed reports whether --resume measures a run again because it failed or was interrupted.
func failed(row *report.Row) bool {
	return row.SkippedReason == "" && !row.Ops.Known() || strings.Contains(row.InvalidReason, "interrupted") || strings.HasPrefix(row.InvalidReason, failedRun)
}

// finish writes and prints the results, and returns the error that sets the exit code.
func finish(e *results.Execution, exec *fleet.Exec, asJSON bool, claims int, out io.Writer) error {
	err := exec.Data.Close()
	found, rows, ferr := e.Finish()
	err = errors.Join(err, ferr)
	if asJSON {
		_, werr := out.Write(rows)
		err = errors.Join(err, werr)
	} else {
		fmt.Fprint(out, fleet.GuestTitle(exec.At != ""))
		err = errors.Join(err, e.Print(out, &found))
		if exec.Data.Keep && exec.Data.Made() {
			fmt.Fprintf(out, "%s: the stores of the runs (--keep-data; rm -r it when you are done)\n", exec.Data.Dir)
		}
		if claims > 0 {
			fmt.Fprintf(out, "What others claimed of this (%d): kvwire verify-claims %s\n", claims, e.Dir)
		}
		fmt.Fprintln(out, e.ReportLine())
	}
	log := filepath.Join(e.Dir, results.RunLog)
	switch {
	case err != nil:
		return err
	case e.Cut:
		return fmt.Errorf("interrupted after %d of %d runs (kvwire run --resume %s continues)", len(e.Rows), len(e.Runs), e.Dir)
	case exec.Wrong.Load() > 0:
		return exit.With(exit.Wrong, fmt.Errorf("%d processes read wrong data: see %s", exec.Wrong.Load(), log))
	case e.Failed() > 0:
		return fmt.Errorf("%d of %d runs failed: see %s (kvwire run --resume %s tries them again)", e.Failed(), len(e.Runs), log, e.Dir)
	}
	if missed := e.MissedThresholds(found.Questions); len(missed) > 0 {
		return exit.With(exit.Missed, fmt.Errorf("missed thresholds: %d\n  %s", len(missed), strings.Join(missed, "\n  ")))
	}
	return nil
}
