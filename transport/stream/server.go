package stream

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/memory"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// smallBytes is the room that every slot has of its own, for a message and for an answer: requests
// of up to this much key and value never touch the pool.
const smallBytes = memory.SmallBytes

type serverState uint8

const (
	stateHello    serverState = iota // the client's hello is awaited
	stateProving                     // it was challenged, and its proof is awaited
	stateMoving                      // the connection is on its way to another loop
	stateOpen                        // requests and replies
	stateWinding                     // no more requests are read; the refusal follows the last reply
	stateRefusing                    // a refusal is being sent, what comes is thrown away
	stateDead                        // no bytes move; requests are awaited back
)

// Server is the server's end of a connection, of whatever protocol: its bytes, slots, memory and deadlines. What is sent and received is the protocol's.
type Server struct {
	h      *Host
	driver Driver
	p      protocol
	state  serverState
	ended  bool // the peer has shut its sending half: nothing more comes

	peerInfo
	times
	requests
	ownMemory
	in      inbox
	out     outbox
	account memory.Account // its messages' and answers' blocks of Host.Pool

	MoveTo int              // after ErrMove: the loop that the connection belongs to
	hello  wire.ClientHello // of the native protocol, once it came
}

// peerInfo is who is at the other end.
type peerInfo struct {
	name   string        // for the log
	who    *access.Entry // who has connected; nil: anybody, or nobody yet
	at     int           // the connection's place in Host.servers
	number int64         // among all connections of the server: CLIENT LIST's id
	listed uint64        // the last CLIENT LIST that has it
}

// times are by Loop.Awake, for the deadlines.
type times struct {
	accepted int64
	inSince  int64 // when the connection or the refusal began, or when the last bytes came
	outSince int64 // when there began to be something to send, or when the last bytes went
	stamp    int64 // the kernel's, by the loop's clock, of the last bytes that came; 0: it is not known
}

// requests are the connection's slots and what they are in use for.
type requests struct {
	slots []slot
	free  []int // slots that are not in use, a stack
	cur   *slot // whose payload is being received in place
	busy  int   // requests that the handler owns, or that wait for memory
	depth int   // that was granted
}

// ownMemory is what the connection has of Host.conns while it lives.
type ownMemory struct {
	recv   []byte // what in receives into, but for a message transport
	beside []byte // not used: Host.Beside of them are elsewhere
	mem    []byte // of all slots
}

// returnTo gives all of it back.
func (m *ownMemory) returnTo(to *arena.Pool) {
	for _, b := range [...]*[]byte{&m.recv, &m.beside, &m.mem} {
		if *b != nil {
			to.Free(*b)
			*b = nil
		}
	}
}

// slot is one request in flight.
type slot struct {
	memory.Claim // its answer's memory; Index is its own place
	req          kv.Request
	id           uint64 // the client's
	room         int    // for the answer, at the client
	key          int    // bytes
	small        []byte // smallBytes for key and value, then header and smallBytes for the answer, then TimesBytes
	block        []byte // key and value: in small, or from the pool
	reply        []byte // header and answer: in small, or from the pool

	stages  kv.Stages // req's, where the client asked for its times
	arrived int64     // when its last bytes were there
}

const (
	replyAt  = smallBytes                              // in small
	timesAt  = replyAt + wire.HeaderBytes + smallBytes // likewise
	ownBytes = timesAt + wire.TimesBytes
)

// ErrMove means that the hello asks for another loop, MoveTo: the driver moves the socket there.
var ErrMove = errors.New("stream: the connection belongs to another loop")

// NewServer makes the end of a connection that was just accepted; name is the peer's, for the log.
// nil when there is no memory for it, or too many connections: the driver closes the socket.
func (h *Host) NewServer(d Driver, name string) *Server {
	if h.closing || len(h.servers) >= h.O.MaxConns {
		return nil
	}
	buf := h.conns.Alloc(wire.MaxHelloBytes)
	if buf == nil {
		return nil
	}
	var beside []byte
	if h.Beside > 0 {
		if beside = h.conns.Alloc(h.Beside); beside == nil {
			h.conns.Free(buf)
			return nil
		}
	}
	now := h.L.Awake()
	c := &Server{h: h, driver: d, peerInfo: peerInfo{name: name, at: len(h.servers)}, times: times{accepted: now, inSince: now}}
	c.p = &nativeServer{c: c} // until the first byte is of another one
	c.recv, c.in.buf, c.beside = buf, buf, beside
	c.account = h.Pool.Open(owner{c})
	c.out = newOutbox(2)
	h.numbered++
	c.number = int64(h.Index) + h.numbered*int64(h.Loops)
	h.servers = append(h.servers, c)
	h.watch()
	return c
}

// Adopt makes the end of a connection from which another loop has read, and answers it. nil as with
// NewServer.
func (h *Host) Adopt(d Driver, m *Moved) *Server {
	c := h.NewServer(d, m.Name)
	if c == nil {
		return nil
	}
	c.in.wr = copy(c.in.buf, m.Said)
	c.choose()
	_ = c.p.greet(true) // it belongs to this loop
	return c
}

// choose picks the protocol by the first byte that was received.
func (c *Server) choose() {
	if c.h.Grant == nil && resp.Begins(c.in.unread()[0]) {
		c.p = &respServer{c: c}
	}
}

// Moved is the connection on its way to MoveTo.
func (c *Server) Moved(s socket.Socket) Moved {
	return Moved{Socket: s, Name: c.name, Said: bytes.Clone(c.in.unread())}
}

// Hello is the client's hello, once it came.
func (c *Server) Hello() wire.ClientHello { return c.hello }

// unknown reports whether the client has yet to authenticate.
func (c *Server) unknown() bool { return c.h.O.Access != nil && c.who == nil }

// readOnly reports whether the client may not change anything.
func (c *Server) readOnly() bool { return c.who != nil && c.who.ReadOnly }

// Depth is how many requests the client may have in flight, once its hello came.
func (c *Server) Depth() int { return c.depth }

// Driver is what moves this connection's bytes.
func (c *Server) Driver() Driver { return c.driver }

// Name is the peer's, for the log.
func (c *Server) Name() string { return c.name }

// Window is Side's.
func (c *Server) Window(w *[2][]byte) int {
	switch {
	case c.state == stateRefusing:
		w[0] = c.in.buf // thrown away, so that closing does not reset the connection under the refusal
		return 1
	case c.state == stateDead, c.state == stateWinding, c.account.Paused(), c.ended, c.h.closing:
		return 0
	}
	return c.in.window(w)
}

// Received is Side's.
func (c *Server) Received(n int, stamp int64) error {
	c.stamp = stamp
	c.h.count.BytesIn += uint64(n)
	switch c.state {
	case stateHello:
		c.in.received(n)
		c.choose()
		return c.p.greet(false)
	case stateProving:
		c.in.received(n)
		return c.p.greet(false)
	case stateOpen:
		c.inSince = c.h.L.Awake()
		c.parse(c.in.received(n))
	}
	return nil
}

// Take is MessageSide's.
func (c *Server) Take(b []byte) error {
	if c.state != stateOpen {
		return nil // thrown away
	}
	c.h.count.BytesIn += uint64(len(b))
	c.inSince = c.h.L.Awake()
	c.in.buf, c.in.rd, c.in.wr = b, 0, len(b)
	whole := false
	if len(c.in.rest) > 0 {
		var copied int
		copied, whole = c.in.goOn()
		c.h.L.Stats.Copied += uint64(copied)
	}
	c.parse(whole)
	return nil
}

// Unread is MessageSide's.
func (c *Server) Unread() int {
	if c.state != stateOpen {
		return 0
	}
	return len(c.in.unread())
}

// Next is MessageSide's.
func (c *Server) Next(v []unix.Iovec, max int) (pieces, bytes int) {
	pieces, bytes = c.out.describe(v, max)
	c.handed(pieces)
	return pieces, bytes
}

// Last is MessageSide's.
func (c *Server) Last() bool { return c.state == stateRefusing && c.out.next == c.out.n }

// equip gives the connection the memory for its depth. Of what was received it keeps that.
func (c *Server) equip(keep []byte) error {
	h := c.h
	slots := 2 * c.depth
	const per = ownBytes
	recv := h.O.RecvBytes
	if h.Grant != nil {
		recv = wire.MaxHelloBytes // messages bring their memory along
	}
	buf := h.conns.Alloc(recv)
	mem := h.conns.Alloc(slots * per)
	if buf == nil || mem == nil {
		if buf != nil {
			h.conns.Free(buf)
		}
		if mem != nil {
			h.conns.Free(mem)
		}
		return fmt.Errorf("no memory for another connection: %d MiB of %d MiB are in use", h.conns.InUse()>>20, h.conns.Largest()>>20)
	}
	received := copy(buf, keep)
	h.conns.Free(c.recv)
	c.recv, c.in = buf, inbox{buf: buf, wr: received}
	c.mem = mem
	c.slots = make([]slot, slots)
	c.free = make([]int, 0, slots)
	c.out.grow(slots + 3) // a challenge whose end is not known yet, the hello, the replies, a refusal
	for i := range c.slots {
		s := &c.slots[i]
		s.Index, s.small = i, mem[i*per:(i+1)*per:(i+1)*per]
		s.req.Owner = c
		s.req.Slot = uint64(i)
		c.free = append(c.free, i)
	}
	return nil
}

// parse begins all whole requests of the receive buffer. whole: the payload that was received in place has become so.
func (c *Server) parse(whole bool) {
	c.h.Handler.Begin()
	c.p.parse(whole)
	c.h.Handler.End()
}

// ask submits a request whose answer is guessed to have so many bytes.
func (c *Server) ask(s *slot, want int) {
	s.req.Need = uint32(want)
	if want > smallBytes && !c.p.feed(s) {
		c.account.Wait(&s.Claim)
		return
	}
	c.resubmit(s)
}

// begun counts a request that was received.
func (c *Server) begun() {
	c.busy++
	c.h.count.Requests++
}

// unanswered is how many requests were received whose answer is not out.
func (c *Server) unanswered() int {
	n := len(c.slots) - len(c.free)
	if c.cur != nil {
		n-- // it was not received
	}
	return n
}

// underWay reports whether a request of the connection is received, done or answered, or something else is to be sent.
func (c *Server) underWay() bool {
	return c.busy > 0 || c.out.n > 0 || c.cur != nil || c.account.Paused() || c.unanswered() > 0 || c.state == stateOpen && c.in.partial()
}

// mayAnswer is how many bytes the answer may have.
func (c *Server) mayAnswer(s *slot) int {
	l := c.h.O.Limits
	if s.req.Op == kv.OpScan {
		return min(s.room, l.ScanRoom())
	}
	return min(s.room, l.MaxValueBytes)
}

func (c *Server) resubmit(s *slot) {
	r := &s.req
	if !r.Op.Updates() {
		room := min(len(s.reply)-wire.HeaderBytes, s.room)
		r.Value = s.reply[wire.HeaderBytes : wire.HeaderBytes : wire.HeaderBytes+room]
	}
	r.Status, r.Need = 0, 0
	c.h.Handler.Submit(r)
}

// Complete is kv.Completer's.
func (c *Server) Complete(r *kv.Request) {
	s := &c.slots[r.Slot]
	alive := c.state == stateOpen || c.state == stateWinding
	if alive && r.Status == kv.StatusTooSmall && c.p.retries(s) {
		c.releaseReply(s)
		c.account.Settle(&s.Claim)
		if c.p.feed(s) {
			c.resubmit(s)
		} else {
			c.account.Wait(&s.Claim)
		}
		c.account.Ease()
		return
	}
	if !alive {
		c.abandon(s)
		return
	}
	c.p.complete(s)
}

// abandon gives up a request whose answer nobody can get any more.
func (c *Server) abandon(s *slot) {
	if c.state != stateDead { // else it was counted
		c.h.count.Unanswered++
	}
	c.busy--
	c.release(s)
	c.bury()
}

func (c *Server) send(m message) {
	if c.out.n == 0 {
		c.outSince = c.h.L.Awake()
	}
	c.out.push(m)
	c.driver.Touch()
}

func (c *Server) releaseBlock(s *slot) {
	if s.block != nil && &s.block[:1][0] != &s.small[0] {
		c.account.Free(s.block)
	}
	s.block = nil
}

func (c *Server) releaseReply(s *slot) {
	if s.reply != nil && &s.reply[0] != &s.small[replyAt] {
		c.account.Free(s.reply)
	}
	s.reply = nil
}

// release makes a slot free for the next request.
func (c *Server) release(s *slot) {
	c.releaseBlock(s)
	c.releaseReply(s)
	c.account.Settle(&s.Claim)
	c.free = append(c.free, s.Index)
	c.account.CameBack()
}

// Gather is Side's.
func (c *Server) Gather(v []unix.Iovec, max int) int {
	n := c.out.gather(v, max)
	c.handed(n)
	return n
}

// handed counts the answers whose first bytes have been described.
func (c *Server) handed(pieces int) {
	for {
		slot, ok := c.out.hand()
		if !ok {
			break
		}
		if slot >= 0 {
			c.p.handed(&c.slots[slot])
		}
	}
	if pieces > 0 {
		c.h.watch()
	}
}

// Sent is Side's.
func (c *Server) Sent(n int) {
	c.outSince = c.h.L.Awake()
	c.h.count.BytesOut += uint64(n)
	for {
		slot, ok := c.out.sent(&n)
		if !ok {
			break
		}
		if slot >= 0 {
			c.release(&c.slots[slot])
		}
	}
	c.account.Ease()
}

// Wind ends the connection in good order: nothing more is read, and when what was received is done and answered,
// the last message follows. The driver calls it in each turn while it closes.
func (c *Server) Wind() { c.p.wind() }

// Finished is Side's: the refusal is out, or all answers for a peer that sends nothing more.
func (c *Server) Finished() bool {
	return c.state == stateRefusing && c.out.n == 0 || c.ended && c.state == stateOpen && !c.answersLeft()
}

// PeerFinished is Side's. A peer may shut its sending half behind its last request and wait for the answers: `printf … | nc` does.
func (c *Server) PeerFinished() bool {
	c.ended = true
	return c.answersLeft()
}

// answersLeft reports whether answers are to be sent for what was received, or requests to be done: also for what was received and not parsed,
// for want of memory or a slot.
func (c *Server) answersLeft() bool {
	switch c.state {
	case stateOpen:
		return c.out.n > 0 || c.account.Paused() || c.busy > 0 || c.unanswered() > 0
	case stateWinding:
		return true // the last message follows
	case stateRefusing:
		return c.out.n > 0
	}
	return false
}

// Drop is Side's. The connection's memory lives until its requests have come back.
func (c *Server) Drop(err error) {
	if c.state == stateDead {
		return
	}
	if errors.Is(err, socket.ErrNoSession) {
		c.h.deny(c.name, err)
		err = transport.ErrPeerGone
	}
	if !errors.Is(err, transport.ErrPeerGone) {
		c.h.count.Unanswered += uint64(c.unanswered())
	}
	quiet := c.state == stateRefusing || c.state == stateMoving || errors.Is(err, transport.ErrClosed) || errors.Is(err, transport.ErrPeerGone)
	if !quiet {
		c.h.O.Log.Warn("connection closed", "peer", c.name, "reason", err)
	}
	c.state = stateDead
	c.account.Close(func(cl *memory.Claim) {
		c.busy--
		c.release(&c.slots[cl.Index])
	})
	for n := math.MaxInt; ; { // replies that nobody will read
		slot, ok := c.out.sent(&n)
		if !ok {
			break
		}
		if slot >= 0 {
			c.release(&c.slots[slot])
		}
	}
	if c.cur != nil {
		c.release(c.cur)
		c.cur = nil
	}
	c.p.drop()
	c.in = inbox{}
	c.bury()
}

// bury frees a dead connection when its last request has come back.
func (c *Server) bury() {
	if c.state == stateDead && c.busy == 0 {
		c.p.drop()
		c.h.remove(c)
	}
}
