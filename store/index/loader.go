package index

import (
	"bytes"
	"slices"

	"github.com/kvwire/kvwire/internal/arena"
)

// Loader fills an empty index. Keys may come in any order and more than once; the copy with the highest sequence
// number is kept. Until Finish it needs 24 B for each copy, besides the copy's memory in the index.
//
// Copies are sorted in runs while they arrive, when the CPU would wait for the disk, and merged at the end into
// full nodes. They are compared by the 8 bytes after the prefix that all keys share, and by whole keys only if
// these are equal.
//
// A Loader is used by one goroutine, and ends with Finish or Close.
type Loader struct {
	x    *Index
	runs []run
	temp *arena.Arena // for sorting
}

// loadEntry is one copy of a key.
type loadEntry struct {
	cached uint64
	seq    uint64
	rec    uint32
}

// Copy is one copy of a key's item: its place (see Index.Place) and its sequence number.
type Copy struct {
	Class uint8
	Slot  uint32
	Seq   uint64
}

// run is a part of what was added, in order once it is full.
type run struct {
	memory *arena.Arena
	entry  []loadEntry
	skip   int // length of the prefix that all keys of the run share; the bytes after it are cached
}

// runEntries is the number of entries in a run. With 24 B each a run fits into the second-level cache of most cores.
const runEntries = 1 << 15

// loadKeys and loadChildren are the numbers of keys in a loaded leaf and of children in a loaded inner node. They leave
// some room; else the first inserts would split all nodes.
const (
	loadKeys     = leafKeys * 15 / 16
	loadChildren = innerKeys * 15 / 16
)

// NewLoader begins to load an index. It must have no keys, and must not be used otherwise until Finish or Close.
func NewLoader(x *Index) *Loader {
	if x.n != 0 {
		panic("index: an index that is not empty cannot be loaded")
	}
	return &Loader{x: x}
}

// Add adds a copy of a key of 1 to KeyBytesMax bytes. The key's bytes are copied. ok is false if there is no memory; then only Close may be called.
func (ld *Loader) Add(key []byte, c Copy, flags Flags) (ok bool) {
	x := ld.x
	rec, ok := x.records.add(key)
	if !ok {
		return false
	}
	r, ok := ld.room()
	if !ok {
		x.records.remove(rec)
		return false
	}
	x.SetPlace(rec, c.Class, c.Slot)
	x.SetFlags(rec, flags)
	if len(ld.runs) == 1 && len(r.entry) == 0 {
		x.prefix = append(x.prefix[:0], key...)
	} else if x.comparePrefix(key) != 0 {
		x.prefix = x.prefix[:sharedBytes(key, x.prefix)]
	}
	r.entry = append(r.entry, loadEntry{seq: c.Seq, rec: rec})
	return true
}

// room returns a run that is not full: the last one, or a new one.
func (ld *Loader) room() (r *run, ok bool) {
	if n := len(ld.runs); n > 0 {
		if r = &ld.runs[n-1]; len(r.entry) < runEntries {
			return r, true
		}
		if !ld.sort(r) {
			return nil, false
		}
	}
	a, err := arena.New(runEntries * loadEntryBytes)
	if err != nil {
		return nil, false
	}
	ld.runs = append(ld.runs, run{memory: a, entry: arena.Of[loadEntry](a)[:0]})
	return &ld.runs[len(ld.runs)-1], true
}

const loadEntryBytes = 24

// sort is a radix sort by the cached bytes, lowest first (Knuth 5.2.5), that leaves out those which are all the
// same, and then one by whole keys within equal ones: 57 ns a key where its 19 digits are random, and 166 by comparing.
func (ld *Loader) sort(r *run) bool {
	if ld.temp == nil {
		a, err := arena.New(runEntries * loadEntryBytes)
		if err != nil {
			return false
		}
		ld.temp = a
	}
	var count [8][256]uint32
	r.skip = len(ld.x.prefix)
	for i := range r.entry {
		e := &r.entry[i]
		e.cached = cached8(ld.x.Key(e.rec), r.skip)
		for b := range count {
			count[b][uint8(e.cached>>(8*b))]++
		}
	}
	from, to := r.entry, arena.Of[loadEntry](ld.temp)[:len(r.entry)]
	for b := range count {
		c := &count[b]
		if c[uint8(from[0].cached>>(8*b))] == uint32(len(from)) {
			continue
		}
		next := uint32(0)
		for i, n := range c {
			c[i], next = next, next+n
		}
		for i := range from {
			at := &c[uint8(from[i].cached>>(8*b))]
			to[*at] = from[i]
			*at++
		}
		from, to = to, from
	}
	if &from[0] != &r.entry[0] {
		copy(r.entry, from)
	}
	for rest := r.entry; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].cached == rest[0].cached {
			n++
		}
		if n > 1 {
			slices.SortFunc(rest[:n], ld.compareKeys)
		}
		rest = rest[n:]
	}
	return true
}

// compareKeys puts the copies of one key in the order in which they win: the latest first, and of two that are
// as late the one that came first.
func (ld *Loader) compareKeys(a, b loadEntry) int {
	c := bytes.Compare(ld.x.Key(a.rec), ld.x.Key(b.rec))
	switch {
	case c != 0:
		return c
	case a.seq > b.seq || a.seq == b.seq && a.rec < b.rec:
		return -1
	}
	return 1
}

// Finish fills the index and ends the loader. It calls lost for each copy that is not the latest of its key, later copies first, with
// the key (valid during the call) and the next later copy (or an equally late one). ok is false if there was no memory; then only the index's Close may be called.
func (ld *Loader) Finish(lost func(key []byte, flags Flags, c, later Copy)) (ok bool) {
	defer ld.Close()
	if len(ld.runs) == 0 {
		return true
	}
	if !ld.sort(&ld.runs[len(ld.runs)-1]) {
		return false
	}
	x := ld.x
	b := builder{x: x}
	m := newMerge(ld)
	for last, ok := m.next(); ok; {
		e, more := m.next()
		later := ld.copyOf(last)
		for ; more && e.cached == last.cached && bytes.Equal(x.Key(e.rec), x.Key(last.rec)); e, more = m.next() {
			c := ld.copyOf(e)
			lost(x.Key(e.rec), x.Flags(e.rec), c, later)
			later = c
			x.records.remove(e.rec)
		}
		if !b.add(last) {
			return false
		}
		last, ok = e, more
	}
	return b.finish()
}

func (ld *Loader) copyOf(e loadEntry) Copy {
	class, slot := ld.x.Place(e.rec)
	return Copy{class, slot, e.seq}
}

// Close ends a loader that is not to be finished. After Finish, or a second time, it does nothing.
func (ld *Loader) Close() {
	for i := range ld.runs {
		_ = ld.runs[i].memory.Close()
	}
	if ld.temp != nil {
		_ = ld.temp.Close()
	}
	*ld = Loader{}
}

// merge returns the entries of all runs in order, by a tree of losers (Knuth 5.4.1): each inner node holds the run
// that lost there, and node 0 the winner.
type merge struct {
	ld    *Loader
	heads []head
	tree  []int32
}

// head is the rest of a run.
type head struct {
	first loadEntry
	ended bool
	rest  []loadEntry
	lead  uint64 // the run skips more than the prefix that all keys share: its keys have these bytes before the cached
	shift int    // bits that the lead takes
}

func newMerge(ld *Loader) *merge {
	k := len(ld.runs)
	m := &merge{ld: ld, heads: make([]head, k), tree: make([]int32, k)}
	shared := len(ld.x.prefix)
	for i, r := range ld.runs {
		h := &m.heads[i]
		h.rest = r.entry
		h.shift = 8 * (r.skip - shared)
		if h.shift > 0 {
			h.lead = cached8(ld.x.Key(r.entry[0].rec), shared) &^ (^uint64(0) >> h.shift)
		}
		h.advance()
	}
	m.tree[0] = m.winner(1)
	return m
}

// winner returns the winner below a node of the tree. The leaves are the nodes from len(heads) on.
func (m *merge) winner(node int) int32 {
	k := len(m.heads)
	if node >= k {
		return int32(node - k)
	}
	a, b := m.winner(2*node), m.winner(2*node+1)
	if m.before(b, a) {
		a, b = b, a
	}
	m.tree[node] = b
	return a
}

func (h *head) advance() {
	if h.ended = len(h.rest) == 0; h.ended {
		return
	}
	h.first = h.rest[0]
	h.first.cached = h.lead | h.first.cached>>h.shift
	h.rest = h.rest[1:]
}

func (m *merge) before(a, b int32) bool {
	ha, hb := &m.heads[a], &m.heads[b]
	switch {
	case ha.ended || hb.ended:
		return !ha.ended
	case ha.first.cached != hb.first.cached:
		return ha.first.cached < hb.first.cached
	}
	return m.ld.compareKeys(ha.first, hb.first) < 0
}

// next returns the next entry; its cached bytes are those after the prefix that all keys share.
func (m *merge) next() (e loadEntry, ok bool) {
	won := m.tree[0]
	h := &m.heads[won]
	if h.ended {
		return loadEntry{}, false
	}
	e = h.first
	h.advance()
	for node := (int(won) + len(m.heads)) / 2; node > 0; node /= 2 {
		if m.before(m.tree[node], won) {
			m.tree[node], won = won, m.tree[node]
		}
	}
	m.tree[0] = won
	return e, true
}

// builder makes the leaves of an index from keys that come in order, and then the inner nodes above them.
type builder struct {
	x          *Index
	pending    [loadKeys]loadEntry // keys of the next leaf
	n          int
	children   []uint32 // the nodes of the level that is being made
	separators []uint32 // before each of them: the first has 0
	separator  uint32   // before the next leaf; 0: none
}

func (b *builder) add(e loadEntry) bool {
	if b.n == loadKeys {
		x := b.x
		separator, ok := x.separatorOf(x.Key(b.pending[b.n-1].rec), x.Key(e.rec))
		if !ok || !b.leaf(separator) {
			return false
		}
	}
	b.pending[b.n] = e
	b.n++
	b.x.n++
	return true
}

// leaf makes a leaf of the pending keys. high is the separator after it.
func (b *builder) leaf(high uint32) bool {
	x := b.x
	skip := b.sharedBetween(b.separator, high)
	known := min(skip, len(x.prefix)+4) // as far as the 4 bytes are among the 8 at hand
	at, ok := x.newLeaf(known)
	if !ok {
		return false
	}
	l := x.leaves.at(at)
	for i, e := range b.pending[:b.n] {
		l.entry[i] = e.cached<<(8*(known-len(x.prefix)))&cachedMask | uint64(e.rec)
	}
	l.n = uint16(b.n)
	if skip > known && l.ambiguous() {
		x.cacheLeaf(l, skip)
	}
	if n := len(b.children); n > 0 {
		l.prev = b.children[n-1]
		x.leaves.at(l.prev).next = at
	}
	b.children = append(b.children, at)
	b.separators = append(b.separators, b.separator)
	b.separator, b.n = high, 0
	return true
}

func (b *builder) sharedBetween(low, high uint32) int {
	if low == 0 || high == 0 {
		return len(b.x.prefix)
	}
	return sharedBytes(b.x.separators.key(low), b.x.separators.key(high))
}

func (b *builder) finish() bool {
	if !b.leaf(0) {
		return false
	}
	x := b.x
	for len(b.children) > 1 {
		nodes := (len(b.children) + loadChildren - 1) / loadChildren
		for i := range nodes { // in place: node i is made of children from i on
			first, end := i*len(b.children)/nodes, (i+1)*len(b.children)/nodes
			high := uint32(0)
			if end < len(b.children) {
				high = b.separators[end]
			}
			at, ok := x.newInner(b.sharedBetween(b.separators[first], high))
			if !ok {
				return false
			}
			nd := x.inners.at(at)
			nd.first = b.children[first]
			for c := first + 1; c < end; c++ {
				x.insertChild(nd, c-first-1, b.separators[c], b.children[c])
			}
			b.children[i], b.separators[i] = at, b.separators[first]
		}
		b.children, b.separators = b.children[:nodes], b.separators[:nodes]
		x.height++
	}
	x.root = b.children[0]
	return true
}
