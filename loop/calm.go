package loop

import (
	"time"

	"github.com/kvwire/kvwire/internal/sys"
)

// calmTime is how long Go's monitor thread is given to poll seldom. It polls each 20 µs, on a kernel with the usual timer slack each 80 to 100 µs, until it has found nothing
// to do 50 times in succession; then it doubles its pause.
const calmTime = 6 * time.Millisecond

// Calm is for just before loops are resumed to be measured for a short time. While a process is idle, Go's monitor thread sleeps, and with the first
// work it begins to poll: often for some milliseconds, and then each 10 ms. Those polls interrupt loops, and take more than 1 % of a slice of 50 ms and of
// its CPU time, while of a second they are nothing. Calm takes about 6 ms, in which the monitor gets through that: the calling thread sleeps, and the
// scheduler is not told (else it would count as idle). Garbage collection has to wait that long.
func Calm() {
	until := time.Now().Add(calmTime)
	for left := calmTime; left > 0; left = time.Until(until) {
		sys.Sleep(left.Nanoseconds()) // it ends early with a signal
	}
}
