package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// The names that Options.DiskEngine takes.
const (
	EngineSync        = "sync"         // pread and pwrite on the loop's own thread, one at a time
	EnginePool        = "pool"         // pread and pwrite by goroutines
	EngineAIO         = "aio"          // Linux' native asynchronous IO, one io_submit a turn
	EngineUringShared = "uring-shared" // one ring for all partitions: a lock to submit, one thread that reaps
	EngineUringSQ     = "uring-sq"     // a ring for each partition to submit to, one thread that reaps them all
	EngineUring       = "uring"        // the ring of the partition's own loop, both sides
)

// EngineNames are all of them, from the simplest to the default.
var EngineNames = []string{EngineSync, EnginePool, EngineAIO, EngineUringShared, EngineUringSQ, EngineUring}

// NeedsRing says whether an engine needs io_uring.
func NeedsRing(engine string) bool { return engine == "" || strings.HasPrefix(engine, EngineUring) }

// NeedsLoopRing says whether it needs the ring of the loop (loop.Options.Ring).
func NeedsLoopRing(engine string) bool { return engine == "" || engine == EngineUring }

// engine is a disk that lives on its partition's loop, as a member added before it: what the kernel or another thread tells
// comes to the engine, and the partition gets it by poll. Its Close comes when the partition has closed, so that
// nothing is in flight.
type engine interface {
	disk
	loop.Member

	// open begins, on the loop. bufs is the memory that transfers use, and transfer.fixed an index of it.
	open(id loop.MemberID, fds []int, bufs [][]byte) error

	// fixed says whether memory and files are registered.
	fixed() (buffers, files bool)
}

// Engines is what the partitions of one store have in common where their disk engine shares a ring or a thread. Its zero
// value is ready; the first partition that opens makes what it needs, the last one to close ends it.
type Engines struct {
	mu     sync.Mutex
	users  int
	shared *sharedRing
	reaper *reaper
}

// join gives what is shared; make is called for the first one only.
func (e *Engines) join(make func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users == 0 {
		if err := make(); err != nil {
			return err
		}
	}
	e.users++
	return nil
}

// leave ends it with the last one.
func (e *Engines) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users--; e.users > 0 {
		return
	}
	if e.shared != nil {
		e.shared.close()
	}
	if e.reaper != nil {
		e.reaper.close()
	}
	e.shared, e.reaper = nil, nil
}

// newEngine makes the engine that o names, or says why it cannot be on this loop.
func newEngine(l *loop.Loop, shard, shards int, o *Options) (engine, error) {
	if NeedsRing(o.DiskEngine) && !ring.Built {
		return nil, fmt.Errorf("store: disk engine %s: %w", o.DiskEngine, ring.ErrNotBuilt)
	}
	b := engineBase{l: l, o: o, shard: shard, in: newInbox(l, o.DepthMax), done: fifo.Make[completion](o.DepthMax)}
	if o.Durability == DurabilityFlush {
		b.write = unix.RWF_DSYNC
	}
	switch o.DiskEngine {
	case EngineSync:
		return newSync(b), nil
	case EnginePool:
		return newPool(b), nil
	case EngineAIO:
		return &aio{engineBase: b}, nil
	case EngineUringShared, EngineUringSQ:
		if o.Engines == nil {
			if shards > 1 {
				return nil, fmt.Errorf("store: disk engine %s with %d partitions needs Options.Engines, the same one for all of them", o.DiskEngine, shards)
			}
			o.Engines = new(Engines)
		}
		if o.DiskEngine == EngineUringSQ {
			return &uringSQ{queued: newQueued(b), shards: shards}, nil
		}
		return &uringShared{queued: newQueued(b), shards: shards}, nil
	}
	r := l.Ring()
	switch {
	case r == nil:
		return nil, fmt.Errorf("store: disk engine uring: loop %s has no ring (loop.Options.Ring)", l.Name())
	case o.SQPoll != r.SQPoll():
		return nil, fmt.Errorf("store: the ring of loop %s has SQPOLL %v, and Options.SQPoll is %v: make them the same (loop.Options.SQPoll)", l.Name(), r.SQPoll(), o.SQPoll)
	case o.DiskWait > 1 && l.Sleep() != loop.SleepRing:
		return nil, fmt.Errorf("store: waiting for %d completions needs a loop that sleeps in its ring (inproc, uring, or store loops of --placement dispatched), not in epoll", o.DiskWait)
	case o.IOPoll:
		if err := probe.IOPoll(probe.Local(), o.Dir).Err(); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	return &uring{engineBase: b, r: r}, nil
}

// engineBase is what engines have in common.
type engineBase struct {
	l     *loop.Loop
	o     *Options
	shard int
	id    loop.MemberID
	fds   []int
	write uint32                 // RWF_DSYNC for durability flush
	in    *inbox                 // of other threads
	done  fifo.Queue[completion] // of the loop's own
	made  uint64                 // system calls, but those of calls that other threads make
	told  uint64                 // of calls, those that are in the loop's statistics
}

func (b *engineBase) OnEvent(uint64, int32, uint32) {}
func (b *engineBase) Stage() error                  { return nil }
func (b *engineBase) fixed() (buffers, files bool)  { return false, false }
func (b *engineBase) calls() uint64                 { return b.made + b.in.wakes.Load() }

// tell adds what calls has grown by to the loop's system calls.
func (b *engineBase) tell(calls uint64) {
	b.l.Stats.Syscalls += calls - b.told
	b.told = calls
}

// poll takes what has completed on either side.
func (b *engineBase) poll(done []completion) int {
	n := popInto(done, &b.done)
	return n + b.in.take(done[n:])
}

// grow reserves space in a goroutine: what the engine cannot do asynchronously. Slabs seldom grow.
func (b *engineBase) grow(tag uint64, t *transfer) {
	fd, off, length := b.fds[t.class], t.off, t.length
	b.made++
	go func() {
		c := [1]completion{{tag, sys.Fallocate(fd, off, length)}}
		b.in.put(c[:])
		b.in.wake()
	}()
}

func (t *transfer) isRead() bool { return t.kind == readPage || t.kind == readItem }

// now does a transfer, and waits for it.
func (t *transfer) now(fd int, write uint32) int32 {
	switch {
	case t.kind == growSlab:
		return sys.Fallocate(fd, t.off, t.length)
	case t.isRead():
		return sys.Pread(fd, t.buf, t.off)
	}
	return sys.Pwrite(fd, t.buf, t.off, int(write))
}

// popInto moves completions from q to done, as many as fit.
func popInto(done []completion, q *fifo.Queue[completion]) (n int) {
	for ; n < len(done) && q.Len() > 0; n++ {
		done[n] = q.Pop()
	}
	return n
}

// inbox brings completions from other threads to the loop. They put, then wake; the loop that is about to sleep looks at
// some once more after it has published that it sleeps (the engine's Arm).
type inbox struct {
	l     *loop.Loop
	mu    sync.Mutex // of q
	q     fifo.Queue[completion]
	some  atomic.Bool   // written under mu, read by the loop without: q is not empty
	wakes atomic.Uint64 // system calls that waking took
}

func newInbox(l *loop.Loop, depth int) *inbox { return &inbox{l: l, q: fifo.Make[completion](depth)} }

func (b *inbox) put(cs []completion) {
	b.mu.Lock()
	for _, c := range cs {
		b.q.Push(c)
	}
	b.some.Store(true)
	b.mu.Unlock()
}

func (b *inbox) wake() {
	if b.l.Wake() {
		b.wakes.Add(1)
	}
}

func (b *inbox) take(done []completion) int {
	if !b.some.Load() {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := popInto(done, &b.q)
	b.some.Store(b.q.Len() > 0)
	return n
}

// checkEngine refuses what disk options cannot be together.
func (o *Options) checkEngine() error {
	e := o.DiskEngine
	switch {
	case !slices.Contains(EngineNames, e):
		return fmt.Errorf("store: disk engine %q is unknown (%s)", e, strings.Join(EngineNames, ", "))
	case o.DiskBatch < 0 || o.DiskBatch > o.DepthMax:
		return fmt.Errorf("store: a disk batch of %d: choose 0 (what a turn has) to the depth, %d", o.DiskBatch, o.DepthMax)
	case o.DiskWait < 0 || o.DiskWait > o.DepthMax:
		return fmt.Errorf("store: waiting for %d completions: choose 0 to the depth, %d", o.DiskWait, o.DepthMax)
	case o.DiskWait > 1 && e != EngineUring:
		return fmt.Errorf("store: waiting for %d completions needs the disk engine uring, not %s", o.DiskWait, e)
	case o.DiskWaitMax < 0:
		return fmt.Errorf("store: waiting for completions for %v: choose more than 0", o.DiskWaitMax)
	case o.SQPoll && !NeedsRing(e):
		return fmt.Errorf("store: SQPOLL needs one of the uring disk engines, not %s", e)
	case o.IOPoll && e != EngineUring:
		return fmt.Errorf("store: IOPOLL needs the disk engine uring, not %s", e)
	case o.IOPoll && o.SQPoll:
		return fmt.Errorf("store: IOPOLL has a ring of its own, which has no SQPOLL: choose one of them")
	case o.IOPoll && o.DiskWait > 1:
		return fmt.Errorf("store: with IOPOLL the loop does not sleep while transfers are in flight: leave out waiting for %d completions", o.DiskWait)
	}
	return nil
}
