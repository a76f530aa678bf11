package store

import "math/bits"

// bitTree is a set of numbers: one bit for each, and above it summaries with a bit for each word of the level below that is not zero. So
// next reads one or two words per level.
type bitTree struct {
	levels [][]uint64
	n      uint32 // numbers below it may be members
}

// grow makes room for numbers up to n-1. The new numbers are no members. It allocates.
func (t *bitTree) grow(n uint32) {
	if n <= t.n {
		return
	}
	t.n = n
	words := (int(n) + 63) / 64
	for k := 0; ; k++ {
		if k == len(t.levels) {
			t.levels = append(t.levels, nil)
			if k > 0 && t.levels[k-1][0] != 0 { // the new top level has a bit for the one word of the former top level
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

// setRange adds the numbers from to to-1. It sets whole words, because an extent may have a million slots.
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

// next returns the first member from a number on; ok is false if there is none.
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

// nextCyclic is next, but continues from 0 after the last member.
func (t *bitTree) nextCyclic(from uint32) (i uint32, ok bool) {
	if i, ok = t.next(from); !ok && from > 0 {
		i, ok = t.next(0)
	}
	return i, ok
}

// count returns the number of members among the n numbers from from on; n is 64 at most.
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

// freeMap has the free slots of a slab. It sorts the slab's units (pages, or slots with pages of their own) by their number of free slots, so
// that changes go to units where several of them can share a write.
type freeMap struct {
	perUnit uint32
	slots   uint32
	count   uint32
	set     bitTree             // the free slots
	rooms   [roomLevels]bitTree // units by their number of free slots: see room
	hand    uint32              // the unit that was picked last
}

// roomLevels is the number of levels: one free slot, a few, many.
const roomLevels = 3

// room returns the index in rooms of a unit with that many free slots; -1: none.
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
	m.count += n
	m.set.grow(m.slots)
	m.set.setRange(from, m.slots)
	for i := range m.rooms {
		m.rooms[i].grow(m.slots / m.perUnit)
	}
	m.rooms[m.room(int(m.perUnit))].setRange(from/m.perUnit, m.slots/m.perUnit)
}

// freeIn returns the number of free slots of a unit.
func (m *freeMap) freeIn(unit uint32) int { return m.set.count(unit*m.perUnit, m.perUnit) }

// reserve removes a slot from the free ones.
func (m *freeMap) reserve(i uint32) {
	if !m.set.has(i) {
		panic("store: a slot was reserved twice")
	}
	m.set.clear(i)
	m.count--
	u := i / m.perUnit
	n := m.freeIn(u)
	m.move(u, n+1, n)
}

// release adds a slot to the free ones.
func (m *freeMap) release(i uint32) {
	if m.set.has(i) {
		panic("store: a slot was freed twice")
	}
	m.set.set(i)
	m.count++
	u := i / m.perUnit
	n := m.freeIn(u)
	m.move(u, n-1, n)
}

func (m *freeMap) move(unit uint32, was, is int) {
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

// hasRoomyUnit reports whether there is a unit in which changes can share a write.
func (m *freeMap) hasRoomyUnit() bool {
	for _, t := range m.rooms[1:] {
		if _, ok := t.next(0); ok {
			return true
		}
	}
	return false
}

// pick returns a unit with free slots. It prefers units with more room, and among the first pickLooks of a level the one with the highest
// fit: 2 is the best, and 0 excludes a unit. With fit nil every unit has 2. reserveIn then finds a free slot in the unit.
func (m *freeMap) pick(fit func(unit uint32) int) (unit uint32, ok bool) {
	for k := roomLevels - 1; k >= 0; k-- {
		t := &m.rooms[k]
		best := 0
		at := m.hand
		for range pickLooks {
			u, some := t.nextCyclic(at)
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

// pickLooks bounds the units of a level that a put checks to find a page in the cache.
const pickLooks = 8

// reserveIn reserves a unit's first free slot.
func (m *freeMap) reserveIn(unit uint32) (slot uint32, ok bool) {
	i, ok := m.set.next(unit * m.perUnit)
	if !ok || i >= (unit+1)*m.perUnit {
		return 0, false
	}
	m.reserve(i)
	return i, true
}
