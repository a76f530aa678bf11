package stream

import (
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/internal/sys"
	"golang.org/x/sys/unix"
)

// outbox is the queue of messages to send. Each has up to three pieces, which are not copied: header, key
// and value. Its length is bounded by the connection's depth.
type outbox struct {
	fifo.Queue[message]
	off     int // bytes of the head message that are sent
	reached int // number of messages, from the head on, of which gather or describe has described some bytes
	handed  int // of these, those that nextHanded has returned
	next    int // index, from the head on, of the message with which describe continues
	nextOff int // bytes of that message that were described
	more    int // sum of message.more
}

type message struct {
	piece [3][]byte
	slot  int // the slot that it belongs to; below 0: none
	more  int // answers in it besides that of its slot
}

func newOutbox(depth int) outbox { return outbox{Queue: fifo.Make[message](depth)} }

// coalesceMax is the most bytes that are appended. More bytes are cheaper to send from where they lie.
const coalesceMax = 512

// open returns the last message if n bytes may be appended to its first piece: it has no other piece, enough room, and was not described yet. nil: there is none.
func (o *outbox) open(n int) *message {
	if o.Len() == o.reached || n > coalesceMax {
		return nil
	}
	m := o.At(o.Len() - 1)
	if m.slot < 0 || m.piece[1] != nil || cap(m.piece[0])-len(m.piece[0]) < n {
		return nil
	}
	return m
}

// addAnswers counts n answers in a message besides that of its slot.
func (o *outbox) addAnswers(m *message, n int) {
	m.more += n
	o.more += n
}

// coalesce appends an answer to the last message, if that is open. It reports whether it did.
func (o *outbox) coalesce(b []byte) bool {
	m := o.open(len(b))
	if m == nil {
		return false
	}
	m.piece[0] = append(m.piece[0], b...)
	o.addAnswers(m, 1)
	return true
}

func (o *outbox) gather(v []unix.Iovec, room int) int {
	k, skip := 0, o.off
	for i := range o.Len() {
		m := o.At(i)
		for _, p := range &m.piece {
			if skip >= len(p) {
				skip -= len(p)
				continue
			}
			if k == len(v) || room == 0 {
				return k
			}
			p = p[skip:min(len(p), skip+room)]
			sys.SetIovec(&v[k], p)
			room -= len(p)
			skip = 0
			k++
			o.reached = max(o.reached, i+1)
		}
	}
	return k
}

// describe is gather for messages sent one by one: it continues after the bytes that it described before, with bytes of one message.
func (o *outbox) describe(v []unix.Iovec, max int) (k, n int) {
	if !o.undescribed() {
		return 0, 0
	}
	m := o.At(o.next)
	o.reached = o.next + 1
	if o.nextOff == 0 && len(m.piece[0]) <= max && len(m.piece[1])+len(m.piece[2]) == 0 { // most messages: one piece, which fits
		sys.SetIovec(&v[0], m.piece[0])
		o.next++
		return 1, len(m.piece[0])
	}
	skip := o.nextOff
	for _, p := range &m.piece {
		if skip >= len(p) {
			skip -= len(p)
			continue
		}
		if k == len(v) || n == max {
			break
		}
		p = p[skip:min(len(p), skip+max-n)]
		sys.SetIovec(&v[k], p)
		n += len(p)
		skip = 0
		k++
	}
	if o.nextOff += n; o.nextOff == m.bytes() {
		o.next, o.nextOff = o.next+1, 0
	}
	return k, n
}

// popWhole removes the oldest message, if it is one piece of at most max bytes, and none of it was described. slot is the message's.
func (o *outbox) popWhole(max int) (b []byte, slot int) {
	if o.Len() == 0 || o.reached > 0 {
		return nil, 0
	}
	m := o.Front()
	if b = m.piece[0]; len(b) > max || len(m.piece[1])+len(m.piece[2]) > 0 {
		return nil, 0
	}
	slot = m.slot
	o.more -= m.more
	o.Drop()
	return b, slot
}

// undescribed reports whether describe has bytes left.
func (o *outbox) undescribed() bool { return o.next < o.Len() }

// headSlot returns the slot of the oldest message; below 0: there is none.
func (o *outbox) headSlot() int {
	if o.Len() == 0 {
		return -1
	}
	return o.Front().slot
}

func (m *message) bytes() int { return len(m.piece[0]) + len(m.piece[1]) + len(m.piece[2]) }

// nextHanded returns, one per call, the slots of messages that were described for the first time: their bytes
// may be sent from then on.
func (o *outbox) nextHanded() (slot int, ok bool) {
	if o.handed == o.reached {
		return 0, false
	}
	slot = o.At(o.handed).slot
	o.handed++
	return slot, true
}

// sent subtracts sent bytes from *n and counts them for the oldest message. If that message is now sent
// completely, it is removed and its slot returned; call again until ok is false.
func (o *outbox) sent(n *int) (slot int, ok bool) {
	if o.Len() == 0 {
		return 0, false
	}
	left := o.Front().bytes() - o.off
	if *n < left {
		o.off += *n
		*n = 0
		return 0, false
	}
	*n -= left
	slot = o.Front().slot
	o.more -= o.Front().more
	o.Drop()
	o.off = 0
	o.reached = max(o.reached-1, 0)
	o.handed = max(o.handed-1, 0)
	o.next = max(o.next-1, 0)
	return slot, true
}
