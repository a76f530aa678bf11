package stream

import (
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// Client is the client's end of a connection after the hello, for both protocols. It is a kv.Handler and belongs to its loop.
type Client struct {
	p      clientProtocol
	l      *loop.Loop
	driver Driver
	hello  wire.ServerHello
	limits kv.Limits
	mem    *arena.Arena // of the receive buffer and all slots
	in     inbox
	out    outbox
	calls  []call
	free   []int // indexes of unused calls, a stack
	cur    *call // the call whose answer is being received in place
	err    error // why the connection ended; nil while it is open

	stamped bool  // Driver.Stamp was called
	stamp   int64 // the kernel's receive time of the last bytes; 0: not known

	waiting kv.Queue // requests beyond the depth
}

// call is one request in flight.
type call struct {
	r         *kv.Request // nil: not in use
	index     int
	uses      uint32 // counts the slot's uses: an answer to an earlier use is a protocol violation
	head      []byte // header, and key and value if they are small
	sent      bool   // all its bytes are sent
	handed    bool   // some of its bytes may be sent
	answered  bool   // its answer is complete, but the driver has not yet reported that all its bytes are sent
	truncated bool   // a transfer of its bytes ended short: it ends as StatusTruncated
	times     wire.Times
	timed     bool // times holds the server's durations for this request
}

// clientProtocol is the part of the client's end that depends on the server's protocol: nativeClient or respClient. Client calls it once for each batch of
// received bytes and once for each request.
type clientProtocol interface {
	// supports reports whether the protocol supports this operation.
	supports(op kv.Op) bool

	// begin queues the message for a call's request.
	begin(k *call)

	// parse completes the calls of all whole replies that were received. An error ends the connection.
	parse() error
}

var _, _ clientProtocol = (*nativeClient)(nil), (*respClient)(nil)

// newClient makes a client's end. per is the size of each call's head, in bytes.
func newClient(l *loop.Loop, d Driver, hello wire.ServerHello, mem *arena.Arena, recvBytes, per int) *Client {
	depth := int(hello.Depth)
	b := mem.Bytes()
	c := &Client{l: l, driver: d, hello: hello, mem: mem, in: inbox{buf: b[:recvBytes:recvBytes]},
		limits: kv.Limits{MaxKeyBytes: int(hello.MaxKeyBytes), MaxValueBytes: int(hello.MaxValueBytes)},
		out:    newOutbox(depth), calls: make([]call, depth), free: make([]int, 0, depth)}
	b = b[recvBytes:]
	for i := range c.calls {
		c.calls[i] = call{index: i, head: b[i*per : (i+1)*per : (i+1)*per]}
		c.free = append(c.free, i)
	}
	return c
}

// Hello returns the server's hello.
func (c *Client) Hello() wire.ServerHello { return c.hello }

// Err returns the reason why the connection ended; nil while it is open.
func (c *Client) Err() error { return c.err }

// InFlight returns the number of requests that wait for an answer.
func (c *Client) InFlight() int { return len(c.calls) - len(c.free) }

// Busy names a request under way; "": there is none. Then the kernel uses none of the connection's memory except the receive buffer. The member that moves
// the bytes calls it in its own Busy (loop.Busier).
func (c *Client) Busy() string {
	if c.InFlight() > 0 || !c.waiting.Empty() || c.out.Len() > 0 {
		return "requests to the server are under way"
	}
	return ""
}

// Submit implements kv.Handler.
func (c *Client) Submit(r *kv.Request) {
	if c.err != nil {
		c.finish(r, kv.StatusClosed)
		return
	}
	s := c.limits.Check(r)
	if !c.p.supports(r.Op) {
		s = kv.StatusBadRequest
	}
	if s != kv.StatusOK {
		c.finish(r, s)
		return
	}
	if len(c.free) == 0 {
		c.waiting.Push(r)
		return
	}
	c.begin(r)
}

// begin takes a call from the stack for a request, and queues its message.
func (c *Client) begin(r *kv.Request) {
	k := &c.calls[c.free[len(c.free)-1]]
	c.free = c.free[:len(c.free)-1]
	k.r, k.sent, k.handed, k.answered, k.truncated, k.timed = r, false, false, false, false, false
	k.uses++
	if r.Stages != nil {
		c.startTimes(r)
	}
	c.p.begin(k)
	c.driver.Touch()
}

func (c *Client) finish(r *kv.Request, s kv.Status) {
	r.Status = s
	c.l.Finish(r)
}

// RecvBuffers implements Side.
func (c *Client) RecvBuffers(w *[2][]byte) int {
	if c.err != nil {
		return 0
	}
	return c.in.recvBuffers(w)
}

// Received implements Side.
func (c *Client) Received(n int, stamp int64) error {
	c.stamp = stamp
	if c.in.received(n) {
		k := c.cur
		c.cur = nil
		c.answered(k)
	}
	return c.p.parse()
}

// ReceivedMessage implements MessageSide.
func (c *Client) ReceivedMessage(b []byte) error {
	if c.err != nil {
		return nil
	}
	c.in.buf, c.in.rd, c.in.wr = b, 0, len(b)
	if len(c.in.rest) > 0 {
		copied, whole := c.in.copyToRest()
		if c.l.Stats.Copied += uint64(copied); whole {
			k := c.cur
			c.cur = nil
			c.answered(k)
		}
	}
	if err := c.p.parse(); err != nil {
		return err
	}
	if len(c.in.unread()) > 0 {
		return fmt.Errorf("%w: a message ends within a header", transport.ErrProtocol)
	}
	return nil
}

// Unread implements MessageSide. It is always 0: each answer's memory was provided with the request.
func (c *Client) Unread() int { return 0 }

// Next implements MessageSide.
func (c *Client) Next(v []unix.Iovec, max int) (pieces, bytes int, more bool) {
	pieces, bytes = c.out.describe(v, max)
	c.handed()
	return pieces, bytes, c.out.undescribed()
}

// NextCopied implements MessageSide.
func (c *Client) NextCopied(max int) (b []byte, more bool) {
	b, i := c.out.popWhole(max)
	if b != nil {
		k := &c.calls[i]
		k.handed, k.sent = true, true
		loop.Mark(k.r, kv.StageClientSubmit)
	}
	return b, c.out.undescribed()
}

// Last implements MessageSide. It is always false: a client closes without a last message.
func (c *Client) Last() bool { return false }

// answered completes a call whose answer was received, unless the kernel may still use the request's
// bytes: an answer can arrive before the driver reports that the request is sent.
func (c *Client) answered(k *call) {
	if k.r.Stages != nil && !k.answered {
		c.arrived(k)
	}
	if !k.sent {
		k.answered = true
		return
	}
	r := k.r
	if k.truncated {
		r.Status = kv.StatusTruncated
	}
	k.r = nil
	c.free = append(c.free, k.index)
	c.l.Finish(r)
	if next := c.waiting.Pop(); next != nil {
		c.begin(next)
	}
}

// startTimes marks the end of a watched request's stage client_queue: it has a call.
func (c *Client) startTimes(r *kv.Request) {
	r.Stages.Mark(kv.StageClientQueue, loop.Nanos())
	if !c.stamped { // valid for bytes received from now on
		c.stamped = true
		c.driver.Stamp()
	}
}

// arrived marks the stages of a completely received answer: the server's durations, and the rest as the time of
// the fabric. If both sides use the same clock, it splits the rest into the two directions.
func (c *Client) arrived(k *call) {
	t, at := k.r.Stages, loop.Nanos()
	if c.stamp != 0 {
		at = min(max(c.stamp, t.At), at)
	}
	atServer := int64(0)
	if k.timed && k.times.Server() <= uint64(at-t.At) {
		atServer = int64(k.times.Server())
	}
	out, back := kv.StageFabric, kv.StageFabric
	split := int64(0)
	if atServer > 0 && k.times.Host != 0 && k.times.Host == wire.Host() {
		if on := int64(k.times.Arrived - loop.Monotonic(t.At)); on >= 0 && on+atServer <= at-t.At {
			out, back, split = kv.StageFabricOut, kv.StageFabricBack, on
		}
	}
	t.Mark(out, t.At+split)
	if atServer > 0 {
		s := &k.times
		t.Mark(kv.StageNotifyServer, t.At+int64(s.Notify))
		t.Mark(kv.StageServerQueue, t.At+int64(s.Queue))
		t.Mark(kv.StageStore, t.At+int64(s.Store))
		t.Mark(kv.StageDisk, t.At+int64(s.Disk))
		t.Mark(kv.StageServerSubmit, t.At+int64(s.Submit))
	}
	t.Mark(back, at)
}

// Gather implements Side.
func (c *Client) Gather(v []unix.Iovec, max int) int {
	n := c.out.gather(v, max)
	c.handed()
	return n
}

// handed marks the calls whose first bytes were given to the driver.
func (c *Client) handed() {
	for {
		i, ok := c.out.nextHanded()
		if !ok {
			return
		}
		k := &c.calls[i]
		k.handed = true
		loop.Mark(k.r, kv.StageClientSubmit)
	}
}

// Sent implements Side.
func (c *Client) Sent(n int) {
	for {
		i, ok := c.out.sent(&n)
		if !ok {
			return
		}
		k := &c.calls[i]
		if k.sent = true; k.answered {
			c.answered(k)
		}
	}
}

// MarkSendTruncated marks the request whose bytes are sent next: it ends as kv.StatusTruncated when its answer has come. A driver calls it that treats a short send as
// an error. The driver still sends the rest, because the server needs it to find the next request.
func (c *Client) MarkSendTruncated() {
	if i := c.out.headSlot(); i >= 0 {
		c.calls[i].truncated = true
	}
}

// MarkReceiveTruncated is MarkSendTruncated for the answer that is being received.
func (c *Client) MarkReceiveTruncated() {
	if c.cur != nil {
		c.cur.truncated = true
	}
}

// Finished implements Side. It is always false: a client closes without a last message.
func (c *Client) Finished() bool { return false }

// PeerFinished implements Side. It is always false: a server that sends nothing more answers no request.
func (c *Client) PeerFinished() bool { return false }

// Drop implements Side. Requests that may have been applied end as StatusUnknown, all others as StatusClosed.
func (c *Client) Drop(err error) {
	if c.err != nil {
		return
	}
	if err == nil {
		err = errors.New("stream: dropped without a reason")
	}
	c.err = err
	for i := range c.calls {
		k := &c.calls[i]
		r := k.r
		if r == nil {
			continue
		}
		k.r = nil
		c.free = append(c.free, i)
		switch {
		case k.answered: // answered in full
			c.l.Finish(r)
		case k.handed:
			c.finish(r, kv.StatusUnknown)
		default:
			c.finish(r, kv.StatusClosed)
		}
	}
	for r := c.waiting.Pop(); r != nil; r = c.waiting.Pop() {
		c.finish(r, kv.StatusClosed)
	}
	c.cur = nil
	c.out = outbox{}
	_ = c.mem.Close()
}
