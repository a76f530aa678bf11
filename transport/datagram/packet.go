package datagram

import (
	"encoding/binary"
	"errors"
)

// HeaderBytes is the size of every packet's header.
const HeaderBytes = 32

const (
	magic   = 0xCE // not ASCII, and not the first byte of a stream's hello
	version = 1
)

// Kind is the kind of a packet.
type Kind uint8

const (
	KindHello   Kind = 1 // client: opens a session; its answers are challenge, grant, elsewhere and end
	KindRequest Kind = 2 // client: a part of a request
	KindFetch   Kind = 3 // client: asks for parts of a reply after its first
	KindDone    Kind = 4 // client: replies whose memory the server can free; with FlagAnswer also a question whether the server is there
	KindBye     Kind = 5 // client: ends the session

	KindChallenge Kind = 8  // server: a nonce, which the client returns to prove its address
	KindGrant     Kind = 9  // server: the session is open
	KindElsewhere Kind = 10 // server: the application's name of the address at which to say hello
	KindAck       Kind = 11 // server: the first Part packets of a request have arrived
	KindGap       Kind = 12 // server: as KindAck, and a later packet has arrived before the next
	KindWait      Kind = 13 // server: the request is executed or has no memory yet: nothing to send now
	KindReply     Kind = 14 // server: a part of a reply
	KindHere      Kind = 15 // server: answers FlagAnswer
	KindEnd       Kind = 6  // server: ends the session, or refuses a hello
	KindUnknown   Kind = 7  // server: no session has the identifier that the header repeats
)

var kindNames = [16]string{"", "hello", "request", "fetch", "done", "bye", "end", "unknown",
	"challenge", "grant", "elsewhere", "ack", "gap", "wait", "reply", "here"}

// String returns the kind's name in docs/datagrams.md.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "invalid kind"
}

// Flags.
const (
	FlagAnswer = 1 << 0 // request, done: the client waits for an answer to this packet
	flagsKnown = FlagAnswer
)

// ID identifies a session to one of its ends. Index is its place in that end's table, Token is random.
type ID struct {
	Index uint32
	Token uint64
}

// Header is the header of a packet. On the wire, little-endian:
//
//	 0 magic 0xCE | 1 version (high 4 bits), kind (low 4 bits) | 2 slot u16
//	 4 session index u32 | 8 session token u64: the receiver's identifier; of a hello the sender's
//	16 number u32 | 20 message bytes u32
//	24 part u16 | 26 round u8 | 27 flags u8 | 28 extra u32
type Header struct {
	Kind   Kind
	Flags  uint8
	Round  uint8  // counts how often the client has gone back within the request; answers repeat it
	Slot   uint16 // the request's slot
	ID     ID
	Number uint32 // counts the requests of the slot
	Bytes  uint32 // length of the whole request or reply
	Part   uint16 // number of the packet within its message, from 0; fetch: of the first that is asked for; ack, gap, wait: see Kind
	Extra  uint32 // reply, part 0: ns between the request's last packet and the reply, at most; fetch: how many parts
}

// Errors of Decode.
var (
	errShort = errors.New("datagram: shorter than a header")
	errForm  = errors.New("datagram: malformed header")
)

// Encode writes the header to b[:HeaderBytes].
func (h *Header) Encode(b []byte) {
	_ = b[HeaderBytes-1]
	b[0], b[1] = magic, version<<4|byte(h.Kind)
	binary.LittleEndian.PutUint16(b[2:], h.Slot)
	binary.LittleEndian.PutUint32(b[4:], h.ID.Index)
	binary.LittleEndian.PutUint64(b[8:], h.ID.Token)
	binary.LittleEndian.PutUint32(b[16:], h.Number)
	binary.LittleEndian.PutUint32(b[20:], h.Bytes)
	binary.LittleEndian.PutUint16(b[24:], h.Part)
	b[26], b[27] = h.Round, h.Flags
	binary.LittleEndian.PutUint32(b[28:], h.Extra)
}

// Decode decodes a packet's header and checks its form. After an error h is undefined.
func (h *Header) Decode(b []byte) error {
	if len(b) < HeaderBytes {
		return errShort
	}
	// Field by field: a literal is copied as a whole, by loads that wait for the stores of its fields.
	h.Kind, h.Flags, h.Round = Kind(b[1]&15), b[27], b[26]
	h.Slot = binary.LittleEndian.Uint16(b[2:])
	h.ID.Index, h.ID.Token = binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:])
	h.Number = binary.LittleEndian.Uint32(b[16:])
	h.Bytes = binary.LittleEndian.Uint32(b[20:])
	h.Part = binary.LittleEndian.Uint16(b[24:])
	h.Extra = binary.LittleEndian.Uint32(b[28:])
	if b[0] != magic || b[1]>>4 != version || h.Kind == 0 || h.Flags&^flagsKnown != 0 {
		return errForm
	}
	return nil
}

// A hello's body, little-endian:
//
//	 0 nonce, NonceBytes; zero in the first hello
//	32 datagram bytes u16 | 34 credits u16 | 36 slots u16 | 38 proof bytes u16 | 40 hello bytes u16 | 42 proof | hello | zeros
//
// The packet has HelloPacketBytes at least, so that no answer is larger than it.
const (
	// NonceBytes is the length of a challenge.
	NonceBytes = 32
	// HelloPacketBytes is the size of a hello's packet. Paths with a smaller MTU than IPv6's smallest are not supported.
	HelloPacketBytes = 1200
	// MaxProofBytes bounds a proof.
	MaxProofBytes = 64
	// MaxHelloBytes bounds the application's part of a hello and of a grant.
	MaxHelloBytes = HelloPacketBytes - HeaderBytes - helloHead - MaxProofBytes

	helloHead = NonceBytes + 10
	grantHead = 18
)

// hello is the body of a hello.
type hello struct {
	nonce         [NonceBytes]byte
	datagramBytes int
	credits       int
	slots         int
	proof, app    []byte // after decode parts of its argument
}

func (h *hello) append(b []byte) []byte {
	b = append(b, h.nonce[:]...)
	for _, v := range [...]int{h.datagramBytes, h.credits, h.slots, len(h.proof), len(h.app)} {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return append(append(b, h.proof...), h.app...)
}

// decode decodes the body of a hello, and reports whether it is well formed.
func (h *hello) decode(b []byte) bool {
	if len(b) < HelloPacketBytes-HeaderBytes {
		return false
	}
	h.nonce = [NonceBytes]byte(b)
	v := func(i int) int { return int(binary.LittleEndian.Uint16(b[NonceBytes+2*i:])) }
	h.datagramBytes, h.credits, h.slots = v(0), v(1), v(2)
	proof, app := v(3), v(4)
	if b = b[helloHead:]; proof > MaxProofBytes || app > MaxHelloBytes || proof+app > len(b) {
		return false
	}
	h.proof, h.app = b[:proof:proof], b[proof:proof+app:proof+app]
	return h.datagramBytes >= MinDatagramBytes && h.credits > 0 && h.slots > 0
}

// grant is the body of a grant:
//
//	0 session index u32 | 4 token u64 (the server's identifier) | 12 datagram bytes u16 | 14 credits u16 | 16 slots u16 | application's answer
type grant struct {
	id            ID
	datagramBytes int
	credits       int
	slots         int
	app           []byte // after decode a part of its argument
}

func (g *grant) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, g.id.Index)
	b = binary.LittleEndian.AppendUint64(b, g.id.Token)
	for _, v := range [...]int{g.datagramBytes, g.credits, g.slots} {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return append(b, g.app...)
}

// decode decodes the body of a grant, and reports whether it is well formed.
func (g *grant) decode(b []byte) bool {
	if len(b) < grantHead {
		return false
	}
	*g = grant{id: ID{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[4:])},
		datagramBytes: int(binary.LittleEndian.Uint16(b[12:])), credits: int(binary.LittleEndian.Uint16(b[14:])),
		slots: int(binary.LittleEndian.Uint16(b[16:])), app: b[grantHead:]}
	return g.datagramBytes >= MinDatagramBytes && g.credits > 0 && g.slots > 0
}

// A done packet's body has an entry for each reply whose memory the server can free: slot u16 | number u32.
const (
	doneBytes = 6
	// donesMax is the most entries of one packet: they fit into Packet.Head.
	donesMax = NonceBytes / doneBytes
)

func appendDone(b []byte, slot uint16, number uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(b, slot), number)
}

// nextDone splits the first entry off; ok is false at the end.
func nextDone(b []byte) (slot uint16, number uint32, rest []byte, ok bool) {
	if len(b) < doneBytes {
		return 0, 0, nil, false
	}
	return binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint32(b[2:]), b[doneBytes:], true
}
