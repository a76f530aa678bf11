package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// Client is one client thread: the loop that it is, and what it drives. The handler lives on that
// loop: connections that were added to it before, or the router of an in-process store.
type Client struct {
	Loop     *loop.Loop
	Handler  kv.Handler
	InFlight int // most requests in flight from this thread: its connections × depth
}

// Progress is where a run or a load is. It is reported four times a second.
type Progress struct {
	Phase   string        // load, warm-up, measure or drain
	Elapsed time.Duration // in this phase
	Total   time.Duration // of this phase; 0 for a load
	Ops     uint64        // since the beginning of the run, or records loaded
	Records uint64        // load: how many there will be
	OpsPerS float64       // since the last report
}

const progressEvery = 250 * time.Millisecond

var (
	// ErrDead means that a connection died during the run.
	ErrDead = errors.New("the connection died")
	// ErrStuck means that requests had no answer when the drain was over, or that a load came to a halt.
	ErrStuck = errors.New("the server does not answer")
)

// Run puts a generator onto each client's loop, lets it run for the warm-up and then the measured
// window, waits for what is under way, and takes the generators off again. Any goroutine but a
// loop's may call it; it blocks until then: for DrainMax after the window at most where nothing is
// answered any more, and twice that where an open loop's arrivals still wait. When ctx ends, the window ends, and what there is
// comes back with Interrupted set and no error. With an error, the result holds what was found until
// then, or is nil when nothing ran. Loops that spin need GOMAXPROCS above their number, or the
// window's begin and end are noticed late.
func Run(ctx context.Context, spec Spec, clients []Client, progress func(Progress)) (*Result, error) {
	w, err := newRunning(spec, clients)
	if err != nil {
		return nil, err
	}
	w.watch.report = progress
	w.res = &Result{Spec: w.spec, ClientThreads: len(clients)}
	if err := w.begin(); err != nil {
		return nil, errors.Join(err, w.leave(ctx, true))
	}
	err = w.phases(ctx)
	err = errors.Join(err, w.leave(ctx, err != nil || w.interrupted))
	w.collect()
	return w.res, err
}

// running is one Run, or a load in slices. It belongs to the goroutine that calls Run, or Slices' methods.
type running struct {
	spec        Spec
	mix         Mix
	clients     []Client
	watch       watcher
	gens        []*generator
	quota       *quota // of Run's window; nil: it ends at its time
	added       int    // so many of them are on their loops: the first ones
	settled     int    // of these, those that have told on drained, of the slice if there are slices
	interrupted bool
	drained     chan struct{}
	died        chan error
	res         *Result // Run's
}

// newRunning checks what a run is given. Nothing is made yet.
func newRunning(spec Spec, clients []Client) (*running, error) {
	spec = spec.Defaults()
	if err := spec.Check(); err != nil {
		return nil, err
	}
	if err := spec.fits(clients); err != nil {
		return nil, err
	}
	mix, err := ParseMix(spec.Mix)
	if err != nil {
		return nil, err
	}
	w := &running{spec: spec, mix: mix, clients: clients, drained: make(chan struct{}, len(clients)), died: make(chan error, 1)}
	w.watch = watcher{clients: clients, ops: w.ops}
	return w, nil
}

// make makes the generators, each with a time series of so many intervals.
func (w *running) make(intervals int) error {
	for i, c := range w.clients {
		g, err := newGenerator(w.spec, w.mix, c, w.spec.FirstThread+i, w.spec.threads(len(w.clients)), intervals)
		if err != nil {
			return err
		}
		g.drained, g.died = w.drained, w.died
		w.gens = append(w.gens, g)
	}
	return nil
}

// add puts the generators onto their loops, one after the other, where each does what then says.
func (w *running) add(then func(*generator)) error {
	for i, c := range w.clients {
		var err error
		gone := c.Loop.Call(func() {
			if _, err = c.Loop.Add(w.gens[i]); err == nil {
				then(w.gens[i])
			}
		})
		if err := errors.Join(gone, err); err != nil {
			return fmt.Errorf("bench: client loop %s: %w", c.Loop.Name(), err)
		}
		w.added++
	}
	return nil
}

// begin makes the generators and starts them, except for a trace that begins with the window.
func (w *running) begin() error {
	if err := w.make(seriesIntervals(w.spec.Duration)); err != nil {
		return err
	}
	w.res.Started = time.Now()
	now := loop.Nanos()
	return w.add(func(g *generator) {
		if !w.spec.fromTheFirstRow() {
			g.begin(now)
		}
	})
}

func (w *running) ops() (n uint64) {
	for _, g := range w.gens {
		n += g.done.Load()
	}
	return n
}

// phases are the warm-up and the measured window.
func (w *running) phases(ctx context.Context) error {
	begun := loop.Nanos()
	err := w.wait(ctx, "warm-up", w.spec.Warmup)
	w.res.Warmup = time.Duration(loop.Nanos() - begun)
	if err != nil || w.interrupted {
		return err
	}
	if w.spec.OnWindow != nil {
		w.spec.OnWindow(true)
	}
	before, err := w.mark()
	if err != nil {
		return err
	}
	if n := w.spec.Operations; n > 0 {
		w.quota = newQuota(n, w.gens)
	}
	start := loop.Nanos()
	end := start + int64(w.spec.Duration)
	for _, g := range w.gens {
		g.end.Store(end)
	}
	for _, g := range w.gens { // when all have their end, which the quota's last operation may replace
		g.start.Store(start)
	}
	if err := w.beginTrace(start); err != nil {
		return err
	}
	err = w.wait(ctx, "measure", w.spec.Duration)
	end = min(w.gens[0].end.Load(), loop.Nanos())
	for _, g := range w.gens {
		g.end.Store(end)
	}
	w.res.Duration = time.Duration(end - start)
	after, gone := w.mark()
	if w.spec.OnWindow != nil {
		w.spec.OnWindow(false)
	}
	if gone == nil {
		w.costs(before, after)
	}
	return errors.Join(err, gone)
}

// beginTrace begins a trace that has no warm-up with the window, so that none of its rows is left out.
func (w *running) beginTrace(start int64) error {
	if !w.spec.fromTheFirstRow() {
		return nil
	}
	for i, c := range w.clients {
		if err := c.Loop.Call(func() { w.gens[i].begin(start) }); err != nil {
			return fmt.Errorf("bench: client loop %s: %w", c.Loop.Name(), err)
		}
	}
	return nil
}

// wait lets a phase pass, or ends it early: interrupted, with the error that ends the run, when the quota is used up or stays as it is, or when all
// generators have settled, at the end of the trace or of the window.
func (w *running) wait(ctx context.Context, phase string, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	w.watch.begin(phase, d)
	for {
		select {
		case <-timer.C:
			return nil
		case <-w.quota.over():
			return nil
		case <-ctx.Done():
			w.interrupted = true
			return nil
		case <-w.drained:
			if w.settled++; w.settled < w.added {
				continue
			}
			select {
			case err := <-w.died: // it told before it settled
				return err
			default:
				return w.left()
			}
		case err := <-w.died:
			return err
		case <-tick.C:
			if err := w.watch.tick(); err != nil {
				return err
			}
			if w.silent() { // the drain finds the requests that have no answer
				return nil
			}
		}
	}
}

// silent reports whether the window waits for operations, and a request in flight has had no answer for SilenceMax.
func (w *running) silent() (yes bool) {
	if !w.quota.stalled(w.spec.SilenceMax) {
		return false
	}
	oldest := loop.Nanos() - int64(w.spec.SilenceMax)
	for i, g := range w.gens {
		_ = w.clients[i].Loop.Call(func() { // one that has ended is the watcher's
			for j := range g.slots.slot {
				s := &g.slots.slot[j]
				yes = yes || s.inFlight && s.sent < oldest
			}
		})
	}
	return yes
}

// left returns an error if a client's loop has ended, or is ending: it closed its generator, which Run had not removed.
func (w *running) left() error {
	for i, g := range w.gens[:w.added] {
		if g.left.Load() {
			return fmt.Errorf("bench: client loop %s: %w", w.clients[i].Loop.Name(), loop.ErrStopped)
		}
	}
	return nil
}

// marks are all counters at one end of the window.
type marks struct {
	threads []threadMark
	process Usage
	runtime runtimeMark
	host    HostTimes
	hostErr error
}

func (w *running) mark() (m marks, err error) {
	m.threads = make([]threadMark, len(w.clients))
	for i, c := range w.clients {
		if err := c.Loop.Call(func() { m.threads[i] = markThread(c.Loop) }); err != nil {
			return m, fmt.Errorf("bench: client loop %s: %w", c.Loop.Name(), err)
		}
	}
	m.process = ProcessUsage()
	m.host, m.hostErr = ReadHostTimes()
	m.runtime = markRuntime()
	return m, nil
}

// costs takes what the window cost from the counters at its ends.
func (w *running) costs(before, after marks) {
	r := w.res
	spent := make([]threadMark, len(after.threads))
	for i, a := range after.threads {
		spent[i] = a.since(before.threads[i])
	}
	r.addThreads(spent)
	r.Process = after.process.Sub(before.process)
	r.Go = after.runtime.since(before.runtime)
	r.Host = hostDelta(before.host, after.host, errors.Join(before.hostErr, after.hostErr))
}

// leave waits for what is under way and takes the generators off their loops. Unless stop, an open
// loop's waiting arrivals are sent first, for at most DrainMax; then nothing more is sent, and what is
// under way has DrainMax to complete, if anything has in the meantime. What has not is abandoned: its handler keeps the buffers.
func (w *running) leave(ctx context.Context, stop bool) error {
	w.watch.begin("drain", w.spec.DrainMax)
	var err error
	all, hung := false, false
	if !stop {
		before := w.answered()
		all, err = w.await(ctx)
		hung = !w.interrupted && (w.spec.Loop == Closed || w.answered() == before)
	}
	if !all {
		err = errors.Join(err, w.halt(ctx, hung))
	}
	err = errors.Join(err, w.abandon())
	w.remove()
	return err
}

// halt has nothing more sent, and unless the load hangs it waits until what is under way is complete, for DrainMax at most.
func (w *running) halt(ctx context.Context, hung bool) error {
	for i, g := range w.gens[:w.added] {
		if w.clients[i].Loop.Call(g.stop) != nil { // nobody is left there to wait for; the others are abandoned
			return fmt.Errorf("bench: client loop %s: %w", w.clients[i].Loop.Name(), loop.ErrStopped)
		}
	}
	if hung {
		return nil
	}
	_, err := w.await(context.WithoutCancel(ctx))
	return err
}

// abandon ends the drain. It returns an error if requests have no answer.
func (w *running) abandon() error {
	unanswered, now := 0, loop.Nanos()
	for i, g := range w.gens[:w.added] {
		abandon := func() { unanswered += g.abandon(now) }
		if w.clients[i].Loop.Call(func() { abandon(); g.mark() }) != nil {
			abandon() // the loop has ended
		}
	}
	if unanswered == 0 {
		return nil
	}
	return fmt.Errorf("bench: %d requests had no answer at the end of the drain (%v): %w", unanswered, w.spec.DrainMax, ErrStuck)
}

// remove takes the generators off their loops. Their requests are answered or abandoned.
func (w *running) remove() {
	for i, g := range w.gens[:w.added] {
		w.clients[i].Loop.Remove(g)
	}
	for _, g := range w.gens[w.added:] {
		g.release()
	}
}

// answered is the number of requests that were answered until now, as the loops have it.
func (w *running) answered() (n uint64) {
	for i, g := range w.gens[:w.added] {
		_ = w.clients[i].Loop.Call(func() { n += g.total })
	}
	return n
}

// await waits until every generator has settled: at most DrainMax, and not beyond ctx or the end of a
// client's loop.
func (w *running) await(ctx context.Context) (all bool, err error) {
	timer := time.NewTimer(w.spec.DrainMax)
	defer timer.Stop()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for w.settled < w.added {
		select {
		case <-w.drained:
			w.settled++
		case dead := <-w.died:
			err = dead // and on: what is under way there completes now
		case <-timer.C:
			return false, err
		case <-ctx.Done():
			w.interrupted = true
			return false, err
		case <-tick.C:
			if e := w.watch.tick(); e != nil {
				return false, errors.Join(err, e)
			}
		}
	}
	select {
	case dead := <-w.died: // told before the last one settled, and not seen yet
		err = dead
	default:
	}
	return true, err
}

// collect merges what the generators wrote. They have left their loops.
func (w *running) collect() {
	rec := w.gens[0].rec
	for _, g := range w.gens[1:] {
		rec.merge(g.rec)
	}
	w.res.take(rec, w.mix, w.res.Duration)
	w.res.Interrupted = w.interrupted
	for _, g := range w.gens {
		if g.replay != nil && !g.replay.repeat {
			w.res.TraceLeft += g.replay.left()
		}
	}
}

// watcher reports progress and notices loops that have ended.
type watcher struct {
	report  func(Progress)
	clients []Client
	ops     func() uint64
	now     Progress
	begun   time.Time
	last    time.Time
}

func (w *watcher) begin(phase string, total time.Duration) {
	w.begun = time.Now()
	w.last = w.begun
	w.now = Progress{Phase: phase, Total: total, Ops: w.ops(), Records: w.now.Records}
}

// tick reports, and returns an error when a client's loop has ended.
func (w *watcher) tick() error {
	for _, c := range w.clients {
		select {
		case <-c.Loop.Done():
			return fmt.Errorf("bench: client loop %s: %w", c.Loop.Name(), errors.Join(loop.ErrStopped, c.Loop.Stop()))
		default:
		}
	}
	now, ops := time.Now(), w.ops()
	w.now.OpsPerS = float64(ops-w.now.Ops) / now.Sub(w.last).Seconds()
	w.now.Ops, w.now.Elapsed, w.last = ops, now.Sub(w.begun), now
	if w.report != nil {
		w.report(w.now)
	}
	return nil
}
