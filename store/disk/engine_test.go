package disk

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// setting is an engine with its options, on a loop of some kind.
type setting struct {
	name string
	o    Options
	lo   loop.Options
}

// settings are all engines, plain and with every option.
var settings = []setting{
	{Sync, Options{Engine: Sync}, loop.Options{}},
	{Pool, Options{Engine: Pool}, loop.Options{}},
	{AIO, Options{Engine: AIO}, loop.Options{}},
	{UringShared, Options{Engine: UringShared}, loop.Options{}},
	{UringSQ, Options{Engine: UringSQ}, loop.Options{}},
	{Uring, Options{Engine: Uring}, loop.Options{Ring: true}},
	{"aio,batch", Options{Engine: AIO, Batch: 8}, loop.Options{}},
	{"uring-shared,unregistered", Options{Engine: UringShared, NoFixedBuffers: true, NoFixedFiles: true}, loop.Options{}},
	{"uring-shared,sqpoll", Options{Engine: UringShared, SQPoll: true}, loop.Options{}},
	{"uring-sq,sqpoll", Options{Engine: UringSQ, SQPoll: true}, loop.Options{}},
	{"uring,unregistered", Options{Engine: Uring, NoFixedBuffers: true, NoFixedFiles: true}, loop.Options{Ring: true}},
	{"uring,batch", Options{Engine: Uring, Batch: 16}, loop.Options{Ring: true}},
	{"uring,sqpoll", Options{Engine: Uring, SQPoll: true}, loop.Options{Ring: true, SQPoll: true}},
	{"uring,coop", Options{Engine: Uring}, loop.Options{Sleep: loop.SleepRing, CoopTaskrun: true}},
	{"uring,wait", Options{Engine: Uring, Wait: 32}, loop.Options{Sleep: loop.SleepRing}},
	{"uring,iopoll", Options{Engine: Uring, IOPoll: true}, loop.Options{Ring: true}},
}

// onEveryEngine runs f for all settings, on loops that sleep in epoll and in their ring, where they can.
func onEveryEngine(t *testing.T, f func(t *testing.T, s setting)) { onEngines(t, settings, f) }

func onEngines(t *testing.T, settings []setting, f func(t *testing.T, s setting)) {
	for _, s := range settings {
		sleeps := []loop.Sleep{loop.SleepEpoll, loop.SleepRing}
		if s.lo.CoopTaskrun || s.o.Wait > 1 {
			sleeps = sleeps[1:]
		}
		for _, sleep := range sleeps {
			t.Run(s.name+"/"+sleep.String(), func(t *testing.T) {
				if NeedsRing(s.o.Engine) {
					testenv.Uring(t)
				} else if s.o.Engine == AIO {
					testenv.AIO(t)
				}
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

// rounds is n, or less in short tests and more in long ones.
func rounds(n int) int {
	switch {
	case testing.Short():
		return n / 10
	case os.Getenv("KVWIRE_LONG") != "":
		return 5 * n
	}
	return n
}

// testEngine is an engine on a loop of its own with two files; it is the member that uses the engine, as a partition does.
type testEngine struct {
	t     *testing.T
	l     *loop.Loop
	o     Options
	e     Engine
	io    Transfers
	under []int // the first page of each transfer under way, by its place
	mem   *arena.Arena
	fds   []int
	names []string

	shut  bool
	ended func(page int, errno syscall.Errno) // on the loop
	done  [64]Completion
}

const (
	bedPages  = 256
	pageBytes = arena.PageBytes
)

// newTestEngine opens file 0 for reading and writing and file 1 for reading; file 2 is none.
func newTestEngine(t *testing.T, s setting, shard, shards int) *testEngine {
	t.Helper()
	b := &testEngine{t: t, o: s.o}
	b.o.Shard, b.o.Shards, b.o.Dir, b.o.DepthMax, b.o.WaitMax = shard, shards, t.TempDir(), 256, 100*time.Microsecond
	b.o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	if err := b.o.Check(); err != nil {
		t.Fatal(err)
	}
	for i, flags := range []int{unix.O_RDWR, unix.O_RDONLY} {
		name := filepath.Join(b.o.Dir, fmt.Sprint("file", i))
		f, err := os.Create(name)
		if err == nil {
			_, err = f.Write(bytes.Repeat([]byte{byte(i)}, bedPages*pageBytes))
		}
		if err == nil { // else writes extend it for ext4, which with IOPOLL waits in vain (6.1)
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
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
	if s.o.NoFixedFiles || !NeedsRing(s.o.Engine) {
		fds = append(fds, 1<<29)
	}
	b.l, err = loop.Start(s.lo, func(l *loop.Loop) (err error) {
		b.l = l
		if b.e, err = New(l, b.o); err != nil {
			return err
		}
		b.io, b.under = NewTransfers(b.e, b.o.DepthMax, b.o.Batch), make([]int, b.o.DepthMax)
		return Start(l, b.e, b, fds, Registered(b.mem))
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *testEngine) OnEvent(uint64, int32, uint32) {}

func (b *testEngine) Poll() (found int) {
	for n := len(b.done); n == len(b.done); found += n {
		n = b.e.Reap(b.done[:])
		for _, c := range b.done[:n] {
			if place, errno, ended := b.io.Complete(c); ended {
				b.ended(b.under[place], errno)
			}
		}
	}
	return found
}

func (b *testEngine) Stage() error {
	all, err := b.io.Stage()
	if !all {
		b.l.Again()
	}
	return err
}

func (b *testEngine) Close() bool {
	if b.io.Active() > 0 {
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

func (b *testEngine) stop() {
	b.t.Helper()
	if err := b.l.Stop(); err != nil {
		b.t.Fatal(err)
	}
}

// page is the n-th page of memory, and as a transfer that of the file.
func (b *testEngine) page(n int) []byte { return b.mem.Bytes()[n*pageBytes : (n+1)*pageBytes] }

func (b *testEngine) pages(op Op, n, count int) io {
	return io{Transfer{Op: op, Buf: b.mem.Bytes()[n*pageBytes : (n+count)*pageBytes], Off: int64(n) * pageBytes}, n}
}

// io is a transfer, and the number by which a test knows it: its first page.
type io struct {
	Transfer
	page int
}

// begin begins a transfer. Only the loop may call it.
func (b *testEngine) begin(t io) { b.under[b.io.Begin(t.Transfer)] = t.page }

// do runs transfers, all at the same time, and gives each one's error by its number.
func (b *testEngine) do(ts ...io) map[int]syscall.Errno {
	b.t.Helper()
	errs := map[int]syscall.Errno{}
	done := make(chan struct{})
	if err := b.l.Call(func() {
		b.ended = func(page int, errno syscall.Errno) {
			if _, twice := errs[page]; twice {
				b.t.Errorf("transfer %d completed twice", page)
			}
			if errs[page] = errno; len(errs) == len(ts) {
				close(done)
			}
		}
		for _, t := range ts {
			b.begin(t)
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

func (b *testEngine) mustDo(ts ...io) {
	b.t.Helper()
	for n, errno := range b.do(ts...) {
		if errno != 0 {
			b.t.Fatalf("transfer %d: %v", n, errno)
		}
	}
}

func TestEngineReadsWhatItWrote(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s setting) {
		for _, durable := range []bool{false, true} {
			s.o.Durable = durable
			b := newTestEngine(t, s, 0, 1)
			rng, data := rand.New(rand.NewPCG(1, 5)), rand.NewChaCha8([32]byte{5})
			for range rounds(10) {
				var writes, reads []io
				for n := 0; n < bedPages; {
					count := min(1+rng.IntN(1+rng.IntN(12)), bedPages-n)
					writes, reads = append(writes, b.pages(Write, n, count)), append(reads, b.pages(Read, n, count))
					n += count
				}
				_, _ = data.Read(b.mem.Bytes())
				want := bytes.Clone(b.mem.Bytes())
				b.mustDo(writes...)
				clear(b.mem.Bytes())
				b.mustDo(reads...)
				if !bytes.Equal(b.mem.Bytes(), want) {
					t.Fatal("other bytes")
				}
			}
			var calls uint64
			if err := b.l.Call(func() { calls = b.e.Calls() }); err != nil {
				t.Fatal(err)
			}
			c := b.io.Counts
			t.Logf("durable %v: %d transfers in %d batches, %d system calls, depth up to %d", durable, c.Transfers, c.Batches, calls, c.DepthMax)
			b.stop()
		}
	})
}

func TestEngineReportsErrors(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s setting) {
		b := newTestEngine(t, s, 0, 1)
		defer b.stop()
		end := b.pages(Read, 0, 1)
		end.Off = bedPages * pageBytes
		behind := b.pages(Read, 1, 4) // one page of four is there
		behind.Off = (bedPages - 1) * pageBytes
		readOnly := b.pages(Write, 5, 1)
		readOnly.File = 1
		good := b.pages(Read, 6, 1)
		good.File = 1
		want := map[int]syscall.Errno{0: unix.EIO, 1: unix.EIO, 5: unix.EBADF, 6: 0, 7: unix.EINVAL, 8: unix.EBADF}
		crooked := b.pages(Read, 7, 1)
		crooked.Off = 100 // O_DIRECT
		ts := []io{end, behind, readOnly, good, crooked}
		if none := b.pages(Read, 8, 1); s.o.NoFixedFiles || !NeedsRing(s.o.Engine) {
			none.File = 2
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
		b := newTestEngine(t, s, 0, 1)
		defer b.stop()
		grow := io{Transfer{Op: Grow, Off: bedPages * pageBytes, Length: 1 << 20}, bedPages}
		b.mustDo(grow, b.pages(Write, 0, 1), b.pages(Read, 1, 1))
		if st, err := os.Stat(b.names[0]); err != nil || st.Size() != grow.Off+grow.Length {
			t.Fatalf("%v, %v", st.Size(), err)
		}
		grow.File = 1 // not to be written
		if errs := b.do(grow); errs[bedPages] != unix.EBADF {
			t.Fatal(errs)
		}
	})
}

// With each wait policy, every completion wakes the loop, also if no other event does.
func TestEngineLosesNoWakeUp(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s setting) {
		for _, wait := range []loop.Wait{loop.WaitBlock, loop.WaitSpin, loop.WaitHybrid} {
			t.Run(wait.String(), func(t *testing.T) {
				s.lo.Wait = wait
				b := newTestEngine(t, s, 0, 1)
				defer b.stop()
				left := rounds(10_000)
				if strings.Contains(s.name, ",") || testing.Short() {
					left = rounds(2000) // an option
				}
				if s.o.SQPoll && wait != loop.WaitBlock {
					left = rounds(1000) // on few CPUs the kernel's thread and the loop wait a time slice for each other
				}
				done := make(chan struct{})
				if err := b.l.Call(func() {
					b.ended = func(_ int, errno syscall.Errno) {
						if errno != 0 {
							t.Error(errno)
						}
						if left--; left == 0 {
							close(done)
						} else if left > 0 {
							b.begin(b.pages(Read, left%bedPages, 1))
						}
					}
					b.begin(b.pages(Read, 0, 1))
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
		for range max(rounds(5), 2) {
			b := newTestEngine(t, s, 0, 1)
			var ended atomic.Int32
			if err := b.l.Call(func() {
				b.ended = func(int, syscall.Errno) { ended.Add(1) }
				for n := range 200 {
					b.begin(b.pages([]Op{Read, Write}[n%2], n, 1))
				}
			}); err != nil {
				t.Fatal(err)
			}
			b.stop()
			if n := ended.Load(); n != 200 {
				t.Fatalf("%d of 200 transfers completed", n)
			}
		}
		for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		}
	})
}

// Partitions that share a ring or a thread do not get each other's completions, and may come and go.
func TestEnginesAreShared(t *testing.T) {
	testenv.NotShort(t, "each engine with each other")
	alone := func(s setting) bool {
		return s.o.Engine != UringShared && s.o.Engine != UringSQ
	}
	onEngines(t, slices.DeleteFunc(slices.Clone(settings), alone), func(t *testing.T, s setting) {
		const shards = 3
		s.o.Shared = new(Shared)
		beds := make([]*testEngine, shards)
		for i := range beds {
			beds[i] = newTestEngine(t, s, i, shards)
		}
		use := func(i int) error {
			b := beds[i]
			for round := range byte(rounds(50)) {
				var writes, reads []io
				for n := range bedPages {
					writes, reads = append(writes, b.pages(Write, n, 1)), append(reads, b.pages(Read, n, 1))
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
		beds[1] = newTestEngine(t, s, 1, shards) // again
		together(0, 1, 2)
		for _, b := range beds {
			b.stop()
		}
		if e := s.o.Shared; e.users != 0 || e.shared != nil || e.reaper != nil {
			t.Fatalf("%d users are left", e.users)
		}
	})
}
