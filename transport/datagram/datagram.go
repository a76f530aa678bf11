// Package datagram is a protocol of requests and replies over packets that may be lost, doubled or reordered. Its shape is that of eRPC (NSDI'19): sessions,
// credits, recovery per request by go-back-N from the client, and a slot at the server for each request in flight. It does no IO and reads no clock:
// packets come in by Receive, leave by Transmit, and each call has the time as an argument. A carrier (UDP sockets, an unreliable queue pair) moves the packets.
// The package knows no operation, key or value: a request and a reply are bytes. It imports the standard library only.
//
// A Client or a Server belongs to one goroutine. After a session is open, no call allocates.
package datagram

import "errors"

// Address is the address of a peer in the form of its carrier: a socket address, or an address handle and a queue pair's number. Unused bytes are zero.
type Address [28]byte

// Packet is a packet to send: Head[:HeadBytes], and then Body. The bytes of Body belong to a request or a reply, and stay valid until the packet is released.
type Packet struct {
	To        Address
	Head      [HeaderBytes + NonceBytes]byte
	HeadBytes int
	Body      [2][]byte

	pins    *int32 // packets of the message that the carrier has; nil: the packet has no message
	call    *call  // of a packet with a part of a request
	session uint32 // index of its session
}

// Bytes returns the length of the packet.
func (p *Packet) Bytes() int { return p.HeadBytes + len(p.Body[0]) + len(p.Body[1]) }

// Append appends the bytes of the packet to b.
func (p *Packet) Append(b []byte) []byte {
	return append(append(append(b, p.Head[:p.HeadBytes]...), p.Body[0]...), p.Body[1]...)
}

// release takes the packet back from the carrier.
func (p *Packet) release() {
	if p.pins != nil {
		*p.pins--
	}
	p.pins, p.call, p.Body = nil, nil, [2][]byte{}
}

// put fills in a packet that has a header only.
func (p *Packet) put(to *Address, h *Header) {
	p.To, p.HeadBytes, p.pins, p.call = *to, HeaderBytes, nil, nil
	p.Body = [2][]byte{}
	h.Encode(p.Head[:])
}

// carry adds the part of a message from byte at on, n bytes. A message is head and body, one after the other.
func (p *Packet) carry(head, body []byte, at, n int, pins *int32) {
	*pins++
	p.pins = pins
	k := 0
	if at < len(head) {
		part := head[at:min(at+n, len(head))]
		p.Body[0], k = part, 1
		n -= len(part)
		at = len(head)
	}
	if n > 0 {
		p.Body[k] = body[at-len(head) : at-len(head)+n]
	}
}

// packetsOf returns the number of packets of a message. An empty message has one packet.
func packetsOf(bytes, payload int) int { return max(1, (bytes+payload-1)/payload) }

// partOf returns the place of packet i in a message.
func partOf(i, bytes, payload int) (at, n int) {
	at = i * payload
	return at, min(payload, bytes-at)
}

// Counters count the work of a Client or a Server since it was made.
type Counters struct {
	In, Out           uint64 // packets that were received, and given to the carrier
	Garbage           uint64 // received packets that fit no session or no state, and were dropped
	Duplicates        uint64 // received packets of requests or replies that were there already
	Retransmits       uint64 // packets of requests, and fetches of replies, that were sent again
	Timeouts          uint64 // requests whose time-out passed without progress
	Gaps              uint64 // requests that went back because the peer, or a reply, showed a gap
	Stalls            uint64 // times that a request had something to send, and the session had no credit
	Paced             uint64 // times that a session waited for its rate
	RoundTrips        uint64 // round trips that were measured, without the server's time
	RoundTripNs       uint64 // their sum
	Requests, Replies uint64 // messages that were complete
	Challenges        uint64 // hellos that were answered without keeping any state
	Opened, Ended     uint64 // sessions
	Overflows         uint64 // control packets that were dropped, because there was no room for them
	Waits             uint64 // packets that were answered with wait: no memory for the request, or it is being executed
}

// Errors of sessions, for errors.Is.
var (
	// ErrSilent means that nothing was received from the peer for the longest time allowed.
	ErrSilent = errors.New("datagram: the peer is silent")
	// ErrNoHello means that the hello was not answered in time.
	ErrNoHello = errors.New("datagram: no answer to the hello")
	// ErrRefused means that nobody receives packets at the server's address.
	ErrRefused = errors.New("datagram: nobody receives at the server's address")
	// ErrForgotten means that the peer does not know the session: it has been restarted, or has ended the session.
	ErrForgotten = errors.New("datagram: the peer does not know the session")
	// ErrLeft means that the peer has ended the session.
	ErrLeft = errors.New("datagram: the peer has ended the session")
	// ErrProtocol means that the peer violated the protocol.
	ErrProtocol = errors.New("datagram: protocol violation")
)

// Refusal is the reason, in the words of the application, for which the server refused a hello or ended a session.
type Refusal struct{ Reason []byte }

// Error returns one line.
func (r *Refusal) Error() string { return "datagram: refused by the server" }
