package store

import (
	"encoding/binary"
	"hash/crc32"
)

// The layout of an item in its slot, little-endian:
//
//	 0  magic       u8   itemMagic: a slot that was never used is zero here
//	 1  kind        u8   kindLive, kindOver or kindTombstone
//	 2  key bytes   u16
//	 4  value bytes u32
//	 8  sequence    u48  of the partition: the highest wins among copies of a key
//	14  behind      u16  every change up to sequence - behind was on disk when this one was written; behindUnknown: not known
//	16  value sum   u32  CRC32C of the value
//	20  head sum    u32  CRC32C of bytes 0 to 19 and the key
//	24  key, value
//
// There are two sums, so that the key of a damaged value is still known. A tombstone has a key and no value: older copies of the key do not
// count.
const (
	headerBytes = 24
	itemMagic   = 0xA7

	kindLive      = 1
	kindTombstone = 2
	kindOver      = 3 // a live item that has overwritten the previous one (UpdateInPlace)

	behindUnknown = 1<<16 - 1
	seqMax        = 1<<48 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// itemBytes returns the number of bytes that an item needs in its slot.
func itemBytes(keyBytes, valueBytes int) int { return headerBytes + keyBytes + valueBytes }

// stamp is the data of an item besides its key and value.
type stamp struct {
	kind   uint8
	seq    uint64
	behind uint16
}

// onDisk returns the sequence number up to which all changes were on disk when the item was written; 0: not known.
func (s stamp) onDisk() uint64 {
	if s.behind == behindUnknown || uint64(s.behind) > s.seq {
		return 0
	}
	return s.seq - uint64(s.behind)
}

// encodeItem writes an item to the start of dst, which has room for it, and returns its length.
func encodeItem(dst, key, value []byte, s stamp) int {
	n := encodeWithoutSums(dst, key, value, s)
	h := dst[:headerBytes]
	binary.LittleEndian.PutUint32(h[16:], crc32.Checksum(value, castagnoli))
	binary.LittleEndian.PutUint32(h[20:], headSum(h, key))
	return n
}

// encodeWithoutSums is encodeItem without the sums.
func encodeWithoutSums(dst, key, value []byte, s stamp) int {
	h := dst[:headerBytes]
	h[0], h[1] = itemMagic, s.kind
	binary.LittleEndian.PutUint16(h[2:], uint16(len(key)))
	binary.LittleEndian.PutUint32(h[4:], uint32(len(value)))
	binary.LittleEndian.PutUint64(h[8:], s.seq|uint64(s.behind)<<48)
	n := headerBytes + copy(dst[headerBytes:], key)
	return n + copy(dst[n:], value)
}

func headSum(h, key []byte) uint32 {
	return crc32.Update(crc32.Checksum(h[:20], castagnoli), castagnoli, key)
}

// verdict is the kind of a slot's contents.
type verdict uint8

const (
	slotUnused    verdict = iota // zero: never written
	slotTombstone                // a key that was deleted
	slotLive                     // an item, whole
	slotBroken                   // header and key are whole, the value is not
	slotGarbage                  // nothing that can be trusted
)

// item is a slot's contents. key and value point into the slot.
type item struct {
	stamp
	key, value []byte
}

// parseSlot reads a slot, or as much of it as its item can take, from b and checks both sums.
// Its input is not trusted.
func parseSlot(b []byte) (item, verdict) {
	it, v := parseHead(b)
	if v == slotLive && binary.LittleEndian.Uint32(b[16:]) != crc32.Checksum(it.value, castagnoli) {
		return it, slotBroken
	}
	return it, v
}

// parseHead is parseSlot without the check of the value.
func parseHead(b []byte) (item, verdict) {
	if len(b) < headerBytes {
		return item{}, slotGarbage
	}
	h := b[:headerBytes]
	if h[0] == 0 && zero(h) {
		return item{}, slotUnused
	}
	it, ok := peekItem(b)
	if h[0] != itemMagic || !ok || len(it.key) == 0 || len(it.key) > KeyBytesMax || binary.LittleEndian.Uint32(h[20:]) != headSum(h, it.key) {
		return item{}, slotGarbage
	}
	switch {
	case h[1] == kindTombstone && len(it.value) == 0:
		return it, slotTombstone
	case h[1] == kindLive || h[1] == kindOver:
		return it, slotLive
	}
	return item{}, slotGarbage
}

// peekItem reads a slot without checking the sums: for slots that were checked before, or
// written by this process. ok is false if the lengths exceed b.
func peekItem(b []byte) (it item, ok bool) {
	k, v := int(binary.LittleEndian.Uint16(b[2:])), int(binary.LittleEndian.Uint32(b[4:]))
	if k > len(b)-headerBytes || v > len(b)-headerBytes-k {
		return item{}, false
	}
	it.key = b[headerBytes : headerBytes+k]
	it.value = b[headerBytes+k : headerBytes+k+v]
	seq := binary.LittleEndian.Uint64(b[8:])
	it.stamp = stamp{b[1], seq & seqMax, uint16(seq >> 48)}
	return it, true
}

// repairHead searches for one damaged byte in the header or key of a garbage slot: with the right byte the head sum matches. It returns the
// repaired head and its sum; ok is true if there is exactly one such byte. CRC32C distinguishes all such changes of a message this
// short. b is modified during the call and restored.
func repairHead(b []byte) (it item, sum uint32, ok bool) {
	if len(b) < headerBytes {
		return item{}, 0, false
	}
	n := headerBytes + int(min(binary.LittleEndian.Uint16(b[2:]), KeyBytesMax))
	found := 0
	for i := 0; i < min(n, len(b)); i++ {
		was := b[i]
		for x := 1; x < 256; x++ {
			b[i] = was ^ byte(x)
			got, v := parseHead(b)
			if v == slotLive || v == slotTombstone {
				found++
				it, sum = got, binary.LittleEndian.Uint32(b[20:])
				it.key = append([]byte(nil), got.key...)
				it.value = nil
			}
		}
		b[i] = was
	}
	return it, sum, found == 1
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
