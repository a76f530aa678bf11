//go:build rdma && cgo && linux

package rdma

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
)

// With the verb write-poll, messages with bytes are WRITEs without immediate data. They consume no receive and make no completion at the receiver, which
// polls the flag of its next slot in every turn. Messages without bytes are SENDs, as with the verb write: they are for credits and signs of life.
// So each message consumes a credit, and only a message without bytes consumes a receive. A side has as many receives as slots, so one is always posted.

// ring is the receiving side of a connection with the verb write-poll.
type ring struct {
	arrived fifo.Queue[arrival] // found messages that the side has not consumed completely
	found   uint32              // number of found messages
	count   uint32              // the peer's count in the last flag
}

// pollingHub is a hub, and pollingEndpoint an endpoint, that also polls memory. So the other verbs do not pay for it.
type (
	pollingHub      struct{ *hub }
	pollingEndpoint struct{ *endpoint }
)

// Poll implements loop.Member.
func (h pollingHub) Poll() int {
	h.idle = false // no Spin, during which no memory is polled
	return h.pollRings() + h.hub.Poll()
}

// Poll implements loop.Member.
func (e pollingEndpoint) Poll() int {
	e.idle = false
	return e.pollRings() + e.endpoint.Poll()
}

// member is what the loop has of a hub.
func (h *hub) member() loop.Member {
	if h.o.Verb == WritePoll {
		return pollingHub{h}
	}
	return h
}

// member is what the loop has of an endpoint.
func (e *endpoint) member() stream.Endpoint {
	if e.o.Verb == WritePoll {
		return pollingEndpoint{e}
	}
	return e
}

// pollRings polls the flags of all links, and returns the number of events.
func (d *rdmaEngine) pollRings() (n int) {
	d.links.Each(func(_ uint64, l **link) { n += (*l).pollRing() })
	return n
}

// pollRing finds the messages whose flags are there, and passes messages to the side, as far as it has memory for them. It returns the number of events:
// found messages, and an error that ends the connection. It does nothing with another verb, or before the peer's key is known.
func (l *link) pollRing() (n int) {
	if l.ring == nil || l.state != linkUp || !l.keys.known {
		return 0
	}
	err := error(nil)
	for found := true; found && err == nil; {
		if found, err = l.findMessage(); found {
			n++
		}
	}
	if err == nil {
		err = l.deliverFound()
	}
	if err != nil {
		n++
		l.onEnd(l, err)
	}
	return n
}

// findMessage handles the next message, if its flag is there.
func (l *link) findMessage() (found bool, err error) {
	r, slots := l.ring, l.in.slots
	slot := r.found % uint32(slots)
	flags := l.mem.arena.Bytes()[slots*l.in.slotBytes:]
	bytes, count, found := decodeFlag(atomic.LoadUint64(arena.Word(flags[slot*flagBytes:])), lapBits(r.found, slots))
	switch {
	case !found:
		return false, nil
	case r.arrived.Len() == slots || bytes == 0 || int(bytes) > l.in.slotBytes:
		return false, fmt.Errorf("%w: a flag for a message of %d B, %d of %d slots are full", transport.ErrProtocol, bytes, r.arrived.Len(), slots)
	}
	more := 0
	if void := int32(count-r.count) >= 0 && l.overtaken(count); !void {
		if more, err = l.credits.update(count, l.pair.peer.slots); err != nil {
			return false, err
		}
	}
	r.count = count
	if more > 0 {
		l.Touch()
	}
	l.alive.receivedAt, l.alive.probedAt, l.alive.probe = l.d.l.AwakeNow(), 0, false
	r.arrived.Push(arrival{slot, bytes})
	r.found++
	return true, nil
}

// overtaken reports whether a later count was seen before this one: the peer's flags are found in order, and so are its completions, but a flag may be
// found before the completion of an earlier message without bytes. An overtaken count is void.
func (l *link) overtaken(count uint32) bool {
	return l.ring != nil && int32(count-l.credits.allowed) < 0
}

// deliverFound passes found messages to the side, as far as it has memory for them. A consumed message leaves its slot free, and no receive to post.
func (l *link) deliverFound() error {
	for r := l.ring; r.arrived.Len() > 0; {
		a := *r.arrived.Front()
		if !l.in.consuming {
			l.in.consuming = true
			if err := l.side.ReceivedMessage(l.slot(a.slot)[:a.bytes]); err != nil {
				return err
			}
		}
		if l.side.Unread() > 0 {
			return nil // paused: the next turn tries again
		}
		l.in.consuming = false
		r.arrived.Pop()
		l.credits.posted++
		l.Touch()
	}
	return nil
}

// addFlag makes the work request of a message a plain WRITE, and adds that of its flag. They have one place in the send queue, and a completion of the flag
// ends both.
func (l *link) addFlag(op *verbs.Op, bytes int) *verbs.Op {
	n, place, slots := l.d.nic, uint32(op.WR)&(wrRecv-1), uint32(l.pair.peer.slots)
	slot := l.out.written % slots
	op.Kind, op.RKey, op.Remote = verbs.OpWritePlain, l.keys.peer.rkey, l.keys.peer.addr+uint64(slot)*uint64(l.pair.peer.slotBytes)
	signaled := op.Flags & verbs.Signaled
	op.Flags &^= verbs.Signaled
	flag := l.flagRoom(place)
	binary.LittleEndian.PutUint64(flag, encodeFlag(uint32(bytes), op.Imm, lapBits(l.out.written, int(slots))))
	l.out.written++

	if n.batch.Full() {
		l.d.post()
	}
	op = n.batch.Next(l.pair.qp)
	l.d.owners = append(l.d.owners, l)
	op.WR, op.Imm = l.tag<<wrTagShift|uint64(place), 0
	op.Kind, op.RKey, op.Remote = verbs.OpWritePlain, l.keys.peer.rkey, l.keys.peer.addr+uint64(slots)*uint64(l.pair.peer.slotBytes)+uint64(slot)*flagBytes
	op.Flags, op.SGE[0], op.SGEs = signaled, verbs.Piece(flag, l.mem.region.LKey), 1
	if flagBytes <= l.out.inlineMax {
		op.Flags |= verbs.Inline
	}
	return op
}

// flagsAt is the offset of the places for flags, behind the places for copied messages. The room for the peer's key lies in front of them.
const flagsAt = 16

// flagRoom is the memory of the flag of the message at a place of the send queue.
func (l *link) flagRoom(place uint32) []byte {
	at := l.mem.staged + l.in.slots*l.mem.placeBytes + flagsAt + int(place)*flagBytes
	return l.mem.arena.Bytes()[at : at+flagBytes : at+flagBytes]
}
