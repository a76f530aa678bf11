package store

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// otherEngines are the engines other than the default, which the kinds disk and disk-epoll have.
var otherEngines = EngineNames[:len(EngineNames)-1]

func needEngine(t testing.TB, engine string) {
	t.Helper()
	switch {
	case NeedsRing(engine):
		testenv.Uring(t)
	case engine == EngineAIO:
		testenv.AIO(t)
	}
}

// setting is an engine with its options, on a loop of some kind.
type setting struct {
	name string
	o    Options
	lo   loop.Options
}

// settings are all engines, and some with options: the suite of store/disk has them all.
var settings = []setting{
	{EngineSync, Options{DiskEngine: EngineSync}, loop.Options{}},
	{EnginePool, Options{DiskEngine: EnginePool}, loop.Options{}},
	{EngineAIO, Options{DiskEngine: EngineAIO}, loop.Options{}},
	{EngineUringShared, Options{DiskEngine: EngineUringShared}, loop.Options{}},
	{EngineUringSQ, Options{DiskEngine: EngineUringSQ}, loop.Options{}},
	{EngineUring, Options{DiskEngine: EngineUring}, loop.Options{Ring: true}},
	{"aio,batch", Options{DiskEngine: EngineAIO, DiskBatch: 8}, loop.Options{}},
	{"uring-shared,unregistered", Options{DiskEngine: EngineUringShared, NoFixedBuffers: true, NoFixedFiles: true}, loop.Options{}},
	{"uring-sq,sqpoll", Options{DiskEngine: EngineUringSQ, SQPoll: true}, loop.Options{}},
	{"uring,wait", Options{DiskEngine: EngineUring, DiskWait: 32}, loop.Options{Sleep: loop.SleepRing}},
}

// onEveryEngine runs f for all settings, on loops that sleep in epoll and in their ring, where they can.
func onEveryEngine(t *testing.T, f func(t *testing.T, s setting)) {
	for _, s := range settings {
		sleeps := []loop.Sleep{loop.SleepEpoll, loop.SleepRing}
		if s.o.DiskWait > 1 {
			sleeps = sleeps[1:]
		}
		for _, sleep := range sleeps {
			t.Run(s.name+"/"+sleep.String(), func(t *testing.T) {
				needEngine(t, s.o.DiskEngine)
				if sleep == loop.SleepRing {
					testenv.Uring(t)
				}
				s.lo.Sleep = sleep
				f(t, s)
			})
		}
	}
}

func TestEngineOptionsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		o    Options
		says string
	}{
		{Options{DiskEngine: "mmap"}, `"mmap" is unknown (sync, pool`},
		{Options{DiskBatch: 300}, "to the depth, 256"},
		{Options{DiskBatch: -1}, "choose 0"},
		{Options{DiskWait: 300}, "to the depth, 256"},
		{Options{DiskWait: 2, DiskEngine: EngineAIO}, "needs the disk engine uring"},
		{Options{DiskWaitMax: -1}, "more than 0"},
		{Options{SQPoll: true, DiskEngine: EnginePool}, "one of the uring"},
		{Options{IOPoll: true, DiskEngine: EngineUringSQ}, "needs the disk engine uring"},
		{Options{IOPoll: true, SQPoll: true}, "choose one"},
		{Options{IOPoll: true, DiskWait: 4}, "leave out"},
		{Options{Backend: Raw, ExportEntries: 1}, "no items"},
		{Options{Backend: Raw, NullValueBytes: 5000}, "choose a page"},
		{Options{Backend: Raw, RawBytes: 4096 * 2}, "choose a page"},
	} {
		c.o.Dir = "d"
		if c.o.Backend == Null {
			c.o.Backend = Disk
		}
		err := c.o.check(0, 3)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want …%s…", c.o, err, c.says)
		}
	}
	o := Options{Backend: Disk, Dir: t.TempDir(), DiskEngine: EngineUringSQ}
	if !NeedsRing(o.DiskEngine) {
		t.Fatal("uring-sq needs a ring")
	}
	l, err := loop.Start(loop.Options{Sleep: loop.SleepEpoll}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	for says, o := range map[string]Options{
		"Options.Engines": o,
		"has no ring":     {Backend: Disk, Dir: o.Dir, DiskEngine: EngineUring},
	} {
		testenv.Uring(t)
		var err error
		if cerr := l.Call(func() { _, err = Open(l, 0, 2, o) }); cerr != nil {
			t.Fatal(cerr)
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want …%s…", err, says)
		}
	}
}

// The raw backend answers every request by one transfer of a page, on every engine.
func TestRawMovesAPageForEachRequest(t *testing.T) {
	root := t.TempDir() // the engines' names have commas, which would make a list of folders
	onEveryEngine(t, func(t *testing.T, s setting) {
		g := &rig{t: t, back: make(chan *kv.Request, 4096), o: s.o}
		g.o.Backend, g.o.Dir, g.o.RawBytes, g.o.NullValueBytes, g.o.DepthMax = Raw, filepath.Join(root, strings.NewReplacer(",", "-", "/", "-").Replace(t.Name())), 4<<20, 100, 64
		g.o.Log = testLog(t)
		var err error
		open := func() {
			if g.l, err = loop.Start(s.lo, func(l *loop.Loop) (err error) { g.p, err = Open(l, 0, 1, g.o); return err }); err != nil {
				t.Fatal(err)
			}
		}
		open()
		var all []*kv.Request
		for i := range 500 { // more than the depth
			r := &kv.Request{Op: kv.OpGet, Key: fmt.Appendf(nil, "k%d", i), Value: make([]byte, 0, 100)}
			if i%5 == 0 {
				r.Op, r.Value = kv.OpPut, fmt.Appendf(nil, "value %d", i)
			}
			all = append(all, r)
		}
		g.do(all...)
		for _, r := range all {
			if r.Status != kv.StatusOK || r.Op == kv.OpGet && len(r.Value) != 100 {
				t.Fatalf("%v %s: %v, %d bytes", r.Op, r.Key, r.Status, len(r.Value))
			}
		}
		g.mustPut("k495", "value alone") // among the others some have the same page
		if v := g.mustGet("k495"); !strings.HasPrefix(v, "value alone") {
			t.Fatalf("a page that was written has %q", v[:20])
		}
		small := &kv.Request{Op: kv.OpGet, Key: []byte("k"), Value: make([]byte, 0, 99)}
		large := &kv.Request{Op: kv.OpPut, Key: []byte("k"), Value: make([]byte, pageBytes+1)}
		g.do(small, large)
		if small.Status != kv.StatusTooSmall || small.Need != 100 || large.Status != kv.StatusTooLarge {
			t.Fatal(small.Status, large.Status)
		}
		st := g.stats()
		if st.DiskReads != 401 || st.DiskWrites != 101 || st.Disk.Transfers != 502 || st.Disk.DepthMax > 64 || st.Disk.Engine != g.o.DiskEngine || st.IOErrors != 0 {
			t.Fatalf("%+v", st)
		}
		// At the close, waiting requests end with an error, and transfers in flight complete.
		g.begin(all...)
		g.close()
		for range all {
			if r := <-g.back; r.Status != kv.StatusOK && r.Status != kv.StatusClosed {
				t.Fatal(r.Status)
			}
		}
		open() // the file is there
		if v := g.mustGet("k495"); !strings.HasPrefix(v, "value ") {
			t.Fatalf("after opening again, a page that was written has %q", v[:20])
		}
		g.close()
	})
}

func (g *rig) mustGet(key string) string {
	g.t.Helper()
	r := &kv.Request{Op: kv.OpGet, Key: []byte(key), Value: make([]byte, 0, 100)}
	g.do(r)
	if r.Status != kv.StatusOK {
		g.t.Fatalf("get %s: %v", key, r.Status)
	}
	return string(r.Value)
}
