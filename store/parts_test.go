package store

import (
	"bytes"
	"container/list"
	"math/rand/v2"
	"testing"
)

func TestBitTreeFindsTheNextMember(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var s bitTree
	in := map[uint32]bool{}
	for range 40 {
		from := s.n
		s.grow(s.n + uint32(rng.IntN(9000)))
		if rng.IntN(4) == 0 {
			s.setRange(from, s.n)
			for i := from; i < s.n; i++ {
				in[i] = true
			}
		}
		for range 2000 {
			if s.n == 0 {
				continue
			}
			i := uint32(rng.IntN(int(s.n)))
			if rng.IntN(3) == 0 {
				s.set(i)
				in[i] = true
			} else {
				s.clear(i)
				delete(in, i)
			}
		}
		for range 50 {
			from := uint32(rng.IntN(int(s.n) + 2))
			want, is := from, false
			for ; want < s.n && !is; want++ {
				is = in[want]
			}
			if got, ok := s.next(from); ok != is || ok && got != want-1 {
				t.Fatalf("next(%d) of %d gives %d, %v; want %d, %v", from, s.n, got, ok, want-1, is)
			}
		}
	}
}

// Units are chosen by their free room, and the counts are right after any allocations and frees.
func TestFreeMapPicksTheUnitsWithTheMostRoom(t *testing.T) {
	for _, per := range []uint32{1, 2, 3, 4, 13, 64} {
		rng := rand.New(rand.NewPCG(1, uint64(per)))
		m := freeMap{perUnit: per}
		used := map[uint32]bool{}
		for range 40 {
			m.grow(uint32(rng.IntN(40)) * per)
			for range 2000 {
				if rng.IntN(9) > 3 {
					u, ok := m.pick(nil)
					if ok != (len(used) < int(m.slots)) {
						t.Fatalf("pick gives %v with %d of %d in use", ok, len(used), m.slots)
					}
					if !ok {
						continue
					}
					room := m.room(m.freeIn(u))
					for v := range m.slots / per {
						if m.room(m.freeIn(v)) > room {
							t.Fatalf("of %d slots a unit: unit %d with %d free was picked, %d has %d", per, u, m.freeIn(u), v, m.freeIn(v))
						}
					}
					i, ok := m.reserveIn(u)
					if !ok || used[i] || i/per != u {
						t.Fatalf("unit %d gives slot %d, %v", u, i, ok)
					}
					used[i] = true
					continue
				}
				for i := range used {
					m.release(i)
					delete(used, i)
					break
				}
			}
			if int(m.count) != int(m.slots)-len(used) {
				t.Fatalf("%d free of %d with %d in use", m.count, m.slots, len(used))
			}
		}
	}
}

func TestFreeMapSkipsUnitsThatDoNotFit(t *testing.T) {
	m := freeMap{perUnit: 4}
	m.grow(400)
	if u, ok := m.pick(func(u uint32) int { return map[uint32]int{3: 2, 1: 1}[u] }); !ok || u != 3 {
		t.Fatalf("unit %d, %v; 3 fits best", u, ok)
	}
	if _, ok := m.pick(func(uint32) int { return 0 }); ok {
		t.Fatal("a unit that does not fit was picked")
	}
}

// The window knows up to where everything is on disk, in whatever order writes end.
func TestWindowAdvancesInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var w window
	away := map[uint64]bool{}
	for range 300_000 {
		if rng.IntN(20) > 9 && !w.full() {
			st := w.next(kindLive)
			away[st.seq] = true
			if st.onDisk() != w.onDisk {
				t.Fatalf("change %d says that %d are settled: it is %d", st.seq, st.onDisk(), w.onDisk)
			}
			continue
		}
		for seq := range away {
			w.complete(uint16(seq))
			delete(away, seq)
			break
		}
		if away[w.onDisk] || w.onDisk < w.last && !away[w.onDisk+1] {
			t.Fatalf("settled up to %d of %d: wrong by what is away", w.onDisk, w.last)
		}
	}
	for !w.full() {
		w.next(kindLive)
	}
	if n := w.last - w.onDisk; n > behindUnknown-1 {
		t.Fatalf("%d changes fit: more than an item can say", n)
	}
	w.fail()
	if st := w.next(kindLive); st.onDisk() != 0 || w.full() {
		t.Fatal("after a failure a change claims to know what is settled")
	}
}

// A byte that was changed in a head is found again, and nothing is made of other garbage.
func TestMendHeadFindsTheOneByte(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		key := make([]byte, 1+rng.IntN(60))
		for i := range key {
			key[i] = byte(rng.Uint32())
		}
		b := make([]byte, 200)
		encodeItem(b, key, []byte("value"), stamp{kindLive, rng.Uint64() & seqMax, uint16(rng.Uint32())})
		want, _ := parseHead(b)
		seq := want.seq
		at := rng.IntN(headerBytes + len(key))
		if at >= 16 && at < 20 {
			continue // the sum of the value
		}
		b[at] ^= byte(1 + rng.IntN(255))
		it, _, ok := repairHead(b)
		if !ok || !bytes.Equal(it.key, key) || it.seq != seq {
			t.Fatalf("byte %d of %d was changed, and not found: %v %q", at, headerBytes+len(key), ok, it.key)
		}
		b[(at+1)%20] ^= byte(1 + rng.IntN(255))
		b[(at+2)%20] ^= byte(1 + rng.IntN(255))
		if it, _, ok := repairHead(b); ok {
			t.Fatalf("something was made of garbage: %q", it.key)
		}
	}
}

func TestClassesHoldWhatTheyAreChosenFor(t *testing.T) {
	most := itemBytes(KeyBytesMax, ValueBytesMax)
	for n := headerBytes + 1; n <= most; n += 1 + n/1000 {
		c := classOf(n)
		if classes[c].bytes < n || c > 0 && classes[c-1].bytes >= n {
			t.Fatalf("%d bytes go into slots of %d", n, classes[c].bytes)
		}
	}
	if c := classOf(most); int(c) != len(classes)-1 {
		t.Fatalf("the largest item goes into class %d of %d", c, len(classes))
	}
	for i, c := range classes {
		if c.perPage > 0 && c.perPage*c.bytes > pageBytes || c.perPage > 64 || c.bytes%8 != 0 {
			t.Errorf("class %d: %+v", i, c)
		}
		if c.perPage == 0 && c.bytes != c.pages*pageBytes {
			t.Errorf("class %d: %+v", i, c)
		}
	}
}

func TestCacheFindsWhatItHolds(t *testing.T) {
	c, err := newCache(64 * pageBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer c.memory.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	var busy []uint32
	for range 100_000 {
		id := place{uint8(rng.IntN(3)), uint32(rng.IntN(300))}.id()
		f := c.find(id)
		switch {
		case f != 0 && c.frames[f].id != id:
			t.Fatal("find gives another page's frame")
		case f != 0 && rng.IntN(2) == 0:
			c.frames[f].used = true
		case f != 0 && c.frames[f].state == frameClean && rng.IntN(8) == 0:
			c.drop(f)
		case f == 0:
			if f = c.assign(id); f == 0 {
				if len(busy) != 64 {
					t.Fatalf("no frame with %d of 64 busy", len(busy))
				}
				for _, b := range busy {
					c.set(b, frameClean)
				}
				busy = busy[:0]
				continue
			}
			if c.find(id) != f {
				t.Fatal("a page that was just taken is not found")
			}
			if busy = append(busy, f); rng.IntN(8) > 0 {
				c.set(f, frameClean)
				busy = busy[:len(busy)-1]
			}
		}
	}
	for f := 1; f < len(c.frames); f++ {
		if fr := &c.frames[f]; fr.state != frameFree && c.find(fr.id) != uint32(f) {
			t.Fatal("a frame cannot be found")
		}
	}
}

// cacheOf makes a cache, and returns a function that asks it for a page of one class and reports whether it was missing.
func cacheOf(t *testing.T, pages int) func(page uint32) (missed bool) {
	c, err := newCache(pages * pageBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.memory.Close() })
	return func(page uint32) bool {
		id := place{0, page * uint32(classes[0].perPage)}.id()
		if f := c.find(id); f != 0 {
			c.frames[f].used = true
			return false
		}
		c.set(c.assign(id), frameClean)
		return true
	}
}

// New pages follow each other on disk. Their frames do so in memory also after the hand has passed all frames several times, so that they can be written together.
func TestNewPagesGetFramesThatFollowEachOther(t *testing.T) {
	const room = 1000
	c, err := newCache(room * pageBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer c.memory.Close()
	rng := rand.New(rand.NewPCG(5, 6))
	follows, last := 0, uint32(0)
	for n := range uint32(20 * room) {
		f := c.assign(place{0, n * uint32(classes[0].perPage)}.id())
		c.set(f, frameClean)
		c.frames[f].used = true // by the items that fill it
		if old := c.find(place{0, (n - rng.Uint32N(room)) * uint32(classes[0].perPage)}.id()); old != 0 && rng.IntN(20) == 0 {
			c.frames[old].used = true // some are asked for later
		}
		if n > 10*room && f == last+1 {
			follows++
		}
		last = f
	}
	if share := float64(follows) / (10 * room); share < 0.5 {
		t.Errorf("%.2f of the new pages have a frame next to that of the page before, expected 0.5 or more", share)
	}
}

// The cache has at most 1 % more misses than LRU, for zipfian, latest and uniform requests.
func TestTheCacheMissesHardlyMoreThanLRU(t *testing.T) {
	const pages, room, requests = 10_000, 3000, 400_000
	rng := rand.New(rand.NewPCG(3, 4))
	ranks := rand.NewZipf(rng, 1.01, 1, pages-1)
	order := rng.Perm(pages)
	for _, c := range []struct { // in this order, since they share random numbers
		name string
		draw func(i int) uint32
	}{
		{"zipfian", func(int) uint32 { return uint32(order[ranks.Uint64()]) }},
		{"latest", func(i int) uint32 { return uint32(pages + i/20 - int(ranks.Uint64())) }},
		{"uniform", func(int) uint32 { return rng.Uint32N(pages) }},
	} {
		ask := cacheOf(t, room)
		recent, at := list.New(), map[uint32]*list.Element{}
		ours, lru := 0, 0
		for i := range requests {
			n := c.draw(i)
			if ask(n) {
				ours++
			}
			if e := at[n]; e != nil {
				recent.MoveToFront(e)
				continue
			}
			lru++
			if at[n] = recent.PushFront(n); len(at) > room {
				delete(at, recent.Remove(recent.Back()).(uint32))
			}
		}
		t.Logf("%s: %.4f of the requests missed, with LRU %.4f", c.name, float64(ours)/requests, float64(lru)/requests)
		if float64(ours) > 1.01*float64(lru) {
			t.Errorf("%s: %d misses, LRU has %d", c.name, ours, lru)
		}
	}
}

// FuzzParseSlot: for any bytes on disk the parser reads only within the slot, and accepts as an item only what was
// written as one.
func FuzzParseSlot(f *testing.F) {
	b := make([]byte, 200)
	f.Add(b, uint16(0), byte(0))
	encodeItem(b, []byte("key"), []byte("value"), stamp{kindLive, 7, 3})
	f.Add(b, uint16(30), byte(0))
	f.Add(b[:29], uint16(0), byte(1))
	encodeItem(b, []byte("key"), nil, stamp{kindTombstone, 8, behindUnknown})
	f.Add(b, uint16(3), byte(0x80))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte) {
		it, v := parseSlot(b)
		switch v {
		case slotUnused:
			if !zero(b[:headerBytes]) {
				t.Fatal("a slot that is not zero counts as never used")
			}
		case slotLive, slotTombstone:
			again := make([]byte, len(b))
			n := encodeItem(again, it.key, it.value, it.stamp)
			if !bytes.Equal(again[:n], b[:n]) {
				t.Fatal("an item is not what encodeItem writes")
			}
			if flip != 0 && int(at) < n { // one byte changed is always noticed
				b[at] ^= flip
				if _, v := parseSlot(b); v == slotLive || v == slotTombstone || v == slotUnused {
					t.Fatalf("byte %d of an item was changed, and the verdict is %d", at, v)
				}
			}
		}
	})
}
