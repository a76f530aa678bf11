package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// Loaded is the result of a Load.
type Loaded struct {
	Records  uint64 // acknowledged
	Bytes    uint64 // of their keys and values; approximate if sizes differ
	Duration time.Duration
	Busy     uint64 // puts that the store answered with busy, and that were sent again
}

// maxBusy bounds how many busy answers in a row a thread accepts.
const maxBusy = 100_000

// Load puts records 0 to spec.Records-1, each thread a range of its own in order, and returns when all
// are acknowledged. It ends with an error at the first put that fails, and when a thread has no acknowledged put for SilenceMax. Otherwise it is like
// Run. Of spec it uses the records, sizes, seed, DrainMax and SilenceMax. An interrupted load returns ctx's error.
func Load(ctx context.Context, spec Spec, clients []Client, progress func(Progress)) (Loaded, error) {
	spec = spec.Defaults()
	if err := spec.Check(); err != nil {
		return Loaded{}, err
	}
	if err := spec.fits(clients); err != nil {
		return Loaded{}, err
	}
	w := &loading{spec: spec, sizes: newSizes(spec), clients: clients, ended: make(chan error, len(clients))}
	w.watch = watcher{report: progress, clients: clients, ops: w.done, now: Progress{Records: spec.Records}}
	begun := time.Now()
	err := w.add()
	if err == nil {
		err = w.wait(ctx)
	}
	err = errors.Join(err, w.leave())
	res := Loaded{Duration: time.Since(begun)}
	for _, l := range w.loaders {
		res.Records += l.acked
		res.Busy += l.busy
	}
	res.Bytes = uint64(float64(res.Records) * (float64(spec.KeyBytes) + w.sizes.mean()))
	return res, err
}

// loading is one Load. It belongs to Load's goroutine.
type loading struct {
	spec     Spec
	sizes    *sizes
	clients  []Client
	watch    watcher
	loaders  []*loader
	begun    int        // number of loaders on their loops: the first ones
	ended    chan error // one from each loader: nil, or why it stopped
	reported int
	hung     bool // the store acknowledges nothing any more
}

func (w *loading) add() error {
	begun := loop.Nanos()
	n := uint64(len(w.clients))
	each, more := w.spec.Records/n, w.spec.Records%n
	next := uint64(0)
	for i, c := range w.clients {
		l := &loader{sizes: w.sizes, h: c.Handler, l: c.Loop, seed: uint32(w.spec.Seed), next: next, ended: w.ended}
		next += each
		if uint64(i) < more {
			next++
		}
		l.end, l.last = next, begun
		var err error
		if l.slots, err = newSlots(c.InFlight, w.spec.KeyBytes, w.spec.ValueBytes, l); err != nil {
			return err
		}
		w.loaders = append(w.loaders, l)
		if err := c.Loop.Try(func() error {
			if _, err := c.Loop.Add(l); err != nil {
				return err
			}
			l.begin()
			return nil
		}); err != nil {
			return fmt.Errorf("bench: client loop %s: %w", c.Loop.Name(), err)
		}
		w.begun++
	}
	return nil
}

func (w *loading) done() (n uint64) {
	for _, l := range w.loaders {
		n += l.done.Load()
	}
	return n
}

func (w *loading) wait(ctx context.Context) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	w.watch.begin("load", 0)
	for w.reported < w.begun {
		select {
		case err := <-w.ended:
			w.reported++
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := w.watch.tick(); err != nil {
				return err
			}
			if err := w.silent(); err != nil {
				return err
			}
		}
	}
	return nil
}

// silent returns an error if a thread has puts in flight, and none was acknowledged for SilenceMax.
func (w *loading) silent() error {
	for i, l := range w.loaders[:w.begun] {
		waits, since := 0, int64(0)
		_ = w.clients[i].Loop.Call(func() { waits, since = l.slots.inFlight(), loop.Nanos()-l.last }) // the watcher reports a loop that has ended
		if waits > 0 && since > int64(w.spec.SilenceMax) {
			w.hung = true
			return fmt.Errorf("bench: load: none of the %d puts in flight on client loop %s was acknowledged for %v: %w", waits, w.clients[i].Loop.Name(), w.spec.SilenceMax, ErrStuck)
		}
	}
	return nil
}

// leave stops the loaders, waits at most DrainMax for their puts in flight, and removes them from their loops.
func (w *loading) leave() error {
	late := false
	for i := range w.begun {
		late = w.clients[i].Loop.Call(w.loaders[i].stop) != nil || late // a loop that has ended cannot report
	}
	timer := time.NewTimer(w.spec.DrainMax)
	defer timer.Stop()
	for w.reported < w.begun && !late && !w.hung {
		select {
		case <-w.ended:
			w.reported++
		case <-timer.C:
			late = true
		}
	}
	stuck := 0
	for i, l := range w.loaders[:w.begun] {
		_ = w.clients[i].Loop.Call(func() { l.abandoned = true; stuck += l.slots.inFlight() })
		w.clients[i].Loop.Remove(l)
	}
	for _, l := range w.loaders[w.begun:] {
		l.release()
	}
	if stuck > 0 && !w.hung { // else wait has returned that error
		return fmt.Errorf("bench: %d puts had no answer %v after the end of the load: %w", stuck, w.spec.DrainMax, ErrStuck)
	}
	return nil
}

// loader is one thread's share of a load: a member of that thread's loop.
type loader struct {
	sizes *sizes
	l     *loop.Loop
	h     kv.Handler
	slots slots
	seed  uint32
	next  uint64 // the next record to put
	end   uint64

	acked     uint64
	busy      uint64
	busyRow   int // in a row
	stopped   bool
	reported  bool
	abandoned bool
	err       error
	last      int64 // when a put was last acknowledged, as loop.Nanos counts
	ended     chan<- error
	done      atomic.Uint64 // acked, written each turn by the loop, read by Load
}

var _ loop.Member = (*loader)(nil)

func (d *loader) begin() {
	for len(d.slots.free) > 0 && d.next < d.end {
		d.put(d.slots.alloc(), d.next)
		d.next++
	}
	d.reportEnd()
}

func (d *loader) put(s *slot, id uint64) {
	s.id = id
	putKey(s.key, id)
	r := &s.req
	r.Op, r.Key, r.Value, r.Status = kv.OpPut, s.key, s.buf[:d.sizes.of(id)], kv.StatusOK
	fillValue(r.Value, id, 0, d.seed) // version 0: no run writes it
	d.h.Submit(r)
}

// Complete implements kv.Completer. It puts the next record, or the same one again if the store was busy.
func (d *loader) Complete(r *kv.Request) {
	s := &d.slots.slot[r.Slot]
	d.last = d.l.Now()
	switch {
	case d.abandoned:
		d.slots.release(s)
		d.release()
		return
	case r.Status == kv.StatusOK, r.Status == kv.StatusTruncated: // a truncated put was sent whole; if its record is missing, the run finds out
		d.acked++
		d.busyRow = 0
	case r.Status == kv.StatusBusy && d.busyRow < maxBusy && !d.stopped:
		d.busy++
		d.busyRow++
		d.put(s, s.id)
		return
	case d.err == nil:
		d.stopped = true
		what := fmt.Sprintf("load: put of record %d", s.id)
		d.err = fmt.Errorf("bench: %s ended as %q", what, r.Status)
		if r.Status == kv.StatusClosed || r.Status == kv.StatusUnknown {
			d.err = deadError(what, d.h, r.Status)
		}
	}
	if d.stopped || d.next == d.end {
		d.slots.release(s)
		d.reportEnd()
		return
	}
	d.put(s, d.next)
	d.next++
}

// reportEnd sends to ended, once, when no put is in flight and none will follow.
func (d *loader) reportEnd() {
	if d.reported || d.slots.inFlight() > 0 || !d.stopped && d.next < d.end {
		return
	}
	d.reported = true
	d.done.Store(d.acked)
	d.ended <- d.err // it has room for one value of each loader
}

func (d *loader) stop() {
	d.stopped = true
	d.reportEnd()
}

func (d *loader) release() {
	if d.slots.inFlight() == 0 && d.slots.mem != nil {
		_ = d.slots.mem.Close()
		d.slots.mem = nil
	}
}

// OnEvent is never called.
func (d *loader) OnEvent(uint64, int32, uint32) {}

// Poll has no work: completions drive the load.
func (d *loader) Poll() int { return 0 }

// Stage publishes the progress.
func (d *loader) Stage() error {
	if d.acked-d.done.Load() >= 1024 || d.reported {
		d.done.Store(d.acked)
	}
	return nil
}

// Close waits for puts in flight, unless they were abandoned, and frees the buffers.
func (d *loader) Close() bool {
	d.stop()
	if d.slots.inFlight() > 0 && !d.abandoned {
		return false
	}
	d.release()
	return true
}
