package store

import (
	"github.com/kvwire/kvwire/kv"
)

// A walk goes through the numbers of the records from the highest to the lowest. Its positions are such numbers. A key keeps its number as
// long as it exists, so the walk finds it whatever happens to other keys. A walk reads only the index in memory, and no page.

// walkSteps bounds the work of one page of a walk: a step checks 64 numbers or one key. All take some 100 µs.
const walkSteps = 4096

// walk answers with one page of a walk. The page has fewer keys than the limit if it runs out of room or steps.
func (p *Partition) walk(r *kv.Request) {
	x, position := p.index, kv.PositionIn(r.Key).Record()
	r.Value = r.Value[:0]
	for n, steps := uint32(0), walkSteps; n < r.Limit && x.Before(&position, &steps); {
		steps--
		if !p.walkable(position) {
			continue
		}
		key := x.Key(position)
		out, ok := kv.AppendItem(r.Value, key, nil)
		if !ok {
			if n == 0 {
				r.Need = uint32(kv.ItemHeaderBytes + len(key))
				p.finish(r, kv.StatusTooSmall)
				return
			}
			position++ // the next page begins with it
			break
		}
		r.Value = out
		n++
	}
	p.l.Stats.Copied += uint64(len(r.Value))
	r.Record = position
	p.finish(r, kv.StatusOK)
}

// walkable reports whether a walk returns the key of a record. It does so during a delete, too, because the write of the tombstone may still fail.
func (p *Partition) walkable(rec uint32) bool {
	f := p.index.Flags(rec)
	if f&(flagHidden|flagTomb) == flagTomb && p.files != nil {
		at := p.placeOf(rec)
		return p.cache.frames[p.cache.find(at.id())].ahead>>at.nth()&1 != 0
	}
	return f&(flagHidden|flagTomb) == 0
}
