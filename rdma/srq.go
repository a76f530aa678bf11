//go:build rdma && cgo && linux

package rdma

import (
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/arena"
)

// shared is the receive queue that all links of an engine share. A link reserves as many slots of it as it gives
// credits, so that the queue never runs dry; what sharing saves is posts: those of a turn are one chain.
type shared struct {
	srq         *verbs.SRQ
	mem         *arena.Arena
	region      *verbs.Region
	slotBytes   int
	slots       int // most slots that may be posted
	posted      int // number of slots, from the first on, that were posted at least once
	reserved    int // slots reserved by links
	outstanding int // slots that the device has: posted and not completed
	byQP        map[uint32]*link
}

func newShared(dev *verbs.Device, slotBytes int) (s *shared, err error) {
	s = &shared{slotBytes: slotBytes, slots: min(sharedSlots, dev.Limits.SRQWRs), byQP: map[uint32]*link{}}
	if s.srq, err = dev.NewSRQ(s.slots); err != nil {
		return nil, err
	}
	if s.mem, err = arena.NewShared(s.slots * slotBytes); err == nil {
		s.region, err = dev.Register(s.mem.Bytes(), verbs.Local)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// join reserves a link's slots, and posts new slots if fewer were posted so far.
func (s *shared) join(l *link, b *verbs.Batch) error {
	if s.reserved+l.in.slots > s.slots {
		return fmt.Errorf("rdma: the shared receive queue has %d slots, of which %d are in use (fewer connections for a loop, or less depth)", s.slots, s.reserved)
	}
	s.reserved += l.in.slots
	s.byQP[l.pair.qp.Num] = l
	for s.posted < s.reserved {
		if err := s.post(uint32(s.posted), b); err != nil {
			return err
		}
		s.posted++
	}
	return nil
}

// leave ends a link's reservation, and posts again the slots of its undelivered messages.
func (s *shared) leave(l *link, b *verbs.Batch) error {
	if s.byQP[l.pair.qp.Num] != l {
		return nil
	}
	delete(s.byQP, l.pair.qp.Num)
	s.reserved -= l.in.slots
	var errs []error
	for l.in.arrived.Len() > 0 {
		errs = append(errs, s.post(l.in.arrived.Pop().slot, b))
	}
	return errors.Join(errs...)
}

// owns reports whether a completion belongs to a slot of this queue. It is false if s is nil.
func (s *shared) owns(c *verbs.Completion) bool {
	return s != nil && c.WR>>wrTagShift == 0 && c.WR&(wrRecv|wrRESP) == wrRecv
}

// slotOf is the slot of a receive.
func slotOf(c *verbs.Completion) uint32 { return uint32(c.WR) & (wrRecv - 1) }

func (s *shared) slot(i uint32) []byte {
	at := int(i) * s.slotBytes
	return s.mem.Bytes()[at : at+s.slotBytes : at+s.slotBytes]
}

func (s *shared) post(slot uint32, b *verbs.Batch) error {
	s.outstanding++
	return b.Recv(nil, s.srq, wrRecv|uint64(slot), s.slot(slot), s.region.LKey)
}

// close frees all. Its queue pairs are gone.
func (s *shared) close() error {
	errs := []error{s.srq.Close()}
	if s.region != nil {
		errs = append(errs, s.region.Close())
	}
	if s.mem != nil {
		errs = append(errs, s.mem.Close())
	}
	return errors.Join(errs...)
}
