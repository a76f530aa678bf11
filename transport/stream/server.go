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

// smallBytes is the room of a slot's own memory for a message, and again for an answer. Requests with
// no more bytes of key and value use no block of the pool.
const smallBytes = memory.SmallBytes

type serverState uint8

const (
	stateHello        serverState = iota // waits for the client's hello
	stateProving                         // the challenge was sent; waits for the client's proof
	stateMoving                          // the connection moves to another loop
	stateOpen                            // requests and replies
	stateShuttingDown                    // no more requests are read; the last message follows the last answer
	stateRefusing                        // a refusal is being sent; received bytes are discarded
	stateDead                            // no bytes move; waits for the handler to return the requests
)

// Server is the server's end of a connection, for both protocols: its bytes, slots, memory and deadlines. Its protocol parses and encodes the bytes. It belongs
// to its loop.
type Server struct {
	h      *Host
	driver Driver
	p      protocol
	state  serverState
	ended  bool // the peer has shut its sending half

	peerInfo
	times
	requests
	ownMemory
	in      inbox
	out     outbox
	account memory.Account // the blocks of Host.Pool for its messages and answers

	MoveTo int              // after ErrMove: index of the loop that the connection belongs to
	hello  wire.ClientHello // of the native protocol, once received
}

// peerInfo describes the peer.
type peerInfo struct {
	name   string        // for the log
	who    *access.Entry // the authenticated client; nil: not authenticated, or the server has no secrets
	at     int           // index in Host.servers
	number int64         // unique among the server's connections: the id of CLIENT LIST
	listed uint64        // number of the last CLIENT LIST that contains it
}

// times are for the deadlines, by Loop.AwakeNow in ns.
type times struct {
	accepted int64
	inSince  int64 // when the connection or the refusal began, or the last bytes were received
	outSince int64 // when the queue of unsent bytes became non-empty, or the last bytes were sent
	stamp    int64 // the kernel's receive time of the last bytes, by the loop's clock; 0: not known
}

// requests holds the connection's slots and their use.
type requests struct {
	slots []slot
	free  []int // indexes of unused slots, a stack
	cur   *slot // the slot whose payload is being received in place
	busy  int   // requests that the handler owns, or that wait for memory
	depth int   // the granted depth
}

// ownMemory holds the connection's blocks of Host.conns.
type ownMemory struct {
	recv  []byte // the receive buffer, except for a message transport
	extra []byte // not used itself: it accounts for Host.ExtraConnBytes bytes that the transport has elsewhere
	mem   []byte // the own memory of all slots
}

// returnTo frees all blocks.
func (m *ownMemory) returnTo(to *arena.Pool) {
	for _, b := range [...]*[]byte{&m.recv, &m.extra, &m.mem} {
		if *b != nil {
			to.Free(*b)
			*b = nil
		}
	}
}

// slot holds one request in flight.
type slot struct {
	memory.Claim // the answer's memory; Index is the slot's index
	req          kv.Request
	id           uint64 // the client's number of the request
	room         int    // bytes for the answer at the client
	key          int    // length in bytes
	small        []byte // smallBytes for key and value, then header and smallBytes for the answer, then TimesBytes
	block        []byte // key and value: in small, or from the pool
	reply        []byte // header and answer: in small, or from the pool

	stages  kv.Stages // of req, if the client requested its durations
	arrived int64     // when its last bytes were received
}

// ownsReply reports whether the answer is in the slot's own memory.
func (s *slot) ownsReply() bool { return s.reply != nil && &s.reply[0] == &s.small[replyAt] }

const (
	replyAt  = smallBytes                              // in small
	timesAt  = replyAt + wire.HeaderBytes + smallBytes // likewise
	ownBytes = timesAt + wire.TimesBytes
)

// ErrMove means that the connection belongs to another loop, Server.MoveTo: Ends moves its socket there.
var ErrMove = errors.New("stream: the connection belongs to another loop")

// NewServer makes the server's end of a new connection. name is the peer's name in the log. It returns
// nil if there is no memory for it, or if there are too many connections; the caller then closes the socket.
func (h *Host) NewServer(d Driver, name string) *Server {
	if h.closing || len(h.servers) >= h.O.MaxConns {
		return nil
	}
	buf := h.conns.Alloc(wire.MaxHelloBytes)
	if buf == nil {
		return nil
	}
	var extra []byte
	if h.ExtraConnBytes > 0 {
		if extra = h.conns.Alloc(h.ExtraConnBytes); extra == nil {
			h.conns.Free(buf)
			return nil
		}
	}
	now := h.L.AwakeNow()
	c := &Server{h: h, driver: d, peerInfo: peerInfo{name: name, at: len(h.servers)}, times: times{accepted: now, inSince: now}}
	c.p = &nativeServer{c: c} // until chooseProtocol reads the first byte
	c.recv, c.in.buf, c.extra = buf, buf, extra
	c.account = h.Pool.Open(owner{c})
	c.out = newOutbox(2)
	h.numbered++
	c.number = int64(h.Index) + h.numbered*int64(h.Loops)
	h.servers = append(h.servers, c)
	h.watch()
	return c
}

// NewRESPServer makes the server's end of a new connection that stays on this loop, and whose client uses Redis's protocol, also if the transport's own clients
// send messages. It returns nil as NewServer does, and counts and logs that.
func (h *Host) NewRESPServer(d Driver, name string) *Server {
	c := h.NewServer(d, name)
	if c == nil {
		if !h.closing {
			h.logRefused(name, wire.RefusedBusy, fmt.Sprintf("%d connections are open", len(h.servers)))
		}
		return nil
	}
	c.p = &respServer{c: c, stays: true}
	return c
}

// Adopt makes the server's end of a connection from another loop, and handles the bytes received there. It
// returns nil as NewServer does.
func (h *Host) Adopt(d Driver, m *Moved) *Server {
	c := h.NewServer(d, m.Name)
	if c == nil {
		return nil
	}
	c.in.wr = copy(c.in.buf, m.Received)
	c.chooseProtocol()
	_ = c.p.handshake(true) // cannot be ErrMove: it belongs to this loop
	return c
}

// chooseProtocol selects the protocol by the first received byte.
func (c *Server) chooseProtocol() {
	if c.h.Grant == nil && resp.IsFirstByte(c.in.unread()[0]) {
		c.p = &respServer{c: c}
	}
}

// Moved returns what the loop MoveTo needs to continue the connection.
func (c *Server) Moved(s socket.Socket) Moved {
	return Moved{Socket: s, Name: c.name, Received: bytes.Clone(c.in.unread())}
}

// Hello returns the client's hello, once received.
func (c *Server) Hello() wire.ClientHello { return c.hello }

// unauthenticated reports whether the client still has to authenticate.
func (c *Server) unauthenticated() bool { return c.h.O.Access != nil && c.who == nil }

// readOnly reports whether the client may only read.
func (c *Server) readOnly() bool { return c.who != nil && c.who.ReadOnly }

// Depth returns the granted number of requests in flight, after the hello.
func (c *Server) Depth() int { return c.depth }

// Driver returns the driver that moves this connection's bytes.
func (c *Server) Driver() Driver { return c.driver }

// Name returns the peer's name in the log.
func (c *Server) Name() string { return c.name }

// RecvBuffers implements Side.
func (c *Server) RecvBuffers(w *[2][]byte) int {
	switch {
	case c.state == stateRefusing:
		w[0] = c.in.buf // received and discarded: unread bytes would make close reset the connection, and the refusal would be lost
		return 1
	case c.state == stateDead, c.state == stateShuttingDown, c.account.Paused(), c.ended, c.h.closing:
		return 0
	}
	return c.in.recvBuffers(w)
}

// Received implements Side.
func (c *Server) Received(n int, stamp int64) error {
	c.stamp = stamp
	c.h.count.BytesIn += uint64(n)
	switch c.state {
	case stateHello:
		c.in.received(n)
		c.chooseProtocol()
		return c.p.handshake(false)
	case stateProving:
		c.in.received(n)
		return c.p.handshake(false)
	case stateOpen:
		c.inSince = c.h.L.AwakeNow()
		c.parse(c.in.received(n))
	}
	return nil
}

// ReceivedMessage implements MessageSide.
func (c *Server) ReceivedMessage(b []byte) error {
	if c.state != stateOpen {
		return nil // discarded
	}
	c.h.count.BytesIn += uint64(len(b))
	c.inSince = c.h.L.AwakeNow()
	c.in.buf, c.in.rd, c.in.wr = b, 0, len(b)
	whole := false
	if len(c.in.rest) > 0 {
		var copied int
		copied, whole = c.in.copyToRest()
		c.h.L.Stats.Copied += uint64(copied)
	}
	c.parse(whole)
	return nil
}

// Unread implements MessageSide.
func (c *Server) Unread() int {
	if c.state != stateOpen {
		return 0
	}
	return len(c.in.unread())
}

// Next implements MessageSide.
func (c *Server) Next(v []unix.Iovec, max int) (pieces, bytes int, more bool) {
	pieces, bytes = c.out.describe(v, max)
	c.handed(pieces)
	return pieces, bytes, c.out.undescribed()
}

// NextCopied implements MessageSide.
func (c *Server) NextCopied(max int) (b []byte, more bool) {
	if i := c.out.headSlot(); i >= 0 && !c.slots[i].ownsReply() { // it would be free before it is copied
		return nil, c.out.undescribed()
	}
	b, slot := c.out.popWhole(max)
	if b == nil {
		return nil, c.out.undescribed()
	}
	c.outSince = c.h.L.AwakeNow()
	c.h.count.BytesOut += uint64(len(b))
	if slot >= 0 {
		s := &c.slots[slot]
		c.p.handed(s)
		c.release(s)
	}
	c.account.AnswersSent()
	return b, c.out.undescribed()
}

// Last implements MessageSide.
func (c *Server) Last() bool { return c.state == stateRefusing && !c.out.undescribed() }

// allocSlots allocates the connection's memory for its depth. keep are received bytes that stay in the receive buffer.
func (c *Server) allocSlots(keep []byte) error {
	h := c.h
	slots := 2 * c.depth
	const per = ownBytes
	recv := h.O.RecvBytes
	if _, native := c.p.(*nativeServer); native && h.Grant != nil {
		recv = wire.MaxHelloBytes // a message transport's messages have their own memory
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
	c.out.Grow(slots + 3) // besides the answers: a challenge that is not sent completely, the hello, a refusal
	for i := range c.slots {
		s := &c.slots[i]
		s.Index, s.small = i, mem[i*per:(i+1)*per:(i+1)*per]
		s.req.Owner = c
		s.req.Slot = uint64(i)
		c.free = append(c.free, i)
	}
	return nil
}

// parse begins all complete requests of the receive buffer. whole: the payload that was received in place is complete now.
func (c *Server) parse(whole bool) {
	c.h.Handler.Begin()
	c.p.parse(whole)
	c.h.Handler.End()
}

// recvBytesMax bounds a receive buffer that enlargeBuffer has enlarged.
const recvBytesMax = 64 << 10

// enlargeBuffer doubles a receive buffer that was full and had only a part of a message at its end, so that the next burst of that many messages needs one receive. It may
// not be larger than recvBytesMax, and half of the connections' memory stays for new connections. It also moves the unread bytes to the beginning.
func (c *Server) enlargeBuffer() {
	h := c.h
	if 2*len(c.recv) > recvBytesMax || &c.recv[0] != &c.in.buf[0] || h.conns.InUse() > h.conns.Largest()/2 { // else the buffer is a message, which the transport owns
		return
	}
	b := h.conns.Alloc(2 * len(c.recv))
	if b == nil {
		return
	}
	n := copy(b, c.in.unread())
	h.conns.Free(c.recv)
	c.recv, c.in = b, inbox{buf: b, wr: n}
}

// submitWithRoom submits a request with room for an answer of want bytes.
func (c *Server) submitWithRoom(s *slot, want int) {
	s.req.Need = uint32(want)
	if want > smallBytes && !c.p.allocAnswer(s) {
		c.account.Wait(&s.Claim)
		return
	}
	c.resubmit(s)
}

// countRequest counts a received request.
func (c *Server) countRequest() {
	c.busy++
	c.h.count.Requests++
}

// unanswered returns the number of received requests whose answer is not sent completely.
func (c *Server) unanswered() int {
	n := len(c.slots) - len(c.free) + c.out.more
	if c.cur != nil {
		n-- // not received completely
	}
	return n
}

// underWay reports whether a request is being received, executed or answered, or other bytes are to be sent.
func (c *Server) underWay() bool {
	return c.busy > 0 || c.out.Len() > 0 || c.cur != nil || c.account.Paused() || c.unanswered() > 0 || c.state == stateOpen && c.in.partial()
}

// answerMax returns the most bytes that the answer may have.
func (c *Server) answerMax(s *slot) int {
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

// Complete implements kv.Completer.
func (c *Server) Complete(r *kv.Request) {
	s := &c.slots[r.Slot]
	alive := c.state == stateOpen || c.state == stateShuttingDown
	if alive && r.Status == kv.StatusTooSmall && c.p.retries(s) {
		c.releaseReply(s)
		c.account.RemoveUnsent(&s.Claim)
		if c.p.allocAnswer(s) {
			c.resubmit(s)
		} else {
			c.account.Wait(&s.Claim)
		}
		c.account.AnswersSent()
		return
	}
	if !alive {
		c.abandon(s)
		return
	}
	c.p.complete(s)
}

// abandon gives up a request whose answer cannot be sent any more.
func (c *Server) abandon(s *slot) {
	if c.state != stateDead { // else Drop has counted it, or the peer has left
		c.h.count.Unanswered++
	}
	c.busy--
	c.release(s)
	c.removeIfDone()
}

func (c *Server) send(m message) {
	if c.out.Len() == 0 {
		c.outSince = c.h.L.AwakeNow()
	}
	c.out.Push(m)
	c.driver.Touch()
}

func (c *Server) releaseBlock(s *slot) {
	if s.block != nil && &s.block[:1][0] != &s.small[0] {
		c.account.Free(s.block)
	}
	s.block = nil
}

func (c *Server) releaseReply(s *slot) {
	if s.reply != nil && !s.ownsReply() {
		c.account.Free(s.reply)
	}
	s.reply = nil
}

// release makes a slot free for the next request.
func (c *Server) release(s *slot) {
	c.releaseBlock(s)
	c.releaseReply(s)
	c.account.RemoveUnsent(&s.Claim)
	c.free = append(c.free, s.Index)
	c.account.RetryIfPaused()
}

// Gather implements Side.
func (c *Server) Gather(v []unix.Iovec, max int) int {
	n := c.out.gather(v, max)
	c.handed(n)
	return n
}

// handed counts the answers whose first bytes were given to the driver.
func (c *Server) handed(pieces int) {
	for {
		slot, ok := c.out.nextHanded()
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

// SentCanWait reports whether nothing waits for the completion of a send of all queued bytes: no connection of the loop waits for memory or a slot, and this one does not end.
func (c *Server) SentCanWait() bool {
	return c.state == stateOpen && !c.ended && !c.h.closing && !c.account.Waits() && c.h.Pool.Waiting() == 0
}

// Sent implements Side.
func (c *Server) Sent(n int) {
	c.outSince = c.h.L.AwakeNow()
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
	c.account.AnswersSent()
}

// Shutdown ends the connection in order: nothing more is read, and after the answers to all received requests the last
// message follows. Host.Shutdown calls it in each turn while the server closes.
func (c *Server) Shutdown() { c.p.shutdown() }

// Finished implements Side. It is true when the refusal is sent, or all answers to a peer that has shut its sending half.
func (c *Server) Finished() bool {
	return c.state == stateRefusing && c.out.Len() == 0 || c.ended && c.state == stateOpen && !c.answersLeft()
}

// PeerFinished implements Side. A peer may shut its sending half after its last request and wait for the answers, as `printf … | nc` does.
func (c *Server) PeerFinished() bool {
	c.ended = true
	return c.answersLeft()
}

// answersLeft reports whether received requests are still to be executed or answered, including those that were not parsed because there was no memory
// or no slot.
func (c *Server) answersLeft() bool {
	switch c.state {
	case stateOpen:
		return c.out.Len() > 0 || c.account.Paused() || c.busy > 0 || c.unanswered() > 0
	case stateShuttingDown:
		return true // the last message follows
	case stateRefusing:
		return c.out.Len() > 0
	}
	return false
}

// Drop implements Side. The connection's memory lives until its requests have come back.
func (c *Server) Drop(err error) {
	if c.state == stateDead {
		return
	}
	if errors.Is(err, socket.ErrNoSession) {
		c.h.logDenied(c.name, err)
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
	for n := math.MaxInt; ; { // unsent answers
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
	c.removeIfDone()
}

// removeIfDone frees an ended connection when the handler has returned its last request.
func (c *Server) removeIfDone() {
	if c.state == stateDead && c.busy == 0 {
		c.p.drop()
		c.h.remove(c)
	}
}
