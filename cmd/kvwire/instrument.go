package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
)

const instrumentHelp = `Examples:
  kvwire instrument
  kvwire instrument --output-dir results/instrument
  kvwire instrument --experiments 30 --injected 3 --whole 1 --pairs 2   (some minutes: a trial)
  kvwire instrument --experiments 0 --injected 0 --whole 0              (only the agreement with redis-benchmark)
  kvwire instrument --injected 0 --whole 0 --pairs 0 --load=false       (only A/A, without a competing load)

Tests how far the results of kvwire run can be trusted. It measures small experiments whose answers are known beforehand, with the same
processes, slices and statistics.
  A/A        compares two processes of one cell, with a competing load. The share of intervals that contain 1 must agree with the theory.
  injected   the server of one variant takes 5 % or 10 % more CPU time for each request (--null-busy), or answers 5 µs later (--null-delay).
             How often is this found, and how exact is the estimate? Measured without and with a competing load. Loops spin here: sleeping
             and waking cost more the longer a thread sleeps, and this cost would be in the ratio.
  whole      compares slices of 50 ms with pieces of a second that nothing interrupts. Both are of the same process, and a second process
             alternates with it in the slices. The alternation must cost nothing.
  agreement  redis-benchmark and kvwire bench make the same load on the same server, alternately.

Writes instrument.md (the tables and the method), instrument.json (its figures) and instrument.csv (the interval of each experiment). It takes
about 40 minutes. The first ^C ends it; complete experiments are written. Exit code 6: all is complete, and a coverage disagrees with the
theory. A right instrument fails by chance, too: for each of the four metrics in at most one of 20 runs.`

// instrument has the command's flags and the results so far. It belongs to one goroutine.
type instrument struct {
	experiments, injected            int
	generations, injectedGenerations int
	pairs, whole                     int
	slice, time                      time.Duration
	load                             bool
	wait                             string // of the loops, in experiments with known costs
	dir                              string

	scratch string // a folder for the files that variants write; nothing reads them
	show    *studyProgress
	found   instrumentResult
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

func instrumentCommand(ctx context.Context, args []string) (err error) {
	f := newFactors("instrument", instrumentHelp)
	i := &instrument{}
	s := f.set
	s.IntVar(&i.experiments, "experiments", 400, "number of A/A experiments; 0: none")
	s.IntVar(&i.injected, "injected", 24, "number of experiments with known costs, without a competing load, and as many with one; 0: none")
	s.IntVar(&i.generations, "generations", 6, "generations of each A/A experiment; 0: 6, the fewest with a 95 % interval")
	s.IntVar(&i.injectedGenerations, "injected-generations", lab.DefaultGenerations, "generations of each experiment with known costs")
	s.IntVar(&i.pairs, "pairs", 12, "pairs of runs, one by redis-benchmark and one by kvwire bench, for each of two loads; 0: none")
	s.IntVar(&i.whole, "whole", 12, "generations in which 10 s of load in slices are compared with 10 s in pieces of a second; 0: none")
	s.DurationVar(&i.slice, "slice", 25*time.Millisecond, "load on one process at a time; the first tenth is not counted (in the part whole a slice is always 50ms)")
	s.DurationVar(&i.time, "time", 0, "time for a generation, including the start of its processes; 0: as short as possible, 4 slices of each process")
	s.StringVar(&i.wait, "wait", "spin", "wait policy in the experiments with known costs: spin, or block (a thread that sleeps longer also costs more to wake, so more than the known cost is found)")
	s.BoolVar(&i.load, "load", true, "run a competing load: one thread that takes CPU time, on and off for 20 to 300 ms at a time")
	s.StringVar(&i.dir, "output-dir", "docs/results", "the folder for instrument.md, instrument.json and instrument.csv, which are replaced")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	if i.slice < lab.SliceMin {
		return usagef("--slice %v: %v at least", i.slice, lab.SliceMin)
	}
	if i.wait != "spin" && i.wait != "block" {
		return usagef("--wait %q: spin or block", i.wait)
	}
	if i.generations == 0 {
		i.generations = report.MinPairs
	}
	if i.injectedGenerations == 0 {
		i.injectedGenerations = lab.DefaultGenerations
	}
	if err := os.MkdirAll(i.dir, 0o755); err != nil {
		return fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
	}
	if i.scratch, err = os.MkdirTemp("", temporaryName); err != nil {
		return err
	}
	atExit(func() { _ = os.RemoveAll(i.scratch) })
	defer func() { err = errors.Join(err, os.RemoveAll(i.scratch)) }()
	return i.run(ctx)
}

// run measures all parts, writes the results, and returns an error if a coverage disagrees with the theory.
func (i *instrument) run(ctx context.Context) error {
	// Children of the agreement die with this thread (Pdeathsig), so the thread must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begun := time.Now()
	env := environment()
	env.GOMAXPROCS = 0 // it would be this process's, and other processes measure
	i.found = instrumentResult{Command: "kvwire " + strings.Join(os.Args[1:], " "), Began: begun.UTC().Format(time.RFC3339), Revision: version, Env: env, SliceNs: i.slice.Nanoseconds(),
		TimeNs: i.time.Nanoseconds(), WarmupNs: studyWarmup.Nanoseconds()}
	if busy, err := bench.IdleBusy(ctx, idleLook); err == nil {
		i.found.BusyCPUs = &busy
	}
	i.show = newStudyProgress(i.planned(), i.agreementTime()+lab.WholeTime(i.whole))
	err := i.parts(ctx)
	i.show.clear()
	i.found.Seconds, i.found.Interrupted = time.Since(begun).Seconds(), ctx.Err() != nil
	if err != nil {
		i.found.Failed = err.Error()
	}
	if werr := i.found.write(i.dir); werr != nil {
		return errors.Join(err, werr)
	}
	if _, werr := io.WriteString(stdout, i.found.text()); werr != nil {
		return errors.Join(err, werr)
	}
	if wrong := i.found.disagreements(); err == nil && ctx.Err() == nil && len(wrong) > 0 {
		err = &exitError{exitMissed, fmt.Errorf("the coverage of %s disagrees with the theory: see %s/%s", strings.Join(wrong, ", "), i.dir, instrumentPage)}
	}
	return err
}

// parts measures the parts that the flags ask for. With an error too, found has the complete experiments.
func (i *instrument) parts(ctx context.Context) error {
	if i.experiments > 0 && ctx.Err() == nil {
		if err := i.aa(ctx); err != nil {
			return fmt.Errorf("A/A: %w", err)
		}
	}
	if i.whole > 0 && ctx.Err() == nil {
		if err := i.compareWhole(ctx); err != nil {
			return fmt.Errorf("slices and uninterrupted load: %w", err)
		}
	}
	for _, load := range []bool{false, true} {
		if i.injected == 0 || load && !i.load || ctx.Err() != nil {
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

// aaGenerations is how many generations the A/A experiments have: some share one.
func (i *instrument) aaGenerations() int {
	return (i.experiments + lab.PairsTogether - 1) / lab.PairsTogether * i.generations
}

// planned is the number of generations of all parts but Whole.
func (i *instrument) planned() (n int) {
	n = i.aaGenerations()
	if i.injected > 0 {
		each := i.injectedGenerations * (i.injected + 1) // one more, to measure beforehand what a request takes
		if n += each; i.load {
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
func (i *instrument) study(id string, generations int, cells ...experiment.Cell) (*lab.Study, error) {
	x := &experiment.Experiment{Name: "instrument", Cells: cells}
	exec := &processes{x: x, dir: i.scratch, log: io.Discard}
	exec.data.load = exec.loadData
	for c := range cells {
		if _, err := exec.Facts(c); err != nil {
			return nil, err
		}
	}
	r := &lab.Runner{Experiment: x, Exec: exec, Keeper: &forgetful{dir: i.scratch}, Watcher: i.show,
		Settings: lab.Settings{Generations: generations, Seed: uint64(time.Now().UnixNano()), Slice: i.slice},
		Labels: func(q experiment.Question) (string, []string) {
			return id, make([]string, len(q.Cells)) // the study names its variants itself
		}}
	return &lab.Study{Runner: r, Generations: generations, Time: max(i.time, 1), ID: id, Show: func(int) { i.show.step() }}, nil
}

// aa compares a cell with itself.
func (i *instrument) aa(ctx context.Context) error {
	s, err := i.study("aa", i.generations, studyCell(4, 16))
	if err != nil {
		return err
	}
	i.show.begin("A/A"+besideLoad(i.load), i.aaGenerations())
	defer compete(i.load)()
	trials, err := s.AA(ctx, 0, i.experiments)
	i.found.AA = &studyResult{Load: i.load, Asked: i.experiments, Generations: i.generations, Conns: 4, Depth: 16, Coverage: lab.Coverages(trials), trials: trials}
	return err
}

// compareWhole compares slices of a process with uninterrupted pieces of load on it, without a competing load.
func (i *instrument) compareWhole(ctx context.Context) error {
	s, err := i.study("whole", 1, studyCell(4, 16))
	if err != nil {
		return err
	}
	s.Runner.Slice = lab.DefaultSlice
	i.show.begin("slices and uninterrupted load", i.whole)
	s.Show = nil // these are no generations of the plan
	trials, err := s.Whole(ctx, 0, i.whole)
	i.show.rest -= lab.WholeTime(i.whole)
	i.found.Whole = &studyResult{Asked: i.whole, Conns: 4, Depth: 16, trials: trials}
	return err
}

// inject compares variants that have known costs with their baseline. A cost in CPU time is a share of the baseline's server CPU time, which is measured
// beforehand. The baseline and all variants answer injectedDelay later than the store would; the variant with a known delay answers 2*injectedDelay later.
// So the cost of the timer is in the baseline, too.
func (i *instrument) inject(ctx context.Context, load bool) error {
	cell := func(delay, busy time.Duration) experiment.Cell {
		return studyCell(1, 1, experiment.Flag{Name: "wait", Value: i.wait}, experiment.Flag{Name: "null-delay", Value: delay.String()}, experiment.Flag{Name: "null-busy", Value: busy.String()})
	}
	cells := []experiment.Cell{cell(injectedDelay, 0)}
	alone, err := i.study("alone", i.injectedGenerations, cells...)
	if err != nil {
		return err
	}
	i.show.begin("known costs"+besideLoad(load), i.injectedGenerations*(i.injected+1))
	defer compete(load)()
	rows, err := alone.Alone(ctx, 0)
	if err != nil || len(rows) == 0 {
		return err
	}
	r := studyResult{Load: load, Asked: i.injected, Generations: i.injectedGenerations, Conns: 1, Depth: 1, Wait: i.wait}
	if r.ServerNs, err = serverCPU(rows); err != nil {
		return err
	}
	var known []lab.Known
	for _, share := range injectedShares {
		c := costOf(share, r.ServerNs)
		r.Costs = append(r.Costs, c)
		cells = append(cells, cell(injectedDelay, time.Duration(c.BusyNs)))
		cpu := more("cpu_ns_per_op", float64(c.CostNs))
		if i.wait == "spin" { // both sides use their CPUs for as long as a request takes, so CPU time grows as latency does
			cpu = more("lat_p50_ns", float64(c.CostNs))
			known = append(known, lab.Known{Label: c.Label, Cell: len(cells) - 1, Metric: "lat_p50_ns", Expected: cpu})
		}
		known = append(known, lab.Known{Label: c.Label, Cell: len(cells) - 1, Metric: "cpu_ns_per_op", Expected: cpu})
	}
	cells = append(cells, cell(2*injectedDelay, 0))
	known = append(known, lab.Known{Label: "delay of " + injectedDelay.String(), Cell: len(cells) - 1, Metric: "lat_p50_ns", Expected: more("lat_p50_ns", float64(injectedDelay))})
	s, err := i.study("injected", i.injectedGenerations, cells...)
	if err != nil {
		return err
	}
	trials, err := s.Inject(ctx, 0, known, i.injected)
	r.Injected, r.Coverage, r.trials = lab.Injections(trials), lab.Controls(trials), trials
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
func costOf(share, serverNs float64) injectedCost {
	want := time.Duration(share * serverNs)
	d := max(1, want)
	for range 3 {
		d = max(1, d-(store.NullBusyCost(d)-want))
	}
	return injectedCost{Label: fmt.Sprintf("%.0f %% more CPU time of the server", 100*share), Share: share, BusyNs: int64(d), CostNs: int64(store.NullBusyCost(d))}
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

// Settled implements lab.Keeper.
func (*forgetful) Settled(_, _ []string) bool { return false }

// Keep implements lab.Keeper.
func (*forgetful) Keep([]*report.Row, []report.Slice) error { return nil }

// Forget implements lab.Keeper.
func (k *forgetful) Forget(ids []string) error {
	return report.Forget(k.dir, func(run string) bool { return !slices.Contains(ids, run) })
}

// Narrow implements lab.Keeper.
func (*forgetful) Narrow(int, int, float64) (bool, error) { return false, nil }

// studyProgress shows the progress of the command: on a terminal one line that it overwrites, elsewhere a line for each tenth of a part.
type studyProgress struct {
	*progress
	part       string
	done, of   int // generations of the part
	all, total int // of all parts
	begun      time.Time
	rest       time.Duration // what follows the generations
}

var _ lab.Watcher = (*studyProgress)(nil)

func newStudyProgress(total int, rest time.Duration) *studyProgress {
	return &studyProgress{progress: newProgress(""), total: total, begun: time.Now(), rest: rest}
}

func (p *studyProgress) begin(part string, generations int) {
	p.part, p.done, p.of = part, 0, generations
	p.say(p.part + ": begun")
}

// step is called after each generation.
func (p *studyProgress) step() {
	p.done++
	p.all++
	left := p.rest
	if p.all < p.total {
		left += time.Since(p.begun) / time.Duration(p.all) * time.Duration(p.total-p.all)
	}
	text := fmt.Sprintf("%s: generation %d of %d; about %v left", p.part, p.done, p.of, left.Round(time.Second))
	if p.width != nil {
		p.line("%s", text)
	} else if p.of > 0 && 10*p.done/p.of > 10*(p.done-1)/p.of {
		p.say(text)
	}
}

// say writes a line that is not overwritten.
func (p *studyProgress) say(line string) {
	if p.width == nil {
		fmt.Fprintln(p.out, line)
		return
	}
	p.stay(line)
}

// Started implements lab.Watcher.
func (*studyProgress) Started(lab.Step) {}

// Sliced implements lab.Watcher.
func (*studyProgress) Sliced(lab.Step, int, int) {}

// Kept implements lab.Watcher.
func (*studyProgress) Kept(lab.Step, []*report.Row) {}

// Noted implements lab.Watcher.
func (p *studyProgress) Noted(_ lab.Step, line string) { p.say(p.part + ": " + line) }
