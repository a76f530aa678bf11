package loop

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kvwire/kvwire/internal/ring"
)

// ErrParked is returned by Park if the loop is already parked, or is being parked.
var ErrParked = errors.New("loop: parked already")

// Busier is a Member with work between requests, or after them. A Group parks only if none of its members is busy.
type Busier interface {
	// Busy names the work under way, for an error; "": there is none. It is called on the member's loop at the end of a turn, and may start
	// work that must be done before parking, such as write-back of cached pages. It is called again until it returns "", or Park fails.
	Busy() string
}

// parkRequest is one call of Park: its parameters and its result. It ends with Resume.
type parkRequest struct {
	last    func()
	quiet   bool          // park only if no member is busy
	decided chan struct{} // closed by the loop just before it sleeps, or if it does not park
	resume  chan struct{} // closed by Resume
	busy    string        // the work because of which the loop did not park; read after decided is closed
	err     error         // likewise
}

// parking is the state that Park and Resume share.
type parking struct {
	mu      sync.Mutex
	current *parkRequest // mu; nil: the loop is not parked and is not being parked
}

// Park stops the loop's turns until Resume, under every wait policy. The goroutine is locked to its thread and waits on a channel, so the thread sleeps on a
// futex, outside ring and epoll set, and takes no CPU time. last, which may be nil, runs on the loop's goroutine just before. Park returns when last has run and
// the loop goes to sleep. Any goroutine but the loop's own may call it.
//
// The first turn after Resume finds what the kernel and other loops have delivered meanwhile. On a parked loop, Do queues its function, which runs after Resume; Call and
// Remove wait until then; Stop resumes the loop first. The errors are ErrParked and ErrStopped.
func (l *Loop) Park(last func()) error {
	_, err := l.park(last, false)
	return err
}

// park is Park. With quiet it does not park a loop that has work, and returns that work.
func (l *Loop) park(last func(), quiet bool) (busy string, err error) {
	n := &parkRequest{last: last, quiet: quiet, decided: make(chan struct{}), resume: make(chan struct{})}
	l.parking.mu.Lock()
	if l.parking.current != nil {
		l.parking.mu.Unlock()
		return "", ErrParked
	}
	l.parking.current = n
	l.parking.mu.Unlock()
	if !l.Do(func() { l.nextPark = n }) {
		l.clearParking(n)
		return "", ErrStopped
	}
	select {
	case <-n.decided:
		return n.busy, n.err
	case <-l.done:
		l.clearParking(n)
		return "", ErrStopped
	}
}

// clearParking removes n, so that Park may be called again.
func (l *Loop) clearParking(n *parkRequest) {
	l.parking.mu.Lock()
	defer l.parking.mu.Unlock()
	if l.parking.current == n {
		l.parking.current = nil
	}
}

// Resume ends a Park: the loop continues with its next turn. Resume does not wait for that turn. Any goroutine may call it. On a loop that is not parked it does nothing.
func (l *Loop) Resume() {
	l.parking.mu.Lock()
	n := l.parking.current
	l.parking.current = nil
	l.parking.mu.Unlock()
	if n != nil {
		close(n.resume)
	}
}

// waitParked parks the loop at the end of a turn, after the turn's entries have been submitted.
func (l *Loop) waitParked() {
	n := l.nextPark
	l.nextPark = nil
	if l.stop.Load() { // Stop sets this, then resumes, then waits
		n.err = ErrStopped
	} else if n.quiet {
		n.busy = l.unfinishedWork()
	}
	if n.err != nil || n.busy != "" {
		l.clearParking(n)
		close(n.decided)
		return
	}
	if n.last != nil {
		n.last()
	}
	stopTimer() // this thread is in no system call that stops garbage collection
	since := Nanos()
	close(n.decided)
	<-n.resume
	l.parked += Nanos() - since
	startTimer()
	l.busyAt = Nanos()
}

// unfinishedWork names work that the loop still has; "": there is none.
func (l *Loop) unfinishedWork() string {
	switch {
	case !l.finished.Empty():
		return "completed requests wait for their owners"
	case !l.box.empty():
		return "requests of other loops wait"
	case len(l.closing) > 0:
		return "a member closes"
	case l.unfinished:
		return "a member has more to do in the next turn"
	}
	for _, id := range l.order {
		if b, ok := l.members[id].(Busier); ok {
			if s := b.Busy(); s != "" {
				return s
			}
		}
	}
	for until := time.Now().Add(submitterWait); !l.submittersSleep(); time.Sleep(parkRetryMax) {
		if !time.Now().Before(until) {
			return "the kernel's thread that submits (SQPOLL) has not gone to sleep"
		}
	}
	return ""
}

// submittersSleep reports whether the kernel does nothing for the loop's rings by itself. Each turn wakes a thread that submits (SQPOLL), also a turn that only
// checks this. So the loop waits for the thread without turns.
func (l *Loop) submittersSleep() bool {
	return (l.ring == nil || l.ring.Idle()) && (l.socks == nil || l.socks.Idle())
}

// AwakeNow returns Now less the total time parked. Deadlines for peers use it, because a parked loop receives nothing.
func (l *Loop) AwakeNow() int64 { return l.now - l.parked }

// WakeAtAwake is WakeAt for a time by AwakeNow.
func (l *Loop) WakeAtAwake(t int64) { l.WakeAt(t + l.parked) }

// parkRetry is the first pause before busy members are checked again: short compared with a slice, long compared with a turn. It doubles up to parkRetryMax,
// because each check costs the CPU time of a turn.
const (
	parkRetry    = 100 * time.Microsecond
	parkRetryMax = 2 * time.Millisecond
)

// submitterWait bounds how long a loop waits without turns for its ring's thread to sleep, which takes ring.SubmitterIdle without other load. Then the loop has a turn,
// and is checked again.
const submitterWait = 10 * ring.SubmitterIdle

// ParkAll parks the loops in this order as soon as none of their members is busy. After wait it returns an error that names a busy loop and its work, and leaves
// all loops awake. last, which may be nil, runs on each loop's goroutine just before the loop sleeps. It runs again after a failed attempt, and the last run counts.
// The caller must not send new work to the loops meanwhile: it would wait until ResumeAll. Any goroutine except a loop's may call it.
func ParkAll(loops []*Loop, wait time.Duration, last func(l *Loop)) error {
	until := time.Now().Add(wait)
	for again := parkRetry; ; again = min(2*again, parkRetryMax) {
		busy, err := parkOnce(loops, last)
		switch {
		case err != nil || busy == "":
			return err
		case !time.Now().Before(until):
			return fmt.Errorf("loop: not quiet within %v: %s", wait, busy)
		}
		time.Sleep(again)
	}
}

// parkOnce parks all loops or none. If none, it returns the name of the busy loop and its work. The later loop may wait for a parked one, so it resumes
// all parked loops.
func parkOnce(loops []*Loop, last func(l *Loop)) (busy string, err error) {
	for i, l := range loops {
		busy, err = l.park(func() {
			if last != nil {
				last(l)
			}
		}, true)
		if busy == "" && err == nil {
			continue
		}
		ResumeAll(loops[:i])
		if err != nil {
			return "", fmt.Errorf("park loop %s: %w", l.Name(), err)
		}
		return "loop " + l.Name() + ": " + busy, nil
	}
	return "", nil
}

// ResumeAll resumes loops in the reverse order of parking: a loop that passes work to a later one then finds it awake.
func ResumeAll(loops []*Loop) {
	for i := len(loops) - 1; i >= 0; i-- {
		loops[i].Resume()
	}
}

// Park parks all loops of the group as ParkAll does, those with connections first.
func (g *Group) Park(wait time.Duration, last func(l *Loop)) error {
	return ParkAll(g.All(), wait, last)
}

// Resume ends Park.
func (g *Group) Resume() { ResumeAll(g.All()) }
