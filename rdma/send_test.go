//go:build rdma && cgo && linux

package rdma

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/kvwire/kvwire/internal/fifo"
)

// All bytes are counted once, in order: those of a message that was copied when all before it are counted, those of another when a completion
// has ended it. The numbers of work requests pass 2^32.
func TestASendQueueCountsEachMessageOnce(t *testing.T) {
	const room = 16
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		q := sendQueue{wrs: fifo.Make[sending](room), first: math.MaxUint32 - uint32(rng.IntN(100))}
		var places []uint32 // of what the device has
		var copied []bool   // of messages that are not counted
		for range 500 {
			counted := 0
			if rng.IntN(2) == 0 && q.room() > 0 {
				places, copied = append(places, q.place()), append(copied, rng.IntN(2) == 0)
				q.push(sending{bytes: 1, copied: copied[len(copied)-1]})
			} else if len(places) > 0 {
				n := rng.IntN(len(places)) + 1
				if got := q.index(places[n-1]) + 1; got != n {
					t.Fatalf("the completion at place %d ends %d work requests, want %d", places[n-1], got, n)
				}
				must := max(0, n-(len(places)-len(copied))) // of what ends now, what was not counted
				for range n {
					_, bytes := q.pop()
					counted += bytes
				}
				places = places[n:]
				if counted != must {
					t.Fatalf("%d bytes were counted at the end of %d messages, want %d", counted, n, must)
				}
				copied = copied[must:]
			}
			want := 0
			for want < len(copied) && copied[want] {
				want++
			}
			if got := q.count(); got != want {
				t.Fatalf("%d copied messages were counted, want %d", got, want)
			}
			copied = copied[want:]
			if q.uncounted() != (len(copied) > 0) || q.waits() != (len(copied) > 0) {
				t.Fatalf("%d messages are not counted, and the queue has some: %v, some that a completion sets free: %v", len(copied), q.uncounted(), q.waits())
			}
		}
	}
}
