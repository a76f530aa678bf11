package index

import (
	"encoding/binary"
	"math/bits"

	"github.com/kvwire/kvwire/internal/arena"
)

// Flags are bits that the store keeps for a key, besides the place of its item. The index only stores them.
type Flags uint8

// keyHeap stores blobs in mapped memory, outside the garbage collector's heap, in units of 4 bytes: so a number of 4 bytes
// can address 16 GiB. A blob never moves. There are two kinds: a record is a head and a key; a separator is a length and a
// key. A bitmap has a bit for each unit at which a record begins. With it walks find records without the tree, in the order
// of their numbers, which does not change when keys are added or deleted.
type keyHeap struct {
	chunks [][]byte
	begins [][]uint64 // of each chunk: the map
	arenas []*arena.Arena
	used   int                                              // bytes of the last chunk
	inUse  int                                              // bytes in blobs
	freed  [(headBytes+KeyBytesMax)/keyUnitBytes + 1]uint32 // by number of units: the last freed blob, which contains the number of the one freed before. 0: none
}

const (
	keyUnitBytes  = 4
	keyChunkShift = 23 // of units
	keyChunkMask  = 1<<keyChunkShift - 1

	keyMapBytes = 1 << keyChunkShift / 8 // of a chunk: 1 B for a record of 32
)

// The head of a record: slot u32, class u8, flags u8, length of the key u16.
const (
	headSlot     = 0
	headClass    = 4
	headFlags    = 5
	headKeyBytes = 6
	headBytes    = 8
)

// separatorHeadBytes is for the length.
const separatorHeadBytes = 2

func keyUnits(n int) int { return (n + keyUnitBytes - 1) / keyUnitBytes }

// at returns the memory from a blob on.
func (h *keyHeap) at(ref uint32) []byte {
	return h.chunks[ref>>keyChunkShift][int(ref&keyChunkMask)*keyUnitBytes:]
}

// alloc returns the number of a blob with room for n bytes, never 0; ok is false if there is no memory.
func (h *keyHeap) alloc(n int) (ref uint32, ok bool) {
	u := keyUnits(n)
	if ref = h.freed[u]; ref != 0 {
		h.freed[u] = binary.LittleEndian.Uint32(h.at(ref))
	} else if ref, ok = h.fresh(u); !ok {
		return 0, false
	}
	h.inUse += u * keyUnitBytes
	return ref, true
}

func (h *keyHeap) fresh(units int) (ref uint32, ok bool) {
	if len(h.chunks) == 0 || h.used+units*keyUnitBytes > indexChunkBytes {
		if len(h.chunks) == 1<<32>>keyChunkShift {
			return 0, false
		}
		a, err := indexChunk(len(h.chunks))
		if err != nil {
			return 0, false
		}
		m, err := arena.New(keyMapBytes)
		if err != nil {
			_ = a.Close()
			return 0, false
		}
		h.arenas = append(h.arenas, a, m)
		h.chunks = append(h.chunks, a.Bytes())
		h.begins = append(h.begins, arena.Of[uint64](m))
		h.used = 0
		if len(h.chunks) == 1 {
			h.used = keyUnitBytes // number 0 is never used
		}
	}
	ref = uint32((len(h.chunks)-1)<<keyChunkShift + h.used/keyUnitBytes)
	h.used += units * keyUnitBytes
	return ref, true
}

// free frees a blob of n bytes, for reuse by a blob with as many units.
func (h *keyHeap) free(ref uint32, n int) {
	u := keyUnits(n)
	binary.LittleEndian.PutUint32(h.at(ref), h.freed[u])
	h.freed[u] = ref
	h.inUse -= u * keyUnitBytes
}

// addRecord stores a copy of key, with a head that is zero except for the length.
func (h *keyHeap) addRecord(key []byte) (rec uint32, ok bool) {
	if rec, ok = h.alloc(headBytes + len(key)); !ok {
		return 0, false
	}
	b := h.at(rec)
	clear(b[:headBytes])
	binary.LittleEndian.PutUint16(b[headKeyBytes:], uint16(len(key)))
	copy(b[headBytes:], key)
	word, bit := h.beginBit(rec)
	*word |= bit
	return rec, true
}

// beginBit returns the bit of a record in the bitmap.
func (h *keyHeap) beginBit(rec uint32) (word *uint64, bit uint64) {
	return &h.begins[rec>>keyChunkShift][rec&keyChunkMask/64], 1 << (rec % 64)
}

// end returns a number above those of all records.
func (h *keyHeap) end() uint32 {
	if len(h.chunks) == 0 {
		return 0
	}
	return uint32((len(h.chunks)-1)<<keyChunkShift + h.used/keyUnitBytes - 1)
}

// Before finds the record with the highest number below *mark, and sets *mark to that number. It uses up one of *steps for each 64 numbers that it checks. ok is
// false in two cases: no record is left, and *mark is 0; or the steps are used up, and numbers below *mark were not checked. Any mark is valid.
func (x *Index) Before(mark *uint32, steps *int) (ok bool) { return x.heap.before(mark, steps) }

func (h *keyHeap) before(mark *uint32, steps *int) (ok bool) {
	*mark = min(*mark, h.end())
	for *mark > 0 && *steps > 0 {
		*steps--
		n := *mark - 1 // the highest to look at
		word, _ := h.beginBit(n)
		if w := *word << (63 - n%64); w != 0 {
			*mark = n - uint32(bits.LeadingZeros64(w))
			return true
		}
		*mark = n &^ 63
	}
	return false
}

func (h *keyHeap) record(rec uint32) []byte {
	b := h.at(rec)
	end := headBytes + int(binary.LittleEndian.Uint16(b[headKeyBytes:]))
	return b[headBytes:end:end]
}

func (h *keyHeap) freeRecord(rec uint32) {
	word, bit := h.beginBit(rec)
	*word &^= bit
	h.free(rec, headBytes+len(h.record(rec)))
}

// addSeparator stores a copy of a separator.
func (h *keyHeap) addSeparator(key []byte) (ref uint32, ok bool) {
	if ref, ok = h.alloc(separatorHeadBytes + len(key)); !ok {
		return 0, false
	}
	b := h.at(ref)
	binary.LittleEndian.PutUint16(b, uint16(len(key)))
	copy(b[separatorHeadBytes:], key)
	return ref, true
}

func (h *keyHeap) separator(ref uint32) []byte {
	b := h.at(ref)
	end := separatorHeadBytes + int(binary.LittleEndian.Uint16(b))
	return b[separatorHeadBytes:end:end]
}

func (h *keyHeap) freeSeparator(ref uint32) { h.free(ref, separatorHeadBytes+len(h.separator(ref))) }

func (h *keyHeap) bytes() int {
	if len(h.chunks) == 0 {
		return 0
	}
	maps := (len(h.chunks)-1)*keyMapBytes + roundUp(h.used/keyUnitBytes/8+1, arena.PageBytes)
	return indexChunksBytes(len(h.chunks), h.used) + maps
}

func (h *keyHeap) close() {
	closeAll(h.arenas)
	*h = keyHeap{}
}
