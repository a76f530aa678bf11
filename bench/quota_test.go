package bench

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
)

// A window of so many operations has exactly these, whatever the loop and the number of threads. Its end is none of the load's: what is in flight is answered.
func TestRunEndsAfterItsOperations(t *testing.T) {
	for _, kind := range []LoopKind{Closed, Open} {
		for _, threads := range []int{1, 3} {
			const inFlight, operations = 4, 2000
			spec := Spec{Mix: "a", ValueBytes: 100, Records: 100, Warmup: time.Millisecond, Loop: kind, Operations: operations, Verify: true}
			clients, _ := loaded(t, Spec{ValueBytes: 100, Records: 100}, threads, inFlight)
			if kind == Open {
				spec.TargetPerS = 40_000
			}
			windows := 0
			spec.OnWindow = func(bool) { windows++ }
			res, err := Run(context.Background(), spec, clients, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.Ops != operations || res.Interrupted || res.VerifyFailures+res.Errors+res.Misses+res.Unsent+res.Unanswered != 0 || windows != 2 {
				t.Errorf("%v on %d threads: %+v", kind, threads, *res)
			}
			if res.Duration <= 0 || res.Duration > time.Minute || res.OpsPerS() <= 0 {
				t.Errorf("%v on %d threads: a window of %v", kind, threads, res.Duration)
			}
			if n := res.Lat.TotalCount(); kind == Closed && (n < operations || n > int64(operations+threads*inFlight)) || kind == Open && n != int64(res.Scheduled) {
				t.Errorf("%v on %d threads: %d latencies of %d operations and %d arrivals", kind, threads, n, operations, res.Scheduled)
			}
			if len(res.Series) != 1 || res.Series[0].Ops != operations || res.Series[0].Length != res.Duration || res.Drift.Known {
				t.Errorf("%v on %d threads: the time series is %+v in %v, drift %+v", kind, threads, res.Series, res.Duration, res.Drift)
			}
		}
	}
}

// Operations that fail count as well: a run against a server that refuses all ends.
func TestFailedOperationsEndTheWindowToo(t *testing.T) {
	const inFlight, operations = 2, 1000
	clients, stores := loaded(t, Spec{Records: 100}, 1, inFlight)
	n := 0
	stores[0].change = func(r *kv.Request) {
		if n++; n%4 != 0 {
			r.Status = kv.StatusTooSmall
		}
	}
	res, err := Run(context.Background(), Spec{Records: 100, Operations: operations}, clients, nil)
	if err != nil {
		t.Fatal(err)
	}
	if all := res.Ops + res.Errors; all < operations || all > operations+inFlight || res.Ops < operations/4-1 || res.Ops > operations/4+1 {
		t.Errorf("%d operations and %d errors", res.Ops, res.Errors)
	}
}

// A window without a time ends when requests are in flight and none is answered, and not because requests are rare.
func TestASilentServerEndsTheWindow(t *testing.T) {
	const silence = 50 * time.Millisecond
	l := startLoop(t)
	h := &muted{l: l, answers: 100}
	spec := Spec{Records: 100, Operations: 1000, SilenceMax: silence, DrainMax: 10 * time.Millisecond}
	res, err := Run(context.Background(), spec, []Client{{l, h, 4}}, nil)
	if !errors.Is(err, ErrStuck) || res.Unanswered != 4 {
		t.Errorf("error %v, %+v", err, res)
	}
	if err := l.Call(h.release); err != nil {
		t.Fatal(err)
	}
	clients, _ := loaded(t, Spec{Records: 100}, 1, 1)
	spec.SilenceMax, spec.DrainMax = 4*silence, time.Minute // shorter than the time between two arrivals
	spec.Operations, spec.Loop, spec.Arrival, spec.TargetPerS = 2, Open, Constant, 4
	if res, err = Run(context.Background(), spec, clients, nil); err != nil || res.Ops != 2 {
		t.Errorf("error %v, %+v", err, res)
	}
}

func TestSpecBoundsItsOperations(t *testing.T) {
	if (Spec{Operations: maxOperations}).Check() != nil || (Spec{Operations: maxOperations + 1}).Check() == nil {
		t.Errorf("the most operations are not %d", maxOperations)
	}
	if s := (Spec{Operations: 5}).Defaults(); s.Duration != WindowMax {
		t.Errorf("the most that a window takes is %v", s.Duration)
	}
}
