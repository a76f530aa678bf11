package store

import "math/bits"

// bitTree is a set of numbers: a bit each, and above that a summary with a bit for each word that is not zero, and
// so on, so that the first member from some number on is found in one look per level or two.
type bitTree struct {
	levels [][]uint64
	n      uint32 // numbers below it may be members
}

// grow makes room for numbers up to n-1, which are no members. It allocates.
func (t *bitTree) grow(n uint32) {
	if n <= t.n {
		return
	}
	t.n = n
	words := (int(n) + 63) / 64
	for k := 0; ; k++ {
		if k == len(t.levels) {
			t.levels = append(t.levels, nil)
			if k > 0 && t.levels[k-1][0] != 0 { // a new summary learns of the one word that was the top until now
				t.levels[k] = []uint64{1}
			}
		}
		if add := words - len(t.levels[k]); add > 0 {
			t.levels[k] = append(t.levels[k], make([]uint64, add)...)
		}
		if words == 1 {
			return
		}
		words = (words + 63) / 64
	}
}

func (t *bitTree) has(i uint32) bool { return t.levels[0][i/64]>>(i%64)&1 != 0 }

func (t *bitTree) set(i uint32) {
	for _, l := range t.levels {
		had := l[i/64] != 0
		l[i/64] |= 1 << (i % 64)
		if had {
			return
		}
		i /= 64
	}
}

func (t *bitTree) clear(i uint32) {
	for _, l := range t.levels {
		l[i/64] &^= 1 << (i % 64)
		if l[i/64] != 0 {
			return
		}
		i /= 64
	}
}

// setRange makes members of the numbers from to to-1, a word at a time: an extent may have a million slots.
func (t *bitTree) setRange(from, to uint32) {
	if from == to {
		return
	}
	for _, l := range t.levels {
		for i := from; i < to; {
			n := min(64-i%64, to-i)
			l[i/64] |= (1<<n - 1) << (i % 64)
			i += n
		}
		from, to = from/64, (to-1)/64+1
	}
}

// next is the first member from some number on; ok is false when there is none.
func (t *bitTree) next(from uint32) (i uint32, ok bool) {
	if from >= t.n {
		return 0, false
	}
	k := 0
	for ; k < len(t.levels); k++ { // up, until there is a member to the right
		if int(from/64) >= len(t.levels[k]) {
			return 0, false
		}
		if w := t.levels[k][from/64] >> (from % 64); w != 0 {
			from += uint32(bits.TrailingZeros64(w))
			break
		}
		from = from/64 + 1
	}
	if k == len(t.levels) {
		return 0, false
	}
	for k--; k >= 0; k-- { // and down to it
		from = from*64 + uint32(bits.TrailingZeros64(t.levels[k][from]))
	}
	return from, true
}

// around is next, going on from 0 after the last.
func (t *bitTree) around(from uint32) (i uint32, ok bool) {
	if i, ok = t.next(from); !ok && from > 0 {
		i, ok = t.next(0)
	}
	return i, ok
}

// count is the number of members from from on, n of them at most 64.
func (t *bitTree) count(from, n uint32) int {
	w := t.levels[0][from/64] >> (from % 64)
	if over := from%64 + n; over > 64 {
		w |= t.levels[0][from/64+1] << (64 - from%64)
	}
	if n < 64 {
		w &= 1<<n - 1
	}
	return bits.OnesCount64(w)
}

// freeMap knows which slots of a slab are free, and sorts its units (pages, or slots with pages of their own) by how much
// of them is: writes then go to those where several changes can share one.
type freeMap struct {
	perUnit uint32
	slots   uint32
	free    uint32
	set     bitTree             // slots that are free
	rooms   [roomLevels]bitTree // units by how many of their slots are free: see room
	hand    uint32              // where the last unit was found
}

// roomLevels: some slot, a few, many.
const roomLevels = 3

// room says in which of rooms a unit belongs with so many free slots; -1: in none.
func (m *freeMap) room(free int) int {
	n := int(m.perUnit)
	switch {
	case free == 0:
		return -1
	case free >= max(3, (n+1)/2):
		return 2
	case free >= max(2, (n+4)/5):
		return 1
	}
	return 0
}

// grow adds n free slots, whole units. It allocates: a slab grows rarely.
func (m *freeMap) grow(n uint32) {
	if n == 0 {
		return
	}
	from := m.slots
	m.slots += n
	m.free += n
	m.set.grow(m.slots)
	m.set.setRange(from, m.slots)
	for i := range m.rooms {
		m.rooms[i].grow(m.slots / m.perUnit)
	}
	m.rooms[m.room(int(m.perUnit))].setRange(from/m.perUnit, m.slots/m.perUnit)
}

// freeIn is the number of free slots of a unit.
func (m *freeMap) freeIn(unit uint32) int { return m.set.count(unit*m.perUnit, m.perUnit) }

// claim marks a free slot as used.
func (m *freeMap) claim(i uint32) {
	if !m.set.has(i) {
		panic("store: a slot was claimed twice")
	}
	m.set.clear(i)
	m.free--
	u := i / m.perUnit
	n := m.freeIn(u)
	m.shift(u, n+1, n)
}

// put gives a slot back.
func (m *freeMap) put(i uint32) {
	if m.set.has(i) {
		panic("store: a slot was freed twice")
	}
	m.set.set(i)
	m.free++
	u := i / m.perUnit
	n := m.freeIn(u)
	m.shift(u, n-1, n)
}

func (m *freeMap) shift(unit uint32, was, is int) {
	a, b := m.room(was), m.room(is)
	if a == b {
		return
	}
	if a >= 0 {
		m.rooms[a].clear(unit)
	}
	if b >= 0 {
		m.rooms[b].set(unit)
	}
}

// roomy says whether there is a unit in which changes can share a write.
func (m *freeMap) roomy() bool {
	for _, t := range m.rooms[1:] {
		if _, ok := t.next(0); ok {
			return true
		}
	}
	return false
}

// pick finds a unit with free slots: one where fit is content, as good as one of the first looks that it takes,
// and among those with the most room. fit gives 0 for no, 1 for perhaps and 2 for yes; nil: always yes. After it the
// unit has a free slot that take will find.
func (m *freeMap) pick(fit func(unit uint32) int) (unit uint32, ok bool) {
	for k := roomLevels - 1; k >= 0; k-- {
		t := &m.rooms[k]
		best := 0
		at := m.hand
		for range pickLooks {
			u, some := t.around(at)
			if !some {
				break
			}
			how := 2
			if fit != nil {
				how = fit(u)
			}
			if how > best {
				unit, best = u, how
			}
			if best == 2 {
				break
			}
			at = u + 1
		}
		if best > 0 {
			m.hand = unit
			return unit, true
		}
	}
	return 0, false
}

// pickLooks bounds what a put spends on finding a page that is in the cache.
const pickLooks = 8

// takeIn claims a unit's first free slot.
func (m *freeMap) takeIn(unit uint32) (slot uint32, ok bool) {
	i, ok := m.set.next(unit * m.perUnit)
	if !ok || i >= (unit+1)*m.perUnit {
		return 0, false
	}
	m.claim(i)
	return i, true
}
