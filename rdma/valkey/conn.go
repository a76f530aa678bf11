package valkey

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/transport"
	"golang.org/x/sys/unix"
)

// QueuePair posts the work requests of a connection. A place is an index in the send queue or in the receive queue: the completion names it, and it is free
// again then. Bytes stay unchanged until the completion.
type QueuePair interface {
	// PostReceive posts a receive of ControlBytes into b.
	PostReceive(place int, b []byte) error

	// PostSend posts a SEND. signaled: it makes a completion; else it completes with the next one that does.
	PostSend(place int, b []byte, signaled bool)

	// PostWrite posts an RDMA WRITE to the peer's memory, with immediate data, which travels in network order. It consumes one receive of the peer.
	PostWrite(place int, b []byte, addr uint64, key, imm uint32, signaled bool)
}

// Side is the part of stream.Side that makes and parses a connection's bytes.
type Side interface {
	RecvBuffers(w *[2][]byte) int
	Received(n int, stamp int64) error
	Gather(v []unix.Iovec, max int) int
	Sent(n int)
	Finished() bool
}

// Options are the sizes of a connection.
type Options struct {
	Server        bool    // the server's side
	TransferBytes int     // this side's transfer buffer
	StagingBytes  int     // bytes on their way to the peer: a power of two
	Receives      int     // size of the receive queue
	Sends         int     // and of the send queue: a power of two, 16 or more
	StallMax      int64   // a server's: the longest time, in ns, in which a keep-alive message is not received; 0: no bound
	Copied        *uint64 // gets the number of copied bytes added
}

// Sizes are the Options of both sides: Valkey's default transfer buffer, and a quarter of that on the way. A pipelining client of Valkey makes one write per
// pipeline, so 128 receives are enough; more of them wait.
var Sizes = Options{TransferBytes: 1 << 20, StagingBytes: 256 << 10, Receives: 128, Sends: 64}

// MemoryBytes is the size of the memory of New, which begins with the transfer buffer. The peer may write to this alone.
func (o *Options) MemoryBytes() int {
	return o.TransferBytes + o.StagingBytes + (o.Receives+o.Sends)*ControlBytes
}

// keepaliveEvery is the time, in ns, between two keep-alive messages of a server: Valkey's.
const keepaliveEvery = int64(3 * time.Second)

// queriesMax bounds the queries for features that are not answered yet.
const queriesMax = 8

// controlReserve is the number of places in the send queue that data leaves to control messages.
const controlReserve = 4

// Conn is one side of a connection. All calls come from one goroutine. After an error from a method, no other may be called. It allocates nothing after New.
type Conn struct {
	o    Options
	q    QueuePair
	side Side
	in   incoming
	out  outgoing
	due  due
	wrs  sendQueue

	openedAt int64 // when Open was called; 0: the connection is not established yet
	buffers  [2][]byte
	pieces   [16]unix.Iovec
}

// incoming is this side's transfer buffer.
type incoming struct {
	buffer   []byte
	receives []byte // ControlBytes for each receive
	announce Memory // the buffer's announcement
	written  int    // bytes that the peer has written since the last announcement
	read     int    // of these, those that the side has consumed
}

// outgoing is the peer's transfer buffer, and the memory from which it is written.
type outgoing struct {
	memory  Memory
	at      uint32 // bytes written since the last announcement
	staging []byte // a ring
	put     uint64 // bytes put into the ring since the beginning
	freed   uint64 // of these, those whose writes are complete
}

// due holds the control messages that are to be sent.
type due struct {
	announce    bool
	queries     fifo.Queue[uint16] // the Select of each query for features
	keepalive   bool
	keepaliveAt int64  // when the next keep-alive message is due
	keepaliveWR uint32 // number of the last one, which is not complete yet
	unreceived  int64  // when it was posted; 0: it is complete
}

// sendQueue counts work requests. The place of one is its number modulo the queue's size.
type sendQueue struct {
	controls        []byte   // ControlBytes for each place
	ends            []uint64 // by place: outgoing.put after it
	posted, done    uint32
	unsignaled      int // work requests since the last one with a completion
	unsignaledBytes int // and their bytes in the ring
}

// New makes a Conn, and posts its receives. mem has o.MemoryBytes bytes, registered with the device.
func New(o Options, q QueuePair, mem []byte, side Side) (*Conn, error) {
	if o.Sends < 16 || bits.OnesCount(uint(o.Sends)) != 1 || bits.OnesCount(uint(o.StagingBytes)) != 1 || len(mem) < o.MemoryBytes() {
		panic(fmt.Sprintf("valkey: sizes that cannot be: %+v, %d B", o, len(mem)))
	}
	next := func(n int) []byte {
		b := mem[:n:n]
		mem = mem[n:]
		return b
	}
	c := &Conn{o: o, q: q, side: side, due: due{queries: fifo.Make[uint16](queriesMax)}}
	c.in.buffer, c.out.staging = next(o.TransferBytes), next(o.StagingBytes)
	c.in.receives = next(o.Receives * ControlBytes)
	c.wrs.controls, c.wrs.ends = next(o.Sends*ControlBytes), make([]uint64, o.Sends)
	for i := range o.Receives {
		if err := q.PostReceive(i, c.receive(i)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// receive returns the memory of a receive.
func (c *Conn) receive(place int) []byte {
	return c.in.receives[place*ControlBytes:][:ControlBytes:ControlBytes]
}

// SetSide replaces the side.
func (c *Conn) SetSide(s Side) { c.side = s }

// Open begins to send: the connection is established. addr and key are those of this side's transfer buffer. now is the time in ns, by the same clock as Tick's.
func (c *Conn) Open(addr uint64, key uint32, now int64) {
	c.in.announce = Memory{addr, uint32(len(c.in.buffer)), key}
	c.due.announce = true
	c.openedAt, c.due.keepaliveAt = max(now, 1), now+keepaliveEvery
}

// Received handles the completion of a receive, and posts it again. write: it is that of a write, with the immediate imm; else it is that of a control message
// of so many bytes. An error, a *Violation among others, ends the connection. Deliver and Stage must be called afterwards.
func (c *Conn) Received(place int, bytes uint32, write bool, imm uint32) (err error) {
	if write {
		if left := c.in.left(); c.openedAt == 0 || c.due.announce || uint64(imm) > uint64(left) {
			return violation(Overrun, "%d B written, and there is room for %d", imm, left)
		}
		c.in.written += int(imm) // not the completion's number of bytes: writes without immediate data may have come before
	} else if err = c.control(c.receive(place)[:min(bytes, ControlBytes)]); err != nil {
		return err
	}
	return c.q.PostReceive(place, c.receive(place))
}

// left returns the number of bytes that the peer may still write.
func (in *incoming) left() int { return len(in.buffer) - in.written }

// control handles a control message.
func (c *Conn) control(b []byte) error {
	var m Control
	if err := m.Decode(b); err != nil {
		return err
	}
	switch {
	case m.Opcode == RegisterXferMemory:
		if c.out.at < c.out.memory.Length {
			return violation(EarlyMemory, "a transfer buffer is announced again after %d of %d B", c.out.at, c.out.memory.Length)
		}
		c.out.memory, c.out.at = m.Memory, 0
	case m.Opcode == Keepalive:
	case !c.o.Server:
		return violation(BadOpcode, "the server sends the opcode %d", m.Opcode)
	case m.Opcode == SetClientFeature && m.Features != 0:
		return violation(BadFeature, "the client uses the features %#x of number %d", m.Features, m.Select)
	case m.Opcode == GetServerFeature && c.due.queries.Len() == queriesMax:
		return violation(TooManyQueries, "%d queries for features are not answered yet", queriesMax)
	case m.Opcode == GetServerFeature:
		c.due.queries.Push(m.Select)
	}
	return nil
}

// Deliver passes received bytes to the side, as far as it has memory for them.
func (c *Conn) Deliver() error {
	in := &c.in
	for in.read < in.written {
		copied := 0
		for _, b := range c.buffers[:c.side.RecvBuffers(&c.buffers)] {
			n := copy(b, in.buffer[in.read:in.written])
			in.read += n
			copied += n
		}
		if copied == 0 {
			return nil // paused: its driver is touched when there is memory
		}
		*c.o.Copied += uint64(copied)
		if err := c.side.Received(copied, 0); err != nil {
			return err
		}
	}
	if in.read == len(in.buffer) {
		in.written, in.read, c.due.announce = 0, 0, true
	}
	return nil
}

// Stage posts what is due: control messages, and the side's bytes as far as the peer's transfer buffer, the staging memory and the send queue have room.
func (c *Conn) Stage(now int64) {
	if c.openedAt == 0 {
		return
	}
	c.stageControls(now)
	for c.room() > controlReserve {
		room := c.writable()
		if room == 0 {
			return
		}
		from := c.out.put
		n := c.fill(room)
		if n == 0 {
			return
		}
		at := int(from) & (len(c.out.staging) - 1)
		m := &c.out.memory
		place, signaled := c.next(n, c.side.Finished())
		c.q.PostWrite(place, c.out.staging[at:at+n], m.Addr+uint64(c.out.at), m.Key, uint32(n), signaled)
		c.out.at += uint32(n)
	}
}

// writable returns the number of bytes that one write may have now. A write has its bytes in one piece of the ring.
func (c *Conn) writable() int {
	o := &c.out
	size := len(o.staging)
	free := size - int(o.put-o.freed)
	return min(free, size-int(o.put)&(size-1), int(o.memory.Length-o.at))
}

// fill copies bytes of the side into the ring: at most room bytes, which are all in one piece of it.
func (c *Conn) fill(room int) (n int) {
	o := &c.out
	for n < room {
		k := c.side.Gather(c.pieces[:], room-n)
		if k == 0 {
			break
		}
		copied := 0
		for i := range c.pieces[:k] {
			copied += copy(o.staging[int(o.put)&(len(o.staging)-1)+copied:], sys.IovecBytes(&c.pieces[i]))
		}
		o.put += uint64(copied)
		n += copied
		c.side.Sent(copied)
	}
	*c.o.Copied += uint64(n)
	return n
}

func (c *Conn) stageControls(now int64) {
	if c.due.announce && c.room() > 0 {
		c.due.announce = false
		c.send(&Control{Opcode: RegisterXferMemory, Memory: c.in.announce}, false)
	}
	for c.due.queries.Len() > 0 && c.room() > 0 {
		c.send(&Control{Opcode: GetServerFeature, Select: c.due.queries.Pop()}, false)
	}
	if c.due.keepalive && c.room() > 0 {
		c.due.keepalive = false
		c.due.keepaliveWR, c.due.unreceived = c.wrs.posted, now
		c.send(&Control{Opcode: Keepalive}, true)
	}
}

// send posts a control message.
func (c *Conn) send(m *Control, signaled bool) {
	place, signaled := c.next(0, signaled)
	b := c.wrs.controls[place*ControlBytes:][:ControlBytes:ControlBytes]
	m.Encode(b)
	c.q.PostSend(place, b, signaled)
}

// room returns the number of work requests that may be posted.
func (c *Conn) room() int { return c.o.Sends - int(c.wrs.posted-c.wrs.done) }

// next returns the place of the next work request, and whether it makes a completion: if want is true, or a quarter of the queue or of the ring depends on it.
func (c *Conn) next(bytes int, want bool) (place int, signaled bool) {
	w := &c.wrs
	place = int(w.posted) & (c.o.Sends - 1)
	w.ends[place] = c.out.put
	w.posted++
	w.unsignaled++
	w.unsignaledBytes += bytes
	if signaled = want || w.unsignaled >= c.o.Sends/4 || w.unsignaledBytes >= len(c.out.staging)/4; signaled {
		w.unsignaled, w.unsignaledBytes = 0, 0
	}
	return place, signaled
}

// SendDone handles the completion of the work request at a place, which also ends all earlier ones. Stage must be called afterwards.
func (c *Conn) SendDone(place int) {
	w := &c.wrs
	n := (uint32(place)-w.done)&uint32(c.o.Sends-1) + 1
	if n > w.posted-w.done {
		return
	}
	w.done += n
	c.out.freed = w.ends[place]
	if c.due.unreceived != 0 && int32(w.done-c.due.keepaliveWR) > 0 {
		c.due.unreceived = 0
	}
}

// Drained reports whether all that was posted is complete: the peer's device has all bytes. The last write of a side that has finished makes a completion.
func (c *Conn) Drained() bool { return c.wrs.posted == c.wrs.done }

// Busy reports whether received bytes wait for the side.
func (c *Conn) Busy() bool { return c.in.read < c.in.written }

// Tick makes a server's keep-alive message due, and checks that the peer has received the last one. next is the time of the next call; 0: none is needed. Stage
// must be called afterwards.
func (c *Conn) Tick(now int64) (next int64, err error) {
	if !c.o.Server || c.openedAt == 0 {
		return 0, nil
	}
	if since := c.due.unreceived; since != 0 && c.o.StallMax > 0 && now-since >= c.o.StallMax {
		return 0, violation(NoReceives, "a keep-alive message is not received for %v", time.Duration(now-since).Round(time.Millisecond))
	}
	if now >= c.due.keepaliveAt {
		c.due.keepalive = c.due.unreceived == 0
		c.due.keepaliveAt = now + keepaliveEvery
	}
	return c.due.keepaliveAt, nil
}

// Explain returns a *Violation for an error that wraps transport.ErrStalled, if a rule that the peer broke is the cause; else err.
func (c *Conn) Explain(err error) error {
	switch m := &c.out.memory; {
	case !errors.Is(err, transport.ErrStalled):
		return err
	case c.openedAt == 0:
		return violation(NoMemory, "the connection was not established: %v", err)
	case m.Length == 0:
		return violation(NoMemory, "no transfer buffer was announced: %v", err)
	case c.out.at == m.Length:
		return violation(NoMemory, "the transfer buffer was filled, and not announced again: %v", err)
	case c.room() <= controlReserve || c.writable() == 0:
		return violation(NoReceives, "%d messages are not received: %v", c.wrs.posted-c.wrs.done, err)
	}
	return err
}
