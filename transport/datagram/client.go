package datagram

import (
	"errors"
	"fmt"
)

// ClientHost is the application at the client. Its methods are called from within the Client's, and must not call them, except Session.Next and Call.
type ClientHost interface {
	// Prove returns the proof for a challenge, at most MaxProofBytes; nil where none is asked for. The Client copies it.
	Prove(s *Session, nonce []byte) []byte

	// Elsewhere returns the address that the server has named, at which the session says hello next; false: it is none. The name
	// may be any bytes.
	Elsewhere(s *Session, name []byte) (Address, bool)

	// Opened is called when the session is granted, with the application's answer, which is valid during the call. An error ends the session.
	Opened(s *Session, answer []byte) error

	// Part passes the bytes of a reply from byte at on, in order and without gaps. The reply has so many bytes in all. b is valid during the call. An
	// error ends the session.
	Part(s *Session, slot, bytes, at int, b []byte) error

	// Sent is called when the first packet of a request is given to the carrier, from within Client.Transmit.
	Sent(s *Session, slot int)

	// Done is called when a reply is complete, and the carrier has returned all packets of its request. The slot is free.
	Done(s *Session, slot int)

	// Ended is called when the session has ended. Its requests in flight are Session.Each's, for the last time. The bytes of requests are not used any more,
	// unless the carrier has packets with them.
	Ended(s *Session, err error)
}

// Client is the client's end of any number of sessions.
type Client struct {
	Count Counters

	o        Options
	host     ClientHost
	sessions table[Session]
	peers    map[uint64]*Session // open sessions by the token of the server's identifier: KindUnknown repeats it
	timers   timers[*Session]
	control  control
	ready    struct{ first, last *Session } // sessions with something to send, linked by Session.next
}

// sessionState is the state of a session.
type sessionState uint8

const (
	helloSent   sessionState = iota // client: the first hello was sent
	provingSent                     // client: the hello with nonce and proof was sent
	sessionNew                      // server: granted; nothing but hellos was received from it
	sessionOpen                     // requests and replies
	sessionEnded
)

// Session is the client's end of a session.
type Session struct {
	User any // the host's

	c        *Client
	id, peer ID // ours, and the server's
	to       Address
	state    sessionState
	timer    timer

	hello   []byte // the body of the hello, while it may be sent again
	helloAt int64  // when it was sent first
	askAt   int64  // when it was sent last
	tries   int

	payload    int // bytes of a message in a packet
	credits    int
	creditsMax int
	path       estimator // round trips without the server's time
	service    estimator // from a request's last packet to the first of its reply: a round trip, and the time that the server states
	rate       timely
	pace       pacer

	lastIn    int64 // when the last packet of the server was received
	asked     int64 // when a question was sent last
	keepMax   int64 // at most so long without packets before a question; 0: Options.Keep
	refusals  int   // since the last packet of the server was received; see Client.Refused
	refusedAt int64 // when the last of them was counted

	calls  []call
	free   []uint16                    // slots not in use, a stack: the next request takes the slot whose reply came last, which frees that at the server
	queue  struct{ first, last *call } // requests with packets to send, linked by call.next
	next   *Session                    // in Client.ready
	queued bool                        // likewise
	dones  []uint16                    // slots whose reply's memory the server can free; see call.listed
}

func (s *Session) due() *timer { return &s.timer }

// callState is the state of a call.
type callState uint8

const (
	callFree     callState = iota
	callActive             // its request or its reply is under way
	callAnswered           // the reply is complete; the carrier still has packets of the request
)

// call is one request in flight. Its packets to the server are numbered from 0 to parts-1, the request's, and on from there, one number for each part of the
// reply after the first, which a fetch asks for. Each number has an answer: parts of the request are acknowledged, and the last one's answer is part 0 of the reply.
// A number that is sent and not answered holds one credit. Recovery sets sent back to answered (go-back-N).
type call struct {
	state      callState
	queued     bool // in Session.queue
	owed       bool // the server holds a reply of more than doneFrom bytes
	listed     bool // in Session.dones
	waits      bool // the server has no memory for the request: it is sent again when the server asks for it, or at the time-out
	round      uint8
	backoff    uint8
	slot       uint16
	number     uint32
	parts      int32 // of the request
	replyParts int32 // 0: not known yet
	replyBytes int32
	sent       int32 // the next number to send
	sentMost   int32 // the next number that was never sent
	answered   int32 // the first number without an answer
	probe      int32 // the round trip of this number is being measured; -1: none is
	pins       int32
	probeAt    int64
	timeout    int64 // deadline of the first number without an answer; 0: nothing is in flight
	head, body []byte
	next       *call
}

const (
	controlRoom  = 1024
	burst        = 16  // packets of one request or reply before another's turn
	doneFrom     = 256 // bytes: the client acknowledges larger replies when they are complete, so the server can free them before the slot's next request
	timeoutShift = 10  // most doublings of a time-out
	firstTimeout = int64(100e6)
)

// NewClient makes a client without sessions.
func NewClient(o Options, host ClientHost) (*Client, error) {
	o, err := o.defaults()
	if err != nil {
		return nil, err
	}
	return &Client{o: o, host: host, sessions: table[Session]{most: o.Sessions}, peers: map[uint64]*Session{}, control: newControl(controlRoom)}, nil
}

// Sessions returns the number of sessions.
func (c *Client) Sessions() int { return c.sessions.len() }

// Each calls f for each session, which may end it.
func (c *Client) Each(f func(*Session)) {
	for _, s := range c.sessions.rows {
		if s != nil {
			f(s)
		}
	}
}

// Open begins a session with the server at to, for slots requests in flight. hello is the application's part of the hello, at most MaxHelloBytes.
// ClientHost.Opened or Ended follows.
func (c *Client) Open(now int64, to Address, slots int, hello []byte, user any) (*Session, error) {
	if slots < 1 || slots > MaxSlots || len(hello) > MaxHelloBytes {
		return nil, fmt.Errorf("datagram: %d slots and a hello of %d B: at most %d and %d", slots, len(hello), MaxSlots, MaxHelloBytes)
	}
	s := &Session{User: user, c: c, to: to, lastIn: now, asked: now}
	index, ok := c.sessions.put(s)
	if !ok {
		return nil, fmt.Errorf("datagram: %d sessions are open", c.Sessions())
	}
	s.id = ID{index, c.o.Random()}
	s.writeHello(slots, nil, nil, hello)
	s.sendHello(now, true)
	return s, nil
}

// writeHello makes the body of the hello.
func (s *Session) writeHello(slots int, nonce, proof, app []byte) {
	h := hello{datagramBytes: s.c.o.DatagramBytes, credits: max(s.c.o.Credits, slots), slots: slots, proof: proof, app: app}
	copy(h.nonce[:], nonce)
	b := h.append(make([]byte, 0, HelloPacketBytes-HeaderBytes))
	s.hello = b[:HelloPacketBytes-HeaderBytes]
}

// sendHello sends the hello, and plans to send it again.
func (s *Session) sendHello(now int64, first bool) {
	c := s.c
	if first {
		s.helloAt, s.tries = now, 0
	} else {
		s.tries++
		c.Count.Retransmits++
	}
	s.askAt = now
	if p := c.control.push(&c.Count); p != nil {
		p.put(&s.to, &Header{Kind: KindHello, ID: s.id})
		p.Body[0] = s.hello
	}
	c.timers.plan(s, s.deadline())
}

// Open reports whether the session is granted and has not ended.
func (s *Session) Open() bool { return s.state == sessionOpen }

// Slots returns the granted number of requests in flight.
func (s *Session) Slots() int { return len(s.calls) }

// Sent reports whether the server may have received something of the request in a slot.
func (s *Session) Sent(slot int) bool { return s.calls[slot].sentMost > 0 }

// Each calls f for each slot whose request is in flight.
func (s *Session) Each(f func(slot int)) {
	for i := range s.calls {
		if s.calls[i].state != callFree {
			f(i)
		}
	}
}

// InFlight returns the number of requests in flight.
func (s *Session) InFlight() int { return len(s.calls) - len(s.free) }

// To returns the server's address.
func (s *Session) To() Address { return s.to }

// Next returns the slot of the next Call; false: none is free.
func (s *Session) Next() (slot int, ok bool) {
	if s.state != sessionOpen || len(s.free) == 0 {
		return 0, false
	}
	return int(s.free[len(s.free)-1]), true
}

// Call begins a request, head and body one after the other, and returns its slot; false: no slot is free, or the session is not open. The bytes must not change until
// ClientHost.Done or Ended. There is at least one byte.
func (s *Session) Call(now int64, head, body []byte) (slot int, ok bool) {
	if slot, ok = s.Next(); !ok {
		return 0, false
	}
	s.free = s.free[:len(s.free)-1]
	k := &s.calls[slot]
	if len(head)+len(body) == 0 || len(head)+len(body) > s.c.o.MessageBytes {
		panic("datagram: a request without bytes, or beyond MessageBytes")
	}
	k.state, k.owed = callActive, false
	k.number++
	k.head, k.body = head, body
	k.parts = int32(packetsOf(len(head)+len(body), s.payload))
	k.replyParts, k.replyBytes = 0, 0
	k.sent, k.sentMost, k.answered = 0, 0, 0
	k.round, k.backoff, k.probe, k.timeout, k.waits = 0, 0, -1, 0, false
	s.enqueue(k)
	return slot, true
}

// enqueue puts a call at the end of the session's queue, and the session at the end of the client's.
func (s *Session) enqueue(k *call) {
	if !k.queued {
		k.queued = true
		if s.queue.last == nil {
			s.queue.first = k
		} else {
			s.queue.last.next = k
		}
		s.queue.last = k
	}
	s.touch()
}

// dequeue removes the first call of the queue.
func (s *Session) dequeue() {
	k := s.queue.first
	if s.queue.first = k.next; s.queue.first == nil {
		s.queue.last = nil
	}
	k.next, k.queued = nil, false
}

// touch makes Transmit look at the session.
func (s *Session) touch() {
	if s.queued || s.state == sessionEnded {
		return
	}
	s.queued = true
	c := s.c
	if c.ready.last == nil {
		c.ready.first = s
	} else {
		c.ready.last.next = s
	}
	c.ready.last = s
}

// Transmit fills out with packets to send, and returns how many. The carrier sends them and passes each to Release. Fewer than len(out): there are no more now.
func (c *Client) Transmit(now int64, out []Packet) (n int) {
	n = c.control.transmit(out)
	for n < len(out) && c.ready.first != nil {
		s := c.ready.first
		k := 0
		if s.state != sessionEnded {
			k = s.transmit(now, out[n:])
		}
		n += k
		if n == len(out) && s.state != sessionEnded {
			break // it may have more
		}
		if c.ready.first = s.next; c.ready.first == nil {
			c.ready.last = nil
		}
		s.next, s.queued = nil, false
	}
	c.Count.Out += uint64(n)
	return n
}

// Release takes packets back from the carrier, which does not use their bytes any more.
func (c *Client) Release(out []Packet) {
	for i := range out {
		k, s := out[i].call, (*Session)(nil)
		if k != nil && k.state == callAnswered && k.pins == 1 {
			s = c.sessions.get(uint32(out[i].session))
		}
		out[i].release()
		if s != nil {
			s.finish(k)
		}
	}
}

// transmit makes packets of the session's requests until it has no more, or no credit, or has reached its rate.
func (s *Session) transmit(now int64, out []Packet) (n int) {
	inRow := 0
	for n < len(out) && s.queue.first != nil {
		k := s.queue.first
		if k.state != callActive {
			s.dequeue()
			continue
		}
		if s.rate.limits() && !s.pace.ready(now) {
			s.c.Count.Paced++
			s.c.timers.plan(s, s.pace.next)
			break
		}
		switch s.send(now, k, &out[n]) {
		case sentPacket:
			n++
			if inRow++; inRow == burst && k.next != nil {
				inRow = 0
				s.dequeue()
				s.enqueue(k)
			}
			continue
		case sentNothing:
			s.dequeue()
			inRow = 0
			continue
		}
		s.c.Count.Stalls++
		break
	}
	for n < len(out) && len(s.dones) > 0 {
		if s.sendDones(&out[n]) {
			n++
		}
	}
	return n
}

type sendResult uint8

const (
	sentPacket  sendResult = iota
	sentNothing            // the request has nothing to send until it gets an answer
	noCredit
)

// ackEvery is the number of packets after which a long request asks for an acknowledgement, and a long reply is fetched further: a quarter of the credits.
func (s *Session) ackEvery() int32 { return int32(max(1, s.creditsMax/4)) }

// send makes the call's next packet.
func (s *Session) send(now int64, k *call, p *Packet) sendResult {
	var h Header // field by field: see Decode
	h.Slot, h.Number, h.Round = k.slot, k.number, k.round
	h.ID.Index, h.ID.Token = s.peer.Index, s.peer.Token
	count := int32(1)
	switch {
	case k.waits:
		return sentNothing
	case k.sent < k.parts:
		if s.credits == 0 {
			return noCredit
		}
		i := int(k.sent)
		last := k.sent == k.parts-1
		h.Kind, h.Bytes, h.Part = KindRequest, uint32(len(k.head)+len(k.body)), uint16(i)
		if !last && (s.credits == 1 || (k.sent+1)%s.ackEvery() == 0) {
			h.Flags = FlagAnswer
		}
		if k.probe < 0 && (last || h.Flags != 0) {
			k.probe, k.probeAt = k.sent, now
		}
		p.put(&s.to, &h)
		at, n := partOf(i, len(k.head)+len(k.body), s.payload)
		p.carry(k.head, k.body, at, n, &k.pins)
		p.call, p.session = k, s.id.Index
		s.charge(now, p.Bytes())
	case k.replyParts > 0 && k.sent < k.parts+k.replyParts-1:
		rest := k.parts + k.replyParts - 1 - k.sent
		count = min(rest, int32(s.credits), s.ackEvery())
		if count < min(rest, s.ackEvery()) && k.sent > k.answered {
			return sentNothing // its parts in flight return credits: one fetch for several parts, instead of one for each
		}
		if count == 0 {
			return noCredit
		}
		h.Kind, h.Part, h.Extra = KindFetch, uint16(k.sent-k.parts+1), uint32(count)
		if k.probe < 0 {
			k.probe, k.probeAt = k.sent, now
		}
		p.put(&s.to, &h)
		first := int(h.Part)
		at, _ := partOf(first, int(k.replyBytes), s.payload)
		s.charge(now, min(int(count)*s.payload, int(k.replyBytes)-at)+int(count)*HeaderBytes)
	default:
		return sentNothing
	}
	if k.sent < k.sentMost {
		s.c.Count.Retransmits++
	}
	if k.sentMost == 0 {
		s.c.host.Sent(s, int(k.slot))
	}
	s.credits -= int(count)
	k.sent += count
	k.sentMost = max(k.sentMost, k.sent)
	if k.timeout == 0 {
		s.startTimeout(now, k)
	}
	return sentPacket
}

// charge delays the next packet by what this one takes at the session's rate.
func (s *Session) charge(now int64, bytes int) {
	if s.rate.limits() {
		s.pace.sent(now, bytes, s.rate.rate)
	}
}

// startTimeout starts the time-out of what the call has in flight.
func (s *Session) startTimeout(now int64, k *call) {
	o := &s.c.o
	d := s.path.timeout(firstTimeout, o.TimeoutMin, o.TimeoutMax)
	if k.replyParts == 0 && k.sent == k.parts { // the next answer takes the server's time, too
		d = max(d, s.service.timeout(0, o.TimeoutMin, o.TimeoutMax))
	}
	k.timeout = now + min(d<<k.backoff, max(d, o.TimeoutMax))
	s.c.timers.plan(s, k.timeout)
}

// sendDones makes a packet of up to donesMax entries of s.dones, and reports whether there was anything to send.
func (s *Session) sendDones(p *Packet) bool {
	p.put(&s.to, &Header{Kind: KindDone, ID: s.peer})
	b := p.Head[:HeaderBytes]
	for len(s.dones) > 0 && len(b) <= HeaderBytes+(donesMax-1)*doneBytes {
		k := &s.calls[s.dones[len(s.dones)-1]]
		s.dones = s.dones[:len(s.dones)-1]
		k.listed = false
		if k.state == callFree && k.owed {
			b = appendDone(b, k.slot, k.number)
		}
	}
	p.HeadBytes = len(b)
	return len(b) > HeaderBytes
}

// Receive handles a packet. b is valid during the call.
func (c *Client) Receive(now int64, from *Address, b []byte) {
	c.Count.In++
	var h Header
	if h.Decode(b) != nil {
		c.Count.Garbage++
		return
	}
	if h.Kind == KindUnknown {
		if s := c.peers[h.ID.Token]; s != nil && s.peer == h.ID && s.to == *from {
			s.end(ErrForgotten)
		} else {
			c.Count.Garbage++
		}
		return
	}
	s := c.sessions.get(h.ID.Index)
	if s == nil || s.id != h.ID || s.to != *from {
		c.Count.Garbage++
		return
	}
	body := b[HeaderBytes:]
	if s.state != sessionOpen {
		s.receiveHello(now, &h, body)
		return
	}
	if !s.receive(now, &h, body) {
		c.Count.Garbage++
		return
	}
	s.lastIn, s.refusals = now, 0
	if s.queue.first != nil && s.credits > 0 {
		s.touch()
	}
}

// receiveHello handles a packet of a session that is not open.
func (s *Session) receiveHello(now int64, h *Header, body []byte) {
	c := s.c
	switch {
	case h.Kind == KindChallenge && s.state == helloSent && len(body) == NonceBytes:
		var old hello
		if !old.decode(s.hello) {
			panic("datagram: our own hello is malformed")
		}
		s.state = provingSent
		s.writeHello(old.slots, body, c.host.Prove(s, body), old.app)
		s.sendHello(now, true)
	case h.Kind == KindElsewhere && s.state == helloSent:
		to, ok := c.host.Elsewhere(s, body)
		if !ok {
			s.end(fmt.Errorf("%w: another address that is none", ErrProtocol))
			return
		}
		s.to = to
		s.sendHello(now, true)
	case h.Kind == KindGrant && s.state == provingSent:
		s.granted(now, body)
	case h.Kind == KindEnd && s.state == provingSent: // before, anybody could have sent it
		s.end(&Refusal{Reason: append([]byte(nil), body...)})
	case h.Kind == KindChallenge || h.Kind == KindElsewhere:
		c.Count.Duplicates++
	default:
		c.Count.Garbage++
	}
}

// granted opens the session.
func (s *Session) granted(now int64, body []byte) {
	c := s.c
	var g grant
	var asked hello
	if !asked.decode(s.hello) {
		panic("datagram: our own hello is malformed")
	}
	if !g.decode(body) || g.datagramBytes > c.o.DatagramBytes || g.credits > asked.credits || g.slots > asked.slots {
		s.end(fmt.Errorf("%w: a grant of more than was asked for", ErrProtocol))
		return
	}
	if c.peers[g.id.Token] != nil {
		s.end(fmt.Errorf("%w: an identifier that another session has", ErrProtocol))
		return
	}
	if s.tries == 0 { // else the round trip is ambiguous
		s.path.add(now - s.helloAt)
	}
	s.state, s.peer, s.hello = sessionOpen, g.id, nil
	s.lastIn, s.asked = now, now
	s.payload = g.datagramBytes - HeaderBytes
	s.credits, s.creditsMax = g.credits, g.credits
	if c.o.Congestion == CongestionTimely {
		s.rate = timely{rate: c.o.RateMax, most: c.o.RateMax, updated: now}
	}
	s.calls = make([]call, g.slots)
	s.free = make([]uint16, 0, g.slots)
	s.dones = make([]uint16, 0, g.slots)
	for i := range s.calls {
		s.calls[i].slot, s.calls[i].probe = uint16(i), -1
		s.free = append(s.free, uint16(g.slots-1-i))
	}
	c.peers[g.id.Token] = s
	c.Count.Opened++
	if err := c.host.Opened(s, g.app); err != nil {
		s.End(err)
		return
	}
	c.timers.plan(s, s.deadline())
}

// receive handles a packet of an open session, and reports whether it fits the session.
func (s *Session) receive(now int64, h *Header, body []byte) bool {
	switch h.Kind {
	case KindEnd:
		if len(body) == 0 {
			s.end(ErrLeft)
		} else {
			s.end(&Refusal{Reason: append([]byte(nil), body...)})
		}
		return true
	case KindHere:
		return true
	case KindGrant: // of a hello that was sent twice
		s.c.Count.Duplicates++
		return true
	case KindAck, KindGap, KindWait, KindReply:
	default:
		return false
	}
	if int(h.Slot) >= len(s.calls) {
		return false
	}
	k := &s.calls[h.Slot]
	if k.state != callActive || k.number != h.Number {
		if int32(k.number-h.Number) < 0 {
			return false
		}
		s.c.Count.Duplicates++
		return true
	}
	if h.Kind == KindReply {
		return s.receiveReply(now, k, h, body)
	}
	got := int32(h.Part)
	if got > min(k.sentMost, k.parts) {
		return false
	}
	if h.Kind == KindWait {
		s.c.Count.Waits++
		s.repeatDones() // the server may lack the memory of replies that the client has
	}
	if got = min(got, k.parts-1); got > k.answered { // the last part's answer is the reply
		s.advance(now, k, got, h, 0)
		s.enqueue(k)
	}
	switch {
	case h.Round != k.round:
	case h.Kind == KindWait && got == 0 && k.sent > k.answered && k.answered < k.parts-1: // the other requests get its credits
		s.recall(k)
		k.waits = true
	case h.Kind == KindGap && (k.sent > k.answered || k.waits):
		s.c.Count.Gaps++
		s.goBack(k)
	}
	return true
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// receiveReply handles a part of a reply.
func (s *Session) receiveReply(now int64, k *call, h *Header, body []byte) bool {
	part, bytes := int32(h.Part), int(h.Bytes)
	switch {
	case k.replyParts == 0 && part > 0: // a fetch follows part 0
		return false
	case k.replyParts == 0 && (k.sentMost < k.parts || bytes > s.c.o.MessageBytes):
		return false
	case k.replyParts > 0 && bytes != int(k.replyBytes):
		return false
	}
	parts := int32(packetsOf(bytes, s.payload))
	if part >= parts {
		return false
	}
	at, n := partOf(int(part), bytes, s.payload)
	if len(body) != n {
		return false
	}
	expected := int32(0)
	if k.replyParts > 0 {
		expected = k.answered - k.parts + 1
	}
	switch {
	case part < expected:
		s.c.Count.Duplicates++
		return true
	case part > expected:
		if k.parts+part > k.sentMost {
			return false // it was not fetched
		}
		if h.Round == k.round && k.sent > k.answered {
			s.c.Count.Gaps++
			s.goBack(k)
		}
		return true
	}
	if k.parts+part > k.sentMost {
		return false
	}
	delay := int64(0)
	if part == 0 {
		k.replyParts, k.replyBytes = parts, int32(bytes)
		if delay = int64(h.Extra); delay > 0 && s.path.smoothed > 0 {
			s.service.add(s.path.smoothed + delay)
		}
	}
	s.advance(now, k, k.parts+part, h, delay)
	if err := s.c.host.Part(s, int(k.slot), bytes, at, body); err != nil {
		s.End(err)
		return true
	}
	if s.state != sessionOpen {
		return true
	}
	if k.answered == k.parts+k.replyParts-1 {
		s.complete(k)
	} else {
		s.enqueue(k)
	}
	return true
}

// advance records that all numbers below answered have their answers. delay is the part of the last round trip that the server took, in ns.
func (s *Session) advance(now int64, k *call, answered int32, h *Header, delay int64) {
	if k.probe >= 0 && answered > k.probe {
		if h.Round == k.round { // else the answer is to an earlier transmission: Karn's rule
			rtt := max(now-k.probeAt-delay, 1)
			s.path.add(rtt)
			s.c.Count.RoundTrips++
			s.c.Count.RoundTripNs += uint64(rtt)
			s.rate.sample(now, rtt)
		}
		k.probe = -1
	}
	s.credits += int(max(0, min(answered, k.sent)-k.answered))
	k.answered = answered
	k.sent = max(k.sent, answered) // parts that arrived before the request went back
	k.backoff, k.timeout, k.waits = 0, 0, false
	if k.sent > k.answered {
		s.startTimeout(now, k)
	}
}

// goBack makes the call send again from the first number without an answer.
func (s *Session) goBack(k *call) {
	s.recall(k)
	k.round++
	k.timeout, k.waits = 0, false
	s.enqueue(k)
}

// recall takes what the call has in flight as lost.
func (s *Session) recall(k *call) {
	s.credits += int(k.sent - k.answered)
	k.sent, k.probe = k.answered, -1
}

// complete ends a call whose reply is complete.
func (s *Session) complete(k *call) {
	s.c.Count.Replies++
	if k.pins > 0 {
		k.state = callAnswered
		return
	}
	s.finish(k)
}

// finish makes the call's slot free.
func (s *Session) finish(k *call) {
	k.state, k.head, k.body = callFree, nil, nil
	s.free = append(s.free, k.slot)
	if k.owed = k.replyBytes > doneFrom; k.owed && !k.listed {
		k.listed = true
		s.dones = append(s.dones, k.slot)
		s.touch()
	}
	s.c.host.Done(s, int(k.slot))
}

// deadline returns the time at which the session has something to do.
func (s *Session) deadline() int64 {
	o := &s.c.o
	if s.state != sessionOpen {
		again := min(firstTimeout<<min(s.tries, timeoutShift), int64(1e9))
		if s.refusals > 0 {
			again = refusedEvery
		}
		return min(s.helloAt+o.HelloMax, s.askAt+again)
	}
	at := min(s.lastIn+o.SilentMax, max(s.lastIn, s.asked)+s.keep())
	if s.queue.first != nil && !s.queued && s.credits > 0 {
		at = min(at, s.pace.next)
	}
	for i := range s.calls {
		if k := &s.calls[i]; k.state == callActive && k.timeout != 0 {
			at = min(at, k.timeout)
		}
	}
	return at
}

// NextTick returns the time at which Tick has something to do; MaxInt64: never, unless something is sent or received.
func (c *Client) NextTick() int64 { return c.timers.earliest() }

// Tick handles the deadlines that have passed. The carrier must have passed on all packets that have arrived: else an answer that waits in its queue is taken as lost.
func (c *Client) Tick(now int64) {
	for c.timers.earliest() <= now {
		s := c.timers.heap[0]
		s.tick(now)
		if s.state == sessionEnded {
			continue // it is not in the heap any more
		}
		c.timers.cancel(s)
		c.timers.plan(s, max(s.deadline(), now+1))
	}
}

func (s *Session) tick(now int64) {
	c, o := s.c, &s.c.o
	if s.state != sessionOpen {
		switch {
		case now >= s.helloAt+o.HelloMax:
			s.end(ErrNoHello)
		case now >= s.deadline():
			s.sendHello(now, false)
		}
		return
	}
	if now >= s.lastIn+o.SilentMax {
		s.End(ErrSilent)
		return
	}
	for i := range s.calls {
		k := &s.calls[i]
		if k.state != callActive || k.timeout == 0 || k.timeout > now {
			continue
		}
		c.Count.Timeouts++
		k.backoff = min(k.backoff+1, timeoutShift)
		s.goBack(k)
	}
	if s.queue.first != nil && s.credits > 0 {
		s.touch()
	}
	if now >= max(s.lastIn, s.asked)+s.keep() {
		s.asked = now
		if p := c.control.push(&c.Count); p != nil {
			p.put(&s.to, &Header{Kind: KindDone, Flags: FlagAnswer, ID: s.peer})
		}
		s.repeatDones()
	}
}

// repeatDones sends the done packets again, which may have been lost.
func (s *Session) repeatDones() {
	for i := range s.calls {
		if k := &s.calls[i]; k.state == callFree && k.owed && !k.listed {
			k.listed = true
			s.dones = append(s.dones, k.slot)
			s.touch()
		}
	}
}

// keep returns the time without packets after which the session asks whether the server is there.
func (s *Session) keep() int64 {
	if s.refusals > 0 {
		return refusedEvery
	}
	if s.keepMax > 0 {
		return min(s.c.o.Keep, s.keepMax)
	}
	return s.c.o.Keep
}

// KeepWithin makes the session ask whether the server is there after at most so many ns without packets. The host calls it from ClientHost.Opened, where
// the server ends silent sessions sooner than Options.Keep allows for.
func (s *Session) KeepWithin(ns int64) { s.keepMax = ns }

// A session ends after refusedMax refusals, refusedEvery ns apart at least, without a packet between them.
const (
	refusedMax   = 3
	refusedEvery = int64(20e6)
)

// Refused is called when an error reports that nothing receives packets at an address (for UDP, an ICMP port unreachable). Such reports can be forged, so a session ends
// only after several of them, with no packet received between them.
func (c *Client) Refused(now int64, to *Address) {
	for _, s := range c.sessions.rows {
		if s == nil || s.to != *to || s.refusals > 0 && now < s.refusedAt+refusedEvery {
			continue
		}
		s.refusedAt = now
		if s.refusals++; s.refusals >= refusedMax {
			s.end(ErrRefused)
			continue
		}
		c.timers.plan(s, s.deadline())
	}
}

// End ends the session, and sends a packet so that the server ends it, too. Ended is called with err.
func (s *Session) End(err error) {
	if s.state == sessionOpen {
		if p := s.c.control.push(&s.c.Count); p != nil {
			p.put(&s.to, &Header{Kind: KindBye, ID: s.peer})
		}
	}
	s.end(err)
}

// end ends the session.
func (s *Session) end(err error) {
	if s.state == sessionEnded {
		return
	}
	c := s.c
	if s.state == sessionOpen {
		delete(c.peers, s.peer.Token)
		c.Count.Ended++
	}
	s.state = sessionEnded
	c.timers.cancel(s)
	c.sessions.drop(s.id.Index)
	if err == nil {
		err = errors.New("datagram: ended without a reason")
	}
	c.host.Ended(s, err)
	for i := range s.calls {
		s.calls[i] = call{}
	}
}
