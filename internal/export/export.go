// Package export is a table of items in memory that a NIC reads for a client, without the server's CPU. It is
// direct-mapped, like a cache with one way: a key has one entry, with the last item that was put there. One
// loop writes it. Readers read the memory at any moment, and check by sequence number and checksum
// whether they have one complete item (as Pilaf does, Mitchell et al. 2013). It may import internal packages only.
package export

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/kvwire/kvwire/internal/arena"
)

// An entry, little-endian, at a multiple of 64 bytes:
//
//	 0 sequence number u64: 0 empty, odd while it is being written
//	 8 checksum u64: XXH64 of all that follows up to the end of the value, and of the sequence number
//	16 key bytes u16 | 18 zero u16 | 20 value bytes u32
//	24 key, value
//	   sequence number u64 again
const (
	sumAt     = 8
	lensAt    = 16
	headBytes = 24
	tailBytes = 8
)

// Shape is what a reader needs of a table besides its address.
type Shape struct {
	Entries    int // a power of two
	EntryBytes int
}

// Place returns the offset of a key's entry in the table.
func (s Shape) Place(key []byte) int { return s.Entry(key) * s.EntryBytes }

// place uses another hash than kv.Shard, whose keys all have its high bits in common.
func place(key []byte) uint32 {
	h := crc32.ChecksumIEEE(key)
	return h ^ h>>15
}

// ReadBytes returns the number of bytes of an entry to read for a key whose value has up to valueBytes.
func (s Shape) ReadBytes(keyBytes, valueBytes int) int {
	return min(headBytes+keyBytes+valueBytes+tailBytes, s.EntryBytes)
}

// Table is the writer's side. It belongs to one loop.
type Table struct {
	Shape
	mem *arena.Arena
	seq uint64 // of the last change, even
}

// New makes an empty table of that many entries (rounded up to a power of two), for items of up to itemBytes of key and value.
func New(entries, itemBytes int) (*Table, error) {
	if entries < 1 || entries > 1<<26 || itemBytes < 1 || itemBytes > 1<<20 {
		return nil, fmt.Errorf("export: %d entries for items of %d B: must be from 1 to 64 Mi entries and from 1 B to 1 MiB", entries, itemBytes)
	}
	s := Shape{1 << bits.Len(uint(entries-1)), (headBytes + itemBytes + tailBytes + 63) &^ 63}
	a, err := arena.NewShared(s.Entries * s.EntryBytes)
	if err != nil {
		return nil, err
	}
	return &Table{Shape: s, mem: a}, nil
}

// Arena is the table's memory, for registration.
func (t *Table) Arena() *arena.Arena { return t.mem }

// Close frees the memory. No NIC may have access to it any more.
func (t *Table) Close() error { return t.mem.Close() }

func (t *Table) entry(key []byte) []byte {
	at := t.Place(key)
	return t.mem.Bytes()[at : at+t.EntryBytes : at+t.EntryBytes]
}

// holds reports whether the entry has the key's item.
func holds(e, key []byte) bool {
	n := int(binary.LittleEndian.Uint16(e[lensAt:]))
	return binary.LittleEndian.Uint64(e) != 0 && n == len(key) && string(e[headBytes:headBytes+n]) == string(key)
}

// Put makes the present item of a key readable. If the entry has an item of the key, it is the present one, since Drop
// comes before each change. Items that are too large are left out.
func (t *Table) Put(key, value []byte) {
	e := t.entry(key)
	if headBytes+len(key)+len(value)+tailBytes > len(e) || holds(e, key) {
		return
	}
	t.begin(e)
	binary.LittleEndian.PutUint64(e[lensAt:], uint64(len(key))|uint64(len(value))<<32)
	n := headBytes + copy(e[headBytes:], key)
	n += copy(e[n:], value)
	t.seq += 2
	binary.LittleEndian.PutUint64(e[n:], t.seq)
	binary.LittleEndian.PutUint64(e[sumAt:], sum(t.seq, e[:n]))
	atomic.StoreUint64(arena.Word(e), t.seq)
}

// Offer is Put for an item that no get has read yet: it does not displace the item of another key. ok reports whether the item is readable.
func (t *Table) Offer(key, value []byte) (ok bool) {
	if e := t.entry(key); binary.LittleEndian.Uint64(e) != 0 && !holds(e, key) {
		return false
	}
	t.Put(key, value)
	return t.Holds(key)
}

// Holds reports whether a key's item is readable.
func (t *Table) Holds(key []byte) bool { return holds(t.entry(key), key) }

// Entry returns the number of a key's entry.
func (s Shape) Entry(key []byte) int { return int(place(key)) & (s.Entries - 1) }

// Drop makes a key unreadable: its item is about to change.
func (t *Table) Drop(key []byte) {
	if e := t.entry(key); holds(e, key) {
		t.begin(e)
		atomic.StoreUint64(arena.Word(e), 0)
	}
}

// begin marks an entry as being written. This store is visible before those that follow it: on amd64 always, elsewhere
// because Go's atomics are sequentially consistent. If a NIC sees another order, the checksum detects it.
func (t *Table) begin(e []byte) { atomic.StoreUint64(arena.Word(e), t.seq|1) }

// sum is the checksum of an entry with that sequence number, up to the end of its value.
func sum(seq uint64, e []byte) uint64 {
	return xxhash.Sum64(e[lensAt:]) ^ seq*0x9E3779B97F4A7C15 // odd: different numbers stay different
}

// The errors of Parse.
var (
	ErrMiss  = errors.New("export: the entry holds another key, or none")
	ErrTorn  = errors.New("export: the entry was being written")
	ErrShort = errors.New("export: the value is longer than the bytes that were read")
)

// Parse returns the key's value from the bytes of its entry. The value is a part of b. b is from a peer: any
// length and any content.
func Parse(b, key []byte) ([]byte, error) {
	if len(b) < headBytes+tailBytes {
		return nil, ErrMiss
	}
	seq := binary.LittleEndian.Uint64(b)
	if seq == 0 {
		return nil, ErrMiss
	}
	if seq&1 != 0 {
		return nil, ErrTorn
	}
	k, v := int(binary.LittleEndian.Uint16(b[lensAt:])), int(binary.LittleEndian.Uint32(b[lensAt+4:]))
	if k != len(key) || k > len(b)-headBytes || string(b[headBytes:headBytes+k]) != string(key) {
		return nil, ErrMiss
	}
	if v > len(b) || headBytes+k+v+tailBytes > len(b) {
		return nil, ErrShort
	}
	n := headBytes + k + v
	if binary.LittleEndian.Uint64(b[n:]) != seq || binary.LittleEndian.Uint64(b[sumAt:]) != sum(seq, b[:n]) {
		return nil, ErrTorn
	}
	return b[headBytes+k : n : n], nil
}
