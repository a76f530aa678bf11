package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The hello is the first message in each direction of a connection. Its first byte is not ASCII, so that
// a native client is told from others by it:
//
//	magic 0xCB 'k' 'v' 'w' | length u16 of what follows | body
//
// A receiver ignores what is longer than it knows, so a later version can add fields.
//
// A server that keeps secrets answers a client's hello with a challenge, takes a proof, and seals its grant with one of its own:
//
//	client  hello with FeatureAccess, a name and a nonce
//	server  hello with the code Challenged, and a nonce for parameters; nothing else of itself
//	client  a message whose body is a proof
//	server  hello that grants, its last ProofBytes a proof over what is before them
//
// What is proved, and how: package access.

// Magic begins every hello.
var Magic = [4]byte{0xCB, 'k', 'v', 'w'}

const (
	helloHead = 6 // magic and length

	// MaxHelloBytes bounds a hello, whole.
	MaxHelloBytes = 1024
	// MaxShards bounds the shard map.
	MaxShards = 256
	// MaxParams bounds a transport's own parameters in a hello.
	MaxParams = 416
	// MaxNameBytes bounds the name of who connects.
	MaxNameBytes = 64
	// NonceBytes is the length of a nonce, ProofBytes that of a proof.
	NonceBytes, ProofBytes = 32, 32
	// AnyLoop in ClientHello.Loop asks for no particular loop.
	AnyLoop = 0xFFFF

	maxReason = 200
)

// Hello errors. They end the connection.
var (
	ErrMagic = errors.New("not a kvwire hello")
	ErrHello = errors.New("malformed hello")
)

// Features of a connection.
const (
	// FeatureAccess has both sides prove that they know a secret. A client that requires it goes on with no server that does not.
	FeatureAccess = 1 << 0
)

// ClientHello opens a connection.
type ClientHello struct {
	Version  uint16
	Required uint32 // features without which the client cannot go on; the server refuses what it does not know
	Optional uint32 // features that it would use
	Depth    uint16 // requests that it wants in flight, ≥ 1; the server may grant fewer
	Loop     uint16 // the loop that it wants to be served by, or AnyLoop
	Params   []byte // the transport's own, at most MaxParams; Decode's lies in its argument

	// With FeatureAccess.
	Name  string           // who connects, at most MaxNameBytes
	Nonce [NonceBytes]byte // not used before
}

// Requests says whether the client requires a feature, or would use it.
func (h *ClientHello) Requests(feature uint32) bool { return (h.Required|h.Optional)&feature != 0 }

const clientBody = 14 // without parameters, which follow with their length

// Append appends the hello to b.
func (h *ClientHello) Append(b []byte) []byte {
	from := len(b)
	b = beginMessage(b)
	b = binary.LittleEndian.AppendUint16(b, h.Version)
	b = binary.LittleEndian.AppendUint32(b, h.Required)
	b = binary.LittleEndian.AppendUint32(b, h.Optional)
	b = binary.LittleEndian.AppendUint16(b, h.Depth)
	b = binary.LittleEndian.AppendUint16(b, h.Loop)
	b = appendParams(b, h.Params, h.Requests(FeatureAccess))
	if h.Requests(FeatureAccess) {
		if len(h.Name) > MaxNameBytes {
			panic("wire: a name beyond MaxNameBytes")
		}
		b = append(append(b, byte(len(h.Name))), h.Name...)
		b = append(b, h.Nonce[:]...)
	}
	return endMessage(b, from)
}

// beginMessage writes magic and length, which endMessage knows.
func beginMessage(b []byte) []byte { return append(append(b, Magic[:]...), 0, 0) }

// endMessage says how long the message is that begins at from.
func endMessage(b []byte, from int) []byte {
	binary.LittleEndian.PutUint16(b[from+len(Magic):], uint16(len(b)-from-helloHead))
	return b
}

// appendParams writes parameters: where there are none, and nothing follows, nothing at all, as before there were any.
func appendParams(b, params []byte, follows bool) []byte {
	if len(params) > MaxParams {
		panic("wire: parameters beyond MaxParams")
	}
	if len(params) == 0 && !follows {
		return b
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(params)))
	return append(b, params...)
}

// readParams reads what follows the rest of a hello, and gives what follows it.
func readParams(b []byte) (params, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, nil
	}
	n := int(binary.LittleEndian.Uint16(b))
	if b = b[2:]; n > MaxParams || n > len(b) {
		return nil, nil, fmt.Errorf("%w: %d bytes of parameters", ErrHello, n)
	}
	if n == 0 {
		return nil, b, nil
	}
	return b[:n:n], b[n:], nil
}

// HelloBytes looks at the beginning of a message and says how long its hello is, whole. 0 means that
// more bytes are needed to know.
func HelloBytes(b []byte) (int, error) {
	for i := range min(len(b), len(Magic)) {
		if b[i] != Magic[i] {
			return 0, ErrMagic
		}
	}
	if len(b) < helloHead {
		return 0, nil
	}
	n := helloHead + int(binary.LittleEndian.Uint16(b[4:]))
	if n > MaxHelloBytes {
		return 0, fmt.Errorf("%w: %d bytes of at most %d", ErrHello, n, MaxHelloBytes)
	}
	return n, nil
}

// Decode reads a whole hello (HelloBytes long).
func (h *ClientHello) Decode(b []byte) error {
	if n, err := HelloBytes(b); err != nil {
		return err
	} else if n == 0 || len(b) < n || n < helloHead+clientBody {
		return ErrHello
	}
	n, _ := HelloBytes(b)
	b = b[helloHead:n]
	*h = ClientHello{
		Version:  binary.LittleEndian.Uint16(b),
		Required: binary.LittleEndian.Uint32(b[2:]),
		Optional: binary.LittleEndian.Uint32(b[6:]),
		Depth:    binary.LittleEndian.Uint16(b[10:]),
		Loop:     binary.LittleEndian.Uint16(b[12:]),
	}
	if h.Depth == 0 {
		return fmt.Errorf("%w: depth 0", ErrHello)
	}
	var err error
	if h.Params, b, err = readParams(b[clientBody:]); err != nil || !h.Requests(FeatureAccess) {
		return err
	}
	if len(b) == 0 || int(b[0]) > MaxNameBytes || len(b) < 1+int(b[0])+NonceBytes {
		return fmt.Errorf("%w: no name and nonce in %d bytes", ErrHello, len(b))
	}
	name := 1 + int(b[0])
	h.Name, h.Nonce = string(b[1:name]), [NonceBytes]byte(b[name:])
	return nil
}

// ServerHello answers a ClientHello: it grants, or refuses with a code.
type ServerHello struct {
	Version       uint16
	Code          Code   // Granted; or why not, and then only Version, Code and Reason count; or Challenged
	Features      uint32 // those that are on
	Depth         uint16 // requests that the client may have in flight
	MaxKeyBytes   uint16
	MaxValueBytes uint32
	StallMillis   uint32   // a message begun and not gone on with for this long ends the connection
	Loop          uint16   // the loop that serves this connection
	Loops         uint16   // loops that can be asked for, ≥ 1
	Shards        []uint16 // the loop of each shard (kv.Shard); empty when loops own no keys
	Reason        string   // for people, with a refusal
	Params        []byte   // the transport's own, at most MaxParams, or with Challenged the nonce; Decode's lies in its argument
}

const serverBody = 28 // without shard map and reason

// Append appends the hello to b. Shards beyond MaxShards and a long reason are our own bug.
func (h *ServerHello) Append(b []byte) []byte {
	if len(h.Shards) > MaxShards {
		panic("wire: shard map beyond MaxShards")
	}
	reason := h.Reason[:min(len(h.Reason), maxReason)]
	from := len(b)
	b = beginMessage(b)
	b = binary.LittleEndian.AppendUint16(b, h.Version)
	b = binary.LittleEndian.AppendUint16(b, uint16(h.Code))
	b = binary.LittleEndian.AppendUint32(b, h.Features)
	b = binary.LittleEndian.AppendUint16(b, h.Depth)
	b = binary.LittleEndian.AppendUint16(b, h.MaxKeyBytes)
	b = binary.LittleEndian.AppendUint32(b, h.MaxValueBytes)
	b = binary.LittleEndian.AppendUint32(b, h.StallMillis)
	b = binary.LittleEndian.AppendUint16(b, h.Loop)
	b = binary.LittleEndian.AppendUint16(b, h.Loops)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.Shards)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(reason)))
	for _, s := range h.Shards {
		b = binary.LittleEndian.AppendUint16(b, s)
	}
	return endMessage(appendParams(append(b, reason...), h.Params, h.Features&FeatureAccess != 0), from)
}

// Proof is what a side proves with that it knows a secret.
type Proof [ProofBytes]byte

// Append appends a message with the proof alone to b.
func (p *Proof) Append(b []byte) []byte {
	from := len(b)
	return endMessage(append(beginMessage(b), p[:]...), from)
}

// Decode reads such a message, whole (HelloBytes long).
func (p *Proof) Decode(b []byte) error {
	if n, err := HelloBytes(b); err != nil || n != helloHead+ProofBytes || len(b) < n {
		return fmt.Errorf("%w: no proof in %d bytes", ErrHello, len(b))
	}
	*p = Proof(b[helloHead:])
	return nil
}

// AppendSealed is Append, for Features with FeatureAccess, with a proof at the end. prove is given the bytes before it, among them the length of all.
func (h *ServerHello) AppendSealed(b []byte, prove func(said []byte) Proof) []byte {
	from := len(b)
	b = endMessage(append(h.Append(b), make([]byte, ProofBytes)...), from)
	n := len(b) - ProofBytes
	p := prove(b[from:n])
	copy(b[n:], p[:])
	return b
}

// Unseal cuts a sealed hello, whole (HelloBytes long), into the proof and what it is over.
func Unseal(b []byte) (covered []byte, p Proof, err error) {
	n := len(b) - ProofBytes
	if n < helloHead+serverBody {
		return nil, p, fmt.Errorf("%w: no proof in %d bytes", ErrHello, len(b))
	}
	return b[:n], Proof(b[n:]), nil
}

// Decode reads a whole hello (HelloBytes long).
func (h *ServerHello) Decode(b []byte) error {
	n, err := HelloBytes(b)
	if err != nil {
		return err
	}
	if n == 0 || len(b) < n || n < helloHead+serverBody {
		return ErrHello
	}
	b = b[helloHead:n]
	*h = ServerHello{
		Version:       binary.LittleEndian.Uint16(b),
		Code:          Code(binary.LittleEndian.Uint16(b[2:])),
		Features:      binary.LittleEndian.Uint32(b[4:]),
		Depth:         binary.LittleEndian.Uint16(b[8:]),
		MaxKeyBytes:   binary.LittleEndian.Uint16(b[10:]),
		MaxValueBytes: binary.LittleEndian.Uint32(b[12:]),
		StallMillis:   binary.LittleEndian.Uint32(b[16:]),
		Loop:          binary.LittleEndian.Uint16(b[20:]),
		Loops:         binary.LittleEndian.Uint16(b[22:]),
	}
	shards := int(binary.LittleEndian.Uint16(b[24:]))
	reason := int(binary.LittleEndian.Uint16(b[26:]))
	b = b[serverBody:]
	if shards > MaxShards || reason > maxReason || len(b) < 2*shards+reason {
		return ErrHello
	}
	for i := range shards {
		h.Shards = append(h.Shards, binary.LittleEndian.Uint16(b[2*i:]))
	}
	h.Reason = string(b[2*shards : 2*shards+reason])
	if h.Params, _, err = readParams(b[2*shards+reason:]); err != nil {
		return err
	}
	if h.Code == Challenged && len(h.Params) != NonceBytes {
		return fmt.Errorf("%w: a nonce of %d bytes", ErrHello, len(h.Params))
	}
	if h.Code != Granted {
		return nil
	}
	if h.Depth == 0 || h.Loops == 0 || h.MaxKeyBytes == 0 {
		return fmt.Errorf("%w: depth %d, loops %d, largest key %d B", ErrHello, h.Depth, h.Loops, h.MaxKeyBytes)
	}
	for _, s := range h.Shards {
		if s >= h.Loops {
			return fmt.Errorf("%w: a shard on loop %d of %d", ErrHello, s, h.Loops)
		}
	}
	return nil
}

// Code says why a server refuses a connection or ends it. It travels in a hello, or in a refusal frame.
type Code uint16

const (
	Granted         Code = 0
	RefusedVersion  Code = 1  // another version of the protocol
	RefusedFeature  Code = 2  // a required feature is unknown here
	RefusedLoop     Code = 3  // no such loop
	RefusedBusy     Code = 4  // as many connections as there may be, or no memory for another one
	RefusedGarbage  Code = 5  // not a hello, or not a frame
	RefusedTooLarge Code = 6  // a length beyond the limits of the hello
	RefusedDepth    Code = 7  // more requests in flight than granted
	RefusedDeadline Code = 8  // a hello, a message or a reader that took too long
	RefusedClosing  Code = 9  // the server is shutting down
	RefusedAccess   Code = 10 // no name, or none with that secret
	Challenged      Code = 11 // no refusal: a proof is wanted before anything is granted
)

var codeNames = [...]string{"granted", "protocol version", "unknown feature", "no such loop", "server is full",
	"garbage", "too large", "too many requests in flight", "deadline", "server is closing", "no access", "challenged"}

// String is the code in words.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}
