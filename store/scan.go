package store

import (
	"bytes"
	"math"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/index"
)

// A waiting scan keeps only the progress of its answer (scanState). It continues with the key after the answer's last one, whatever has changed in the
// index since.

// A turn may end among keys that are not in the answer, such as deleted ones. Then the scan stores its position (scanPositions), and continues from there.

// scanTurn bounds the keys that a scan visits in one turn: some 500 µs.
const scanTurn = 1024

// scanPositions has the keys after which scans continue: at most one for each scan under way. A scan's Work has the number of its position (positionOf).
type scanPositions struct {
	list  []scanPosition // number 1 first
	spare uint32         // number of an unused position, the head of a list; 0: none
}

type scanPosition struct {
	key  []byte
	next uint32 // spare
}

func (m *scanPositions) set(r *kv.Request, key []byte) {
	n := positionOf(r)
	if *n == 0 {
		if m.spare == 0 {
			m.list = append(m.list, scanPosition{})
			m.spare = uint32(len(m.list))
		}
		*n = m.spare
		m.spare = m.list[m.spare-1].next
	}
	k := &m.list[*n-1]
	k.key, k.next = append(k.key[:0], key...), 0
}

// key returns the key after which a scan continues; nil: none.
func (m *scanPositions) key(r *kv.Request) []byte {
	if n := *positionOf(r); n != 0 {
		return m.list[n-1].key
	}
	return nil
}

func (m *scanPositions) free(r *kv.Request) {
	if n := positionOf(r); *n != 0 {
		m.list[*n-1].next, m.spare = m.spare, *n
		*n = 0
	}
}

// continueScan continues the oldest scan that has used up its turn: one scan in each turn of the loop, however many there are.
func (p *Partition) continueScan() int {
	r := p.pausedScans.Pop()
	if r == nil {
		return 0
	}
	if !p.pausedScans.Empty() {
		p.l.Again()
	}
	p.run(r)
	return 1
}

// scanAhead is the number of items whose pages are read ahead of the answer.
const scanAhead = 32

// scan adds items to the answer until it must wait for one, or has used up its turn.
func (p *Partition) scan(r *kv.Request) {
	st := scanStateOf(r)
	c := p.scanFrom(r, st)
	passed := uint32(0) // record of the last visited key, if it is not in the answer
	for looked := 0; st.n < r.Limit; looked++ {
		if looked == p.scanTurn {
			st.save(r)
			if passed != 0 {
				p.positions.set(r, p.index.Key(passed))
			}
			p.pausedScans.Push(r)
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

// scanKey adds the item of a record, if it has one. before is the cursor before it. false: the scan has ended, or waits to be run again.
func (p *Partition) scanKey(r *kv.Request, st *scanState, rec uint32, before index.Cursor) bool {
	if at, ok := popAwaited(r); ok {
		switch it, v := p.awaitedItem(at, p.index.Key(rec)); v {
		case slotLive:
			return p.scanAdd(r, st, it, kv.StatusOK)
		case slotTombstone:
			return true
		}
	}
	f := p.index.Flags(rec)
	if f&(flagHidden|flagTomb) != 0 {
		if p.waitsForKey(r, rec, f) {
			st.save(r)
			return false
		}
		return true
	}
	if f&flagCorrupt != 0 {
		p.count.corrupt++
		return p.scanAdd(r, st, item{}, kv.StatusCorrupt)
	}
	st.save(r)
	at := p.placeOf(rec)
	if p.files != nil && at.large() {
		if n := p.largeBytes(at); !p.scanRoom(r, *st, n) {
			return false
		}
		p.readAhead(r, st, before)
		p.readLarge(r, at)
		return false
	}
	it, s, ok := p.itemAt(r, at, p.index.Key(rec))
	if !ok {
		p.readAhead(r, st, before)
		return false
	}
	return p.scanAdd(r, st, it, s)
}

// scanFrom returns a cursor after the last key that is in the answer or that the scan has passed.
func (p *Partition) scanFrom(r *kv.Request, st scanState) index.Cursor {
	position := p.positions.key(r)
	if st.n == 0 {
		if r.Value = r.Value[:0]; position != nil {
			return p.index.Seek(position, true)
		}
		return p.index.Seek(r.Key, false)
	}
	key, _, _, _ := kv.NextItem(r.Value[st.last:])
	if bytes.Compare(key, position) < 0 {
		key = position
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

// scanAdd adds one item to the answer. If it cannot, it ends the scan and returns false.
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

// scanLarge continues a scan whose next item has been read into a buffer. The key may have been deleted or moved since: the answer has the
// item as it was when the read began.
func (p *Partition) scanLarge(r *kv.Request, b []byte) {
	st := scanStateOf(r)
	it, v := parseSlot(b)
	s := kv.StatusOK
	if v != slotLive {
		p.count.corrupt++
		s = kv.StatusCorrupt
	}
	if p.scanAdd(r, &st, it, s) {
		st.save(r)
		p.run(r)
	}
}

func (p *Partition) scanEnd(r *kv.Request, more bool) {
	r.More = more
	p.finish(r, kv.StatusOK)
}

// readAhead begins to read the pages of the items that follow, once half of those that it requested last time are in the answer.
func (p *Partition) readAhead(r *kv.Request, st *scanState, c index.Cursor) {
	if st.requested > st.n+scanAhead/2 {
		return
	}
	room := cap(r.Value) - len(r.Value)
	n := st.n
	for end := min(st.n+scanAhead, r.Limit); n < end; n++ {
		rec, ok := p.index.Next(&c)
		if !ok {
			break
		}
		at := p.placeOf(rec)
		if room -= classes[at.class].bytes / 2; room < 0 { // an item takes more than half of its slot, mostly
			break
		}
		if n >= st.requested && p.index.Flags(rec)&(flagHidden|flagTomb|flagCorrupt) == 0 && !at.large() {
			p.prefetch(at)
		}
	}
	st.requested = max(st.requested, n)
	st.save(r)
}
