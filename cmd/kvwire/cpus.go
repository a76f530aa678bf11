package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// split is which CPUs the two processes of a run have.
type split struct{ server, client cpusFlag }

// allowedEnv keeps the CPUs that kvwire was started with across confine's exec.
const allowedEnv = "KVWIRE_CPUS"

// allowedCPUs are those that kvwire was started with.
func allowedCPUs() (allowed cpusFlag) {
	if s := os.Getenv(allowedEnv); s == "" || allowed.Set(s) != nil {
		return affinity()
	}
	return allowed
}

// defaultCPUs keeps client and server apart: the upper half of the allowed CPUs for the server, the lower
// for the client. With one CPU there is nothing to part.
func defaultCPUs() split {
	allowed := allowedCPUs()
	n := len(allowed)
	if n < 2 {
		return split{allowed, allowed}
	}
	return split{server: allowed[n/2:], client: allowed[:n/2]}
}

func affinity() cpusFlag {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var c cpusFlag
	for i := range 1024 {
		if set.IsSet(i) {
			c = append(c, i)
		}
	}
	return c
}

// or is the flag's value, or the default where the user gave none.
func (c *cpusFlag) or(def cpusFlag) cpusFlag {
	if len(*c) == 1 && (*c)[0] == -1 {
		*c = def
	}
	return *c
}

// confine keeps the whole process, the runtime's own threads too, on these CPUs: threads that exist already
// cannot be moved from here, so it sets its own mask and executes itself again. Nothing may have been
// started before. It leaves room for Go code beside locked loop threads.
func confine(cpus cpusFlag) error {
	if len(cpus) == 0 { // any: those that kvwire was started with, and not what is left of them here
		if s := os.Getenv(allowedEnv); s == "" || cpus.Set(s) != nil {
			return nil
		}
	}
	if cpus.String() != func() string { a := affinity(); return a.String() }() {
		runtime.LockOSThread()
		var set unix.CPUSet
		for _, c := range cpus {
			set.Set(c)
		}
		if os.Getenv(allowedEnv) == "" {
			a := affinity()
			_ = os.Setenv(allowedEnv, a.String())
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			a := affinity()
			return usagef("CPUs %s: %v (allowed here: %s)", &cpus, err, &a)
		}
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		if got := affinity(); got.String() == cpus.String() {
			if deaf != nil && deaf() {
				return errors.New("interrupted before it began")
			}
			return fmt.Errorf("execute %s again: %w", exe, syscall.Exec(exe, os.Args, os.Environ()))
		}
		a := affinity()
		return usagef("CPUs %s: not all of them are allowed here (%s)", &cpus, &a)
	}
	return nil
}

// roomFor sets GOMAXPROCS for that many locked loops beside Go's own work, since sysmon takes the
// processor from a loop that is in the kernel for more than 20 µs. The user's own setting counts.
func roomFor(loops int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.NumCPU() + loops)
	}
}
