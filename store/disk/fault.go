package disk

import (
	"syscall"
	"time"

	"github.com/kvwire/kvwire/loop"
)

// Fault is what goes wrong with a transfer. The zero value is nothing.
type Fault struct {
	Wait  time.Duration // the delay before the disk gets it
	Errno syscall.Errno // its result; 0: the disk's own
	Done  bool          // with Errno: the disk does it all the same
}

// faultyDisk is a disk with injected faults, for tests of what happens when disks fail. Growing is not a transfer of data, and goes through.
type faultyDisk struct {
	Disk
	l       *loop.Loop
	fault   func(write bool) Fault
	late    []lateIO              // bounded by the transfers in flight, as is the rest
	results map[uint64]Completion // by tag: they replace the disk's own
	ended   []Completion          // without the disk
}

type lateIO struct {
	queuedIO
	due int64
}

// NewFaulty gives a disk whose transfers fail or are late by the result of fault, which is called on the loop for each transfer that is about to be handed to d.
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
	d.late = append(d.late, lateIO{queuedIO{tag, t}, loop.Nanos() + int64(f.Wait)})
	return true
}

// Flush gives the disk what is due.
func (d *faultyDisk) Flush() error {
	now, keep := loop.Nanos(), d.late[:0]
	for _, q := range d.late {
		switch {
		case q.due > now:
			d.l.WakeAt(q.due)
			keep = append(keep, q)
		case !d.Disk.Submit(q.tag, q.t):
			d.l.Again()
			keep = append(keep, q)
		}
	}
	d.late = keep
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
