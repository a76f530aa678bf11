package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
)

// Slices is a load in slices: short runs on generators that stay on their loops. Between two slices no request is in flight and none is
// submitted. Keys, versions of values and random numbers continue from slice to slice. So do the arrivals of an open loop: for them no time
// passes between two slices. Slices belongs to one goroutine, which must not be a loop's.
type Slices struct {
	// Latencies makes each Slice carry its latencies (Slice.Counts), for TogetherSlices. It may be changed before each slice.
	Latencies bool

	w       *running
	lat     *durations    // latencies of one slice, of all kinds of operations; empty between slices
	err     error         // not nil: no slice may follow
	removed chan struct{} // closed when the generators are off their loops; nil before Close

	all struct { // over all slices
		n              int
		interrupted    bool
		first          time.Time // start of the first slice
		began          int64     // the same, by loop.Nanos
		settle, window time.Duration
		asked          time.Duration // sum of the requested windows
		allOps         uint64
		rec            *recorder
		spent          []threadCounters // of each thread
		series         []Bin            // one bin for each slice
		whole          []uint64         // operations of each slice that was not cut short
	}
	totals []uint64 // operations of each thread up to the end of the last slice
}

// Slice is the result of one slice. Operations count as in a Result, with the slice's window.
type Slice struct {
	Began       time.Time     `json:"began"`
	Settle      time.Duration `json:"settle_ns"` // actual time under load before the window; its operations are only in AllOps
	Window      time.Duration `json:"window_ns"` // actual length
	Drain       time.Duration `json:"drain_ns"`  // from the window's end until nothing was in flight
	Length      time.Duration `json:"length_ns"` // settle, window and drain
	Late        time.Duration `json:"late_ns"`   // from the slice's start until the last loop began its load; if above Settle, a part of the window has too little load
	Interrupted bool          `json:"interrupted,omitempty"`

	Ops            uint64 `json:"ops"`     // completed in the window: OK or not found
	AllOps         uint64 `json:"all_ops"` // completed in settle, window and drain
	Bytes          uint64 `json:"bytes"`   // of values read and written in the window
	Misses         uint64 `json:"misses"`
	Errors         uint64 `json:"errors"`
	VerifyFailures uint64 `json:"verify_failures"` // in settle and drain, too
	FirstFailure   string `json:"first_failure,omitempty"`

	Scheduled   uint64 `json:"scheduled"` // open loop; this and the next two as in Result
	MissedSends uint64 `json:"missed_sends"`
	Unsent      uint64 `json:"unsent"`
	Unanswered  uint64 `json:"unanswered"`
	MaxInFlight int    `json:"max_in_flight"`

	P50 int64  `json:"p50_ns"` // percentiles of the latencies; 0: there are none, or they are not known
	P90 int64  `json:"p90_ns"`
	P99 int64  `json:"p99_ns"`
	N   uint64 `json:"n"` // number of latencies in the percentiles; of a closed loop also of requests in flight at the window's end

	ClientLoops transport.LoopCounters `json:"client_loops"` // from the slice's start until nothing was in flight, of all threads together
	Threads     Usage                  `json:"threads"`      // likewise

	Counts []byte `json:"counts,omitempty"` // the latencies, if Slices.Latencies is set: see durations.encode
}

var (
	errSlicesClosed = errors.New("bench: the slices are closed")
	errSliceTrace   = errors.New("bench: a trace is replayed in one piece, not in slices")
)

// OpenSlices makes the generators with all that they need and adds them to their loops. It issues no requests. Of the spec, Duration and Warmup are
// not used: each slice has its own. DrainMax bounds the drain of each slice. A spec with a trace is refused.
//
// Loops that spin need GOMAXPROCS above their number, else some of them begin a slice late (Slice.Late).
//
// Slice calls the spec's OnWindow, if there is one, just before the load begins (true), and when nothing is in flight any more (false; not after an error). After the
// second call Slice merges and clears latencies, which takes CPU time but no loop. A caller that parks the loops and reads clocks
// in OnWindow excludes this time from its costs; a caller that does so around Slice includes it.
func OpenSlices(spec Spec, clients []Client) (*Slices, error) {
	w, err := newRunning(spec, clients)
	if err != nil {
		return nil, err
	}
	if w.spec.Trace != nil {
		return nil, errSliceTrace
	}
	err = w.make(0)
	for _, g := range w.gens {
		g.ends = new([2]threadCounters)
	}
	if err == nil {
		err = w.add(func(*generator) {})
	}
	if err != nil {
		w.remove()
		return nil, err
	}
	s := &Slices{w: w, lat: newDurations(), totals: make([]uint64, len(clients))}
	s.all.rec = newRecorder(w.spec, 0)
	s.all.spent = make([]threadCounters, len(clients))
	return s, nil
}

// Slice starts the load on all loops, waits for settle, counts for window, and returns when nothing is in flight. Start and end of the window are
// set before the load begins, and the generators stop at its end by themselves, so the window has its length however late this goroutine runs.
// Slice blocks for settle and window, and then for at most DrainMax if requests get no answers, or twice that if an open
// loop's arrivals still wait.
//
// When ctx ends, the slice ends early and is returned with Interrupted set and no error; slices may follow. If ctx has ended before, there
// is no load, and OnWindow is not called. With an error (ErrDead, ErrStuck, loop.ErrStopped) the slice has the results until then, and no
// slice may follow.
func (s *Slices) Slice(ctx context.Context, settle, window time.Duration) (Slice, error) {
	if s.err != nil {
		return Slice{}, fmt.Errorf("bench: no slice follows one that failed: %w", s.err)
	}
	if settle < 0 || window <= 0 || max(settle, window) > WindowMax || s.all.asked+window > WindowMax || s.all.settle+settle > WindowMax {
		return Slice{}, fmt.Errorf("bench: a slice with a window of %v after settle time of %v: the window must be above 0, and the sums over all slices at most %v", window, settle, WindowMax)
	}
	if ctx.Err() != nil {
		s.all.interrupted = true
		return Slice{Began: time.Now(), Interrupted: true}, nil
	}
	onWindow := s.w.spec.OnWindow
	if onWindow != nil {
		onWindow(true)
	}
	t := times{wall: time.Now(), begin: loop.Nanos()}
	t.start = t.begin + int64(settle)
	t.end = t.start + int64(window)
	s.err = s.run(ctx, &t)
	if onWindow != nil && s.err == nil {
		onWindow(false)
	}
	s.all.asked += window
	v := s.collect(&t)
	if s.err == nil && !v.Interrupted {
		s.all.whole = append(s.all.whole, v.Ops)
	}
	return v, s.err
}

// times are the times of one slice, by loop.Nanos.
type times struct {
	wall       time.Time // of begin
	begin      int64
	start, end int64 // actual start and end of the window; start is MaxInt64 if it did not begin
	over       int64 // when nothing was in flight any more
}

// run is the part of a slice that needs the loops. When it returns, no request is in flight, or those that are have been abandoned.
func (s *Slices) run(ctx context.Context, t *times) error {
	w := s.w
	w.reported, w.interrupted = 0, false
	for _, g := range w.gens {
		*g.ends = [2]threadCounters{}
	}
	s.setWindow(t)
	err := s.begin(t.begin)
	if err == nil {
		err = w.wait(ctx, "slice", time.Duration(t.end-t.begin)+w.spec.DrainMax)
	}
	if err != nil || w.reported < w.added {
		err = errors.Join(err, s.endEarly(ctx, t, err == nil && !w.interrupted && w.spec.Loop == Closed))
	}
	t.over = t.end
	for _, g := range w.gens {
		t.over = max(t.over, g.ends[1].at)
	}
	if err == nil {
		err = w.endedLoop()
	}
	return err
}

// setWindow sets start and end of the window in all generators.
func (s *Slices) setWindow(t *times) {
	for _, g := range s.w.gens {
		g.end.Store(t.end)
		g.start.Store(t.start)
	}
}

// begin starts the load on all loops, without waiting for the start.
func (s *Slices) begin(now int64) error {
	for i, g := range s.w.gens {
		if l := s.w.clients[i].Loop; !l.Do(func() { g.beginSlice(now) }) {
			return errEnded(l)
		}
	}
	return nil
}

// endEarly ends a slice that did not end by itself: interrupted, by an error, or because its drain takes too long.
func (s *Slices) endEarly(ctx context.Context, t *times, hung bool) error {
	w := s.w
	if now := loop.Nanos(); now < t.end {
		if t.end = now; now < t.start {
			t.start = math.MaxInt64
		}
		s.setWindow(t)
	}
	err := w.halt(ctx, hung)
	for more := true; more; { // generators that drained meanwhile
		select {
		case <-w.drained:
			w.reported++
		default:
			more = false
		}
	}
	if w.reported < w.added {
		err = errors.Join(err, w.abandon())
	}
	return err
}

// collect makes the Slice from the generators' records, adds them to the sums over all slices, and clears them for the next slice.
func (s *Slices) collect(t *times) Slice {
	v := Slice{Began: t.wall, Interrupted: s.w.interrupted, Settle: time.Duration(min(t.start, t.end) - t.begin),
		Window: time.Duration(max(0, t.end-t.start)), Drain: time.Duration(t.over - t.end), Length: time.Duration(t.over - t.begin)}
	var c counts
	for i, g := range s.w.gens {
		c.add(&g.rec.counts)
		for _, d := range g.rec.lat {
			s.lat.merge(d)
		}
		s.lat.merge(g.rec.late)
		s.all.rec.mergeDurations(g.rec)
		g.rec.reset()
		v.AllOps += g.total - s.totals[i]
		s.totals[i] = g.total
		if m := g.ends; m[0].at != 0 && m[1].at != 0 { // else its loop has ended
			v.Late = max(v.Late, time.Duration(m[0].at-t.begin))
			spent := m[1].since(m[0])
			v.Threads.Add(spent.usage)
			v.ClientLoops.Add(spent.loop)
			s.all.spent[i].add(spent)
		}
	}
	v.fillCounts(&c)
	v.fillLatencies(s.lat, s.Latencies)
	s.lat.reset()
	s.add(t, &v, &c)
	return v
}

// fillCounts fills in the counts.
func (v *Slice) fillCounts(c *counts) {
	for _, n := range c.ops {
		v.Ops += n
	}
	for _, n := range c.errs {
		v.Errors += n
	}
	v.Bytes, v.Misses, v.VerifyFailures, v.FirstFailure = c.bytes, c.misses, c.verifyFailures, c.firstFailure
	v.Scheduled, v.MissedSends, v.Unsent, v.Unanswered, v.MaxInFlight = c.scheduled+c.unsent, c.missed, c.unsent, c.unanswered, c.maxInFlight
}

// fillLatencies fills in the percentiles.
func (v *Slice) fillLatencies(d *durations, carry bool) {
	var p [3]int64
	d.percentiles(p[:], 50, 90, 99)
	v.P50, v.P90, v.P99, v.N = p[0], p[1], p[2], d.total()
	if carry {
		v.Counts = d.encode()
	}
}

// add adds a slice to the sums over all slices.
func (s *Slices) add(t *times, v *Slice, c *counts) {
	most := max(s.all.rec.maxInFlight, c.maxInFlight)
	s.all.rec.counts.add(c)
	s.all.rec.maxInFlight = most
	if s.all.first.IsZero() {
		s.all.first, s.all.began = t.wall, t.begin
	}
	s.all.settle += v.Settle
	s.all.window += v.Window
	s.all.allOps += v.AllOps
	s.all.interrupted = s.all.interrupted || v.Interrupted
	s.all.n++
	if v.Window > 0 {
		s.all.series = append(s.all.series, Bin{Begin: time.Duration(t.start - s.all.began), Length: v.Window, Ops: v.Ops,
			P50: time.Duration(v.P50), P99: time.Duration(v.P99), N: v.N})
	}
}

// Result combines all slices as if their windows were one. CostOps are the operations of settle, window and drain, and Threads and
// ClientLoops are of that time. Series has a bin for each slice, with gaps between them. Encode leaves Series out, because percentiles of several
// hosts cannot be merged. Drift compares the first third of the slices that were not cut short with the last. Spec.Duration is the sum of the windows
// that were requested. The caller fills in Process, Host and Go, because it knows the time from resume to park.
func (s *Slices) Result() *Result {
	w := s.w
	r := &Result{Spec: w.spec, Started: s.all.first, Slices: s.all.n, Duration: s.all.window, Warmup: s.all.settle, Interrupted: s.all.interrupted,
		CostOps: s.all.allOps, ClientThreads: len(w.clients)}
	if s.all.asked > 0 {
		r.Spec.Duration = s.all.asked
	}
	all := *s.all.rec
	for k := range all.stages {
		if all.stages[k] == nil {
			continue
		}
		all.stages[k] = newStageTimes()
		for _, g := range w.gens {
			all.stages[k].merge(g.rec.stages[k])
		}
	}
	r.fill(&all, w.mix, s.all.window)
	r.addThreads(s.all.spent)
	r.Series = append(r.Series, s.all.series...)
	for i := range len(s.all.whole) / 3 {
		r.Drift.First += s.all.whole[i]
		r.Drift.Last += s.all.whole[len(s.all.whole)-1-i]
	}
	r.Drift.Known = r.Drift.First > 0
	return r
}

// Close removes the generators from their loops. It waits for the loops, which must not be parked, until ctx ends; then the removal goes on in a
// goroutine until the loops turn again or end. Buffers of requests without an answer stay with their handler, as after a Run.
// It may be called after any error, and more than once.
func (s *Slices) Close(ctx context.Context) error {
	if s.removed == nil {
		s.err = errors.Join(s.err, errSlicesClosed)
		s.removed = make(chan struct{})
		go func() { s.w.remove(); close(s.removed) }()
	}
	select {
	case <-s.removed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("bench: remove the generators from the client loops: %w", context.Cause(ctx))
	}
}

// TogetherSlices combines the slices of several processes that made one load at the same time, like Together: counts are added, and times are the longest.
// Percentiles are those of all latencies if every part carries its latencies (Slices.Latencies), else unknown (N is 0). There must be at least one part.
func TogetherSlices(parts []Slice) (Slice, error) {
	v, lat, carry := Slice{Began: parts[0].Began}, newDurations(), true
	for i := range parts {
		o := &parts[i]
		if o.Began.Before(v.Began) {
			v.Began = o.Began
		}
		v.Settle, v.Window, v.Drain, v.Length = max(v.Settle, o.Settle), max(v.Window, o.Window), max(v.Drain, o.Drain), max(v.Length, o.Length)
		v.Late = max(v.Late, o.Late)
		v.Interrupted = v.Interrupted || o.Interrupted
		v.addCounts(o)
		v.ClientLoops.Add(o.ClientLoops)
		v.Threads.Add(o.Threads)
		if err := lat.decode(o.Counts); err != nil {
			return Slice{}, err
		}
		carry = carry && (o.N == 0 || len(o.Counts) > 0)
	}
	v.FirstFailure = quote.Text(v.FirstFailure)
	if carry {
		v.fillLatencies(lat, true)
	}
	return v, nil
}

// addCounts adds the counts of one part, for TogetherSlices.
func (v *Slice) addCounts(o *Slice) {
	v.Ops += o.Ops
	v.AllOps += o.AllOps
	v.Bytes += o.Bytes
	v.Misses += o.Misses
	v.Errors += o.Errors
	v.VerifyFailures += o.VerifyFailures
	if v.FirstFailure == "" {
		v.FirstFailure = o.FirstFailure
	}
	v.Scheduled += o.Scheduled
	v.MissedSends += o.MissedSends
	v.Unsent += o.Unsent
	v.Unanswered += o.Unanswered
	v.MaxInFlight += o.MaxInFlight
}
