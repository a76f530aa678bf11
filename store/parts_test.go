package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestIndexDoesWhatASortedMapDoes(t *testing.T) {
	for name, key := range map[string]func(*rand.Rand) string{
		"digits": func(r *rand.Rand) string { return fmt.Sprintf("user%019d", r.IntN(4000)) },
		"any bytes": func(r *rand.Rand) string {
			return string([]byte{byte(r.IntN(4)), byte(r.IntN(250)), byte(r.IntN(3))}[:1+r.IntN(3)])
		},
		"long shared": func(r *rand.Rand) string { return strings.Repeat("p", r.IntN(1000)) + fmt.Sprint(r.IntN(10)) },
		"zeros":       func(r *rand.Rand) string { return strings.Repeat("\x00", 1+r.IntN(60)) },
		"ascending":   ascending(),
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			x := newIndex()
			defer x.close()
			want := map[string]uint32{}
			for i := range 40_000 {
				k := key(rng)
				rec, ok := x.find([]byte(k))
				if _, is := want[k]; is != ok || ok && x.at(rec).slot != want[k] {
					t.Fatalf("find %q: %v, want %v", short(k), ok, is)
				}
				switch {
				case !ok:
					if rec, ok = x.insert([]byte(k)); !ok {
						t.Fatal("no memory")
					}
					x.put(rec, place{slot: uint32(i)})
					want[k] = uint32(i)
				case rng.IntN(2) == 0 || i > 30_000:
					x.delete(rec)
					delete(want, k)
				}
				if i%4000 == 0 {
					compareIndex(t, x, want, key(rng))
				}
			}
			compareIndex(t, x, want, "")
			for k := range want {
				rec, _ := x.find([]byte(k))
				x.delete(rec)
			}
			compareIndex(t, x, map[string]uint32{}, "")
			if x.height != 0 || x.heap.inUse != 0 || x.leaves.inUse() != 0 || x.inners.inUse() != 0 {
				t.Fatalf("height %d, %d bytes, %d leaves and %d inner nodes in an empty index", x.height, x.heap.inUse, x.leaves.inUse(), x.inners.inUse())
			}
		})
	}
}

func ascending() func(*rand.Rand) string {
	n := 0
	return func(r *rand.Rand) string {
		if r.IntN(3) == 0 {
			return fmt.Sprintf("%08d", r.IntN(n+1))
		}
		n++
		return fmt.Sprintf("%08d", n)
	}
}

func compareIndex(t *testing.T, x *index, want map[string]uint32, from string) {
	t.Helper()
	var keys []string
	for k := range want {
		if k >= from {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	c := x.seek([]byte(from), false)
	for _, k := range keys {
		rec, ok := x.next(&c)
		if !ok || string(x.key(rec)) != k || x.at(rec).slot != want[k] {
			t.Fatalf("the index does not go on with %q", short(k))
		}
	}
	if _, ok := x.next(&c); ok || x.n != len(want) {
		t.Fatalf("the index has %d keys, want %d", x.n, len(want))
	}
	if len(keys) > 0 {
		c = x.seek([]byte(keys[0]), true)
		rec, ok := x.next(&c)
		if ok != (len(keys) > 1) || ok && string(x.key(rec)) != keys[1] {
			t.Fatal("a seek after the first key does not give the second")
		}
	}
}

func TestFreeMapGivesTheLowestFreeSlot(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var m freeMap
	used := map[uint32]bool{}
	for range 60 {
		m.grow(uint32(rng.IntN(5000)))
		for range 3000 {
			if rng.IntN(5) > 0 {
				i, ok := m.take()
				if ok != (len(used) < int(m.slots)) || ok && used[i] {
					t.Fatalf("take gives %d, %v with %d of %d in use", i, ok, len(used), m.slots)
				}
				if ok {
					used[i] = true
				}
				continue
			}
			for i := range used {
				m.put(i)
				delete(used, i)
				if j, ok := m.take(); !ok || j > i {
					t.Fatalf("%d is free, take gives %d, %v", i, j, ok)
				} else {
					used[j] = true
				}
				break
			}
		}
		if int(m.free) != int(m.slots)-len(used) {
			t.Fatalf("%d free of %d with %d in use", m.free, m.slots, len(used))
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
		case f != 0 && c.frames[f].state == frameClean && rng.IntN(8) == 0:
			c.drop(f)
		case f == 0:
			if f = c.take(id); f == 0 {
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

// FuzzParseSlot: no bytes on disk make the parser read outside the slot, or take for an item what was
// not written as one.
func FuzzParseSlot(f *testing.F) {
	b := make([]byte, 200)
	f.Add(b, uint16(0), byte(0))
	encodeItem(b, []byte("key"), []byte("value"), 7)
	f.Add(b, uint16(30), byte(0))
	f.Add(b[:29], uint16(0), byte(1))
	encodeTombstone(b, 8)
	f.Add(b, uint16(3), byte(0x80))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte) {
		it, v := parseSlot(b)
		switch v {
		case slotUnused:
			if !zero(b[:headerBytes]) {
				t.Fatal("a slot that is not zero counts as never used")
			}
		case slotLive:
			again := make([]byte, len(b))
			n := encodeItem(again, it.key, it.value, it.seq)
			if !bytes.Equal(again[:n], b[:n]) {
				t.Fatal("an item is not what encodeItem writes")
			}
			if flip != 0 && int(at) < n { // one byte changed is always noticed
				b[at] ^= flip
				if _, v := parseSlot(b); v == slotLive || v == slotUnused {
					t.Fatalf("byte %d of an item was changed, and the verdict is %d", at, v)
				}
			}
		}
	})
}
