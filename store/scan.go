package store

import (
	"bytes"
	"math"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/index"
)

// A waiting scan keeps only the progress of its answer (scanState). It continues with the key after the answer's last one, whatever has changed in the
// index since.

// Where its turn is up among keys that are not in the answer, deleted ones above all, there is a mark, and it goes on from there.

// scanTurn bounds the keys that a scan looks at in one turn: some 500 µs.
const scanTurn = 1024

// scanMarks holds the keys after which scans continue: at most one for each scan under way. A scan keeps the number of its mark (markOf).
type scanMarks struct {
	of    []scanMark // number 1 first
	spare uint32     // number of an unused mark, the head of a list; 0: none
}

type scanMark struct {
	key  []byte
	next uint32 // spare
}

func (m *scanMarks) set(r *kv.Request, key []byte) {
	n := markOf(r)
	if *n == 0 {
		if m.spare == 0 {
			m.of = append(m.of, scanMark{})
			m.spare = uint32(len(m.of))
		}
		*n = m.spare
		m.spare = m.of[m.spare-1].next
	}
	k := &m.of[*n-1]
	k.key, k.next = append(k.key[:0], key...), 0
}

// key is nil where a scan has none.
func (m *scanMarks) key(r *kv.Request) []byte {
	if n := *markOf(r); n != 0 {
		return m.of[n-1].key
	}
	return nil
}

func (m *scanMarks) free(r *kv.Request) {
	if n := markOf(r); *n != 0 {
		m.of[*n-1].next, m.spare = m.spare, *n
		*n = 0
	}
}

// goOn has the oldest of the scans whose turn was up go on: one each turn, so that there may be any number of them.
func (p *Partition) goOn() int {
	r := p.later.Pop()
	if r == nil {
		return 0
	}
	if !p.later.Empty() {
		p.l.Again()
	}
	p.run(r)
	return 1
}

// scanAhead is the number of items whose pages are read ahead of the answer.
const scanAhead = 32

// scan adds items to the answer until one has to be waited for, or its turn is up.
func (p *Partition) scan(r *kv.Request) {
	st := scanStateOf(r)
	c := p.scanFrom(r, st)
	passed := uint32(0) // the key that was looked at last, where it is not in the answer
	for looked := 0; st.n < r.Limit; looked++ {
		if looked == p.scanTurn {
			st.keep(r)
			if passed != 0 {
				p.marks.set(r, p.index.Key(passed))
			}
			p.later.Push(r)
			p.l.Again()
			return
		}
		before, had := c, st.n
		rec, ok := p.index.Next(&c)
		if !ok {
			break
		}
		if !p.scanKey(r, &st, rec, before) {
			return
		}
		if passed = rec; st.n > had {
			passed = 0
		}
	}
	p.scanEnd(r, false)
}

// scanKey adds the item of a record, if it has one. before is the cursor before it. false: the scan has ended, or waits, and is run again then.
func (p *Partition) scanKey(r *kv.Request, st *scanState, rec uint32, before index.Cursor) bool {
	if at, ok := popAwaited(r); ok {
		switch it, v := p.awaited(at, p.index.Key(rec)); v {
		case slotLive:
			return p.scanAdd(r, st, it, kv.StatusOK)
		case slotTombstone:
			return true
		}
	}
	f := p.index.Flags(rec)
	if f&(flagHidden|flagTomb) != 0 {
		if p.awaits(r, rec, f) {
			st.keep(r)
			return false
		}
		return true
	}
	if f&flagCorrupt != 0 {
		p.count.corrupt++
		return p.scanAdd(r, st, item{}, kv.StatusCorrupt)
	}
	st.keep(r)
	at := p.at(rec)
	if p.files != nil && at.large() {
		if n := p.largeBytes(at); !p.scanRoom(r, *st, n) {
			return false
		}
		p.readAhead(r, st, before)
		p.readLarge(r, at)
		return false
	}
	it, s, ok := p.item(r, at, p.index.Key(rec))
	if !ok {
		p.readAhead(r, st, before)
		return false
	}
	return p.scanAdd(r, st, it, s)
}

// scanFrom puts a cursor after what the answer has, or the scan has passed.
func (p *Partition) scanFrom(r *kv.Request, st scanState) index.Cursor {
	mark := p.marks.key(r)
	if st.n == 0 {
		if r.Value = r.Value[:0]; mark != nil {
			return p.index.Seek(mark, true)
		}
		return p.index.Seek(r.Key, false)
	}
	key, _, _, _ := kv.NextItem(r.Value[st.last:])
	if bytes.Compare(key, mark) < 0 {
		key = mark
	}
	return p.index.Seek(key, true)
}

// scanRoom reports whether an item whose key and value have n bytes fits into the answer. If not, the scan has ended.
func (p *Partition) scanRoom(r *kv.Request, st scanState, n int) bool {
	need := kv.ItemHeaderBytes + n
	if cap(r.Value)-len(r.Value) >= need && len(r.Value) <= math.MaxUint32 {
		return true
	}
	if st.n > 0 {
		p.scanEnd(r, true)
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
		p.scanRoom(r, *st, len(it.key)+len(it.value))
		return false
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

func (p *Partition) scanEnd(r *kv.Request, more bool) {
	r.More = more
	p.finish(r, kv.StatusOK)
}

// readAhead begins to read the pages of the items that follow, when half of those it asked for last
// time are in the answer.
func (p *Partition) readAhead(r *kv.Request, st *scanState, c index.Cursor) {
	if st.asked > st.n+scanAhead/2 {
		return
	}
	room := cap(r.Value) - len(r.Value)
	n := st.n
	for end := min(st.n+scanAhead, r.Limit); n < end; n++ {
		rec, ok := p.index.Next(&c)
		if !ok {
			break
		}
		at := p.at(rec)
		if room -= classes[at.class].bytes / 2; room < 0 { // an item takes more than half of its slot, mostly
			break
		}
		if n >= st.asked && p.index.Flags(rec)&(flagHidden|flagTomb|flagCorrupt) == 0 && !at.large() {
			p.prefetch(at)
		}
	}
	st.asked = max(st.asked, n)
	st.keep(r)
}
