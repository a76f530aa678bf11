// Package stream is both ends of a connection over a byte stream, without the stream: it tells a driver where received bytes go and which bytes are to be sent, and turns
// them into requests and replies. The networks move the bytes; all else about a connection is here, so that they differ in nothing else.
//
// What is where:
//   - server.go, client.go: the two ends, of whatever protocol: bytes, slots, states; deadlines.go: when a server's end has failed; stream.go: the queues of bytes
//   - protocol.go: what the server's end needs of a protocol (client.go has the client's part), in which it calls native_*.go or resp_*.go for each batch of bytes
//     and for each request
//   - host.go: what the server's ends on one loop share; serve.go: the endpoints of all loops; dial.go: connecting; info.go: INFO and CLIENT LIST
//
// Sockets are in transport/socket, and who may have how much memory in transport/memory. The two protocols are types of this package, and no packages of their own:
// they work on the connection's slots, queues and account, which a package of their own would have to see in full, and the tests of the connection run it with
// both and look into it. The package may import transport, its socket and memory, and the codecs wire and resp. It imports no network.
package stream

import (
	"github.com/kvwire/kvwire/internal/sys"
	"golang.org/x/sys/unix"
)

// Side is one end of a connection, as the driver that moves its bytes sees it. All of it is called
// from the connection's loop.
type Side interface {
	// Window gives the memory that the next received bytes go to, in order, and how many of the two
	// slices count: 0 while reading is paused. It stays valid until Received or Drop.
	Window(w *[2][]byte) int

	// Received parses n bytes that were put into the window, the last of which were at the kernel at stamp, by the loop's
	// clock; 0: it is not known. An error ends the connection.
	Received(n int, stamp int64) error

	// Gather describes the bytes to send next, in order, at most max of them, and returns how
	// many places it filled: 0 when there is nothing. They stay in place until Sent or Drop.
	Gather(v []unix.Iovec, max int) int

	// Sent must be called when n bytes of what Gather described were sent.
	Sent(n int)

	// Finished reports whether all is sent and nothing will follow: the driver shuts its sending half, reads
	// what still comes until the peer closes or the deadline passes, and then drops the connection.
	Finished() bool

	// PeerFinished must be called when the peer has shut its sending half, in good order. false: the
	// connection ends now. true: answers are owed for what the peer has sent before; the driver
	// receives no more, goes on sending, and drops the connection when Finished reports the end.
	PeerFinished() bool

	// Drop ends the connection: no byte moves any more, and no memory given out by Window or Gather
	// is in the kernel's hands. err is the reason.
	Drop(err error)
}

// MessageSide is a Side over messages, which arrive whole and in order, and of which several are sent before the
// first is known to have arrived. A message holds bytes of the same stream, but a header lies in one
// message, whole. Window and Received are for the hello only.
type MessageSide interface {
	Side

	// Take parses a message that was received. Its bytes must stay as they are until Unread is 0, and no
	// other one is taken until then. An error ends the connection.
	Take(b []byte) error

	// Unread is how many bytes of the last message wait for memory.
	Unread() int

	// Next describes the bytes to send after those that it described before: at most max of them, in at most
	// len(v) pieces, and of one frame only. It returns the places it filled, and how many bytes they are.
	// They stay in place until Sent has counted them, or Drop.
	Next(v []unix.Iovec, max int) (pieces, bytes int)

	// Last reports whether what Next described last is the last of all.
	Last() bool
}

// GatherBytes is the most that one send is given, unless its driver has another bound. A send that ends only when all its bytes are out must not last
// so long with a slow reader that the reader looks as if it did not read.
const GatherBytes = 1 << 20

// Driver moves the bytes of one Side.
type Driver interface {
	// Touch is called when there may be something to send, or when reading may go on: the driver looks at
	// this connection when its member is staged next, in this turn or, if that is over, the next.
	Touch()

	// Stamp asks for the kernel's times of what is received from now on, where it has such.
	Stamp()
}

// inbox cuts received bytes into headers and payloads. Small messages pass through buf; what is
// left of a larger payload is received in place, together with what follows it.
type inbox struct {
	buf    []byte
	rd, wr int
	rest   []byte // of a payload, to be received in place; buf is empty while there is some
}

func (b *inbox) window(w *[2][]byte) int {
	if len(b.rest) == 0 {
		w[0] = b.buf[b.wr:]
		return 1
	}
	w[0], w[1] = b.rest, b.buf
	return 2
}

// received advances by n bytes and reports whether a payload that was received in place is whole.
func (b *inbox) received(n int) (whole bool) {
	if len(b.rest) > 0 {
		k := min(n, len(b.rest))
		b.rest = b.rest[k:]
		n -= k
		whole = len(b.rest) == 0
	}
	b.wr += n
	return whole
}

// unread are the bytes that have not been parsed.
func (b *inbox) unread() []byte { return b.buf[b.rd:b.wr] }

// consume goes behind n bytes that were parsed.
func (b *inbox) consume(n int) {
	if b.rd += n; b.rd == b.wr {
		b.rd, b.wr = 0, 0
	}
}

// receiveInto moves what is there of a payload to dst and leaves the rest to be received in place. It
// returns the bytes copied, and whether the payload is whole.
func (b *inbox) receiveInto(dst []byte) (copied int, whole bool) {
	k := copy(dst, b.buf[b.rd:b.wr])
	b.consume(k)
	if k == len(dst) {
		return k, true
	}
	b.rest = dst[k:]
	return k, false
}

// goOn moves what there is of rest from buf.
func (b *inbox) goOn() (copied int, whole bool) {
	k := copy(b.rest, b.buf[b.rd:b.wr])
	b.rest = b.rest[k:]
	b.consume(k)
	return k, len(b.rest) == 0
}

// compact makes room for the rest of a header. At most a header's bytes are left over.
func (b *inbox) compact() {
	if b.rd == 0 {
		return
	}
	b.wr = copy(b.buf, b.buf[b.rd:b.wr])
	b.rd = 0
}

// partial reports whether a message has begun and is not whole.
func (b *inbox) partial() bool { return b.rd < b.wr || len(b.rest) > 0 }

// outbox is the queue of messages to send, each of up to three pieces: header, key and value where
// they lie. It is bounded by the depth.
type outbox struct {
	q       []message // a ring
	head, n int
	off     int // bytes of the head message that are sent
	reached int // messages, from the head on, that a gather has described, in whole or in part
	handed  int // of these, those that hand has given out
	next    int // the message, from the head on, that describe goes on with
	nextOff int // and how many of its bytes were described
}

// line is a queue of places, oldest first, a ring of as many as there can be.
type line struct {
	q       []int
	head, n int
}

func (l *line) push(i int) {
	l.q[(l.head+l.n)%len(l.q)] = i
	l.n++
}

// first is the oldest; there is one.
func (l *line) first() int { return l.q[l.head] }

func (l *line) pop() {
	if l.head++; l.head == len(l.q) {
		l.head = 0
	}
	l.n--
}

type message struct {
	piece [3][]byte
	slot  int // whose it is; below 0: nobody's
}

func newOutbox(depth int) outbox { return outbox{q: make([]message, depth)} }

// grow makes room for so many messages in all; those that there are stay as they are.
func (o *outbox) grow(depth int) {
	q := make([]message, depth)
	for i := range o.n {
		q[i] = o.q[(o.head+i)%len(o.q)]
	}
	o.q, o.head = q, 0
}

func (o *outbox) push(m message) {
	if o.n == len(o.q) {
		panic("stream: more messages than the depth allows")
	}
	o.q[(o.head+o.n)%len(o.q)] = m
	o.n++
}

// addMax bounds what add copies: more than that is cheaper to send from where it lies.
const addMax = 512

// add puts bytes behind those of the last message, if that lies in one piece with room for them and no gather has described it.
func (o *outbox) add(b []byte) bool {
	if o.n == o.reached || len(b) > addMax {
		return false
	}
	m := &o.q[(o.head+o.n-1)%len(o.q)]
	if m.slot < 0 || m.piece[1] != nil || cap(m.piece[0])-len(m.piece[0]) < len(b) {
		return false
	}
	m.piece[0] = append(m.piece[0], b...)
	return true
}

func (o *outbox) gather(v []unix.Iovec, room int) int {
	k, skip := 0, o.off
	for i := range o.n {
		m := &o.q[(o.head+i)%len(o.q)]
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

// describe is gather for what follows after what it described before: bytes of one message.
func (o *outbox) describe(v []unix.Iovec, max int) (k, n int) {
	if o.next == o.n {
		return 0, 0
	}
	m := &o.q[(o.head+o.next)%len(o.q)]
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
	o.reached = o.next + 1
	if o.nextOff += n; o.nextOff == m.bytes() {
		o.next, o.nextOff = o.next+1, 0
	}
	return k, n
}

// headSlot is the head message's slot; below 0: there is none.
func (o *outbox) headSlot() int {
	if o.n == 0 {
		return -1
	}
	return o.q[o.head].slot
}

func (m *message) bytes() int { return len(m.piece[0]) + len(m.piece[1]) + len(m.piece[2]) }

// hand gives, one by one, the slots of messages that a gather has described for the first time: from then
// on their bytes may be on their way.
func (o *outbox) hand() (slot int, ok bool) {
	if o.handed == o.reached {
		return 0, false
	}
	slot = o.q[(o.head+o.handed)%len(o.q)].slot
	o.handed++
	return slot, true
}

// sent counts *n bytes off the head message. When that message is out whole it is dropped and its
// slot returned; call again until ok is false.
func (o *outbox) sent(n *int) (slot int, ok bool) {
	if o.n == 0 {
		return 0, false
	}
	m := &o.q[o.head]
	left := m.bytes() - o.off
	if *n < left {
		o.off += *n
		*n = 0
		return 0, false
	}
	*n -= left
	slot = m.slot
	*m = message{}
	o.head = (o.head + 1) % len(o.q)
	o.n--
	o.off = 0
	o.reached = max(o.reached-1, 0)
	o.handed = max(o.handed-1, 0)
	o.next = max(o.next-1, 0)
	return slot, true
}
