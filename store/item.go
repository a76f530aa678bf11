package store

import (
	"encoding/binary"
	"hash/crc32"
)

// An item as it lies in its slot, little-endian:
//
//	 0  magic       u8   itemMagic: a slot that was never used is zero here
//	 1  kind        u8   kindLive or kindTombstone
//	 2  key bytes   u16
//	 4  value bytes u32
//	 8  sequence    u64  of the partition: the highest wins among copies of a key
//	16  value sum   u32  CRC32C of the value
//	20  head sum    u32  CRC32C of bytes 0 to 19 and the key
//	24  key, value
//
// There are two sums, so that damage to a value leaves it known whose value is lost. A tombstone
// has neither key nor value: it frees its slot and keeps the sequence.
const (
	headerBytes = 24
	itemMagic   = 0xA7

	kindLive      = 1
	kindTombstone = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// itemBytes is what an item takes in its slot.
func itemBytes(keyBytes, valueBytes int) int { return headerBytes + keyBytes + valueBytes }

// encodeItem writes an item to the start of dst, which has room for it, and returns its length.
func encodeItem(dst, key, value []byte, seq uint64) int {
	h := dst[:headerBytes]
	h[0], h[1] = itemMagic, kindLive
	binary.LittleEndian.PutUint16(h[2:], uint16(len(key)))
	binary.LittleEndian.PutUint32(h[4:], uint32(len(value)))
	binary.LittleEndian.PutUint64(h[8:], seq)
	binary.LittleEndian.PutUint32(h[16:], crc32.Checksum(value, castagnoli))
	binary.LittleEndian.PutUint32(h[20:], headSum(h, key))
	n := headerBytes + copy(dst[headerBytes:], key)
	return n + copy(dst[n:], value)
}

// encodeTombstone frees the slot at the start of dst.
func encodeTombstone(dst []byte, seq uint64) {
	h := dst[:headerBytes]
	clear(h)
	h[0], h[1] = itemMagic, kindTombstone
	binary.LittleEndian.PutUint64(h[8:], seq)
	binary.LittleEndian.PutUint32(h[20:], headSum(h, nil))
}

func headSum(h, key []byte) uint32 {
	return crc32.Update(crc32.Checksum(h[:20], castagnoli), castagnoli, key)
}

// verdict is what a slot turns out to hold.
type verdict uint8

const (
	slotUnused    verdict = iota // zero: never written
	slotTombstone                // freed
	slotLive                     // an item, whole
	slotBroken                   // header and key are whole, the value is not
	slotGarbage                  // nothing that can be trusted
)

// item is a slot's contents. key and value point into the slot.
type item struct {
	key, value []byte
	seq        uint64
}

// parseSlot reads a slot, or as much of it as its item can take, from b and checks both sums.
// It trusts nothing that it reads.
func parseSlot(b []byte) (item, verdict) {
	if len(b) < headerBytes {
		return item{}, slotGarbage
	}
	h := b[:headerBytes]
	if h[0] == 0 && zero(h) {
		return item{}, slotUnused
	}
	it, ok := peekItem(b)
	if h[0] != itemMagic || !ok || binary.LittleEndian.Uint32(h[20:]) != headSum(h, it.key) {
		return item{}, slotGarbage
	}
	switch {
	case h[1] == kindTombstone && len(it.key) == 0 && len(it.value) == 0:
		return it, slotTombstone
	case h[1] != kindLive || len(it.key) == 0 || len(it.key) > KeyBytesMax:
		return item{}, slotGarbage
	case binary.LittleEndian.Uint32(h[16:]) != crc32.Checksum(it.value, castagnoli):
		return it, slotBroken
	}
	return it, slotLive
}

// peekItem reads a slot without checking the sums: for slots that were checked before, or
// written by this process. ok is false when the lengths leave b.
func peekItem(b []byte) (it item, ok bool) {
	k, v := int(binary.LittleEndian.Uint16(b[2:])), int(binary.LittleEndian.Uint32(b[4:]))
	if k > len(b)-headerBytes || v > len(b)-headerBytes-k {
		return item{}, false
	}
	it.key = b[headerBytes : headerBytes+k]
	it.value = b[headerBytes+k : headerBytes+k+v]
	it.seq = binary.LittleEndian.Uint64(b[8:])
	return it, true
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
