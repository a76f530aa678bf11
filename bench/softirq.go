package bench

import (
	"bytes"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// KsoftirqdCPU is the CPU time of all threads ksoftirqd/N since the machine started, in ns. Of a thread that runs just now it may lag by up to a
// tick of the scheduler (1–10 ms). ok is false where the threads are not visible. Their PIDs are looked for once.
func KsoftirqdCPU() (cpu time.Duration, ok bool) { return ksoftirqdCPU(proc(), ksoftirqdPIDs()) }

func proc() fs.FS { return os.DirFS("/proc") }

var ksoftirqdPIDs = sync.OnceValue(func() []string { return findKsoftirqd(proc()) })

// findKsoftirqd gives the PIDs of the threads ksoftirqd/N. They are children of kthreadd, so that no process that only has their name is one.
func findKsoftirqd(proc fs.FS) (pids []string) {
	entries, _ := fs.ReadDir(proc, ".")
	for _, e := range entries {
		if pid := e.Name(); pid[0] >= '1' && pid[0] <= '9' {
			b, err := fs.ReadFile(proc, pid+"/stat")
			if err == nil && isKsoftirqd(string(b)) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// isKsoftirqd reads a line of /proc/PID/stat: pid (name) state parent …
func isKsoftirqd(stat string) bool {
	_, rest, _ := strings.Cut(stat, " (")
	end := strings.LastIndex(rest, ") ") // a name may have brackets, too
	if end < 0 {
		return false
	}
	cpu, named := strings.CutPrefix(rest[:end], "ksoftirqd/")
	_, err := strconv.ParseUint(cpu, 10, 32)
	f := strings.Fields(rest[end+1:])
	return named && err == nil && len(f) > 1 && f[1] == kthreadd
}

const kthreadd = "2"

// ksoftirqdCPU sums the first field of the threads' schedstat: ns on a CPU (Documentation/scheduler/sched-stats.rst).
func ksoftirqdCPU(proc fs.FS, pids []string) (sum time.Duration, ok bool) {
	for _, pid := range pids {
		b, err := fs.ReadFile(proc, pid+"/schedstat")
		if err != nil {
			return 0, false
		}
		first, _, _ := bytes.Cut(b, []byte(" "))
		ns, err := strconv.ParseInt(string(first), 10, 64)
		if err != nil || ns < 0 {
			return 0, false
		}
		sum += time.Duration(ns)
	}
	return sum, len(pids) > 0
}
