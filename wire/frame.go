// Package wire encodes and decodes the native protocol: the frame, with one fixed little-endian header for all transports,
// and the hello. It parses bytes from a peer, lengths
// first, and owns no resources. It may import kv.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/kvwire/kvwire/kv"
)

// HeaderBytes is the size of every frame's header. A small get, header and key, fits an inline send.
const HeaderBytes = 32

// Version of the frame and of the hello.
const Version = 1

// Header is the header of a request or a reply. On the wire:
//
//	 0 version u8 | 1 op u8 | 2 flags u8 | 3 status u8 | 4 key bytes u16 | 6 reserved u16, zero
//	 8 id u64
//	16 value bytes u32 | 20 argument u32
//	24 reserved u32, zero | 28 CRC32C of bytes 0–27; with FeatureNoChecksum zero
//
// The payload follows: for a request the key and, if it is a put, the value; for a reply the answer, if it has
// one (Answers).
type Header struct {
	Op         kv.Op
	Flags      uint8
	Status     kv.Status // replies; requests carry 0
	KeyBytes   uint16
	ID         uint64 // chosen by the client; the reply repeats it
	ValueBytes uint32 // put: the value's length; get, scan, stats: the room for the answer. Replies: the answer's length
	Arg        uint32 // scan: the limit. Replies: ArgOf
}

// ScanMore is Arg in the reply to a scan with kv.Request.More.
const ScanMore = 1

// ArgOf returns Arg for a request's reply: Need if the status is TooSmall, ScanMore for a scan with More, else 0.
func ArgOf(r *kv.Request) uint32 {
	switch {
	case r.Status == kv.StatusTooSmall:
		return r.Need
	case r.Op == kv.OpScan && r.Status == kv.StatusOK && r.More:
		return ScanMore
	}
	return 0
}

// RequestHeader returns the header of a request's frame, and the value that follows the key; nil: none.
func RequestHeader(r *kv.Request, id uint64) (h Header, value []byte) {
	h = Header{Op: r.Op, KeyBytes: uint16(len(r.Key)), ID: id, Arg: r.Limit}
	if r.Op == kv.OpPut {
		value = r.Value
		h.ValueBytes, h.Arg = uint32(len(value)), 0
	} else if r.Op != kv.OpDelete {
		h.ValueBytes = uint32(min(cap(r.Value), math.MaxUint32))
	}
	if r.Stages != nil {
		h.Flags = FlagTimes
	}
	return h, value
}

// Outcome sets the outcome of the request that a reply answers, except Value.
func (h *Header) Outcome(r *kv.Request) {
	r.Status, r.Need, r.More = h.Status, 0, false
	switch {
	case h.Status == kv.StatusTooSmall:
		r.Need = h.Arg
	case h.Op == kv.OpScan && h.Status == kv.StatusOK:
		r.More = h.Arg == ScanMore
	}
}

// Flags.
const (
	FlagReply  = 1 << 0 // the frame goes from server to client
	FlagRefuse = 1 << 1 // the last frame before the server closes the connection: Arg is a Code
	FlagTimes  = 1 << 2 // in a request: requests Times; in a reply: Times follow the header, before the answer
	flagsKnown = FlagReply | FlagRefuse | FlagTimes
)

// Errors of headers from a peer. They end the connection.
var (
	ErrVersion  = errors.New("frame of another version")
	ErrChecksum = errors.New("frame header fails its checksum")
	ErrFormat   = errors.New("malformed frame header")
	ErrLimit    = errors.New("frame beyond the limits agreed in the hello")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode writes the header with its checksum to b[:HeaderBytes].
func (h *Header) Encode(b []byte) { h.EncodeAs(b, false) }

// EncodeAs is Encode; bare: for a connection with FeatureNoChecksum.
func (h *Header) EncodeAs(b []byte, bare bool) {
	_ = b[HeaderBytes-1]
	b[0], b[1], b[2], b[3] = Version, byte(h.Op), h.Flags, byte(h.Status)
	binary.LittleEndian.PutUint16(b[4:], h.KeyBytes)
	binary.LittleEndian.PutUint16(b[6:], 0)
	binary.LittleEndian.PutUint64(b[8:], h.ID)
	binary.LittleEndian.PutUint32(b[16:], h.ValueBytes)
	binary.LittleEndian.PutUint32(b[20:], h.Arg)
	binary.LittleEndian.PutUint64(b[24:], 0)
	if !bare {
		binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	}
}

// Decode decodes a header from b, which has at least HeaderBytes, and checks its checksum and its form. The errors
// are those above; after an error h is undefined.
func (h *Header) Decode(b []byte) error { return h.DecodeAs(b, false) }

// DecodeAs is Decode; bare: for a connection with FeatureNoChecksum.
func (h *Header) DecodeAs(b []byte, bare bool) error {
	_ = b[HeaderBytes-1]
	if b[0] != Version {
		return ErrVersion
	}
	if !bare && binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return ErrChecksum
	}
	// Field by field: a literal is copied as a whole, by loads that wait for the stores of its fields.
	h.Op, h.Flags, h.Status = kv.Op(b[1]), b[2], kv.Status(b[3])
	h.KeyBytes, h.ID = binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint64(b[8:])
	h.ValueBytes, h.Arg = binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:])
	reserved := uint32(binary.LittleEndian.Uint16(b[6:])) | binary.LittleEndian.Uint32(b[24:])
	if bare {
		reserved |= binary.LittleEndian.Uint32(b[28:])
	}
	if h.Flags&^flagsKnown != 0 || reserved != 0 || !h.Status.Valid() {
		return ErrFormat
	}
	if h.Flags&FlagRefuse != 0 {
		if h.Flags&FlagReply == 0 || h.Flags&FlagTimes != 0 || h.KeyBytes|uint16(h.ValueBytes>>16)|uint16(h.ValueBytes) != 0 {
			return ErrFormat
		}
		return nil
	}
	if h.Op < kv.OpGet || h.Op > kv.OpStats {
		return ErrFormat
	}
	if h.Flags&FlagReply != 0 && h.KeyBytes != 0 || h.Flags&FlagReply == 0 && h.Status != 0 {
		return ErrFormat
	}
	return nil
}

// CheckRequest returns an error if the header is not a request's, or its lengths exceed the limits.
func (h *Header) CheckRequest(l kv.Limits) error {
	if h.Flags&FlagReply != 0 {
		return ErrFormat
	}
	if int(h.KeyBytes) > l.MaxKeyBytes || h.Op == kv.OpPut && uint64(h.ValueBytes) > uint64(l.MaxValueBytes) {
		return fmt.Errorf("%w: key %d B of at most %d, value %d B of at most %d", ErrLimit, h.KeyBytes, l.MaxKeyBytes, h.ValueBytes, l.MaxValueBytes)
	}
	return nil
}

// PayloadBytes returns the number of bytes that follow a request's header: the key and, for a put, its value.
func (h *Header) PayloadBytes() int {
	if h.Op == kv.OpPut {
		return int(h.KeyBytes) + int(h.ValueBytes)
	}
	return int(h.KeyBytes)
}

// Answers reports whether a reply has an answer, of ValueBytes.
func (h *Header) Answers() bool {
	return h.Status == kv.StatusOK && (h.Op == kv.OpGet || h.Op == kv.OpScan || h.Op == kv.OpStats)
}
