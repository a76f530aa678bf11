//go:build rdma && cgo && linux

package rdma

import (
	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/internal/sys"
	"golang.org/x/sys/unix"
)

// sendQueue holds the posted work requests, oldest first. The place of a work request is its number since the beginning modulo the room of the queue,
// a power of two; completions carry it.
//
// A completion ends all work requests up to its own. A message whose bytes were copied needs no completion before it is counted by side.Sent, once all
// earlier ones are counted. So the queue has two parts: first the counted work requests, then the others.
type sendQueue struct {
	wrs        fifo.Queue[sending]
	first      uint32 // number of the oldest work request
	counted    int    // number of the oldest work requests that side.Sent has counted, or need not count
	unsignaled int    // number of work requests since the last one with a completion
	copied     int    // bytes of counted work requests that side.Sent must still be called for, once they are posted
	maxBytes   int    // most bytes of a message
	inlineMax  int    // most bytes of a message that is copied into its work request; below 0: none is
	written    uint32 // with the verbs write and write-poll: messages with bytes sent so far, which gives the peer's next slot
}

// sending is a work request in the send queue.
type sending struct {
	bytes  uint32
	read   int32 // the reader's slot + 1 of a READ; 0: a message
	copied bool  // its bytes were copied when it was posted: the side may reuse its memory
	bind   bool  // it binds the memory window, and is no message
}

// push adds a work request. A copied one with only counted ones in front of it is counted at once.
func (q *sendQueue) push(s sending) {
	if s.copied && q.counted == q.wrs.Len() {
		q.counted++
		q.copied += int(s.bytes)
	}
	q.wrs.Push(s)
}

// room returns the number of work requests that may still be posted.
func (q *sendQueue) room() int { return q.wrs.Room() - q.wrs.Len() }

// place returns the place of the next work request.
func (q *sendQueue) place() uint32 { return (q.first + uint32(q.wrs.Len())) % uint32(q.wrs.Room()) }

// index returns the index of the work request at a place, counted from the oldest; it is beyond the last one if the place is free.
func (q *sendQueue) index(place uint32) int { return int((place - q.first) % uint32(q.wrs.Room())) }

// binds reports whether the work request at a place binds the window.
func (q *sendQueue) binds(place uint32) bool {
	i := q.index(place)
	return i < q.wrs.Len() && q.wrs.At(i).bind
}

// uncounted reports whether there are work requests that side.Sent has not counted.
func (q *sendQueue) uncounted() bool { return q.counted < q.wrs.Len() }

// waits reports whether one of these uses memory of the side, which is free only after a completion.
func (q *sendQueue) waits() bool {
	for i := q.counted; i < q.wrs.Len(); i++ {
		if !q.wrs.At(i).copied {
			return true
		}
	}
	return false
}

// pop removes the oldest work request, which has ended. uncounted is the number of its bytes that side.Sent has not counted.
func (q *sendQueue) pop() (s sending, uncounted int) {
	s = q.wrs.Pop()
	q.first++
	if q.counted > 0 {
		q.counted--
		return s, 0
	}
	return s, int(s.bytes)
}

// count counts messages that were copied, up to the first that was not. It returns their bytes, with those that push has counted.
func (q *sendQueue) count() (bytes int) {
	bytes, q.copied = q.copied, 0
	for ; q.uncounted(); q.counted++ {
		s := q.wrs.At(q.counted)
		if !s.copied {
			break
		}
		bytes += int(s.bytes)
	}
	return bytes
}

// sendable returns the number of messages that may be sent now; the last of them must be without bytes.
func (l *link) sendable() int { return min(l.credits.available(), l.out.room()) }

// stage adds the messages to send to the batch.
func (l *link) stage() {
	if l.keys.state != keySent {
		if l.sendKey(); l.keys.state != keySent {
			return
		}
	}
	var last *verbs.Op
	n := l.d.nic
	if l.reader != nil {
		last = l.reader.stage(last)
	}
	for l.keys.known && l.sendable() > 1 {
		if n.batch.Full() {
			l.signalLast(last)
			last = nil
			l.d.post()
		}
		b, more := l.side.NextCopied(min(l.out.inlineMax, l.out.maxBytes))
		bytes := len(b)
		if bytes > 0 {
			last = l.addCopied(b)
		} else if more {
			var k int
			k, bytes, more = l.side.Next(l.d.iov[:], l.out.maxBytes)
			last = l.addMessage(l.d.iov[:k], bytes)
		} else {
			break
		}
		if l.ring != nil {
			last = l.addFlag(last, bytes)
		}
		if !more {
			break
		}
	}
	if l.sendable() > 0 && (l.alive.probe || l.credits.replyDue || l.credits.unadvertised() >= l.in.slots/2) && !n.batch.Full() {
		last = l.addMessage(nil, 0)
		l.alive.probe = false
	}
	l.signalLast(last)
}

// addCopied makes a work request of a message that the device copies when it is posted, from any memory. The side has counted it.
func (l *link) addCopied(b []byte) *verbs.Op {
	op, _ := l.newMessage(len(b))
	op.Flags, op.SGE[0], op.SGEs = verbs.Inline, verbs.Piece(b, 0), 1
	l.out.push(sending{copied: true})
	l.signal(op)
	return op
}

// addMessage makes a work request of the bytes in v.
func (l *link) addMessage(v []unix.Iovec, bytes int) *verbs.Op {
	op, place := l.newMessage(bytes)
	op.Flags, op.SGEs = 0, uint32(len(v))
	copied := bytes <= l.out.inlineMax
	if copied {
		op.Flags = verbs.Inline
		for i := range v {
			op.SGE[i] = verbs.Piece(sys.IovecBytes(&v[i]), 0)
		}
	} else {
		copied = l.setPieces(op, v, place)
	}
	l.out.push(sending{bytes: uint32(bytes), copied: copied || bytes == 0})
	l.signal(op)
	return op
}

// newMessage adds the work request of a message to the batch. The caller sets flags and pieces, and adds it to the send queue, at place.
func (l *link) newMessage(bytes int) (op *verbs.Op, place uint32) {
	op, place = l.d.nic.batch.Next(l.pair.qp), l.out.place()
	l.d.owners = append(l.d.owners, l)
	op.WR = l.tag<<wrTagShift | uint64(place)
	op.Imm = l.credits.consume()
	l.checkSoon()
	op.Kind, op.Remote, op.RKey = verbs.OpSend, 0, 0
	if l.d.o.Verb == Write && bytes > 0 { // a message without bytes consumes a receive, but no slot
		op.Kind, op.RKey = verbs.OpWrite, l.keys.peer.rkey
		op.Remote = l.keys.peer.addr + uint64(l.out.written%uint32(l.pair.peer.slots))*uint64(l.pair.peer.slotBytes)
		l.out.written++
	}
	return op, place
}

// setPieces makes op send the bytes in v from where they are, or, if some are not in registered memory, from the place for copied messages; then copied is true.
func (l *link) setPieces(op *verbs.Op, v []unix.Iovec, place uint32) (copied bool) {
	for i := range v {
		b := sys.IovecBytes(&v[i])
		key, ok := l.d.nic.lkey(b)
		if !ok {
			to := l.staging(place)[:0]
			for j := range v {
				to = append(to, sys.IovecBytes(&v[j])...) // never grows: staging is as large as the message may be
			}
			l.d.l.Stats.Copied += uint64(len(to))
			op.SGE[0], op.SGEs = verbs.Piece(to, l.mem.region.LKey), 1
			return true
		}
		op.SGE[i] = verbs.Piece(b, key)
	}
	return false
}

// signal requests a completion for every SignalEvery-th work request.
func (l *link) signal(op *verbs.Op) {
	if l.out.unsignaled++; l.out.unsignaled >= min(l.d.o.SignalEvery, l.out.wrs.Room()/2) {
		op.Flags |= verbs.Signaled
		l.out.unsignaled = 0
	}
}

// signalLast requests a completion for the last work request of a batch, if something waits for it.
func (l *link) signalLast(last *verbs.Op) {
	if last == nil || l.out.unsignaled == 0 {
		return
	}
	if l.side.Last() || l.out.waits() {
		last.Flags |= verbs.Signaled
		l.out.unsignaled = 0
	}
}

// sendCompleted handles the completion of the work request at a place, which also ends all earlier ones.
func (l *link) sendCompleted(place uint32) {
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
			l.reader.ended(int(s.read) - 1)
		case s.bind:
			l.keys.state = keyBound
		}
	}
	l.countSent(bytes)
	l.Touch()
}

// countSent calls side.Sent for bytes that the side need not keep any more: those of ended messages, and of copied ones.
func (l *link) countSent(bytes int) {
	if bytes += l.out.count(); bytes > 0 {
		l.side.Sent(bytes)
	}
}
