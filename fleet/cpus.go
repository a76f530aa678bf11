package fleet

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"golang.org/x/sys/unix"
)

// Split is the CPUs of a run's server and client.
type Split struct{ Server, Client factor.CPUs }

// allowedEnv has the CPUs that kvwire was started with, for the processes that a confined one starts.
const allowedEnv = "KVWIRE_CPUS"

// AllowedCPUs returns the CPUs that kvwire was started with.
func AllowedCPUs() (allowed factor.CPUs) {
	if s := os.Getenv(allowedEnv); s == "" || allowed.Set(s) != nil {
		return affinity()
	}
	return allowed
}

// DefaultCPUs keeps client and server apart: the upper half of the allowed CPUs for the server, the lower
// for the client. With one CPU both have it.
func DefaultCPUs() Split {
	allowed := AllowedCPUs()
	n := len(allowed)
	if n < 2 {
		return Split{allowed, allowed}
	}
	return Split{Server: allowed[n/2:], Client: allowed[:n/2]}
}

func affinity() factor.CPUs {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var c factor.CPUs
	for i := range 1024 {
		if set.IsSet(i) {
			c = append(c, i)
		}
	}
	return c
}

// Confine keeps the whole process on these CPUs, with the runtime's own threads, and all processes that it starts.
func Confine(cpus factor.CPUs) error {
	if len(cpus) == 0 { // any: all that kvwire was started with, also if this process is confined to fewer
		if s := os.Getenv(allowedEnv); s == "" || cpus.Set(s) != nil {
			return nil
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if now := affinity(); cpus.String() == now.String() {
		return nil
	}
	allowed := AllowedCPUs() // not the CPUs to which this process is confined
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return exit.Usagef("CPUs %s: %v (allowed here: %s)", &cpus, err, &allowed)
	}
	if got := affinity(); got.String() != cpus.String() {
		return exit.Usagef("CPUs %s: not all of them are allowed here (%s)", &cpus, &allowed)
	}
	if os.Getenv(allowedEnv) == "" {
		_ = os.Setenv(allowedEnv, allowed.String())
	}
	for {
		if moved, err := moveThreads(&set); err != nil || moved == 0 {
			return err
		}
	}
}

// CheckAllowed returns an error for CPUs that this machine, or the program that started kvwire, does not allow. It is for use before a server is started on them.
func CheckAllowed(flag string, cpus factor.CPUs) error {
	allowed := AllowedCPUs()
	for _, c := range cpus {
		if len(allowed) > 0 && !slices.Contains(allowed, c) {
			return exit.Usagef("--%s %s: CPU %d is not allowed here (allowed here: %s)", flag, &cpus, c, &allowed)
		}
	}
	return nil
}

// moveThreads moves the threads of the process that are not on the CPUs of set. A new thread has the CPUs of its creator, so when none
// had to be moved, all are on the CPUs of set.
func moveThreads(set *unix.CPUSet) (moved int, err error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, fmt.Errorf("find the process's threads: %w", err)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return 0, fmt.Errorf("a thread's number: %w", err)
		}
		var now unix.CPUSet
		if err = unix.SchedGetaffinity(tid, &now); err == nil && now != *set {
			moved++
			err = unix.SchedSetaffinity(tid, set)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // that one has ended
			return 0, fmt.Errorf("move thread %d to its CPUs: %w", tid, err)
		}
	}
	return moved, nil
}
