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

// Loaded is what Load did.
type Loaded struct {
	Records  uint64 // acknowledged
	Bytes    uint64 // of their keys and values, if sizes differ about
	Duration time.Duration
	Busy     uint64 // puts that were told to come again, and did
}

// maxBusy bounds how often in a row a thread's puts may be told to come again.
const maxBusy = 100_000

// Load puts records 0 to spec.Records-1, each thread a range of its own in order, and returns when all
// are acknowledged. The first put that fails ends it, and so does a thread that no put is acknowledged to for SilenceMax. Otherwise like
// Run; of spec it uses the records, sizes, seed, DrainMax and SilenceMax. An interrupted load returns ctx's error.
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
	spec    Spec
	sizes   *sizes
	clients []Client
	watch   watcher
	loaders []*loader
	begun   int        // so many of them are on their loops: the first ones
	ended   chan error // one from each loader: nil, or why it stopped
	told    int
	hung    bool // nothing is acknowledged any more
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
		gone := c.Loop.Call(func() {
			if _, err = c.Loop.Add(l); err == nil {
				l.begin()
			}
		})
		if err := errors.Join(gone, err); err != nil {
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
	for w.told < w.begun {
		select {
		case err := <-w.ended:
			w.told++
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

// silent is an error when puts are under way on a thread, and none was acknowledged to it for SilenceMax.
func (w *loading) silent() error {
	for i, l := range w.loaders[:w.begun] {
		waits, since := 0, int64(0)
		_ = w.clients[i].Loop.Call(func() { waits, since = l.slots.inFlight(), loop.Nanos()-l.last }) // one that has ended is the watcher's
		if waits > 0 && since > int64(w.spec.SilenceMax) {
			w.hung = true
			return fmt.Errorf("bench: load: none of the %d puts under way on client loop %s was acknowledged for %v: %w", waits, w.clients[i].Loop.Name(), w.spec.SilenceMax, ErrStuck)
		}
	}
	return nil
}

// leave stops what has not ended, waits for it for at most DrainMax, and takes the loaders off.
func (w *loading) leave() error {
	late := false
	for i := range w.begun {
		late = w.clients[i].Loop.Call(w.loaders[i].stop) != nil || late // a loop that has ended tells nothing
	}
	timer := time.NewTimer(w.spec.DrainMax)
	defer timer.Stop()
	for w.told < w.begun && !late && !w.hung {
		select {
		case <-w.ended:
			w.told++
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
	if stuck > 0 && !w.hung { // else that was told
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
	next  uint64 // the first record that was not put yet
	end   uint64

	acked     uint64
	busy      uint64
	busyRow   int // in a row
	stopped   bool
	told      bool
	abandoned bool
	err       error
	last      int64 // when a put was last acknowledged, as loop.Nanos counts
	ended     chan<- error
	done      atomic.Uint64 // acked, written each turn by the loop, read by Load
}

var _ loop.Member = (*loader)(nil)

func (d *loader) begin() {
	for len(d.slots.free) > 0 && d.next < d.end {
		d.put(d.slots.take(), d.next)
		d.next++
	}
	d.settle()
}

func (d *loader) put(s *slot, id uint64) {
	s.id = id
	putKey(s.key, id)
	r := &s.req
	r.Op, r.Key, r.Value, r.Status = kv.OpPut, s.key, s.buf[:d.sizes.of(id)], kv.StatusOK
	fillValue(r.Value, id, 0, d.seed) // version 0: no run writes it
	d.h.Submit(r)
}

// Complete takes a put back, and sends the next record, or the same one again when the store is busy.
func (d *loader) Complete(r *kv.Request) {
	s := &d.slots.slot[r.Slot]
	d.last = d.l.Now()
	switch {
	case d.abandoned:
		d.slots.put(s)
		d.release()
		return
	case r.Status == kv.StatusOK, r.Status == kv.StatusTruncated: // the latter is sent whole all the same; if it is not there, the run sees that
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
		d.slots.put(s)
		d.settle()
		return
	}
	d.put(s, d.next)
	d.next++
}

// settle tells Load once that nothing is under way and nothing will be.
func (d *loader) settle() {
	if d.told || d.slots.inFlight() > 0 || !d.stopped && d.next < d.end {
		return
	}
	d.told = true
	d.done.Store(d.acked)
	d.ended <- d.err // room for one of each
}

func (d *loader) stop() {
	d.stopped = true
	d.settle()
}

func (d *loader) release() {
	if d.slots.inFlight() == 0 && d.slots.mem != nil {
		_ = d.slots.mem.Close()
		d.slots.mem = nil
	}
}

// OnEvent is never called.
func (d *loader) OnEvent(uint64, int32, uint32) {}

// Poll finds nothing: the load is driven by completions.
func (d *loader) Poll() int { return 0 }

// Stage publishes the progress.
func (d *loader) Stage() error {
	if d.acked-d.done.Load() >= 1024 || d.told {
		d.done.Store(d.acked)
	}
	return nil
}

// Close waits for what is under way, unless it was abandoned, and frees the buffers.
func (d *loader) Close() bool {
	d.stop()
	if d.slots.inFlight() > 0 && !d.abandoned {
		return false
	}
	d.release()
	return true
}
