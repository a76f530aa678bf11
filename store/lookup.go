package store

import (
	"bytes"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
)

// Requests that arrive together are looked up together, in steps: the leaves, the records, the items. Each step prefetches the memory that the next
// step reads, for all requests, so that their cache misses overlap (group prefetching: Chen, Ailamaki, Gibbons, Mowry 2004). Then the requests
// are run in their order.

// groupMax is the most requests that are looked up together: about the cache misses that a core can have under way, and the depth of many pipelines.
const groupMax = 16

// group has requests, each for one key, until End is called or the group is full.
type group struct {
	open bool // between Begin and End
	n    int
	r    [groupMax]*kv.Request
	key  [groupMax][]byte
	leaf [groupMax]uint32
	rec  [groupMax]uint32 // 0: not found yet
	hint uint32           // the record of the change that is being run; 0: not known
}

// aheadBytes is the number of an item's first bytes to prefetch. The CPU detects the sequential access and prefetches the rest.
const aheadBytes = 1280

var _ kv.Batcher = (*Partition)(nil)

// Begin implements kv.Batcher.
func (p *Partition) Begin() { p.group.open = true }

// End implements kv.Batcher.
func (p *Partition) End() {
	p.group.open = false
	p.runGroup()
}

// groupable reports whether a request can be looked up together with others.
func groupable(r *kv.Request) bool {
	return r.Op != kv.OpScan && r.Op != kv.OpKeys && r.Op != kv.OpStats && r.Stages == nil
}

// addToGroup adds a request to the group, and runs the group if it is full, or if it may need all reads that may begin.
func (p *Partition) addToGroup(r *kv.Request) {
	g := &p.group
	g.r[g.n] = r
	if g.n++; g.n == groupMax || p.reads+g.n >= p.readsMax {
		p.runGroup()
	}
}

// runGroup runs the requests of the group.
func (p *Partition) runGroup() {
	g := &p.group
	n := g.n
	g.n = 0
	if n > 1 {
		p.findAll(n)
	}
	deletes := p.index.Deletes()
	for i := range n {
		r := g.r[i]
		g.r[i] = nil
		if n > 1 && r.Op.Changes() && p.index.Deletes() == deletes { // else the number may be another key's
			g.hint = g.rec[i]
		}
		p.run(r)
		g.hint = 0
	}
}

// findToChange returns the record of the key of a change.
func (p *Partition) findToChange(r *kv.Request) (rec uint32, found bool) {
	if rec = p.group.hint; rec != 0 {
		p.group.hint = 0
		return rec, true
	}
	return p.index.Find(r.Key)
}

// findAll finds the records of n requests and prefetches the items. It stores the records of gets for findRecord.
func (p *Partition) findAll(n int) {
	g := &p.group
	for i, r := range g.r[:n] {
		g.key[i] = r.Key
	}
	p.lookUp(g.key[:n])
	for i, r := range g.r[:n] {
		g.key[i] = nil
		if g.rec[i] != 0 && r.Op == kv.OpGet {
			setRecord(r, g.rec[i], p.index.Deletes())
		}
	}
}

// lookUp sets group.rec to the records of keys, at most groupMax, and prefetches the items. Some that exist are not found: Find must search them.
func (p *Partition) lookUp(keys [][]byte) {
	x, g := p.index, &p.group
	for i, k := range keys {
		g.leaf[i] = x.FindLeaf(k)
	}
	for i, k := range keys {
		g.rec[i] = 0
		if g.leaf[i] != 0 {
			g.rec[i] = x.Candidate(g.leaf[i], k)
		}
	}
	for i, k := range keys {
		rec := g.rec[i]
		if rec == 0 {
			continue
		}
		if !bytes.Equal(x.Key(rec), k) {
			g.rec[i] = 0
			continue
		}
		if p.files == nil {
			b := p.memoryOf(rec)
			sys.PrefetchBytes(b[:min(len(b), aheadBytes)])
		}
	}
}

var _ kv.Direct = (*Partition)(nil)

// Read implements kv.Direct, for the mem backend. An exported item is read by requests only, which export it.
func (p *Partition) Read(keys, values [][]byte) int {
	keys = p.lookUpDirect(keys)
	for i, k := range keys {
		rec, ok := p.foundDirect(i, k)
		if values[i] = nil; !ok || p.index.Flags(rec)&(flagHidden|flagTomb) != 0 {
			continue
		}
		it, _ := peekItem(p.memoryOf(rec))
		values[i] = it.value
	}
	return len(keys)
}

// Write implements kv.Direct, for the mem backend without exported items. A put for which there is no memory needs a request, which fails.
func (p *Partition) Write(keys, values [][]byte) int {
	keys = p.lookUpDirect(keys)
	for i, k := range keys {
		rec, ok := p.foundDirect(i, k)
		if ok && p.index.Flags(rec) != 0 {
			return i
		}
		rec, s := p.placeInMemory(k, rec, ok, len(values[i]))
		if s != kv.StatusOK {
			return i
		}
		p.encode(p.memoryOf(rec), k, values[i], kindLive)
	}
	return len(keys)
}

// lookUpDirect looks up keys for Read or Write, and returns those that can be served at once, the first ones.
func (p *Partition) lookUpDirect(keys [][]byte) [][]byte {
	if p.files != nil || p.table != nil || p.closing {
		return nil
	}
	if p.group.n > 0 { // earlier requests come first
		p.runGroup()
	}
	keys = keys[:min(len(keys), groupMax)]
	if p.group.rec[0] = 0; len(keys) > 1 {
		p.lookUp(keys)
	}
	return keys
}

// foundDirect returns the record of key i of lookUpDirect.
func (p *Partition) foundDirect(i int, key []byte) (rec uint32, found bool) {
	if rec = p.group.rec[i]; rec != 0 {
		return rec, true
	}
	return p.index.Find(key)
}
