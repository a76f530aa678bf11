package store

import "math/bits"

// freeMap knows which slots of a slab are free: a bit each, and above that a summary with a bit for
// each word that is not zero, and so on, so that the lowest free slot is found in one look per level.
// The lowest first keeps new items together on few pages, whose writes they then share.
type freeMap struct {
	levels [][]uint64 // levels[0] has a bit for each slot: set when it is free
	slots  uint32
	free   uint32
}

// grow adds n free slots. It allocates: a slab grows rarely.
func (m *freeMap) grow(n uint32) {
	if n == 0 {
		return
	}
	from, to := uint64(m.slots), uint64(m.slots)+uint64(n)
	m.slots += n
	m.free += n
	for k := 0; ; k++ {
		words := int((to + 63) / 64)
		if k == len(m.levels) {
			m.levels = append(m.levels, nil)
			from = 0 // a new summary learns all of the one word that was the top until now
			if k > 0 && m.levels[k-1][0] == 0 {
				from = 1
			}
		}
		if add := words - len(m.levels[k]); add > 0 {
			m.levels[k] = append(m.levels[k], make([]uint64, add)...)
		}
		setBits(m.levels[k], from, to)
		if words == 1 {
			return
		}
		from, to = from/64, uint64(words)
	}
}

// setBits sets bits from to to-1, a word at a time: an extent may have a million slots.
func setBits(words []uint64, from, to uint64) {
	for from < to {
		n := min(64-from%64, to-from)
		words[from/64] |= (1<<n - 1) << (from % 64)
		from += n
	}
}

// take claims the lowest free slot.
func (m *freeMap) take() (slot uint32, ok bool) {
	if m.free == 0 {
		return 0, false
	}
	i := uint32(0)
	for k := len(m.levels) - 1; k >= 0; k-- {
		i = i*64 + uint32(bits.TrailingZeros64(m.levels[k][i]))
	}
	m.claim(i)
	return i, true
}

// claim marks a free slot as used.
func (m *freeMap) claim(i uint32) {
	if m.levels[0][i/64]>>(i%64)&1 == 0 {
		panic("store: a slot was claimed twice")
	}
	m.free--
	for _, l := range m.levels {
		l[i/64] &^= 1 << (i % 64)
		if l[i/64] != 0 {
			return
		}
		i /= 64
	}
}

// put gives a slot back.
func (m *freeMap) put(i uint32) {
	if m.levels[0][i/64]>>(i%64)&1 != 0 {
		panic("store: a slot was freed twice")
	}
	m.free++
	for _, l := range m.levels {
		had := l[i/64] != 0
		l[i/64] |= 1 << (i % 64)
		if had {
			return
		}
		i /= 64
	}
}
