package store

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"testing"
	"time"

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

const userKeyBytes = 23

// userKey writes the i-th of many keys in no order: "user" and 19 digits of a random number.
func userKey(b []byte, i int) {
	z := uint64(i)*0x9e3779b97f4a7c15 + 0x9e3779b97f4a7c15 // splitmix64 (Steele et al. 2014)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z = (z ^ z>>31) >> 1
	copy(b, "user")
	for at := userKeyBytes - 1; at >= 4; at-- {
		b[at] = '0' + byte(z%10)
		z /= 10
	}
}

// indexSizes are numbers of keys; KVWIRE_LONG asks for many.
func indexSizes() []int {
	if os.Getenv("KVWIRE_LONG") != "" {
		return []int{1_000_000, 2_000_000, 10_000_000}
	}
	return []int{1_000_000}
}

func filledIndex(tb testing.TB, n int) *index {
	x := newIndex()
	tb.Cleanup(x.close)
	var key [userKeyBytes]byte
	for i := range n {
		userKey(key[:], i)
		if _, ok := x.insert(key[:]); !ok {
			tb.Fatal("no memory")
		}
	}
	return x
}

func reportIndex(b *testing.B, x *index) {
	b.ReportMetric(float64(x.bytes())/float64(x.n)-userKeyBytes, "B/key-beyond-it")
}

// BenchmarkIndexKey is what the keys cost that the others make.
func BenchmarkIndexKey(b *testing.B) {
	var key [userKeyBytes]byte
	for i := 0; b.Loop(); i++ {
		userKey(key[:], i)
	}
}

func BenchmarkIndexFind(b *testing.B) {
	for _, n := range indexSizes() {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			x := filledIndex(b, n)
			b.ReportAllocs()
			var key [userKeyBytes]byte
			for i := 0; b.Loop(); i = (i + 7919) % n {
				userKey(key[:], i)
				if _, ok := x.find(key[:]); !ok {
					b.Fatal("a key is not there")
				}
			}
			reportIndex(b, x)
		})
	}
}

// BenchmarkIndexInsert adds to an index that has a number of keys.
func BenchmarkIndexInsert(b *testing.B) {
	for _, n := range indexSizes() {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			x := filledIndex(b, n)
			b.ReportAllocs()
			var key [userKeyBytes]byte
			for i := n; b.Loop(); i++ {
				userKey(key[:], i)
				if _, ok := x.insert(key[:]); !ok {
					b.Fatal("no memory")
				}
			}
			reportIndex(b, x)
		})
	}
}

// BenchmarkIndexLoad is per key: for adding and sorting, which a recovery does beside reading, and for the rest.
func BenchmarkIndexLoad(b *testing.B) {
	for _, n := range indexSizes() {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			var add, finish time.Duration
			var key [userKeyBytes]byte
			for b.Loop() {
				x := newIndex()
				ld := newLoader(x)
				begun := time.Now()
				for i := range n {
					userKey(key[:], i)
					if !ld.add(key[:], place{}, 0, uint64(i)) {
						b.Fatal("no memory")
					}
				}
				added := time.Now()
				if !ld.finish(nil) {
					b.Fatal("no memory")
				}
				add, finish = add+added.Sub(begun), finish+time.Since(added)
				reportIndex(b, x)
				x.close()
			}
			keys := float64(b.N) * float64(n)
			b.ReportMetric(float64(add.Nanoseconds())/keys, "add-ns/key")
			b.ReportMetric(float64(finish.Nanoseconds())/keys, "finish-ns/key")
		})
	}
}

// BenchmarkIndexGC is a full collection beside an index, and beside none: how long it takes, and for how long the
// world stood still for it. The longest stop is that of a thread which had lost its core, if others want it.
func BenchmarkIndexGC(b *testing.B) {
	for _, n := range append([]int{0}, indexSizes()...) {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			x := filledIndex(b, n)
			runtime.GC()
			before := gcPauses()
			for b.Loop() {
				runtime.GC()
			}
			after := gcPauses()
			all, seen := uint64(0), uint64(0)
			for i := range after.Counts {
				after.Counts[i] -= before.Counts[i]
				all += after.Counts[i]
			}
			for i, count := range after.Counts {
				if seen += count; count > 0 && seen >= all/2 && seen-count < all/2 {
					b.ReportMetric(after.Buckets[i+1]*1e6, "median-pause-us")
				}
				if count > 0 && seen == all {
					b.ReportMetric(after.Buckets[i+1]*1e6, "max-pause-us")
				}
			}
			runtime.KeepAlive(x)
		})
	}
}

func gcPauses() *metrics.Float64Histogram {
	s := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64Histogram()
}
