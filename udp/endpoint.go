package udp

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/datagram"
	"github.com/kvwire/kvwire/transport/memory"
	"github.com/kvwire/kvwire/wire"
)

// endpoint has the server's connections on one loop. It belongs to its loop.
type endpoint struct {
	*carrier
	server  *datagram.Server
	handler *loop.Router
	o       transport.ServerOptions
	index   int      // of this loop among the network loops
	ports   []uint16 // of the sockets of all network loops
	shards  []uint16 // the shard map for the hello

	pool  *memory.Pool // keys and values under way
	conns *arena.Pool  // what a connection holds while it is open
	open  []*serverConn
	total transport.Stats

	violators []*serverConn // connections that end in this turn, because of a frame

	closing, closed bool
	checkAt         int64 // when the deadlines are checked next; 0: no connection has one
}

var (
	_ loop.Busier         = (*endpoint)(nil)
	_ datagram.ServerHost = (*endpoint)(nil)
)

// messageMax returns the most bytes of a request or reply.
func messageMax(l kv.Limits) int { return headBytes + l.ScanRoom() }

func newEndpoint(l *loop.Loop, g *loop.Group, index int, ports []uint16, fd int, secret [32]byte, o transport.ServerOptions, u Options) (e *endpoint, err error) {
	e = &endpoint{handler: g.Router(index), o: o, index: index, ports: ports, shards: g.ShardLoops()}
	c := u.core(fd)
	c.MessageBytes, c.Sessions, c.Slots = messageMax(o.Limits), o.MaxConns+1, o.Depth // one more, to refuse it
	c.HelloMax, c.SilentMax = int64(o.HelloMax), int64(o.StallMax)
	if e.server, err = datagram.NewServer(c, secret, e); err != nil {
		return nil, err
	}
	if e.pool, err = memory.NewPool(max(o.PoolBytes, 4*messageMax(o.Limits)), l, e.watch); err != nil {
		return nil, err
	}
	if e.conns, err = arena.NewPool(o.ConnBytes); err != nil {
		_ = e.pool.Close()
		return nil, err
	}
	var id loop.MemberID
	if id, err = l.Add(e); err != nil {
		return nil, errors.Join(err, e.pool.Close(), e.conns.Close())
	}
	e.carrier, err = newCarrier(l, id, fd, e.server, &e.server.Count, &u)
	return e, err // on an error it is on the loop, and Server.Close removes it
}

// serverConn is the server's end of a connection.
type serverConn struct {
	e       *endpoint
	s       *datagram.ServerSession
	name    string        // for the log
	who     *access.Entry // the authenticated client; nil: the server has no secrets
	at      int           // index in endpoint.open
	account memory.Account
	mem     []byte // the own memory of all slots
	slots   []slot
	busy    int   // requests that the handler owns, or that wait for memory
	unsent  int   // answers in blocks of the pool that the client may not have yet
	hint    int   // bytes of the last value read: the guess for the next answer
	since   int64 // when a request was received or answered last
	ended   bool

	violation error // why the session ends in this turn
	violated  wire.Code
}

// slot holds one request in flight.
type slot struct {
	memory.Claim // the answer's memory; Index is the slot's index
	req          kv.Request
	id           uint64
	room         int // bytes for the answer at the client
	kept         bool
	small        []byte // the request, or the beginning of the reply, and a small answer
	block        []byte // the request: in small, or from the pool
	answer       []byte // in small, or from the pool

	stages  kv.Stages
	arrived int64
}

// The own memory of a slot.
const (
	requestBytes = wire.HeaderBytes + smallBytes
	headAt       = requestBytes
	answerAt     = headAt + headBytes
	slotBytes    = answerAt + smallBytes
)

var _ kv.Completer = (*serverConn)(nil)

// Elsewhere implements datagram.ServerHost. The name of another loop's address is its port.
func (e *endpoint) Elsewhere(_ *datagram.Address, hello []byte) []byte {
	var h wire.ClientHello
	if h.Decode(hello) != nil {
		return nil
	}
	want := int(h.Loop)
	if want >= len(e.ports) || want == e.index {
		return nil
	}
	return binary.LittleEndian.AppendUint16(nil, e.ports[want])
}

// Admit implements datagram.ServerHost.
func (e *endpoint) Admit(s *datagram.ServerSession, a *datagram.Admission) (answer []byte, slots int, err error) {
	from := s.From()
	c := &serverConn{e: e, s: s, name: addrPort(&from).String(), since: e.l.AwakeNow()}
	var h wire.ClientHello
	code, why := e.check(c, &h, a)
	if code == wire.Granted {
		if slots = min(int(h.Depth), a.Slots); !c.allocate(slots) {
			code, why = wire.RefusedBusy, fmt.Errorf("no memory for another connection: %d MiB of %d MiB are in use", e.conns.InUse()>>20, e.conns.Largest()>>20)
		}
	}
	if code != wire.Granted {
		e.logRefused(c.name, code, why)
		hello := wire.ServerHello{Version: wire.Version, Code: code, Reason: why.Error()}
		return nil, 0, &datagram.Refusal{Reason: hello.Append(nil)}
	}
	hello := wire.ServerHello{Version: wire.Version, Depth: uint16(slots),
		MaxKeyBytes: uint16(e.o.Limits.MaxKeyBytes), MaxValueBytes: uint32(e.o.Limits.MaxValueBytes),
		StallMillis: uint32(e.o.StallMax.Milliseconds()),
		Loop:        uint16(e.index), Loops: uint16(len(e.ports)), Shards: e.shards}
	answer = hello.Append(nil)
	if c.who != nil {
		hello.Features = wire.FeatureAccess
		t := access.NewTranscript(a.Hello, a.Nonce)
		answer = hello.AppendSealed(nil, func(covered []byte) wire.Proof { return c.who.ServerProof(t, covered) })
	}
	s.User = c
	c.account = e.pool.Open(c)
	c.at = len(e.open)
	e.open = append(e.open, c)
	e.total.Opened++
	e.watch()
	return answer, slots, nil
}

// check decides about a client's hello.
func (e *endpoint) check(c *serverConn, h *wire.ClientHello, a *datagram.Admission) (wire.Code, error) {
	if err := h.Decode(a.Hello); err != nil {
		return wire.RefusedGarbage, err
	}
	guarded := e.o.Access != nil
	if guarded && h.Requests(wire.FeatureAccess) && len(a.Proof) == wire.ProofBytes {
		c.who = e.o.Access.CheckProof(h.Name, access.NewTranscript(a.Hello, a.Nonce), wire.Proof(a.Proof))
	}
	switch {
	case e.closing:
		return wire.RefusedClosing, transport.ErrClosed
	case h.Version != wire.Version:
		return wire.RefusedVersion, fmt.Errorf("the client speaks version %d, the server %d", h.Version, wire.Version)
	case h.Required&^wire.FeatureAccess != 0:
		return wire.RefusedFeature, fmt.Errorf("the client requires features %#x", h.Required)
	case h.Required != 0 && !guarded:
		return wire.RefusedFeature, errors.New("the client has a secret, and this server has none (serve --auth-file)")
	case guarded && !h.Requests(wire.FeatureAccess):
		return wire.RefusedAccess, errors.New("this server requires a name and a secret (--auth-file)")
	case guarded && c.who == nil:
		return wire.RefusedAccess, errors.New("unknown name, or wrong secret")
	case int(h.Loop) != wire.AnyLoop && int(h.Loop) >= len(e.ports):
		return wire.RefusedLoop, fmt.Errorf("loop %d of %d", h.Loop, len(e.ports))
	case len(e.open) >= e.o.MaxConns:
		return wire.RefusedBusy, fmt.Errorf("%d connections are open", len(e.open))
	}
	return wire.Granted, nil
}

// logRefused counts and logs a connection that is refused, or ended with a code.
func (e *endpoint) logRefused(name string, code wire.Code, why error) {
	switch code {
	case wire.RefusedClosing:
	case wire.RefusedAccess:
		e.total.Refused++
		e.count.Denied++
		e.o.Log.Warn("connection denied", "peer", name, "reason", why)
	default:
		e.total.Refused++
		e.o.Log.Warn("connection refused", "peer", name, "code", code.String(), "reason", why)
	}
}

// allocate allocates the connection's own memory; false: there is none.
func (c *serverConn) allocate(slots int) bool {
	if c.mem = c.e.conns.Alloc(slots * slotBytes); c.mem == nil {
		return false
	}
	c.slots = make([]slot, slots)
	for i := range c.slots {
		s := &c.slots[i]
		s.Index, s.small = i, c.mem[i*slotBytes:(i+1)*slotBytes:(i+1)*slotBytes]
		s.req.Owner, s.req.Slot = c, uint64(i)
	}
	return true
}

// Begin implements datagram.ServerHost.
func (e *endpoint) Begin(s *datagram.ServerSession, i, bytes int) bool {
	c := s.User.(*serverConn)
	k := &c.slots[i]
	if e.closing {
		return false
	}
	if bytes <= requestBytes {
		k.block = k.small[:bytes]
		return true
	}
	if !c.account.Paused() {
		k.block = c.account.Message(bytes)
	}
	if k.block == nil {
		return false
	}
	k.block = k.block[:bytes]
	return true
}

// retry asks the client for another request for which there was no memory: there may be some now. If there is not, the account waits for it.
func (c *serverConn) retry() {
	if !c.account.Paused() {
		c.s.Retry()
	}
}

// Part implements datagram.ServerHost.
func (e *endpoint) Part(s *datagram.ServerSession, i, at int, b []byte) {
	copy(s.User.(*serverConn).slots[i].block[at:], b)
	e.l.Stats.Copied += uint64(len(b))
}

// Request implements datagram.ServerHost. A request is one frame.
func (e *endpoint) Request(s *datagram.ServerSession, i int) {
	c := s.User.(*serverConn)
	k := &c.slots[i]
	var hd wire.Header
	err := wire.ErrFormat
	if len(k.block) >= wire.HeaderBytes {
		if err = hd.Decode(k.block); err == nil {
			err = hd.CheckRequest(e.o.Limits)
		}
		if err == nil && len(k.block) != wire.HeaderBytes+hd.PayloadBytes() {
			err = wire.ErrFormat
		}
	}
	if err != nil {
		code := wire.RefusedGarbage
		if errors.Is(err, wire.ErrLimit) {
			code = wire.RefusedTooLarge
		}
		c.violation, c.violated = err, code // the session may not end within this call
		e.violators = append(e.violators, c)
		return
	}
	k.id, k.room = hd.ID, int(hd.ValueBytes)
	payload := k.block[wire.HeaderBytes:]
	r := &k.req
	r.Op, r.Status, r.Limit, r.Need, r.More, r.Stages = hd.Op, 0, hd.Arg, 0, false, nil
	r.Key = payload[:hd.KeyBytes]
	if hd.Flags&wire.FlagTimes != 0 {
		r.Stages = &k.stages
		k.arrived = loop.Nanos()
		k.stages.Start(k.arrived)
		k.stages.Mark(kv.StageNotifyServer, k.arrived)
	}
	k.answer = k.small[answerAt:slotBytes:slotBytes]
	c.busy++
	e.total.Requests++
	c.since = e.l.AwakeNow()
	c.submit(k, payload)
	c.retry()
}

// submit passes a request to the handler, with room for an answer of a guessed length.
func (c *serverConn) submit(k *slot, payload []byte) {
	r := &k.req
	if r.Op == kv.OpStats { // Redis has more kinds of counters than the frame can request
		if r.Status = c.e.o.Limits.Check(r); r.Status != kv.StatusOK {
			c.e.l.Finish(r)
			return
		}
	}
	if c.who != nil && c.who.ReadOnly && r.Op.Changes() {
		r.Status = kv.StatusReadOnly
		c.e.l.Finish(r)
		return
	}
	want := 0
	switch r.Op {
	case kv.OpPut:
		r.Value = payload[len(r.Key):]
		c.e.handler.Submit(r)
		return
	case kv.OpGet:
		if want = min(c.hint, c.answerMax(k)); !c.account.MayBegin(&k.Claim, want) { // a get does not wait for the peer because of a guess
			want = 0
		}
	case kv.OpScan, kv.OpStats:
		want = c.answerMax(k)
	}
	r.Need = uint32(want)
	if want > smallBytes && !c.AllocAnswer(&k.Claim) {
		c.account.Wait(&k.Claim)
		return
	}
	c.ContinueRequest(&k.Claim)
}

// answerMax returns the most bytes that the answer may have.
func (c *serverConn) answerMax(k *slot) int {
	l := c.e.o.Limits
	if k.req.Op == kv.OpScan {
		return min(k.room, l.ScanRoom())
	}
	return min(k.room, l.MaxValueBytes)
}

// Unsent implements memory.Owner.
func (c *serverConn) Unsent() bool { return c.unsent > 0 }

// AllocAnswer implements memory.Owner.
func (c *serverConn) AllocAnswer(cl *memory.Claim) bool {
	k := &c.slots[cl.Index]
	b := c.account.Answer(cl, int(k.req.Need))
	if b == nil {
		return false
	}
	k.answer = b[:cap(b)]
	return true
}

// ContinueRequest implements memory.Owner.
func (c *serverConn) ContinueRequest(cl *memory.Claim) {
	k := &c.slots[cl.Index]
	room := min(len(k.answer), k.room)
	k.req.Value = k.answer[:0:room]
	k.req.Status, k.req.Need = 0, 0
	c.e.handler.Submit(&k.req)
}

// ContinueReading implements memory.Owner. The client sends a request again for which there was no memory.
func (c *serverConn) ContinueReading() { c.retry() }

// Complete implements kv.Completer.
func (c *serverConn) Complete(r *kv.Request) {
	k := &c.slots[r.Slot]
	if !c.ended && r.Status == kv.StatusTooSmall && int(r.Need) <= c.answerMax(k) {
		c.freeAnswer(k)
		if !c.AllocAnswer(&k.Claim) {
			c.account.Wait(&k.Claim)
			return
		}
		c.ContinueRequest(&k.Claim)
		return
	}
	c.busy--
	c.freeBlock(k)
	if c.ended {
		c.freeAnswer(k)
		c.removeIfDone()
		return
	}
	hd := wire.Header{Op: r.Op, Flags: wire.FlagReply, Status: r.Status, ID: k.id, Arg: wire.ArgOf(r)}
	var answer []byte
	if hd.Answers() {
		answer = r.Value
		hd.ValueBytes = uint32(len(answer))
		if r.Op == kv.OpGet {
			c.hint = len(answer)
		}
	}
	switch {
	case !c.holdsAnswer(k):
	case len(answer) <= smallBytes: // the client acknowledges no reply so small, so its block would be held until the slot's next request
		n := copy(k.small[answerAt:], answer)
		c.e.l.Stats.Copied += uint64(n)
		c.freeAnswer(k)
		answer = k.small[answerAt : answerAt+n]
	default:
		c.unsent++
	}
	n := wire.HeaderBytes
	if r.Stages != nil {
		hd.Flags |= wire.FlagTimes
		k.writeTimes()
		n = headBytes
	}
	hd.Encode(k.small[headAt:])
	c.since = c.e.l.AwakeNow()
	k.kept = true
	c.s.Reply(k.Index, k.small[headAt:headAt+n], answer)
	c.retry()
}

// writeTimes writes a request's server-side durations into its reply.
func (k *slot) writeTimes() {
	k.stages.Mark(kv.StageServerSubmit, loop.Nanos())
	d := &k.stages.Ns
	t := wire.Times{Notify: uint64(d[kv.StageNotifyServer]), Queue: uint64(d[kv.StageServerQueue]), Store: uint64(d[kv.StageStore]),
		Disk: uint64(d[kv.StageDisk]), Submit: uint64(d[kv.StageServerSubmit]), Arrived: loop.Monotonic(k.arrived), Host: wire.Host()}
	t.Encode(k.small[headAt+wire.HeaderBytes:])
}

func (c *serverConn) freeBlock(k *slot) {
	if len(k.block) > requestBytes {
		c.account.Free(k.block[:cap(k.block)])
	}
	k.block = nil
}

// holdsAnswer reports whether a slot's answer has a block of the pool.
func (c *serverConn) holdsAnswer(k *slot) bool {
	return k.answer != nil && &k.answer[:1][0] != &k.small[answerAt]
}

func (c *serverConn) freeAnswer(k *slot) {
	if c.holdsAnswer(k) {
		c.account.Free(k.answer)
	}
	k.answer = nil
	c.account.RemoveUnsent(&k.Claim)
}

// Free implements datagram.ServerHost.
func (e *endpoint) Free(s *datagram.ServerSession, i int) {
	c := s.User.(*serverConn)
	c.freeReply(&c.slots[i])
	c.account.AnswersSent()
}

func (c *serverConn) freeReply(k *slot) {
	k.kept = false
	if c.holdsAnswer(k) {
		c.unsent--
	}
	c.freeAnswer(k)
}

// Ended implements datagram.ServerHost. The connection's memory lives until the handler has returned its requests.
func (e *endpoint) Ended(s *datagram.ServerSession, err error) {
	c := s.User.(*serverConn)
	e.drop()
	c.ended = true
	if errors.Is(err, transport.ErrCut) || errors.Is(err, transport.ErrStalled) {
		e.total.Unanswered += uint64(c.busy)
	}
	if !errors.Is(err, datagram.ErrLeft) && !errors.Is(err, transport.ErrClosed) {
		e.o.Log.Warn("connection closed", "peer", c.name, "reason", err)
	}
	c.account.Close(func(cl *memory.Claim) {
		c.busy--
		k := &c.slots[cl.Index]
		c.freeBlock(k)
		c.freeAnswer(k)
	})
	for i := range c.slots {
		k := &c.slots[i]
		switch {
		case k.kept:
			c.freeReply(k)
		case k.block != nil && s.Receiving(i):
			c.freeBlock(k)
		}
	}
	c.removeIfDone()
}

// removeIfDone frees an ended connection when the handler has returned its last request.
func (c *serverConn) removeIfDone() {
	if c.busy > 0 {
		return
	}
	e := c.e
	last := len(e.open) - 1
	e.open[c.at] = e.open[last]
	e.open[c.at].at = c.at
	e.open[last] = nil
	e.open = e.open[:last]
	e.conns.Free(c.mem)
	c.mem, c.slots = nil, nil
}

// end ends a connection with a code, which the client gets.
func (c *serverConn) end(err error, code wire.Code) {
	hello := wire.ServerHello{Version: wire.Version, Code: code, Reason: err.Error()}
	c.s.End(err, hello.Append(nil))
}

// OnEvent implements loop.Member.
func (e *endpoint) OnEvent(tag uint64, res int32, flags uint32) { e.event(tag, res, flags) }

// Poll implements loop.Member.
func (e *endpoint) Poll() int {
	e.handler.Begin()
	n := e.poll(e.l.AwakeNow())
	e.handler.End()
	return n
}

// Stage implements loop.Member.
func (e *endpoint) Stage() error {
	for i, c := range e.violators {
		e.violators[i] = nil
		if !c.ended {
			e.logRefused(c.name, c.violated, c.violation)
			c.end(c.violation, c.violated)
		}
	}
	e.violators = e.violators[:0]
	e.pool.Resume()
	e.checkDeadlines()
	e.tick(e.l.AwakeNow())
	return nil
}

// checkEvery is the time between two checks of the deadlines while a connection has one: a fraction of the shortest.
func (e *endpoint) checkEvery() int64 {
	return int64(min(e.o.HelloMax, e.o.StallMax, cmp.Or(e.o.IdleMax, e.o.StallMax))) / 8
}

// watch makes sure that a check of the deadlines is planned.
func (e *endpoint) watch() {
	if e.checkAt == 0 && (e.o.IdleMax > 0 || e.pool.Waiting() > 0) {
		e.checkAt = e.l.AwakeNow() + e.checkEvery()
	}
}

// checkDeadlines ends connections that are idle for too long, or hold memory for which others wait. Silent ones end by the protocol.
func (e *endpoint) checkDeadlines() {
	now := e.l.AwakeNow()
	if e.checkAt == 0 {
		return
	}
	if now >= e.checkAt {
		e.checkAt = 0
		e.pool.Unblock()
		for i := len(e.open) - 1; i >= 0; i-- { // backwards: a connection that ends is removed
			c := e.open[i]
			_, unsent := c.s.Unsent()
			switch {
			case c.ended:
			case e.o.IdleMax > 0 && !unsent && now >= c.since+int64(e.o.IdleMax):
				err := fmt.Errorf("no request in %v", e.o.IdleMax)
				e.logRefused(c.name, wire.RefusedDeadline, err)
				c.end(err, wire.RefusedDeadline)
			case c.account.OthersWait() && c.account.Held() > 0 && c.busy == 0 && now >= c.account.HeldSince+2*int64(e.o.StallMax):
				c.s.End(fmt.Errorf("%w for %v, while others wait for its %d KiB of memory", transport.ErrStalled, 2*e.o.StallMax, c.account.Held()>>10), nil)
			}
		}
		if len(e.open) > 0 {
			e.watch()
		}
	}
	if e.checkAt != 0 {
		e.l.WakeAtAwake(e.checkAt)
	}
}

// cut ends all connections in this turn.
func (e *endpoint) cut() {
	e.closing = true
	for i := len(e.open) - 1; i >= 0; i-- {
		if c := e.open[i]; !c.ended {
			c.s.End(transport.ErrCut, nil)
		}
	}
}

// Busy implements loop.Busier.
func (e *endpoint) Busy() string {
	if s := e.busy(); s != "" {
		return s
	}
	for _, c := range e.open {
		if _, unsent := c.s.Unsent(); unsent || c.busy > 0 {
			return "requests of " + c.name + " are under way"
		}
	}
	return ""
}

// Close implements loop.Member: it ends the connections in order.
func (e *endpoint) Close() bool {
	if e.closed = e.closed || e.carrier == nil; e.closed {
		return true
	}
	e.closing = true
	for i := len(e.open) - 1; i >= 0; i-- {
		c := e.open[i]
		if _, unsent := c.s.Unsent(); !c.ended && !unsent && c.busy == 0 {
			c.end(transport.ErrClosed, wire.RefusedClosing)
		}
	}
	e.flush(e.l.AwakeNow())
	if len(e.open) > 0 || e.packet < e.packets {
		return false
	}
	if e.closed = e.close(); !e.closed {
		return false
	}
	_ = e.pool.Close()
	_ = e.conns.Close()
	return true
}

// stats returns the counters.
func (e *endpoint) stats() transport.Stats {
	s := e.total
	s.Conns, s.BytesIn, s.BytesOut = len(e.open), e.received, e.sent
	if e.closed {
		return s
	}
	for _, c := range e.open {
		if c.account.Paused() {
			s.Paused++
		}
	}
	s.ConnBytes, s.ConnBytesMax, s.PoolBytes, s.PoolBytesMax = e.conns.InUse(), e.conns.Largest(), e.pool.InUse(), e.pool.Largest()
	return s
}
