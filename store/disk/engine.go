package disk

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// Shared holds what the partitions of one store share: with some engines a ring or a thread. Its zero value is ready. The first partition
// that opens makes the shared part, the last one that closes ends it. The loops of all partitions may use it at the same time.
type Shared struct {
	mu     sync.Mutex
	users  int
	shared *sharedRing
	reaper *reaper
}

// join counts a partition. For the first one it calls make.
func (e *Shared) join(make func() error) error {
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

// leave uncounts a partition. For the last one it ends the shared part.
func (e *Shared) leave() {
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

// New makes the engine o.Engine for loop l. Only l's goroutine may call it, with options that Check has accepted. The error is the reason, on one line, why this
// loop cannot have the engine. The caller passes the engine to Start.
func New(l *loop.Loop, o Options) (Engine, error) {
	if NeedsRing(o.Engine) && !ring.Built {
		return nil, fmt.Errorf("store: disk engine %s: %w", o.Engine, ring.ErrNotBuilt)
	}
	b := engineBase{l: l, o: &o, in: newInbox(l, o.DepthMax), done: fifo.Make[Completion](o.DepthMax)}
	if o.Durable {
		b.write = unix.RWF_DSYNC
	}
	switch o.Engine {
	case Sync:
		return newSync(b), nil
	case Pool:
		return newPool(b), nil
	case AIO:
		return &aio{engineBase: b}, nil
	case UringShared, UringSQ:
		if o.Shared == nil {
			if o.Shards > 1 {
				return nil, fmt.Errorf("store: disk engine %s with %d partitions needs Options.Engines, the same one for all of them", o.Engine, o.Shards)
			}
			o.Shared = new(Shared)
		}
		if o.Engine == UringSQ {
			return &uringSQ{queued: newQueued(b)}, nil
		}
		return &uringShared{queued: newQueued(b)}, nil
	}
	r := l.Ring()
	switch {
	case r == nil:
		return nil, fmt.Errorf("store: disk engine uring: loop %s has no ring (loop.Options.Ring)", l.Name())
	case o.SQPoll != r.SQPoll():
		return nil, fmt.Errorf("store: the ring of loop %s has SQPOLL %v, and Options.SQPoll is %v: make them the same (loop.Options.SQPoll)", l.Name(), r.SQPoll(), o.SQPoll)
	case o.Wait > 1 && l.Sleep() != loop.SleepRing:
		return nil, fmt.Errorf("store: waiting for %d completions needs a loop that sleeps in its ring (inproc, uring, or store loops of --placement dispatched), not in epoll", o.Wait)
	case o.IOPoll:
		if err := probe.IOPoll(probe.Local(), o.Dir).Err(); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	return &uring{engineBase: b, r: r}, nil
}

// engineBase is the part that all engines have.
type engineBase struct {
	l        *loop.Loop
	o        *Options
	id       loop.MemberID
	fds      []int
	write    uint32                 // RWF_DSYNC for durability flush
	in       *inbox                 // completions from other threads
	done     fifo.Queue[Completion] // completions from the loop itself
	calls    uint64                 // system calls of the loop's thread
	reported uint64                 // system calls that are already in the loop's statistics
}

func (b *engineBase) OnEvent(uint64, int32, uint32) {}
func (b *engineBase) Stage() error                  { return nil }
func (b *engineBase) Fixed() (buffers, files bool)  { return false, false }
func (b *engineBase) Calls() uint64                 { return b.calls + b.in.wakes.Load() }

// reportCalls adds the increase of calls to the loop's count of system calls.
func (b *engineBase) reportCalls(calls uint64) {
	b.l.Stats.Syscalls += calls - b.reported
	b.reported = calls
}

// Reap returns the completions from the loop and from other threads.
func (b *engineBase) Reap(done []Completion) int {
	n := popInto(done, &b.done)
	return n + b.in.pop(done[n:])
}

// grow reserves file space in a new goroutine, because the engine cannot do it asynchronously. Slabs seldom grow.
func (b *engineBase) grow(tag uint64, t *Transfer) {
	fd, off, length := b.fds[t.File], t.Off, t.Length
	b.calls++
	go func() {
		c := [1]Completion{{tag, sys.Fallocate(fd, off, length)}}
		b.in.put(c[:])
		b.in.wake()
	}()
}

// execute does a transfer, and blocks until it has ended. It returns the number of bytes, or -errno.
func (t *Transfer) execute(fd int, write uint32) int32 {
	switch {
	case t.Op == Grow:
		return sys.Fallocate(fd, t.Off, t.Length)
	case t.Op == Read:
		return sys.Pread(fd, t.Buf, t.Off)
	}
	return sys.Pwrite(fd, t.Buf, t.Off, int(write))
}

// popInto moves completions from q to done, as many as fit, and returns their number.
func popInto(done []Completion, q *fifo.Queue[Completion]) (n int) {
	for ; n < len(done) && q.Len() > 0; n++ {
		done[n] = q.Pop()
	}
	return n
}

// inbox passes completions from other threads to the loop. Those threads add completions and then wake the loop. A loop that is about to
// sleep publishes that, and then checks nonEmpty again (the engine's Arm).
type inbox struct {
	l        *loop.Loop
	mu       sync.Mutex // of q
	q        fifo.Queue[Completion]
	nonEmpty atomic.Bool   // q is not empty; written under mu, read by the loop without
	wakes    atomic.Uint64 // system calls for waking the loop
}

func newInbox(l *loop.Loop, depth int) *inbox { return &inbox{l: l, q: fifo.Make[Completion](depth)} }

func (b *inbox) put(cs []Completion) {
	b.mu.Lock()
	for _, c := range cs {
		b.q.Push(c)
	}
	b.nonEmpty.Store(true)
	b.mu.Unlock()
}

func (b *inbox) wake() {
	if b.l.Wake() {
		b.wakes.Add(1)
	}
}

// pop moves completions to done, as many as fit, and returns their number. Only the loop calls it.
func (b *inbox) pop(done []Completion) int {
	if !b.nonEmpty.Load() {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := popInto(done, &b.q)
	b.nonEmpty.Store(b.q.Len() > 0)
	return n
}
