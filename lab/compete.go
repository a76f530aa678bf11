package lab

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"time"
)

// Compete takes CPU time on one thread, on and off for 20 to 300 ms at a time, until the returned function is called. That function waits for the thread to end.
func Compete(seed uint64) (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		rng := rand.New(rand.NewPCG(seed, 0))
		for burn := true; ; burn = !burn {
			until := time.Now().Add(time.Duration(20+rng.IntN(280)) * time.Millisecond)
			for time.Now().Before(until) {
				select {
				case <-done:
					return
				default:
				}
				if !burn {
					time.Sleep(5 * time.Millisecond)
				}
			}
		}
	})
	return func() { close(done); ended.Wait() }
}
