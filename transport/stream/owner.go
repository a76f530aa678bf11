package stream

import "github.com/kvwire/kvwire/transport/memory"

// owner is a connection as its account sees it.
type owner struct{ c *Server }

var _ memory.Owner = owner{}

// Unsent is memory.Owner's.
func (o owner) Unsent() bool { return o.c.out.n > 0 }

// Feed is memory.Owner's.
func (o owner) Feed(cl *memory.Claim) bool { return o.c.p.feed(&o.c.slots[cl.Index]) }

// Begin is memory.Owner's.
func (o owner) Begin(cl *memory.Claim) { o.c.resubmit(&o.c.slots[cl.Index]) }

// Read is memory.Owner's.
func (o owner) Read() {
	c := o.c
	if c.state != stateOpen {
		return
	}
	c.inSince = c.h.L.Awake() // it was not the peer who waited
	c.parse(false)
	if !c.account.Paused() {
		c.driver.Touch()
	}
}
