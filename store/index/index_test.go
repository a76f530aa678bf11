package index

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// randomKeys are sorts of keys that an index finds hard, each from a source of numbers.
func randomKeys() map[string]func(*rand.Rand) string {
	return map[string]func(*rand.Rand) string{
		"digits": func(r *rand.Rand) string { return fmt.Sprintf("user%019d", r.IntN(4000)) },
		"any bytes": func(r *rand.Rand) string {
			return string([]byte{byte(r.IntN(4)), byte(r.IntN(250)), byte(r.IntN(3))}[:1+r.IntN(3)])
		},
		"long shared": func(r *rand.Rand) string { return strings.Repeat("p", r.IntN(1000)) + fmt.Sprint(r.IntN(10)) },
		"zeros":       func(r *rand.Rand) string { return strings.Repeat("\x00", 1+r.IntN(60)) },
		"ascending":   ascending(),
		"two families": func(r *rand.Rand) string {
			return fmt.Sprintf("tenant%c/a name that they all have/%03d", 'A'+r.IntN(2), r.IntN(700))
		},
		"ever shorter": everShorter(),
	}
}

// everShorter gives keys that share less and less with those before.
func everShorter() func(*rand.Rand) string {
	n := 0
	return func(r *rand.Rand) string {
		n++
		return strings.Repeat("s", max(60-n/600, 0)) + fmt.Sprint(r.IntN(300))
	}
}

func TestIndexDoesWhatASortedMapDoes(t *testing.T) {
	for name, key := range randomKeys() {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			x := New()
			defer x.Close()
			want := map[string]uint32{}
			for i := range 40_000 {
				k := key(rng)
				rec, ok := x.Find([]byte(k))
				if _, is := want[k]; is != ok || ok && slotOf(x, rec) != want[k] {
					t.Fatalf("find %q: %v, want %v", short(k), ok, is)
				}
				switch {
				case !ok:
					if rec, ok = x.Insert([]byte(k)); !ok {
						t.Fatal("no memory")
					}
					x.SetPlace(rec, 0, uint32(i))
					want[k] = uint32(i)
				case rng.IntN(2) == 0 || i > 30_000:
					x.Delete(rec)
					delete(want, k)
				}
				if i%4000 == 0 {
					compareIndex(t, x, want, key(rng))
					checkIndex(t, x)
				}
			}
			compareIndex(t, x, want, "")
			checkIndex(t, x)
			for k := range want {
				rec, _ := x.Find([]byte(k))
				x.Delete(rec)
			}
			compareIndex(t, x, map[string]uint32{}, "")
			if x.height != 0 || x.records.inUse != 0 || x.separators.inUse != 0 || x.leaves.inUse() != 0 || x.inners.inUse() != 0 {
				t.Fatalf("height %d, %d bytes, %d leaves and %d inner nodes in an empty index", x.height, x.records.inUse+x.separators.inUse, x.leaves.inUse(), x.inners.inUse())
			}
		})
	}
}

func slotOf(x *Index, rec uint32) uint32 {
	_, slot := x.Place(rec)
	return slot
}

func short(s string) string {
	if len(s) > 20 {
		return s[:20] + "…"
	}
	return s
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

func compareIndex(t *testing.T, x *Index, want map[string]uint32, from string) {
	t.Helper()
	var keys []string
	for k := range want {
		if k >= from {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	c := x.Seek([]byte(from), false)
	for _, k := range keys {
		rec, ok := x.Next(&c)
		if !ok || string(x.Key(rec)) != k || slotOf(x, rec) != want[k] {
			t.Fatalf("the index does not go on with %q", short(k))
		}
	}
	if _, ok := x.Next(&c); ok || x.n != len(want) {
		t.Fatalf("the index has %d keys, want %d", x.n, len(want))
	}
	if len(keys) > 0 {
		c = x.Seek([]byte(keys[0]), true)
		rec, ok := x.Next(&c)
		if ok != (len(keys) > 1) || ok && string(x.Key(rec)) != keys[1] {
			t.Fatal("a seek after the first key does not give the second")
		}
	}
}

// checkIndex checks each node: the bytes that it caches, the prefix that it skips, and its children.
func checkIndex(t *testing.T, x *Index) {
	t.Helper()
	if x.n == 0 {
		return
	}
	leaves, inners, keys, last := 0, 0, 0, uint32(0)
	var check func(at uint32, height int, low, high []byte)
	check = func(at uint32, height int, low, high []byte) {
		shared := x.sharedBetween(low, high)
		if height == 0 {
			l := x.leaves.at(at)
			if int(l.skip) > shared || l.prev != last || last != 0 && x.leaves.at(last).next != at {
				t.Fatalf("a leaf skips %d of %d shared bytes, or is not in its place", l.skip, shared)
			}
			leaves, keys, last = leaves+1, keys+int(l.n), at
			for i, e := range l.entry {
				if i >= int(l.n) {
					if e != vacant {
						t.Fatal("an entry after the last one is not vacant")
					}
					continue
				}
				key := x.Key(numberOf(e))
				if bytes.Compare(key, low) < 0 || high != nil && bytes.Compare(key, high) >= 0 || e&cachedMask != cached(key, int(l.skip)) {
					t.Fatalf("%q does not belong between %q and %q, or is cached badly", short(string(key)), short(string(low)), short(string(high)))
				}
			}
			return
		}
		nd := x.inners.at(at)
		inners++
		if int(nd.skip) > shared {
			t.Fatalf("an inner node skips %d of %d shared bytes", nd.skip, shared)
		}
		for c := range int(nd.n) + 1 {
			low, high := low, high
			if c > 0 {
				low = x.separators.key(nd.separator[c-1])
			}
			if c < int(nd.n) {
				high = x.separators.key(nd.separator[c])
				if uint64(nd.more[c])|nd.entry[c]&cachedMask != cached8(high, int(nd.skip)) {
					t.Fatalf("separator %q is cached badly", short(string(high)))
				}
			}
			check(nd.childAt(c), height-1, low, high)
		}
	}
	check(x.root, x.height, nil, nil)
	if leaves != x.leaves.inUse() || inners != x.inners.inUse() || keys != x.n || x.leaves.at(last).next != 0 {
		t.Fatalf("%d leaves, %d inner nodes and %d keys below the root of %d, %d and %d", leaves, inners, keys, x.leaves.inUse(), x.inners.inUse(), x.n)
	}
}

func TestLoaderKeepsTheLatestOfEachKey(t *testing.T) {
	for name, key := range randomKeys() {
		for _, n := range []int{0, 1, 2, 50, loadKeys * 3, 3 * runEntries / 2} {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, 1))
				x := New()
				defer x.Close()
				type copied struct{ slot, seq uint32 }
				latest, lost := map[string]copied{}, map[string][]uint32{}
				ld := NewLoader(x)
				for i := range uint32(n) {
					k, seq := key(rng), rng.Uint32N(20)
					if !ld.Add([]byte(k), Copy{3, i, uint64(seq) << 40}, Flags(i)) {
						t.Fatal("no memory")
					}
					old, is := latest[k]
					if is && old.seq >= seq {
						lost[k] = append(lost[k], i)
						continue
					}
					if is {
						lost[k] = append(lost[k], old.slot)
					}
					latest[k] = copied{i, seq}
				}
				ok := ld.Finish(func(key []byte, flags Flags, c, later Copy) {
					i := slices.Index(lost[string(key)], c.Slot)
					if i < 0 || c.Class != 3 || flags != Flags(c.Slot) || c.Seq > later.Seq || c.Seq>>40 > uint64(latest[string(key)].seq) {
						t.Fatalf("copy %d of %q got lost", c.Slot, short(string(key)))
					}
					lost[string(key)] = slices.Delete(lost[string(key)], i, i+1)
				})
				if !ok {
					t.Fatal("no memory")
				}
				want := map[string]uint32{}
				for k, c := range latest {
					want[k] = c.slot
					if len(lost[k]) > 0 {
						t.Fatalf("%d copies of %q were not reported", len(lost[k]), short(k))
					}
				}
				compareIndex(t, x, want, "")
				checkIndex(t, x)
				changeLoaded(t, x, want, key, rng)
			})
		}
	}
}

// changeLoaded inserts into and deletes from an index that was loaded.
func changeLoaded(t *testing.T, x *Index, want map[string]uint32, key func(*rand.Rand) string, rng *rand.Rand) {
	for i := range uint32(3000) {
		k := key(rng)
		rec, ok := x.Find([]byte(k))
		if slot, is := want[k]; is != ok || ok && (slotOf(x, rec) != slot) {
			t.Fatalf("find %q: %v, want %v", short(k), ok, is)
		}
		if ok {
			x.Delete(rec)
			delete(want, k)
		} else if rec, ok = x.Insert([]byte(k)); ok {
			x.SetPlace(rec, 0, i)
			want[k] = i
		}
	}
	compareIndex(t, x, want, "")
	checkIndex(t, x)
}

// A key of 16 bytes takes at most 34 B in all, and one of 23 bytes, whose record has a byte of padding, at most 20 B beyond its own, in
// whatever order keys are inserted.
func TestIndexMemory(t *testing.T) {
	const n = 200_000
	for _, c := range []struct {
		keyBytes int
		most     float64
	}{{16, 34}, {userKeyBytes, userKeyBytes + 20}} {
		x, loaded := New(), New()
		defer x.Close()
		defer loaded.Close()
		ld := NewLoader(loaded)
		key := make([]byte, c.keyBytes)
		for i := range n {
			userKey(key, i)
			if _, ok := x.Insert(key); !ok || !ld.Add(key, Copy{Seq: 1}, 0) {
				t.Fatal("no memory")
			}
		}
		if !ld.Finish(nil) {
			t.Fatal("no memory")
		}
		for name, x := range map[string]*Index{"inserted": x, "loaded": loaded} {
			b := float64(x.Bytes()) / n
			t.Logf("%s: %.1f B for a key of %d bytes; leaves are %.0f %% full", name, b, c.keyBytes, 100*float64(n)/float64(x.leaves.inUse()*leafKeys))
			if b > c.most || x.n != n {
				t.Errorf("%s: %.1f B for a key of %d bytes, more than %.1f", name, b, c.keyBytes, c.most)
			}
		}
	}
}

// A walk finds each record once, from the highest number to the lowest, whatever the lengths of keys, which blobs were freed and
// used again, and where the walk begins; also across chunks.
func TestBeforeFindsEveryRecord(t *testing.T) {
	for name, c := range map[string]struct{ n, least, most int }{
		"short keys":        {3000, 1, 9},
		"all lengths":       {3000, 1, KeyBytesMax},
		"more than a chunk": {indexChunkBytes/(headBytes+1000) + 1000, 1000, KeyBytesMax},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			var h recordHeap
			defer h.close()
			key := make([]byte, KeyBytesMax)
			var recs []uint32
			for i := range c.n {
				rec, ok := h.add(key[:c.least+rng.IntN(c.most-c.least+1)])
				if !ok {
					t.Fatal("no memory")
				}
				recs = append(recs, rec)
				for i%3 == 0 && len(recs) > 0 && rng.IntN(2) == 0 {
					k := rng.IntN(len(recs))
					h.remove(recs[k])
					recs[k] = recs[len(recs)-1]
					recs = recs[:len(recs)-1]
				}
			}
			slices.Sort(recs)
			walk := func(mark uint32) []uint32 {
				var found []uint32
				for mark > 0 {
					if steps := 1 + rng.IntN(9); h.before(&mark, &steps) {
						found = append(found, mark)
					} else if steps > 0 && mark > 0 {
						t.Fatalf("the walk ends at %d with %d steps left", mark, steps)
					}
				}
				slices.Reverse(found)
				return found
			}
			if got := walk(1<<32 - 1); !slices.Equal(got, recs) {
				t.Fatalf("%d records were found, of %d", len(got), len(recs))
			}
			middle := recs[len(recs)/2]
			for _, mark := range []uint32{middle, middle + 1, middle + 2} {
				want, _ := slices.BinarySearch(recs, mark)
				if got := walk(mark); !slices.Equal(got, recs[:want]) {
					t.Fatalf("%d records were found below %d, of %d", len(got), mark, want)
				}
			}
		})
	}
}

func TestIndexDoesNotAllocate(t *testing.T) {
	x := New()
	defer x.Close()
	var key [userKeyBytes]byte
	const n = 20_000
	for i := range n {
		userKey(key[:], i)
		x.Insert(key[:])
	}
	i := 0
	if a := testing.AllocsPerRun(1000, func() {
		i = (i + 7919) % n
		userKey(key[:], i)
		rec, ok := x.Find(key[:])
		if !ok {
			t.Fatal("a key is not there")
		}
		x.SetPlace(rec, 1, uint32(i))
		x.SetFlags(rec, 1)
		c := x.Seek(key[:], true)
		x.Next(&c)
		x.Delete(rec)
		x.Insert(key[:])
	}); a > 0 {
		t.Errorf("%v allocations", a)
	}
}

// inUse returns the number of nodes that were added and not freed.
func (p *nodePool[T]) inUse() int { return int(p.next) - 1 - len(p.freed) }
