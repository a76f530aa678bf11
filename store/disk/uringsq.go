package disk

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// uringSQ is the disk of a partition that submits to its own ring. One thread reaps the completions of all partitions'
// rings.
type uringSQ struct {
	queued
	ring   *ring.Ring
	reaper *reaper
}

var _ Engine = (*uringSQ)(nil)
var _ loop.Armer = (*uringSQ)(nil)
var _ loop.Busier = (*uringSQ)(nil)

// reaper is the reaping thread. It sleeps in an epoll set of the rings.
type reaper struct {
	reaping
	epfd, stopfd int

	mu         sync.Mutex // protects lines; held while the thread reaps, so that it uses no ring that was removed
	partitions []*uringSQ // by shard; nil: none
}

// reaperStop is the tag of stopfd in the epoll set; the others are shards.
const reaperStop = 1 << 32

func newReaper(shards int) (*reaper, error) {
	r := &reaper{partitions: make([]*uringSQ, shards), reaping: reaping{ended: make(chan struct{})}}
	fail := func(err error) (*reaper, error) {
		return nil, fmt.Errorf("store: disk engine uring-sq: %w (raise ulimit -n)", err)
	}
	var err error
	if r.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fail(err)
	}
	if r.stopfd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		_ = unix.Close(r.epfd)
		return fail(err)
	}
	if err := r.watch(r.stopfd, reaperStop); err != nil {
		_ = unix.Close(r.epfd)
		_ = unix.Close(r.stopfd)
		return fail(err)
	}
	go r.reap()
	return r, nil
}

func (r *reaper) watch(fd int, tag uint64) error {
	ev := sys.EpollEvent(unix.EPOLLIN, tag) // level-triggered: a ring is emptied each time
	return unix.EpollCtl(r.epfd, unix.EPOLL_CTL_ADD, fd, &ev)
}

func (r *reaper) reap() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(r.ended)
	var events [16]unix.EpollEvent
	for {
		n, err := sys.EpollWait(r.epfd, events[:], -1)
		r.waits.Add(1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			r.fail(err)
			return
		}
		for i := range events[:n] {
			tag := sys.EpollTag(&events[i])
			if tag == reaperStop {
				return
			}
			r.drain(int(tag))
		}
	}
}

func (r *reaper) fail(err error) {
	err = fmt.Errorf("store: disk engine uring-sq: epoll_wait: %w", err)
	r.failed.Store(&err)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.partitions {
		if u != nil {
			u.in.wake()
		}
	}
}

// drain moves all completions of one ring to its loop's inbox, and wakes the loop once.
func (r *reaper) drain(shard int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.partitions[shard]
	if u == nil {
		return
	}
	var cqes [64]ring.CQE
	var batch [64]Completion
	for n := len(cqes); n == len(cqes); {
		n = u.ring.Reap(cqes[:])
		for i := range cqes[:n] {
			batch[i] = Completion{cqes[i].UserData, cqes[i].Res}
		}
		u.in.put(batch[:n])
	}
	u.in.wake()
}

func (r *reaper) close() {
	_, _ = unix.Write(r.stopfd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // cannot fail on a new eventfd
	<-r.ended
	_ = unix.Close(r.stopfd)
	_ = unix.Close(r.epfd)
}

func (u *uringSQ) Open(id loop.MemberID, fds []int, bufs [][]byte) (err error) {
	u.id, u.fds = id, fds
	if u.ring, err = ring.Open(ring.Options{Entries: u.o.DepthMax, SQPoll: u.o.SQPoll}); err != nil {
		return fmt.Errorf("store: disk engine uring-sq: %w", err)
	}
	u.sqe = newEntries(&u.engineBase)
	u.sqe.register(&u.engineBase, u.ring.RegisterBuffers, u.ring.RegisterFiles, bufs)
	e := u.o.Shared
	if err := e.join(func() (err error) { e.reaper, err = newReaper(u.o.Shards); return err }); err != nil {
		_ = u.ring.Close()
		u.ring = nil
		return err
	}
	u.reaper, u.thread = e.reaper, &e.reaper.reaping
	u.reaper.mu.Lock()
	u.reaper.partitions[u.o.Shard] = u
	u.reaper.mu.Unlock()
	if err := u.reaper.watch(u.ring.Fd(), uint64(u.o.Shard)); err != nil {
		u.Close()
		return fmt.Errorf("store: disk engine uring-sq: watch the ring: %w", err)
	}
	return nil
}

func (u *uringSQ) Flush() error {
	if some, err := u.waiting(); !some {
		return err
	}
	return u.send(u.ring, 0)
}

// Busy implements loop.Busier.
func (u *uringSQ) Busy() string { return idle(u.ring) }

// Close removes the ring from the reaping thread, and closes it.
func (u *uringSQ) Close() bool {
	if u.ring == nil {
		return true
	}
	r := u.reaper
	_ = unix.EpollCtl(r.epfd, unix.EPOLL_CTL_DEL, u.ring.Fd(), nil)
	r.mu.Lock()
	r.partitions[u.o.Shard] = nil
	r.mu.Unlock()
	u.ring.Unregister()
	_ = u.ring.Close()
	u.ring, u.reaper, u.thread = nil, nil, nil
	u.o.Shared.leave()
	return true
}
