package disk

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/loop"
)

// queued is the common part of the engines whose completions another thread reaps. A turn's transfers wait for Flush.
type queued struct {
	engineBase
	sqe        entries
	queue      []queuedIO
	unconsumed bool     // the kernel has not consumed all submitted entries
	thread     *reaping // the reaping thread; nil before Open and after Close
}

// reaping is the state of a thread that reaps for all partitions.
type reaping struct {
	waits  atomic.Uint64         // system calls
	failed atomic.Pointer[error] // the error that has ended it
	ended  chan struct{}
}

func newQueued(b engineBase) queued {
	return queued{engineBase: b, queue: make([]queuedIO, 0, b.o.DepthMax)}
}

func (q *queued) Fixed() (buffers, files bool) { return q.sqe.bufs, q.sqe.files }

// send puts the waiting transfers onto a ring, with mark in their user data, and submits them. Transfers without room wait for the next turn.
func (q *queued) send(r *ring.Ring, mark uint64) error {
	was, n := r.Enters, 0
	for _, w := range q.queue {
		e := r.Next(mark | w.tag)
		if e == nil {
			break
		}
		q.sqe.fill(e, w.t)
		n++
	}
	err := r.Submit()
	q.calls += r.Enters - was
	q.queue = q.queue[:copy(q.queue, q.queue[n:])]
	q.unconsumed = r.Pending() > 0
	if q.unconsumed || len(q.queue) > 0 {
		q.l.Again()
	}
	return err
}

func (q *queued) Submit(tag uint64, t *Transfer) bool {
	q.queue = append(q.queue, queuedIO{tag, t})
	return true
}

// waiting reports whether there are transfers to send. Its error is that of the reaping thread.
func (q *queued) waiting() (bool, error) {
	if f := q.thread.failed.Load(); f != nil {
		return false, *f
	}
	return len(q.queue) > 0 || q.unconsumed, nil
}

// Calls returns this partition's system calls. The first partition's include those of the reaping thread.
func (q *queued) Calls() uint64 {
	n := q.engineBase.Calls()
	if q.o.Shard == 0 && q.thread != nil {
		n += q.thread.waits.Load()
	}
	return n
}

// Poll implements loop.Member. It finds nothing: the partition reaps.
func (q *queued) Poll() int {
	q.reportCalls(q.Calls())
	return 0
}

// idle names work that the kernel does by itself for an engine's separate ring; "": none. It is for loop.Busier.
func idle(r *ring.Ring) string {
	if r != nil && !r.Idle() {
		return "the kernel's thread that submits to the disk (SQPOLL) has not gone to sleep"
	}
	return ""
}

// Arm implements loop.Armer: it checks for completions again.
func (q *queued) Arm() (bool, error) {
	if q.thread == nil {
		return false, nil
	}
	if f := q.thread.failed.Load(); f != nil {
		return false, *f
	}
	return q.in.nonEmpty.Load(), nil
}

// uringShared is the disk of a partition that shares one ring with all others. A lock protects submission; one thread reaps.
type uringShared struct {
	queued
	bufs int // number of buffers
	ring *sharedRing
}

var _ Engine = (*uringShared)(nil)
var _ loop.Armer = (*uringShared)(nil)
var _ loop.Busier = (*uringShared)(nil)

// sharedRing is that ring. It is made without SINGLE_ISSUER and DEFER_TASKRUN, which allow one submitting thread only. So the kernel
// interrupts the submitting thread to post completions.
type sharedRing struct {
	reaping
	r     *ring.Ring
	mu    sync.Mutex              // protects submission
	boxes []atomic.Pointer[inbox] // by shard
}

const (
	shardShift = 48      // in user data, above the tag: 32 bits of generation and genShift of place
	stopTag    = 1 << 63 // ends the reaping thread
)

func newSharedRing(o *Options, shards int) (*sharedRing, error) {
	// Its completion queue has twice as many places: it cannot overflow while there are up to 65536 transfers.
	r, err := ring.Open(ring.Options{Entries: min(shards*o.DepthMax, DepthLimit), SQPoll: o.SQPoll})
	if err != nil {
		return nil, fmt.Errorf("store: disk engine uring-shared: %w", err)
	}
	s := &sharedRing{r: r, boxes: make([]atomic.Pointer[inbox], shards), reaping: reaping{ended: make(chan struct{})}}
	go s.reap()
	return s, nil
}

// reap is the body of the reaping thread.
func (s *sharedRing) reap() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.ended)
	var cqes [64]ring.CQE
	var batch [64]Completion
	for {
		if err := s.r.Wait(1, 0); err != nil {
			failed := err // a separate variable, so that err is not allocated on the heap
			s.failed.Store(&failed)
			for i := range s.boxes {
				if b := s.boxes[i].Load(); b != nil {
					b.wake()
				}
			}
			return
		}
		s.waits.Add(1)
		for n := len(cqes); n == len(cqes); {
			n = s.r.Reap(cqes[:])
			for i := 0; i < n; {
				if cqes[i].UserData == stopTag {
					return
				}
				i += s.deliver(cqes[i:n], batch[:])
			}
		}
	}
}

// deliver passes a run of consecutive completions of one partition to its inbox.
func (s *sharedRing) deliver(cqes []ring.CQE, batch []Completion) (n int) {
	shard := cqes[0].UserData >> shardShift
	for ; n < len(cqes) && cqes[n].UserData>>shardShift == shard; n++ {
		batch[n] = Completion{cqes[n].UserData & (1<<shardShift - 1), cqes[n].Res}
	}
	b := s.boxes[shard].Load()
	b.put(batch[:n])
	b.wake()
	return n
}

// close ends the reaping thread, when nothing is in flight.
func (s *sharedRing) close() {
	s.mu.Lock()
	for {
		e := s.r.Next(stopTag)
		if e != nil {
			e.Nop()
			break
		}
		runtime.Gosched() // with SQPOLL the kernel's thread makes room
	}
	err := s.r.Submit()
	s.mu.Unlock()
	if err != nil {
		return // the thread has failed, too, or will not end: do not close the ring under it
	}
	<-s.ended
	s.r.Unregister()
	_ = s.r.Close()
}

func (u *uringShared) Open(id loop.MemberID, fds []int, bufs [][]byte) error {
	u.id, u.fds, u.bufs = id, fds, len(bufs)
	e := u.o.Shared
	err := e.join(func() (err error) {
		if e.shared, err = newSharedRing(u.o, u.o.Shards); err != nil {
			return err
		}
		if err := e.shared.r.Reserve(u.o.Shards*len(bufs), u.o.Shards*len(fds)); err != nil {
			u.o.Log.Warn("the shared ring has no places for registered memory and files: reads and writes cost more", "reason", err) // each partition also logs a warning
		}
		return nil
	})
	if err != nil {
		return err
	}
	s := e.shared
	u.ring, u.thread = s, &s.reaping
	s.boxes[u.o.Shard].Store(u.in)
	s.mu.Lock()
	defer s.mu.Unlock()
	u.sqe = newEntries(&u.engineBase)
	u.sqe.firstBuf, u.sqe.firstFile = u.o.Shard*len(bufs), u.o.Shard*len(fds)
	u.sqe.register(&u.engineBase, func(b [][]byte) error { return s.r.SetBuffers(u.sqe.firstBuf, b) },
		func(f []int) error { return s.r.SetFiles(u.sqe.firstFile, f) }, bufs)
	return nil
}

func (u *uringShared) Flush() error {
	if some, err := u.waiting(); !some {
		return err
	}
	s := u.ring
	s.mu.Lock()
	defer s.mu.Unlock()
	return u.send(s.r, uint64(u.o.Shard)<<shardShift)
}

// Busy implements loop.Busier.
func (u *uringShared) Busy() string {
	if u.ring == nil {
		return ""
	}
	return idle(u.ring.r)
}

// Close leaves the shared ring; the other partitions continue to use it.
func (u *uringShared) Close() bool {
	s := u.ring
	if s == nil {
		return true
	}
	s.mu.Lock()
	if u.sqe.bufs {
		_ = s.r.SetBuffers(u.sqe.firstBuf, make([][]byte, u.bufs))
	}
	if u.sqe.files {
		_ = s.r.SetFiles(u.sqe.firstFile, slices.Repeat([]int{-1}, len(u.fds)))
	}
	s.mu.Unlock()
	u.ring, u.thread = nil, nil
	u.o.Shared.leave()
	return true
}
