package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The hello is the first message in each direction of a connection. Its first byte is not ASCII, which
// distinguishes a native client from a client of Redis:
//
//	magic 0xCB 'k' 'v' 'w' | length u16 of the body | body
//
// A receiver ignores bytes after the fields that it knows, so later versions can add fields.
//
// A server with secrets answers a client's hello with a challenge, checks a proof, and adds a proof of its own to its grant:
//
//	client  hello with FeatureAccess, a name and a nonce
//	server  hello with the code Challenged, and a nonce as parameters; no other data of the server
//	client  a message whose body is a proof
//	server  hello with the code Granted; its last ProofBytes are a proof over the bytes before them
//
// Package access computes the proofs.

// Magic is the beginning of every hello.
var Magic = [4]byte{0xCB, 'k', 'v', 'w'}

const (
	helloHead = 6 // magic and length

	// MaxHelloBytes is the most bytes of a complete hello.
	MaxHelloBytes = 1024
	// MaxShards bounds the shard map.
	MaxShards = 256
	// MaxParams bounds a transport's own parameters in a hello.
	MaxParams = 416
	// MaxNameBytes bounds a client's name.
	MaxNameBytes = 64
	// NonceBytes is the length of a nonce, ProofBytes that of a proof.
	NonceBytes, ProofBytes = 32, 32
	// AnyLoop in ClientHello.Loop leaves the choice of the loop to the server.
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
	// FeatureAccess means that both sides prove that they have the same secret. A client that requires it ends a connection to a server without it.
	FeatureAccess = 1 << 0

	// FeatureNoChecksum means that the headers of frames have no checksum (Header.EncodeAs), because the network has one of its own for each packet.
	// A client whose network has one can do without, and a server on such a network agrees. Peers without this feature use the checksum.
	FeatureNoChecksum = 1 << 1
)

// ClientHello opens a connection.
type ClientHello struct {
	Version  uint16
	Required uint32 // features that the client requires; the server refuses unknown ones
	Optional uint32 // features that the client can use
	Depth    uint16 // requested number of requests in flight, ≥ 1; the server may grant fewer
	Loop     uint16 // requested loop of the server, or AnyLoop
	Params   []byte // parameters of the transport, at most MaxParams; after Decode a part of its argument

	// With FeatureAccess.
	Name  string           // of the client, at most MaxNameBytes
	Nonce [NonceBytes]byte // random, new for each connection
}

// Requests reports whether the client requires a feature, or can use it.
func (h *ClientHello) Requests(feature uint32) bool { return (h.Required|h.Optional)&feature != 0 }

const clientBody = 14 // bytes without parameters, which follow with their length

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

// beginMessage appends the magic and room for the length, which endMessage fills in.
func beginMessage(b []byte) []byte { return append(append(b, Magic[:]...), 0, 0) }

// endMessage fills in the length of the message that begins at from.
func endMessage(b []byte, from int) []byte {
	binary.LittleEndian.PutUint16(b[from+len(Magic):], uint16(len(b)-from-helloHead))
	return b
}

// appendParams appends the parameters with their length. Without parameters, and if no fields follow, it appends nothing, as versions without
// parameters did.
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

// readParams parses the parameters, and returns the bytes after them.
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

// HelloBytes returns the length of a complete hello, given its first bytes. 0: more bytes are needed
// for that.
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

// Decode decodes a complete hello (of HelloBytes).
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

// ServerHello is the answer to a ClientHello: a grant, a challenge, or a refusal with a code.
type ServerHello struct {
	Version       uint16
	Code          Code   // Granted; Challenged; or why not, and then only Version, Code and Reason are valid
	Features      uint32 // features in use
	Depth         uint16 // most requests that the client may have in flight
	MaxKeyBytes   uint16
	MaxValueBytes uint32
	StallMillis   uint32   // time after which the server ends a connection whose message makes no progress
	Loop          uint16   // the loop that serves this connection
	Loops         uint16   // number of network loops, ≥ 1
	Shards        []uint16 // the loop of each shard (kv.Shard); empty: network loops own no keys
	Reason        string   // text of a refusal
	Params        []byte   // parameters of the transport, at most MaxParams, or with Challenged the nonce; after Decode a part of its argument
}

const serverBody = 28 // bytes without shard map, reason and parameters

// Append appends the hello to b. It cuts a long reason, and panics if there are more shards than MaxShards.
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

// Proof is a side's proof that it has a secret (package access).
type Proof [ProofBytes]byte

// Append appends a message that consists of the proof to b.
func (p *Proof) Append(b []byte) []byte {
	from := len(b)
	return endMessage(append(beginMessage(b), p[:]...), from)
}

// Decode decodes such a message, which must be complete (HelloBytes).
func (p *Proof) Decode(b []byte) error {
	if n, err := HelloBytes(b); err != nil || n != helloHead+ProofBytes || len(b) < n {
		return fmt.Errorf("%w: no proof in %d bytes", ErrHello, len(b))
	}
	*p = Proof(b[helloHead:])
	return nil
}

// AppendSealed is Append for Features with FeatureAccess: with a proof at the end. prove computes it from the bytes before it, which contain the length of
// the whole message.
func (h *ServerHello) AppendSealed(b []byte, prove func(covered []byte) Proof) []byte {
	from := len(b)
	b = endMessage(append(h.Append(b), make([]byte, ProofBytes)...), from)
	n := len(b) - ProofBytes
	p := prove(b[from:n])
	copy(b[n:], p[:])
	return b
}

// Unseal splits a complete sealed hello (of HelloBytes) into the proof and the bytes that it covers.
func Unseal(b []byte) (covered []byte, p Proof, err error) {
	n := len(b) - ProofBytes
	if n < helloHead+serverBody {
		return nil, p, fmt.Errorf("%w: no proof in %d bytes", ErrHello, len(b))
	}
	return b[:n], Proof(b[n:]), nil
}

// Decode decodes a complete hello (of HelloBytes).
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

// Code is the reason why a server refuses or ends a connection. It is sent in a hello, or in a frame with FlagRefuse.
type Code uint16

const (
	Granted         Code = 0
	RefusedVersion  Code = 1  // another version of the protocol
	RefusedFeature  Code = 2  // a required feature is unknown here
	RefusedLoop     Code = 3  // no such loop
	RefusedBusy     Code = 4  // the largest number of connections is reached, or there is no memory for another one
	RefusedGarbage  Code = 5  // not a hello, or not a frame
	RefusedTooLarge Code = 6  // a length beyond the limits of the hello
	RefusedDepth    Code = 7  // more requests in flight than granted
	RefusedDeadline Code = 8  // the peer has missed a deadline
	RefusedClosing  Code = 9  // the server is shutting down
	RefusedAccess   Code = 10 // no name, an unknown name, or a wrong secret
	Challenged      Code = 11 // not a refusal: the client must send a proof
)

var codeNames = [...]string{"granted", "protocol version", "unknown feature", "no such loop", "server is full",
	"garbage", "too large", "too many requests in flight", "deadline", "server is closing", "no access", "challenged"}

// String describes the code in words.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}
