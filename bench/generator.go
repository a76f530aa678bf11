package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// generator is one client thread's share of the load, a member of that thread's loop. It submits to
// the handler in the turn (from Poll and Complete), never in reaction to its own submission.
//
// Closed loop: each slot is submitted again when it completes, until the window's end. Open loop:
// Poll submits what is due; when no slot is free, arrivals wait, in order, for the next completion,
// and their latency counts from when they were due. After the window's end, arrivals of the window
// that still wait are sent as slots come free (until stop).
//
// A load in slices begins again and again: keys, versions and random numbers go on, and so do the arrivals,
// for which no time passes between two slices.
//
// An op costs the generator two reads of the clock (44 ns each): completion and next send.
type generator struct {
	l           *loop.Loop
	h           kv.Handler
	spec        Spec
	slots       slots
	keys        chooser
	rng         *rand.Rand // kinds and scan lengths
	kinds       [Kinds]float64
	due         arrivals
	replay      *replay // nil: no trace
	sizes       *sizes
	version     uint64 // thread in the upper 16 bits, counted up with every value written
	seed        uint32
	rec         *recorder
	stageSample *rand.Rand // chooses the requests whose stages are recorded; nil: none
	checkSample *rand.Rand // chooses the answers that are checked, one in spec.VerifyOneIn; nil: each, or none

	start atomic.Int64 // written by Run or Slice, read each completion: the window's begin; MaxInt64 before it is known
	end   atomic.Int64 // the window's end; written by Run or Slice, or by the loop that counts the quota's last operation
	quota *quota       // written by Run before start is known; nil: the window ends at its time

	stopped   bool        // nothing more is submitted: also before the load begins
	reported  bool        // drained was sent to
	abandoned bool        // the drain is over: later completions are not recorded
	closing   atomic.Bool // set by the loop when it begins to close the generator; read by Slice
	ended     int64       // open loop: the end of the last slice's window

	ends *[2]threadCounters // at the slice's start, and when its last request has completed; nil: no load in slices

	drained chan<- struct{} // one send, when the window is over and no request is in flight or waiting
	died    chan<- error

	total     uint64
	published int64
	done      atomic.Uint64 // total, as of the loop's last update; read by Run for progress
}

var _ loop.Member = (*generator)(nil)
var _ kv.Completer = (*generator)(nil)

// newGenerator makes the generator of one of all threads, with a time series of so many bins. Its load has not begun.
func newGenerator(s Spec, m Mix, c Client, thread, threads, bins int) (*generator, error) {
	g := &generator{stopped: true, l: c.Loop, h: c.Handler, spec: s, kinds: m.thresholds(),
		keys:  newChooser(s, thread, threads, m.Share[Insert] > 0),
		rng:   rand.New(rand.NewPCG(^s.Seed, uint64(thread))),
		sizes: newSizes(s), seed: uint32(s.Seed), version: uint64(thread+1) << 48, rec: newRecorder(s, bins)}
	if s.Stages > 0 {
		g.stageSample = rand.New(rand.NewPCG(s.Seed, ^uint64(thread)))
	}
	if s.VerifyOneIn > 1 {
		g.checkSample = rand.New(rand.NewPCG(^s.Seed, ^uint64(thread)))
	}
	g.start.Store(math.MaxInt64)
	g.end.Store(math.MaxInt64)
	g.replay = newReplay(s, thread, threads)
	g.keys.replay = g.replay
	if s.Loop == Open && g.replay == nil {
		g.due = newArrivals(s, thread, threads, 0)
	}
	var err error
	g.slots, err = newSlots(c.InFlight, s.KeyBytes, s.room(m), g)
	return g, err
}

// begin starts the load, or a slice of it, at now. Only its loop may call it.
func (g *generator) begin(now int64) {
	g.stopped, g.reported = false, false
	if g.replay.over() { // all records are other threads'
		g.reportDrained(now)
	}
	if g.spec.Loop == Open {
		if g.replay != nil {
			g.due = newTraceArrivals(g.replay, now)
		} else {
			g.due.shift(now - g.ended)
		}
		// A failure is not hidden: the send lag shows what the timer's slack of 50 µs costs.
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
		return
	}
	for len(g.slots.free) > 0 && !g.replay.over() {
		g.issue(0)
	}
}

// beginSlice is begin for a slice. A loop that starts late has less time, or none. A loop that has closed the generator has no load.
func (g *generator) beginSlice(begin int64) {
	g.ends[0] = readThread(g.l)
	if now := loop.Nanos(); g.closing.Load() || g.spec.Loop == Closed && now >= g.end.Load() {
		g.stopped, g.reported = true, false
		g.reportDrained(now)
		return
	}
	g.begin(begin)
}

// issue submits the next operation in a free slot. intended is 0 in a closed loop: now.
func (g *generator) issue(intended int64) {
	s := g.slots.alloc()
	g.rec.maxInFlight = max(g.rec.maxInFlight, g.slots.inFlight())
	r := &s.req
	if g.replay != nil {
		s.kind = g.replay.advance()
	} else {
		s.kind = pick(&g.kinds, g.rng.Float64())
	}
	s.second = false
	switch s.kind {
	case Get, RMW:
		s.id = g.keys.read()
		r.Op, r.Value = kv.OpGet, s.buf[:0:g.sizes.room(s.id)]
	case Put:
		s.id = g.keys.read()
		g.write(s)
	case Insert:
		var ok bool
		if s.id, ok = g.keys.insert(); !ok { // insertWindow inserts wait for one: overwrite instead
			s.kind, s.id = Put, g.keys.read()
		}
		g.write(s)
	case Delete:
		s.id = g.keys.read()
		r.Op, r.Value = kv.OpDelete, nil
	case Scan:
		s.id = g.keys.read()
		r.Op, r.Value, r.Limit = kv.OpScan, s.buf[:0], 1+g.rng.Uint32N(uint32(g.spec.ScanItems))
	}
	putKey(s.key, s.id)
	r.Key, r.Status, r.Need = s.key, kv.StatusOK, 0
	s.sent = loop.Nanos()
	s.intended = intended
	if intended == 0 {
		s.intended = s.sent
	}
	r.Stages = nil
	if g.stageSample != nil && g.stageSample.IntN(g.spec.Stages) == 0 {
		r.Stages = &s.stages
		s.stages.Start(s.intended)
	}
	g.h.Submit(r)
}

// write makes s a put of a new version.
func (g *generator) write(s *slot) {
	g.version++
	version, bytes := g.version, g.sizes.of(s.id)
	if g.replay != nil {
		version, bytes = g.replay.written()
	}
	s.req.Op, s.req.Value = kv.OpPut, s.buf[:bytes]
	if g.spec.Verify {
		fillValue(s.req.Value, s.id, version, g.seed)
	}
}

// Complete implements kv.Completer. It records the request and starts the next one.
func (g *generator) Complete(r *kv.Request) {
	now := loop.Nanos() // not the turn's time: a turn may deliver hundreds
	s := &g.slots.slot[r.Slot]
	if r.Stages != nil {
		r.Stages.Mark(kv.StageNotifyClient, now)
	}
	if g.abandoned {
		g.slots.release(s)
		g.release()
		return
	}
	if !g.finish(s, now) {
		return
	}
	full := len(g.slots.free) == 0
	g.slots.release(s)
	switch {
	case g.stopped:
	case g.spec.Loop == Closed:
		if now < g.end.Load() && !g.replay.over() {
			g.issue(0)
		}
	case g.due.next <= now && g.due.next < g.end.Load():
		g.send(full)
	}
	if g.slots.inFlight() == 0 {
		g.reportDrained(now)
	}
}

// finish records the outcome of s. It reports false if s continues with the second half of an rmw.
func (g *generator) finish(s *slot, now int64) bool {
	start := g.start.Load()
	r := &s.req
	var n uint64 // bytes of values moved
	switch {
	case r.Status == kv.StatusOK:
		n = valueBytes(r)
		if r.Op != kv.OpPut && r.Op != kv.OpDelete && g.checksNext() {
			g.verify(s, now >= start)
		}
		if s.kind == RMW && !s.second && !g.stopped {
			s.second = true
			if now >= start {
				g.rec.bytes += n
			}
			g.write(s)
			r.Status, r.Need = kv.StatusOK, 0
			g.h.Submit(r)
			return false
		}
		if s.kind == RMW && !s.second {
			return true // stopped halfway: not an operation
		}
	case r.Status == kv.StatusNotFound && r.Op != kv.OpPut:
		if now >= start && r.Op != kv.OpDelete {
			if g.replay != nil && g.replay.trace.missing[s.id] {
				g.rec.expectedMisses++
			} else {
				g.rec.misses++
			}
		}
	default:
		g.countError(r.Status, now >= start)
		g.ackInsert(s)
		if now >= start {
			g.inWindow(now)
		}
		return true
	}
	g.ackInsert(s)
	g.total++
	if now < start {
		return true
	}
	ns := now - s.intended
	if g.inWindow(now) {
		g.rec.ops[s.kind]++
		g.rec.bytes += n
		g.rec.addToSeries(start, now, ns)
	}
	// A closed loop's request that completes in the drain was in flight at the window's end.
	if s.intended < g.end.Load() && (g.spec.Loop == Closed || s.intended >= start) {
		g.recordLatency(s, now)
	}
	if s.req.Stages != nil && s.intended >= start && s.intended < g.end.Load() {
		g.rec.stages[s.kind].add(&s.stages)
	}
	return true
}

// inWindow reports whether an answer at now, after the window's begin, lies in the window. It is called once for each answer.
func (g *generator) inWindow(now int64) bool {
	return now < g.end.Load() && (g.quota == nil || g.quota.count(now))
}

// recordLatency records the time from the start of s until now.
func (g *generator) recordLatency(s *slot, now int64) {
	g.rec.lat[s.kind].record(now - s.intended)
	if g.spec.Loop == Open {
		g.rec.svc.record(now - s.sent)
		g.rec.lag.record(s.sent - s.intended)
	}
}

// abandon ends the drain: requests without an answer count, and their ages are lower bounds of their latencies. A window that has not
// started has no latencies. Only its loop may call it, or anyone after the loop's end.
func (g *generator) abandon(now int64) (unanswered int) {
	g.stopped, g.abandoned = true, true
	unanswered = g.slots.inFlight()
	g.rec.unanswered += uint64(unanswered)
	if unanswered == 0 || g.start.Load() == math.MaxInt64 {
		return unanswered
	}
	for i := range g.slots.slot {
		if s := &g.slots.slot[i]; s.inFlight {
			g.recordLatency(s, now)
		}
	}
	return unanswered
}

// valueBytes returns the bytes of values in a completed request; for a scan, those in its items.
func valueBytes(r *kv.Request) (n uint64) {
	if r.Op != kv.OpScan {
		return uint64(len(r.Value))
	}
	for b := r.Value; ; {
		_, value, rest, ok := kv.NextItem(b)
		if !ok {
			return n
		}
		n, b = n+uint64(len(value)), rest
	}
}

func (g *generator) ackInsert(s *slot) {
	if s.kind == Insert {
		g.keys.ack(s.id)
	}
}

// countError counts an error. A dead connection ends the load of this thread, with an error in died.
func (g *generator) countError(status kv.Status, inWindow bool) {
	dead := status == kv.StatusClosed || status == kv.StatusUnknown
	if inWindow || dead {
		g.rec.errs[min(int(status), statuses-1)]++
	}
	if !dead {
		return
	}
	g.stopped = true
	select {
	case g.died <- deadError("a request", g.h, status):
	default: // died already has an error
	}
}

// checksNext reports whether the next answer is checked.
func (g *generator) checksNext() bool {
	return g.spec.Checks() && (g.checkSample == nil || g.checkSample.Uint32N(uint32(g.spec.VerifyOneIn)) == 0)
}

// verify checks what a get or scan returned.
func (g *generator) verify(s *slot, inWindow bool) {
	var f fault
	missing := uint64(0)
	if s.kind == Scan {
		f, missing = checkScan(s.req.Value, s.id, s.req.Limit, s.req.More, &g.spec, g.sizes)
	} else if g.replay != nil {
		f = g.replay.trace.check(s.req.Value, s.id)
	} else {
		f = checkValue(s.req.Value, s.id, g.sizes.of(s.id))
	}
	if inWindow {
		g.rec.misses += missing
	}
	if f == faultNone {
		return
	}
	if g.rec.verifyFailures++; g.rec.verifyFailures == 1 {
		g.rec.firstFailure = describe(f, s.kind, s.id, s.req.Value)
	}
}

// checkScan checks an answer's items, their order and their number. Loaded records (below
// Records) that are left out count as missing; inserted ones may or may not be there.
func checkScan(b []byte, first uint64, limit uint32, more bool, spec *Spec, z *sizes) (f fault, missing uint64) {
	next := first // the least record that may come
	items := uint32(0)
	for len(b) > 0 {
		key, value, rest, ok := kv.NextItem(b)
		if !ok {
			return faultForm, missing
		}
		id, ok := keyID(key, spec.KeyBytes)
		switch {
		case !ok:
			return faultKey, missing
		case id < next:
			return faultOrder, missing
		case items == limit:
			return faultItems, missing
		}
		if f := checkValue(value, id, z.of(id)); f != faultNone {
			return f, missing
		}
		if next < spec.Records {
			missing += min(id, spec.Records) - next
		}
		next, items, b = id+1, items+1, rest
	}
	if items < limit && !more && next < spec.Records {
		missing += min(spec.Records-next, uint64(limit-items))
	}
	return faultNone, missing
}

// send submits the arrival that is due. waited: no slot was free at its time.
func (g *generator) send(waited bool) {
	at := g.due.next
	if at >= g.start.Load() {
		g.rec.scheduled++
		if waited {
			g.rec.missed++
		}
	}
	g.due.advance()
	g.issue(at)
}

// reportDrained sends to drained, once, when the window or the trace is over and no request is in flight or waiting.
func (g *generator) reportDrained(now int64) {
	over := g.stopped || g.replay.over()
	if g.reported || g.slots.inFlight() > 0 || !over && now < g.end.Load() {
		return
	}
	if g.spec.Loop == Open && !over && g.due.next < g.end.Load() {
		return
	}
	g.reported = true
	g.stopped = true
	g.ended = g.end.Load()
	if g.ends != nil {
		g.ends[1] = readThread(g.l)
	}
	g.drained <- struct{}{} // room for one of each thread
}

// recordEnd reads the thread's counters at the end of a slice whose requests did not all complete. Only its loop may call it.
func (g *generator) recordEnd() {
	if g.ends != nil && g.ends[1].at == 0 {
		g.ends[1] = readThread(g.l)
	}
}

// stop ends submission and counts the arrivals of the window that were never sent, with their age. Only its loop may call it.
func (g *generator) stop() {
	g.stopped = true
	now := loop.Nanos()
	if start, end := g.start.Load(), g.end.Load(); g.spec.Loop == Open && end != math.MaxInt64 {
		for ; g.due.next < end; g.due.advance() {
			if g.due.next >= start {
				g.rec.unsent++
				g.rec.late.record(now - g.due.next)
				g.rec.lag.record(now - g.due.next)
			}
		}
	}
	g.reportDrained(now)
}

// OnEvent is never called: a generator has neither ring entries nor descriptors.
func (g *generator) OnEvent(uint64, int32, uint32) {}

// Poll submits the arrivals that are due.
func (g *generator) Poll() int {
	if g.spec.Loop == Closed || g.stopped {
		return 0
	}
	n := 0
	now := loop.Nanos()
	for g.due.next <= now && len(g.slots.free) > 0 && g.due.next < g.end.Load() {
		g.send(false)
		n++
		now = loop.Nanos()
	}
	if n == 0 && now >= g.end.Load() {
		g.reportDrained(now)
	}
	return n
}

// publishEvery spaces the updates of the counter that progress reads.
const publishEvery = int64(50 * time.Millisecond)

// Stage has the loop sleep until shortly before the next arrival, and then poll.
func (g *generator) Stage() error {
	if now := g.l.Now(); now-g.published > publishEvery {
		g.published = now
		g.done.Store(g.total)
	}
	if g.spec.Loop == Closed || g.stopped || len(g.slots.free) == 0 {
		return nil
	}
	now, at, end := loop.Nanos(), g.due.next, g.end.Load()
	if at >= end { // all arrivals of the window were sent
		if now < end {
			g.l.WakeAt(end)
		} else if g.slots.inFlight() == 0 { // then Poll reports it, which last ran before the end
			g.l.Again()
		}
		return nil
	}
	if at -= max(0, int64(g.spec.PaceSpin)); at <= now {
		g.l.Again()
	} else {
		g.l.WakeAt(at)
	}
	return nil
}

// Close ends submission, waits for requests in flight, and frees the buffers. If Run has abandoned requests, the buffers stay
// allocated until the handler completes the last one.
func (g *generator) Close() bool {
	g.stopped = true
	g.closing.Store(true)
	g.reportDrained(loop.Nanos()) // the loop may close the generator before Run ends
	if g.slots.inFlight() > 0 && !g.abandoned {
		return false
	}
	if g.spec.Loop == Open {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // back to the thread's default
	}
	g.release()
	return true
}

// release frees the buffers if no request is in flight.
func (g *generator) release() {
	if g.slots.inFlight() == 0 && g.slots.mem != nil {
		_ = g.slots.mem.Close()
		g.slots.mem = nil
	}
}

// deadError is the error for a request that ended without an answer. It wraps the connection's error, if the handler is one. Only the handler's loop may call it.
func deadError(what string, h kv.Handler, s kv.Status) error {
	err := fmt.Errorf("bench: %s ended as %q: %w", what, s, ErrDead)
	if c, ok := h.(interface{ Err() error }); ok && c.Err() != nil {
		return fmt.Errorf("%w: %w", err, c.Err())
	}
	return err
}
