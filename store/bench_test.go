package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// chain keeps depth requests of one op moving, each for the next of some keys when it completes.
type chain struct {
	p    loop.Partition
	keys [][]byte
	next int
	left int
	out  int
	bad  kv.Status
	done chan struct{}
	r    []kv.Request
}

func newChain(g *rig, op kv.Op, keys [][]byte, depth, valueBytes int) *chain {
	c := &chain{p: g.p, keys: keys, done: make(chan struct{}, 1), r: make([]kv.Request, depth)}
	for i := range c.r {
		c.r[i] = kv.Request{Op: op, Owner: c, Value: make([]byte, valueBytes), Limit: 10}
	}
	return c
}

func (c *chain) submit(r *kv.Request) {
	c.left--
	c.out++
	c.next = (c.next + 7919) % len(c.keys)
	r.Key = c.keys[c.next]
	c.p.Submit(r)
}

func (c *chain) Complete(r *kv.Request) {
	c.out--
	if r.Status != kv.StatusOK {
		c.bad = r.Status
	}
	if c.left > 0 {
		c.submit(r)
	} else if c.out == 0 {
		c.done <- struct{}{}
	}
}

func (c *chain) run(t testing.TB, l *loop.Loop, n int) {
	l.Do(func() {
		c.left = n
		for i := 0; i < len(c.r) && c.left > 0; i++ {
			c.submit(&c.r[i])
		}
	})
	<-c.done
	if c.bad != kv.StatusOK {
		t.Fatal(c.bad)
	}
}

// benchRig is a partition with n items of valueBytes.
func benchRig(t testing.TB, kind string, n, valueBytes int) (*rig, [][]byte) {
	g := newRig(t, kind, Options{CacheBytes: 256 << 20, Log: silent})
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = []byte(fmt.Sprintf("user%019d", i*2654435761%1000000007))
	}
	newChain(g, kv.OpPut, keys, 64, valueBytes).run(t, g.l, n)
	return g, keys
}

var dataPath = []struct {
	name  string
	op    kv.Op
	bytes int
}{{"get", kv.OpGet, 1000}, {"put", kv.OpPut, 1000}, {"scan", kv.OpScan, 20_000}}

func TestDataPathDoesNotAllocate(t *testing.T) {
	for _, kind := range append([]string{"mem", "disk"}, otherEngines...) {
		for _, c := range dataPath {
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				if slices.Contains(otherEngines, kind) {
					testenv.NotShort(t, "each engine with a store of its own")
				}
				g, keys := benchRig(t, kind, 5000, 1000)
				ch := newChain(g, c.op, keys, 16, c.bytes)
				ch.run(t, g.l, 10_000)
				const n = 2000
				// The functions handed to the loop cost some; the requests must cost nothing.
				if a := testing.AllocsPerRun(5, func() { ch.run(t, g.l, n) }); a > n/100 {
					t.Errorf("%v allocations in %d requests", a, n)
				}
				g.close()
			})
		}
	}
}

func BenchmarkStore(b *testing.B) {
	for _, kind := range []string{"mem", "disk"} {
		for _, c := range dataPath {
			for _, depth := range []int{1, 16} {
				b.Run(fmt.Sprintf("%s/%s/depth=%d", kind, c.name, depth), func(b *testing.B) {
					g, keys := benchRig(b, kind, 100_000, 1000)
					ch := newChain(g, c.op, keys, depth, c.bytes)
					ch.run(b, g.l, 100_000)
					b.ReportAllocs()
					b.ResetTimer()
					ch.run(b, g.l, b.N)
					b.StopTimer()
					g.close()
				})
			}
		}
	}
}
