package loop

import (
	"runtime"
	"sync"
	"time"
)

// rouseEvery is how often a timer runs while there are loops that are not parked. It bounds for how long a garbage collection can be held up by a loop
// that falls asleep in the moment in which the world is stopped (docs/adr/0013): Go's monitor would look at such a thread, but
// sleeps for up to a minute when nothing else is due.
const rouseEvery = 50 * time.Millisecond

// rouser keeps that timer for all loops of the process.
var rouser struct {
	mu    sync.Mutex
	loops int           // mu; that are not parked
	stop  chan struct{} // mu; closed when the last loop ends or is parked
	ended chan struct{} // mu
}

func rouse() {
	rouser.mu.Lock()
	defer rouser.mu.Unlock()
	if rouser.loops++; rouser.loops > 1 {
		return
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	rouser.stop, rouser.ended = stop, ended
	go func() {
		defer close(ended)
		t := time.NewTicker(rouseEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-stop:
				return
			}
		}
	}()
}

func unrouse() {
	rouser.mu.Lock()
	defer rouser.mu.Unlock()
	if rouser.loops--; rouser.loops == 0 {
		close(rouser.stop)
		<-rouser.ended
	}
}

// A loop that makes system calls of which the scheduler is told hands its P to the scheduler each yieldEvery, when it has nothing to do, or at the latest after
// yieldLatest. Go's monitor thread looks each 10 ms. From a goroutine that it saw running 10 ms before, and that is in such a call, it takes the
// P away, and then it looks each 20 µs for some milliseconds, in which it interrupts the loops (docs/adr/0039).
const (
	yieldEvery  = 5e6 // ns
	yieldLatest = 8e6
)

// yield is for the end of a turn. It costs some 10 µs where it is due: a goroutine that is locked to its thread hands its P to another thread and gets it back.
func (l *Loop) yield(empty bool) {
	if d := l.now - l.yielded; l.told && (d > yieldLatest || empty && d > yieldEvery) {
		l.yielded, l.told = l.now, false
		runtime.Gosched()
	}
}
