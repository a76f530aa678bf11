package loop

import (
	"time"

	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// base is the zero of every loop's clock.
var base = time.Now()

// Nanos is the monotonic clock of all loops, in ns. Any goroutine may call it.
func Nanos() int64 { return int64(time.Since(base)) }

// OfWall is the time that CLOCK_REALTIME had as wall, in ns: the kernel stamps what it receives by that clock. It is
// for stamps of just now, since that clock may be set.
func OfWall(wall int64) int64 {
	now := time.Now()
	return int64(now.Sub(base)) - (now.UnixNano() - wall)
}

// Monotonic is a time of Nanos as CLOCK_MONOTONIC has it: comparable between processes of one machine, within some 100 ns.
func Monotonic(nanos int64) uint64 { return uint64(nanos + monotonicBase) }

// monotonicBase is what CLOCK_MONOTONIC was at base: the best of several looks, each as good as it was quick.
var monotonicBase = func() (at int64) {
	best := int64(1 << 62)
	for range 32 {
		var ts unix.Timespec
		before := Nanos()
		if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
			return 0
		}
		after := Nanos()
		if took := after - before; took < best {
			best, at = took, ts.Nano()-before-took/2
		}
	}
	return at
}()

// Mark ends a stage of a request now, where somebody wants to know. Only the owner of r may call it.
func Mark(r *kv.Request, s kv.Stage) {
	if r.Stages != nil {
		r.Stages.Mark(s, Nanos())
	}
}
