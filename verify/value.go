package verify

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/kvwire/kvwire/kv"
)

// A value says what it is: one piece, and behind it one more for each append,
//
//	id u64 | bytes of the piece u32 | CRC32C of the rest of the piece u32 | filling      (little-endian)
//
// An id is written once, and the filling follows from it. So what is read names who wrote it, whole, or is found to be torn or mixed.
const pieceHeadBytes = 16

// valueBytesMax is above what any value here has; with appends it becomes this much at most.
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

// absent is the state of a key that is not there.
const absent = "-"

// stateOf is what a key's value says it is: the ids of its pieces, or a counter's number. What no client has written gives a state
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

// counted is the state of a counter.
func counted(n int64) string { return strconv.Quote(strconv.FormatInt(n, 10)) }

// An id is the writer's process, its worker, and the number of the operation.
const (
	workerBits = 8
	numberBits = 40
)

func idOf(process, worker, number int) uint64 {
	return uint64(process)<<(workerBits+numberBits) | uint64(worker)<<numberBits | uint64(number)
}

// name is an id as it is told to people: process.worker.number.
func name(id uint64) string {
	return fmt.Sprintf("%d.%d.%d", id>>(workerBits+numberBits), id>>numberBits&(1<<workerBits-1), id&(1<<numberBits-1))
}

// Keys of a history are "h", its number, and "k" or, of counters, "n" with a number. All that a scan finds behind them are the fillers.
func registerKey(history, i int) string { return fmt.Sprintf("h%06d.k%d", history, i) }
func counterKey(history, i int) string  { return fmt.Sprintf("h%06d.n%d", history, i) }
func isCounter(key string) bool         { return len(key) > 8 && key[8] == 'n' }

// Fillers are put before the first history and never change: they see to it that pages of others leave a small cache.
const (
	fillers     = 600
	fillerBytes = 1500
)

func fillerKey(i int) string   { return fmt.Sprintf("z%04d", i) }
func fillerState(i int) string { return name(idOf(0, 0, i)) }
