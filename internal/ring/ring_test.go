package ring_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	. "github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/testenv"
	"golang.org/x/sys/unix"
)

func open(t *testing.T, o Options) *Ring {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	testenv.Uring(t)
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// wait reaps n completions.
func wait(t *testing.T, r *Ring, n int) []CQE {
	t.Helper()
	var got []CQE
	for range 100 {
		if err := r.Enter(1, int64(time.Second)); err != nil {
			t.Fatal(err)
		}
		var c [16]CQE
		k := r.Reap(c[:])
		got = append(got, c[:k]...)
		if len(got) >= n {
			return got
		}
	}
	t.Fatalf("%d of %d completions", len(got), n)
	return nil
}

var kinds = map[string]Options{
	"plain": {Entries: 8},
	"defer": {Entries: 8, DeferTaskrun: true},
	"coop":  {Entries: 8, CoopTaskrun: true},
}

func TestWritesAndReadsThroughPlainAndRegisteredBuffers(t *testing.T) {
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			r := open(t, o)
			f, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			a, err := arena.New(4 * arena.PageBytes)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			out, in := a.Bytes()[:4096], a.Bytes()[4096:8192]
			for i := range out {
				out[i] = byte(i * 7)
			}
			if err := r.RegisterBuffers([][]byte{a.Bytes()}); err != nil {
				t.Fatal(err)
			}
			fd := int(f.Fd())
			for i, prep := range []func(){
				func() { r.Next(1).Write(fd, out, 0) },
				func() { r.Next(2).Read(fd, in, 0) },
				func() { r.Next(3).WriteFixed(fd, out, 4096, 0) },
				func() { r.Next(4).ReadFixed(fd, in, 4096, 0) },
			} {
				clear(in)
				prep()
				if c := wait(t, r, 1)[0]; c.UserData != uint64(i+1) || c.Res != 4096 {
					t.Fatalf("step %d: %+v", i, c)
				}
				if i%2 == 1 && !bytes.Equal(in, out) {
					t.Fatalf("step %d read other bytes", i)
				}
			}
		})
	}
}

func TestNextSubmitsWhenTheQueueIsFull(t *testing.T) {
	r := open(t, Options{Entries: 8, DeferTaskrun: true})
	p, err := unix.Eventfd(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p)
	for i := range 100 { // 8 fit at a time
		e := r.Next(uint64(i))
		if e == nil {
			t.Fatalf("no entry for number %d", i)
		}
		e.Fallocate(p, 0, 0, 1) // an eventfd has no blocks, so it fails
	}
	seen := map[uint64]bool{}
	for _, c := range wait(t, r, 100) {
		if seen[c.UserData] {
			t.Fatalf("number %d completed twice", c.UserData)
		}
		seen[c.UserData] = true
	}
	if len(seen) != 100 || r.SQEs != 100 || r.CQEs != 100 {
		t.Fatalf("%d completions; counted %d in, %d out", len(seen), r.SQEs, r.CQEs)
	}
}

func TestEnterEndsAtItsTimeout(t *testing.T) {
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			r := open(t, o)
			before := time.Now()
			if err := r.Enter(1, int64(20*time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(before); d < 19*time.Millisecond {
				t.Fatalf("it ended after %v", d)
			}
		})
	}
}

func TestMultishotPollReportsEveryEdge(t *testing.T) {
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			r := open(t, o)
			fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			r.Next(7).PollMultishot(fd, unix.EPOLLIN)
			if err := r.Enter(0, 0); err != nil {
				t.Fatal(err)
			}
			for i := range 10 { // the counter is never read: each write is an edge of its own
				if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
					t.Fatal(err)
				}
				if c := wait(t, r, 1)[0]; c.UserData != 7 || c.Flags&CQEFMore == 0 {
					t.Fatalf("edge %d: %+v", i, c)
				}
			}
		})
	}
}

func TestOpenNamesTheRemedy(t *testing.T) {
	if Built {
		t.Skip("this build has io_uring; the stub's message is tested without the tag")
	}
	if _, err := Open(Options{}); !errors.Is(err, ErrNotBuilt) {
		t.Fatal(err)
	}
}

// The queue is full as long as the kernel's thread has not taken an entry: Next then returns nil, NextOrWait waits.
func TestAFullQueueOfSQPollIsWaitedFor(t *testing.T) {
	const n = 100_000
	r := open(t, Options{Entries: 8, SQPoll: true})
	filled, reaped := 0, 0
	var c [16]CQE
	for filled < n {
		e := r.NextOrWait(uint64(filled))
		if e == nil {
			t.Fatalf("no entry after %d", filled)
		}
		e.Nop()
		filled++
		reaped += r.Reap(c[:])
	}
	for reaped < n {
		reaped += len(wait(t, r, 1))
	}
	if reaped != n {
		t.Errorf("%d completions of %d entries", reaped, n)
	}
}
