package index

import (
	"encoding/binary"

	"github.com/kvwire/kvwire/internal/arena"
)

// Flags are bits that the store keeps for a key, besides the place of its item. The index only stores them.
type Flags uint8

// blobHeap stores blobs in mapped memory, outside the garbage collector's heap, in units of 4 bytes: so a number of 4 bytes
// can address 16 GiB. A blob never moves.
type blobHeap struct {
	chunks [][]byte
	arenas []*arena.Arena
	used   int                                              // bytes of the last chunk
	inUse  int                                              // bytes in blobs
	freed  [(headBytes+KeyBytesMax)/keyUnitBytes + 1]uint32 // by number of units: the last freed blob, which contains the number of the one freed before. 0: none
}

// recordHeap stores records: a head and a key. It has the first record of each block of units. So walks find records without the tree, in
// the order of their numbers, which does not change when keys are added or deleted: they read the heads from the first one of a block on.
type recordHeap struct {
	blobHeap
	firsts [][]uint8 // of each chunk: for each block the unit at which the first record in it begins, from 1 on; 0: none does
}

// separatorHeap stores separators: a length and a key.
type separatorHeap struct{ blobHeap }

const (
	keyUnitBytes  = 4
	keyChunkShift = 23 // of units
	keyChunkMask  = 1<<keyChunkShift - 1

	blockUnits  = 64                              // 1 B for 256
	firstsBytes = 1 << keyChunkShift / blockUnits // of a chunk
)

// The head of a record: slot u32, class u8, flags u8, length of the key u16. A freed record keeps its length, with freedBit.
const (
	headSlot     = 0
	headClass    = 4
	headFlags    = 5
	headKeyBytes = 6
	headBytes    = 8

	freedBit = 1 << 15
)

// separatorHeadBytes is for the length.
const separatorHeadBytes = 2

func keyUnits(n int) int { return (n + keyUnitBytes - 1) / keyUnitBytes }

// at returns the memory from a blob on.
func (h *blobHeap) at(ref uint32) []byte {
	return h.chunks[ref>>keyChunkShift][int(ref&keyChunkMask)*keyUnitBytes:]
}

// alloc returns the number of a blob with room for n bytes, never 0; ok is false if there is no memory.
func (h *blobHeap) alloc(n int) (ref uint32, ok bool) {
	u := keyUnits(n)
	if ref = h.freed[u]; ref != 0 {
		h.freed[u] = binary.LittleEndian.Uint32(h.at(ref))
	} else if ref, ok = h.fresh(u); !ok {
		return 0, false
	}
	h.inUse += u * keyUnitBytes
	return ref, true
}

func (h *blobHeap) fresh(units int) (ref uint32, ok bool) {
	if len(h.chunks) == 0 || h.used+units*keyUnitBytes > indexChunkBytes {
		if len(h.chunks) == 1<<32>>keyChunkShift {
			return 0, false
		}
		a, err := indexChunk(len(h.chunks))
		if err != nil {
			return 0, false
		}
		h.arenas = append(h.arenas, a)
		h.chunks = append(h.chunks, a.Bytes())
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
func (h *blobHeap) free(ref uint32, n int) {
	u := keyUnits(n)
	binary.LittleEndian.PutUint32(h.at(ref), h.freed[u])
	h.freed[u] = ref
	h.inUse -= u * keyUnitBytes
}

// add stores a copy of key, with a head that is zero except for the length.
func (h *recordHeap) add(key []byte) (rec uint32, ok bool) {
	if rec, ok = h.alloc(headBytes + len(key)); !ok {
		return 0, false
	}
	if c := int(rec >> keyChunkShift); c == len(h.firsts) {
		h.firsts = append(h.firsts, make([]uint8, firstsBytes))
	}
	if first := h.firstOf(rec); *first == 0 { // blobs are made in the order of their numbers
		*first = uint8(rec%blockUnits) + 1
	}
	b := h.at(rec)
	clear(b[:headBytes])
	binary.LittleEndian.PutUint16(b[headKeyBytes:], uint16(len(key)))
	copy(b[headBytes:], key)
	return rec, true
}

// firstOf returns the first record of the block of a number.
func (h *recordHeap) firstOf(rec uint32) *uint8 {
	return &h.firsts[rec>>keyChunkShift][rec&keyChunkMask/blockUnits]
}

// end returns a number above those of all records.
func (h *recordHeap) end() uint32 {
	if len(h.chunks) == 0 {
		return 0
	}
	return uint32((len(h.chunks)-1)<<keyChunkShift + h.used/keyUnitBytes - 1)
}

// Before finds the record with the highest number below *mark, and sets *mark to that number. It uses up one of *steps for each 64 numbers that it checks. ok is
// false in two cases: no record is left, and *mark is 0; or the steps are used up, and numbers below *mark were not checked. Any mark is valid.
func (x *Index) Before(mark *uint32, steps *int) (ok bool) { return x.records.before(mark, steps) }

func (h *recordHeap) before(mark *uint32, steps *int) (ok bool) {
	*mark = min(*mark, h.end())
	for *mark > 0 && *steps > 0 {
		*steps--
		block := (*mark - 1) &^ (blockUnits - 1)
		rec, found := uint32(0), false
		if first := *h.firstOf(block); first > 0 {
			for at := block + uint32(first) - 1; at < *mark; {
				n, freed, is := h.lengthAt(at)
				if !is {
					break
				}
				if !freed {
					rec, found = at, true
				}
				at += uint32(keyUnits(headBytes + n))
			}
		}
		if found {
			*mark = rec
			return true
		}
		*mark = block
	}
	return false
}

// lengthAt returns the length of the key of the record or freed record that begins at a number; ok is false at the end of a chunk.
func (h *recordHeap) lengthAt(rec uint32) (n int, freed, ok bool) {
	b := h.at(rec)
	if len(b) < headBytes {
		return 0, false, false
	}
	n = int(binary.LittleEndian.Uint16(b[headKeyBytes:]))
	return n &^ freedBit, n&freedBit != 0, n != 0
}

func (h *recordHeap) key(rec uint32) []byte {
	b := h.at(rec)
	end := headBytes + int(binary.LittleEndian.Uint16(b[headKeyBytes:]))
	return b[headBytes:end:end]
}

func (h *recordHeap) remove(rec uint32) {
	n := len(h.key(rec))
	h.free(rec, headBytes+n)
	binary.LittleEndian.PutUint16(h.at(rec)[headKeyBytes:], uint16(n)|freedBit)
}

func (h *recordHeap) bytes() int {
	if len(h.firsts) == 0 {
		return 0
	}
	return h.blobHeap.bytes() + (len(h.firsts)-1)*firstsBytes + h.used/(blockUnits*keyUnitBytes) + 1
}

// add stores a copy of a separator.
func (h *separatorHeap) add(key []byte) (ref uint32, ok bool) {
	if ref, ok = h.alloc(separatorHeadBytes + len(key)); !ok {
		return 0, false
	}
	b := h.at(ref)
	binary.LittleEndian.PutUint16(b, uint16(len(key)))
	copy(b[separatorHeadBytes:], key)
	return ref, true
}

func (h *separatorHeap) key(ref uint32) []byte {
	b := h.at(ref)
	end := separatorHeadBytes + int(binary.LittleEndian.Uint16(b))
	return b[separatorHeadBytes:end:end]
}

func (h *separatorHeap) remove(ref uint32) { h.free(ref, separatorHeadBytes+len(h.key(ref))) }

func (h *blobHeap) bytes() int { return indexChunksBytes(len(h.chunks), h.used) }

// close frees the memory. The heap is empty then, and may be used again.
func (h *blobHeap) close() {
	closeAll(h.arenas)
	*h = blobHeap{}
}

func (h *recordHeap) close() {
	h.blobHeap.close()
	h.firsts = nil
}
