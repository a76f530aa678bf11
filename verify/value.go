package verify

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/kvwire/kvwire/kv"
)

// A value identifies its writers. It has one piece, and one more for each append,
//
//	id u64 | bytes of the piece u32 | CRC32C of the rest of the piece u32 | filling      (little-endian)
//
// An id is written once, and the filling follows from it. So a value that is read either names its writers or is detected as torn or mixed.
const pieceHeadBytes = 16

// valueBytesMax bounds the size of a value, with all appends.
const valueBytesMax = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendPiece adds a piece of n bytes, at least pieceHeadBytes.
func appendPiece(b []byte, id uint64, n int) []byte {
	from := len(b)
	b = binary.LittleEndian.AppendUint64(b, id)
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	b = append(b, 0, 0, 0, 0)
	for x := id; len(b)-from < n; {
		x = x*6364136223846793005 + 1442695040888963407 // Knuth's MMIX
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	b = b[:from+n]
	binary.LittleEndian.PutUint32(b[from+12:], sum(b[from:]))
	return b
}

func sum(piece []byte) uint32 {
	return crc32.Update(crc32.Checksum(piece[:12], castagnoli), castagnoli, piece[pieceHeadBytes:])
}

// absent is the state of a key without a value.
const absent = "-"

// stateOf returns the state of a key with this value: the ids of its pieces, or a counter's number. A value that no client has written gives a state
// that no history explains.
func stateOf(key string, value []byte) string {
	if isCounter(key) {
		return fmt.Sprintf("%.*q", kv.AddBytes+1, value)
	}
	var ids []string
	for rest := value; len(rest) > 0 || len(ids) == 0; {
		n := uint64(len(rest))
		if n >= pieceHeadBytes {
			n = uint64(binary.LittleEndian.Uint32(rest[8:]))
		}
		if n < pieceHeadBytes || n > uint64(len(rest)) || binary.LittleEndian.Uint32(rest[12:]) != sum(rest[:n]) {
			return fmt.Sprintf("torn or mixed: %d bytes, of which %d are whole pieces %s", len(value), len(value)-len(rest), strings.Join(ids, "+"))
		}
		ids = append(ids, name(binary.LittleEndian.Uint64(rest)))
		rest = rest[n:]
	}
	return strings.Join(ids, "+")
}

// counted returns the state of a counter.
func counted(n int64) string { return strconv.Quote(strconv.FormatInt(n, 10)) }

// An id is the writer's process, its worker, and the number of the operation.
const (
	workerBits = 8
	numberBits = 40
)

func idOf(process, worker, number int) uint64 {
	return uint64(process)<<(workerBits+numberBits) | uint64(worker)<<numberBits | uint64(number)
}

// name formats an id: process.worker.number.
func name(id uint64) string {
	return fmt.Sprintf("%d.%d.%d", id>>(workerBits+numberBits), id>>numberBits&(1<<workerBits-1), id&(1<<numberBits-1))
}

// Keys of a history are "h", its number, and "k" or, of counters, "n" with a number. The fillers are after them in the order of scans.
func registerKey(history, i int) string { return fmt.Sprintf("h%06d.k%d", history, i) }
func counterKey(history, i int) string  { return fmt.Sprintf("h%06d.n%d", history, i) }
func isCounter(key string) bool         { return len(key) > 8 && key[8] == 'n' }

// Fillers are put before the first history and never change: they displace other pages from a small cache.
const (
	fillers     = 600
	fillerBytes = 1500
)

func fillerKey(i int) string   { return fmt.Sprintf("z%04d", i) }
func fillerState(i int) string { return name(idOf(0, 0, i)) }
