package resp

import (
	"crypto/rand"
	"encoding/binary"
	"strconv"

	"github.com/kvwire/kvwire/kv"
)

// Cursors converts positions of a walk to SCAN's cursors, and back. The lower 48 bits of a cursor are the position, and the next 15 bits are a number that the server
// chose at its start. So the server keeps no cursors, and can detect cursors of another server or from before a restart. For clients a cursor is a
// decimal number of 64 bits, for some of them with a sign.
type Cursors struct{ server uint64 }

// NewCursors chooses a server's number.
func NewCursors() Cursors {
	var b [2]byte
	_, _ = rand.Read(b[:])
	return Cursors{uint64(binary.LittleEndian.Uint16(b[:])>>1) << positionBits}
}

const positionBits = 48 // 16 for the partition, 32 for the record

// ErrCursor is the error for a cursor that this server did not give.
const ErrCursor = "ERR invalid cursor: it is from another server, or from before a restart: begin again at 0"

// Of returns the cursor of a position.
func (c Cursors) Of(at kv.Position) uint64 { return c.server | uint64(at) }

// Position returns the position of a cursor: for cursor 0, the beginning of a walk. ok is false if this server, with that many partitions, did not give the cursor.
func (c Cursors) Position(cursor uint64, shards int) (at kv.Position, ok bool) {
	if cursor == 0 {
		return kv.PositionAt(0, kv.WalkStart), true
	}
	at = kv.Position(cursor & (1<<positionBits - 1))
	return at, cursor&^(1<<positionBits-1) == c.server && at.Shard() < shards && at.Record() != kv.WalkEnd
}

// AppendScan appends the part of SCAN's answer before the keys; n keys must follow as bulk strings.
func AppendScan(b []byte, cursor uint64, n int) []byte {
	var digits [20]byte
	b = AppendArray(b, 2)
	b = AppendBulk(b, string(strconv.AppendUint(digits[:0], cursor, 10)))
	return AppendArray(b, n)
}
