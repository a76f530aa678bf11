package stream

import "github.com/kvwire/kvwire/transport/memory"

// owner implements memory.Owner for a connection.
type owner struct{ c *Server }

var _ memory.Owner = owner{}

// Unsent implements memory.Owner.
func (o owner) Unsent() bool { return o.c.out.n > 0 }

// Feed implements memory.Owner.
func (o owner) Feed(cl *memory.Claim) bool { return o.c.p.feed(&o.c.slots[cl.Index]) }

// Begin implements memory.Owner.
func (o owner) Begin(cl *memory.Claim) { o.c.resubmit(&o.c.slots[cl.Index]) }

// Read implements memory.Owner.
func (o owner) Read() {
	c := o.c
	if c.state != stateOpen {
		return
	}
	c.inSince = c.h.L.Awake() // the pause does not count against the peer's deadline
	c.parse(false)
	if !c.account.Paused() {
		c.driver.Touch()
	}
}
