package stream

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// looks are the times, by Loop.Awake, at which deadlines are looked at.
type looks struct {
	nextTick int64 // when deadlines are looked at next; 0: no connection has one
	judgeAt  int64 // not before: the next look at who waits for each other
}

// refusingMax is how long a refusal may take to arrive.
const refusingMax = time.Second

// tickEvery is the longest time between two looks at the deadlines, in ns, while some connection has one. It is less than the shortest deadline,
// so one that begins after a look is known before it passes, and the look after that is when it passes.
func (h *Host) tickEvery() int64 { return min(h.judgeEvery(), int64(refusingMax)/4) }

// tickLeast is the shortest time between two looks: a connection may outlive its deadline by that, 1/16 of the shortest at most. Without it, connections that
// each have a deadline of their own could have the loop do nothing but look.
func (h *Host) tickLeast() int64 { return h.tickEvery() / 4 }

// judgeEvery is how long nobody gets memory back before one of the connections that may wait for each other gets a block.
func (h *Host) judgeEvery() int64 {
	return int64(min(h.O.HelloMax, h.O.StallMax, cmp.Or(h.O.IdleMax, h.O.StallMax))) / 4
}

// Tick calls late for each connection that has missed a deadline, or is cut off, and asks the loop to be woken for the
// next look. The driver calls it when it is staged.
func (h *Host) Tick(late func(c *Server, err error)) {
	now := h.L.Awake()
	if h.cut {
		h.cut = false
		for i := len(h.servers) - 1; i >= 0; i-- { // late may remove the one it is called for
			if c := h.servers[i]; c.state != stateDead {
				late(c, transport.ErrCut)
			}
		}
	}
	if h.nextTick == 0 {
		return
	}
	if now >= h.nextTick {
		h.nextTick = 0
		if now >= h.judgeAt {
			h.Pool.Unblock()
			h.judgeAt = now + h.judgeEvery()
		}
		next := int64(math.MaxInt64)
		for i := len(h.servers) - 1; i >= 0; i-- { // late may remove the one it is called for
			c := h.servers[i]
			by := c.deadline()
			if by == math.MaxInt64 {
				continue
			}
			if now >= c.idleUntil() {
				c.rest()
				by = c.deadline()
			} else if now >= by {
				late(c, c.lateness())
				continue
			}
			next = min(next, by)
		}
		if next != math.MaxInt64 || h.Pool.Waiting() > 0 {
			h.nextTick = now + min(h.tickEvery(), max(next-now, h.tickLeast()))
		}
	}
	if h.nextTick != 0 {
		h.L.WakeAwake(h.nextTick)
	}
}

// watch makes sure that deadlines are looked at soon.
func (h *Host) watch() {
	if h.nextTick == 0 {
		h.nextTick = h.L.Awake() + h.tickEvery()
		h.judgeAt = h.L.Awake() + h.judgeEvery()
	}
}

var errSlow = errors.New("the peer has taken or sent no whole message")

// deadline is when the connection has failed if nothing happens; MaxInt64 when it may stay as it is.
func (c *Server) deadline() int64 {
	stall := int64(c.h.O.StallMax)
	switch c.state {
	case stateDead:
		return math.MaxInt64
	case stateHello, stateProving:
		return c.accepted + int64(c.h.O.HelloMax)
	case stateRefusing:
		if c.h.closing && c.out.n > 0 { // answers, as fast as the peer reads
			return c.outSince + stall
		}
		since := c.inSince
		if c.h.closing {
			since = max(since, c.outSince)
		}
		return since + min(stall, int64(refusingMax))
	}
	by := int64(math.MaxInt64)
	if c.unknown() {
		by = c.accepted + int64(c.h.O.HelloMax)
	}
	if c.out.n > 0 {
		by = min(by, c.outSince+stall)
	}
	if (c.state == stateOpen || c.state == stateWinding && c.cur != nil) && c.in.partial() && !c.account.Paused() {
		by = min(by, c.inSince+stall) // while winding nothing is read, and what cur holds another one may wait for
	}
	if c.account.Starves() {
		by = min(by, c.account.FedAt+4*stall) // whoever has the memory, and does not move, or dawdles, is closed before
	}
	if c.dawdles() {
		by = min(by, c.account.HeldSince+2*stall)
	}
	return min(by, c.idleUntil())
}

// idleUntil is when a connection of which nothing is under way has been so for IdleMax; MaxInt64: never.
func (c *Server) idleUntil() int64 {
	if c.h.O.IdleMax == 0 || c.state != stateOpen || c.busy > 0 || c.out.n > 0 || c.cur != nil || c.in.partial() {
		return math.MaxInt64
	}
	return max(c.inSince, c.outSince) + int64(c.h.O.IdleMax)
}

// rest ends a connection that has been idle for too long, with a code: its peer lives, and may wonder.
func (c *Server) rest() {
	c.p.refuse(wire.RefusedDeadline, fmt.Errorf("nothing was asked for in %v", c.h.O.IdleMax))
}

// dawdles reports whether others wait for memory that the connection holds until its peer takes an answer or sends the rest of a message. It has 2 StallMax then.
func (c *Server) dawdles() bool {
	return c.account.OthersWait() && c.account.Held() > 0 && (c.out.n > 0 || c.p.receiving())
}

func (c *Server) lateness() error {
	switch {
	case c.state == stateHello, c.state == stateProving, c.unknown() && c.h.L.Awake() >= c.accepted+int64(c.h.O.HelloMax):
		return fmt.Errorf("no hello within %v", c.h.O.HelloMax)
	case c.state == stateRefusing:
		return transport.ErrClosed
	}
	if c.account.Starves() && c.h.L.Awake() >= c.account.FedAt+4*int64(c.h.O.StallMax) {
		return fmt.Errorf("no memory for its answers within %v: %d MiB are in use", 4*c.h.O.StallMax, c.h.Pool.InUse()>>20)
	}
	if c.dawdles() && c.h.L.Awake() >= c.account.HeldSince+2*int64(c.h.O.StallMax) {
		return fmt.Errorf("%w for %v, while others wait for its %d KiB of memory", errSlow, 2*c.h.O.StallMax, c.account.Held()>>10)
	}
	return fmt.Errorf("%w for %v", transport.ErrStalled, c.h.O.StallMax)
}
