package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/kvwire/kvwire/internal/cgroup"
)

// HostTimes are what all CPUs of the machine together have spent since it started, from the first
// line of /proc/stat (proc_stat(5)), in steps of 10 ms.
type HostTimes struct {
	User, Nice, System, Idle, IOWait, IRQ, SoftIRQ, Steal time.Duration

	Quotas [quotasMax]QuotaTimes `json:",omitzero"` // of the control groups of this process that have a quota, its own first
}

// QuotaTimes counts the periods of a quota of CPU time: all that have passed, and those in which the process was throttled.
type QuotaTimes struct{ Periods, Throttled uint64 }

// quotasMax bounds the control groups with a quota that are read: nested groups with a quota each are rare.
const quotasMax = 4

const hostTick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on

var errNoCPULine = errors.New("no line of the form \"cpu user nice system idle iowait irq softirq steal\"")

// ReadHostTimes reads /proc/stat and the quotas of this process's control groups.
func ReadHostTimes() (HostTimes, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return HostTimes{}, fmt.Errorf("bench: %w", err)
	}
	h, err := parseHostTimes(b)
	h.Quotas = quotaTimes(os.DirFS("/"))
	return h, err
}

func quotaTimes(root fs.FS) (all [quotasMax]QuotaTimes) {
	for i, q := range cgroup.Quotas(root) {
		if i < quotasMax {
			all[i] = QuotaTimes{q.Periods, q.Throttled}
		}
	}
	return all
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
	s := HostTimes{User: d(h.User, o.User), Nice: d(h.Nice, o.Nice), System: d(h.System, o.System), Idle: d(h.Idle, o.Idle),
		IOWait: d(h.IOWait, o.IOWait), IRQ: d(h.IRQ, o.IRQ), SoftIRQ: d(h.SoftIRQ, o.SoftIRQ), Steal: d(h.Steal, o.Steal)}
	for i, q := range h.Quotas {
		if was := o.Quotas[i]; q.Periods >= was.Periods && q.Throttled >= was.Throttled { // else it is another group
			s.Quotas[i] = QuotaTimes{q.Periods - was.Periods, q.Throttled - was.Throttled}
		}
	}
	return s
}

// Add sums times. Quotas are those of the same control groups.
func (h *HostTimes) Add(o HostTimes) {
	h.User += o.User
	h.Nice += o.Nice
	h.System += o.System
	h.Idle += o.Idle
	h.IOWait += o.IOWait
	h.IRQ += o.IRQ
	h.SoftIRQ += o.SoftIRQ
	h.Steal += o.Steal
	for i, q := range o.Quotas {
		h.Quotas[i].Periods += q.Periods
		h.Quotas[i].Throttled += q.Throttled
	}
}

// Throttled returns the share of a quota's periods in which the process was throttled, for the quota with the largest share; ok is false if no period
// of a quota has passed.
func (h HostTimes) Throttled() (ratio float64, known bool) {
	for _, q := range h.Quotas {
		if q.Periods > 0 {
			ratio, known = max(ratio, float64(q.Throttled)/float64(q.Periods)), true
		}
	}
	return ratio, known
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

// HostOf is the machine's time that several windows come to together.
func HostOf(sum HostTimes) Host {
	return Host{HostTimes: sum, Known: sum.Total() >= 100*hostTick}
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
