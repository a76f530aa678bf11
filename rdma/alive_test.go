//go:build rdma && cgo && linux

package rdma

import (
	"testing"
	"time"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport/stream"
)

// waits is the side of a client that waits for answers.
type waits struct{ stream.MessageSide }

func (waits) InFlight() int { return 1 }

// A connection to a server without a sign of life ends at most an eighth after its deadline, whenever the loop checks.
func TestAServerWithoutASignOfLifeIsGivenUpInTime(t *testing.T) {
	l, err := loop.Start(loop.Options{Sleep: loop.SleepEpoll}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Stop() })
	const stall = 8 * time.Second
	for _, since := range []time.Duration{0, 700 * time.Millisecond, 1300 * time.Millisecond, 1900 * time.Millisecond} { // of the last message, when a request is sent
		var lived time.Duration
		asked, ended := time.Duration(0), false
		err := l.Call(func() {
			d := &rdmaEngine{l: l}
			k := &link{d: d, side: waits{}, state: linkUp, alive: liveness{stallMax: int64(stall), receivedAt: l.Now() - int64(since)}}
			k.onEnd = func(stream.ConnIO, error) { ended = true }
			_, row := d.links.Put()
			*row = k
			k.checkSoon()
			for lived = since; !ended && lived < 2*stall; { // the clock is what is older by now
				sleep := max(d.checkAt-l.Now(), 0)
				lived += time.Duration(sleep)
				d.checkAt -= sleep
				k.alive.receivedAt -= sleep
				if k.alive.probedAt != 0 {
					k.alive.probedAt -= sleep
				}
				d.checkAlive()
				if k.alive.probe && asked == 0 {
					asked = lived
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if !ended || lived < stall*9/10 || lived > stall*9/8 {
			t.Errorf("last heard of %v before: given up %v after %v, want %v", since, ended, lived, stall)
		}
		if asked < stall/4*9/10 || asked > stall/4*3/2 {
			t.Errorf("last heard of %v before: asked for a sign of life after %v, want %v", since, asked, stall/4)
		}
	}
}
