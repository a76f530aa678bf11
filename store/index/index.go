// Package index owns the ordered map from a partition's keys to their records: the B+tree, the heap of keys and records, the
// walk through the records' numbers, and the loader that fills an empty index. All of it is memory: no call waits, for a disk or for
// anything else. What a record's place and flags mean is the store's affair. It may import internal/arena and internal/sys, and nothing
// else of ours.
package index

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/kvwire/kvwire/internal/sys"
)

// KeyBytesMax is the length of the longest key.
const KeyBytesMax = 1024

// Index is an ordered map from keys to records: a B+tree in mapped memory whose nodes name each other, and keys,
// by number, so that the collector has nothing to scan and a find allocates nothing. A record's number
// stays the same as long as its key exists.
//
// Entries cache some bytes of their key, those behind the prefix that all keys which belong under the node
// share: a find reads one whole key. The prefix follows from the separators on both sides of the node, so
// a key that was led to the node has it, and nobody looks. Below the first and above the last separator it
// is the prefix that all keys of the index share, which is looked at once.
//
// An Index belongs to one goroutine at a time, which is its partition's loop. A record is named by a number from 1 on.
type Index struct {
	heap   keyHeap
	leaves nodePool[leaf]
	inners nodePool[inner]
	prefix []byte // shared by all keys; perhaps more of them is
	root   uint32 // 0 when there are no keys
	height int    // inner levels above the leaves
	n      int    // keys
	gone   uint32 // deletes: while it stays the same, no record's number has become another key's
}

// leafKeys and innerKeys are the most keys in a node: a leaf has 512 bytes with them, an inner node 2 KiB. With 126 keys in a
// leaf, or 30, a find takes a tenth longer.
const (
	leafKeys  = 62
	innerKeys = 126
)

// vacant fills the entries of a node that are not in use, so that a search need not know how many are.
const vacant = 1<<64 - 1

// leaf has its keys in order.
type leaf struct {
	entry      [leafKeys]uint64 // key bytes skip to skip+4, big-endian, zero-padded; below them the record
	next, prev uint32
	n          uint16
	skip       uint16 // bytes that all keys which belong here share; perhaps more of them are shared
}

// inner has one more child than separators: child i holds keys below separator i, and child i+1 keys
// from separator i on.
type inner struct {
	entry     [innerKeys]uint64 // separator bytes skip to skip+4, big-endian, zero-padded; below them the child at its right
	more      [innerKeys]uint32 // separator bytes skip+4 to skip+8, for when those before are the same as the key's
	separator [innerKeys]uint32 // for when these are the same too
	first     uint32            // child
	n         uint16            // separators
	skip      uint16
	_         [6]uint32 // 8 entries are a cache line
}

// New makes an empty index. It takes memory with the first key. Close frees it.
func New() *Index {
	return &Index{leaves: newNodePool[leaf](), inners: newNodePool[inner](), prefix: make([]byte, 0, KeyBytesMax)}
}

// Bytes is the memory that the index uses, in bytes.
func (x *Index) Bytes() int {
	return x.heap.bytes() + x.leaves.bytes() + x.inners.bytes() + cap(x.prefix)
}

// Close frees the memory. The index is empty then, and may be used again.
func (x *Index) Close() {
	x.heap.close()
	x.leaves.close()
	x.inners.close()
	x.reset()
}

func (x *Index) reset() { x.root, x.height, x.n, x.prefix = 0, 0, 0, x.prefix[:0] }

// Key is a record's key, in place: 1 to KeyBytesMax bytes, valid until the record is deleted, not to be changed.
func (x *Index) Key(rec uint32) []byte { return x.heap.record(rec) }

// At is the place of a record's item: the class of its slot, and the slot's number in that class. A new record has zeros.
func (x *Index) At(rec uint32) (class uint8, slot uint32) {
	b := x.heap.at(rec)
	return b[headClass], binary.LittleEndian.Uint32(b[headSlot:])
}

// Put sets a record's place.
func (x *Index) Put(rec uint32, class uint8, slot uint32) {
	b := x.heap.at(rec)
	binary.LittleEndian.PutUint32(b[headSlot:], slot)
	b[headClass] = class
}

// Flags are a record's flags. A new record has none.
func (x *Index) Flags(rec uint32) Flags { return Flags(x.heap.at(rec)[headFlags]) }

// SetFlags replaces a record's flags.
func (x *Index) SetFlags(rec uint32, f Flags) { x.heap.at(rec)[headFlags] = uint8(f) }

// cached is the key bytes from skip to skip+4, big-endian, zero-padded, where an entry has them.
func cached(key []byte, skip int) uint64 {
	if len(key)-skip >= 4 {
		return uint64(binary.BigEndian.Uint32(key[skip:])) << 32
	}
	var b [4]byte
	if skip < len(key) {
		copy(b[:], key[skip:])
	}
	return uint64(binary.BigEndian.Uint32(b[:])) << 32
}

// cached8 is twice as many.
func cached8(key []byte, skip int) uint64 {
	return cached(key, skip) | cached(key, skip+4)>>32
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

// rank is the number of entries below want. It looks at the last entry of each 8 at once, without a branch that
// depends on what they are: their cache misses overlap.
func rank(e []uint64, want uint64) int {
	n := uint64(0)
	for i := 7; i < len(e); i += 8 {
		_, below := bits.Sub64(e[i], want, 0)
		n += below
	}
	first := int(n) * 8
	n = 0
	for _, v := range e[first:min(first+7, len(e))] {
		_, below := bits.Sub64(v, want, 0)
		n += below
	}
	return first + int(n)
}

// cachedMask is for what an entry caches; the other half is a number: of a record, or of a child.
const cachedMask = ^uint64(1<<32 - 1)

func numberOf(entry uint64) uint32 { return uint32(entry) }

// childAt is a node's child by its number.
func (nd *inner) childAt(c int) uint32 {
	if c == 0 {
		return nd.first
	}
	return numberOf(nd.entry[c-1])
}

// search is the position of the first key of a leaf that is not below key, and whether it equals it. The
// key must belong there.
func (x *Index) search(l *leaf, key []byte) (int, bool) {
	want := cached(key, int(l.skip))
	lo := rank(l.entry[:], want)
	n := int(l.n)
	end := lo // of those with equal cached bytes, which only whole keys tell apart
	for end < n && l.entry[end]&cachedMask == want {
		end++
	}
	for lo < end {
		m := int(uint(lo+end) / 2)
		switch bytes.Compare(x.Key(numberOf(l.entry[m])), key) {
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

// childOf is the number of the child under which key belongs, that is, of the separators not above it.
func (x *Index) childOf(nd *inner, key []byte) int {
	want := cached(key, int(nd.skip))
	lo := rank(nd.entry[:], want)
	n := int(nd.n)
	end := lo
	for end < n && nd.entry[end]&cachedMask == want {
		end++
	}
	if lo == end {
		return lo
	}
	more := uint32(cached(key, int(nd.skip)+4) >> 32)
	for lo < end {
		m := int(uint(lo+end) / 2)
		if nd.more[m] < more || nd.more[m] == more && bytes.Compare(x.heap.separator(nd.separator[m]), key) <= 0 {
			lo = m + 1
		} else {
			end = m
		}
	}
	return lo
}

// side is where a key lies beside those with the prefix that all keys share: 0 when it has the prefix.
func (x *Index) side(key []byte) int {
	return bytes.Compare(key[:min(len(key), len(x.prefix))], x.prefix)
}

// Find gives a key's record. ok is false where the index does not have the key.
func (x *Index) Find(key []byte) (rec uint32, ok bool) {
	if x.n == 0 || x.side(key) != 0 {
		return 0, false
	}
	l := x.leaves.at(x.leafOf(key))
	i, ok := x.search(l, key)
	if !ok {
		return 0, false
	}
	return numberOf(l.entry[i]), true
}

// Lead and Guess are a find in steps, for callers with several keys: each step asks the CPU for the memory that the next step touches, so the
// cache misses of different keys overlap. Between the steps the index must not be changed. Lead gives the leaf under which a key belongs; 0: the
// index does not have the key.
func (x *Index) Lead(key []byte) (leaf uint32) {
	if x.n == 0 || x.side(key) != 0 {
		return 0
	}
	leaf = x.leafOf(key)
	sys.Prefetch(x.leaves.at(leaf))
	return leaf
}

// Guess gives the first record of a leaf whose key may equal key: its cached bytes do. The caller has to compare the whole keys; if they differ, a
// Find may still find the key. 0: the index does not have it.
func (x *Index) Guess(leaf uint32, key []byte) (rec uint32) {
	l := x.leaves.at(leaf)
	want := cached(key, int(l.skip))
	i := rank(l.entry[:], want)
	if i >= int(l.n) || l.entry[i]&cachedMask != want {
		return 0
	}
	rec = numberOf(l.entry[i])
	sys.PrefetchBytes(x.heap.at(rec)[:headBytes])
	return rec
}

// Deletes counts deletes, modulo 2^32. While it stays the same, no record's number has become another key's.
func (x *Index) Deletes() uint32 { return x.gone }

func (x *Index) leafOf(key []byte) uint32 {
	at := x.root
	for range x.height {
		nd := x.inners.at(at)
		at = nd.childAt(x.childOf(nd, key))
	}
	return at
}

// Cursor is a position between keys. A change of the index ends its validity.
type Cursor struct {
	leaf uint32 // 0: at the end
	i    int
}

// Seek gives the cursor before the first key that is not below key; after skips key itself. An empty key is below all others.
func (x *Index) Seek(key []byte, after bool) Cursor {
	if x.n == 0 {
		return Cursor{}
	}
	switch side := x.side(key); {
	case side < 0:
		return Cursor{leaf: x.firstLeaf()}
	case side > 0:
		return Cursor{}
	}
	at := x.leafOf(key)
	i, equal := x.search(x.leaves.at(at), key)
	if equal && after {
		i++
	}
	return Cursor{at, i}
}

func (x *Index) firstLeaf() uint32 {
	at := x.root
	for range x.height {
		at = x.inners.at(at).first
	}
	return at
}

// Next gives the record after the cursor and moves on; ok is false at the end.
func (x *Index) Next(c *Cursor) (rec uint32, ok bool) {
	for c.leaf != 0 {
		l := x.leaves.at(c.leaf)
		if c.i < int(l.n) {
			c.i++
			return numberOf(l.entry[c.i-1]), true
		}
		c.leaf, c.i = l.next, 0
	}
	return 0, false
}

// heightMax is out of reach: a level takes 64 splits of the one below.
const heightMax = 12

// path is the way from the root to a leaf: the inner nodes, and the child that it took of each.
type path struct {
	at    [heightMax]uint32
	child [heightMax]int
}

func (x *Index) descend(key []byte, p *path) (leaf uint32) {
	at := x.root
	for d := range x.height {
		nd := x.inners.at(at)
		c := x.childOf(nd, key)
		p.at[d], p.child[d] = at, c
		at = nd.childAt(c)
	}
	return at
}

// low is the separator before child c of a path's inner node at depth d; nil: there is none.
func (x *Index) low(p *path, d, c int) []byte {
	for c == 0 {
		if d == 0 {
			return nil
		}
		d--
		c = p.child[d]
	}
	return x.heap.separator(x.inners.at(p.at[d]).separator[c-1])
}

// high is the separator after that child.
func (x *Index) high(p *path, d, c int) []byte {
	for c == int(x.inners.at(p.at[d]).n) {
		if d == 0 {
			return nil
		}
		d--
		c = p.child[d]
	}
	return x.heap.separator(x.inners.at(p.at[d]).separator[c])
}

// sharedBetween is the length of the prefix of all keys that belong between two separators.
func (x *Index) sharedBetween(low, high []byte) int {
	if low == nil || high == nil {
		return len(x.prefix)
	}
	return sharedBytes(low, high)
}

// separatorOf keeps the shortest key above low and not above high.
func (x *Index) separatorOf(low, high []byte) (ref uint32, ok bool) {
	return x.heap.addSeparator(high[:sharedBytes(low, high)+1])
}

// Insert adds a key of 1 to KeyBytesMax bytes that is not there, and gives its new record, which is zero but for the key. ok is
// false when there is no memory for it; nothing has changed then. The key is copied.
func (x *Index) Insert(key []byte) (rec uint32, ok bool) {
	if rec, ok = x.heap.addRecord(key); !ok {
		return 0, false
	}
	if !x.enter(key, rec) {
		x.heap.freeRecord(rec)
		return 0, false
	}
	x.n++
	return rec, true
}

func (x *Index) enter(key []byte, rec uint32) bool {
	if x.n == 0 {
		return x.begin(key, rec)
	}
	if x.side(key) != 0 {
		x.shortenPrefix(sharedBytes(key, x.prefix))
	}
	for p := (path{}); ; {
		at := x.descend(key, &p)
		l := x.leaves.at(at)
		if l.n < leafKeys {
			i, _ := x.search(l, key)
			l.insertAt(i, cached(key, int(l.skip))|uint64(rec))
			return true
		}
		if !x.makeRoom(&p, at, key) {
			return false
		}
	}
}

// begin adds the first key.
func (x *Index) begin(key []byte, rec uint32) bool {
	root, ok := x.newLeaf(len(key))
	if !ok {
		return false
	}
	x.root = root
	x.prefix = append(x.prefix[:0], key...)
	x.leaves.at(root).insertAt(0, uint64(rec))
	return true
}

func (x *Index) newLeaf(skip int) (at uint32, ok bool) {
	if at, ok = x.leaves.add(); ok {
		l := x.leaves.at(at)
		l.next, l.prev, l.n, l.skip = 0, 0, 0, uint16(skip)
		l.vacate(0)
	}
	return at, ok
}

func (x *Index) newInner(skip int) (at uint32, ok bool) {
	if at, ok = x.inners.add(); ok {
		nd := x.inners.at(at)
		nd.n, nd.skip = 0, uint16(skip)
		nd.vacate(0)
	}
	return at, ok
}

func (l *leaf) insertAt(i int, entry uint64) {
	copy(l.entry[i+1:], l.entry[i:l.n])
	l.entry[i] = entry
	l.n++
}

func (l *leaf) removeAt(i int) {
	copy(l.entry[i:l.n], l.entry[i+1:l.n])
	l.n--
	l.entry[l.n] = vacant
}

// vacate forgets the entries from n on.
func (l *leaf) vacate(n int) {
	for i := n; i < leafKeys; i++ {
		l.entry[i] = vacant
	}
	l.n = uint16(n)
}

func (nd *inner) vacate(n int) {
	for i := n; i < innerKeys; i++ {
		nd.entry[i] = vacant
	}
	nd.n = uint16(n)
}

// insertChild puts a child behind child c, with the separator between the two.
func (x *Index) insertChild(nd *inner, c int, separator, child uint32) {
	n := int(nd.n)
	copy(nd.entry[c+1:], nd.entry[c:n])
	copy(nd.more[c+1:], nd.more[c:n])
	copy(nd.separator[c+1:], nd.separator[c:n])
	nd.n++
	nd.entry[c] = uint64(child)
	x.setSeparator(nd, c, separator)
}

// setSeparator makes something the separator at the left of child i+1.
func (x *Index) setSeparator(nd *inner, i int, separator uint32) {
	key := x.heap.separator(separator)
	nd.separator[i] = separator
	nd.entry[i] = cached(key, int(nd.skip)) | nd.entry[i]&^cachedMask
	nd.more[i] = uint32(cached(key, int(nd.skip)+4) >> 32)
}

// removeChild takes out a child, and the separator at its left, or for the first child at its right.
func (x *Index) removeChild(nd *inner, c int) {
	n := int(nd.n)
	i := max(c-1, 0)
	x.heap.freeSeparator(nd.separator[i])
	if c == 0 {
		nd.first = nd.childAt(1)
	}
	copy(nd.more[i:n], nd.more[i+1:n])
	copy(nd.separator[i:n], nd.separator[i+1:n])
	copy(nd.entry[i:n], nd.entry[i+1:n])
	nd.n--
	nd.entry[nd.n] = vacant
}

// makeRoom changes something around a full leaf so that a key gets nearer to its place; the caller
// descends again. It is false when there is no memory, and the index is whole then too.
func (x *Index) makeRoom(p *path, at uint32, key []byte) bool {
	l := x.leaves.at(at)
	keep := leafKeys / 2
	if l.next == 0 && bytes.Compare(x.Key(numberOf(l.entry[leafKeys-1])), key) < 0 {
		keep = leafKeys // keys that come in order leave full leaves behind
	}
	d := x.height - 1
	if d >= 0 && keep < leafKeys && x.spread(p) {
		return true
	}
	if d < 0 || x.inners.at(p.at[d]).n == innerKeys {
		for d > 0 && x.inners.at(p.at[d-1]).n == innerKeys {
			d--
		}
		if d <= 0 {
			return x.raise()
		}
		return x.splitInner(p, d)
	}
	return x.splitLeaf(p, at, keep, key)
}

// raise puts a new root above the old one, which is full.
func (x *Index) raise() bool {
	if x.height == heightMax {
		panic("index: an index of that height cannot be")
	}
	root, ok := x.newInner(len(x.prefix))
	if !ok {
		return false
	}
	x.inners.at(root).first = x.root
	x.root = root
	x.height++
	return true
}

// spreadMax is the number of keys up to which a leaf takes some of a full neighbour's: with it leaves that are
// filled in no order are filled to 83 %, without to 70 %.
const spreadMax = leafKeys * 7 / 8

// spread evens out a full leaf with a neighbour below the same inner node, if one has room.
func (x *Index) spread(p *path) bool {
	d := x.height - 1
	nd := x.inners.at(p.at[d])
	c := p.child[d]
	if c < int(nd.n) && x.leaves.at(nd.childAt(c+1)).n <= spreadMax {
		return x.even(p, d, c)
	}
	return c > 0 && x.leaves.at(nd.childAt(c-1)).n <= spreadMax && x.even(p, d, c-1)
}

// even moves keys between the leaves c and c+1 of a path's last inner node, so that both have as many.
func (x *Index) even(p *path, d, c int) bool {
	nd := x.inners.at(p.at[d])
	a, b := x.leaves.at(nd.childAt(c)), x.leaves.at(nd.childAt(c+1))
	skip := int(min(a.skip, b.skip)) // what both share, all that is between them shares
	x.shorten(a, skip)
	x.shorten(b, skip)
	var both [2 * leafKeys]uint64
	n := copy(both[:], a.entry[:a.n])
	n += copy(both[n:], b.entry[:b.n])
	keep := n / 2
	separator, ok := x.separatorOf(x.Key(numberOf(both[keep-1])), x.Key(numberOf(both[keep])))
	if !ok {
		return false
	}
	a.vacate(copy(a.entry[:], both[:keep]))
	b.vacate(copy(b.entry[:], both[keep:n]))
	x.heap.freeSeparator(nd.separator[c])
	x.setSeparator(nd, c, separator)
	x.sharpen(p, d, c)
	x.sharpen(p, d, c+1)
	return true
}

// splitLeaf leaves keep keys in a full leaf and moves the others to a new one at its right. Its inner node
// has room.
func (x *Index) splitLeaf(p *path, at uint32, keep int, key []byte) bool {
	l := x.leaves.at(at)
	if keep < leafKeys {
		key = x.Key(numberOf(l.entry[keep]))
	}
	separator, ok := x.separatorOf(x.Key(numberOf(l.entry[keep-1])), key)
	if !ok {
		return false
	}
	right, ok := x.newLeaf(int(l.skip))
	if !ok {
		x.heap.freeSeparator(separator)
		return false
	}
	r := x.leaves.at(right)
	r.n = uint16(copy(r.entry[:], l.entry[keep:]))
	l.vacate(keep)
	r.next, r.prev = l.next, at
	if r.next != 0 {
		x.leaves.at(r.next).prev = right
	}
	l.next = right
	d := x.height - 1
	x.insertChild(x.inners.at(p.at[d]), p.child[d], separator, right)
	x.sharpen(p, d, p.child[d])
	x.sharpen(p, d, p.child[d]+1)
	return true
}

// splitInner moves the upper half of a full inner node, at depth d of a path, to a new one; the separator between
// goes up, where there is room.
func (x *Index) splitInner(p *path, d int) bool {
	right, ok := x.newInner(0)
	if !ok {
		return false
	}
	const keep = innerKeys / 2
	nd, r := x.inners.at(p.at[d]), x.inners.at(right)
	r.n = uint16(copy(r.separator[:], nd.separator[keep+1:]))
	copy(r.entry[:], nd.entry[keep+1:])
	r.first = nd.childAt(keep + 1)
	nd.vacate(keep)
	up, c := x.inners.at(p.at[d-1]), p.child[d-1]
	x.insertChild(up, c, nd.separator[keep], right)
	x.cache(nd, x.sharedBetween(x.low(p, d-1, c), x.high(p, d-1, c)))
	x.cache(r, x.sharedBetween(x.low(p, d-1, c+1), x.high(p, d-1, c+1)))
	return true
}

// cache computes what an inner node caches.
func (x *Index) cache(nd *inner, skip int) {
	nd.skip = uint16(skip)
	for i := range int(nd.n) {
		x.setSeparator(nd, i, nd.separator[i])
	}
}

// sharpen makes a leaf, child c of a path's last inner node, cache bytes that tell its keys apart, if those that it
// caches do not and there are any: else it saves the look at each key.
func (x *Index) sharpen(p *path, d, c int) {
	l := x.leaves.at(x.inners.at(p.at[d]).childAt(c))
	if !l.blunt() {
		return
	}
	if skip := x.sharedBetween(x.low(p, d, c), x.high(p, d, c)); skip > int(l.skip) {
		x.cacheLeaf(l, skip)
	}
}

// blunt reports whether more than one in 8 keys has the cached bytes of the one before.
func (l *leaf) blunt() bool {
	same := 0
	for i := 1; i < int(l.n); i++ {
		if (l.entry[i]^l.entry[i-1])&cachedMask == 0 {
			same++
		}
	}
	return same*8 > int(l.n)
}

func (x *Index) cacheLeaf(l *leaf, skip int) {
	l.skip = uint16(skip)
	for i := range int(l.n) {
		rec := numberOf(l.entry[i])
		l.entry[i] = cached(x.Key(rec), skip) | uint64(rec)
	}
}

// shorten makes a leaf skip fewer bytes, which are the same for all its keys: it looks at one of them.
func (x *Index) shorten(l *leaf, skip int) {
	more := int(l.skip) - skip
	if more <= 0 {
		return
	}
	l.skip = uint16(skip)
	if l.n == 0 {
		return
	}
	same := cached(x.Key(numberOf(l.entry[0])), skip) & ^(cachedMask >> min(8*more, 32)) & cachedMask
	for i := range int(l.n) {
		e := l.entry[i]
		l.entry[i] = same | e>>(8*more)&cachedMask | e&^cachedMask
	}
}

// shortenPrefix makes the prefix that all keys share n bytes long.
func (x *Index) shortenPrefix(n int) {
	x.prefix = x.prefix[:n]
	x.widen(x.root, 0, nil, nil, false)
	x.widen(x.root, 0, nil, nil, true)
}

// widen lets keys between low and high into a node at some depth, and into those below along its left edge or
// its right one: they may share less than what the nodes skip.
func (x *Index) widen(at uint32, depth int, low, high []byte, right bool) {
	for ; depth < x.height; depth++ {
		nd := x.inners.at(at)
		if skip := x.sharedBetween(low, high); skip < int(nd.skip) {
			x.cache(nd, skip)
		}
		if n := nd.n; right {
			at = nd.childAt(int(n))
			if n > 0 {
				low = x.heap.separator(nd.separator[n-1])
			}
		} else {
			at = nd.first
			if n > 0 {
				high = x.heap.separator(nd.separator[0])
			}
		}
	}
	x.shorten(x.leaves.at(at), x.sharedBetween(low, high))
}

// Delete removes a record and its key. Nodes that run empty go; others are not filled up.
func (x *Index) Delete(rec uint32) {
	key := x.Key(rec)
	var p path
	at := x.descend(key, &p)
	l := x.leaves.at(at)
	l.removeAt(x.positionOf(l, key, rec))
	if l.n == 0 {
		x.removeLeaf(&p, at)
	}
	x.heap.freeRecord(rec)
	x.n--
	x.gone++
}

func (x *Index) positionOf(l *leaf, key []byte, rec uint32) int {
	want := cached(key, int(l.skip))
	for i := rank(l.entry[:], want); i < int(l.n); i++ {
		if numberOf(l.entry[i]) == rec {
			return i
		}
	}
	panic("index: a record is not in the index")
}

func (x *Index) removeLeaf(p *path, at uint32) {
	l := x.leaves.at(at)
	if l.prev != 0 {
		x.leaves.at(l.prev).next = l.next
	}
	if l.next != 0 {
		x.leaves.at(l.next).prev = l.prev
	}
	x.leaves.free(at)
	d := x.height - 1
	for ; d >= 0 && x.inners.at(p.at[d]).n == 0; d-- {
		x.inners.free(p.at[d])
	}
	if d < 0 { // that was the last one
		x.root, x.height, x.prefix = 0, 0, x.prefix[:0]
		return
	}
	nd, c := x.inners.at(p.at[d]), p.child[d]
	x.removeChild(nd, c)
	heir := max(c-1, 0) // it gets the keys that would have belonged to the child
	x.widen(nd.childAt(heir), d+1, x.low(p, d, heir), x.high(p, d, heir), c > 0)
	for x.height > 0 && x.inners.at(x.root).n == 0 {
		old := x.root
		x.root = x.inners.at(old).first
		x.inners.free(old)
		x.height--
	}
}
