// Package index owns the ordered map from a partition's keys to their records: the B+tree, the heap of keys and records, the
// walk through the records' numbers, and the loader that fills an empty index. All of it is in memory, and no call blocks. The store
// defines the meaning of a record's place and flags. The package may import internal/arena and internal/sys, and nothing else of kvwire.
package index

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/kvwire/kvwire/internal/sys"
)

// KeyBytesMax is the length of the longest key.
const KeyBytesMax = 1024

// Index is an ordered map from keys to records: a B+tree in mapped memory. Nodes refer to each other, and to keys,
// by numbers, so the garbage collector has nothing to scan and a Find allocates nothing. A record's number, from 1 on,
// stays the same as long as its key exists.
//
// Each entry caches some bytes of its key: those after the prefix that all keys under the node share. So a Find
// reads only one whole key. The prefix of a node follows from the separators on both sides of it: every key for
// which a search reaches the node has this prefix, and it is not compared. Below the first and above the last
// separator, the prefix is the one that all keys of the index share; it is compared once per search.
//
// An Index belongs to one goroutine at a time: that of its partition's loop.
type Index struct {
	records    recordHeap
	separators separatorHeap
	leaves     nodePool[leaf]
	inners     nodePool[inner]
	prefix     []byte // shared by all keys; they may share more bytes
	root       uint32 // 0 when there are no keys
	height     int    // inner levels above the leaves
	n          int    // keys
	deletes    uint32 // number of deletes: while it stays the same, no record number was reused for another key
}

// leafKeys and innerKeys are the most keys in a node. They make a leaf 512 bytes and an inner node 2 KiB. With 126 or 30 keys in a
// leaf, a Find takes a tenth longer.
const (
	leafKeys  = 62
	innerKeys = 126
)

// vacant is the value of a node's unused entries, so that a search need not read their number.
const vacant = 1<<64 - 1

// leaf has its keys in order.
type leaf struct {
	entry      [leafKeys]uint64 // key bytes skip to skip+4, big-endian, zero-padded; below them the record
	next, prev uint32
	n          uint16
	skip       uint16 // length of the prefix that all keys of this leaf share; they may share more
}

// inner has one more child than separators: child i holds keys below separator i, and child i+1 keys
// from separator i on.
type inner struct {
	entry     [innerKeys]uint64 // separator bytes skip to skip+4, big-endian, zero-padded; below them the child at its right
	more      [innerKeys]uint32 // separator bytes skip+4 to skip+8, for separators whose bytes before equal the key's
	separator [innerKeys]uint32 // the whole separator, if these are equal, too
	first     uint32            // child
	n         uint16            // separators
	skip      uint16
	_         [6]uint32 // 8 entries are a cache line
}

// New makes an empty index. It allocates memory with the first key; Close frees it.
func New() *Index {
	return &Index{leaves: newNodePool[leaf](), inners: newNodePool[inner](), prefix: make([]byte, 0, KeyBytesMax)}
}

// Bytes returns the memory that the index uses, in bytes.
func (x *Index) Bytes() int {
	return x.records.bytes() + x.separators.bytes() + x.leaves.bytes() + x.inners.bytes() + cap(x.prefix)
}

// Close frees the memory. The index is empty then, and may be used again.
func (x *Index) Close() {
	x.records.close()
	x.separators.close()
	x.leaves.close()
	x.inners.close()
	x.reset()
}

func (x *Index) reset() { x.root, x.height, x.n, x.prefix = 0, 0, 0, x.prefix[:0] }

// Key returns a record's key, 1 to KeyBytesMax bytes, without a copy. It is valid until the record is deleted, and must not be changed.
func (x *Index) Key(rec uint32) []byte { return x.records.key(rec) }

// Place returns the place of a record's item: the class of its slot, and the slot's number in that class. Both are 0 for a new record.
func (x *Index) Place(rec uint32) (class uint8, slot uint32) {
	b := x.records.at(rec)
	return b[headClass], binary.LittleEndian.Uint32(b[headSlot:])
}

// SetPlace sets a record's place.
func (x *Index) SetPlace(rec uint32, class uint8, slot uint32) {
	b := x.records.at(rec)
	binary.LittleEndian.PutUint32(b[headSlot:], slot)
	b[headClass] = class
}

// Flags returns a record's flags. A new record has none.
func (x *Index) Flags(rec uint32) Flags { return Flags(x.records.at(rec)[headFlags]) }

// SetFlags replaces a record's flags.
func (x *Index) SetFlags(rec uint32, f Flags) { x.records.at(rec)[headFlags] = uint8(f) }

// cached returns the key bytes from skip to skip+4, big-endian, zero-padded, in the bits in which an entry has them.
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

// cached8 returns the 8 key bytes from skip on, big-endian, zero-padded.
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

// rank returns the number of entries below want. It first compares the last entry of each group of 8, without a branch
// that depends on their values, so their cache misses overlap.
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

// cachedMask selects an entry's cached bytes. The other half is the number of a record or of a child.
const cachedMask = ^uint64(1<<32 - 1)

func numberOf(entry uint64) uint32 { return uint32(entry) }

// childAt returns child c of a node.
func (nd *inner) childAt(c int) uint32 {
	if c == 0 {
		return nd.first
	}
	return numberOf(nd.entry[c-1])
}

// search returns the position of the first key of a leaf that is not below key, and whether it equals key. The
// key must belong to this leaf.
func (x *Index) search(l *leaf, key []byte) (int, bool) {
	want := cached(key, int(l.skip))
	lo := rank(l.entry[:], want)
	n := int(l.n)
	end := lo // end of the entries with equal cached bytes; their whole keys must be compared
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

// childOf returns the number of the child under which key belongs, that is, the number of separators not above key.
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
		if nd.more[m] < more || nd.more[m] == more && bytes.Compare(x.separators.key(nd.separator[m]), key) <= 0 {
			lo = m + 1
		} else {
			end = m
		}
	}
	return lo
}

// comparePrefix compares a key with the prefix that all keys share: 0 if the key has it, else below or above 0.
func (x *Index) comparePrefix(key []byte) int {
	return bytes.Compare(key[:min(len(key), len(x.prefix))], x.prefix)
}

// Find returns a key's record. ok is false if the index does not have the key.
func (x *Index) Find(key []byte) (rec uint32, ok bool) {
	if x.n == 0 || x.comparePrefix(key) != 0 {
		return 0, false
	}
	l := x.leaves.at(x.leafOf(key))
	i, ok := x.search(l, key)
	if !ok {
		return 0, false
	}
	return numberOf(l.entry[i]), true
}

// FindLeaf returns the leaf to which a key belongs; 0: the index does not have the key. FindLeaf and Candidate are a Find in two steps, for callers with several
// keys: each step prefetches the memory that the next step reads, so the cache misses of different keys overlap. The index must not change between
// the steps.
func (x *Index) FindLeaf(key []byte) (leaf uint32) {
	if x.n == 0 || x.comparePrefix(key) != 0 {
		return 0
	}
	leaf = x.leafOf(key)
	sys.Prefetch(x.leaves.at(leaf))
	return leaf
}

// Candidate returns the first record of a leaf whose cached bytes equal those of key; 0: the index does not have key. The caller must compare the whole keys.
// If they differ, another record may still have the key, and the caller must call Find.
func (x *Index) Candidate(leaf uint32, key []byte) (rec uint32) {
	l := x.leaves.at(leaf)
	want := cached(key, int(l.skip))
	i := rank(l.entry[:], want)
	if i >= int(l.n) || l.entry[i]&cachedMask != want {
		return 0
	}
	rec = numberOf(l.entry[i])
	sys.PrefetchBytes(x.records.at(rec)[:headBytes])
	return rec
}

// Deletes returns the number of deletes, modulo 2^32. While it stays the same, no record number was reused for another key.
func (x *Index) Deletes() uint32 { return x.deletes }

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

// Seek returns a cursor before the first key that is not below key; with after, before the first key above it. An empty key is below all others.
func (x *Index) Seek(key []byte, after bool) Cursor {
	if x.n == 0 {
		return Cursor{}
	}
	switch side := x.comparePrefix(key); {
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

// Next returns the record after the cursor and moves the cursor past it; ok is false at the end.
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

// heightMax cannot be reached: each new level needs 64 splits of the level below.
const heightMax = 12

// path is the way from the root to a leaf: the inner nodes, and the number of the child in each.
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

// low returns the separator before child c of a path's inner node at depth d; nil: none.
func (x *Index) low(p *path, d, c int) []byte {
	for c == 0 {
		if d == 0 {
			return nil
		}
		d--
		c = p.child[d]
	}
	return x.separators.key(x.inners.at(p.at[d]).separator[c-1])
}

// high returns the separator after that child; nil: none.
func (x *Index) high(p *path, d, c int) []byte {
	for c == int(x.inners.at(p.at[d]).n) {
		if d == 0 {
			return nil
		}
		d--
		c = p.child[d]
	}
	return x.separators.key(x.inners.at(p.at[d]).separator[c])
}

// sharedBetween returns the length of the prefix that all keys between two separators share.
func (x *Index) sharedBetween(low, high []byte) int {
	if low == nil || high == nil {
		return len(x.prefix)
	}
	return sharedBytes(low, high)
}

// separatorOf stores the shortest key that is above low and not above high, and returns its number.
func (x *Index) separatorOf(low, high []byte) (ref uint32, ok bool) {
	return x.separators.add(high[:sharedBytes(low, high)+1])
}

// Insert adds a key of 1 to KeyBytesMax bytes that the index does not have, and returns its new record, without place and flags. The
// key is copied. ok is false if there is no memory; then nothing has changed.
func (x *Index) Insert(key []byte) (rec uint32, ok bool) {
	if rec, ok = x.records.add(key); !ok {
		return 0, false
	}
	if !x.add(key, rec) {
		x.records.remove(rec)
		return 0, false
	}
	x.n++
	return rec, true
}

func (x *Index) add(key []byte, rec uint32) bool {
	if x.n == 0 {
		return x.begin(key, rec)
	}
	if x.comparePrefix(key) != 0 {
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

// vacate marks the entries from n on as unused.
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

// insertChild adds a child after child c, with the separator between the two.
func (x *Index) insertChild(nd *inner, c int, separator, child uint32) {
	n := int(nd.n)
	copy(nd.entry[c+1:], nd.entry[c:n])
	copy(nd.more[c+1:], nd.more[c:n])
	copy(nd.separator[c+1:], nd.separator[c:n])
	nd.n++
	nd.entry[c] = uint64(child)
	x.setSeparator(nd, c, separator)
}

// setSeparator replaces the separator at the left of child i+1.
func (x *Index) setSeparator(nd *inner, i int, separator uint32) {
	key := x.separators.key(separator)
	nd.separator[i] = separator
	nd.entry[i] = cached(key, int(nd.skip)) | nd.entry[i]&^cachedMask
	nd.more[i] = uint32(cached(key, int(nd.skip)+4) >> 32)
}

// removeChild removes a child and the separator at its left; for the first child, the one at its right.
func (x *Index) removeChild(nd *inner, c int) {
	n := int(nd.n)
	i := max(c-1, 0)
	x.separators.remove(nd.separator[i])
	if c == 0 {
		nd.first = nd.childAt(1)
	}
	copy(nd.more[i:n], nd.more[i+1:n])
	copy(nd.separator[i:n], nd.separator[i+1:n])
	copy(nd.entry[i:n], nd.entry[i+1:n])
	nd.n--
	nd.entry[nd.n] = vacant
}

// makeRoom makes one change on the path to a full leaf: it spreads keys, splits a node, or raises the root. The
// caller then descends again. It returns false if there is no memory; the index is consistent then, too.
func (x *Index) makeRoom(p *path, at uint32, key []byte) bool {
	d := x.height - 1
	if d < 0 {
		return x.addRoot()
	}
	l := x.leaves.at(at)
	last := l.next == 0 && bytes.Compare(x.Key(numberOf(l.entry[leafKeys-1])), key) < 0
	nd := x.inners.at(p.at[d])
	n := min(spreadLeaves, int(nd.n)+1)
	first := max(0, min(p.child[d]-n/2, int(nd.n)+1-n))
	if !last && x.keysOf(nd, first, n) <= n*spreadKeys {
		return x.spread(p, first, n, false)
	}
	if nd.n == innerKeys {
		for d > 0 && x.inners.at(p.at[d-1]).n == innerKeys {
			d--
		}
		if d == 0 {
			return x.addRoot()
		}
		return x.splitInner(p, d)
	}
	if last {
		return x.appendLeaf(p, at, key)
	}
	return x.spread(p, first, n, true)
}

// addRoot adds a new root above the old one, which is full.
func (x *Index) addRoot() bool {
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

// spreadLeaves is the number of neighbours among which the keys of a full leaf are spread, itself included, and spreadKeys the most keys
// of each, on average: with more they get another leaf. So leaves filled in random order are 90 % full (TestIndexMemory); with 1 instead of 5, 70 %.
const (
	spreadLeaves = 5
	spreadKeys   = leafKeys * 15 / 16
)

// keysOf returns the number of keys in n leaves of an inner node.
func (x *Index) keysOf(nd *inner, first, n int) (keys int) {
	for i := range n {
		keys += int(x.leaves.at(nd.childAt(first + i)).n)
	}
	return keys
}

// spread distributes the keys of n leaves of a path's last inner node evenly among them; with more, among them and a new leaf at their
// right, for which the inner node has room.
func (x *Index) spread(p *path, first, n int, more bool) bool {
	d := x.height - 1
	nd := x.inners.at(p.at[d])
	var all [spreadLeaves * leafKeys]uint64
	var from, to [spreadLeaves + 1]part
	keys := 0
	for i := range n {
		at := nd.childAt(first + i)
		l := x.leaves.at(at)
		end := keys + copy(all[keys:], l.entry[:l.n])
		from[i] = part{at, keys, end, int(l.skip)}
		keys = end
	}
	m := n
	if more {
		at, ok := x.newLeaf(0)
		if !ok {
			return false
		}
		from[n] = part{leaf: at}
		m++
	}
	var separators [spreadLeaves]uint32 // separators[i]: after leaf i
	for i := range m {
		to[i] = part{from[i].leaf, keys * i / m, keys * (i + 1) / m, KeyBytesMax}
		if i == m-1 {
			break
		}
		ok := false
		at := to[i].end
		if separators[i], ok = x.separatorOf(x.Key(numberOf(all[at-1])), x.Key(numberOf(all[at]))); !ok {
			for _, s := range separators[:i] {
				x.separators.remove(s)
			}
			if more {
				x.leaves.free(from[n].leaf)
			}
			return false
		}
	}
	for i := range m {
		x.fill(&to[i], from[:n], all[:keys])
	}
	for i := range n - 1 {
		x.separators.remove(nd.separator[first+i])
		x.setSeparator(nd, first+i, separators[i])
	}
	if more {
		x.insertChild(nd, first+n-1, separators[n-1], from[n].leaf)
		x.link(from[n-1].leaf, from[n].leaf)
	}
	for i := range m {
		x.improveCache(p, d, first+i)
	}
	return true
}

// part is a leaf and its share of the entries of several leaves.
type part struct {
	leaf       uint32
	begin, end int
	skip       int
}

// fill gives a leaf its entries, which come from neighbours.
func (x *Index) fill(to *part, from []part, all []uint64) {
	for i := range from { // the keys of two neighbours share what each of them skips with the separator between the two
		if f := &from[i]; f.begin < to.end && to.begin < f.end {
			to.skip = min(to.skip, f.skip)
		}
	}
	for i := range from {
		f := &from[i]
		if begin, end := max(f.begin, to.begin), min(f.end, to.end); begin < end {
			x.skipLess(all[begin:end], f.skip, to.skip)
		}
	}
	l := x.leaves.at(to.leaf)
	l.skip = uint16(to.skip)
	l.vacate(copy(l.entry[:], all[to.begin:to.end]))
}

// link puts a leaf behind another.
func (x *Index) link(at, behind uint32) {
	l, b := x.leaves.at(at), x.leaves.at(behind)
	b.next, b.prev = l.next, at
	if b.next != 0 {
		x.leaves.at(b.next).prev = behind
	}
	l.next = behind
}

// appendLeaf adds an empty leaf behind the last one, for keys from key on: keys that arrive in order leave full leaves. The inner node has room.
func (x *Index) appendLeaf(p *path, at uint32, key []byte) bool {
	l := x.leaves.at(at)
	separator, ok := x.separatorOf(x.Key(numberOf(l.entry[l.n-1])), key)
	if !ok {
		return false
	}
	behind, ok := x.newLeaf(int(l.skip))
	if !ok {
		x.separators.remove(separator)
		return false
	}
	x.link(at, behind)
	d := x.height - 1
	x.insertChild(x.inners.at(p.at[d]), p.child[d], separator, behind)
	x.improveCache(p, d, p.child[d])
	x.improveCache(p, d, p.child[d]+1)
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

// improveCache changes the bytes that a leaf, child c of a path's last inner node, caches, if the present ones do not distinguish its
// keys and later bytes can. It does not read the keys if the present ones suffice.
func (x *Index) improveCache(p *path, d, c int) {
	l := x.leaves.at(x.inners.at(p.at[d]).childAt(c))
	if !l.ambiguous() {
		return
	}
	if skip := x.sharedBetween(x.low(p, d, c), x.high(p, d, c)); skip > int(l.skip) {
		x.cacheLeaf(l, skip)
	}
}

// ambiguous reports whether more than one in 8 keys has the cached bytes of the one before.
func (l *leaf) ambiguous() bool {
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

// shorten makes a leaf skip fewer bytes.
func (x *Index) shorten(l *leaf, skip int) {
	if skip < int(l.skip) {
		x.skipLess(l.entry[:l.n], int(l.skip), skip)
		l.skip = uint16(skip)
	}
}

// skipLess changes what entries of one leaf cache. The bytes from the new skip to the old one are the same for all its keys, so it reads only one key.
func (x *Index) skipLess(entries []uint64, old, skip int) {
	more := old - skip
	if more == 0 || len(entries) == 0 {
		return
	}
	same := cached(x.Key(numberOf(entries[0])), skip) & ^(cachedMask >> min(8*more, 32)) & cachedMask
	for i, e := range entries {
		entries[i] = same | e>>(8*more)&cachedMask | e&^cachedMask
	}
}

// shortenPrefix makes the prefix that all keys share n bytes long.
func (x *Index) shortenPrefix(n int) {
	x.prefix = x.prefix[:n]
	x.widen(x.root, 0, nil, nil, false)
	x.widen(x.root, 0, nil, nil, true)
}

// widen prepares a node at some depth, and those below along its left or right edge, for keys between low and high,
// which may share fewer bytes than the nodes skip.
func (x *Index) widen(at uint32, depth int, low, high []byte, right bool) {
	for ; depth < x.height; depth++ {
		nd := x.inners.at(at)
		if skip := x.sharedBetween(low, high); skip < int(nd.skip) {
			x.cache(nd, skip)
		}
		if n := nd.n; right {
			at = nd.childAt(int(n))
			if n > 0 {
				low = x.separators.key(nd.separator[n-1])
			}
		} else {
			at = nd.first
			if n > 0 {
				high = x.separators.key(nd.separator[0])
			}
		}
	}
	x.shorten(x.leaves.at(at), x.sharedBetween(low, high))
}

// Delete removes a record and its key. Empty nodes are freed; others are not merged.
func (x *Index) Delete(rec uint32) {
	key := x.Key(rec)
	var p path
	at := x.descend(key, &p)
	l := x.leaves.at(at)
	l.removeAt(x.positionOf(l, key, rec))
	if l.n == 0 {
		x.removeLeaf(&p, at)
	}
	x.records.remove(rec)
	x.n--
	x.deletes++
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
	if d < 0 { // the root was removed: no key is left
		x.root, x.height, x.prefix = 0, 0, x.prefix[:0]
		return
	}
	nd, c := x.inners.at(p.at[d]), p.child[d]
	x.removeChild(nd, c)
	heir := max(c-1, 0) // future keys of the removed child belong to it
	x.widen(nd.childAt(heir), d+1, x.low(p, d, heir), x.high(p, d, heir), c > 0)
	for x.height > 0 && x.inners.at(x.root).n == 0 {
		old := x.root
		x.root = x.inners.at(old).first
		x.inners.free(old)
		x.height--
	}
}
