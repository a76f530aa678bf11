package stream

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/wire"
)

// nativeServer is the native protocol at the server's end: the hello, requests in frames (package wire), and answers in the order in which they complete.
type nativeServer struct {
	c        *Server
	unhanded int  // requests whose answer was not given to the driver yet: at most the granted depth
	hint     int  // bytes of the last value read: the guess for the next answer
	stamped  bool // Driver.Stamp was called
	bare     bool // headers have no checksum

	transcript access.Transcript        // the client's hello and our challenge
	helloBuf   [wire.MaxHelloBytes]byte // the server's hello, while it is sent
	refusalBuf [256]byte                // the refusal, while it is sent
}

// handshake handles the received bytes of the hello.
func (p *nativeServer) handshake(bool) error {
	c := p.c
	switch {
	case c.state == stateProving:
		p.receiveProof()
	case c.in.unread()[0] == socket.BeginsTLS && c.h.Sockets.TLS == nil:
		p.refuse(wire.RefusedFeature, errors.New("the client speaks TLS, and this server has no certificate (serve --tls-cert)"))
	default:
		return p.receiveHello()
	}
	return nil
}

// helloMessage returns a received message of the hello; nil: it is incomplete, or was refused.
func (p *nativeServer) helloMessage() []byte {
	b := p.c.in.unread()
	n, err := wire.HelloBytes(b)
	switch {
	case err != nil:
		p.refuse(wire.RefusedGarbage, err)
	case n == 0 || len(b) < n:
	case len(b) > n:
		p.refuse(wire.RefusedGarbage, fmt.Errorf("%w: %d bytes after the hello", transport.ErrProtocol, len(b)-n))
	default:
		return b
	}
	return nil
}

func (p *nativeServer) receiveHello() error {
	c := p.c
	b := p.helloMessage()
	if b == nil {
		return nil
	}
	if err := c.hello.Decode(b); err != nil {
		p.refuse(wire.RefusedGarbage, err)
		return nil
	}
	proves, guarded := c.hello.Requests(wire.FeatureAccess), c.h.O.Access != nil
	switch want := int(c.hello.Loop); {
	case c.hello.Version != wire.Version:
		p.refuse(wire.RefusedVersion, fmt.Errorf("the client has version %d of the protocol, the server %d", c.hello.Version, wire.Version))
	case c.hello.Required&^wire.FeatureAccess != 0:
		p.refuse(wire.RefusedFeature, fmt.Errorf("the client requires features %#x", c.hello.Required))
	case c.hello.Required != 0 && !guarded:
		p.refuse(wire.RefusedFeature, errors.New("the client has a secret, and this server has none (serve --auth-file)"))
	case guarded && !proves:
		p.refuse(wire.RefusedAccess, errors.New("this server requires a name and a secret (--auth-file)"))
	case want < c.h.Loops && want != c.h.Index: // nothing was sent yet, so no transfer is under way
		c.MoveTo, c.state = want, stateMoving
		return ErrMove
	case guarded:
		p.challenge(b)
	default:
		p.grant()
	}
	return nil
}

// challenge answers a hello with a nonce. The answer contains no data of the server's hello yet.
func (p *nativeServer) challenge(hello []byte) {
	c := p.c
	var nonce [wire.NonceBytes]byte
	_, _ = rand.Read(nonce[:])
	answer := wire.ServerHello{Version: wire.Version, Code: wire.Challenged, Params: nonce[:]}
	b := answer.Append(p.helloBuf[:0])
	p.transcript = access.NewTranscript(hello, b)
	c.hello.Params = bytes.Clone(c.hello.Params) // the proof will overwrite the buffer that they are in
	c.in.consume(len(hello))
	c.state = stateProving
	c.send(message{piece: [3][]byte{b}, slot: -1})
}

// receiveProof checks the client's answer to the challenge, and grants the connection.
func (p *nativeServer) receiveProof() {
	c := p.c
	b := p.helloMessage()
	if b == nil {
		return
	}
	var proof wire.Proof
	if err := proof.Decode(b); err != nil {
		p.refuse(wire.RefusedGarbage, err)
		return
	}
	if c.who = c.h.O.Access.CheckProof(c.hello.Name, p.transcript, proof); c.who == nil {
		p.refuse(wire.RefusedAccess, errors.New("unknown name, or wrong secret"))
		return
	}
	p.grant()
}

// grant allocates the connection's memory and answers the hello. There are two slots for each request that the
// client may have in flight: the next request can arrive before the driver reports that the last answer was sent.
func (p *nativeServer) grant() {
	c := p.c
	h := c.h
	if want := int(c.hello.Loop); want != wire.AnyLoop && want >= h.Loops {
		p.refuse(wire.RefusedLoop, fmt.Errorf("the hello names loop %d, and the server has %d", want, h.Loops))
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
				err = errors.New(r.Reason) // the client's error text adds the code
			}
			p.refuse(code, err)
			return
		}
	}
	if err := c.allocSlots(nil); err != nil {
		p.refuse(wire.RefusedBusy, err)
		return
	}
	c.state = stateOpen
	h.count.Opened++
	features := h.Features & c.hello.Optional
	p.bare = features&wire.FeatureNoChecksum != 0
	hello := wire.ServerHello{Version: wire.Version, Features: features, Depth: uint16(c.depth),
		MaxKeyBytes: uint16(h.O.Limits.MaxKeyBytes), MaxValueBytes: uint32(h.O.Limits.MaxValueBytes),
		StallMillis: uint32(h.O.StallMax.Milliseconds()),
		Loop:        uint16(h.Index), Loops: uint16(h.Loops), Shards: h.Shards, Params: params}
	c.send(message{piece: [3][]byte{p.seal(&hello)}, slot: -1})
}

// seal encodes a grant, with our own proof for a client that has proved itself. It reuses the challenge's buffer: the challenge has arrived.
func (p *nativeServer) seal(hello *wire.ServerHello) []byte {
	if p.c.who == nil {
		return hello.Append(p.helloBuf[:0])
	}
	hello.Features |= wire.FeatureAccess
	return hello.AppendSealed(p.helloBuf[:0], func(covered []byte) wire.Proof { return p.c.who.ServerProof(p.transcript, covered) })
}

// parse begins the request whose payload is complete now, and then the requests of all complete headers.
func (p *nativeServer) parse(whole bool) {
	c := p.c
	if whole {
		p.submit(c.cur)
		c.cur = nil
	}
	for len(c.in.rest) == 0 {
		b := c.in.unread()
		if len(b) < wire.HeaderBytes {
			break
		}
		var hd wire.Header
		if err := hd.DecodeAs(b, p.bare); err != nil {
			p.refuse(wire.RefusedGarbage, err)
			return
		}
		if err := hd.CheckRequest(c.h.O.Limits); err != nil {
			code := wire.RefusedGarbage
			if errors.Is(err, wire.ErrLimit) {
				code = wire.RefusedTooLarge
			}
			p.refuse(code, err)
			return
		}
		if p.unhanded == c.depth || len(c.free) == 0 { // the client has more requests in flight than it was granted
			p.refuse(wire.RefusedDepth, fmt.Errorf("%w: more than %d requests in flight", transport.ErrProtocol, c.depth))
			return
		}
		s := &c.slots[c.free[len(c.free)-1]]
		payload := hd.PayloadBytes()
		if payload <= smallBytes {
			s.block = s.small[:payload]
		} else if s.block = c.account.Message(payload); s.block == nil {
			return // reading continues when memory is free
		}
		c.free = c.free[:len(c.free)-1]
		p.unhanded++
		s.begin(&hd)
		c.in.rd += wire.HeaderBytes
		copied, whole := c.in.receiveInto(s.block)
		c.h.L.Stats.Copied += uint64(copied)
		if !whole {
			c.cur = s
			c.h.watch()
			return
		}
		p.submit(s)
	}
	if c.h.Grant != nil && len(c.in.unread()) > 0 {
		p.refuse(wire.RefusedGarbage, fmt.Errorf("%w: a message ends within a header", transport.ErrProtocol))
		return
	}
	c.in.compact()
	if c.in.partial() {
		c.h.watch()
	}
}

// begin fills the request from its header; the payload may not have arrived yet.
func (s *slot) begin(hd *wire.Header) {
	s.id, s.room, s.key = hd.ID, int(hd.ValueBytes), int(hd.KeyBytes)
	r := &s.req
	r.Op, r.Status, r.Limit, r.Need, r.More = hd.Op, 0, hd.Arg, 0, false
	r.Stages = nil
	if hd.Flags&wire.FlagTimes != 0 {
		r.Stages = &s.stages
	}
}

// submit passes a complete request to the handler, with room for an answer of a guessed length.
func (p *nativeServer) submit(s *slot) {
	c := p.c
	r := &s.req
	r.Key = s.block[:s.key]
	s.reply = s.small[replyAt:timesAt:timesAt]
	c.countRequest()
	c.h.commands++
	if r.Stages != nil {
		p.startTimes(s)
	}
	if r.Op == kv.OpStats { // Redis has more kinds of counters than the frame can request
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
		if want = min(p.hint, c.answerMax(s)); !c.account.MayBegin(&s.Claim, want) { // a get does not wait for the peer because of a guess
			want = 0
		}
	case kv.OpScan, kv.OpStats:
		want = c.answerMax(s)
	}
	c.submitWithRoom(s, want)
}

// receiving reports whether a request with an incomplete payload has a slot.
func (p *nativeServer) receiving() bool { return p.c.cur != nil }

// allocAnswer allocates the memory for an answer of r.Need bytes.
func (p *nativeServer) allocAnswer(s *slot) bool {
	b := p.c.account.Answer(&s.Claim, wire.HeaderBytes+int(s.req.Need))
	if b == nil {
		return false
	}
	s.reply = b[:cap(b)]
	return true
}

// retries reports whether the client has room for the answer: then the request is submitted again.
func (p *nativeServer) retries(s *slot) bool { return int(s.req.Need) <= p.c.answerMax(s) }

// complete sends the answer to a request.
func (p *nativeServer) complete(s *slot) {
	c, r := p.c, &s.req
	c.busy--
	c.releaseBlock(s)
	hd := wire.Header{Op: r.Op, Flags: wire.FlagReply, Status: r.Status, ID: s.id, Arg: wire.ArgOf(r)}
	answer := 0
	if hd.Answers() {
		answer = len(r.Value)
		hd.ValueBytes = uint32(answer)
		if r.Op == kv.OpGet {
			p.hint = answer
		}
	}
	m := message{piece: [3][]byte{s.reply[:wire.HeaderBytes+answer]}, slot: s.Index}
	if r.Stages != nil {
		hd.Flags |= wire.FlagTimes
		m.piece = [3][]byte{s.reply[:wire.HeaderBytes], s.small[timesAt:ownBytes], s.reply[wire.HeaderBytes : wire.HeaderBytes+answer]}
	}
	hd.EncodeAs(s.reply, p.bare)
	c.send(m)
}

// handed counts an answer whose first bytes are given to the driver.
func (p *nativeServer) handed(s *slot) {
	p.unhanded--
	if s.req.Stages != nil {
		s.writeTimes()
	}
}

// startTimes begins a request's server-side durations: its last bytes were received.
func (p *nativeServer) startTimes(s *slot) {
	c := p.c
	now := loop.Nanos()
	if s.arrived = now; c.stamp != 0 {
		s.arrived = min(c.stamp, now)
	}
	s.stages.Start(s.arrived)
	s.stages.Mark(kv.StageNotifyServer, now)
	if !p.stamped { // valid for bytes received from now on
		p.stamped = true
		c.driver.Stamp()
	}
}

// writeTimes writes a request's server-side durations into its answer, when its first bytes are given to the driver.
func (s *slot) writeTimes() {
	s.stages.Mark(kv.StageServerSubmit, loop.Nanos())
	d := &s.stages.Ns
	t := wire.Times{Notify: uint64(d[kv.StageNotifyServer]), Queue: uint64(d[kv.StageServerQueue]), Store: uint64(d[kv.StageStore]),
		Disk: uint64(d[kv.StageDisk]), Submit: uint64(d[kv.StageServerSubmit]), Arrived: loop.Monotonic(s.arrived), Host: wire.Host()}
	t.Encode(s.small[timesAt:])
}

// refuse queues a refusal, the connection's last message, and logs the reason.
func (p *nativeServer) refuse(code wire.Code, why error) {
	c := p.c
	switch code {
	case wire.RefusedClosing:
	case wire.RefusedAccess:
		c.h.count.Refused++
		c.h.logDenied(c.name, why)
	default:
		c.h.logRefused(c.name, code, why)
	}
	b := p.refusalBuf[:wire.HeaderBytes]
	if c.slots == nil {
		hello := wire.ServerHello{Version: wire.Version, Code: code, Reason: why.Error()}
		b = hello.Append(p.refusalBuf[:0])
	} else {
		hd := wire.Header{Flags: wire.FlagReply | wire.FlagRefuse, Arg: uint32(code)}
		hd.EncodeAs(b, p.bare)
	}
	c.state = stateRefusing
	c.inSince = c.h.L.AwakeNow()
	c.send(message{piece: [3][]byte{b}, slot: -1})
	c.h.watch()
}

// shutdown queues a refusal: at once if there are no requests, else after the last answer.
func (p *nativeServer) shutdown() {
	c := p.c
	switch {
	case c.state == stateHello, c.state == stateProving:
		p.refuse(wire.RefusedClosing, transport.ErrClosed)
	case c.state == stateOpen && !c.account.Paused(): // if it is paused, complete requests still wait for memory
		c.state = stateShuttingDown
	}
	if c.state == stateShuttingDown && c.busy == 0 {
		p.refuse(wire.RefusedClosing, transport.ErrClosed)
	}
}

// drop has nothing to free.
func (p *nativeServer) drop() {}

// client implements protocol.
func (p *nativeServer) client() clientInfo {
	l := clientInfo{command: "NULL"}
	if who := p.c.who; who != nil {
		l.user = who.Name
	}
	return l
}
