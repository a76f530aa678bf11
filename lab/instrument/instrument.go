// Package instrument owns kvwire instrument: small trials whose true ratios are known, the agreement with
// redis-benchmark, and the page with the figures. It may import lab, lab/experiment, lab/stats, report and internal
// packages; never cmd, no transport, no store: Program starts the processes.
package instrument

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// Options select what is measured. A number of trials may be 0: then there are none of that kind.
type Options struct {
	Experiments, Injected            int
	Generations, InjectedGenerations int // of each trial; 0: report.MinPairs, and lab.DefaultGenerations
	Pairs, Whole                     int
	Slice                            time.Duration // lab.SliceMin or more
	Time                             time.Duration // for a generation; 0: as short as possible
	Load                             bool          // with a competing load
	Wait                             string        // spin or block: of the loops, in trials with known costs
	Dir                              string        // for the results
}

// Check returns a usage error for invalid options, and fills in defaults.
func (o *Options) Check() error {
	if o.Slice < lab.SliceMin {
		return exit.Usagef("--slice %v: %v at least", o.Slice, lab.SliceMin)
	}
	if o.Wait != "spin" && o.Wait != "block" {
		return exit.Usagef("--wait %q: spin or block", o.Wait)
	}
	if o.Generations == 0 {
		o.Generations = report.MinPairs
	}
	if o.InjectedGenerations == 0 {
		o.InjectedGenerations = lab.DefaultGenerations
	}
	return nil
}

// Program is the program that is tested. One goroutine calls its functions.
type Program struct {
	Command  string // its command line
	Revision string
	Env      report.Env
	BusyCPUs *float64 // busy with other processes before the start; nil: not known
	Scratch  string   // a folder for the files that variants write; nothing reads them

	Exec         func(x *experiment.Experiment) lab.Exec // makes the processes of a study, which record in Scratch
	NullBusyCost func(d time.Duration) time.Duration     // measures the CPU time that --null-busy=d takes

	// Serve starts a server for the agreement and returns its address, and the CPUs for its clients. The caller calls stop.
	Serve func(ctx context.Context) (addr, clientCPUs string, stop func() error, err error)
	// Run runs a command of the program, and returns its standard output.
	Run func(ctx context.Context, name string, args []string) ([]byte, error)
}

// test is one execution of the command with its results so far. It belongs to one goroutine.
type test struct {
	Options
	Program
	show  *progress
	found result
}

// Known costs that are injected.
var injectedShares = []float64{0.05, 0.10} // of the server's CPU time for a request

const injectedDelay = 5 * time.Microsecond

const studyWarmup = 20 * time.Millisecond

// studyCell is the cell of a study: a get of 64 B over tcp with backend null. more has further flags, such as a known cost.
func studyCell(conns, depth int, more ...experiment.Flag) experiment.Cell {
	return append(experiment.Cell{{Name: "transport", Value: "tcp"}, {Name: "backend", Value: "null"}, {Name: "value-bytes", Value: "64"}, {Name: "records", Value: "1000"},
		{Name: "conns", Value: strconv.Itoa(conns)}, {Name: "depth", Value: strconv.Itoa(depth)}, {Name: "warmup", Value: studyWarmup.String()}}, more...)
}

// Run measures all parts, writes the results into o.Dir and the page to out, and shows its progress on line. If a coverage disagrees with the theory, it
// ends with the exit code Missed. The end of ctx is no error: then there are the complete trials. Options must have been checked.
func Run(ctx context.Context, o Options, p Program, out io.Writer, line *terminal.Line) error {
	i := &test{Options: o, Program: p}
	// Children of the agreement die with this thread (Pdeathsig), so the thread must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begun := time.Now()
	i.found = result{Command: i.Command, Began: begun.UTC().Format(time.RFC3339), Revision: i.Revision, Env: i.Env, BusyCPUs: i.BusyCPUs, SliceNs: i.Slice.Nanoseconds(), TimeNs: i.Time.Nanoseconds(),
		WarmupNs: studyWarmup.Nanoseconds()}
	i.show = newProgress(line, i.planned(), i.agreementTime()+lab.WholeTime(i.Whole))
	err := i.parts(ctx)
	line.Clear()
	i.found.Seconds, i.found.Interrupted = time.Since(begun).Seconds(), ctx.Err() != nil
	if err != nil {
		i.found.Failed = err.Error()
	}
	if werr := i.found.write(i.Dir); werr != nil {
		return errors.Join(err, werr)
	}
	if _, werr := io.WriteString(out, i.found.text()); werr != nil {
		return errors.Join(err, werr)
	}
	if wrong := i.found.disagreements(); err == nil && ctx.Err() == nil && len(wrong) > 0 {
		err = exit.With(exit.Missed, fmt.Errorf("the coverage of %s disagrees with the theory: see %s/%s", strings.Join(wrong, ", "), i.Dir, pageFile))
	}
	return err
}

// parts measures the parts that the flags ask for. With an error too, found has the complete trials.
func (i *test) parts(ctx context.Context) error {
	if i.Experiments > 0 && ctx.Err() == nil {
		if err := i.aa(ctx); err != nil {
			return fmt.Errorf("A/A: %w", err)
		}
	}
	if i.Whole > 0 && ctx.Err() == nil {
		if err := i.compareWhole(ctx); err != nil {
			return fmt.Errorf("slices and uninterrupted load: %w", err)
		}
	}
	for _, load := range []bool{false, true} {
		if i.Injected == 0 || load && !i.Load || ctx.Err() != nil {
			break
		}
		if err := i.inject(ctx, load); err != nil {
			return fmt.Errorf("known costs: %w", err)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	if i.agreementMissing() == "" {
		i.show.begin("agreement with redis-benchmark", 0)
	}
	var err error
	if i.found.Agreement, err = i.agreement(ctx); err != nil {
		return fmt.Errorf("agreement with redis-benchmark: %w", err)
	}
	return nil
}

// aaGenerations is how many generations the A/A trials have: some share one.
func (i *test) aaGenerations() int {
	return (i.Experiments + lab.PairsTogether - 1) / lab.PairsTogether * i.Generations
}

// planned is the number of generations of all parts but Whole.
func (i *test) planned() (n int) {
	n = i.aaGenerations()
	if i.Injected > 0 {
		each := i.InjectedGenerations * (i.Injected + 1) // one more, to measure beforehand what a request takes
		if n += each; i.Load {
			n += each
		}
	}
	return n
}

// compete starts the competing load if load is true. The returned function ends it.
func compete(load bool) (stop func()) {
	if !load {
		return func() {}
	}
	return lab.Compete(uint64(time.Now().UnixNano()))
}

// study makes a study of some cells.
func (i *test) study(id string, generations int, cells ...experiment.Cell) *lab.Study {
	x := &experiment.Experiment{Name: "instrument", Cells: cells}
	r := &lab.Runner{Experiment: x, Exec: i.Exec(x), Keeper: &forgetful{dir: i.Scratch}, Watcher: i.show,
		Settings: lab.Settings{Generations: generations, Seed: uint64(time.Now().UnixNano()), Slice: i.Slice},
		Labels: func(q experiment.Question) (string, []string) {
			return id, make([]string, len(q.Cells)) // the study names its variants itself
		}}
	return &lab.Study{Runner: r, Generations: generations, Time: max(i.Time, 1), ID: id, Show: func(int) { i.show.step() }}
}

// aa compares a cell with itself.
func (i *test) aa(ctx context.Context) error {
	s := i.study("aa", i.Generations, studyCell(4, 16))
	i.show.begin("A/A"+besideLoad(i.Load), i.aaGenerations())
	defer compete(i.Load)()
	trials, err := s.AA(ctx, 0, i.Experiments)
	i.found.AA = &studyResult{Load: i.Load, Asked: i.Experiments, Generations: i.Generations, Conns: 4, Depth: 16, Coverage: lab.Coverages(trials), trials: trials}
	return err
}

// compareWhole compares slices of a process with uninterrupted pieces of load on it, without a competing load.
func (i *test) compareWhole(ctx context.Context) error {
	s := i.study("whole", 1, studyCell(4, 16))
	s.Runner.Slice = lab.DefaultSlice
	i.show.begin("slices and uninterrupted load", i.Whole)
	s.Show = nil // these are no generations of the plan
	trials, err := s.Whole(ctx, 0, i.Whole)
	i.show.rest -= lab.WholeTime(i.Whole)
	i.found.Whole = &studyResult{Asked: i.Whole, Conns: 4, Depth: 16, trials: trials}
	return err
}

// inject compares variants that have known costs with their baseline. A cost in CPU time is a share of the baseline's server CPU time, which is measured
// beforehand. The baseline and all variants answer injectedDelay later than the store would; the variant with a known delay answers 2*injectedDelay later.
// So the cost of the timer is in the baseline, too.
func (i *test) inject(ctx context.Context, load bool) error {
	cell := func(delay, busy time.Duration) experiment.Cell {
		return studyCell(1, 1, experiment.Flag{Name: "wait", Value: i.Wait}, experiment.Flag{Name: "null-delay", Value: delay.String()}, experiment.Flag{Name: "null-busy", Value: busy.String()})
	}
	cells := []experiment.Cell{cell(injectedDelay, 0)}
	alone := i.study("alone", i.InjectedGenerations, cells...)
	i.show.begin("known costs"+besideLoad(load), i.InjectedGenerations*(i.Injected+1))
	defer compete(load)()
	rows, err := alone.Alone(ctx, 0)
	if err != nil || len(rows) == 0 {
		return err
	}
	r := studyResult{Load: load, Asked: i.Injected, Generations: i.InjectedGenerations, Conns: 1, Depth: 1, Wait: i.Wait}
	if r.ServerNs, err = serverCPU(rows); err != nil {
		return err
	}
	var known []lab.Known
	for _, share := range injectedShares {
		c := costOf(share, r.ServerNs, i.NullBusyCost)
		r.Costs = append(r.Costs, c)
		cells = append(cells, cell(injectedDelay, time.Duration(c.BusyNs)))
		cpu := more("cpu_ns_per_op", float64(c.CostNs))
		if i.Wait == "spin" { // both sides use their CPUs for as long as a request takes, so CPU time grows as latency does
			cpu = more("lat_p50_ns", float64(c.CostNs))
			known = append(known, lab.Known{Label: c.Label, Cell: len(cells) - 1, Metric: "lat_p50_ns", Expected: cpu})
		}
		known = append(known, lab.Known{Label: c.Label, Cell: len(cells) - 1, Metric: "cpu_ns_per_op", Expected: cpu})
	}
	cells = append(cells, cell(2*injectedDelay, 0))
	known = append(known, lab.Known{Label: "delay of " + injectedDelay.String(), Cell: len(cells) - 1, Metric: "lat_p50_ns", Expected: more("lat_p50_ns", float64(injectedDelay))})
	s := i.study("injected", i.InjectedGenerations, cells...)
	trials, err := s.Inject(ctx, 0, known, i.Injected)
	r.Injected, r.Coverage, r.trials = lab.Injections(trials, known), lab.Controls(trials), trials
	if len(trials) > 0 {
		i.found.Injected = append(i.found.Injected, r)
	}
	return err
}

// serverCPU is the median over the rows of the server's CPU time per request, in ns.
func serverCPU(rows []*report.Row) (float64, error) {
	var all []float64
	for _, row := range rows {
		user, ok := row.ServerUserNsPerOp.Get()
		sys, ok2 := row.ServerSysNsPerOp.Get()
		if ok && ok2 {
			all = append(all, user+sys)
		}
	}
	if len(all) == 0 {
		return 0, errors.New("the server's CPU time is not known")
	}
	return middle(all), nil
}

// more returns the expected ratio of a variant that costs so much more than the baseline: (v + cost) / v, where v is the baseline's value.
func more(metric string, cost float64) func(baseline *report.Row) float64 {
	m, err := report.FindMetric(metric)
	if err != nil {
		panic(err) // our own metric's name is wrong
	}
	return func(baseline *report.Row) float64 {
		v, ok := m.Of(baseline).Get()
		if !ok || v <= 0 {
			return math.NaN()
		}
		return (v + cost) / v
	}
}

// costOf is a known cost: a share of the server's CPU time per request. --null-busy takes somewhat more than its value, so its real cost is measured
// and the value reduced.
func costOf(share, serverNs float64, nullBusyCost func(time.Duration) time.Duration) injectedCost {
	want := time.Duration(share * serverNs)
	d := max(1, want)
	for range 3 {
		d = max(1, d-(nullBusyCost(d)-want))
	}
	return injectedCost{Label: fmt.Sprintf("%.0f %% more CPU time of the server", 100*share), Share: share, BusyNs: int64(d), CostNs: int64(nullBusyCost(d))}
}

func besideLoad(load bool) string {
	if load {
		return " with a competing load"
	}
	return ""
}

// forgetful is a lab.Keeper that keeps nothing, because a study evaluates its rows at once.
type forgetful struct{ dir string }

var _ lab.Keeper = (*forgetful)(nil)

// Has implements lab.Keeper.
func (*forgetful) Has(string) bool { return false }

// RecordID implements lab.Keeper.
func (*forgetful) RecordID(id string) string { return id }

// Kept implements lab.Keeper.
func (*forgetful) Kept(_, _ []string) bool { return false }

// Keep implements lab.Keeper.
func (*forgetful) Keep([]*report.Row, []report.Slice) error { return nil }

// Forget implements lab.Keeper.
func (k *forgetful) Forget(ids []string) error {
	return report.Forget(k.dir, func(run string) bool { return !slices.Contains(ids, run) })
}

// Narrow implements lab.Keeper.
func (*forgetful) Narrow(int, int, float64) (bool, error) { return false, nil }
