package loop

import (
	"fmt"
	"slices"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// Add adds a member to the loop. The member's entries and descriptors carry its ID. A loop has at most 255 members.
// It is called from setup, or from a function passed to Do.
func (l *Loop) Add(m Member) (MemberID, error) {
	for id := MemberID(1); id != 0; id++ {
		if l.members[id] == nil {
			l.members[id] = m
			l.order = append(l.order, id)
			if a, ok := m.(Armer); ok {
				l.armers = append(l.armers, a)
			}
			return id, nil
		}
	}
	return 0, fmt.Errorf("loop %s: add a member: it has %d already, which is the most", l.o.Name, len(l.order))
}

// Shared returns the member for key, or calls make, which makes and adds it. So all connections of a transport
// on this loop have one member, and a turn costs the same with many connections as with one.
func (l *Loop) Shared(key any, make func() (Member, error)) (Member, error) {
	if m := l.shared[key]; m != nil {
		return m, nil
	}
	m, err := make()
	if err != nil {
		return nil, err
	}
	if l.shared == nil {
		l.shared = map[any]Member{}
	}
	l.shared[key] = m
	return m, nil
}

// Value returns the loop's value for key. If there is none, it stores the result of make. Such values are shared by several members, and
// outlive them.
func (l *Loop) Value(key any, make func() any) any {
	if v, ok := l.values[key]; ok {
		return v
	}
	if l.values == nil {
		l.values = map[any]any{}
	}
	v := make()
	l.values[key] = v
	return v
}

// SetLocal sets the handler of requests from other loops: the loop's partition.
func (l *Loop) SetLocal(h kv.Handler) {
	l.local = h
	l.batch, _ = h.(kv.Batcher)
	l.direct, _ = h.(kv.Direct)
}

func (l *Loop) remove(id MemberID) {
	for k, m := range l.shared {
		if m == l.members[id] {
			delete(l.shared, k)
		}
	}
	if a, ok := l.members[id].(Armer); ok {
		l.armers = slices.DeleteFunc(l.armers, func(b Armer) bool { return a == b })
	}
	l.members[id] = nil
	for i, o := range l.order {
		if o == id {
			l.order = append(l.order[:i], l.order[i+1:]...)
			return
		}
	}
}

// SQE returns the next entry of the loop's ring. Its completion goes to the member's OnEvent with
// tag (56 bits). It is submitted at the end of the turn. nil: the ring is full; the member keeps the work
// and stages it in the next turn.
func (l *Loop) SQE(id MemberID, tag uint64) *ring.SQE {
	return l.ring.Next(uint64(id)<<tagBits | tag&tagMask)
}

// SocketSQE is SQE for the ring for sockets: the loop's only ring, or with Options.SocketRing the second.
func (l *Loop) SocketSQE(id MemberID, tag uint64) *ring.SQE {
	return l.socks.Next(uint64(id)<<tagBits | tag&tagMask)
}

// Sockets returns the ring of SocketSQE; nil if there is none.
func (l *Loop) Sockets() *ring.Ring { return l.socks }

// UserData returns the user_data of a member's entry, for SQE.Cancel.
func UserData(id MemberID, tag uint64) uint64 { return uint64(id)<<tagBits | tag&tagMask }

// Ring returns the loop's ring, to register memory and files; nil if there is none.
func (l *Loop) Ring() *ring.Ring { return l.ring }

// Watch makes OnEvent report a descriptor's readiness, edge-triggered: after an event the member
// must read or write until the call would block. Both kinds of loop support it.
func (l *Loop) Watch(id MemberID, fd int, events uint32, tag uint64) error {
	if err := l.watch(fd, events|sys.EPOLLET, uint64(id)<<tagBits|tag&tagMask); err != nil {
		return err
	}
	l.watched++
	return nil
}

func (l *Loop) watch(fd int, events uint32, user uint64) error {
	if l.epfd < 0 {
		e := l.ring.NextOrWait(user)
		if e == nil {
			return fmt.Errorf("loop %s: watch descriptor %d: %w", l.o.Name, fd, ring.ErrFull)
		}
		e.PollMultishot(fd, events&^sys.EPOLLET) // a multishot poll is edge-triggered by nature
		return nil
	}
	ev := sys.EpollEvent(events, user)
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("loop %s: watch descriptor %d: %w", l.o.Name, fd, err)
	}
	l.Stats.Syscalls++
	return nil
}

// ChangeWatch changes the events of a Watch. Events that are ready already are reported again. Only for loops that sleep in epoll.
func (l *Loop) ChangeWatch(id MemberID, fd int, events uint32, tag uint64) error {
	ev := sys.EpollEvent(events|sys.EPOLLET, uint64(id)<<tagBits|tag&tagMask)
	l.Stats.Syscalls++
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_MOD, fd, &ev); err != nil {
		return fmt.Errorf("loop %s: watch descriptor %d for other events: %w", l.o.Name, fd, err)
	}
	return nil
}

// Rewatch renews a Watch after an event with these flags, if necessary: in a ring the kernel sometimes ends a multishot poll,
// and always if the event came from another ring.
func (l *Loop) Rewatch(id MemberID, fd int, events uint32, tag uint64, flags uint32) error {
	if l.epfd >= 0 || flags&ring.CQEFMore != 0 {
		return nil
	}
	return l.watch(fd, events, uint64(id)<<tagBits|tag&tagMask)
}

// WatchRarely is Watch for a descriptor that seldom becomes ready, such as a socket that only reports the
// peer's end: a spinning loop checks it every rareNs. UnwatchRarely ends it.
func (l *Loop) WatchRarely(id MemberID, fd int, events uint32, tag uint64) error {
	err := l.Watch(id, fd, events, tag)
	if err == nil {
		l.rare++
	}
	return err
}

// UnwatchRarely ends a WatchRarely.
func (l *Loop) UnwatchRarely(id MemberID, fd int, tag uint64) {
	l.rare--
	l.Unwatch(id, fd, tag)
}

// rareNs is the period, in ns, in which a spinning loop checks its rarely watched descriptors.
const rareNs = 1_000_000

// Unwatch ends a Watch. Events that have already occurred may still be reported.
func (l *Loop) Unwatch(id MemberID, fd int, tag uint64) {
	l.watched--
	if l.epfd < 0 {
		if e := l.ring.NextOrWait(selfCancel); e != nil {
			e.Cancel(UserData(id, tag))
		}
		return
	}
	_ = unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	l.Stats.Syscalls++
}

// Announced records that the member made a call that Go's scheduler knows of, such as one into C: the loop has to yield from time to time (yield).
func (l *Loop) Announced() { l.madeSyscall = true }

// Again prevents the loop from sleeping at the end of this turn. A member calls it if it has work for the next turn
// for which no event will come.
func (l *Loop) Again() { l.again = true }

// WakeAt limits the sleep at the end of this turn to t (by Nanos). A member
// that still needs the limit calls it again in the next Stage.
func (l *Loop) WakeAt(t int64) { l.deadline = min(l.deadline, t) }

// WaitFor makes a loop that sleeps in its ring sleep until n completions of any kind have come, or until t (by
// Nanos), at the end of this turn. A loop that sleeps in epoll wakes for one completion.
func (l *Loop) WaitFor(n int, t int64) {
	if l.epfd < 0 && n > 1 {
		l.waitFor = max(l.waitFor, n)
		l.WakeAt(t)
	}
}

// Wake ends the loop's sleep, if it sleeps, and reports whether it made a system call. Any goroutine may call it, even after the loop has ended.
// It is for members that get data from other threads: the thread stores the data before the call, and the member's Arm checks for it.
func (l *Loop) Wake() bool { return l.wake() }

// Sleep returns the way in which the loop waits in the kernel.
func (l *Loop) Sleep() Sleep { return l.o.Sleep }

// Now returns the time at which this turn began, by Nanos.
func (l *Loop) Now() int64 { return l.now }

// Spins reports whether the loop polls for a time, or for ever, before it sleeps.
func (l *Loop) Spins() bool { return l.o.Wait != WaitBlock }

// WaitPolicy returns the loop's wait policy.
func (l *Loop) WaitPolicy() Wait { return l.o.Wait }

// Name returns the name from Options.
func (l *Loop) Name() string { return l.o.Name }

// Do runs f on the loop's goroutine, in one of its next turns; on a parked loop, after Resume. Any goroutine may call it. If the loop
// has ended, it returns false, and f never runs. Not for the data path: it allocates and locks.
func (l *Loop) Do(f func()) bool {
	l.todo.mu.Lock()
	if l.todo.ended {
		l.todo.mu.Unlock()
		return false
	}
	l.todo.f = append(l.todo.f, f)
	l.todo.pending.Store(true)
	l.todo.mu.Unlock()
	l.wake()
	return true
}

// Call is Do, and waits until f has run; on a parked loop, until after Resume. The loop's own goroutine must not call it.
func (l *Loop) Call(f func()) error {
	done := make(chan struct{})
	if !l.Do(func() { f(); close(done) }) {
		return ErrStopped
	}
	select {
	case <-done:
	case <-l.done:
		select {
		case <-done: // it ran in the loop's last moment
		default:
			return ErrStopped
		}
	}
	return nil
}

// Try is Call for a function that may fail: it returns the error of f, or ErrStopped if f did not run.
func (l *Loop) Try(f func() error) (err error) {
	if ended := l.Call(func() { err = f() }); ended != nil {
		return ended
	}
	return err
}

// TryEach calls f on each loop, as Try does, one after the other, until one fails.
func TryEach(loops []*Loop, f func(i int, l *Loop) error) error {
	for i, l := range loops {
		if err := l.Try(func() error { return f(i, l) }); err != nil {
			return err
		}
	}
	return nil
}

// Snapshot returns the loop's counters.
func (l *Loop) Snapshot() Stats {
	s := l.Stats
	if l.ring != nil {
		s.Enters, s.SQEs, s.CQEs, s.Overflows = l.ring.Enters, l.ring.SQEs, l.ring.CQEs, l.ring.Overflows
		if l.socks != l.ring {
			s.Enters += l.socks.Enters
			s.SQEs += l.socks.SQEs
			s.CQEs += l.socks.CQEs
			s.Overflows += l.socks.Overflows
		}
		s.Syscalls += s.Enters
	}
	return s
}

// Remove closes a member and waits until it is closed. If the loop does not have the member any more, it does nothing. Any goroutine except
// the loop's may call it.
func (l *Loop) Remove(m Member) {
	done := make(chan struct{})
	if !l.Do(func() {
		for _, id := range l.order {
			if l.members[id] == m {
				l.closing = append(l.closing, closing{id, m, done})
				return
			}
		}
		close(done)
	}) {
		return
	}
	<-done
}

// Stop closes all members, the youngest first, ends the loop and waits for it. It resumes a parked loop first. Any other goroutine
// may call it, more than once. If the loop has failed before, it returns the reason.
func (l *Loop) Stop() error {
	l.stop.Store(true)
	l.Resume()
	l.wake()
	<-l.done
	return l.err
}

// Done returns a channel that is closed when the loop has ended.
func (l *Loop) Done() <-chan struct{} { return l.done }
