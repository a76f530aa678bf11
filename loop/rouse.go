package loop

import (
	"runtime"
	"sync"
	"time"
)

// rouseEvery is the period of a timer that runs while a loop is not parked. It bounds how long a loop can hold up a garbage collection, if it
// falls asleep at the moment when the world is stopped (docs/adr/0013): Go's monitor would find such a thread, but
// sleeps for up to a minute when nothing else is due.
const rouseEvery = 50 * time.Millisecond

// rouser is that timer, one for all loops of the process.
var rouser struct {
	mu    sync.Mutex
	loops int           // mu; number of loops that are not parked
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

// A loop that makes system calls which the scheduler knows of yields its P: every yieldEvery if it has nothing to do, and at the latest after
// yieldLatest. Go's monitor thread looks every 10 ms. If a goroutine is in such a call, and was running 10 ms before without a yield, the monitor takes its
// P. Then it looks every 20 µs for some milliseconds, and interrupts the loops (docs/adr/0039).
const (
	yieldEvery  = 5e6 // ns
	yieldLatest = 8e6
)

// yield is called at the end of a turn. A yield costs some 10 µs: a goroutine that is locked to its thread hands its P to another thread and gets it back.
func (l *Loop) yield(empty bool) {
	if d := l.now - l.yielded; l.told && (d > yieldLatest || empty && d > yieldEvery) {
		l.yielded, l.told = l.now, false
		runtime.Gosched()
	}
}
