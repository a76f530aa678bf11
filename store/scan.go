package store

import (
	"math"

	"github.com/kvwire/kvwire/kv"
)

// A scan that waits remembers only how far its answer has come: Aux[1] has the number of items in it and
// where the last one begins, and Need how many items from the start of the scan have been
// asked of the disk. The next key is the one after the answer's last, whatever happened to the
// index since.

// scanAhead is the number of items whose pages are read ahead of the answer.
const scanAhead = 32

type scanState struct {
	n    uint32 // items in the answer
	last uint32 // where the last one begins
}

func scanStateOf(r *kv.Request) scanState {
	return scanState{uint32(r.Aux[1] >> 32), uint32(r.Aux[1])}
}

func (s scanState) keep(r *kv.Request) { r.Aux[1] = uint64(s.n)<<32 | uint64(s.last) }

// scan adds items to the answer until one has to be waited for.
func (p *Partition) scan(r *kv.Request) {
	st := scanStateOf(r)
	c := p.scanFrom(r, st)
	for st.n < r.Limit {
		before := c
		rec, ok := p.index.next(&c)
		if !ok {
			break
		}
		if r.Aux[2] != 0 {
			switch it, v := p.awaited(&r.Aux[2], p.index.key(rec)); v {
			case slotLive:
				if !p.scanAdd(r, &st, it, kv.StatusOK) {
					return
				}
				continue
			case slotTombstone:
				continue
			}
		}
		f := p.index.flags(rec)
		if f&(flagHidden|flagTomb) != 0 {
			if p.awaits(r, rec, f) {
				st.keep(r)
				return
			}
			continue
		}
		if f&flagCorrupt != 0 {
			p.count.corrupt++
			p.scanAdd(r, &st, item{}, kv.StatusCorrupt)
			return
		}
		st.keep(r)
		at := p.index.at(rec)
		if p.files != nil && at.large() {
			if n := int(p.slabs[at.class].whole[at.slot].bytes) - headerBytes; !p.scanRoom(r, st, n) {
				return
			}
			p.readAhead(r, st, before)
			p.readLarge(r, at)
			return
		}
		it, s, ok := p.item(r, at, p.index.key(rec))
		if !ok {
			p.readAhead(r, st, before)
			return
		}
		if !p.scanAdd(r, &st, it, s) {
			return
		}
	}
	p.scanEnd(r, 0)
}

// scanFrom puts a cursor after what the answer has.
func (p *Partition) scanFrom(r *kv.Request, st scanState) cursor {
	if st.n == 0 {
		r.Value = r.Value[:0]
		return p.index.seek(r.Key, false)
	}
	key, _, _, _ := kv.NextItem(r.Value[st.last:])
	return p.index.seek(key, true)
}

// scanRoom says whether an item whose key and value have n bytes fits into the answer; if not, the scan has ended.
func (p *Partition) scanRoom(r *kv.Request, st scanState, n int) bool {
	need := kv.ItemHeaderBytes + n
	if cap(r.Value)-len(r.Value) >= need && len(r.Value) <= math.MaxUint32 {
		return true
	}
	if st.n > 0 {
		p.scanEnd(r, kv.ScanMore)
		return false
	}
	r.Need = uint32(need)
	p.finish(r, kv.StatusTooSmall)
	return false
}

// scanAdd adds one item to the answer, and ends the scan, reporting false, when it cannot.
func (p *Partition) scanAdd(r *kv.Request, st *scanState, it item, s kv.Status) bool {
	if s != kv.StatusOK {
		r.Value = r.Value[:0]
		p.finish(r, s)
		return false
	}
	begin := len(r.Value)
	out, ok := kv.AppendItem(r.Value, it.key, it.value)
	if !ok {
		return p.scanRoom(r, *st, len(it.key)+len(it.value))
	}
	p.l.Stats.Copied += uint64(len(out) - begin)
	r.Value = out
	st.n++
	st.last = uint32(begin)
	return true
}

// scanLarge goes on with a scan whose next item has been read into a buffer. The key may have been
// deleted or moved since: what was read is what it had when it was asked for.
func (p *Partition) scanLarge(r *kv.Request, b []byte) {
	st := scanStateOf(r)
	it, v := parseSlot(b)
	s := kv.StatusOK
	if v != slotLive {
		p.count.corrupt++
		s = kv.StatusCorrupt
	}
	if p.scanAdd(r, &st, it, s) {
		st.keep(r)
		p.run(r)
	}
}

func (p *Partition) scanEnd(r *kv.Request, need uint32) {
	r.Need = need
	p.finish(r, kv.StatusOK)
}

// readAhead begins to read the pages of the items that follow, when half of those it asked for last
// time are in the answer.
func (p *Partition) readAhead(r *kv.Request, st scanState, c cursor) {
	if r.Need > st.n+scanAhead/2 {
		return
	}
	room := cap(r.Value) - len(r.Value)
	n := st.n
	for end := min(st.n+scanAhead, r.Limit); n < end; n++ {
		rec, ok := p.index.next(&c)
		if !ok {
			break
		}
		at := p.index.at(rec)
		if room -= classes[at.class].bytes / 2; room < 0 { // an item takes more than half of its slot, mostly
			break
		}
		if n >= r.Need && p.index.flags(rec)&(flagHidden|flagTomb|flagCorrupt) == 0 && !at.large() {
			p.prefetch(at)
		}
	}
	r.Need = max(r.Need, n)
}
