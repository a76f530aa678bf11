package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/kvwire/kvwire/bench/units"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
)

const calibrateHelp = `Examples:
  kvwire calibrate
  kvwire calibrate --json

Measures the unit costs of a request's parts: a system call, a message through a socket, a wake-up, a hop between threads, a copy, a call
into C, the load generator's own work. kvwire run does so before each of the first 3 generations. It multiplies the median of each unit
by the counts of each run: bill.csv, and the bill of materials in report.html, with the rest that they do not explain.`

func calibrateCommand(ctx context.Context, args []string) error {
	f := newFactors("calibrate", calibrateHelp)
	f.set.BoolVar(&f.json, "json", false, "print the units as JSON")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	loop.SetGOMAXPROCS(2)
	all, err := units.Measure(rdma.CallC)
	if err != nil {
		return err
	}
	own, err := ownUnits(ctx)
	if err != nil {
		return err
	}
	all = append(all, own...)
	if f.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", " ")
		return e.Encode(all)
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, u := range all {
		fmt.Fprintf(t, "%s\t%.0f ns\t%s\n", u.Name, u.Ns, u.What)
	}
	return t.Flush()
}

// ownUnits are what kvwire itself takes for an operation without a network, and for its frames.
func ownUnits(ctx context.Context) ([]units.Unit, error) {
	call, err := ownCost(ctx, "inproc")
	if err != nil {
		return nil, err
	}
	frames, err := ownCost(ctx, "codec")
	if err != nil {
		return nil, err
	}
	return []units.Unit{
		{Name: units.Operation, Ns: call, What: "the work of generator and loop for an operation: a get over inproc from backend null, 64 in flight"},
		{Name: units.Frame, Ns: max(frames-call, 0), What: "frames at both ends of a connection, without a kernel: the same get over codec, less its cost over inproc"},
	}, nil
}

// ownWindow is how long that is measured, after a third of it as warm-up. Tests have a shorter one.
var ownWindow = 150 * time.Millisecond

// ownCost is the CPU time of an operation in this process alone. On a busy machine a thread may have no turn in a short window: a longer one follows then.
func ownCost(ctx context.Context, transport string) (ns float64, err error) {
	for window := ownWindow; ; window *= 4 {
		if ns, err = ownCostIn(ctx, transport, window); !errors.Is(err, errIdle) || window > 2*time.Second {
			return ns, err
		}
	}
}

// errIdle means that no operation completed in a window.
var errIdle = errors.New("no operation completed")

func ownCostIn(ctx context.Context, transport string, window time.Duration) (ns float64, err error) {
	f := newBenchFactors()
	if err := f.parse([]string{"--transport=" + transport, "--backend=null", "--value-bytes=64", "--records=1000", "--duration=" + window.String(), "--warmup=" + (window / 3).String(), "--server-cpus=any"}, nil); err != nil {
		return 0, err
	}
	spec, err := f.checkBench()
	if err != nil {
		return 0, err
	}
	s, err := cell.OpenHere(ctx, &f.Settings)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	res, err := s.Run(ctx, spec)
	switch {
	case err != nil:
		return 0, err
	case res.Interrupted:
		return 0, errors.New("interrupted")
	case res.Ops == 0:
		return 0, fmt.Errorf("calibrate: %s over %v: %w (is the machine busy?)", transport, window, errIdle)
	}
	return float64(res.Process.CPU()) / float64(res.Ops), nil
}
