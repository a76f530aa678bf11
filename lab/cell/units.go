package cell

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/bench/units"
	"github.com/kvwire/kvwire/lab/experiment"
)

// UnitWindow is how long each of kvwire's own units is measured, after a third of it as warm-up. Tests shorten it.
var UnitWindow = 150 * time.Millisecond

// OwnUnits measures the CPU time of kvwire itself for an operation without a network, and for its frames.
func (p *Program) OwnUnits(ctx context.Context) ([]units.Unit, error) {
	call, err := p.operationCost(ctx, "inproc")
	if err != nil {
		return nil, err
	}
	frames, err := p.operationCost(ctx, "codec")
	if err != nil {
		return nil, err
	}
	return []units.Unit{
		{Name: units.Operation, Ns: call, What: "the work of generator and loop for an operation: a get over inproc from backend null, 64 in flight"},
		{Name: units.Frame, Ns: max(frames-call, 0), What: "frames at both ends of a connection, without a kernel: the same get over codec, less its cost over inproc"},
	}, nil
}

// operationCost is the CPU time of an operation in this process alone, in ns. On a busy machine a thread may not run at all in a short window: then a longer one follows.
func (p *Program) operationCost(ctx context.Context, transport string) (ns float64, err error) {
	for window := UnitWindow; ; window *= 4 {
		if ns, err = p.operationCostIn(ctx, transport, window); !errors.Is(err, errIdle) || window > 2*time.Second {
			return ns, err
		}
	}
}

// errIdle means that no operation completed in a window.
var errIdle = errors.New("no operation completed")

func (p *Program) operationCostIn(ctx context.Context, transport string, window time.Duration) (ns float64, err error) {
	f, spec, err := p.Cell(experiment.Cell{{Name: "transport", Value: transport}, {Name: "backend", Value: "null"}, {Name: "value-bytes", Value: "64"}, {Name: "records", Value: "1000"},
		{Name: "duration", Value: window.String()}, {Name: "warmup", Value: (window / 3).String()}, {Name: "server-cpus", Value: "any"}})
	if err != nil {
		return 0, err
	}
	s, err := openHere(ctx, f)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	res, err := bench.Run(ctx, spec, s.client.threads, nil)
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
