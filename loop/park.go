package loop

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrParked is returned by Park on a loop that is parked, or is being parked, already.
var ErrParked = errors.New("loop: parked already")

// Busier is a Member that has work which goes on between requests, or outlives them. A Group parks when none of its members is busy.
type Busier interface {
	// Busy names the work that is under way, for an error; "" when there is none. It is called on the member's loop at the end of a turn, and may begin
	// work that has to be done before parking, such as write-back of cached pages: it is called again until it returns "".
	Busy() string
}

// nap is one period in which a loop is parked.
type nap struct {
	last   func()
	quiet  bool          // only where no member is busy
	settle chan struct{} // closed by the loop when it sleeps, or has refused to
	resume chan struct{} // closed by Resume
	busy   string        // why it was refused; read after settle is closed
	err    error         // likewise
}

// parking is what Park and Resume share.
type parking struct {
	mu  sync.Mutex
	nap *nap // mu; nil: the loop is not parked and is not being parked
}

// Park ends the loop's turns until Resume, whatever its wait policy is: the goroutine is locked to its thread and waits on a channel, so the thread sleeps on a
// futex, outside ring and epoll set, and takes no CPU. last, which may be nil, runs on the loop's goroutine just before. Park returns when last has run and
// the loop sleeps. Any goroutine but the loop's own may call it.
//
// The first turn after Resume finds what has come from the kernel and from other loops meanwhile. Do queues its function, which runs after Resume, and Call and
// Remove wait for that. Stop resumes the loop first. The errors are ErrParked and ErrStopped.
func (l *Loop) Park(last func()) error {
	_, err := l.park(last, false)
	return err
}

// park is Park. With quiet it refuses while a member is busy, and returns what the member is doing.
func (l *Loop) park(last func(), quiet bool) (busy string, err error) {
	n := &nap{last: last, quiet: quiet, settle: make(chan struct{}), resume: make(chan struct{})}
	l.parking.mu.Lock()
	if l.parking.nap != nil {
		l.parking.mu.Unlock()
		return "", ErrParked
	}
	l.parking.nap = n
	l.parking.mu.Unlock()
	if !l.Do(func() { l.nap = n }) {
		l.forget(n)
		return "", ErrStopped
	}
	select {
	case <-n.settle:
		return n.busy, n.err
	case <-l.done:
		l.forget(n)
		return "", ErrStopped
	}
}

// forget makes way for the next Park.
func (l *Loop) forget(n *nap) {
	l.parking.mu.Lock()
	defer l.parking.mu.Unlock()
	if l.parking.nap == n {
		l.parking.nap = nil
	}
}

// Resume ends a Park: the loop goes on with its next turn. It does not wait for that. Any goroutine may call it; on a loop that is not parked it does nothing.
func (l *Loop) Resume() {
	l.parking.mu.Lock()
	n := l.parking.nap
	l.parking.nap = nil
	l.parking.mu.Unlock()
	if n != nil {
		close(n.resume)
	}
}

// rest sleeps at the end of a turn, for Park. The turn's entries have been submitted.
func (l *Loop) rest() {
	n := l.nap
	l.nap = nil
	if l.stop.Load() { // Stop resumes before it waits, and sets this before it resumes
		n.err = ErrStopped
	} else if n.quiet {
		n.busy = l.work()
	}
	if n.err != nil || n.busy != "" {
		l.forget(n)
		close(n.settle)
		return
	}
	if n.last != nil {
		n.last()
	}
	unrouse() // no thread of this loop is in a system call
	since := Nanos()
	close(n.settle)
	<-n.resume
	l.parked += Nanos() - since
	rouse()
	l.busyAt = Nanos()
}

// work names what the loop has to do; "": nothing.
func (l *Loop) work() string {
	switch {
	case !l.finished.Empty():
		return "completed requests wait for their owners"
	case !l.box.empty():
		return "requests of other loops wait"
	case len(l.closing) > 0:
		return "a member closes"
	case l.unfinished:
		return "a member has more to do in the next turn"
	case l.ring != nil && !l.ring.Idle() || l.socks != nil && !l.socks.Idle():
		return "the kernel's thread that submits (SQPOLL) has not gone to sleep"
	}
	for _, id := range l.order {
		if b, ok := l.members[id].(Busier); ok {
			if s := b.Busy(); s != "" {
				return s
			}
		}
	}
	return ""
}

// Awake is Now without the time for which the loop was parked. Deadlines of peers are counted by it, since a parked loop receives nothing.
func (l *Loop) Awake() int64 { return l.now - l.parked }

// WakeAwake is WakeAt for a time of Awake.
func (l *Loop) WakeAwake(t int64) { l.WakeAt(t + l.parked) }

// parkAgain is the first wait before busy members are checked again: short beside a slice, long beside a turn. It doubles up to parkAgainMax, since each check
// takes a turn of CPU time.
const (
	parkAgain    = 100 * time.Microsecond
	parkAgainMax = 2 * time.Millisecond
)

// ParkAll parks loops in this order once none of their members is busy, or after wait gives up with an error that names the loop and what it does, and leaves
// all of them awake. last, which may be nil, runs on each loop's goroutine just before it sleeps; after a failed attempt it runs again, and the last run counts.
// The caller sends no new work to the loops meanwhile: work that comes late waits until ResumeAll. Any goroutine but a loop's own.
func ParkAll(loops []*Loop, wait time.Duration, last func(l *Loop)) error {
	until := time.Now().Add(wait)
	for again := parkAgain; ; again = min(2*again, parkAgainMax) {
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

// parkOnce parks all loops, or none, and returns which loop is busy with what. Work between a parked loop and a later one shows as work of the later one, so all
// loops are resumed.
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

// ResumeAll resumes loops in the reverse order of parking: a loop that hands work to a later one finds it awake.
func ResumeAll(loops []*Loop) {
	for i := len(loops) - 1; i >= 0; i-- {
		loops[i].Resume()
	}
}

// Park parks all loops of the group by ParkAll, those with connections first.
func (g *Group) Park(wait time.Duration, last func(l *Loop)) error {
	return ParkAll(g.All(), wait, last)
}

// Resume ends Park.
func (g *Group) Resume() { ResumeAll(g.All()) }
