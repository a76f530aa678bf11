package rdma

import (
	"fmt"

	"github.com/kvwire/kvwire/transport"
)

// credits is one side's state of a connection's flow control. Each message consumes one receive of the other side. As immediate data it
// carries the number of receives that its sender has posted so far; from this number the other side computes how many messages it may
// send. The last credit is reserved for a message without bytes, which carries only that count (docs/adr/0004).
//
// All counts begin with the connection and are modulo 2^32. For messages to this side, advertised ≤ posted. For messages to the peer,
// sent ≤ allowed; allowed is the count that the peer has advertised.
type credits struct {
	posted     uint32 // receives that this side has posted
	advertised uint32 // of these, those that this side has advertised to the peer
	allowed    uint32 // messages that this side may send
	sent       uint32 // of these, those that are sent
	replyDue   bool   // the peer has requested a sign of life: a message must be sent, whatever its count
}

// available returns the number of messages that may still be sent.
func (c *credits) available() int { return int(int32(c.allowed - c.sent)) }

// unadvertised returns the number of posted receives that are not advertised yet.
func (c *credits) unadvertised() int { return int(c.posted - c.advertised) }

// consume counts a message to send, and returns the count that it carries.
func (c *credits) consume() (count uint32) {
	c.sent++
	c.advertised, c.replyDue = c.posted, false
	return c.posted
}

// update handles the count of a received message, and returns how many more messages may be sent than before. It returns an error for a count that falls or
// exceeds the peer's slots.
func (c *credits) update(count uint32, slots int) (more int, err error) {
	if more = int(int32(count - c.allowed)); more < 0 || int(int32(count-c.sent)) > slots {
		return 0, fmt.Errorf("%w: it has posted %d receives, after %d", transport.ErrProtocol, count, c.allowed)
	}
	c.allowed = count
	return more, nil
}
