// Package loop owns threads: the turn, the two ways to sleep, the wait policy, the mailbox between loops, and
// placement (which loops have connections, which have keys). A loop is one goroutine locked to one OS thread, and
// everything on it is called from that goroutine. It may import kv and internal packages, but no transport and no
// store.
package loop

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/internal/names"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// Member is what lives on a loop: an endpoint, a connection, a partition, a load generator.
// All of it is called from the loop's goroutine, and none of it waits.
type Member interface {
	// OnEvent handles a completion of the member's own entry, or a ready descriptor: tag is the one
	// passed to SQE or Watch; res is the result (-errno) or the ready events.
	OnEvent(tag uint64, res int32, flags uint32)

	// Poll checks event sources that have neither ring nor descriptor, and returns the number of
	// events found. It is called in every turn.
	Poll() int

	// Stage puts the turn's work on the ring, or into one system call or doorbell. An error
	// ends the loop, so it is only for failures after which the member cannot continue at all.
	Stage() error

	// Close begins to close, and is called again in each turn until it returns true: then all
	// requests have completed and all resources are freed.
	Close() bool
}

// Armer is a Member whose completions make an event only after a request for one, such as an RDMA completion
// queue (ibv_req_notify_cq).
type Armer interface {
	// Arm requests an event for the next completion, and then polls once more. It is called when the loop is about to sleep.
	// true: there are completions already, so the loop does not sleep.
	Arm() (bool, error)
}

// MemberID names a member on its loop. The upper 8 bits of a kernel tag carry it.
type MemberID uint8

const (
	tagBits = 56
	tagMask = 1<<tagBits - 1

	selfID     = 0 // the loop itself
	maxMembers = 256
)

// Tags of the loop's own descriptors.
const (
	selfWake   = iota // the eventfd that other loops write to
	selfRing          // epoll: the ring is readable
	selfSocks         // the second ring is readable
	selfCancel        // a cancellation has ended; ignored
)

// Sleep is the way in which a loop waits in the kernel.
type Sleep uint8

const (
	SleepRing  Sleep = iota // one io_uring_enter submits and waits; other descriptors are multishot polls
	SleepEpoll              // epoll_wait; the disk's ring is one of its descriptors
)

// String returns the name of the way in logs.
func (s Sleep) String() string { return [...]string{"ring", "epoll"}[s] }

// Wait is the wait policy: what a loop does after a turn without work.
type Wait uint8

const (
	WaitBlock  Wait = iota // sleep in the kernel at once
	WaitSpin               // never sleep
	WaitHybrid             // spin for SpinMax after the last work, then sleep
)

var waitNames = [...]string{"block", "spin", "hybrid"}

// String returns the policy's name in the column wait.
func (w Wait) String() string { return waitNames[w] }

// ParseWait parses a wait policy's name.
func ParseWait(s string) (Wait, error) {
	w, err := names.Parse[Wait](s, waitNames[:])
	if err != nil {
		return 0, fmt.Errorf("wait policy %w", err)
	}
	return w, nil
}

// Options are the options of a loop: how it waits, and where it runs. The zero value blocks, sleeps in a ring, and
// runs on any CPU.
type Options struct {
	Name        string
	Sleep       Sleep
	Wait        Wait
	SpinMax     time.Duration // WaitHybrid: how long to spin before sleeping; 0 means 50 µs
	Ring        bool          // SleepEpoll: open a ring too, for the disk. SleepRing always has one.
	RingEntries int           // submission entries; 0 means 1024
	CoopTaskrun bool          // SleepRing: COOP_TASKRUN instead of DEFER_TASKRUN (SleepEpoll always uses it)
	SQPoll      bool          // a kernel thread submits the ring's entries: it uses a CPU
	SocketRing  bool          // SleepRing: a second ring for sockets (SocketSQE), to measure the effect of sharing one
	CPUs        []int         // pin the thread to these; empty: do not pin
}

// Stats are a loop's counters since it started. Members add to Syscalls and Copied; their other counters are their own.
type Stats struct {
	Turns      uint64 // turns of the loop
	EmptyTurns uint64 // turns that found nothing
	Sleeps     uint64 // times it went to sleep in the kernel
	Wakes      uint64 // wake-ups it sent to other loops
	Syscalls   uint64 // system calls made by loop and members, io_uring_enter and members' own threads included
	Enters     uint64 // io_uring_enter alone
	SQEs       uint64
	CQEs       uint64
	Mail       uint64 // requests that arrived from other loops, and replies that came back
	Delivered  uint64 // completions delivered
	Copied     uint64 // bytes copied by the CPU in user space on the data path
	Overflows  uint64 // times that completions waited outside a full completion queue
}

// fields returns pointers to all counters, for Add and Sub.
func (s *Stats) fields() [12]*uint64 {
	return [...]*uint64{&s.Turns, &s.EmptyTurns, &s.Sleeps, &s.Wakes, &s.Syscalls, &s.Enters, &s.SQEs, &s.CQEs, &s.Mail, &s.Delivered, &s.Copied, &s.Overflows}
}

// Add adds the counters of another loop.
func (s *Stats) Add(o Stats) {
	from := o.fields()
	for i, to := range s.fields() {
		*to += *from[i]
	}
}

// Sub returns the increase since o, an earlier value of the same counters.
func (s Stats) Sub(o Stats) Stats {
	from := o.fields()
	for i, to := range s.fields() {
		*to -= *from[i]
	}
	return s
}

// ErrStopped is returned by calls on a loop that has ended.
var ErrStopped = errors.New("loop: stopped")

// Loop is the event loop of one thread. Only its own goroutine may call its methods, unless their comment states otherwise.
type Loop struct {
	o       Options
	members [maxMembers]Member
	order   []MemberID // live members, in the order in which they were added
	armers  []Armer
	shared  map[any]Member
	values  map[any]any
	closing []closing // members that have not finished closing

	ring      *ring.Ring // nil without one
	socks     *ring.Ring // for SocketSQE: the same as ring, or a second one
	epfd      int        // -1 without one
	wakefd    int        // eventfd, edge-triggered: never read
	watched   int        // descriptors of members in the epoll set
	rare      int        // of these, those that seldom become ready (WatchRarely)
	epolledAt int64      // last call of epoll_wait

	ready    int        // events that epoll_wait returned and reap has not handled
	failed   error      // the loop cannot be woken any more
	finished kv.Queue   // completed requests; the deliver step passes them to their owners
	local    kv.Handler // the partition of this loop, for requests in the mailbox
	batch    kv.Batcher // local, if it is a Batcher; else nil
	direct   kv.Direct  // local, if it is Direct; else nil

	now         int64 // monotonic ns since base, read once a turn
	parked      int64 // total time parked, in ns
	deadline    int64 // latest time at which a sleep ends
	waitFor     int   // SleepRing: completions that end the sleep; 0 means one
	busyAt      int64 // last time a turn found something
	yielded     int64 // last time the P was handed to the scheduler
	madeSyscall bool  // a system call through the scheduler, or a call into C, was made since then
	spinMax     int64

	Stats Stats

	again      bool // a member has work for the next turn without an event (Again)
	unfinished bool // again, at the end of this turn

	nextPark *parkRequest // a park request for the end of this turn; nil: none
	parking  parking

	toWake   []*Loop // loops that slept when they got requests from this one, and were not woken yet
	posted   int     // number of these requests
	box      mailbox
	sleeping atomic.Bool  // written by the loop before and after it sleeps; a sender that sets it to false wakes the loop
	wakers   atomic.Int32 // senders about to write to wakefd; shut waits for them
	stop     atomic.Bool  // written by Stop, read by the loop each turn
	todo     struct {
		pending atomic.Bool // f is not empty: written by Do under mu, read by the loop each turn
		mu      sync.Mutex
		f       []func() // mu
		ended   bool     // mu; the loop has ended: no more functions
	}
	done chan struct{}
	err  error // why the loop ended; valid after done is closed

	cqes   [64]ring.CQE
	events [64]unix.EpollEvent
}

type closing struct {
	id   MemberID
	m    Member
	done chan struct{}
}

// Start makes the loop's thread with its ring and epoll set, runs setup on it (which adds the
// members), and begins the turns. It returns when setup is done. The caller owns the loop and
// must call Stop, unless Start returns an error.
func Start(o Options, setup func(l *Loop) error) (*Loop, error) {
	if o.RingEntries == 0 {
		o.RingEntries = 1024
	}
	if o.SpinMax == 0 {
		o.SpinMax = 50 * time.Microsecond
	}
	l := &Loop{o: o, epfd: -1, wakefd: -1, deadline: math.MaxInt64, spinMax: int64(o.SpinMax), done: make(chan struct{})}
	ready := make(chan error)
	startTimer()
	go l.run(setup, ready)
	if err := <-ready; err != nil {
		<-l.done
		return nil, err
	}
	return l, nil
}

func (l *Loop) run(setup func(*Loop) error, ready chan<- error) {
	runtime.LockOSThread()
	// Not unlocked if pinned: then the thread, with its CPU mask, ends with the goroutine.
	if len(l.o.CPUs) == 0 {
		defer runtime.UnlockOSThread()
	}
	defer close(l.done)
	defer stopTimer()
	err := l.open()
	if err == nil && setup != nil {
		err = setup(l)
	}
	if err != nil {
		l.err = err
		l.shut()
		ready <- err
		return
	}
	ready <- nil
	l.err = l.turns()
	l.wakePosted()
	l.shut()
}

func (l *Loop) open() (err error) {
	if len(l.o.CPUs) > 0 {
		var set unix.CPUSet
		for _, c := range l.o.CPUs {
			set.Set(c)
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("loop %s: pin to CPUs %v: %w (see nproc and taskset -p $$ for the CPUs that are allowed)", l.o.Name, l.o.CPUs, err)
		}
	}
	if l.wakefd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("loop %s: eventfd: %w (raise ulimit -n)", l.o.Name, err)
	}
	if l.o.Sleep == SleepRing || l.o.Ring {
		// The fd of a DEFER_TASKRUN ring never becomes readable in epoll on 6.18: COOP_TASKRUN there.
		coop := l.o.Sleep == SleepEpoll || l.o.CoopTaskrun
		l.ring, err = ring.Open(ring.Options{Entries: l.o.RingEntries, DeferTaskrun: !coop, CoopTaskrun: coop, SQPoll: l.o.SQPoll})
		if err != nil {
			return fmt.Errorf("loop %s: %w", l.o.Name, err)
		}
	}
	if l.o.Sleep == SleepEpoll {
		if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return fmt.Errorf("loop %s: epoll_create1: %w (raise ulimit -n)", l.o.Name, err)
		}
		if l.ring != nil {
			if err := l.watch(l.ring.Fd(), unix.EPOLLIN|sys.EPOLLET, selfRing); err != nil {
				return err
			}
		}
	}
	l.socks = l.ring
	if l.o.Sleep == SleepRing && l.o.SocketRing {
		l.socks, err = ring.Open(ring.Options{Entries: l.o.RingEntries, CoopTaskrun: true})
		if err != nil {
			return fmt.Errorf("loop %s: second ring: %w", l.o.Name, err)
		}
		if err := l.watch(l.socks.Fd(), unix.EPOLLIN, selfSocks); err != nil {
			return err
		}
	}
	return l.watch(l.wakefd, unix.EPOLLIN|sys.EPOLLET, selfWake)
}

// shut frees the resources of open. The members are closed already, or were never started.
func (l *Loop) shut() {
	for _, id := range l.order { // only after an error: an orderly end has closed them all
		for range 1000 {
			if l.members[id].Close() {
				break
			}
		}
	}
	l.todo.mu.Lock()
	l.todo.ended = true
	rest := l.todo.f
	l.todo.f = nil
	l.todo.mu.Unlock()
	for _, f := range rest {
		f()
	}
	for _, c := range l.closing {
		close(c.done)
	}
	// From here on push returns false, and the sender completes the request itself. No one waits for requests
	// that are still in the mailbox: an orderly stop closes endpoints first.
	l.box.close()
	l.sleeping.Store(false)
	for l.wakers.Load() != 0 { // a sender is between its read of sleeping and its write: for nanoseconds
		runtime.Gosched()
	}
	if l.socks != nil && l.socks != l.ring {
		_ = l.socks.Close()
	}
	if l.ring != nil {
		_ = l.ring.Close()
	}
	if l.epfd >= 0 {
		_ = unix.Close(l.epfd)
	}
	if l.wakefd >= 0 {
		_ = unix.Close(l.wakefd)
	}
}
