package kv

import "encoding/binary"

// A scan's answer is a run of items, each
//
//	key length u16 | value length u32 | key | value      (little-endian)
//
// in key order.

// ItemHeaderBytes is the size of an item's header in a scan's answer.
const ItemHeaderBytes = 6

// AppendItem appends one item to a scan's answer. It reports false, and returns dst unchanged,
// if the item does not fit into dst's capacity: an answer never grows.
func AppendItem(dst, key, value []byte) ([]byte, bool) {
	n := len(dst)
	if cap(dst)-n < ItemHeaderBytes+len(key)+len(value) {
		return dst, false
	}
	dst = dst[:n+ItemHeaderBytes]
	binary.LittleEndian.PutUint16(dst[n:], uint16(len(key)))
	binary.LittleEndian.PutUint32(dst[n+2:], uint32(len(value)))
	return append(append(dst, key...), value...), true
}

// NextItem splits the first item off a scan's answer. ok is false at the end, and if
// the bytes are not a complete item.
func NextItem(b []byte) (key, value, rest []byte, ok bool) {
	if len(b) < ItemHeaderBytes {
		return nil, nil, nil, false
	}
	k := int(binary.LittleEndian.Uint16(b))
	v := int(binary.LittleEndian.Uint32(b[2:]))
	b = b[ItemHeaderBytes:]
	if len(b) < k || len(b)-k < v {
		return nil, nil, nil, false
	}
	return b[:k], b[k : k+v], b[k+v:], true
}
