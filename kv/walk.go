package kv

import (
	"encoding/binary"
	"math"
)

// A walk visits all keys, one partition after the other, page by page. Each partition chooses its own order. A request with OpKeys returns the keys of
// one page. No state of a walk is kept between requests: its position is in the request, and stays valid whatever happens to the keys. A walk returns each
// key that exists from the first page to the last exactly once, and a key that is added or deleted meanwhile at most once for each time that it is added.
// Every walk ends, however fast keys are added: a new key gets a place that the walk has passed, or a free place that existed when the walk came to the partition.

// Position is the place where a walk continues: the number of the partition in the upper 32 bits, and the number of a record in that partition in the lower 32.
type Position uint64

// PositionBytes is the length of a position in a request's Key.
const PositionBytes = 8

// Record numbers that every partition has. All others lie between these two; a walk goes from WalkStart down to WalkEnd.
const (
	WalkStart uint32 = math.MaxUint32 // before the first page
	WalkEnd   uint32 = 0              // after the last page
)

// PositionAt returns the position of a record in a partition.
func PositionAt(shard int, record uint32) Position { return Position(shard)<<32 | Position(record) }

// PositionIn reads a position from the Key of a request.
func PositionIn(key []byte) Position { return Position(binary.LittleEndian.Uint64(key)) }

// Put writes a position to the Key of a request.
func (p Position) Put(key []byte) { binary.LittleEndian.PutUint64(key, uint64(p)) }

// Shard returns the partition of the position. The partition may not exist.
func (p Position) Shard() int { return int(p >> 32) }

// Record returns the number of the record in the partition.
func (p Position) Record() uint32 { return uint32(p) }

// Next returns the position after a page; record is Record of the page's request. ok is false after the last page of the last partition.
func (p Position) Next(record uint32, shards int) (next Position, ok bool) {
	if record != WalkEnd {
		return PositionAt(p.Shard(), record), true
	}
	return PositionAt(p.Shard()+1, WalkStart), p.Shard()+1 < shards
}
