package store

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
)

// Gets and puts that are executed at once, mixed with requests, do what a map does: values of all classes, keys that come again within a call, and deletes between.
func TestDirectGetsAndPutsDoWhatAMapDoes(t *testing.T) {
	g := newRig(t, "mem", Options{})
	p := g.p.(*Partition)
	rng := rand.New(rand.NewPCG(7, 7))
	model := map[string]string{}
	for range rounds(2000) {
		keys, values := make([][]byte, 1+rng.IntN(20)), make([][]byte, 20)
		for i := range keys {
			keys[i] = fmt.Appendf(nil, "key%d", rng.IntN(60))
			values[i] = []byte(strings.Repeat(string('a'+rune(rng.IntN(26))), 1+rng.IntN(1<<rng.IntN(15))))
		}
		switch rng.IntN(4) {
		case 0:
			g.on(func() {
				n := p.Write(keys, values)
				if n != min(len(keys), groupMax) {
					t.Errorf("%d of %d puts are done", n, len(keys))
				}
				for i := range keys[:n] {
					model[string(keys[i])] = string(values[i])
					clear(values[i]) // the caller's memory is not used any more
				}
			})
		case 1:
			k := string(keys[0])
			if s := g.del(k); (s == kv.StatusOK) != (model[k] != "") {
				t.Fatalf("a delete of %s: %v", k, s)
			}
			delete(model, k)
		case 2:
			g.mustPut(string(keys[0]), string(values[0]))
			model[string(keys[0])] = string(values[0])
		default:
			g.on(func() {
				n := p.Read(keys, values)
				if n != min(len(keys), groupMax) {
					t.Errorf("%d of %d keys are looked up", n, len(keys))
				}
				for i, k := range keys[:n] {
					if want, ok := model[string(k)]; string(values[i]) != want || (values[i] != nil) != ok {
						t.Errorf("%s is %s, want %s", k, short(string(values[i])), short(want))
					}
				}
			})
		}
		if t.Failed() {
			return
		}
	}
	for i := range 60 {
		k := fmt.Sprint("key", i)
		if v, ok := model[k]; ok {
			g.want(k, v)
		} else {
			g.want(k, "-")
		}
	}
	if s := g.stats(); s.Items != uint64(len(model)) {
		t.Errorf("%d items are counted, want %d", s.Items, len(model))
	}
	g.close()
}

// Requests are needed for items on disk, for exported ones, for a put without memory, and once the partition closes.
func TestSomeGetsAndPutsNeedRequests(t *testing.T) {
	keys, values := [][]byte{[]byte("a"), []byte("b")}, [][]byte{[]byte("1"), []byte("2")}
	none := func(t *testing.T, g *rig) {
		g.on(func() {
			p := g.p.(*Partition)
			if r, w := p.Read(keys, make([][]byte, 2)), p.Write(keys, values); r != 0 || w != 0 {
				t.Errorf("%d gets and %d puts are executed at once", r, w)
			}
		})
	}
	t.Run("on disk", func(t *testing.T) { onEvery(t, Options{}, []string{"fault"}, none) })
	t.Run("exported", func(t *testing.T) { onEvery(t, exportOptions, []string{"mem"}, none) })
	t.Run("closing", func(t *testing.T) {
		g := newRig(t, "mem", Options{})
		g.on(func() { g.p.(*Partition).closing = true })
		none(t, g)
		g.close()
	})
	t.Run("without memory", func(t *testing.T) {
		g := newRig(t, "mem", Options{MemBytes: 4 << 20})
		g.mustPut("a", "1")
		large := [][]byte{[]byte("2"), make([]byte, 900_000)}
		g.on(func() {
			p := g.p.(*Partition)
			n := 0
			for i := 0; i < 100; i++ {
				if n = p.Write([][]byte{keys[0], fmt.Appendf(nil, "large%d", i)}, large); n < 2 {
					break
				}
			}
			if n != 1 {
				t.Errorf("%d of two puts are done, of which the second has no memory", n)
			}
		})
		g.want("a", "2")
		if s := g.put("another", string(large[1])); s != kv.StatusNoSpace {
			t.Errorf("a put without memory: %v", s)
		}
		g.close()
	})
}

func TestDirectGetsAndPutsDoNotAllocate(t *testing.T) {
	g := newRig(t, "mem", Options{})
	p := g.p.(*Partition)
	var keys, values, got [groupMax][]byte
	for i := range keys {
		keys[i], values[i] = fmt.Appendf(nil, "key%d", i), make([]byte, 1024)
	}
	g.on(func() {
		if a := testing.AllocsPerRun(100, func() {
			if p.Write(keys[:], values[:]) != len(keys) || p.Read(keys[:], got[:]) != len(keys) {
				t.Error("not all are executed")
			}
		}); a != 0 {
			t.Errorf("%v allocations", a)
		}
	})
	g.close()
}
