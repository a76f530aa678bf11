//go:build rdma && cgo && linux

package rdma

import (
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/rdma/device"
)

// nic is a device as one member of a loop uses it: one protection domain, one completion queue for all its
// connections, one batch of work requests for each turn. It belongs to the loop.
type nic struct {
	name             string
	dev              *verbs.Device
	cq               *verbs.CQ
	batch            *verbs.Batch
	reserved         int // places in the completion queue that connections may fill
	memory           []piece
	shared           *shared      // receive queue; nil: each connection has its own
	doorbellSyscalls bool         // each doorbell is a system call, as with software devices
	failure          error        // why the device does not work any more; nil: it works
	slotAccess       verbs.Access // how slots that peers write into are registered: Bindable, or, where the device has no windows, RemoteWrite
}

// piece is memory that a work request may point to.
type piece struct {
	lo, hi uint64 // addresses
	region *verbs.Region
}

// openNIC opens the device of a choice. number is the member's number among those that use the device. It adds its calls into C to calls.
func openNIC(c device.Choice, o Options, number int, calls *uint64) (*nic, error) {
	dev, err := verbs.Open(c.Device)
	if err != nil {
		return nil, err
	}
	n := &nic{name: c.Device, dev: dev, doorbellSyscalls: c.Software && c.Provider != device.Model, slotAccess: verbs.RemoteWrite}
	if dev.Limits.MemoryWindows {
		n.slotAccess = verbs.Bindable
	}
	if n.cq, err = dev.NewCQ(min(cqEntries, dev.Limits.CQEs), number, calls); err == nil {
		n.batch, err = verbs.NewBatch(calls)
	}
	if err == nil && o.SRQ {
		n.shared, err = newShared(dev, o.SlotBytes)
	}
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// register registers memory with the device, until the nic is closed.
func (n *nic) register(a *arena.Arena, access verbs.Access) (*verbs.Region, error) {
	b := a.Bytes()
	r, err := n.dev.Register(b, access)
	if err != nil {
		return nil, err
	}
	lo := verbs.Address(b)
	n.memory = append(n.memory, piece{lo, lo + uint64(len(b)), r})
	return r, nil
}

// lkey returns the key of the registered memory that contains b.
func (n *nic) lkey(b []byte) (key uint32, ok bool) {
	at := verbs.Address(b)
	for i := range n.memory {
		if p := &n.memory[i]; at >= p.lo && at < p.hi {
			return p.region.LKey, true
		}
	}
	return 0, false
}

// reserve reserves k places in the completion queue for a connection: a queue that overflows loses
// completions without an error.
func (n *nic) reserve(k int) error {
	if n.reserved+k > n.cq.Entries {
		return fmt.Errorf("rdma: the completion queue of %s has %d places, of which %d are in use (fewer connections for a loop, or less depth)", n.name, n.cq.Entries, n.reserved)
	}
	n.reserved += k
	return nil
}

// close frees all objects, in order. Its queue pairs and their memory were freed before.
func (n *nic) close() error {
	var errs []error
	if n.shared != nil {
		errs = append(errs, n.shared.close())
	}
	if n.cq != nil {
		errs = append(errs, n.cq.Close())
	}
	for _, p := range n.memory {
		errs = append(errs, p.region.Close())
	}
	if n.batch != nil {
		errs = append(errs, n.batch.Close())
	}
	return errors.Join(append(errs, n.dev.Close())...)
}
