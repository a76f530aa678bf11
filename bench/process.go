package bench

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"golang.org/x/sys/unix"
)

// Usage is CPU time and context switches, of a thread or a process.
type Usage struct {
	User, Sys        time.Duration
	CtxVol, CtxInvol uint64 // voluntary and involuntary context switches
}

// Add sums usages.
func (u *Usage) Add(o Usage) {
	u.User += o.User
	u.Sys += o.Sys
	u.CtxVol += o.CtxVol
	u.CtxInvol += o.CtxInvol
}

// Sub is what was used since o.
func (u Usage) Sub(o Usage) Usage {
	return Usage{u.User - o.User, u.Sys - o.Sys, u.CtxVol - o.CtxVol, u.CtxInvol - o.CtxInvol}
}

// CPU is the CPU time.
func (u Usage) CPU() time.Duration { return u.User + u.Sys }

// ProcessUsage returns the usage of all threads of this process.
func ProcessUsage() Usage { return usage(unix.RUSAGE_SELF) }

// ProcessResident returns the bytes of memory that this process has in RAM; 0: not known.
func ProcessResident() uint64 {
	n, _ := sys.Resident(0) // an error leaves 0
	return n
}

// threadUsage returns the usage of the calling thread: on a loop's goroutine, of the loop. Its clock is read first, which brings the thread's run time up to
// date: getrusage alone lags by up to a tick of the scheduler (1–10 ms), too much for a slice.
func threadUsage() Usage {
	_ = cpuClock(unix.CLOCK_THREAD_CPUTIME_ID)
	return usage(unix.RUSAGE_THREAD)
}

// ProcessCPU is the CPU time of all threads of this process since it started, in ns: its clock, which does not lag.
func ProcessCPU() time.Duration { return cpuClock(unix.CLOCK_PROCESS_CPUTIME_ID) }

func cpuClock(id int32) time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(id, &t) != nil { // cannot fail with these arguments
		return 0
	}
	return time.Duration(t.Nano())
}

func usage(of int) Usage {
	var r unix.Rusage
	if unix.Getrusage(of, &r) != nil { // cannot fail with these arguments
		return Usage{}
	}
	return Usage{time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano()), uint64(r.Nvcsw), uint64(r.Nivcsw)}
}

// Runtime is what the Go runtime of this process did during a window.
type Runtime struct {
	GCs      int64
	GCPause  time.Duration // time of pauses, in all
	SchedP99 time.Duration // time that goroutines waited to run, once they could; 0: none waited
	Allocs   uint64        // objects
}

// runtimeCounters is the runtime's counters at one end of a window.
type runtimeCounters struct {
	gc     debug.GCStats
	sample [2]metrics.Sample
}

func readRuntime() (m runtimeCounters) {
	debug.ReadGCStats(&m.gc)
	m.sample[0].Name = "/sched/latencies:seconds"
	m.sample[1].Name = "/gc/heap/allocs:objects"
	metrics.Read(m.sample[:])
	return m
}

func (m runtimeCounters) since(o runtimeCounters) Runtime {
	r := Runtime{GCs: m.gc.NumGC - o.gc.NumGC, GCPause: m.gc.PauseTotal - o.gc.PauseTotal}
	if a, b := m.sample[0].Value, o.sample[0].Value; a.Kind() == metrics.KindFloat64Histogram && b.Kind() == a.Kind() {
		r.SchedP99 = bucketQuantile(a.Float64Histogram(), b.Float64Histogram(), 0.99)
	}
	if a, b := m.sample[1].Value, o.sample[1].Value; a.Kind() == metrics.KindUint64 && b.Kind() == a.Kind() {
		r.Allocs = a.Uint64() - b.Uint64()
	}
	return r
}

// bucketQuantile is the upper bound of the bucket in which a quantile of the difference lies.
func bucketQuantile(after, before *metrics.Float64Histogram, q float64) time.Duration {
	if len(after.Counts) != len(before.Counts) {
		return 0
	}
	var total uint64
	for i, n := range after.Counts {
		total += n - before.Counts[i]
	}
	want := uint64(math.Ceil(q * float64(total)))
	var sum uint64
	for i, n := range after.Counts {
		sum += n - before.Counts[i]
		if total > 0 && sum >= want {
			bound := after.Buckets[i+1]
			if math.IsInf(bound, 1) {
				bound = after.Buckets[i]
			}
			return time.Duration(bound * 1e9)
		}
	}
	return 0
}

// threadCounters is one client thread's counters at one end of the window.
type threadCounters struct {
	usage Usage
	loop  transport.LoopCounters
	at    int64
}

func readThread(l *loop.Loop) threadCounters {
	return threadCounters{usage: threadUsage(), loop: transport.Snapshot(l), at: loop.Nanos()}
}

// since returns the thread's costs since o, with the elapsed time in at, in ns.
func (m threadCounters) since(o threadCounters) threadCounters {
	return threadCounters{usage: m.usage.Sub(o.usage), loop: m.loop.Sub(o.loop), at: m.at - o.at}
}

// add adds costs.
func (m *threadCounters) add(o threadCounters) {
	m.usage.Add(o.usage)
	m.loop.Add(o.loop)
	m.at += o.at
}
