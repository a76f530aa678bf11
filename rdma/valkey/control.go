// Package valkey is the protocol by which Valkey (from version 8) carries RESP over RDMA, for both sides, without a device: a Conn gets completions, and posts
// work requests to a QueuePair. Package rdma connects it to a device. This package may import transport and internal packages.
//
// Each side has one transfer buffer, which the other side fills from its beginning to its end by RDMA WRITEs with immediate data, the number of bytes. When all
// bytes of the buffer have been consumed, its owner announces it again, and the other side continues at its beginning. So a command may lie in two parts, in
// different fillings. Control messages are SENDs of 32 bytes. Their format and the rules are those of Valkey's src/rdma.c and of libvalkey.
package valkey

import (
	"encoding/binary"
)

// ControlBytes is the length of each control message, and of each receive.
const ControlBytes = 32

// Opcode is the kind of a control message.
type Opcode uint16

// The kinds of control messages.
const (
	GetServerFeature   Opcode = iota // the client asks for the server's features; the server answers with the same opcode
	SetClientFeature                 // the client uses features
	Keepalive                        // the server is alive
	RegisterXferMemory               // the sender announces its transfer buffer
)

// Control is a control message. On the wire, big-endian: opcode u16, and with the opcodes of features: select u16 | 20 reserved | features u64; with
// RegisterXferMemory: 14 reserved | address u64 | length u32 | key u32; with Keepalive: 30 reserved.
type Control struct {
	Opcode   Opcode
	Select   uint16 // of the features: which 64 of them
	Features uint64
	Memory   Memory
}

// Memory is a transfer buffer, as its owner announces it.
type Memory struct {
	Addr        uint64
	Length, Key uint32
}

// Encode writes the message into b, ControlBytes long.
func (m *Control) Encode(b []byte) {
	b = b[:ControlBytes]
	clear(b)
	binary.BigEndian.PutUint16(b, uint16(m.Opcode))
	switch m.Opcode {
	case GetServerFeature, SetClientFeature:
		binary.BigEndian.PutUint16(b[2:], m.Select)
		binary.BigEndian.PutUint64(b[24:], m.Features)
	case RegisterXferMemory:
		binary.BigEndian.PutUint64(b[16:], m.Memory.Addr)
		binary.BigEndian.PutUint32(b[24:], m.Memory.Length)
		binary.BigEndian.PutUint32(b[28:], m.Memory.Key)
	}
}

// Decode reads a received message. It ignores reserved bytes. The error is a *Violation.
func (m *Control) Decode(b []byte) error {
	if len(b) != ControlBytes {
		return violation(BadLength, "a control message of %d B, not %d", len(b), ControlBytes)
	}
	*m = Control{Opcode: Opcode(binary.BigEndian.Uint16(b))}
	switch m.Opcode {
	case GetServerFeature, SetClientFeature:
		m.Select, m.Features = binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint64(b[24:])
	case Keepalive:
	case RegisterXferMemory:
		m.Memory = Memory{binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])}
		if end := m.Memory.Addr + uint64(m.Memory.Length); m.Memory.Length == 0 || end < m.Memory.Addr {
			return violation(BadMemory, "a transfer buffer of %d B at %#x", m.Memory.Length, m.Memory.Addr)
		}
	default:
		return violation(BadOpcode, "a control message with the opcode %d", m.Opcode)
	}
	return nil
}
