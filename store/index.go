package store

import (
	"bytes"
	"encoding/binary"
	"reflect"

	"github.com/kvwire/kvwire/internal/arena"
)

// record is what the index knows of a key. Its number stays the same as long as the key exists.
type record struct {
	key        uint32 // where the key lies in the key heap
	slot       uint32 // where its item lies, with class
	valueBytes uint32
	keyBytes   uint16
	class      uint8
	flags      recordFlags
}

type recordFlags uint8

const (
	flagBusy    recordFlags = 1 << iota // a change has a slot, and is not in its page yet: others that change the key wait
	flagHidden                          // not there yet: reads do not see it
	flagTomb                            // deleted: its slot holds a tombstone
	flagQueued                          // in the list of tombstones that may be dropped some day
	flagCorrupt                         // its item was damaged: reads are told so
)

func (x *index) at(rec uint32) place { r := x.records.at(rec); return place{r.class, r.slot} }
func (x *index) put(rec uint32, at place) {
	r := x.records.at(rec)
	r.class, r.slot = at.class, at.slot
}
func (x *index) flags(rec uint32) recordFlags       { return x.records.at(rec).flags }
func (x *index) setFlags(rec uint32, f recordFlags) { x.records.at(rec).flags = f }

type loader struct {
	x      *index
	seqs   map[uint32]uint64
	losers []func(func([]byte, place, recordFlags, uint64))
}

func newLoader(x *index) *loader { return &loader{x: x, seqs: map[uint32]uint64{}} }

func (l *loader) add(key []byte, at place, f recordFlags, seq uint64) bool {
	x := l.x
	rec, ok := x.find(key)
	if ok {
		k := bytes.Clone(key)
		at2, f2, seq2 := at, f, seq
		if seq > l.seqs[rec] {
			at2, f2, seq2 = x.at(rec), x.flags(rec), l.seqs[rec]
			x.put(rec, at)
			x.setFlags(rec, f)
			l.seqs[rec] = seq
		}
		l.losers = append(l.losers, func(g func([]byte, place, recordFlags, uint64)) { g(k, at2, f2, seq2) })
		return true
	}
	rec, ok = x.insert(key)
	if ok {
		x.put(rec, at)
		x.setFlags(rec, f)
		l.seqs[rec] = seq
	}
	return ok
}

func (l *loader) finish(g func([]byte, place, recordFlags, uint64)) {
	for _, f := range l.losers {
		f(g)
	}
}

// index is an ordered map from keys to records: a B+tree whose nodes, records and keys have numbers
// instead of pointers, so that the collector has nothing to scan. Nodes cache 8 bytes of each key, those
// after the prefix that all keys of the node share: a search reads one or two whole keys.
type index struct {
	keys    keyHeap
	records chunked[record]
	leaves  chunked[leaf]
	inners  chunked[inner]
	root    uint32
	height  int // inner levels above the leaves
	n       int // keys
}

// fanout is the number of entries in a node, 64 to have the cached bytes of a leaf in 8 lines.
const fanout = 64

// node is the part that leaves and inner nodes share: keys in order, each by its record.
type node struct {
	cached [fanout]uint64 // key bytes skip to skip+8, big-endian, zero-padded
	rec    [fanout]uint32 // the record that holds the key; for an inner node a separator of its own
	n      uint16
	skip   uint16 // bytes that all keys of the node share; perhaps more of them are shared
}

type leaf struct {
	node
	next, prev uint32
}

// inner has one more child than separators: child i holds keys below separator i, and child i+1 keys
// from separator i on.
type inner struct {
	node
	child [fanout + 1]uint32
}

func newIndex() *index {
	x := &index{}
	x.root = x.leaves.add()
	return x
}

func (x *index) record(rec uint32) *record { return x.records.at(rec) }

// key is a record's key, in place: valid until the record is deleted.
func (x *index) key(rec uint32) []byte {
	r := x.records.at(rec)
	return x.keys.at(r.key, int(r.keyBytes))
}

// bytes is the memory that the index takes.
func (x *index) bytes() int {
	return x.keys.bytes() + x.records.bytes() + x.leaves.bytes() + x.inners.bytes()
}

func (x *index) close() { x.keys.close() }

func cachedAt(key []byte, skip uint16) uint64 {
	if int(skip) >= len(key) {
		return 0
	}
	key = key[skip:]
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

// lower is the position of the first key of nd that is not below key, and whether it equals it.
func (x *index) lower(nd *node, key []byte) (int, bool) {
	n := int(nd.n)
	if n == 0 {
		return 0, false
	}
	if nd.skip > 0 { // the key may leave the prefix that the node's keys share
		prefix := x.key(nd.rec[0])[:nd.skip]
		if c := bytes.Compare(key[:min(len(key), len(prefix))], prefix); c != 0 {
			if c < 0 {
				return 0, false
			}
			return n, false
		}
	}
	return x.search(nd, key)
}

// search is lower for a key that has the prefix that the node's keys share.
func (x *index) search(nd *node, key []byte) (int, bool) {
	n := int(nd.n)
	want := cachedAt(key, nd.skip)
	lo, hi := 0, n
	for lo < hi {
		if m := int(uint(lo+hi) / 2); nd.cached[m] < want {
			lo = m + 1
		} else {
			hi = m
		}
	}
	end := lo // of those with equal cached bytes, which only whole keys tell apart
	for end < n && nd.cached[end] == want {
		end++
	}
	for lo < end {
		m := int(uint(lo+end) / 2)
		switch bytes.Compare(x.key(nd.rec[m]), key) {
		case 0:
			return m, true
		case -1:
			lo = m + 1
		default:
			end = m
		}
	}
	return lo, false
}

// childOf is the number of the child under which key belongs.
func (x *index) childOf(nd *inner, key []byte) int {
	i, equal := x.lower(&nd.node, key)
	if equal {
		i++
	}
	return i
}

// find gives a key's record.
func (x *index) find(key []byte) (rec uint32, ok bool) {
	l := x.leaves.at(x.leafOf(key))
	// No look at the shared prefix first, which would cost two cache misses: a key without it
	// may find candidates too, but none that equals it.
	i, ok := x.search(&l.node, key)
	if !ok {
		return 0, false
	}
	return l.rec[i], true
}

func (x *index) leafOf(key []byte) uint32 {
	at := x.root
	for range x.height {
		nd := x.inners.at(at)
		at = nd.child[x.childOf(nd, key)]
	}
	return at
}

// cursor is a place between keys. A change of the index ends its validity.
type cursor struct {
	leaf uint32
	i    int
}

// seek puts a cursor before the first key that is not below key; after skips key itself.
func (x *index) seek(key []byte, after bool) cursor {
	at := x.leafOf(key)
	i, equal := x.lower(&x.leaves.at(at).node, key)
	if equal && after {
		i++
	}
	return cursor{at, i}
}

// next gives the record after the cursor and moves on; ok is false at the end.
func (x *index) next(c *cursor) (rec uint32, ok bool) {
	l := x.leaves.at(c.leaf)
	for c.i >= int(l.n) {
		if l.next == 0 {
			return 0, false
		}
		c.leaf, c.i = l.next, 0
		l = x.leaves.at(c.leaf)
	}
	c.i++
	return l.rec[c.i-1], true
}

// newRecord keeps a copy of key; ok is false when there is no memory for it.
func (x *index) newRecord(key []byte) (rec uint32, ok bool) {
	at, ok := x.keys.add(key)
	if !ok {
		return 0, false
	}
	rec = x.records.add()
	*x.records.at(rec) = record{key: at, keyBytes: uint16(len(key))}
	return rec, true
}

func (x *index) dropRecord(rec uint32) {
	r := x.records.at(rec)
	x.keys.free(r.key, int(r.keyBytes))
	x.records.free(rec)
}

// insert adds a key that is not there and gives its new record, empty but for the key. ok is
// false when there is no memory for it.
func (x *index) insert(key []byte) (rec uint32, ok bool) {
	if rec, ok = x.newRecord(key); !ok {
		return 0, false
	}
	sep, right, split := x.insertUnder(x.root, x.height, rec)
	if split {
		root := x.inners.add()
		nd := x.inners.at(root)
		nd.child[0] = x.root
		x.root = root
		x.height++
		nd.child[1] = right
		x.insertAt(&nd.node, 0, sep)
	}
	x.n++
	return rec, true
}

// insertUnder adds a record below a node. When the node had to be split, right is its new
// neighbour and sep the separator between the two.
func (x *index) insertUnder(at uint32, height int, rec uint32) (sep, right uint32, split bool) {
	if height == 0 {
		return x.insertLeaf(at, rec)
	}
	nd := x.inners.at(at)
	c := x.childOf(nd, x.key(rec))
	below, child, split := x.insertUnder(nd.child[c], height-1, rec)
	if !split {
		return 0, 0, false
	}
	if nd.n < fanout {
		x.insertChild(nd, c, below, child)
		return 0, 0, false
	}
	sep, right = x.splitInner(nd)
	if c > int(nd.n) {
		nd, c = x.inners.at(right), c-int(nd.n)-1
	}
	x.insertChild(nd, c, below, child)
	return sep, right, true
}

func (x *index) insertChild(nd *inner, c int, sep, child uint32) {
	copy(nd.child[c+2:nd.n+2], nd.child[c+1:nd.n+1])
	nd.child[c+1] = child
	x.insertAt(&nd.node, c, sep)
}

func (x *index) insertLeaf(at, rec uint32) (sep, right uint32, split bool) {
	l := x.leaves.at(at)
	key := x.key(rec)
	i, _ := x.lower(&l.node, key)
	if l.n < fanout {
		x.insertAt(&l.node, i, rec)
		return 0, 0, false
	}
	right = x.leaves.add()
	r := x.leaves.at(right)
	r.next, r.prev = l.next, at
	if r.next != 0 {
		x.leaves.at(r.next).prev = right
	}
	l.next = right
	keep := fanout / 2
	if i == fanout && r.next == 0 {
		keep = fanout // keys that come in order leave full leaves behind
	}
	x.moveUpper(&l.node, &r.node, keep)
	if i > keep || keep == fanout {
		x.insertAt(&r.node, i-keep, rec)
	} else {
		x.insertAt(&l.node, i, rec)
	}
	return x.separator(x.key(l.rec[l.n-1]), x.key(r.rec[0])), right, true
}

// separator makes a record for the shortest key above low and not above high.
func (x *index) separator(low, high []byte) uint32 {
	rec, ok := x.newRecord(high[:sharedBytes(low, high)+1])
	if !ok {
		panic("store: no memory for the index") // a key heap chunk that cannot be mapped: nothing is left to go on with
	}
	return rec
}

func sharedBytes(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// splitInner moves the upper half of a full node to a new one; the separator between goes up.
func (x *index) splitInner(nd *inner) (sep, right uint32) {
	right = x.inners.add()
	r := x.inners.at(right)
	const keep = fanout / 2
	copy(r.child[:], nd.child[keep+1:])
	x.moveUpper(&nd.node, &r.node, keep+1)
	nd.n--
	return nd.rec[keep], right
}

// moveUpper moves entries from keep on to an empty node.
func (x *index) moveUpper(from, to *node, keep int) {
	n := copy(to.rec[:], from.rec[keep:from.n])
	to.n, from.n = uint16(n), uint16(keep)
	x.cache(from)
	x.cache(to)
}

// cache computes what a node caches of its keys.
func (x *index) cache(nd *node) {
	if nd.n == 0 {
		nd.skip = 0
		return
	}
	first, last := x.key(nd.rec[0]), x.key(nd.rec[nd.n-1])
	nd.skip = uint16(sharedBytes(first, last))
	for i := range int(nd.n) {
		nd.cached[i] = cachedAt(x.key(nd.rec[i]), nd.skip)
	}
}

// insertAt puts a record at position i of a node that has room.
func (x *index) insertAt(nd *node, i int, rec uint32) {
	copy(nd.cached[i+1:nd.n+1], nd.cached[i:nd.n])
	copy(nd.rec[i+1:nd.n+1], nd.rec[i:nd.n])
	nd.rec[i] = rec
	nd.n++
	key := x.key(rec)
	other := nd.rec[0]
	if i == 0 {
		other = nd.rec[nd.n-1]
	}
	if nd.skip > 0 && sharedBytes(key, x.key(other)) < int(nd.skip) || nd.n == 1 {
		x.cache(nd) // the key leaves the shared prefix
		return
	}
	nd.cached[i] = cachedAt(key, nd.skip)
}

// delete removes a record and its key. Nodes that run empty go; others are not filled up.
func (x *index) delete(rec uint32) {
	if x.deleteUnder(x.root, x.height, x.key(rec)) && x.height > 0 {
		x.inners.free(x.root) // every leaf is gone
		x.height = 0
		x.root = x.leaves.add()
	}
	for x.height > 0 && x.inners.at(x.root).n == 0 {
		old := x.root
		x.root = x.inners.at(old).child[0]
		x.inners.free(old)
		x.height--
	}
	x.dropRecord(rec)
	x.n--
}

// deleteUnder removes a key below a node and reports whether the node has run empty. The
// caller frees an empty inner node; an empty leaf that is not the root is freed here.
func (x *index) deleteUnder(at uint32, height int, key []byte) (empty bool) {
	if height == 0 {
		return x.deleteLeaf(at, key)
	}
	nd := x.inners.at(at)
	c := x.childOf(nd, key)
	child := nd.child[c]
	if !x.deleteUnder(child, height-1, key) {
		return false
	}
	if height > 1 {
		x.inners.free(child)
	}
	if nd.n == 0 {
		return true
	}
	i := max(c-1, 0) // the separator that goes with the child
	x.dropRecord(nd.rec[i])
	copy(nd.child[c:nd.n], nd.child[c+1:nd.n+1])
	removeAt(&nd.node, i)
	return false
}

func (x *index) deleteLeaf(at uint32, key []byte) (empty bool) {
	l := x.leaves.at(at)
	i, ok := x.lower(&l.node, key)
	if !ok {
		panic("store: a record is not in the index")
	}
	removeAt(&l.node, i)
	if l.n > 0 || x.height == 0 {
		return false
	}
	if l.prev != 0 {
		x.leaves.at(l.prev).next = l.next
	}
	if l.next != 0 {
		x.leaves.at(l.next).prev = l.prev
	}
	x.leaves.free(at)
	return true
}

func removeAt(nd *node, i int) {
	copy(nd.cached[i:nd.n], nd.cached[i+1:nd.n])
	copy(nd.rec[i:nd.n], nd.rec[i+1:nd.n])
	nd.n--
}

// chunked is an array that grows without moving and reuses what was freed. Number 0 is nobody.
type chunked[T any] struct {
	chunks [][]T
	spare  []uint32 // freed numbers
	next   uint32
}

const chunkItems = 256

func (c *chunked[T]) at(i uint32) *T { return &c.chunks[i/chunkItems][i%chunkItems] }

// add gives the number of a zero T.
func (c *chunked[T]) add() uint32 {
	if n := len(c.spare); n > 0 {
		i := c.spare[n-1]
		c.spare = c.spare[:n-1]
		return i
	}
	if c.next == 0 {
		c.next = 1
	}
	if int(c.next/chunkItems) == len(c.chunks) {
		c.chunks = append(c.chunks, make([]T, chunkItems))
	}
	c.next++
	return c.next - 1
}

func (c *chunked[T]) free(i uint32) {
	var none T
	*c.at(i) = none
	c.spare = append(c.spare, i)
}

func (c *chunked[T]) bytes() int {
	return len(c.chunks)*chunkItems*int(reflect.TypeFor[T]().Size()) + cap(c.spare)*4
}

// keyHeap keeps keys in mapped memory, outside the collector's sight, in units of 8 bytes.
type keyHeap struct {
	chunks []*arena.Arena
	used   int                             // bytes of the last chunk
	spare  [KeyBytesMax/keyUnit + 1]uint32 // by length in units: the last freed, which holds the one before. 0: none
}

const (
	keyUnit       = 8
	keyChunkBytes = 1 << 20
	keyChunkUnits = keyChunkBytes / keyUnit
)

func keyUnits(n int) int { return (n + keyUnit - 1) / keyUnit }

func (h *keyHeap) at(ref uint32, n int) []byte {
	off := int(ref%keyChunkUnits) * keyUnit
	return h.chunks[ref/keyChunkUnits].Bytes()[off : off+n : off+n]
}

// add copies a key in and gives its place, never 0; ok is false when there is no memory.
func (h *keyHeap) add(key []byte) (ref uint32, ok bool) {
	u := keyUnits(len(key))
	if ref = h.spare[u]; ref != 0 {
		h.spare[u] = binary.LittleEndian.Uint32(h.at(ref, keyUnit))
	} else if ref, ok = h.fresh(u); !ok {
		return 0, false
	}
	copy(h.at(ref, len(key)), key)
	return ref, true
}

func (h *keyHeap) fresh(units int) (ref uint32, ok bool) {
	if len(h.chunks) == 0 || h.used+units*keyUnit > keyChunkBytes {
		if len(h.chunks) == 1<<32/keyChunkUnits {
			return 0, false
		}
		a, err := arena.New(keyChunkBytes)
		if err != nil {
			return 0, false
		}
		h.chunks = append(h.chunks, a)
		h.used = 0
		if len(h.chunks) == 1 {
			h.used = keyUnit // place 0 is nobody's
		}
	}
	ref = uint32((len(h.chunks)-1)*keyChunkUnits + h.used/keyUnit)
	h.used += units * keyUnit
	return ref, true
}

func (h *keyHeap) free(ref uint32, n int) {
	u := keyUnits(n)
	binary.LittleEndian.PutUint32(h.at(ref, keyUnit), h.spare[u])
	h.spare[u] = ref
}

func (h *keyHeap) bytes() int { return len(h.chunks) * keyChunkBytes }

func (h *keyHeap) close() {
	for _, a := range h.chunks {
		_ = a.Close()
	}
	*h = keyHeap{}
}
