//go:build rdma && cgo && linux

package rdma

import (
	"fmt"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/transport"
)

// receiving holds the received messages. With the verb write, the peer writes its message number i, counted without empty messages, to slot i modulo the
// number of slots.
type receiving struct {
	slots, slotBytes int
	arrived          fifo.Queue[arrival] // messages that the side has not consumed completely
	arrivals         uint32              // number of received messages with bytes
	consuming        bool                // the side has begun to consume the oldest of arrived
	spare            []uint32            // free slots that are not posted yet
}

type arrival struct{ slot, bytes uint32 }

// slot returns the memory of a slot.
func (l *link) slot(i uint32) []byte {
	if s := l.d.nic.shared; s != nil {
		return s.slot(i)
	}
	at := int(i) * l.in.slotBytes
	return l.mem.arena.Bytes()[at : at+l.in.slotBytes : at+l.in.slotBytes]
}

// post returns a slot to the device: a quarter of all slots together; with a shared receive queue, at once.
func (l *link) post(slot uint32) error {
	if s := l.d.nic.shared; s != nil {
		l.credits.posted++
		return s.post(slot, l.d.nic.batch)
	}
	if l.in.spare = append(l.in.spare, slot); len(l.in.spare) < l.in.slots/4 {
		return nil
	}
	return l.postSpare()
}

func (l *link) postSpare() error {
	for _, slot := range l.in.spare {
		var b []byte
		switch {
		case l.keys.exposed == nil: // the device chooses the slot of a message, and not the peer
			b = l.slot(slot)
		case l.credits.posted == 0:
			b = l.keyRoom()
		}
		if err := l.d.nic.batch.Recv(l.pair.qp, nil, l.tag<<wrTagShift|wrRecv|uint64(slot), b, l.mem.region.LKey); err != nil {
			return err
		}
		l.credits.posted++
	}
	l.in.spare = l.in.spare[:0]
	return nil
}

// received handles the completion of a receive.
func (l *link) received(c *verbs.Completion) error {
	more, err := l.credits.update(c.Imm, l.pair.peer.slots)
	if err != nil && !l.overtaken(c.Imm) {
		l.repost(c)
		return err
	}
	if more > 0 {
		l.Touch()
	}
	l.alive.receivedAt, l.alive.probedAt, l.alive.probe = l.d.l.AwakeNow(), 0, false
	if l.served && c.Bytes == 0 && more < l.pair.peer.slots/2 { // its count alone does not justify a message, so it requests a sign of life
		l.credits.replyDue = true
		l.Touch()
	}
	slot := uint32(c.WR) & (wrRecv - 1)
	if !l.keys.known {
		return l.receiveKey(slot, c.Bytes)
	}
	if c.Bytes == 0 {
		// Post it at once, even if earlier messages wait for memory. The peer may have used its last credit for it, and then
		// can send nothing until it gets the new count.
		if err := l.post(slot); err != nil {
			return err
		}
		if err := l.postSpare(); err != nil {
			return err
		}
		l.Touch()
		return nil
	}
	if l.in.arrived.Len() == l.in.arrived.Room() || int(c.Bytes) > l.in.slotBytes {
		l.repost(c)
		if l.ring != nil {
			return fmt.Errorf("%w: a message of %d B with a completion, over the verb %v", transport.ErrProtocol, c.Bytes, l.d.o.Verb)
		}
		return fmt.Errorf("%w: a message of %d B, %d of %d slots are full", transport.ErrProtocol, c.Bytes, l.in.arrived.Len(), l.in.slots)
	}
	if l.d.o.Verb == Write {
		slot = l.in.arrivals % uint32(l.in.slots) // the slot that the peer wrote to, which is independent of the consumed receive
	}
	l.in.arrivals++
	if l.in.arrived.Len() == 0 { // as deliver, without the queue
		if err = l.side.ReceivedMessage(l.slot(slot)[:c.Bytes]); err == nil && l.side.Unread() == 0 {
			l.Touch()
			return l.post(slot)
		}
		l.in.consuming = true
	}
	l.in.arrived.Push(arrival{slot, c.Bytes})
	return err
}

// repost posts the slot of a message that ends the connection, if the slot belongs to the shared receive queue.
func (l *link) repost(c *verbs.Completion) {
	if s := l.d.nic.shared; s != nil {
		_ = s.post(slotOf(c), l.d.nic.batch)
	}
}

// deliver passes messages to the side, as far as it has memory for them.
func (l *link) deliver() error {
	for l.in.arrived.Len() > 0 {
		a := *l.in.arrived.Front()
		if !l.in.consuming {
			l.in.consuming = true
			if err := l.side.ReceivedMessage(l.slot(a.slot)[:a.bytes]); err != nil {
				return err
			}
		}
		if l.side.Unread() > 0 {
			return nil // paused: Touch is called when there is memory
		}
		l.in.consuming = false
		l.in.arrived.Pop()
		if err := l.post(a.slot); err != nil {
			return err
		}
		l.Touch()
	}
	return nil
}
