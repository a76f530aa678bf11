package udp

import (
	"hash/fnv"
	"math/rand/v2"

	"github.com/kvwire/kvwire/transport/datagram"
)

// faults drops packets on arrival, and delivers some a second time, from a seed. It belongs to a carrier.
type faults struct {
	rng              *rand.Rand
	loss, duplicates float64
	late             []byte // a copy of a packet that will be delivered once more; empty: there is none
	lateFrom         datagram.Address
}

// newFaults returns the faults of a socket of the loop with that name; nil: there are none. Loops have different streams of the same seed.
func newFaults(o *Options, loop string) *faults {
	if o.Loss == 0 && o.Duplicates == 0 {
		return nil
	}
	stream := fnv.New64a()
	_, _ = stream.Write([]byte(loop))
	return &faults{rng: rand.New(rand.NewPCG(o.Seed, stream.Sum64())), loss: o.Loss, duplicates: o.Duplicates}
}

// lateFor is the mean number of packets that are delivered before a duplicate is.
const lateFor = 8

// receive passes a packet to c, or drops it, and may pass the duplicate of an earlier packet.
func (f *faults) receive(now int64, from *datagram.Address, b []byte, c core) {
	if f.rng.Float64() >= f.loss {
		if len(f.late) == 0 && f.rng.Float64() < f.duplicates {
			f.late, f.lateFrom = append(f.late[:0], b...), *from
		}
		c.Receive(now, from, b)
	}
	if len(f.late) > 0 && f.rng.IntN(lateFor) == 0 {
		late := f.late
		f.late = f.late[:0]
		c.Receive(now, &f.lateFrom, late)
	}
}
