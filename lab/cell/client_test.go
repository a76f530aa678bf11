package cell

import (
	"context"
	"errors"
	"testing"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
)

// closing is a connection that can only be closed.
type closing struct {
	transport.Conn
	closed bool
}

func (c *closing) Hangup() { c.closed = true }

// Threads with few requests in flight load over a connection of their own; all others, and all whose server has no room for one, over those of the measurement.
func TestALoadHasEnoughRequestsInFlight(t *testing.T) {
	for _, c := range []struct {
		name     string
		inFlight int // of the measurement
		granted  int // of the load's connection; 0: refused
		want     int
		dials    int
	}{
		{"one at a time", 1, 64, 64, 1},
		{"a server that grants less", 1, 32, 32, 1},
		{"a server without room", 1, 0, 1, 1},
		{"a server that grants less than the measurement has", 48, 32, 48, 1},
		{"a server without a bound", 1, 1024, 64, 1},
		{"enough", 64, 64, 64, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			own, extra := &closing{}, &closing{}
			dials := 0
			of := &client{threads: []bench.Client{{Handler: own, InFlight: c.inFlight}}, dial: func(_ context.Context, _ *loop.Loop, _, depth int) (transport.Conn, int, error) {
				if dials++; depth != 64 {
					t.Errorf("a connection of depth %d was requested", depth)
				}
				if c.granted == 0 {
					return nil, 0, errors.New("refused")
				}
				return extra, c.granted, nil
			}}
			threads, hangUp := of.loaders(t.Context(), 64)
			if len(threads) != 1 || threads[0].InFlight != c.want || dials != c.dials {
				t.Errorf("%d threads, the first with %d in flight, %d connections", len(threads), threads[0].InFlight, dials)
			}
			if loads := threads[0].Handler == extra; loads != (c.want > c.inFlight) {
				t.Errorf("the thread loads over the new connection: %v", loads)
			}
			hangUp()
			if extra.closed != (c.dials > 0 && c.granted > 0) || own.closed {
				t.Errorf("closed: the load's %v, the measurement's %v", extra.closed, own.closed)
			}
			if of.threads[0].Handler != own || of.threads[0].InFlight != c.inFlight {
				t.Error("the threads of the measurement have changed")
			}
		})
	}
}
