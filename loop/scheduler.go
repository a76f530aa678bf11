package loop

import (
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"golang.org/x/sys/unix"
)

// timerPeriod is the period of a timer that runs while at least one loop is not parked. A loop that falls asleep at the moment when the world is
// stopped delays garbage collection until Go's monitor thread finds it (docs/adr/0013). Without a timer, the monitor
// sleeps for up to a minute.
const timerPeriod = 50 * time.Millisecond

// gcTimer is that timer, one for all loops of the process.
var gcTimer struct {
	mu    sync.Mutex
	loops int           // mu; number of loops that are not parked
	stop  chan struct{} // mu; closed when the last loop ends or is parked
	ended chan struct{} // mu
}

// startTimer counts a loop that is not parked, and starts the timer for the first one.
func startTimer() {
	gcTimer.mu.Lock()
	defer gcTimer.mu.Unlock()
	if gcTimer.loops++; gcTimer.loops > 1 {
		return
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	gcTimer.stop, gcTimer.ended = stop, ended
	go func() {
		defer close(ended)
		t := time.NewTicker(timerPeriod)
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

// stopTimer ends a startTimer, and stops the timer after the last one.
func stopTimer() {
	gcTimer.mu.Lock()
	defer gcTimer.mu.Unlock()
	if gcTimer.loops--; gcTimer.loops == 0 {
		close(gcTimer.stop)
		<-gcTimer.ended
	}
}

// A loop that makes system calls through Go's scheduler, or calls into C, yields its P: every yieldEvery if it has nothing to do, and at the latest after
// yieldLatest. Go's monitor thread polls every 10 ms. If a goroutine is in such a call, and was running 10 ms before without a yield, the monitor hands its
// P to another thread. Then it polls every 20 µs for some milliseconds, and interrupts the loops (docs/adr/0039).
const (
	yieldEvery  = 5e6 // ns
	yieldLatest = 8e6
)

// yield yields the P if that is due. It is called at the end of a turn; empty: the turn found nothing. A yield costs some 10 µs: a goroutine that is locked
// to its thread passes its P to another thread and gets it back.
func (l *Loop) yield(empty bool) {
	if d := l.now - l.yielded; l.madeSyscall && (d > yieldLatest || empty && d > yieldEvery) {
		l.yielded, l.madeSyscall = l.now, false
		runtime.Gosched()
	}
}

// monitorTime is the time in which Go's monitor thread passes through its short pauses. It polls every 20 µs (every 80 to 100 µs with the kernel's usual timer
// slack) until it has found nothing to do 50 times in succession. Then it doubles its pause, up to 10 ms.
const monitorTime = 6 * time.Millisecond

// WaitForMonitor waits until Go's monitor thread polls seldom. Call it just before loops are resumed for a short measurement. While a process is idle, the monitor
// sleeps. With the first work it begins to poll: often for some milliseconds, and then every 10 ms. The frequent polls interrupt loops, and cost more than 1 %
// of the time and of the CPU time of a slice of 50 ms; in a second of load they do not matter. WaitForMonitor takes about 6 ms. The calling thread sleeps in a
// system call that the scheduler does not see (else the process would count as idle), so garbage collection has to wait that long.
func WaitForMonitor() {
	until := time.Now().Add(monitorTime)
	for left := monitorTime; left > 0; left = time.Until(until) {
		sys.Sleep(left.Nanoseconds()) // it ends early with a signal
	}
}

// SetGOMAXPROCS leaves room for that many locked loops besides Go's own work: Go's monitor thread gives the processor of a loop that is in the kernel for more than
// 20 µs to another goroutine. The user's own setting counts.
func SetGOMAXPROCS(loops int) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	var cpus unix.CPUSet // those of the calling thread, which Confine may have changed since the runtime counted
	if unix.SchedGetaffinity(0, &cpus) == nil {
		runtime.GOMAXPROCS(cpus.Count() + loops)
	}
}
