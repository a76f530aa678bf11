package loop

import (
	"time"

	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// base is the zero of every loop's clock.
var base = time.Now()

// Nanos returns the time by the monotonic clock of all loops, in ns. Any goroutine may call it.
func Nanos() int64 { return int64(time.Since(base)) }

// FromWall converts a time by CLOCK_REALTIME, in ns, to a time by Nanos. The kernel stamps received bytes by CLOCK_REALTIME. Only recent
// times convert correctly, because that clock may be set.
func FromWall(wall int64) int64 {
	now := time.Now()
	return int64(now.Sub(base)) - (now.UnixNano() - wall)
}

// Monotonic converts a time by Nanos to CLOCK_MONOTONIC, which all processes of a machine share. The error is some 100 ns.
func Monotonic(nanos int64) uint64 { return uint64(nanos + monotonicBase) }

// monotonicBase is the value of CLOCK_MONOTONIC at base: of several readings, the one that took the shortest time.
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

// Mark ends a stage of a request now, if its stages are recorded. Only the owner of r may call it.
func Mark(r *kv.Request, s kv.Stage) {
	if r.Stages != nil {
		r.Stages.Mark(s, Nanos())
	}
}
