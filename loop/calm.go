package loop

import (
	"os"
	"runtime"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"golang.org/x/sys/unix"
)

// calmTime is the time in which Go's monitor thread passes through its short pauses. It polls every 20 µs (every 80 to 100 µs with the kernel's usual timer
// slack) until it has found nothing to do 50 times in succession. Then it doubles its pause, up to 10 ms.
const calmTime = 6 * time.Millisecond

// Calm waits until Go's monitor thread polls seldom. Call it just before loops are resumed for a short measurement. While a process is idle, the monitor
// sleeps. With the first work it begins to poll: often for some milliseconds, and then every 10 ms. The frequent polls interrupt loops, and take more than 1 %
// of the time and of the CPU time of a slice of 50 ms; in a second of load they do not matter. Calm takes about 6 ms. The calling thread sleeps without
// telling the scheduler (else the process would count as idle), so garbage collection has to wait that long.
func Calm() {
	until := time.Now().Add(calmTime)
	for left := calmTime; left > 0; left = time.Until(until) {
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
