package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

// HostTimes are what all CPUs of the machine together have spent since it started, from the first
// line of /proc/stat (proc_stat(5)), in steps of 10 ms.
type HostTimes struct {
	User, Nice, System, Idle, IOWait, IRQ, SoftIRQ, Steal time.Duration
}

const hostTick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on

var errNoCPULine = errors.New("no line of the form \"cpu user nice system idle iowait irq softirq steal\"")

// ReadHostTimes looks at /proc/stat.
func ReadHostTimes() (HostTimes, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return HostTimes{}, fmt.Errorf("bench: %w", err)
	}
	return parseHostTimes(b)
}

func parseHostTimes(b []byte) (h HostTimes, err error) {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f := bytes.Fields(line)
	to := []*time.Duration{&h.User, &h.Nice, &h.System, &h.Idle, &h.IOWait, &h.IRQ, &h.SoftIRQ, &h.Steal}
	if len(f) <= len(to) || string(f[0]) != "cpu" {
		return HostTimes{}, fmt.Errorf("bench: /proc/stat: %w", errNoCPULine)
	}
	for i, p := range to {
		n, err := strconv.ParseInt(string(f[i+1]), 10, 64)
		if err != nil || n < 0 || n > 1<<53/int64(hostTick) {
			return HostTimes{}, fmt.Errorf("bench: /proc/stat: field %d is %q: %w", i+2, f[i+1], errNoCPULine)
		}
		*p = time.Duration(n) * hostTick
	}
	return h, nil
}

// Sub is what was spent since o. iowait and idle may run backwards on some kernels: never below 0.
func (h HostTimes) Sub(o HostTimes) HostTimes {
	d := func(a, b time.Duration) time.Duration { return max(0, a-b) }
	return HostTimes{d(h.User, o.User), d(h.Nice, o.Nice), d(h.System, o.System), d(h.Idle, o.Idle),
		d(h.IOWait, o.IOWait), d(h.IRQ, o.IRQ), d(h.SoftIRQ, o.SoftIRQ), d(h.Steal, o.Steal)}
}

// Busy is the time in which a CPU did something for this machine.
func (h HostTimes) Busy() time.Duration { return h.User + h.Nice + h.System + h.IRQ + h.SoftIRQ }

// Total is all time of all CPUs, stolen time included.
func (h HostTimes) Total() time.Duration { return h.Busy() + h.Idle + h.IOWait + h.Steal }

// Host is the machine's time over a window.
type Host struct {
	HostTimes
	Known bool // /proc/stat could be read, and the window is long enough: a tick is at most 1 %
}

// HostOver is the machine's time from before to after, of which neither may be known (zero).
func HostOver(before, after HostTimes) Host {
	if before == (HostTimes{}) || after == (HostTimes{}) {
		return Host{}
	}
	return hostDelta(before, after, nil)
}

func hostDelta(before, after HostTimes, err error) Host {
	d := after.Sub(before)
	return Host{HostTimes: d, Known: err == nil && d.Total() >= 100*hostTick}
}

// Ratio is a part of the machine's whole time, 0 to 1.
func (h Host) Ratio(part time.Duration) float64 { return float64(part) / float64(max(1, h.Total())) }

// IdleBusy watches the machine for d while the caller does nothing, and returns how many CPUs were
// busy all the same: the baseline that a run's busy time is to be compared with.
func IdleBusy(ctx context.Context, d time.Duration) (cpus float64, err error) {
	before, err := ReadHostTimes()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(d):
	}
	after, err := ReadHostTimes()
	if err != nil {
		return 0, err
	}
	h := hostDelta(before, after, nil)
	return h.Ratio(h.Busy()) * float64(runtime.NumCPU()), nil
}
