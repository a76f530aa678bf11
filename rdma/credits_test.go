package rdma

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/kvwire/kvwire/transport"
)

// Two sides whose counts are about to pass 2^32 send each other messages, in any order and with any delay. Neither sends more than the other
// has posted.
func TestCreditsNeverExceedWhatThePeerHasPosted(t *testing.T) {
	const slots = 8
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		start := math.MaxUint32 - uint32(rng.IntN(40))
		side := func() *credits {
			return &credits{posted: start + slots, advertised: start + slots, allowed: start + slots, sent: start}
		}
		ends := [2]*credits{side(), side()}
		var wire [2][]uint32 // towards each side: counts of messages under way
		for range 300 {
			me := rng.IntN(2)
			c, peer := ends[me], 1-me
			switch rng.IntN(3) {
			case 0:
				if c.available() > 0 {
					wire[peer] = append(wire[peer], c.consume())
				}
			default:
				if len(wire[me]) == 0 {
					continue
				}
				count := wire[me][0]
				wire[me] = wire[me][1:]
				before := c.available()
				more, err := c.update(count, slots)
				if err != nil {
					t.Fatal(err)
				}
				if c.available() != before+more {
					t.Fatalf("%d more than %d messages may be sent: %d", more, before, c.available())
				}
				c.posted++ // its slot is free again
			}
			for i, c := range ends {
				if under := len(wire[1-i]); c.available() < 0 || c.unadvertised() < 0 || under > slots {
					t.Fatalf("side %d: %+v, %d messages under way", i, *c, under)
				}
				if behind := int(int32(ends[1-i].posted - c.sent)); behind < 0 || behind > slots {
					t.Fatalf("side %d has sent %d messages, and the peer has posted %d receives", i, c.sent-start, ends[1-i].posted-start)
				}
			}
		}
	}
}

func TestACountThatFallsOrExceedsTheSlotsIsNoPeersOfThisVersion(t *testing.T) {
	const slots = 8
	for name, count := range map[string]uint32{"falls": 9, "exceeds the slots": 15, "is far away": 1 << 31} {
		c := credits{posted: 8, advertised: 8, allowed: 10, sent: 6}
		if more, err := c.update(count, slots); !errors.Is(err, transport.ErrProtocol) || more != 0 || c.allowed != 10 {
			t.Errorf("a count that %s: %d more, %v, %+v", name, more, err, c)
		}
	}
}
