package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// otherEngines are the engines beside the default, which the kinds disk and disk-epoll have.
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

// settings are all engines, plain and with every option.
var settings = []setting{
	{EngineSync, Options{DiskEngine: EngineSync}, loop.Options{}},
	{EnginePool, Options{DiskEngine: EnginePool}, loop.Options{}},
	{EngineAIO, Options{DiskEngine: EngineAIO}, loop.Options{}},
	{EngineUringShared, Options{DiskEngine: EngineUringShared}, loop.Options{}},
	{EngineUringSQ, Options{DiskEngine: EngineUringSQ}, loop.Options{}},
	{EngineUring, Options{DiskEngine: EngineUring}, loop.Options{Ring: true}},
	{"aio,batch", Options{DiskEngine: EngineAIO, DiskBatch: 8}, loop.Options{}},
	{"uring-shared,unregistered", Options{DiskEngine: EngineUringShared, NoFixedBuffers: true, NoFixedFiles: true}, loop.Options{}},
	{"uring-shared,sqpoll", Options{DiskEngine: EngineUringShared, SQPoll: true}, loop.Options{}},
	{"uring-sq,sqpoll", Options{DiskEngine: EngineUringSQ, SQPoll: true}, loop.Options{}},
	{"uring,unregistered", Options{DiskEngine: EngineUring, NoFixedBuffers: true, NoFixedFiles: true}, loop.Options{Ring: true}},
	{"uring,batch", Options{DiskEngine: EngineUring, DiskBatch: 16}, loop.Options{Ring: true}},
	{"uring,sqpoll", Options{DiskEngine: EngineUring, SQPoll: true}, loop.Options{Ring: true, SQPoll: true}},
	{"uring,coop", Options{DiskEngine: EngineUring}, loop.Options{Sleep: loop.SleepRing, CoopTaskrun: true}},
	{"uring,wait", Options{DiskEngine: EngineUring, DiskWait: 32}, loop.Options{Sleep: loop.SleepRing}},
	{"uring,iopoll", Options{DiskEngine: EngineUring, IOPoll: true}, loop.Options{Ring: true}},
}

// onEveryEngine runs f for all settings, on loops that sleep in epoll and in their ring, where they can.
func onEveryEngine(t *testing.T, f func(t *testing.T, s setting)) { onEngines(t, settings, f) }

func onEngines(t *testing.T, settings []setting, f func(t *testing.T, s setting)) {
	for _, s := range settings {
		sleeps := []loop.Sleep{loop.SleepEpoll, loop.SleepRing}
		if s.lo.CoopTaskrun || s.o.DiskWait > 1 {
			sleeps = sleeps[1:]
		}
		for _, sleep := range sleeps {
			t.Run(s.name+"/"+sleep.String(), func(t *testing.T) {
				needEngine(t, s.o.DiskEngine)
				if sleep == loop.SleepRing {
					testenv.Uring(t)
				}
				if s.o.IOPoll {
					testenv.Need(t, "iopoll", probe.IOPoll(probe.Local(), t.TempDir()).Err())
				}
				s.lo.Sleep = sleep
				f(t, s)
			})
		}
	}
}

// bed is an engine on a loop of its own with two files; it is the member that uses the engine, as a partition does.
type bed struct {
	t     *testing.T
	l     *loop.Loop
	o     Options
	e     engine
	io    transfers
	mem   *arena.Arena
	fds   []int
	names []string

	shut  bool
	ended func(t *transfer, errno syscall.Errno) // on the loop
	done  [64]completion
}

const bedPages = 256

// newBed opens file 0 for reading and writing and file 1 for reading; file 2 is none.
func newBed(t *testing.T, s setting, shard, shards int) *bed {
	t.Helper()
	b := &bed{t: t, o: s.o}
	b.o.Backend, b.o.Dir, b.o.Log = Disk, t.TempDir(), testLog(t)
	if err := b.o.check(shard, shards); err != nil {
		t.Fatal(err)
	}
	for i, flags := range []int{unix.O_RDWR, unix.O_RDONLY} {
		name := filepath.Join(b.o.Dir, fmt.Sprint("file", i))
		if err := os.WriteFile(name, bytes.Repeat([]byte{byte(i)}, bedPages*pageBytes), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := syncPath(name); err != nil { // else writes extend it for ext4, which with IOPOLL waits in vain (6.1)
			t.Fatal(err)
		}
		fd, err := unix.Open(name, flags|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		b.fds, b.names = append(b.fds, fd), append(b.names, name)
	}
	var err error
	if b.mem, err = arena.New(bedPages * pageBytes); err != nil {
		t.Fatal(err)
	}
	fds := b.fds
	if s.o.NoFixedFiles || !NeedsRing(s.o.DiskEngine) {
		fds = append(fds, 1<<29)
	}
	b.l, err = loop.Start(s.lo, func(l *loop.Loop) (err error) {
		b.l = l
		if b.e, err = newEngine(l, shard, shards, &b.o); err != nil {
			return err
		}
		b.io = newTransfers(b.e, b.o.DepthMax)
		b.io.batch = b.o.DiskBatch
		return start(l, b.e, b, fds, registered(b.mem))
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) OnEvent(uint64, int32, uint32) {}

func (b *bed) Poll() (found int) {
	for n := len(b.done); n == len(b.done); found += n {
		n = b.e.poll(b.done[:])
		for _, c := range b.done[:n] {
			if t, errno, ended := b.io.complete(c); ended {
				b.ended(&t, errno)
			}
		}
	}
	return found
}

func (b *bed) Stage() error {
	all, err := b.io.stage()
	if !all {
		b.l.Again()
	}
	return err
}

func (b *bed) Close() bool {
	if b.io.active() > 0 {
		return false
	}
	if !b.shut {
		b.shut = true
		_ = b.mem.Close()
		for _, fd := range b.fds {
			_ = unix.Close(fd)
		}
	}
	return true
}

func (b *bed) stop() {
	b.t.Helper()
	if err := b.l.Stop(); err != nil {
		b.t.Fatal(err)
	}
}

// page is the n-th page of memory, and as a transfer that of the file.
func (b *bed) page(n int) []byte { return b.mem.Bytes()[n*pageBytes : (n+1)*pageBytes] }

func (b *bed) pages(kind transferKind, n, count int) transfer {
	return transfer{kind: kind, frame: uint32(n), buf: b.mem.Bytes()[n*pageBytes : (n+count)*pageBytes], off: int64(n) * pageBytes}
}

// do runs transfers, all at the same time, and gives each one's error by its number in frame.
func (b *bed) do(ts ...transfer) map[uint32]syscall.Errno {
	b.t.Helper()
	errs := map[uint32]syscall.Errno{}
	done := make(chan struct{})
	if err := b.l.Call(func() {
		b.ended = func(t *transfer, errno syscall.Errno) {
			if _, twice := errs[t.frame]; twice {
				b.t.Errorf("transfer %d completed twice", t.frame)
			}
			if errs[t.frame] = errno; len(errs) == len(ts) {
				close(done)
			}
		}
		for _, t := range ts {
			b.io.begin(t)
		}
	}); err != nil {
		b.t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		b.t.Fatalf("%d of %d transfers completed", len(errs), len(ts))
	}
	return errs
}

func (b *bed) mustDo(ts ...transfer) {
	b.t.Helper()
	for n, errno := range b.do(ts...) {
		if errno != 0 {
			b.t.Fatalf("transfer %d: %v", n, errno)
		}
	}
}

func TestEngineReadsWhatItWrote(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s setting) {
		for _, durability := range []string{DurabilityDevice, DurabilityFlush} {
			s.o.Durability = durability
			b := newBed(t, s, 0, 1)
			rng := rand.New(rand.NewPCG(1, 5))
			for range rounds(10) {
				var writes, reads []transfer
				for n := 0; n < bedPages; {
					count := min(1+rng.IntN(1+rng.IntN(12)), bedPages-n)
					writes, reads = append(writes, b.pages(writePage, n, count)), append(reads, b.pages(readPage, n, count))
					n += count
				}
				for i := range b.mem.Bytes() {
					b.mem.Bytes()[i] = byte(rng.Uint32())
				}
				want := bytes.Clone(b.mem.Bytes())
				b.mustDo(writes...)
				clear(b.mem.Bytes())
				b.mustDo(reads...)
				if !bytes.Equal(b.mem.Bytes(), want) {
					t.Fatal("other bytes")
				}
			}
			var calls uint64
			if err := b.l.Call(func() { calls = b.e.calls() }); err != nil {
				t.Fatal(err)
			}
			c := b.io.count
			t.Logf("%s: %d transfers in %d batches, %d system calls, depth up to %d", durability, c.transfers, c.n, calls, c.depthMax)
			b.stop()
		}
	})
}

func TestEngineTellsOfErrors(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s setting) {
		b := newBed(t, s, 0, 1)
		defer b.stop()
		end := b.pages(readPage, 0, 1)
		end.off = bedPages * pageBytes
		behind := b.pages(readItem, 1, 4) // one page of four is there
		behind.off = (bedPages - 1) * pageBytes
		readOnly := b.pages(writePage, 5, 1)
		readOnly.class = 1
		good := b.pages(readPage, 6, 1)
		good.class = 1
		want := map[uint32]syscall.Errno{0: unix.EIO, 1: unix.EIO, 5: unix.EBADF, 6: 0, 7: unix.EINVAL, 8: unix.EBADF}
		crooked := b.pages(readPage, 7, 1)
		crooked.off = 100 // O_DIRECT
		ts := []transfer{end, behind, readOnly, good, crooked}
		if none := b.pages(readPage, 8, 1); s.o.NoFixedFiles || !NeedsRing(s.o.DiskEngine) {
			none.class = 2
			ts = append(ts, none)
		}
		for n, errno := range b.do(ts...) {
			if errno != want[n] {
				t.Errorf("transfer %d: %v, want %v", n, errno, want[n])
			}
		}
		if bytes.Count(b.page(6), []byte{1}) != pageBytes {
			t.Error("the read between those that failed brought other bytes")
		}
	})
}

func TestEngineReservesSpace(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s setting) {
		b := newBed(t, s, 0, 1)
		defer b.stop()
		grow := transfer{kind: growSlab, frame: bedPages, off: bedPages * pageBytes, length: 1 << 20}
		b.mustDo(grow, b.pages(writePage, 0, 1), b.pages(readPage, 1, 1))
		if st, err := os.Stat(b.names[0]); err != nil || st.Size() != grow.off+grow.length {
			t.Fatalf("%v, %v", st.Size(), err)
		}
		grow.class = 1 // not to be written
		if errs := b.do(grow); errs[bedPages] != unix.EBADF {
			t.Fatal(errs)
		}
	})
}

// A loop in each wait policy hears of every single completion, when nothing else is there to wake it.
func TestEngineLosesNoWakeUp(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s setting) {
		for _, wait := range []loop.Wait{loop.WaitBlock, loop.WaitSpin, loop.WaitHybrid} {
			t.Run(wait.String(), func(t *testing.T) {
				s.lo.Wait = wait
				b := newBed(t, s, 0, 1)
				defer b.stop()
				left := rounds(10_000)
				if strings.Contains(s.name, ",") {
					left = rounds(2000) // an option
				}
				if s.o.SQPoll && wait != loop.WaitBlock {
					left = rounds(1000) // on few CPUs the kernel's thread and the loop wait a time slice for each other
				}
				done := make(chan struct{})
				if err := b.l.Call(func() {
					b.ended = func(_ *transfer, errno syscall.Errno) {
						if errno != 0 {
							t.Error(errno)
						}
						if left--; left == 0 {
							close(done)
						} else if left > 0 {
							b.io.begin(b.pages(readPage, left%bedPages, 1))
						}
					}
					b.io.begin(b.pages(readPage, 0, 1))
				}); err != nil {
					t.Fatal(err)
				}
				select {
				case <-done:
				case <-time.After(2 * time.Minute):
					t.Fatalf("it stopped with %d transfers left", left)
				}
			})
		}
	})
}

// Stop with transfers in flight lets all of them complete, and leaves no goroutine behind.
func TestEngineClosesInOrder(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s setting) {
		before := runtime.NumGoroutine()
		for range 5 {
			b := newBed(t, s, 0, 1)
			var ended atomic.Int32
			if err := b.l.Call(func() {
				b.ended = func(*transfer, syscall.Errno) { ended.Add(1) }
				for n := range 200 {
					b.io.begin(b.pages([]transferKind{readPage, writePage}[n%2], n, 1))
				}
			}); err != nil {
				t.Fatal(err)
			}
			b.stop()
			if n := ended.Load(); n != 200 {
				t.Fatalf("%d of 200 transfers completed", n)
			}
		}
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		}
	})
}

// Partitions that share a ring or a thread do not get each other's completions, and may come and go.
func TestEnginesAreShared(t *testing.T) {
	alone := func(s setting) bool {
		return s.o.DiskEngine != EngineUringShared && s.o.DiskEngine != EngineUringSQ
	}
	onEngines(t, slices.DeleteFunc(slices.Clone(settings), alone), func(t *testing.T, s setting) {
		const shards = 3
		s.o.Engines = new(Engines)
		beds := make([]*bed, shards)
		for i := range beds {
			beds[i] = newBed(t, s, i, shards)
		}
		use := func(i int) error {
			b := beds[i]
			for round := range byte(rounds(50)) {
				var writes, reads []transfer
				for n := range bedPages {
					writes, reads = append(writes, b.pages(writePage, n, 1)), append(reads, b.pages(readPage, n, 1))
					clear(b.page(n))
					b.page(n)[0], b.page(n)[1], b.page(n)[2] = byte(i), round, byte(n)
				}
				b.mustDo(writes...)
				clear(b.mem.Bytes())
				b.mustDo(reads...)
				for n := range bedPages {
					if !bytes.HasPrefix(b.page(n), []byte{byte(i), round, byte(n)}) {
						return fmt.Errorf("partition %d, page %d: %v", i, n, b.page(n)[:3])
					}
				}
			}
			return nil
		}
		together := func(who ...int) {
			errs := make(chan error, len(who))
			for _, i := range who {
				go func() { errs <- use(i) }()
			}
			for range who {
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
			}
		}
		together(0, 1, 2)
		beds[1].stop()
		together(0, 2)
		beds[1] = newBed(t, s, 1, shards) // again
		together(0, 1, 2)
		for _, b := range beds {
			b.stop()
		}
		if e := s.o.Engines; e.users != 0 || e.shared != nil || e.reaper != nil {
			t.Fatalf("%d users are left", e.users)
		}
	})
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
	onEveryEngine(t, func(t *testing.T, s setting) {
		g := &rig{t: t, back: make(chan *kv.Request, 4096), o: s.o}
		g.o.Backend, g.o.Dir, g.o.RawBytes, g.o.NullValueBytes, g.o.DepthMax = Raw, t.TempDir(), 4<<20, 100, 64
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
		// Closing: what waits is closed, what is in flight completes.
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
