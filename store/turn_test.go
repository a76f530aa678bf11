package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
)

// A scan examines a bounded number of keys in one turn, whether they are in its answer or not, and other requests run between its turns. The answer is the same as
// without the bound.
func TestAScanIsCutIntoTurns(t *testing.T) {
	const n = 20_000
	key := func(i int) string { return fmt.Sprintf("key%06d", i) }
	for name, deleted := range map[string]bool{"items": false, "keys that were deleted": true} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, "mem", Options{Log: silent})
			defer g.close()
			p := g.p.(*Partition)
			g.mustPutAll(n, func(i int) (string, string) { return key(i), "v" })
			if deleted { // as if their tombstones had to stay
				g.on(func() {
					for i := range n - 1 {
						rec, _ := p.index.Find([]byte(key(i)))
						p.index.SetFlags(rec, flagTomb)
					}
				})
			}
			scan := &kv.Request{Op: kv.OpScan, Limit: n, Value: make([]byte, 0, 1<<20), Owner: g}
			another := &kv.Request{Op: kv.OpPut, Key: []byte("another"), Value: []byte("v"), Owner: g} // it does not wait for the scan
			var turns uint64
			g.on(func() {
				p.Submit(scan)
				if s := scanStateOf(scan); s.n > scanTurn {
					t.Errorf("%d items in one turn", s.n)
				}
				if p.pausedScans.Empty() {
					t.Error("the scan has looked at all in one turn")
				}
				turns = g.l.Stats.Turns
				p.Submit(another)
			})
			if first, second := <-g.back, <-g.back; first != another || second != scan {
				t.Fatalf("a %v has ended, and then a %v", first.Op, second.Op)
			}
			g.on(func() {
				if turns = g.l.Stats.Turns - turns; turns < n/scanTurn-1 {
					t.Errorf("%d keys in %d turns", n, turns)
				}
				if !p.pausedScans.Empty() || len(p.positions.list) > 1 || *positionOf(scan) != 0 {
					t.Errorf("something stays of a scan that has ended: %d marks", len(p.positions.list))
				}
			})
			var want []string
			for i := range n {
				if !deleted || i == n-1 {
					want = append(want, key(i))
				}
			}
			var got []string
			for _, it := range pairs(scan.Value) {
				got = append(got, it.key)
			}
			if got = slices.DeleteFunc(got, func(k string) bool { return k == "another" }); !slices.Equal(got, want) {
				t.Errorf("%d items, want %d", len(got), len(want))
			}
		})
	}
}

// Of several scans that are cut into turns, one continues in each turn, in rotation.
func TestScansTakeTurns(t *testing.T) {
	g := newRig(t, "mem", Options{Log: silent})
	defer g.close()
	p := g.p.(*Partition)
	g.mustPutAll(1000, func(i int) (string, string) { return fmt.Sprintf("key%06d", i), "v" })
	var scans []*kv.Request
	for range 10 {
		scans = append(scans, &kv.Request{Op: kv.OpScan, Limit: 1000, Value: make([]byte, 0, 1<<20), Owner: g})
	}
	g.on(func() {
		p.scanTurn = 100
		for _, r := range scans {
			p.Submit(r)
		}
		for i := range 90 { // afterwards the loop continues with its own turns
			least, most := uint32(1000), uint32(0)
			for _, r := range scans {
				least, most = min(least, scanStateOf(r).n), max(most, scanStateOf(r).n)
			}
			if i < 80 && most-least > 100 {
				t.Errorf("turn %d: a scan has %d items, another one %d", i, least, most)
			}
			p.continueScan()
		}
	})
	for range scans {
		if r := <-g.back; r.Status != kv.StatusOK || len(pairs(r.Value)) != 1000 {
			t.Errorf("%v, %d items", r.Status, len(pairs(r.Value)))
		}
	}
}

// A scan ends that passes many deleted keys, and waits between them for pages that other requests evict from the cache: it does not begin
// again at its last item.
func TestAScanGetsPastDeletedKeysWithASmallCache(t *testing.T) {
	onEvery(t, Options{Log: silent}, []string{"fault"}, func(t *testing.T, g *rig) {
		p := g.p.(*Partition)
		key := func(i int) string { return fmt.Sprintf("key%06d", i) }
		const n = 5000
		value := strings.Repeat("v", 2000)
		g.mustPutAll(n, func(i int) (string, string) {
			if i%500 == 0 {
				return key(i), value
			}
			return key(i), ""
		})
		g.on(func() {
			p.scanTurn = 50
			for i := range n {
				if rec, _ := p.index.Find([]byte(key(i))); i%500 != 0 {
					p.index.SetFlags(rec, flagTomb)
				}
			}
		})
		g.mustPutAll(300, func(i int) (string, string) { return fmt.Sprintf("other%06d", i), value })
		rng := rand.New(rand.NewPCG(1, 1))
		scan := &kv.Request{Op: kv.OpScan, Limit: n / 500, Value: make([]byte, 0, 1<<20), Owner: g}
		g.begin(scan)
		for others := 0; ; others++ {
			r := &kv.Request{Op: kv.OpGet, Key: fmt.Appendf(nil, "other%06d", rng.IntN(300)), Value: make([]byte, 0, 4096), Owner: g}
			g.begin(r)
			back := <-g.back
			if back == scan {
				<-g.back
				break
			}
			if others == 20_000 {
				t.Fatal("the scan does not end")
			}
		}
		if got := pairs(scan.Value); scan.Status != kv.StatusOK || len(got) != n/500 {
			t.Fatalf("%v, %d items", scan.Status, len(got))
		}
		g.on(func() { // keys that were marked so here have no tombstone
			for i := range n {
				if rec, _ := p.index.Find([]byte(key(i))); i%500 != 0 {
					p.index.SetFlags(rec, 0)
				}
			}
		})
	})
}

// A partition that closes ends the scans that it has put aside.
func TestCloseEndsPausedScans(t *testing.T) {
	g := newRig(t, "mem", Options{Log: silent})
	p := g.p.(*Partition)
	for i := range 100 {
		g.mustPut(fmt.Sprintf("key%06d", i), "v")
	}
	scan := &kv.Request{Op: kv.OpScan, Limit: 100, Value: make([]byte, 0, 1<<20), Owner: g}
	g.on(func() {
		p.scanTurn = 10
		p.Submit(scan)
		p.closing = true
		p.endWaiting()
	})
	if r := <-g.back; r.Status != kv.StatusClosed {
		t.Errorf("%v", r.Status)
	}
	g.close()
}

func TestScansCutIntoTurnsDoWhatAMapDoes(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		g.on(func() { g.p.(*Partition).scanTurn = 7 })
		m := newModel(g, 19, 1000)
		m.fill()
		for range rounds(100) {
			m.batch()
		}
		m.checkAll()
	})
}
