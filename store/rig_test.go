package store

import (
	"bytes"
	"cmp"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// rig is one partition on a loop of its own, driven from a test's goroutine.
type rig struct {
	t    testing.TB
	o    Options
	disk *faultDisk // kind fault
	l    *loop.Loop
	p    loop.Partition
	dead atomic.Bool // crashed: the partition gets no more completions
	back chan *kv.Request
	room []byte // of get, used again: a new one of the largest value's size for each would keep the collector busy

	epoll bool // the loop sleeps in epoll, and has a ring
}

// kinds are what every test of the suite runs on: memory, files, a disk that fails and tears, and one that writes pages
// whole, for updates in place.
var kinds = []string{"mem", "disk", "fault", "inplace"}

// testLimits keep buffers small.
var testLimits = kv.Limits{MaxKeyBytes: 1024, MaxValueBytes: 1 << 20}

func onEvery(t *testing.T, o Options, kinds []string, f func(t *testing.T, g *rig)) {
	for _, k := range kinds {
		t.Run(k, func(t *testing.T) {
			if k == "disk-epoll" || slices.Contains(otherEngines, k) {
				testenv.NotShort(t, "an engine differs in how it moves pages, which package disk tests")
			}
			g := newRig(t, k, o)
			f(t, g)
			g.close()
		})
	}
}

func newRig(t testing.TB, kind string, o Options) *rig {
	g := &rig{t: t, o: o, back: make(chan *kv.Request, 4096)}
	if o.Limits.MaxKeyBytes == 0 {
		g.o.Limits = testLimits
	}
	if o.CacheBytes == 0 {
		g.o.CacheBytes = 64 * pageBytes
	}
	if o.Log == nil {
		g.o.Log = testLog(t)
	}
	switch kind {
	case "mem":
		g.o.Backend = Mem
	case "disk", "disk-epoll":
		testenv.Uring(t)
		g.epoll = kind == "disk-epoll"
		g.o.Backend, g.o.Dir = Disk, t.TempDir()
	case "fault", "inplace":
		g.o.Backend, g.o.Dir = Disk, "memory"
		g.disk = newFaultDisk(1)
		g.disk.dsync = o.Durability == DurabilityFlush
		if kind == "inplace" {
			g.o.Update = UpdateInPlace
			g.disk.unit = pageBytes
		}
	default: // a disk engine
		needEngine(t, kind)
		g.epoll = true
		g.o.Backend, g.o.Dir, g.o.DiskEngine = Disk, cmp.Or(o.Dir, t.TempDir()), kind
	}
	g.open()
	return g
}

// member lets a partition crash: it is there no more, without having been closed.
type crashable struct {
	*Partition
	g *rig
}

func (m *crashable) Poll() int {
	if m.g.dead.Load() {
		return 0
	}
	return m.Partition.Poll()
}

func (m *crashable) Stage() error {
	if m.g.dead.Load() {
		return nil
	}
	return m.Partition.Stage()
}

func (m *crashable) Close() bool { return m.g.dead.Load() || m.Partition.Close() }

// tryOpen opens the partition again after close or crash.
func (g *rig) tryOpen() error {
	g.dead.Store(false)
	lo := loop.Options{Name: "store", Sleep: loop.SleepEpoll}
	if g.disk == nil && g.o.Backend == Disk {
		lo.Ring = g.o.DiskEngine == "" || g.o.DiskEngine == EngineUring
		if !g.epoll {
			lo.Sleep = loop.SleepRing
		}
	}
	l, err := loop.Start(lo, func(l *loop.Loop) (err error) {
		if g.disk == nil {
			g.p, err = Open(l, 0, 1, g.o)
			return err
		}
		if err := g.o.check(0, 1); err != nil {
			return err
		}
		p := newPartition(l, 0, g.o)
		g.disk.l = l
		if err := p.attach(g.disk, g.disk, false); err != nil {
			return err
		}
		g.p = p
		_, err = l.Add(&crashable{p, g})
		return err
	})
	g.l = l
	return err
}

func (g *rig) open() {
	g.t.Helper()
	if err := g.tryOpen(); err != nil {
		g.t.Fatal(err)
	}
}

// close ends the loop in order.
func (g *rig) close() {
	g.t.Helper()
	if err := g.l.Stop(); err != nil {
		g.t.Fatal(err)
	}
	if g.disk != nil && g.disk.problem != "" {
		g.t.Fatal("the store broke a rule: ", g.disk.problem)
	}
}

// crash ends the loop as if the process had been killed.
func (g *rig) crash() {
	g.t.Helper()
	g.on(func() { g.dead.Store(true); g.disk.crash() })
	g.close()
}

// on runs f on the loop's goroutine.
func (g *rig) on(f func()) {
	g.t.Helper()
	if err := g.l.Call(f); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) stats() (s Stats) {
	g.t.Helper()
	g.on(func() { s, _ = StatsOf(g.p) })
	return s
}

func (g *rig) Complete(r *kv.Request) { g.back <- r }

// begin submits requests in one turn, as a server's connection does.
func (g *rig) begin(rs ...*kv.Request) {
	g.t.Helper()
	g.on(func() {
		if b, ok := g.p.(kv.Batcher); ok {
			b.Begin()
			defer b.End()
		}
		for _, r := range rs {
			r.Owner = g
			g.p.Submit(r)
		}
	})
}

// do submits requests in one turn and waits for all of them.
func (g *rig) do(rs ...*kv.Request) {
	g.t.Helper()
	g.begin(rs...)
	for range rs {
		<-g.back
	}
}

func (g *rig) put(key, value string) kv.Status {
	g.t.Helper()
	r := &kv.Request{Op: kv.OpPut, Key: []byte(key), Value: []byte(value)}
	g.do(r)
	return r.Status
}

func (g *rig) get(key string) (string, kv.Status) {
	g.t.Helper()
	if g.room == nil {
		g.room = make([]byte, 0, g.o.Limits.MaxValueBytes)
	}
	r := &kv.Request{Op: kv.OpGet, Key: []byte(key), Value: g.room}
	g.do(r)
	if r.Status != kv.StatusOK {
		return "", r.Status
	}
	return string(r.Value), r.Status
}

func (g *rig) del(key string) kv.Status {
	g.t.Helper()
	r := &kv.Request{Op: kv.OpDelete, Key: []byte(key)}
	g.do(r)
	return r.Status
}

// want fails unless the key has that value; "-" means that it must not be there.
func (g *rig) want(key, value string) {
	g.t.Helper()
	got, s := g.get(key)
	if value == "-" && s == kv.StatusNotFound || s == kv.StatusOK && got == value {
		return
	}
	g.t.Fatalf("key %.40q: %v %s, want %s", key, s, short(got), short(value))
}

func (g *rig) mustPut(key, value string) {
	g.t.Helper()
	if s := g.put(key, value); s != kv.StatusOK {
		g.t.Fatalf("put %.40q, %d bytes: %v", key, len(value), s)
	}
}

// mustPutAll puts the keys 0 to n-1, many at the same time.
func (g *rig) mustPutAll(n int, item func(i int) (key, value string)) {
	g.t.Helper()
	all := make([]kv.Request, n)
	for i := range all {
		key, value := item(i)
		all[i] = kv.Request{Op: kv.OpPut, Key: []byte(key), Value: []byte(value)}
	}
	g.mustDoAll(all)
}

// mustDoAll does what must succeed, a hundred requests at a time.
func (g *rig) mustDoAll(all []kv.Request) {
	g.t.Helper()
	for some := range slices.Chunk(all, 100) {
		rs := make([]*kv.Request, len(some))
		for i := range some {
			rs[i] = &some[i]
		}
		g.do(rs...)
		for _, r := range rs {
			if r.Status != kv.StatusOK {
				g.t.Fatalf("%v of %.40q: %v", r.Op, r.Key, r.Status)
			}
		}
	}
}

func (g *rig) mustDelete(key string) {
	g.t.Helper()
	if s := g.del(key); s != kv.StatusOK {
		g.t.Fatalf("delete %.40q: %v", key, s)
	}
}

type pair struct{ key, value string }

func (g *rig) scan(from string, limit, room int) (items []pair, r *kv.Request) {
	g.t.Helper()
	r = &kv.Request{Op: kv.OpScan, Key: []byte(from), Limit: uint32(limit), Value: make([]byte, 0, room)}
	g.do(r)
	if r.Status == kv.StatusOK {
		items = pairs(r.Value)
	}
	return items, r
}

func pairs(b []byte) (items []pair) {
	for {
		k, v, rest, ok := kv.NextItem(b)
		if !ok {
			return items
		}
		items = append(items, pair{string(bytes.Clone(k)), string(bytes.Clone(v))})
		b = rest
	}
}

func short(s string) string {
	if len(s) > 20 {
		return s[:20] + "…"
	}
	return s
}

// testLog is a log for a test that fails, and silent none.
func testLog(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

var silent = slog.New(slog.DiscardHandler)
