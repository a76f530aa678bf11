package store

import (
	"syscall"
	"time"

	"github.com/kvwire/kvwire/loop"
)

// Fault is what goes wrong with a transfer. The zero value is nothing.
type Fault struct {
	Wait  time.Duration // before the disk is given it
	Errno syscall.Errno // how it ends; 0: as the disk says
	Done  bool          // with Errno: the disk does it all the same
}

// faultyDisk is a disk with the faults that Options.Fault wants. Growing is not a transfer of data, and goes through.
type faultyDisk struct {
	disk
	l     *loop.Loop
	fault func(write bool) Fault
	late  []lateIO              // bounded by the transfers in flight, as is the rest
	lies  map[uint64]completion // by tag: what is told instead of the disk's answer
	ended []completion          // without the disk
}

type lateIO struct {
	queuedIO
	due int64
}

func newFaultyDisk(d disk, l *loop.Loop, fault func(write bool) Fault) *faultyDisk {
	return &faultyDisk{disk: d, l: l, fault: fault, lies: map[uint64]completion{}}
}

func (d *faultyDisk) submit(tag uint64, t *transfer) bool {
	if t.kind == growSlab {
		return d.disk.submit(tag, t)
	}
	f := d.fault(!t.isRead())
	if f.Errno != 0 {
		c := completion{tag, -int32(f.Errno)}
		if !f.Done {
			d.ended = append(d.ended, c)
			d.l.Again()
			return true
		}
		d.lies[tag] = c
	}
	d.late = append(d.late, lateIO{queuedIO{tag, t}, loop.Nanos() + int64(f.Wait)})
	return true
}

// flush gives the disk what is due.
func (d *faultyDisk) flush() error {
	now, keep := loop.Nanos(), d.late[:0]
	for _, q := range d.late {
		switch {
		case q.due > now:
			d.l.WakeAt(q.due)
			keep = append(keep, q)
		case !d.disk.submit(q.tag, q.t):
			d.l.Again()
			keep = append(keep, q)
		}
	}
	d.late = keep
	return d.disk.flush()
}

func (d *faultyDisk) poll(done []completion) int {
	n := copy(done, d.ended)
	d.ended = append(d.ended[:0], d.ended[n:]...)
	m := n + d.disk.poll(done[n:])
	for i, c := range done[n:m] {
		if lie, ok := d.lies[c.tag]; ok {
			delete(d.lies, c.tag)
			done[n+i] = lie
		}
	}
	return m
}
