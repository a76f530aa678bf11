package loop

import (
	"testing"

	"github.com/kvwire/kvwire/kv"
)

// A loop that sleeps is woken once for the requests of one step of another loop's turn, or once for postMax of them, and not for each.
func TestASleepingLoopIsWokenOnceForManyRequests(t *testing.T) {
	for _, n := range []int{1, 20, postMax, 3*postMax + 1} {
		g := newMapGroup(t, Plan{Placement: Dispatched, NetLoops: 1, StoreLoops: 1, Net: Options{Sleep: SleepEpoll}, Store: Options{Sleep: SleepEpoll}})
		d := &driver{make(chan *kv.Request, n)}
		net := g.Net()[0]
		rs := make([]kv.Request, n)
		const rounds = 200
		for range rounds {
			if err := net.Call(func() {
				for i := range rs {
					rs[i] = kv.Request{Op: kv.OpPut, Key: key(i), Value: []byte("v"), Owner: d}
					g.Router(0).Submit(&rs[i])
				}
			}); err != nil {
				t.Fatal(err)
			}
			for range rs {
				if r := <-d.back; r.Status != kv.StatusOK {
					t.Fatal(r.Status)
				}
			}
		}
		var s Stats
		if err := net.Call(func() { s = net.Snapshot() }); err != nil {
			t.Fatal(err)
		}
		if most := uint64(rounds * ((n + postMax - 1) / postMax)); s.Wakes == 0 || s.Wakes > most {
			t.Errorf("%d requests at a time, %d times: %d wake-ups, want 1 to %d", n, rounds, s.Wakes, most)
		}
	}
}
