package resp

import (
	"crypto/rand"
	"encoding/binary"
	"strconv"

	"github.com/kvwire/kvwire/kv"
)

// Cursors turns positions of a walk into SCAN's cursors, and back. A cursor is the position itself, 48 bits, below 15 bits that a server has picked when it started: so none
// has to be remembered, or can be forgotten, and one of another server, or from before a restart, is known for what it is. Clients take a cursor for a
// decimal number of 64 bits, some with a sign.
type Cursors struct{ server uint64 }

// NewCursors picks a server's.
func NewCursors() Cursors {
	var b [2]byte
	_, _ = rand.Read(b[:])
	return Cursors{uint64(binary.LittleEndian.Uint16(b[:])>>1) << positionBits}
}

const positionBits = 48 // 16 of the partition, 32 of its mark

// ErrCursor is for a cursor that is not one of this server's.
const ErrCursor = "ERR invalid cursor: it is not this server's, or from before its last start: begin again at 0"

// Of is the cursor of a position.
func (c Cursors) Of(at kv.Position) uint64 { return c.server | uint64(at) }

// Position is where a SCAN goes on; of cursor 0 the beginning. ok is false where the cursor is not one that a server with so many partitions has given.
func (c Cursors) Position(cursor uint64, shards int) (at kv.Position, ok bool) {
	if cursor == 0 {
		return kv.PositionAt(0, kv.MarkFirst), true
	}
	at = kv.Position(cursor & (1<<positionBits - 1))
	return at, cursor&^(1<<positionBits-1) == c.server && at.Shard() < shards && at.Mark() != kv.MarkEnd
}

// AppendScan appends SCAN's answer as far as its keys, n of which follow as bulk strings.
func AppendScan(b []byte, cursor uint64, n int) []byte {
	var digits [20]byte
	b = AppendArray(b, 2)
	b = AppendBulk(b, string(strconv.AppendUint(digits[:0], cursor, 10)))
	return AppendArray(b, n)
}
