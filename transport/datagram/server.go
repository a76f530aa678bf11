package datagram

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"math"
)

// ServerHost is the application at the server. Its methods are called from within the Server's, and must not call them.
type ServerHost interface {
	// Elsewhere returns the name of the address at which a client with this hello is served; nil: here. Nothing is proven yet, so nothing may be kept.
	Elsewhere(from *Address, hello []byte) []byte

	// Admit decides about a client that has proved its address. It returns the application's answer, and how many slots are granted, at most a.Slots. The reason
	// of an error that is a *Refusal is sent to the client.
	Admit(s *ServerSession, a *Admission) (answer []byte, slots int, err error)

	// Begin prepares a slot for a request of so many bytes; false: there is no memory for it now, and the client tries again.
	Begin(s *ServerSession, slot, bytes int) bool

	// Part passes the bytes of the request from byte at on, in order and without gaps. b is valid during the call.
	Part(s *ServerSession, slot, at int, b []byte)

	// Request is called when a request is complete: once for each. ServerSession.Reply answers it, also from within this call.
	Request(s *ServerSession, slot int)

	// Free is called when the bytes of a slot's reply are not needed any more.
	Free(s *ServerSession, slot int)

	// Ended is called when the session has ended. Bytes of replies are not used any more, unless the carrier has packets with them.
	Ended(s *ServerSession, err error)
}

// Admission is what a client asks for when its address is proven. Its bytes are valid during ServerHost.Admit.
type Admission struct {
	Hello, Nonce, Proof []byte
	Slots               int
}

// Server is the server's end of any number of sessions.
type Server struct {
	Count Counters

	o        Options
	host     ServerHost
	sessions table[ServerSession]
	hellos   map[uint64]*ServerSession // by the client's token: a second copy of a hello opens no second session
	timers   timers[*ServerSession]
	control  control
	ready    struct{ first, last *slot } // slots with parts of a reply to send, linked by slot.next
	proofs   hash.Hash                   // HMAC with a secret
}

// ServerSession is the server's end of a session.
type ServerSession struct {
	User any // the host's

	s        *Server
	id, peer ID // ours, and the client's
	from     Address
	state    sessionState
	timer    timer
	grant    []byte // while the hello may come again
	since    int64  // when it was granted
	lastIn   int64  // when the last packet of the client was received
	payload  int    // bytes of a message in a packet
	credits  int
	slots    []slot
	refused  int // slots for whose next request there was no memory
}

func (s *ServerSession) due() *timer { return &s.timer }

// slotState is the state of a slot.
type slotState uint8

const (
	slotIdle      slotState = iota // nothing is kept but the number of the last request
	slotReceiving                  // parts of the request are missing
	slotExecuting                  // the host has the request
	slotReplied                    // the reply is kept until the client's next request in this slot, or a done packet
)

// slot holds one request in flight, and its reply. It is what makes an operation happen at most once: a request is executed only when its number is the next one.
type slot struct {
	state      slotState
	queued     bool  // in Server.ready
	first      bool  // the reply's part 0 was not sent yet
	refused    bool  // there was no memory for the next request
	recalled   bool  // likewise, and the client was asked to send it again
	round      uint8 // of the packet that is answered by what is sent next
	index      uint16
	number     uint32 // of the last request that was begun
	bytes      int32  // of the request
	parts      int32
	got        int32 // parts received
	replyParts int32
	next, end  int32 // parts of the reply to send now
	sent       int32 // parts of the reply that were sent once at least
	pins       int32
	complete   int64 // when the last part of the request was received
	head, body []byte
	s          *ServerSession
	link       *slot
}

// nonceEvery is the time in ns after which nonces change. One is valid for at least that long, and at most twice as long.
const nonceEvery = 10e9

// NewServer makes a server without sessions. secret is random; nonces are computed from it.
func NewServer(o Options, secret [32]byte, host ServerHost) (*Server, error) {
	o, err := o.defaults()
	if err != nil {
		return nil, err
	}
	return &Server{o: o, host: host, sessions: table[ServerSession]{most: o.Sessions}, hellos: map[uint64]*ServerSession{}, control: newControl(controlRoom),
		proofs: hmac.New(sha256.New, secret[:])}, nil
}

// Sessions returns the number of sessions.
func (s *Server) Sessions() int { return s.sessions.len() }

// Each calls f for each session, which may end it.
func (s *Server) Each(f func(*ServerSession)) {
	for _, c := range s.sessions.rows {
		if c != nil {
			f(c)
		}
	}
}

// From returns the client's address.
func (s *ServerSession) From() Address { return s.from }

// Slots returns the granted number of requests in flight.
func (s *ServerSession) Slots() int { return len(s.slots) }

// Receive handles a packet. b is valid during the call.
func (s *Server) Receive(now int64, from *Address, b []byte) {
	s.Count.In++
	var h Header
	if h.Decode(b) != nil || h.Kind > KindBye {
		s.Count.Garbage++
		return
	}
	body := b[HeaderBytes:]
	if h.Kind == KindHello {
		s.receiveHello(now, from, &h, body)
		return
	}
	c := s.sessions.get(h.ID.Index)
	if c == nil || c.id != h.ID {
		s.Count.Garbage++
		if h.Kind != KindBye { // the answer is no longer than the packet, and only who has seen the packet knows the identifier
			s.answer(from, &Header{Kind: KindUnknown, ID: h.ID})
		}
		return
	}
	if c.from != *from {
		s.Count.Garbage++
		return
	}
	if !c.receive(now, &h, body) {
		s.Count.Garbage++
		return
	}
	if c.state == sessionEnded {
		return
	}
	c.lastIn = now
	if c.state == sessionNew {
		c.state, c.grant = sessionOpen, nil
		s.timers.plan(c, c.deadline())
	}
}

// answer queues a packet that has a header only.
func (s *Server) answer(to *Address, h *Header) *Packet {
	p := s.control.push(&s.Count)
	if p != nil {
		p.put(to, h)
	}
	return p
}

// nonce returns the challenge for a client's address and identifier in an epoch of nonceEvery. It is computed, so that no state is kept for an address that is not proven.
func (s *Server) nonce(from *Address, id ID, epoch int64) (n [NonceBytes]byte) {
	var b [len(Address{}) + 20]byte
	copy(b[:], from[:])
	at := b[len(from):]
	binary.LittleEndian.PutUint32(at, id.Index)
	binary.LittleEndian.PutUint64(at[4:], id.Token)
	binary.LittleEndian.PutUint64(at[12:], uint64(epoch))
	s.proofs.Reset()
	_, _ = s.proofs.Write(b[:])
	s.proofs.Sum(n[:0])
	return n
}

// receiveHello handles a hello. Without a valid nonce it answers and keeps nothing.
func (s *Server) receiveHello(now int64, from *Address, h *Header, body []byte) {
	var m hello
	if !m.decode(body) {
		s.Count.Garbage++
		return
	}
	epoch := now / nonceEvery
	nonce := s.nonce(from, h.ID, epoch)
	if !hmac.Equal(nonce[:], m.nonce[:]) {
		if last := s.nonce(from, h.ID, epoch-1); !hmac.Equal(last[:], m.nonce[:]) {
			s.challenge(from, h, &m, nonce)
			return
		}
	}
	if c := s.hellos[h.ID.Token]; c != nil {
		if s.Count.Duplicates++; c.peer == h.ID && c.from == *from && c.grant != nil {
			c.sendGrant()
		}
		return
	}
	s.admit(now, from, h, &m)
}

// challenge answers a first hello.
func (s *Server) challenge(from *Address, h *Header, m *hello, nonce [NonceBytes]byte) {
	s.Count.Challenges++
	answer, body := Header{Kind: KindChallenge, ID: h.ID}, nonce[:]
	if name := s.host.Elsewhere(from, m.app); name != nil {
		answer.Kind, body = KindElsewhere, name
	}
	if p := s.answer(from, &answer); p != nil {
		p.HeadBytes += copy(p.Head[HeaderBytes:], body)
	}
}

// admit opens a session for a client whose address is proven.
func (s *Server) admit(now int64, from *Address, h *Header, m *hello) {
	c := &ServerSession{s: s, peer: h.ID, from: *from, state: sessionNew, since: now, lastIn: now,
		credits: min(m.credits, max(s.o.Credits, min(m.slots, s.o.Slots))), payload: min(m.datagramBytes, s.o.DatagramBytes) - HeaderBytes}
	index, ok := s.sessions.put(c)
	if !ok {
		s.end(from, h.ID, nil)
		return
	}
	c.id = ID{index, s.o.Random()}
	answer, slots, err := s.host.Admit(c, &Admission{Hello: m.app, Nonce: m.nonce[:], Proof: m.proof, Slots: min(m.slots, s.o.Slots)})
	if err != nil {
		s.sessions.drop(index)
		var r *Refusal
		if errors.As(err, &r) {
			s.end(from, h.ID, r.Reason)
		} else {
			s.end(from, h.ID, nil)
		}
		return
	}
	g := grant{id: c.id, datagramBytes: c.payload + HeaderBytes, credits: c.credits, slots: slots, app: answer}
	c.grant = g.append(nil)
	if len(c.grant)+HeaderBytes > HelloPacketBytes {
		panic("datagram: the application's answer is longer than MaxHelloBytes")
	}
	c.slots = make([]slot, slots)
	for i := range c.slots {
		c.slots[i].index, c.slots[i].s = uint16(i), c
	}
	s.hellos[c.peer.Token] = c
	s.Count.Opened++
	c.sendGrant()
	s.timers.plan(c, c.deadline())
}

func (s *ServerSession) sendGrant() {
	if p := s.s.answer(&s.from, &Header{Kind: KindGrant, ID: s.peer}); p != nil {
		p.Body[0] = s.grant
	}
}

// end sends the end of a session, or the refusal of one.
func (s *Server) end(to *Address, id ID, reason []byte) {
	if p := s.answer(to, &Header{Kind: KindEnd, ID: id}); p != nil {
		p.Body[0] = reason[:min(len(reason), MaxHelloBytes)]
	}
}

// receive handles a packet of the session, and reports whether it fits the session.
func (s *ServerSession) receive(now int64, h *Header, body []byte) bool {
	switch h.Kind {
	case KindBye:
		s.finish(ErrLeft)
		return true
	case KindDone:
		s.receiveDone(h, body)
		return true
	}
	if int(h.Slot) >= len(s.slots) {
		return false
	}
	k := &s.slots[h.Slot]
	if h.Kind == KindFetch {
		return s.fetch(k, h)
	}
	return s.receiveRequest(now, k, h, body)
}

// receiveRequest handles a part of a request.
func (s *ServerSession) receiveRequest(now int64, k *slot, h *Header, body []byte) bool {
	part, bytes := int32(h.Part), int(h.Bytes)
	if bytes < 1 || bytes > s.s.o.MessageBytes {
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
	switch ahead := int32(h.Number - k.number); {
	case ahead < 0:
		s.s.Count.Duplicates++
		return true
	case ahead > 1 || ahead == 1 && (k.state == slotReceiving || k.state == slotExecuting):
		return false // a client begins a request when it has the reply to the last one in its slot
	case ahead == 1:
		if part > 0 {
			if !k.refused { // else a gap would make the client send all of it again at once
				s.answerParts(KindGap, h, 0)
			}
			return true
		}
		if k.pins > 0 {
			return true // the client comes again
		}
		s.freeReply(k)
		s.refused -= int(b2u(k.refused))
		k.recalled = false
		if k.refused = !s.s.host.Begin(s, int(k.index), bytes); k.refused {
			s.refused++
			k.round = h.Round
			s.answerParts(KindWait, h, 0)
			return true
		}
		k.state, k.number = slotReceiving, h.Number
		k.bytes, k.parts, k.got = int32(bytes), parts, 0
	case k.bytes != int32(bytes):
		return false
	}
	switch {
	case k.state != slotReceiving:
		s.duplicate(k, h)
		return true
	case part > k.got:
		s.answerParts(KindGap, h, k.got)
		return true
	case part < k.got:
		if s.s.Count.Duplicates++; h.Flags&FlagAnswer != 0 {
			s.answerParts(KindAck, h, k.got)
		}
		return true
	}
	s.s.host.Part(s, int(k.index), at, body)
	if k.got++; k.got < k.parts {
		if h.Flags&FlagAnswer != 0 {
			s.answerParts(KindAck, h, k.got)
		}
		return true
	}
	k.state, k.complete, k.round = slotExecuting, now, h.Round
	s.s.Count.Requests++
	s.s.host.Request(s, int(k.index))
	return true
}

// duplicate answers a packet of a request that is complete.
func (s *ServerSession) duplicate(k *slot, h *Header) {
	s.s.Count.Duplicates++
	if int32(h.Part) != k.parts-1 {
		if h.Flags&FlagAnswer != 0 && k.state != slotIdle {
			s.answerParts(KindAck, h, k.parts-1)
		}
		return
	}
	switch {
	case k.state == slotExecuting:
		s.answerParts(KindWait, h, k.parts)
	case k.state == slotReplied && !k.queued:
		k.round = h.Round
		k.next, k.end = 0, 1
		s.s.enqueue(k)
	}
}

// answerParts answers a packet of a request with the number of its parts that have arrived.
func (s *ServerSession) answerParts(kind Kind, h *Header, got int32) {
	s.s.Count.Waits += b2u(kind == KindWait)
	s.s.Count.Gaps += b2u(kind == KindGap)
	s.s.answer(&s.from, &Header{Kind: kind, Slot: h.Slot, ID: s.peer, Number: h.Number, Round: h.Round, Part: uint16(got)})
}

// fetch handles a packet that asks for parts of a reply.
func (s *ServerSession) fetch(k *slot, h *Header) bool {
	if h.Number != k.number || k.state != slotReplied {
		s.s.Count.Duplicates++
		return int32(h.Number-k.number) <= 0
	}
	from, count := int32(h.Part), int64(h.Extra)
	if from < 1 || count < 1 || count > int64(s.credits) || int64(from)+count > int64(k.replyParts) {
		return false
	}
	end := from + int32(count)
	if k.queued && from == k.end && k.round == h.Round {
		k.end = end
		return true
	}
	k.next, k.end, k.round = from, end, h.Round
	s.s.enqueue(k)
	return true
}

// Retry asks the client to send a request again for which there was no memory, if there is one that it was not asked for. The host calls it when there may be
// memory, from ServerHost.Request or from outside of its methods.
func (s *ServerSession) Retry() {
	if s.refused == 0 || s.state == sessionEnded {
		return
	}
	for i := range s.slots {
		if k := &s.slots[i]; k.refused && !k.recalled {
			k.recalled = true
			s.answerParts(KindGap, &Header{Slot: k.index, Number: k.number + 1, Round: k.round}, 0)
			return
		}
	}
}

// receiveDone frees the replies that the client has, and answers if asked to.
func (s *ServerSession) receiveDone(h *Header, b []byte) {
	for {
		i, number, rest, ok := nextDone(b)
		if !ok {
			break
		}
		b = rest
		if int(i) >= len(s.slots) {
			continue
		}
		if k := &s.slots[i]; k.number == number && k.state == slotReplied && !k.queued && k.pins == 0 {
			s.freeReply(k)
		}
	}
	if h.Flags&FlagAnswer != 0 {
		s.s.answer(&s.from, &Header{Kind: KindHere, ID: s.peer})
	}
}

// freeReply makes a slot idle whose reply is not needed any more.
func (s *ServerSession) freeReply(k *slot) {
	if k.state != slotReplied {
		return
	}
	k.state, k.head, k.body = slotIdle, nil, nil
	k.next, k.end = 0, 0
	s.s.host.Free(s, int(k.index))
}

// Reply answers the request in a slot: head and body, one after the other. The bytes must not change until ServerHost.Free or Ended. false: the session has
// ended, and the bytes are not used.
func (s *ServerSession) Reply(slot int, head, body []byte) bool {
	if s.state == sessionEnded {
		return false
	}
	k := &s.slots[slot]
	if k.state != slotExecuting || len(head)+len(body) > s.s.o.MessageBytes {
		panic("datagram: a reply to no request, or beyond MessageBytes")
	}
	k.state, k.head, k.body = slotReplied, head, body
	k.replyParts = int32(packetsOf(len(head)+len(body), s.payload))
	k.next, k.end, k.sent, k.first = 0, 1, 0, true
	s.s.Count.Replies++
	s.s.enqueue(k)
	return true
}

// enqueue puts a slot at the end of the queue of those with parts to send, unless it is in the queue: a duplicate of the last request may have put it there,
// and nothing was sent since.
func (s *Server) enqueue(k *slot) {
	if k.queued {
		return
	}
	k.queued = true
	if s.ready.last == nil {
		s.ready.first = k
	} else {
		s.ready.last.link = k
	}
	s.ready.last = k
}

// Transmit fills out with packets to send, and returns how many. The carrier sends them and passes each to Release. Fewer than len(out): there are no more now.
func (s *Server) Transmit(now int64, out []Packet) (n int) {
	n = s.control.transmit(out)
	inRow := 0
	for n < len(out) && s.ready.first != nil {
		k := s.ready.first
		again := false
		if k.next < k.end && k.s.state != sessionEnded {
			k.s.sendPart(now, k, &out[n])
			n++
			inRow++
			if again = k.next < k.end; again && inRow < burst {
				continue
			}
		}
		inRow = 0
		if s.ready.first = k.link; s.ready.first == nil {
			s.ready.last = nil
		}
		k.link, k.queued = nil, false
		if again {
			s.enqueue(k)
		}
	}
	s.Count.Out += uint64(n)
	return n
}

// sendPart makes the packet with the next part of a reply.
func (s *ServerSession) sendPart(now int64, k *slot, p *Packet) {
	bytes := len(k.head) + len(k.body)
	var h Header // field by field: see Decode
	h.Kind, h.Slot, h.Number, h.Round = KindReply, k.index, k.number, k.round
	h.ID.Index, h.ID.Token = s.peer.Index, s.peer.Token
	h.Bytes, h.Part = uint32(bytes), uint16(k.next)
	if k.first { // the client subtracts this from what it measures
		k.first = false
		h.Extra = uint32(min(max(now-k.complete, 1), math.MaxUint32))
	}
	p.put(&s.from, &h)
	at, n := partOf(int(k.next), bytes, s.payload)
	p.carry(k.head, k.body, at, n, &k.pins)
	k.next++
	k.sent = max(k.sent, k.next)
}

// Receiving reports whether parts of the request in a slot are missing.
func (s *ServerSession) Receiving(slot int) bool { return s.slots[slot].state == slotReceiving }

// Unsent returns the slot of a request that is being received, executed or answered; false: there is none, and each part of each reply was sent once at least.
func (s *ServerSession) Unsent() (slot int, ok bool) {
	for i := range s.slots {
		if k := &s.slots[i]; k.state == slotReceiving || k.state == slotExecuting || k.state == slotReplied && k.sent < k.replyParts {
			return i, true
		}
	}
	return 0, false
}

// Release takes packets back from the carrier, which does not use their bytes any more.
func (s *Server) Release(out []Packet) {
	for i := range out {
		out[i].release()
	}
}

// deadline returns the time at which the session ends if nothing is received.
func (s *ServerSession) deadline() int64 {
	if s.state == sessionNew {
		return s.since + s.s.o.HelloMax
	}
	return s.lastIn + s.s.o.SilentMax
}

// NextTick returns the time at which Tick has something to do; MaxInt64: never, unless something is received.
func (s *Server) NextTick() int64 { return s.timers.earliest() }

// Tick ends the sessions from which nothing was received for too long. The carrier must have passed on all packets that have arrived.
func (s *Server) Tick(now int64) {
	for s.timers.earliest() <= now {
		c := s.timers.heap[0]
		if at := c.deadline(); at > now {
			s.timers.cancel(c)
			s.timers.plan(c, at)
			continue
		}
		c.End(ErrSilent, nil)
	}
}

// End ends the session, and sends its client the reason, in the words of the application. Ended is called with err.
func (s *ServerSession) End(err error, reason []byte) {
	if s.state == sessionEnded {
		return
	}
	s.s.end(&s.from, s.peer, reason)
	s.finish(err)
}

// finish ends the session.
func (s *ServerSession) finish(err error) {
	if s.state == sessionEnded {
		return
	}
	s.state, s.grant = sessionEnded, nil
	s.s.Count.Ended++
	s.s.timers.cancel(s)
	s.s.sessions.drop(s.id.Index)
	delete(s.s.hellos, s.peer.Token)
	s.s.host.Ended(s, err)
}
