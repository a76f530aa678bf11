package loop

import (
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
