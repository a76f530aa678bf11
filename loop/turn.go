package loop

import (
	"errors"
	"fmt"
	"math"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// turns runs the loop until it stops or a member fails. docs/architecture.md, "A turn", has the order of a turn.
func (l *Loop) turns() error {
	l.busyAt = Nanos()
	for {
		l.now = Nanos()
		l.Stats.Turns++
		found := 0
		if l.ready > 0 || l.ring != nil {
			if found = l.reap(); l.failed != nil {
				return l.failed
			}
		}
		for _, id := range l.order {
			found += l.members[id].Poll()
		}
		// A spinning loop has a turn for each 0.3 to 0.5 µs of waiting, so what is empty costs no call.
		if !l.box.empty() {
			found += l.emptyMailbox()
		}
		if l.todo.pending.Load() {
			found += l.runFunctions()
		}
		if !l.finished.Empty() {
			found += l.deliver()
		}
		if len(l.toWake) > 0 {
			l.wakePosted()
		}
		l.deadline, l.waitFor = math.MaxInt64, 0
		// The youngest first, in the direction of requests: a generator is added after its connections, an endpoint
		// after the partition; requests submitted while staging are staged in the same turn.
		for i := len(l.order) - 1; i >= 0; i-- {
			if err := l.members[l.order[i]].Stage(); err != nil {
				return fmt.Errorf("loop %s: %w", l.o.Name, err)
			}
		}
		stop := l.stop.Load()
		if stop || len(l.closing) > 0 {
			l.closeMembers()
		}
		if len(l.toWake) > 0 {
			l.wakePosted()
		}
		if stop && len(l.order) == 0 && l.finished.Empty() {
			return nil
		}
		if found > 0 {
			l.busyAt = l.now
		} else {
			l.Stats.EmptyTurns++
		}
		l.yield(found == 0) // not after submit, which may have slept: after a sleep there is work
		if err := l.submit(); err != nil {
			return fmt.Errorf("loop %s: %w", l.o.Name, err)
		}
		if l.nextPark != nil {
			l.waitParked()
		}
	}
}

// reap handles all ready descriptors that epoll_wait returned, and all visible completions. It returns their number.
func (l *Loop) reap() int {
	found := 0
	for i := range l.events[:l.ready] {
		e := &l.events[i]
		if user := sys.EpollTag(e); user>>tagBits != uint64(selfID) {
			found++
			l.event(user, int32(e.Events), 0)
		}
	}
	l.ready = 0
	if l.ring == nil {
		return found
	}
	found += l.reapRing(l.ring)
	if l.socks != l.ring {
		found += l.reapRing(l.socks)
	}
	return found
}

func (l *Loop) reapRing(r *ring.Ring) int {
	found := 0
	for {
		n := r.Reap(l.cqes[:])
		for i := range l.cqes[:n] {
			c := &l.cqes[i]
			l.event(c.UserData, c.Res, c.Flags)
		}
		if found += n; n < len(l.cqes) {
			return found
		}
	}
}

func (l *Loop) event(user uint64, res int32, flags uint32) {
	id := MemberID(user >> tagBits)
	if id != selfID {
		if m := l.members[id]; m != nil {
			m.OnEvent(user&tagMask, res, flags)
		}
		return
	}
	if l.epfd >= 0 || flags&ring.CQEFMore != 0 {
		return
	}
	var err error
	switch user { // a multishot poll has ended: arm it again
	case selfWake:
		err = l.watch(l.wakefd, unix.EPOLLIN|sys.EPOLLET, user)
	case selfSocks:
		err = l.watch(l.socks.Fd(), unix.EPOLLIN, user)
	}
	if err != nil {
		l.failed = err
	}
}

// deliver passes completed requests to their owners: those that are queued now. It leaves requests that complete meanwhile for the
// next turn; else, with a null store, the turn would never end.
func (l *Loop) deliver() int {
	n := 0
	q := l.finished.Detach()
	for r := q.Pop(); r != nil; r = q.Pop() {
		r.Owner.Complete(r)
		n++
	}
	l.Stats.Delivered += uint64(n)
	return n
}

// runFunctions calls the functions that Do queued.
func (l *Loop) runFunctions() int {
	l.todo.mu.Lock()
	f := l.todo.f
	l.todo.f = nil
	l.todo.pending.Store(false)
	l.todo.mu.Unlock()
	for _, f := range f {
		f()
	}
	return len(f)
}

// closeMembers continues to close members. When the loop stops, it closes one after the other, the youngest first, because an
// endpoint is added after the partition that it submits to.
func (l *Loop) closeMembers() {
	if l.stop.Load() && len(l.closing) == 0 && len(l.order) > 0 {
		id := l.order[len(l.order)-1]
		l.closing = append(l.closing, closing{id, l.members[id], make(chan struct{})})
	}
	live := l.closing[:0]
	for _, c := range l.closing {
		if l.members[c.id] == c.m { // else Remove was called twice
			if !c.m.Close() {
				live = append(live, c)
				continue
			}
			l.remove(c.id)
		}
		close(c.done)
		l.again = true
	}
	l.closing = live
}

// submit ends the turn: it submits the turn's SQEs and waits according to the policy,
// with one system call if the loop sleeps in its ring.
func (l *Loop) submit() error {
	wait := l.maySleep()
	if wait {
		defer l.sleeping.Store(false)
		l.sleeping.Store(true)
		// A sender that read sleeping as false has pushed before this check; a later one wakes the loop.
		if !l.box.empty() || l.todo.pending.Load() || l.stop.Load() && len(l.closing) == 0 {
			l.sleeping.Store(false)
			wait = false
		}
	}
	l.unfinished, l.again = l.again, false
	for i := 0; wait && i < len(l.armers); i++ {
		found, err := l.armers[i].Arm()
		if err != nil {
			return err
		}
		if found {
			l.sleeping.Store(false)
			wait = false
		}
	}
	var timeout int64 // 0: no limit
	if wait {
		if l.deadline != math.MaxInt64 {
			if timeout = l.deadline - Nanos(); timeout <= 0 {
				wait = false
			}
		}
	}
	if l.epfd < 0 {
		return l.enter(wait, timeout)
	}
	return l.epoll(wait, timeout)
}

// maySleep applies the wait policy.
func (l *Loop) maySleep() bool {
	if !l.finished.Empty() || l.again || l.nextPark != nil {
		return false
	}
	switch l.o.Wait {
	case WaitSpin:
		return false
	case WaitHybrid:
		return l.now-l.busyAt >= l.spinMax
	}
	return true
}

func (l *Loop) enter(wait bool, timeout int64) error {
	if l.socks != l.ring {
		if l.socks.Pending() > 0 || l.socks.NeedsEnter() {
			l.madeSyscall = true
			if err := l.socks.Enter(0, 0); err != nil {
				return err
			}
		}
		wait = wait && !l.socks.Ready()
	}
	if wait && l.ring.Ready() && !l.ring.NeedsEnter() && l.ring.Pending() == 0 {
		return nil // there are completions already
	}
	n := 0
	if wait {
		n = max(1, l.waitFor)
		l.Stats.Sleeps++
	} else if l.ring.Pending() == 0 && !l.ring.NeedsEnter() {
		return nil
	}
	l.madeSyscall = true
	return l.ring.Enter(n, timeout)
}

func (l *Loop) epoll(wait bool, timeout int64) error {
	if l.ring != nil {
		// Before a sleep: enter with GETEVENTS, and check the ring again.
		if l.ring.Pending() > 0 || l.ring.NeedsEnter() {
			l.madeSyscall = true
			if err := l.ring.Enter(0, 0); err != nil {
				return err
			}
		}
		wait = wait && !l.ring.Ready()
	}
	switch {
	case !wait:
		if l.watched == l.rare && (l.rare == 0 || l.now-l.epolledAt < rareNs) {
			return nil // only the mailbox and the ring have to be checked, which needs no system call
		}
		timeout = 0
	case timeout == 0:
		timeout = -1
	}
	if wait {
		l.Stats.Sleeps++
		l.madeSyscall = true
	}
	l.epolledAt = l.now
	l.Stats.Syscalls++
	n, err := sys.EpollWait(l.epfd, l.events[:], timeout)
	if err != nil {
		if errors.Is(err, unix.EINTR) {
			return nil
		}
		return fmt.Errorf("epoll_wait: %w", err)
	}
	l.ready = n
	return nil
}

// Finish queues a completed request; its owner gets it in the deliver step.
func (l *Loop) Finish(r *kv.Request) { l.finished.Push(r) }
