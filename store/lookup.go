package store

import (
	"bytes"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
)

// Requests that arrive together are looked up together, in steps: the leaves, the records, the items. Each step asks the CPU for what the next
// one touches, of all of them, so that their cache misses overlap (group prefetching: Chen, Ailamaki, Gibbons, Mowry 2004). Then they are run,
// in their order.

// groupMax is how many are looked up together: as many misses as a core has under way, and the depth of many pipelines.
const groupMax = 16

// group are requests for one key each that wait for End, or for being groupMax.
type group struct {
	open bool // between Begin and End
	n    int
	r    [groupMax]*kv.Request
	leaf [groupMax]uint32
	rec  [groupMax]uint32
}

// aheadBytes is the number of an item's first bytes to prefetch. The CPU detects the sequential access and prefetches the rest.
const aheadBytes = 1280

var _ kv.Batcher = (*Partition)(nil)

// Begin implements kv.Batcher.
func (p *Partition) Begin() { p.group.open = true }

// End implements kv.Batcher.
func (p *Partition) End() {
	p.group.open = false
	p.lookUp()
}

// join lets a request wait for others.
func (p *Partition) join(r *kv.Request) {
	g := &p.group
	g.r[g.n] = r
	if g.n++; g.n == groupMax {
		p.lookUp()
	}
}

// lookUp runs those that wait.
func (p *Partition) lookUp() {
	g := &p.group
	n := g.n
	g.n = 0
	if n > 1 {
		p.findAll(n)
	}
	for i := range n {
		r := g.r[i]
		g.r[i] = nil
		p.run(r)
	}
}

// findAll finds the records of n requests, which gets remember (see recall), and asks for the items.
func (p *Partition) findAll(n int) {
	x, g := p.index, &p.group
	for i := range n {
		g.leaf[i] = x.Lead(g.r[i].Key)
	}
	for i := range n {
		g.rec[i] = 0
		if g.leaf[i] != 0 {
			g.rec[i] = x.Guess(g.leaf[i], g.r[i].Key)
		}
	}
	for i := range n {
		rec := g.rec[i]
		if rec == 0 || !bytes.Equal(x.Key(rec), g.r[i].Key) {
			continue // it is looked for again
		}
		if g.r[i].Op == kv.OpGet {
			setRecord(g.r[i], rec, x.Deletes())
		}
		if at := p.at(rec); p.files == nil {
			b := p.slabs[at.class].memory(at.slot)
			sys.PrefetchBytes(b[:min(len(b), aheadBytes)])
		}
	}
}
