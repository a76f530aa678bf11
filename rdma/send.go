//go:build rdma && cgo && linux

package rdma

import (
	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/internal/sys"
	"golang.org/x/sys/unix"
)

// sendQueue are the work requests that the device has, oldest first. The device names one by its place: its number, of all that there were, modulo
// the room of the queue, a power of two.
//
// A completion ends all work requests up to its own. A message whose bytes were copied needs none: side.Sent counts it when all before it
// are counted. So the queue is in two parts: messages that are counted, and behind them what is not.
type sendQueue struct {
	wrs        fifo.Queue[sending]
	first      uint32 // the number of the oldest
	counted    int    // of wrs, the oldest so many: side.Sent has counted them, or need not
	unsignaled int    // work requests since the last one that makes a completion
	maxBytes   int    // of a message
	written    uint32 // messages with bytes, with the verb write: which of the peer's slots is next
}

// sending is a work request in the send queue.
type sending struct {
	bytes  uint32
	copied bool // when it was posted: the side's memory is free
	read   int  // the reader's slot + 1 of a READ; 0: a message
	bind   bool // of the window: no message
}

// room is how many more work requests the device takes.
func (q *sendQueue) room() int { return q.wrs.Room() - q.wrs.Len() }

// place is that of the next work request.
func (q *sendQueue) place() uint32 { return (q.first + uint32(q.wrs.Len())) % uint32(q.wrs.Room()) }

// index is the work request at a place, counted from the oldest; beyond the last one where the place is free.
func (q *sendQueue) index(place uint32) int { return int((place - q.first) % uint32(q.wrs.Room())) }

// binds reports whether the work request at a place binds the window.
func (q *sendQueue) binds(place uint32) bool {
	i := q.index(place)
	return i < q.wrs.Len() && q.wrs.At(i).bind
}

// uncounted reports whether there are work requests that side.Sent has not counted.
func (q *sendQueue) uncounted() bool { return q.counted < q.wrs.Len() }

// waits reports whether one of these has memory of the side's, which only a completion sets free.
func (q *sendQueue) waits() bool {
	for i := q.counted; i < q.wrs.Len(); i++ {
		if !q.wrs.At(i).copied {
			return true
		}
	}
	return false
}

// pop removes the oldest work request, which has ended. uncounted are the bytes of its that side.Sent has not counted.
func (q *sendQueue) pop() (s sending, uncounted int) {
	s = q.wrs.Pop()
	q.first++
	if q.counted > 0 {
		q.counted--
		return s, 0
	}
	return s, int(s.bytes)
}

// count counts messages that were copied, up to the first that was not, and returns their bytes.
func (q *sendQueue) count() (bytes int) {
	for ; q.uncounted(); q.counted++ {
		s := q.wrs.At(q.counted)
		if !s.copied {
			break
		}
		bytes += int(s.bytes)
	}
	return bytes
}

// sendable is how many messages may be sent now, the last one of them without bytes.
func (l *link) sendable() int { return min(l.credits.left(), l.out.room()) }

// stage puts what there is to send into the batch.
func (l *link) stage() {
	if l.sendKey(); l.keys.state != keySent {
		return
	}
	var last *verbs.Op
	n := l.d.nic
	if l.reader != nil {
		last = l.reader.stage(last)
	}
	for l.keys.known && l.sendable() > 1 {
		if n.batch.Full() {
			l.announce(last)
			last = nil
			l.d.post()
		}
		k, bytes := l.side.Next(l.d.iov[:], l.out.maxBytes)
		if k == 0 {
			break
		}
		last = l.put(l.d.iov[:k], bytes)
	}
	if l.sendable() > 0 && (l.life.ask || l.credits.owed || l.credits.news() >= l.in.slots/2) && !n.batch.Full() {
		last = l.put(nil, 0)
		l.life.ask = false
	}
	l.announce(last)
}

// put makes a work request of bytes that lie in v.
func (l *link) put(v []unix.Iovec, bytes int) *verbs.Op {
	n, place := l.d.nic, l.out.place()
	op := n.batch.Next(l.pair.qp)
	l.d.owners = append(l.d.owners, l)
	op.WR = l.tag<<wrTagShift | uint64(place)
	op.Imm = l.credits.spend()
	l.expect()
	op.Kind, op.Remote, op.RKey, op.Flags, op.SGEs = verbs.OpSend, 0, 0, 0, uint32(len(v))
	if l.d.o.Verb == Write && bytes > 0 { // one without bytes takes a receive and no slot
		op.Kind, op.RKey = verbs.OpWrite, l.keys.theirs.rkey
		op.Remote = l.keys.theirs.addr + uint64(l.out.written%uint32(l.pair.peer.slots))*uint64(l.pair.peer.slotBytes)
		l.out.written++
	}
	small := bytes <= min(l.pair.qp.Inline, l.d.o.InlineBytes)
	copied := small
	for i := range v {
		b := sys.IovecBytes(&v[i])
		key, ok := n.lkey(b)
		if !ok {
			copied = true
			to := l.staging(place)[:0]
			for j := range v {
				to = append(to, sys.IovecBytes(&v[j])...) // never grows: staging is as large as the message may be
			}
			l.d.l.Stats.Copied += uint64(len(to))
			op.SGE[0], op.SGEs = verbs.Piece(to, l.mem.region.LKey), 1
			break
		}
		op.SGE[i] = verbs.Piece(b, key)
	}
	if small {
		op.Flags = verbs.Inline
	}
	l.out.wrs.Push(sending{bytes: uint32(bytes), copied: copied || bytes == 0})
	l.sign(op)
	return op
}

// sign makes every so-many-th work request one that makes a completion.
func (l *link) sign(op *verbs.Op) {
	if l.out.unsignaled++; l.out.unsignaled >= min(l.d.o.SignalEvery, l.out.wrs.Room()/2) {
		op.Flags |= verbs.Signaled
		l.out.unsignaled = 0
	}
}

// announce makes the last work request of a batch one that makes a completion, where something waits for it.
func (l *link) announce(last *verbs.Op) {
	if last == nil || l.out.unsignaled == 0 {
		return
	}
	if l.side.Last() || l.out.waits() {
		last.Flags |= verbs.Signaled
		l.out.unsignaled = 0
	}
}

// done takes the completion of the work request at a place, and with it of all before it.
func (l *link) done(place uint32) {
	n := l.out.index(place) + 1
	if n > l.out.wrs.Len() {
		return
	}
	bytes := 0
	for range n {
		s, uncounted := l.out.pop()
		bytes += uncounted
		switch {
		case s.read != 0:
			l.reader.ended(s.read - 1)
		case s.bind:
			l.keys.state = keyBound
		}
	}
	l.confirm(bytes)
	l.Touch()
}

// confirm counts for the side what it need not keep any more: bytes of messages that have ended, and of those that were copied.
func (l *link) confirm(bytes int) {
	if bytes += l.out.count(); bytes > 0 {
		l.side.Sent(bytes)
	}
}
