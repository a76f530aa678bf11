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

// ticks are the times, by Loop.AwakeNow in ns, at which deadlines are checked.
type ticks struct {
	nextTick  int64 // the next check; 0: no connection has a deadline
	unblockAt int64 // earliest time of the next check for connections that wait for each other
}

// refusingMax is the longest time that a refused peer has to read the refusal and close.
const refusingMax = time.Second

// tickEvery is the longest time between two checks of the deadlines, in ns, while a connection has one. It is shorter than every deadline. So a deadline
// that begins after a check is found by the next check, before it passes, and the check after that is made when it passes.
func (h *Host) tickEvery() int64 { return min(h.unblockEvery(), int64(refusingMax)/4) }

// tickMin is the shortest time between two checks, in ns. A connection may outlive its deadline by that much, at most 1/16 of the shortest deadline. Without
// it, many connections with different deadlines could keep the loop busy with checks.
func (h *Host) tickMin() int64 { return h.tickEvery() / 4 }

// unblockEvery is the time, in ns, in which no memory was freed before one of the connections that may wait for each other gets a block (memory.Pool.Unblock).
func (h *Host) unblockEvery() int64 {
	return int64(min(h.O.HelloMax, h.O.StallMax, cmp.Or(h.O.IdleMax, h.O.StallMax))) / 4
}

// Tick calls late for each connection that has missed a deadline or is cut off, and makes the loop wake up for the next
// check. The stage step calls it.
func (h *Host) Tick(late func(c *Server, err error)) {
	now := h.L.AwakeNow()
	if h.cut {
		h.cut = false
		for i := len(h.servers) - 1; i >= 0; i-- { // backwards: late may remove this connection
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
		if now >= h.unblockAt {
			h.Pool.Unblock()
			h.unblockAt = now + h.unblockEvery()
		}
		next := int64(math.MaxInt64)
		for i := len(h.servers) - 1; i >= 0; i-- { // backwards: late may remove this connection
			c := h.servers[i]
			by := c.deadline()
			if by == math.MaxInt64 {
				continue
			}
			if now >= c.idleUntil() {
				c.endIdle()
				by = c.deadline()
			} else if now >= by {
				late(c, c.deadlineError())
				continue
			}
			next = min(next, by)
		}
		if next != math.MaxInt64 || h.Pool.Waiting() > 0 {
			h.nextTick = now + min(h.tickEvery(), max(next-now, h.tickMin()))
		}
	}
	if h.nextTick != 0 {
		h.L.WakeAtAwake(h.nextTick)
	}
}

// watch makes sure that a check of the deadlines is planned.
func (h *Host) watch() {
	if h.nextTick == 0 {
		h.nextTick = h.L.AwakeNow() + h.tickEvery()
		h.unblockAt = h.L.AwakeNow() + h.unblockEvery()
	}
}

var errSlow = errors.New("the peer has not read or sent a whole message")

// deadline returns the time at which the connection fails if nothing happens; MaxInt64: it has no deadline.
func (c *Server) deadline() int64 {
	stall := int64(c.h.O.StallMax)
	switch c.state {
	case stateDead:
		return math.MaxInt64
	case stateHello, stateProving:
		return c.accepted + int64(c.h.O.HelloMax)
	case stateRefusing:
		if c.h.closing && c.out.Len() > 0 { // its last answers are still being sent
			return c.outSince + stall
		}
		since := c.inSince
		if c.h.closing {
			since = max(since, c.outSince)
		}
		return since + min(stall, int64(refusingMax))
	}
	by := int64(math.MaxInt64)
	if c.unauthenticated() {
		by = c.accepted + int64(c.h.O.HelloMax)
	}
	if c.out.Len() > 0 {
		by = min(by, c.outSince+stall)
	}
	if (c.state == stateOpen || c.state == stateShuttingDown && c.cur != nil) && c.in.partial() && !c.account.Paused() {
		by = min(by, c.inSince+stall) // while it shuts down nothing is read, but another connection may wait for cur's memory
	}
	if c.account.AnswerWaits() {
		by = min(by, c.account.AnswerWaitSince+4*stall) // later than the deadlines of the connections that hold the memory
	}
	if c.blocksOthers() {
		by = min(by, c.account.HeldSince+2*stall)
	}
	return min(by, c.idleUntil())
}

// idleUntil returns the time at which the connection has been idle for IdleMax; MaxInt64: it is not idle, or there is no bound.
func (c *Server) idleUntil() int64 {
	if c.h.O.IdleMax == 0 || c.state != stateOpen || c.busy > 0 || c.out.Len() > 0 || c.cur != nil || c.in.partial() {
		return math.MaxInt64
	}
	return max(c.inSince, c.outSince) + int64(c.h.O.IdleMax)
}

// endIdle ends a connection that has been idle for too long, with a refusal, so that its peer gets the reason.
func (c *Server) endIdle() {
	c.p.refuse(wire.RefusedDeadline, fmt.Errorf("no request in %v", c.h.O.IdleMax))
}

// blocksOthers reports whether other connections wait for memory that this one holds until its peer reads an answer or sends the rest of a message. The peer then
// has 2 StallMax.
func (c *Server) blocksOthers() bool {
	return c.account.OthersWait() && c.account.Held() > 0 && (c.out.Len() > 0 || c.p.receiving())
}

func (c *Server) deadlineError() error {
	switch {
	case c.state == stateHello, c.state == stateProving, c.unauthenticated() && c.h.L.AwakeNow() >= c.accepted+int64(c.h.O.HelloMax):
		return fmt.Errorf("no hello within %v", c.h.O.HelloMax)
	case c.state == stateRefusing:
		return transport.ErrClosed
	}
	if c.account.AnswerWaits() && c.h.L.AwakeNow() >= c.account.AnswerWaitSince+4*int64(c.h.O.StallMax) {
		return fmt.Errorf("no memory for its answers within %v: %d MiB are in use", 4*c.h.O.StallMax, c.h.Pool.InUse()>>20)
	}
	if c.blocksOthers() && c.h.L.AwakeNow() >= c.account.HeldSince+2*int64(c.h.O.StallMax) {
		return fmt.Errorf("%w for %v, while others wait for its %d KiB of memory", errSlow, 2*c.h.O.StallMax, c.account.Held()>>10)
	}
	return fmt.Errorf("%w for %v", transport.ErrStalled, c.h.O.StallMax)
}
