package rdma

import (
	"fmt"

	"github.com/kvwire/kvwire/transport"
)

// credits is the flow control of a connection, as one side has it. Each message takes one receive of the other side's, and carries, as
// immediate data, how many receives its sender has posted in all: so each side knows how many messages it may send. The last credit is
// kept for a message without bytes, which brings nothing but that count (docs/adr/0004).
//
// The counts are of messages since the connection began, modulo 2^32. Towards this side: advertised ≤ posted. Towards the peer: sent ≤
// allowed. What is allowed is what the peer has advertised.
type credits struct {
	posted     uint32 // receives that this side has posted
	advertised uint32 // of these, those that the peer knows of
	allowed    uint32 // messages that this side may send
	sent       uint32 // of these, those that it has sent
	owed       bool   // the peer asked for a sign of life: it gets a message, whatever its count
}

// left is how many more messages may be sent.
func (c *credits) left() int { return int(int32(c.allowed - c.sent)) }

// news is how many receives the peer does not know of.
func (c *credits) news() int { return int(c.posted - c.advertised) }

// spend counts a message that is sent, and returns the count that it carries.
func (c *credits) spend() (count uint32) {
	c.sent++
	c.advertised, c.owed = c.posted, false
	return c.posted
}

// update takes the count of a message that came, and returns how many more messages may be sent than before. The count is the peer's word: it never
// falls, and is at most what the peer's slots allow.
func (c *credits) update(count uint32, slots int) (more int, err error) {
	if more = int(int32(count - c.allowed)); more < 0 || int(int32(count-c.sent)) > slots {
		return 0, fmt.Errorf("%w: it has posted %d receives, after %d", transport.ErrProtocol, count, c.allowed)
	}
	c.allowed = count
	return more, nil
}
