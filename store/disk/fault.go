package disk

import (
	"syscall"
	"time"

	"github.com/kvwire/kvwire/loop"
)

// Fault is an injected fault of one transfer. The zero value is no fault.
type Fault struct {
	Wait  time.Duration // the delay before the disk gets the transfer
	Errno syscall.Errno // the result; 0: the disk's result
	Done  bool          // with Errno: the disk does the transfer nevertheless
}

// faultyDisk is a disk with injected faults, for tests. It passes Grow on without faults.
type faultyDisk struct {
	Disk
	l       *loop.Loop
	fault   func(write bool) Fault
	delayed []delayedIO           // like results and ended, bounded by the transfers in flight
	results map[uint64]Completion // by tag: results that replace the disk's
	ended   []Completion          // completions of transfers that the disk never got
}

type delayedIO struct {
	queuedIO
	due int64
}

// NewFaulty returns a disk that passes its transfers on to d. Before each, it calls fault on the loop; the result determines whether the transfer is delayed or fails.
func NewFaulty(d Disk, l *loop.Loop, fault func(write bool) Fault) Disk {
	return &faultyDisk{Disk: d, l: l, fault: fault, results: map[uint64]Completion{}}
}

func (d *faultyDisk) Submit(tag uint64, t *Transfer) bool {
	if t.Op == Grow {
		return d.Disk.Submit(tag, t)
	}
	f := d.fault(t.Op == Write)
	if f.Errno != 0 {
		c := Completion{tag, -int32(f.Errno)}
		if !f.Done {
			d.ended = append(d.ended, c)
			d.l.Again()
			return true
		}
		d.results[tag] = c
	}
	d.delayed = append(d.delayed, delayedIO{queuedIO{tag, t}, loop.Nanos() + int64(f.Wait)})
	return true
}

// Flush passes the transfers that are due to the disk.
func (d *faultyDisk) Flush() error {
	now, keep := loop.Nanos(), d.delayed[:0]
	for _, q := range d.delayed {
		switch {
		case q.due > now:
			d.l.WakeAt(q.due)
			keep = append(keep, q)
		case !d.Disk.Submit(q.tag, q.t):
			d.l.Again()
			keep = append(keep, q)
		}
	}
	d.delayed = keep
	return d.Disk.Flush()
}

func (d *faultyDisk) Reap(done []Completion) int {
	n := copy(done, d.ended)
	d.ended = append(d.ended[:0], d.ended[n:]...)
	m := n + d.Disk.Reap(done[n:])
	for i, was := range done[n:m] {
		if c, ok := d.results[was.Tag]; ok {
			delete(d.results, was.Tag)
			done[n+i] = c
		}
	}
	return m
}
