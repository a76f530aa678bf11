package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
)

// page asks for a page of a walk.
func (g *rig) page(at kv.Position, limit, room int) (keys []string, next kv.Position, ok bool) {
	g.t.Helper()
	r := &kv.Request{Op: kv.OpKeys, Key: make([]byte, kv.PositionBytes), Limit: uint32(limit), Value: make([]byte, 0, room)}
	at.Put(r.Key)
	g.do(r)
	if r.Status != kv.StatusOK {
		g.t.Fatalf("a page at %x: %v", at, r.Status)
	}
	for _, p := range pairs(r.Value) {
		keys = append(keys, p.key)
	}
	if len(keys) > limit || r.Record >= at.Record() {
		g.t.Fatalf("%d keys of at most %d; mark %d after %d", len(keys), limit, r.Record, at.Record())
	}
	next, ok = at.Next(r.Record, 1)
	return keys, next, ok
}

// walker is a walk that is under way, and the keys that were there at each of its moments.
type walker struct {
	at   kv.Position
	stay map[string]bool // that it has to give
	got  map[string]int
	may  map[string]int // how often each may be given
}

// A walk returns each key that exists from its first page to its last exactly once, and other keys at most as often as they were added. Keys have all lengths and
// any bytes, keys are added and deleted meanwhile, and any number of walks are at any positions.
func TestWalksReturnEveryKeyThatStays(t *testing.T) {
	for name, key := range map[string]func(*rand.Rand) string{
		"digits": func(r *rand.Rand) string { return fmt.Sprintf("user%019d", r.IntN(4000)) },
		"any bytes": func(r *rand.Rand) string {
			return string([]byte{byte(r.IntN(4)), byte(r.IntN(250)), byte(r.IntN(3))}[:1+r.IntN(3)])
		},
		"all lengths": func(r *rand.Rand) string { return strings.Repeat("p", r.IntN(1000)) + fmt.Sprint(r.IntN(10)) },
		"zeros":       func(r *rand.Rand) string { return strings.Repeat("\x00", 1+r.IntN(60)) },
	} {
		walkKeys := func(t *testing.T, g *rig) {
			rng := rand.New(rand.NewPCG(7, 7))
			there := map[string]bool{}
			begin := func() *walker {
				w := &walker{at: kv.PositionAt(0, kv.WalkStart), stay: map[string]bool{}, got: map[string]int{}, may: map[string]int{}}
				for k := range there {
					w.stay[k], w.may[k] = true, 1
				}
				return w
			}
			var walks []*walker
			change := func() {
				k := key(rng)
				if rng.IntN(10) == 0 {
					k = k + strings.Repeat("\xff", 1024-len(k)) // as long as keys may be
				}
				switch {
				case !there[k]:
					g.mustPut(k, strings.Repeat("v", rng.IntN(100)))
					there[k] = true
					for _, w := range walks {
						w.may[k]++
					}
				case rng.IntN(2) == 0:
					g.mustPut(k, "another")
				default:
					g.mustDelete(k)
					delete(there, k)
					for _, w := range walks {
						delete(w.stay, k)
					}
				}
			}
			for range 300 {
				change()
			}
			ended := 0
			for ended < 12 {
				change()
				if rng.IntN(20) == 0 && len(walks) < 8 {
					walks = append(walks, begin())
				}
				if len(walks) == 0 {
					continue
				}
				i := rng.IntN(len(walks))
				w := walks[i]
				keys, next, more := g.page(w.at, 1+rng.IntN(40), 2000+rng.IntN(20_000))
				for _, k := range keys {
					w.got[k]++
				}
				if w.at = next; more {
					continue
				}
				ended++
				walks = slices.Delete(walks, i, i+1)
				for k := range w.stay {
					if w.got[k] != 1 {
						t.Fatalf("%q was there all the time, and given %d times", short(k), w.got[k])
					}
				}
				for k, n := range w.got {
					if n > w.may[k] {
						t.Fatalf("%q was given %d times, and came %d times", short(k), n, w.may[k])
					}
				}
			}
		}
		t.Run(name, func(t *testing.T) { onEvery(t, Options{}, []string{"mem", "fault"}, walkKeys) })
	}
}

// A walk ends, although more keys are added during each page than it returns.
func TestAWalkEndsDespiteFasterWriters(t *testing.T) {
	onEvery(t, Options{Log: silent}, []string{"mem", "disk"}, func(t *testing.T, g *rig) {
		n := 0
		write := func(more int) {
			for range more {
				g.mustPut(fmt.Sprintf("key%06d", n), "v")
				n++
			}
		}
		write(300)
		given, at := 0, kv.PositionAt(0, kv.WalkStart)
		for pages := 0; ; pages++ {
			keys, next, more := g.page(at, 10, 4096)
			given += len(keys)
			if !more {
				break
			}
			if pages > 100 {
				t.Fatalf("%d pages, and no end", pages)
			}
			at = next
			write(20)
		}
		if given != 300 {
			t.Errorf("%d keys, of 300 that were there when it began", given)
		}
	})
}

// One page examines a bounded number of places, also where all keys were deleted, and the walk continues after them.
func TestAPageOfAWalkIsBounded(t *testing.T) {
	g := newRig(t, "mem", Options{})
	defer g.close()
	key := func(i int) string { return fmt.Sprintf("%0200d", i) }
	const n = 20_000
	g.mustPutAll(n, func(i int) (string, string) { return key(i), "" })
	deletes := make([]kv.Request, n-1)
	for i := range deletes {
		deletes[i] = kv.Request{Op: kv.OpDelete, Key: []byte(key(1 + i))}
	}
	g.mustDoAll(deletes)
	var found []string
	pages, at := 0, kv.PositionAt(0, kv.WalkStart)
	for more := true; more; pages++ {
		var keys []string
		keys, at, more = g.page(at, 1000, 64<<10)
		found = append(found, keys...)
	}
	if len(found) != 1 || found[0] != key(0) {
		t.Errorf("%d keys were found", len(found))
	}
	units := n * (8 + 200) / 4 // a head and a key, in units of 4 bytes
	if least := units / 64 / walkSteps; pages < least {
		t.Errorf("%d pages looked at %d places, %d at most each", pages, units, 64*walkSteps)
	}
	x := g.p.(*Partition).index
	mark, steps := kv.WalkStart, 10
	if g.on(func() {
		if x.Before(&mark, &steps) || steps != 0 {
			t.Errorf("10 steps have come to %d, %d are left", mark, steps)
		}
	}); mark == 0 {
		t.Error("10 steps have come to the end")
	}
}

// An invented position is harmless.
func TestAnyWalkPositionIsValid(t *testing.T) {
	g := newRig(t, "mem", Options{})
	defer g.close()
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		g.mustPut(fmt.Sprint("key", rng.IntN(1000)), "v")
	}
	for range 2000 {
		mark := rng.Uint32() >> rng.IntN(32)
		if mark == kv.WalkEnd {
			continue
		}
		keys, _, _ := g.page(kv.PositionAt(0, mark), 5, 4096)
		for _, k := range keys {
			if !strings.HasPrefix(k, "key") {
				t.Fatalf("mark %d gives %q", mark, k)
			}
		}
	}
	if _, _, more := g.page(kv.PositionAt(0, 1), 5, 4096); more {
		t.Error("there is a key below the first mark")
	}
}

// A key that is being deleted is given until its tombstone is on disk: the delete may fail.
func TestAWalkReturnsAKeyDuringItsDelete(t *testing.T) {
	g := newRig(t, "fault", Options{Log: silent})
	defer g.close()
	g.mustPut("gone", "v")
	g.mustPut("stays", "v")
	r := &kv.Request{Op: kv.OpDelete, Key: []byte("gone"), Owner: g}
	walk := &kv.Request{Op: kv.OpKeys, Key: make([]byte, kv.PositionBytes), Limit: 10, Value: make([]byte, 0, 4096), Owner: g}
	kv.PositionAt(0, kv.WalkStart).Put(walk.Key)
	g.begin(r, walk) // in one turn: the page is not written yet
	<-g.back
	<-g.back
	if got := pairs(walk.Value); r.Status != kv.StatusOK || len(got) != 2 {
		t.Errorf("delete: %v; keys: %v", r.Status, got)
	}
	if keys, _, _ := g.page(kv.PositionAt(0, kv.WalkStart), 10, 4096); len(keys) != 1 || keys[0] != "stays" {
		t.Errorf("after the delete: %q", keys)
	}
}
