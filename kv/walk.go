package kv

import (
	"encoding/binary"
	"math"
)

// A walk visits all keys, partition by partition and page by page, in an order of each partition's own: of OpKeys, a request has the keys of one page.
// Nobody remembers a walk: where it goes on is in its position, which stays good whatever happens to the keys meanwhile. It gives each key
// that is there from its first page to its last exactly once, and a key that comes or goes meanwhile at most once for each time that it comes. It
// ends, however fast keys come: what is new lies behind it, or where it has not been but where there was room before it came.

// Position is where a walk goes on: the partition, in the upper 32 bits, and a mark of that partition's.
type Position uint64

// PositionBytes is a position's length as a request's Key.
const PositionBytes = 8

// Marks that all partitions have. From MarkFirst on they have others, down to MarkEnd.
const (
	MarkFirst uint32 = math.MaxUint32 // before the first page
	MarkEnd   uint32 = 0              // behind the last one
)

// PositionAt is a partition's mark.
func PositionAt(shard int, mark uint32) Position { return Position(shard)<<32 | Position(mark) }

// PositionIn reads a position from the Key of a request.
func PositionIn(key []byte) Position { return Position(binary.LittleEndian.Uint64(key)) }

// Put writes a position to the Key of a request.
func (p Position) Put(key []byte) { binary.LittleEndian.PutUint64(key, uint64(p)) }

// Shard is the partition that has the position. It may be one that there is not.
func (p Position) Shard() int { return int(p >> 32) }

// Mark is the partition's.
func (p Position) Mark() uint32 { return uint32(p) }

// Next is the position behind a page, whose request has ended with a mark in Need; ok is false behind the last page of the last partition.
func (p Position) Next(mark uint32, shards int) (next Position, ok bool) {
	if mark != MarkEnd {
		return PositionAt(p.Shard(), mark), true
	}
	return PositionAt(p.Shard()+1, MarkFirst), p.Shard()+1 < shards
}
