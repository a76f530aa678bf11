package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// Client is one client thread: its loop, and the handler that it drives. The handler lives on that
// loop: connections that were added to it before, or the router of an in-process store.
type Client struct {
	Loop     *loop.Loop
	Handler  kv.Handler
	InFlight int // most requests in flight from this thread: its connections × depth
}

// Progress is the progress of a run or a load. It is reported four times a second.
type Progress struct {
	Phase   string        // load, warm-up, measure or drain
	Elapsed time.Duration // in this phase
	Total   time.Duration // of this phase; 0 for a load
	Ops     uint64        // since the beginning of the run, or records loaded
	Records uint64        // load: number of records at its end
	OpsPerS float64       // since the last report
}

const progressEvery = 250 * time.Millisecond

var (
	// ErrDead means that a connection died during the run.
	ErrDead = errors.New("the connection died")
	// ErrStuck means that requests had no answer at the end of the drain, or that a load made no progress.
	ErrStuck = errors.New("the server does not answer")
)

// Run adds a generator to each client's loop, generates load for the warm-up and the measured window, waits for requests in flight,
// and removes the generators. Any goroutine but a loop's may call it. It blocks until the end: after the window for at most DrainMax
// if there are no answers any more, or twice that if an open loop's arrivals still wait. When ctx ends, the window ends, and Run
// returns the result until then, with Interrupted set and no error. With an error, the result has what was measured before, or is
// nil if nothing ran. Loops that spin need GOMAXPROCS above their number; else Run notices the window's start and end late.
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
	added       int    // number of generators on their loops: the first ones
	reported    int    // of these, the number that have sent to drained, in the present slice if there are slices
	interrupted bool
	drained     chan struct{}
	died        chan error
	res         *Result // Run's
}

// newRunning checks the arguments of a run. It makes no generators.
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

// make makes the generators, each with a time series of so many bins.
func (w *running) make(bins int) error {
	for i, c := range w.clients {
		g, err := newGenerator(w.spec, w.mix, c, w.spec.FirstThread+i, w.spec.threads(len(w.clients)), bins)
		if err != nil {
			return err
		}
		g.drained, g.died = w.drained, w.died
		w.gens = append(w.gens, g)
	}
	return nil
}

// add adds the generators to their loops, one after the other, and calls then for each on its loop.
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
	if err := w.make(seriesBins(w.spec.Duration)); err != nil {
		return err
	}
	w.res.Started = time.Now()
	now := loop.Nanos()
	return w.add(func(g *generator) {
		if !w.spec.startsWithTrace() {
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

// phases runs the warm-up and the measured window.
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
	before, err := w.snapshot()
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
	for _, g := range w.gens { // after all ends are set: the quota's last operation may replace them
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
	after, gone := w.snapshot()
	if w.spec.OnWindow != nil {
		w.spec.OnWindow(false)
	}
	if gone == nil {
		w.fillCosts(before, after)
	}
	return errors.Join(err, gone)
}

// beginTrace begins a trace that has no warm-up with the window, so that none of its rows is left out.
func (w *running) beginTrace(start int64) error {
	if !w.spec.startsWithTrace() {
		return nil
	}
	for i, c := range w.clients {
		if err := c.Loop.Call(func() { w.gens[i].begin(start) }); err != nil {
			return fmt.Errorf("bench: client loop %s: %w", c.Loop.Name(), err)
		}
	}
	return nil
}

// wait returns at the end of a phase. It returns early when ctx ends, with an error, when the quota is used up or makes no progress, or when all
// generators have reported, at the end of the trace or of the window.
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
			if w.reported++; w.reported < w.added {
				continue
			}
			select {
			case err := <-w.died: // it died before it reported
				return err
			default:
				return w.endedLoop()
			}
		case err := <-w.died:
			return err
		case <-tick.C:
			if err := w.watch.tick(); err != nil {
				return err
			}
			if w.silent() { // the drain counts the requests without an answer
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
		_ = w.clients[i].Loop.Call(func() { // the watcher reports a loop that has ended
			for j := range g.slots.slot {
				s := &g.slots.slot[j]
				yes = yes || s.inFlight && s.sent < oldest
			}
		})
	}
	return yes
}

// endedLoop returns an error if a client's loop has ended, or is ending: then it has closed its generator before Run removed it.
func (w *running) endedLoop() error {
	for i, g := range w.gens[:w.added] {
		if g.closing.Load() {
			return errEnded(w.clients[i].Loop)
		}
	}
	return nil
}

// errEnded is the error for a client's loop that has ended, or is ending, with the reason if the loop has one: it waits until the loop has ended.
func errEnded(l *loop.Loop) error {
	if err := l.Stop(); err != nil {
		return fmt.Errorf("bench: client loop %s: %w: %w", l.Name(), loop.ErrStopped, err)
	}
	return fmt.Errorf("bench: client loop %s: %w", l.Name(), loop.ErrStopped)
}

// counters are all counters at one end of the window.
type counters struct {
	threads []threadCounters
	process Usage
	runtime runtimeCounters
	host    HostTimes
	hostErr error
}

func (w *running) snapshot() (m counters, err error) {
	m.threads = make([]threadCounters, len(w.clients))
	for i, c := range w.clients {
		if err := c.Loop.Call(func() { m.threads[i] = readThread(c.Loop) }); err != nil {
			return m, fmt.Errorf("bench: client loop %s: %w", c.Loop.Name(), err)
		}
	}
	m.process = ProcessUsage()
	m.host, m.hostErr = ReadHostTimes()
	m.runtime = readRuntime()
	return m, nil
}

// fillCosts computes the costs of the window from the counters at its ends.
func (w *running) fillCosts(before, after counters) {
	r := w.res
	spent := make([]threadCounters, len(after.threads))
	for i, a := range after.threads {
		spent[i] = a.since(before.threads[i])
	}
	r.addThreads(spent)
	r.Process = after.process.Sub(before.process)
	r.Go = after.runtime.since(before.runtime)
	r.Host = hostDelta(before.host, after.host, errors.Join(before.hostErr, after.hostErr))
}

// leave waits for requests in flight and removes the generators from their loops. Unless stop is set, an open loop's waiting
// arrivals are sent first, for at most DrainMax. Then submission ends. Requests in flight have DrainMax to complete, unless none has
// completed in the meantime. The others are abandoned: their handler keeps the buffers.
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

// halt ends submission. Unless the load hangs, it waits for requests in flight, for at most DrainMax.
func (w *running) halt(ctx context.Context, hung bool) error {
	for i, g := range w.gens[:w.added] {
		if w.clients[i].Loop.Call(g.stop) != nil { // this loop has ended; the requests of the others are abandoned
			return errEnded(w.clients[i].Loop)
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
		if w.clients[i].Loop.Call(func() { abandon(); g.recordEnd() }) != nil {
			abandon() // the loop has ended
		}
	}
	if unanswered == 0 {
		return nil
	}
	return fmt.Errorf("bench: %d requests had no answer at the end of the drain (%v): %w", unanswered, w.spec.DrainMax, ErrStuck)
}

// remove removes the generators from their loops. Their requests are answered or abandoned.
func (w *running) remove() {
	for i, g := range w.gens[:w.added] {
		w.clients[i].Loop.Remove(g)
	}
	for _, g := range w.gens[w.added:] {
		g.release()
	}
}

// answered returns the number of answered requests, by the loops' own counts.
func (w *running) answered() (n uint64) {
	for i, g := range w.gens[:w.added] {
		_ = w.clients[i].Loop.Call(func() { n += g.total })
	}
	return n
}

// await waits until every generator has reported: at most DrainMax, and not beyond ctx or the end of a
// client's loop.
func (w *running) await(ctx context.Context) (all bool, err error) {
	timer := time.NewTimer(w.spec.DrainMax)
	defer timer.Stop()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for w.reported < w.added {
		select {
		case <-w.drained:
			w.reported++
		case dead := <-w.died:
			err = dead // continue: its requests complete now
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
	case dead := <-w.died: // it died before the last generator reported
		err = dead
	default:
	}
	return true, err
}

// collect merges the generators' records, after they were removed from their loops.
func (w *running) collect() {
	rec := w.gens[0].rec
	for _, g := range w.gens[1:] {
		rec.merge(g.rec)
	}
	w.res.fill(rec, w.mix, w.res.Duration)
	w.res.Interrupted = w.interrupted
	for _, g := range w.gens {
		if g.replay != nil && !g.replay.repeat {
			w.res.TraceLeft += g.replay.remaining()
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
			return errEnded(c.Loop)
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
