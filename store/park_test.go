package store

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

const parkPatience = 100 * time.Second

// A store is parked when its disk is at rest, and not before, whatever engine it has.
func TestAStoreIsParkedWhenItsDiskIsAtRest(t *testing.T) {
	const slow = 60 * time.Millisecond
	var wait atomic.Int64
	o := Options{Fault: func(bool) Fault { return Fault{Wait: time.Duration(wait.Load())} }}
	test := func(t *testing.T, g *rig) {
		g.mustPut("a", "before")
		loops := []*loop.Loop{g.l}
		for parked := 0; parked < 2; parked++ {
			wait.Store(int64(slow))
			began := time.Now()
			g.begin(&kv.Request{Op: kv.OpPut, Key: []byte("a"), Value: []byte("small")}, &kv.Request{Op: kv.OpPut, Key: []byte("b"), Value: make([]byte, 20_000)})
			err := loop.ParkAll(loops, slow/6, nil)
			if err == nil && time.Since(began) > slow { // this process did not run until the disk was at rest
				loop.ResumeAll(loops)
				<-g.back
				<-g.back
				parked--
				continue
			}
			if err == nil || !strings.Contains(err.Error(), "the disk reads or writes") && !(o.SQPoll && strings.Contains(err.Error(), "SQPOLL")) {
				t.Fatalf("parked while the disk writes: %v", err)
			}
			wait.Store(0)
			done := 0
			if err := loop.ParkAll(loops, parkPatience, func(*loop.Loop) { done = len(g.back) }); err != nil {
				t.Fatal(err)
			}
			if done != 2 {
				t.Fatalf("parked with %d of 2 requests answered", done)
			}
			loop.ResumeAll(loops)
			for range 2 {
				if r := <-g.back; r.Status != kv.StatusOK {
					t.Fatal(r.Status)
				}
			}
			g.want("a", "small")
		}
		if err := loop.ParkAll(loops, parkPatience, nil); err != nil {
			t.Fatal(err)
		}
		// The rig closes a loop that is parked.
	}
	onEvery(t, o, append([]string{"disk", "disk-epoll"}, otherEngines...), test)
	o.SQPoll = true // a thread of the kernel's that sleeps a while later
	t.Run("sqpoll", func(t *testing.T) { onEvery(t, o, []string{EngineUringShared, EngineUringSQ}, test) })
}

func TestARawStoreAndAMemStoreAreParked(t *testing.T) {
	for _, o := range []Options{{Backend: Raw, Dir: t.TempDir(), RawBytes: 1 << 20, DiskEngine: EnginePool, NullValueBytes: 100, Log: testLog(t)}, {Backend: Mem}, {Backend: Null}} {
		t.Run(o.Backend.String(), func(t *testing.T) {
			var p loop.Partition
			l, err := loop.Start(loop.Options{Sleep: loop.SleepEpoll}, func(l *loop.Loop) (err error) {
				p, err = Open(l, 0, 1, o)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			back := completer(make(chan *kv.Request, 1))
			l.Do(func() { p.Submit(&kv.Request{Op: kv.OpPut, Key: []byte("k"), Value: make([]byte, 100), Owner: back}) })
			if err := loop.ParkAll([]*loop.Loop{l}, parkPatience, nil); err != nil {
				t.Fatal(err)
			}
			if len(back) != 1 {
				t.Fatal("parked with a request under way")
			}
			if err := l.Stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Written pages are synced once, and the store is busy until the sync has ended, with or without an error.
func TestWriteBackIsWaitedFor(t *testing.T) {
	var w writeBack
	o := Options{Log: testLog(t)}
	calls, end := 0, make(chan error)
	begun := make(chan struct{}, 1)
	sync := func() error {
		begun <- struct{}{}
		return <-end
	}
	if s := w.busy(0, sync, &o); s != "" {
		t.Fatalf("nothing was written: %s", s)
	}
	for writes := uint64(1); writes < 4; writes++ {
		for range 3 {
			if w.busy(writes, sync, &o) == "" {
				t.Fatal("at rest while the kernel writes back")
			}
		}
		<-begun
		calls++
		if calls == 2 {
			end <- errors.New("the device is gone")
		} else {
			end <- nil
		}
		w.wait()
		if s := w.busy(writes, sync, &o); s != "" || len(begun) > 0 {
			t.Fatalf("written back, and busy: %s", s)
		}
	}
	// Writes that arrive during a sync are synced by another call.
	_ = w.busy(4, sync, &o)
	<-begun
	_ = w.busy(5, sync, &o)
	end <- nil
	w.wait()
	if w.busy(5, sync, &o) == "" {
		t.Fatal("a write was not written back")
	}
	end <- nil
	w.wait()
}
