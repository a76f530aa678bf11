package stream

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
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

// Server is the server's end of a connection.
type Server struct {
	h      *Host
	driver Driver
	name   string // the peer, for the log
	at     int    // its place in h.servers
	state  serverState
	in     inbox
	recv   []byte // of conns: what in receives into, but for a message transport
	beside []byte // of conns, and not used: Host.Beside of them are elsewhere
	out    outbox
	mem    []byte // of all slots
	slots  []slot
	free   []int // slots that are not in use, a stack
	cur    *slot // whose payload is being received
	busy   int   // requests that the handler owns, or that wait for memory
	open   int   // requests whose answer was not handed to the kernel: at most the depth that was granted
	depth  int
	ended  bool // the peer has shut its sending half: nothing more comes
	hint   int  // bytes of the last value read: the next answer's first guess

	account memory.Account // its messages' and answers' blocks of h.Pool

	stamped bool  // the driver was asked for the kernel's times
	stamp   int64 // of the last bytes that came; 0: it is not known

	inSince  int64 // when the connection or the refusal began, or when the last bytes came
	outSince int64 // when there began to be something to send, or when the last bytes went
	MoveTo   int   // after ErrMove: the loop that the client wants
	hello    wire.ClientHello
	said     access.Transcript        // of its hello and our challenge
	who      *access.Entry            // who has connected; nil: anybody, or nobody yet
	accepted int64                    // when
	guest    *guest                   // its client speaks RESP; nil: the native frame
	number   int64                    // among all connections of the server: CLIENT LIST's id
	listed   uint64                   // the last CLIENT LIST that has it
	greeting [wire.MaxHelloBytes]byte // the hello that answers, while it is sent
	refusal  [256]byte                // the refusal, while it is sent
}

// slot is one request in flight.
type slot struct {
	memory.Claim // its answer's memory; Index is its own place
	req          kv.Request
	of           *Server
	id           uint64 // the client's
	room         int    // what the client can take as an answer
	key          int    // bytes
	small        []byte // smallBytes for key and value, then header and smallBytes for the answer, then TimesBytes
	block        []byte // key and value: in small, or from the pool
	reply        []byte // header and answer: in small, or from the pool

	stages  kv.Stages // req's, where the client wants to know its times
	arrived int64     // when its last bytes were there
}

const (
	replyAt  = smallBytes                              // in small
	timesAt  = replyAt + wire.HeaderBytes + smallBytes // likewise
	ownBytes = timesAt + wire.TimesBytes
)

// ErrMove means that the hello asks for another loop, MoveTo: the driver takes the socket there.
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
	c := &Server{h: h, driver: d, name: name, at: len(h.servers), accepted: h.L.Awake(), inSince: h.L.Awake()}
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
	if resp.Begins(m.Said[0]) {
		c.invite()
	} else {
		c.receiveHello() // which asks for this loop
	}
	return c
}

// Moved is the connection on its way to MoveTo.
func (c *Server) Moved(s socket.Socket) Moved {
	return Moved{Socket: s, Name: c.name, Said: bytes.Clone(c.in.unread())}
}

// Hello is the client's hello, once it came.
func (c *Server) Hello() wire.ClientHello { return c.hello }

// unknown says whether who has connected has yet to say who that is.
func (c *Server) unknown() bool { return c.h.O.Access != nil && c.who == nil }

// readOnly says whether who has connected may not change anything.
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
		if c.in.unread()[0] == socket.BeginsTLS && c.h.Sockets.TLS == nil {
			c.refuse(wire.RefusedFeature, errors.New("the client speaks TLS, and this server has no certificate (serve --tls-cert)"))
			return nil
		}
		if c.h.Grant == nil && resp.Begins(c.in.unread()[0]) {
			if c.MoveTo = c.h.nextLoop(); c.MoveTo != c.h.Index {
				c.state = stateMoving
				return ErrMove
			}
			c.invite()
			return nil
		}
		return c.receiveHello()
	case stateProving:
		c.in.received(n)
		c.receiveProof()
	case stateOpen:
		c.inSince = c.h.L.Awake()
		if c.in.received(n) && c.guest == nil {
			c.submit(c.cur)
			c.cur = nil
		}
		c.parse()
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
	if len(c.in.rest) > 0 {
		copied, whole := c.in.goOn()
		if c.h.L.Stats.Copied += uint64(copied); whole {
			c.submit(c.cur)
			c.cur = nil
		}
	}
	c.parse()
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

// message is a message of the hello that was received; nil: it is not whole, or was refused.
func (c *Server) message() []byte {
	b := c.in.unread()
	n, err := wire.HelloBytes(b)
	switch {
	case err != nil:
		c.refuse(wire.RefusedGarbage, err)
	case n == 0 || len(b) < n:
	case len(b) > n:
		c.refuse(wire.RefusedGarbage, fmt.Errorf("%w: %d bytes after the hello", transport.ErrProtocol, len(b)-n))
	default:
		return b
	}
	return nil
}

func (c *Server) receiveHello() error {
	b := c.message()
	if b == nil {
		return nil
	}
	if err := c.hello.Decode(b); err != nil {
		c.refuse(wire.RefusedGarbage, err)
		return nil
	}
	proves, guarded := c.hello.Wants(wire.FeatureAccess), c.h.O.Access != nil
	switch want := int(c.hello.Loop); {
	case c.hello.Version != wire.Version:
		c.refuse(wire.RefusedVersion, fmt.Errorf("the client speaks version %d, the server %d", c.hello.Version, wire.Version))
	case c.hello.Required&^wire.FeatureAccess != 0:
		c.refuse(wire.RefusedFeature, fmt.Errorf("the client requires features %#x", c.hello.Required))
	case c.hello.Required != 0 && !guarded:
		c.refuse(wire.RefusedFeature, errors.New("the client has a secret, and this server knows none (serve --auth-file)"))
	case guarded && !proves:
		c.refuse(wire.RefusedAccess, errors.New("this server wants a name and a secret (--auth-file)"))
	case want < c.h.Loops && want != c.h.Index: // before anything is sent: then nothing is under way
		c.MoveTo, c.state = want, stateMoving
		return ErrMove
	case guarded:
		c.challenge(b)
	default:
		c.grant()
	}
	return nil
}

// challenge answers a hello with a nonce, and tells nothing of the server yet.
func (c *Server) challenge(hello []byte) {
	var nonce [wire.NonceBytes]byte
	_, _ = rand.Read(nonce[:])
	answer := wire.ServerHello{Version: wire.Version, Code: wire.Challenged, Params: nonce[:]}
	b := answer.Append(c.greeting[:0])
	c.said = access.NewTranscript(hello, b)
	c.hello.Params = bytes.Clone(c.hello.Params) // the proof comes where they lie
	c.in.consume(len(hello))
	c.state = stateProving
	c.send(message{piece: [3][]byte{b}, slot: -1})
}

// receiveProof lets in who has answered the challenge.
func (c *Server) receiveProof() {
	b := c.message()
	if b == nil {
		return
	}
	var p wire.Proof
	if err := p.Decode(b); err != nil {
		c.refuse(wire.RefusedGarbage, err)
		return
	}
	if c.who = c.h.O.Access.Check(c.hello.Name, c.said, p); c.who == nil {
		c.refuse(wire.RefusedAccess, errors.New("the name is unknown, or the secret another one"))
		return
	}
	c.grant()
}

// grant gives the connection its memory and answers the hello. There are two slots for each request that
// the client may have in flight: the next one can be seen before the news that the last answer was sent.
func (c *Server) grant() {
	h := c.h
	if want := int(c.hello.Loop); want != wire.AnyLoop && want >= h.Loops {
		c.refuse(wire.RefusedLoop, fmt.Errorf("loop %d of %d", want, h.Loops))
		return
	}
	c.depth = min(int(c.hello.Depth), h.O.Depth)
	var params []byte
	if h.Grant != nil {
		var err error
		if params, err = h.Grant(c); err != nil {
			code := wire.RefusedBusy
			var r *transport.Refusal
			if errors.As(err, &r) {
				code = r.Code
				err = errors.New(r.Reason) // the client says itself that it was refused, and the code
			}
			c.refuse(code, err)
			return
		}
	}
	if err := c.equip(); err != nil {
		c.refuse(wire.RefusedBusy, err)
		return
	}
	c.state = stateOpen
	h.count.Opened++
	hello := wire.ServerHello{Version: wire.Version, Depth: uint16(c.depth),
		MaxKeyBytes: uint16(h.O.Limits.MaxKeyBytes), MaxValueBytes: uint32(h.O.Limits.MaxValueBytes),
		StallMillis: uint32(h.O.StallMax.Milliseconds()),
		Loop:        uint16(h.Index), Loops: uint16(h.Loops), Shards: h.Shards, Params: params}
	c.send(message{piece: [3][]byte{c.seal(&hello)}, slot: -1})
}

// seal encodes a grant, with our own proof for who has given one. The challenge lay there, and has arrived.
func (c *Server) seal(hello *wire.ServerHello) []byte {
	if c.who == nil {
		return hello.Append(c.greeting[:0])
	}
	hello.Features = wire.FeatureAccess
	return hello.AppendSealed(c.greeting[:0], func(said []byte) wire.Proof { return c.who.ServerProof(c.said, said) })
}

// equip gives the connection the memory for its depth. What was received of commands goes there.
func (c *Server) equip() error {
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
	received := 0
	if c.guest != nil {
		received = copy(buf, c.in.unread())
	}
	h.conns.Free(c.recv)
	c.recv, c.in = buf, inbox{buf: buf, wr: received}
	c.mem = mem
	c.slots = make([]slot, slots)
	c.free = make([]int, 0, slots)
	c.out.grow(slots + 3) // a challenge whose end is not known yet, the hello, the replies, a refusal
	for i := range c.slots {
		s := &c.slots[i]
		s.of, s.Index, s.small = c, i, mem[i*per:(i+1)*per:(i+1)*per]
		s.req.Owner = c
		s.req.Slot = uint64(i)
		c.free = append(c.free, i)
	}
	return nil
}

// parse takes all whole requests from the receive buffer.
func (c *Server) parse() {
	c.h.Handler.Begin()
	if c.guest != nil {
		c.parseCommands()
	} else {
		c.parseFrames()
	}
	c.h.Handler.End()
}

// parseFrames takes all whole headers.
func (c *Server) parseFrames() {
	for len(c.in.rest) == 0 {
		b := c.in.unread()
		if len(b) < wire.HeaderBytes {
			break
		}
		var hd wire.Header
		if err := hd.Decode(b); err != nil {
			c.refuse(wire.RefusedGarbage, err)
			return
		}
		if err := hd.CheckRequest(c.h.O.Limits); err != nil {
			code := wire.RefusedGarbage
			if errors.Is(err, wire.ErrLimit) {
				code = wire.RefusedTooLarge
			}
			c.refuse(code, err)
			return
		}
		if c.open == c.depth || len(c.free) == 0 { // no slot: it did not wait for whole answers
			c.refuse(wire.RefusedDepth, fmt.Errorf("%w: more than %d requests in flight", transport.ErrProtocol, c.depth))
			return
		}
		s := &c.slots[c.free[len(c.free)-1]]
		payload := hd.PayloadBytes()
		if payload <= smallBytes {
			s.block = s.small[:payload]
		} else if s.block = c.account.Message(payload); s.block == nil {
			return // reading goes on when memory comes back
		}
		c.free = c.free[:len(c.free)-1]
		c.open++
		s.begin(&hd)
		c.in.rd += wire.HeaderBytes
		copied, whole := c.in.take(s.block)
		c.h.L.Stats.Copied += uint64(copied)
		if !whole {
			c.cur = s
			c.h.watch()
			return
		}
		c.submit(s)
	}
	if c.h.Grant != nil && len(c.in.unread()) > 0 {
		c.refuse(wire.RefusedGarbage, fmt.Errorf("%w: a message ends within a header", transport.ErrProtocol))
		return
	}
	c.in.compact()
	if c.in.partial() {
		c.h.watch()
	}
}

// begin fills the request from its header; the payload may still be on its way.
func (s *slot) begin(hd *wire.Header) {
	s.id, s.room, s.key = hd.ID, int(hd.ValueBytes), int(hd.KeyBytes)
	r := &s.req
	r.Op, r.Status, r.Limit, r.Need = hd.Op, 0, hd.Arg, 0
	r.Stages = nil
	if hd.Flags&wire.FlagTimes != 0 {
		r.Stages = &s.stages
	}
}

// submit gives a whole request to the handler, with a first guess at the room for its answer.
func (c *Server) submit(s *slot) {
	r := &s.req
	r.Key = s.block[:s.key]
	s.reply = s.small[replyAt:timesAt:timesAt]
	c.begun()
	c.h.commands++
	if r.Stages != nil {
		c.time(s)
	}
	if r.Op == kv.OpStats { // there is more to ask for than the frame knows
		if r.Status = c.h.O.Limits.Check(r); r.Status != kv.StatusOK {
			c.h.L.Finish(r)
			return
		}
	}
	if c.readOnly() && r.Op.Changes() {
		r.Status = kv.StatusReadOnly
		c.h.L.Finish(r)
		return
	}
	if r.Op == kv.OpPut {
		r.Value = s.block[s.key:]
		c.h.Handler.Submit(r)
		return
	}
	want := 0
	switch r.Op {
	case kv.OpGet:
		want = min(c.hint, s.mayAnswer())
	case kv.OpScan, kv.OpStats:
		want = s.mayAnswer()
	}
	c.ask(s, want)
}

// ask submits a request whose answer is guessed to have so many bytes. While the peer has much to take, a get does not wait on a mere guess: what it needs
// comes back then. A guest's would be answered in its turn only.
func (c *Server) ask(s *slot, want int) {
	if s.req.Op == kv.OpGet && c.guest == nil && !c.account.MayOwe(&s.Claim, want) {
		want = 0
	}
	s.req.Need = uint32(want)
	if want > smallBytes && !c.feed(s) {
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

// time begins a request's times: its last bytes are here.
func (c *Server) time(s *slot) {
	now := loop.Nanos()
	if s.arrived = now; c.stamp != 0 {
		s.arrived = min(c.stamp, now)
	}
	s.stages.Start(s.arrived)
	s.stages.Mark(kv.StageNotifyServer, now)
	if !c.stamped { // from the next one on
		c.stamped = true
		c.driver.Stamp()
	}
}

// tell writes a request's times to where its answer goes from, whose first bytes are handed over now.
func (s *slot) tell() {
	s.stages.Mark(kv.StageServerSubmit, loop.Nanos())
	d := &s.stages.Ns
	t := wire.Times{Notify: uint64(d[kv.StageNotifyServer]), Queue: uint64(d[kv.StageServerQueue]), Store: uint64(d[kv.StageStore]),
		Disk: uint64(d[kv.StageDisk]), Submit: uint64(d[kv.StageServerSubmit]), Arrived: loop.Monotonic(s.arrived), Host: wire.Host()}
	t.Encode(s.small[timesAt:])
}

// mayAnswer is how many bytes the answer may have.
func (s *slot) mayAnswer() int {
	l := s.of.h.O.Limits
	if s.req.Op == kv.OpScan {
		return min(s.room, l.ScanRoom())
	}
	return min(s.room, l.MaxValueBytes)
}

// again says whether a request that had too little room is submitted again, with more.
func (s *slot) again() bool {
	if s.of.guest != nil {
		return s.of.retriable(s)
	}
	return int(s.req.Need) <= s.mayAnswer()
}

// feed gets the room for an answer of r.Need bytes; false when there is none now, or when its peer has to take others before.
func (c *Server) feed(s *slot) bool {
	behind := 0
	if c.guest != nil {
		if s.req.Op.Updates() {
			return c.enlarge(s)
		}
		behind = len(crlf)
	}
	b := c.account.Answer(&s.Claim, wire.HeaderBytes+int(s.req.Need)+behind)
	if b == nil {
		return false
	}
	s.reply = b[:cap(b)-behind]
	return true
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

// Complete takes a request back from the handler.
func (c *Server) Complete(r *kv.Request) {
	s := &c.slots[r.Slot]
	alive := c.state == stateOpen || c.state == stateWinding
	if alive && r.Status == kv.StatusTooSmall && s.again() {
		c.releaseReply(s)
		c.account.Settle(&s.Claim)
		if c.feed(s) {
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
	if c.guest != nil {
		c.completePart(s)
		return
	}
	c.busy--
	c.releaseBlock(s)
	hd := wire.Header{Op: r.Op, Flags: wire.FlagReply, Status: r.Status, ID: s.id, Arg: r.Need}
	answer := 0
	if hd.Answers() {
		answer = len(r.Value)
		hd.ValueBytes = uint32(answer)
		if r.Op == kv.OpGet {
			c.hint = answer
		}
	}
	m := message{piece: [3][]byte{s.reply[:wire.HeaderBytes+answer]}, slot: s.Index}
	if r.Stages != nil {
		hd.Flags |= wire.FlagTimes
		m.piece = [3][]byte{s.reply[:wire.HeaderBytes], s.small[timesAt:ownBytes], s.reply[wire.HeaderBytes : wire.HeaderBytes+answer]}
	}
	hd.Encode(s.reply)
	c.send(m)
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
	if c.guest != nil && c.account.Paused() { // for a slot
		c.h.Pool.CameBack()
	}
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
		if slot < 0 || c.guest != nil {
			continue
		}
		c.open--
		if s := &c.slots[slot]; s.req.Stages != nil {
			s.tell()
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

// refuse queues the news that the connection ends, and logs why.
func (c *Server) refuse(code wire.Code, why error) {
	switch code {
	case wire.RefusedClosing:
	case wire.RefusedAccess:
		c.h.count.Refused++
		c.h.deny(c.name, why)
	default:
		c.h.refused(c.name, code, why)
	}
	b := c.refusal[:wire.HeaderBytes]
	if c.slots == nil {
		hello := wire.ServerHello{Version: wire.Version, Code: code, Reason: why.Error()}
		b = hello.Append(c.refusal[:0])
	} else {
		hd := wire.Header{Flags: wire.FlagReply | wire.FlagRefuse, Arg: uint32(code)}
		hd.Encode(b)
	}
	c.state = stateRefusing
	c.inSince = c.h.L.Awake()
	c.send(message{piece: [3][]byte{b}, slot: -1})
	c.h.watch()
}

// Wind ends the connection in good order: nothing more is read, and when what was received is done and answered,
// the client is told. The driver calls it in each turn while it closes.
func (c *Server) Wind() {
	switch {
	case c.state == stateOpen && c.account.Paused(): // there are more requests, whole, which wait for memory
	case c.state == stateOpen && c.guest != nil:
		c.dismiss("-ERR kvwire is shutting down\r\n")
	case c.state == stateOpen:
		c.state = stateWinding
	case c.state == stateHello || c.state == stateProving:
		c.refuse(wire.RefusedClosing, transport.ErrClosed)
	}
	if c.guest != nil {
		c.farewell()
		return
	}
	if c.state == stateWinding && c.busy == 0 {
		c.refuse(wire.RefusedClosing, transport.ErrClosed)
	}
}

// Finished is Side's: the refusal is out, or all answers for a peer that sends nothing more.
func (c *Server) Finished() bool {
	return c.state == stateRefusing && c.out.n == 0 || c.ended && c.state == stateOpen && !c.answersLeft()
}

// PeerFinished is Side's. A peer may shut its sending half behind its last request and wait for the answers: `printf … | nc` does.
func (c *Server) PeerFinished() bool {
	c.ended = true
	return c.answersLeft()
}

// answersLeft says whether answers are to be sent for what was received, or requests to be done: also of those that were received and not read,
// for want of memory or a slot.
func (c *Server) answersLeft() bool {
	switch c.state {
	case stateOpen:
		return c.out.n > 0 || c.account.Paused() || c.busy > 0 || c.unanswered() > 0
	case stateWinding:
		return true // the last words follow
	case stateRefusing:
		return c.out.n > 0
	}
	return false
}

// deadline is when the connection has failed if nothing happens; MaxInt64 when it may stay as it is.
func (c *Server) deadline() int64 {
	stall := int64(c.h.O.StallMax)
	switch c.state {
	case stateDead:
		return math.MaxInt64
	case stateHello, stateProving:
		return c.accepted + int64(c.h.O.HelloMax)
	case stateRefusing:
		if c.h.closing && c.out.n > 0 { // answers, which the peer takes as it can
			return c.outSince + stall
		}
		since := c.inSince
		if c.h.closing {
			since = max(since, c.outSince)
		}
		return since + min(stall, int64(refusingMax))
	}
	by := int64(math.MaxInt64)
	if c.unknown() {
		by = c.accepted + int64(c.h.O.HelloMax)
	}
	if c.out.n > 0 {
		by = min(by, c.outSince+stall)
	}
	if (c.state == stateOpen || c.state == stateWinding && c.cur != nil) && c.in.partial() && !c.account.Paused() {
		by = min(by, c.inSince+stall) // while winding nothing is read, and what cur holds another one may wait for
	}
	if c.account.Starves() {
		by = min(by, c.account.FedAt+4*stall) // whoever has the memory, and does not move, or dawdles, is closed before
	}
	if c.dawdles() {
		by = min(by, c.account.HeldSince+2*stall)
	}
	return min(by, c.idleUntil())
}

// idleUntil is when a connection of which nothing is under way has been so for IdleMax; MaxInt64: never.
func (c *Server) idleUntil() int64 {
	if c.h.O.IdleMax == 0 || c.state != stateOpen || c.busy > 0 || c.out.n > 0 || c.cur != nil || c.in.partial() {
		return math.MaxInt64
	}
	return max(c.inSince, c.outSince) + int64(c.h.O.IdleMax)
}

// rest ends a connection that has been idle for too long, with a code: its peer lives, and may wonder.
func (c *Server) rest() {
	if why := fmt.Errorf("nothing was asked for in %v", c.h.O.IdleMax); c.guest != nil {
		c.h.refused(c.name, wire.RefusedDeadline, why)
		c.dismiss("-ERR " + why.Error() + "\r\n")
	} else {
		c.refuse(wire.RefusedDeadline, why)
	}
}

// dawdles says whether it is for its peer to take or send bytes that lie in memory for which others wait: an answer, or a message, has 2 StallMax then.
func (c *Server) dawdles() bool {
	return c.account.OthersWait() && c.account.Held() > 0 && (c.out.n > 0 || c.cur != nil || c.gathers())
}

// gathers says whether the connection has memory for a guest's command that is not whole. It may wait for more of it, and others that do the same for each other.
func (c *Server) gathers() bool {
	g := c.guest
	return g != nil && g.spec == nil && (g.big != nil || g.many != nil)
}

func (c *Server) lateness() error {
	switch {
	case c.state == stateHello, c.state == stateProving, c.unknown() && c.h.L.Awake() >= c.accepted+int64(c.h.O.HelloMax):
		return fmt.Errorf("no hello within %v", c.h.O.HelloMax)
	case c.state == stateRefusing:
		return transport.ErrClosed
	}
	if c.account.Starves() && c.h.L.Awake() >= c.account.FedAt+4*int64(c.h.O.StallMax) {
		return fmt.Errorf("no memory for its answers within %v: %d MiB are in use", 4*c.h.O.StallMax, c.h.Pool.InUse()>>20)
	}
	if c.dawdles() && c.h.L.Awake() >= c.account.HeldSince+2*int64(c.h.O.StallMax) {
		return fmt.Errorf("%w for %v, while others wait for its %d KiB of memory", errSlow, 2*c.h.O.StallMax, c.account.Held()>>10)
	}
	return fmt.Errorf("%w for %v", transport.ErrStalled, c.h.O.StallMax)
}

var errSlow = errors.New("the peer has taken or sent no whole message")

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
	if c.guest != nil {
		c.forget()
	}
	c.in = inbox{}
	c.bury()
}

// bury frees a dead connection when its last request has come back.
func (c *Server) bury() {
	if c.state == stateDead && c.busy == 0 {
		if c.guest != nil && c.guest.flushing != nil {
			c.release(c.guest.flushing)
		}
		c.h.remove(c)
	}
}
