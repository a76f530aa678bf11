package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/instrument"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
)

const instrumentHelp = `Usage: kvwire instrument [flags]

Examples:
  kvwire instrument
  kvwire instrument --output-dir results/instrument
  kvwire instrument --experiments 30 --injected 3 --whole 1 --pairs 2   (some minutes, to try it)
  kvwire instrument --experiments 0 --injected 0 --whole 0              (only the agreement with redis-benchmark)
  kvwire instrument --injected 0 --whole 0 --pairs 0 --load=false       (only A/A, without a competing load)

Tests how far the results of kvwire run can be trusted. It measures small trials whose true ratios are known beforehand, with the same
processes, slices and statistics.
  A/A        compares two processes of one cell, with a competing load. The share of intervals that contain 1 must agree with the theory.
  injected   the server of one variant takes 5 % or 10 % more CPU time for each request (--null-busy), or answers 5 µs later (--null-delay).
             How often is this found, and how exact is the estimate? Measured without and with a competing load. Loops spin here, because
             sleeping and waking cost more the longer a thread sleeps, and this cost would be in the ratio.
  whole      compares slices of 50 ms with pieces of a second that nothing interrupts. Both are of the same process, and a second process
             alternates with it in the slices. The alternation must cost nothing.
  agreement  redis-benchmark and kvwire bench make the same load on the same server, alternately.

Writes instrument.md (the tables and the method), instrument.json (its figures) and instrument.csv (the interval of each trial). It takes
about 40 minutes. The first ^C ends it; complete trials are written. Exit code 6: all trials are complete, and a coverage disagrees with
the theory. A correct instrument fails by chance, too: for each of the four metrics in at most one of 20 runs.`

func instrumentCommand(ctx context.Context, args []string) error {
	f := newFactors("instrument", instrumentHelp)
	var o instrument.Options
	s := f.set
	s.IntVar(&o.Experiments, "experiments", 400, "number of A/A trials; 0: none")
	s.IntVar(&o.Injected, "injected", 24, "number of trials with known costs, without a competing load, and as many with one; 0: none")
	s.IntVar(&o.Generations, "generations", 6, "generations of each A/A trial; 0: 6, the fewest with a 95 % interval")
	s.IntVar(&o.InjectedGenerations, "injected-generations", lab.DefaultGenerations, "generations of each trial with known costs")
	s.IntVar(&o.Pairs, "pairs", 12, "pairs of runs, one by redis-benchmark and one by kvwire bench, for each of two loads; 0: none")
	s.IntVar(&o.Whole, "whole", 12, "generations in which 10 s of load in slices are compared with 10 s in pieces of a second; 0: none")
	s.DurationVar(&o.Slice, "slice", 25*time.Millisecond, "load on one process at a time; the first tenth is not counted (in the part whole a slice is always 50ms)")
	s.DurationVar(&o.Time, "time", 0, "time for a generation, including the start of its processes; 0: as short as possible, 4 slices of each process")
	s.StringVar(&o.Wait, "wait", "spin", "wait policy in the trials with known costs: spin, or block (a thread that sleeps longer also costs more to wake, so more than the known cost is found)")
	s.BoolVar(&o.Load, "load", true, "run a competing load: one thread that takes CPU time, on and off for 20 to 300 ms at a time")
	s.StringVar(&o.Dir, "output-dir", "docs/results", "the folder for instrument.md, instrument.json and instrument.csv, which are replaced")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	if err := o.Check(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return exit.Named(fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err))
	}
	scratch, err := os.MkdirTemp("", server.TemporaryPrefix)
	if err != nil {
		return err
	}
	exit.OnAbort(func() { _ = os.RemoveAll(scratch) })
	start := func(x *experiment.Experiment) *fleet.Exec {
		e := program().NewExec(x, "")
		e.Dir = scratch
		return e
	}
	p := instrument.Program{Command: "kvwire " + strings.Join(os.Args[1:], " "), Revision: version, Env: program().OthersEnvironment(), Scratch: scratch,
		Exec:         func(x *experiment.Experiment) lab.Exec { return start(x) },
		NullBusyCost: store.NullBusyCost, Serve: fleet.StartOpen, Run: start(nil).Command}
	if busy, err := bench.IdleBusy(ctx, cell.IdleTime); err == nil {
		p.BusyCPUs = &busy
	}
	err = instrument.Run(ctx, o, p, stdout, terminal.Stderr())
	return errors.Join(err, os.RemoveAll(scratch))
}
