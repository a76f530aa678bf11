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

// Client is the client's end of a connection whose hello was granted, of whatever protocol. It is a kv.Handler.
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
	free   []int // calls not in use, a stack
	cur    *call // whose answer is being received
	err    error // why it died; nil while it lives

	stamped bool  // the driver was asked for the kernel's times
	stamp   int64 // of the last bytes that came; 0: it is not known

	waiting kv.Queue // beyond the depth
}

// call is one request in flight.
type call struct {
	r     *kv.Request // nil: not in use
	index int
	turn  uint32 // counts the slot's uses: an answer to an older one is the server's mistake
	head  []byte // header, and key and value where they are small
	sent  bool   // all its bytes are on their way
	began bool   // some of its bytes may be on their way
	whole bool   // its answer is here, and the driver has not yet reported that all its bytes are sent
	cut   bool   // a transfer of its bytes has ended short, and that is to be its end
	times wire.Times
	timed bool // times are the server's
}

// clientProtocol is what the client's end of a connection needs of the protocol that its server uses: nativeClient or respClient. The connection calls it for
// each batch of received bytes and for each request.
type clientProtocol interface {
	// has reports whether the protocol has requests of that kind.
	has(op kv.Op) bool

	// begin queues the message for a call's request.
	begin(k *call)

	// parse completes the calls of all whole replies that were received. An error ends the connection.
	parse() error
}

var _, _ clientProtocol = (*nativeClient)(nil), (*respClient)(nil)

// newClient makes an end with so many bytes for each call's head.
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

// Hello is what the server granted.
func (c *Client) Hello() wire.ServerHello { return c.hello }

// Err is why the connection died; nil while it lives.
func (c *Client) Err() error { return c.err }

// InFlight is the number of requests that wait for an answer.
func (c *Client) InFlight() int { return len(c.calls) - len(c.free) }

// Busy is loop.Busier's for the member that moves the bytes: "" when no request is under way. The kernel has none of the connection's memory then, but what it
// receives into.
func (c *Client) Busy() string {
	if c.InFlight() > 0 || !c.waiting.Empty() || c.out.n > 0 {
		return "requests to the server are under way"
	}
	return ""
}

// Submit is kv.Handler's.
func (c *Client) Submit(r *kv.Request) {
	if c.err != nil {
		c.finish(r, kv.StatusClosed)
		return
	}
	s := c.limits.Check(r)
	if !c.p.has(r.Op) {
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
	k.r, k.sent, k.began, k.whole, k.cut, k.timed = r, false, false, false, false, false
	k.turn++
	if r.Stages != nil {
		c.time(r)
	}
	c.p.begin(k)
	c.driver.Touch()
}

func (c *Client) finish(r *kv.Request, s kv.Status) {
	r.Status = s
	c.l.Finish(r)
}

// Window is Side's.
func (c *Client) Window(w *[2][]byte) int {
	if c.err != nil {
		return 0
	}
	return c.in.window(w)
}

// Received is Side's.
func (c *Client) Received(n int, stamp int64) error {
	c.stamp = stamp
	if c.in.received(n) {
		k := c.cur
		c.cur = nil
		c.answered(k)
	}
	return c.p.parse()
}

// Take is MessageSide's.
func (c *Client) Take(b []byte) error {
	if c.err != nil {
		return nil
	}
	c.in.buf, c.in.rd, c.in.wr = b, 0, len(b)
	if len(c.in.rest) > 0 {
		copied, whole := c.in.goOn()
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

// Unread is MessageSide's: answers have their memory.
func (c *Client) Unread() int { return 0 }

// Next is MessageSide's.
func (c *Client) Next(v []unix.Iovec, max int) (pieces, bytes int) {
	pieces, bytes = c.out.describe(v, max)
	c.handed()
	return pieces, bytes
}

// Last is MessageSide's: a client just closes.
func (c *Client) Last() bool { return false }

// answered completes a call whose answer is here, unless the kernel may still hold its bytes: an
// answer can come before the driver reports that the request is sent.
func (c *Client) answered(k *call) {
	if k.r.Stages != nil && !k.whole {
		c.arrived(k)
	}
	if !k.sent {
		k.whole = true
		return
	}
	r := k.r
	if k.cut {
		r.Status = kv.StatusTruncated
	}
	k.r = nil
	c.free = append(c.free, k.index)
	c.l.Finish(r)
	if next := c.waiting.Pop(); next != nil {
		c.begin(next)
	}
}

// time marks that a watched request has a place.
func (c *Client) time(r *kv.Request) {
	r.Stages.Mark(kv.StageClientQueue, loop.Nanos())
	if !c.stamped { // from now on; what is on its way has none
		c.stamped = true
		c.driver.Stamp()
	}
}

// arrived marks the stages of a request whose last bytes are here: the server's durations, and what is left for
// the fabric, split where both clocks are one.
func (c *Client) arrived(k *call) {
	t, at := k.r.Stages, loop.Nanos()
	if c.stamp != 0 {
		at = min(max(c.stamp, t.At), at)
	}
	there := int64(0)
	if k.timed && k.times.Server() <= uint64(at-t.At) {
		there = int64(k.times.Server())
	}
	out, back := kv.StageFabric, kv.StageFabric
	split := int64(0)
	if there > 0 && k.times.Host != 0 && k.times.Host == wire.Host() {
		if on := int64(k.times.Arrived - loop.Monotonic(t.At)); on >= 0 && on+there <= at-t.At {
			out, back, split = kv.StageFabricOut, kv.StageFabricBack, on
		}
	}
	t.Mark(out, t.At+split)
	if there > 0 {
		s := &k.times
		t.Mark(kv.StageNotifyServer, t.At+int64(s.Notify))
		t.Mark(kv.StageServerQueue, t.At+int64(s.Queue))
		t.Mark(kv.StageStore, t.At+int64(s.Store))
		t.Mark(kv.StageDisk, t.At+int64(s.Disk))
		t.Mark(kv.StageServerSubmit, t.At+int64(s.Submit))
	}
	t.Mark(back, at)
}

// Gather is Side's.
func (c *Client) Gather(v []unix.Iovec, max int) int {
	n := c.out.gather(v, max)
	c.handed()
	return n
}

// handed marks the calls whose first bytes have been described.
func (c *Client) handed() {
	for {
		i, ok := c.out.hand()
		if !ok {
			return
		}
		k := &c.calls[i]
		k.began = true
		loop.Mark(k.r, kv.StageClientSubmit)
	}
}

// Sent is Side's.
func (c *Client) Sent(n int) {
	for {
		i, ok := c.out.sent(&n)
		if !ok {
			return
		}
		k := &c.calls[i]
		if k.sent = true; k.whole {
			c.answered(k)
		}
	}
}

// CutSend is for a driver that treats a short send as the end of the request whose bytes are next: that request ends as
// kv.StatusTruncated when its answer has come. The driver sends the rest all the same, because the server needs it to find the next request.
func (c *Client) CutSend() {
	if i := c.out.headSlot(); i >= 0 {
		c.calls[i].cut = true
	}
}

// CutReceive is CutSend for the answer that is being received.
func (c *Client) CutReceive() {
	if c.cur != nil {
		c.cur.cut = true
	}
}

// Finished is Side's: a client just closes.
func (c *Client) Finished() bool { return false }

// PeerFinished is Side's: a server that sends nothing more answers nothing more.
func (c *Client) PeerFinished() bool { return false }

// Drop is Side's: what may have been applied ends as unknown, the rest as closed.
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
		case k.whole: // answered in full
			c.l.Finish(r)
		case k.began:
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
