package loop

import (
	"fmt"
	"slices"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// Add gives the loop a member; what the member needs of the kernel it asks for with its ID.
// A loop holds at most 255. From setup, or a function given to Do.
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
	return 0, fmt.Errorf("loop %s: has %d members already", l.o.Name, len(l.order))
}

// Shared gives the member that was made for key, or makes it: one driver for all connections of a transport
// on this loop, so that a turn costs the same with many connections as with one. make adds it.
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

// Value returns what the loop keeps under key; where it keeps nothing yet, it keeps what make returns. For what several members share, and what
// outlives them.
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

// SetLocal names the handler that requests from other loops' mailboxes go to: the loop's partition.
func (l *Loop) SetLocal(h kv.Handler) {
	l.local = h
	l.batch, _ = h.(kv.Batcher)
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

// SQE gives the next entry of the loop's ring, whose completion goes to the member's OnEvent with
// tag (56 bits). It is submitted at the end of the turn. nil when the ring takes no more now:
// keep the work, and stage it in the next turn.
func (l *Loop) SQE(id MemberID, tag uint64) *ring.SQE {
	return l.ring.Next(uint64(id)<<tagBits | tag&tagMask)
}

// SocketSQE is SQE on the ring for sockets: the loop's one ring, or with Options.SocketRing the second.
func (l *Loop) SocketSQE(id MemberID, tag uint64) *ring.SQE {
	return l.socks.Next(uint64(id)<<tagBits | tag&tagMask)
}

// Sockets is the ring that SocketSQE fills; nil where there is none.
func (l *Loop) Sockets() *ring.Ring { return l.socks }

// UserData is the value that names a member's request to the kernel, for SQE.Cancel.
func UserData(id MemberID, tag uint64) uint64 { return uint64(id)<<tagBits | tag&tagMask }

// Ring is the loop's ring, for registering memory and files; nil without one.
func (l *Loop) Ring() *ring.Ring { return l.ring }

// Watch reports a descriptor's readiness to the member, edge-triggered: after an event the member
// reads or writes until it would block. Both kinds of loop have it.
func (l *Loop) Watch(id MemberID, fd int, events uint32, tag uint64) error {
	if err := l.watch(fd, events|sys.EPOLLET, uint64(id)<<tagBits|tag&tagMask); err != nil {
		return err
	}
	l.watched++
	return nil
}

func (l *Loop) watch(fd int, events uint32, user uint64) error {
	if l.epfd < 0 {
		e := l.ring.Next(user)
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

// Change has a Watch announce other events. Those that are ready already are announced again. Only for loops that sleep in epoll.
func (l *Loop) Change(id MemberID, fd int, events uint32, tag uint64) error {
	ev := sys.EpollEvent(events|sys.EPOLLET, uint64(id)<<tagBits|tag&tagMask)
	l.Stats.Syscalls++
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_MOD, fd, &ev); err != nil {
		return fmt.Errorf("loop %s: watch descriptor %d for other events: %w", l.o.Name, fd, err)
	}
	return nil
}

// Rewatch goes on with a Watch after an event that had these flags: in a ring the kernel ends a multishot poll now and
// then, always when the event came from another ring.
func (l *Loop) Rewatch(id MemberID, fd int, events uint32, tag uint64, flags uint32) error {
	if l.epfd >= 0 || flags&ring.CQEFMore != 0 {
		return nil
	}
	return l.watch(fd, events, uint64(id)<<tagBits|tag&tagMask)
}

// WatchRarely is Watch for a descriptor that seldom has news, such as a socket that only tells that the peer has
// gone: a loop that spins looks at it every rareNs. Its end is UnwatchRarely.
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

// rareNs is how often a spinning loop looks at its rarely watched descriptors.
const rareNs = 1_000_000

// Unwatch ends a Watch. Events that are on their way may still come.
func (l *Loop) Unwatch(id MemberID, fd int, tag uint64) {
	l.watched--
	if l.epfd < 0 {
		if e := l.ring.Next(selfCancel); e != nil {
			e.Cancel(UserData(id, tag))
		}
		return
	}
	_ = unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	l.Stats.Syscalls++
}

// Again says that the member has work for the next turn that no completion or descriptor will
// announce: the loop does not sleep at the end of this turn.
func (l *Loop) Again() { l.again = true }

// WakeAt asks the loop not to sleep past t (as Nanos counts). It holds for one turn: a member
// that still needs it says it again in the next Stage.
func (l *Loop) WakeAt(t int64) { l.deadline = min(l.deadline, t) }

// WaitFor asks a loop that sleeps in its ring to sleep until n completions of whatever kind are there, or until t (as
// Nanos counts). It holds for one turn. A loop that sleeps in epoll wakes for one.
func (l *Loop) WaitFor(n int, t int64) {
	if l.epfd < 0 && n > 1 {
		l.waitFor = max(l.waitFor, n)
		l.WakeAt(t)
	}
}

// Wake ends the loop's sleep, if it sleeps. Any goroutine may call it, also when the loop has ended. It is for members that
// hear from other threads: what they are told is there before the call, and their Arm looks at it. It says whether it had to
// make a system call.
func (l *Loop) Wake() bool { return l.wake() }

// Sleep is the way in which the loop waits in the kernel.
func (l *Loop) Sleep() Sleep { return l.o.Sleep }

// Now is the time at which this turn began, as Nanos counts.
func (l *Loop) Now() int64 { return l.now }

// Spins says whether the loop polls for a while, or for ever, before it sleeps.
func (l *Loop) Spins() bool { return l.o.Wait != WaitBlock }

// Name is the name given in Options.
func (l *Loop) Name() string { return l.o.Name }

// Do runs f on the loop's goroutine, in one of its next turns, which on a parked loop come after Resume. Any goroutine may call it. It
// reports false, and f never runs, when the loop has ended. Not for the data path: it allocates and locks.
func (l *Loop) Do(f func()) bool {
	l.todo.mu.Lock()
	if l.todo.gone {
		l.todo.mu.Unlock()
		return false
	}
	l.todo.f = append(l.todo.f, f)
	l.todo.some.Store(true)
	l.todo.mu.Unlock()
	l.wake()
	return true
}

// Call is Do that waits until f has run: on a parked loop until after Resume. Not from the loop's own goroutine.
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

// Snapshot returns what the loop has counted.
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

// Remove closes a member and waits until it has: from any goroutine but the loop's own. A member that is
// gone already is no mistake.
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

// Stop closes all members, the youngest first, ends the loop and waits for it. A parked loop is resumed first. Any other goroutine
// may call it, more than once. It returns why the loop ended, if it ended by itself.
func (l *Loop) Stop() error {
	l.stop.Store(true)
	l.Resume()
	l.wake()
	<-l.done
	return l.err
}

// Done is closed when the loop has ended.
func (l *Loop) Done() <-chan struct{} { return l.done }
