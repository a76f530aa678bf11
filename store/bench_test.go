package store

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// operation is what a chain does with its keys.
type operation struct {
	name  string
	op    kv.Op
	item  int    // bytes of each key's value before the chain begins
	value int    // length of a request's Value, in bytes; items are read into its capacity
	limit uint32 // items of a scan, keys of a page, where a patch begins
	put   bool   // a put of the same key follows the end of each request
	other bool   // keys that the rig has not put
}

// largeItem is a value in a slot with pages of its own.
const largeItem = 20_000

var dataPath = []operation{
	{name: "get", op: kv.OpGet, item: 1000, value: 1000},
	{name: "put", op: kv.OpPut, item: 1000, value: 1000},
	{name: "scan", op: kv.OpScan, item: 1000, value: 20_000, limit: 10},
}

// otherPaths are the operations that no benchmark measures.
var otherPaths = []operation{
	{name: "get large", op: kv.OpGet, item: largeItem, value: largeItem},
	{name: "put large", op: kv.OpPut, item: largeItem, value: largeItem},
	{name: "scan large", op: kv.OpScan, item: largeItem, value: 2 * largeItem, limit: 10},
	{name: "delete", op: kv.OpDelete, item: 1000, value: 1000, put: true},
	{name: "delete large", op: kv.OpDelete, item: largeItem, value: largeItem, put: true},
	{name: "take", op: kv.OpTake, item: 1000, value: 1000, put: true},
	{name: "take large", op: kv.OpTake, item: largeItem, value: largeItem, put: true},
	{name: "patch", op: kv.OpPatch, item: 1000, value: 100, limit: 500},
	{name: "patch large", op: kv.OpPatch, item: largeItem, value: 100, limit: 500},
	{name: "append", op: kv.OpAppend, item: 1000, value: 0},
	{name: "append large", op: kv.OpAppend, item: largeItem, value: 0},
	{name: "swap", op: kv.OpSwap, item: 1000, value: 1000},
	{name: "swap large", op: kv.OpSwap, item: largeItem, value: largeItem},
	{name: "add", op: kv.OpAdd, item: 1000, value: 8, other: true},
	{name: "keys", op: kv.OpKeys, item: 1000, value: 1000, limit: 10},
}

// chain keeps depth requests of one operation moving, each for the next of some keys when it completes.
type chain struct {
	operation
	p    loop.Partition
	keys [][]byte
	next int
	left int
	out  int
	bad  kv.Status
	done chan struct{}
	r    []kv.Request
}

func newChain(g *rig, o operation, keys [][]byte, depth int) *chain {
	c := &chain{operation: o, p: g.p, keys: keys, done: make(chan struct{}, 1), r: make([]kv.Request, depth)}
	if o.other {
		c.keys = nil
		for _, k := range keys {
			c.keys = append(c.keys, append(slices.Clone(k), '+'))
		}
	}
	if o.op == kv.OpKeys {
		start := make([]byte, kv.PositionBytes)
		kv.PositionAt(0, kv.WalkStart).Put(start)
		c.keys = [][]byte{start}
	}
	for i := range c.r {
		c.r[i] = kv.Request{Owner: c, Value: make([]byte, o.value, o.item+o.value)}
	}
	return c
}

func (c *chain) submit(r *kv.Request) {
	if c.put && r.Op == c.op { // its key is not there now
		r.Op = kv.OpPut
	} else {
		c.next = (c.next + 7919) % len(c.keys)
		r.Op, r.Key = c.op, c.keys[c.next]
	}
	c.left--
	c.out++
	r.Value, r.Limit = r.Value[:c.value], c.limit
	if c.op == kv.OpAdd {
		clear(r.Value)
	}
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
	cacheBytes := min(max(4*n*valueBytes, 16<<20), 256<<20) // all items, and no more: pages are pinned
	g := newRig(t, kind, Options{CacheBytes: cacheBytes, Log: silent})
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = []byte(fmt.Sprintf("user%019d", i*2654435761%1000000007))
	}
	newChain(g, operation{op: kv.OpPut, value: valueBytes}, keys, 64).run(t, g.l, n)
	return g, keys
}

// frameAllocs are the allocations of one chain.run, however many requests it makes: the function handed to the loop, and the runtime's own while it
// waits for the last answer.
const frameAllocs = 20

func TestDataPathDoesNotAllocate(t *testing.T) {
	long := os.Getenv("KVWIRE_LONG") != ""
	for _, kind := range append([]string{"mem", "disk"}, otherEngines...) {
		for _, o := range slices.Concat(dataPath, otherPaths) {
			t.Run(kind+"/"+o.name, func(t *testing.T) {
				if slices.Contains(otherEngines, kind) {
					testenv.NotShort(t, "each engine with a store of its own")
					if !long && !slices.Contains([]string{"get", "put", "scan", "get large", "put large"}, o.name) {
						t.Skip("an engine moves pages, and of all requests these move them in every way: make test-long runs it")
					}
				}
				items, n, runs := 5000, 2000, 5
				if o.item == largeItem {
					items = 1000
				}
				if !long { // the disk takes most of the time
					items, n, runs = items/5, 500, 2
				}
				g, keys := benchRig(t, kind, items, o.item)
				ch := newChain(g, o, keys, 16)
				ch.run(t, g.l, 2*items)
				if a := testing.AllocsPerRun(runs, func() { ch.run(t, g.l, n) }); a > frameAllocs {
					t.Errorf("%v allocations in %d requests", a, n)
				}
				g.close()
			})
		}
	}
}

func BenchmarkStore(b *testing.B) {
	for _, kind := range []string{"mem", "disk"} {
		for _, o := range dataPath {
			for _, depth := range []int{1, 16} {
				b.Run(fmt.Sprintf("%s/%s/depth=%d", kind, o.name, depth), func(b *testing.B) {
					g, keys := benchRig(b, kind, 100_000, 1000)
					ch := newChain(g, o, keys, depth)
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
