package stream

import "github.com/kvwire/kvwire/transport/memory"

// owner implements memory.Owner for a connection.
type owner struct{ c *Server }

var _ memory.Owner = owner{}

// Unsent implements memory.Owner.
func (o owner) Unsent() bool { return o.c.out.Len() > 0 }

// AllocAnswer implements memory.Owner.
func (o owner) AllocAnswer(cl *memory.Claim) bool { return o.c.p.allocAnswer(&o.c.slots[cl.Index]) }

// ContinueRequest implements memory.Owner.
func (o owner) ContinueRequest(cl *memory.Claim) { o.c.resubmit(&o.c.slots[cl.Index]) }

// ContinueReading implements memory.Owner.
func (o owner) ContinueReading() {
	c := o.c
	if c.state != stateOpen {
		return
	}
	c.inSince = c.h.L.AwakeNow() // the pause does not count against the peer's deadline
	c.parse(false)
	if !c.account.Paused() {
		c.driver.Touch()
	}
}
