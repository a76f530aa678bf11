package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

// A value identifies itself. It has a header
//
//	record id u64 | version u64 | seed u32 | CRC32C of these 20 bytes u32      (little-endian)
//
// and a fill from a pool that is the same in every process, in pieces of pieceBytes. The place of a piece in the pool
// follows from the header and the piece's number. So all bytes of a value can be checked without knowing its writer, and
// a piece of another value, of another version, or in another place is detected.
//
// A value shorter than the header has only fill, from a place that follows from the record id: it
// identifies the record (1 byte: with 1 in 256), but not the version.
const (
	valueHeaderBytes = 24
	poolBytes        = 64 << 10 // two pages of places per piece; stays in the L2 cache
	pieceBytes       = 16 << 10
)

var (
	pool   = newPool()
	crc32c = crc32.MakeTable(crc32.Castagnoli)
)

func newPool() []byte {
	b := make([]byte, poolBytes+pieceBytes)
	rng := rand.New(rand.NewPCG(0x6b767769, 0x72650001))
	for i := 0; i < poolBytes; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	copy(b[poolBytes:], b)
	return b
}

// mixBits spreads a number over 64 bits (the finalizer of splitmix64; Steele et al. 2014).
func mixBits(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// piece returns piece i of a fill, of n bytes, at most pieceBytes.
func piece(place uint64, i, n int) []byte {
	at := mixBits(place+uint64(i)) % poolBytes
	return pool[at : int(at)+n]
}

func place(id, version uint64, seed uint32) uint64 {
	return mixBits(mixBits(id)^version) ^ uint64(seed)
}

// fillValue writes version of record id into all of v.
func fillValue(v []byte, id, version uint64, seed uint32) {
	p := place(id, 0, 0)
	if len(v) >= valueHeaderBytes {
		binary.LittleEndian.PutUint64(v, id)
		binary.LittleEndian.PutUint64(v[8:], version)
		binary.LittleEndian.PutUint32(v[16:], seed)
		binary.LittleEndian.PutUint32(v[20:], crc32.Checksum(v[:20], crc32c))
		p, v = place(id, version, seed), v[valueHeaderBytes:]
	}
	for i := 0; len(v) > 0; i++ {
		n := copy(v, piece(p, i, min(len(v), pieceBytes)))
		v = v[n:]
	}
}

// valueVersion is the version of a value that is at least valueHeaderBytes long.
func valueVersion(v []byte) uint64 { return binary.LittleEndian.Uint64(v[8:]) }

// fault is what is wrong with a value that was read.
type fault uint8

const (
	faultNone    fault = iota
	faultLength        // not valueBytes long
	faultHeader        // the header's checksum does not fit
	faultRecord        // whole, but another record's
	faultFill          // the bytes after the header are not those of that record and version
	faultKey           // scan: not a key of ours
	faultOrder         // scan: not above the key before it, or below the first
	faultItems         // scan: more items than asked for
	faultForm          // scan: the answer does not end with a whole item
	faultVersion       // trace: a version that no row of this record wrote
)

var faultNames = [...]string{"right", "a wrong length", "a corrupt header", "another record's value", "corrupt bytes",
	"a key that is none of ours", "keys out of order", "too many items", "an answer that is cut off",
	"a version that the trace does not have"}

// checkValue checks that v is a version of record id, of valueBytes.
func checkValue(v []byte, id uint64, valueBytes int) fault {
	if len(v) != valueBytes {
		return faultLength
	}
	p := place(id, 0, 0)
	if len(v) >= valueHeaderBytes {
		if binary.LittleEndian.Uint32(v[20:]) != crc32.Checksum(v[:20], crc32c) {
			return faultHeader
		}
		if binary.LittleEndian.Uint64(v) != id {
			return faultRecord
		}
		p, v = place(id, binary.LittleEndian.Uint64(v[8:]), binary.LittleEndian.Uint32(v[16:])), v[valueHeaderBytes:]
	}
	for i := 0; len(v) > 0; i++ {
		n := min(len(v), pieceBytes)
		if !bytes.Equal(v[:n], piece(p, i, n)) {
			return faultFill
		}
		v = v[n:]
	}
	return faultNone
}

// describe describes a fault. It allocates, so it is for the first fault of a thread only.
func describe(f fault, kind Kind, id uint64, v []byte) string {
	s := fmt.Sprintf("%s of record %d returned %s", kind, id, name(faultNames[:], int(f)))
	if kind == Scan {
		return s
	}
	s += fmt.Sprintf(" (%d B", len(v))
	if len(v) >= valueHeaderBytes {
		s += fmt.Sprintf("; header: record %d version %#x seed %#x", binary.LittleEndian.Uint64(v), binary.LittleEndian.Uint64(v[8:]), binary.LittleEndian.Uint32(v[16:]))
	}
	if f == faultLength {
		s += "; set --value-bytes and --value-dist as when the store was loaded"
	}
	return s + ")"
}
