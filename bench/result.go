package bench

import (
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
)

// Result is the result of a run. Two rules define what counts:
//
// Operations, rates, bytes and the time series count what completed within the window. Latencies of a
// closed loop are of the same operations, and of the requests under way at the window's end; those of an
// open loop are of all arrivals whose intended start lies in the window. Both count requests that
// completed after the window, or the slowest would be left out; of a request without an answer, and of an
// arrival never sent, the latency is its age at the end of the drain, which is a lower bound.
// Errors and misses count from the window's begin to the end of the drain; wrong values, dead
// connections and requests without an answer always.
type Result struct {
	Spec        Spec // with defaults filled in
	Started     time.Time
	Duration    time.Duration // of the window as it was
	Warmup      time.Duration // likewise
	Interrupted bool          // ctx ended the run before its time

	Slices int // windows that Duration is the sum of; 0: it is one

	Ops    uint64         // answered: OK or not found
	Op     [Kinds]KindOps // of these, by kind
	Bytes  uint64         // of values read and written
	Misses uint64         // reads of records that were loaded and are not there

	// ExpectedMisses are the reads that found nothing, of keys that the trace deletes, or that were not there when it began.
	ExpectedMisses uint64

	// CostOps are the operations behind costs (CPU time, counters): of slices those from begin to drained. 0: Ops
	CostOps uint64

	Errors   uint64 // answered with another status
	ByStatus [statuses]uint64

	VerifyFailures uint64
	FirstFailure   string // a description; "": there was none

	// Histograms travel in an encoding of their own: see Encode.
	Lat *hdrhistogram.Histogram `json:"-"` // ns, all kinds, from the intended start
	Svc *hdrhistogram.Histogram `json:"-"` // ns, from the actual send; open loop, else nil
	Lag *hdrhistogram.Histogram `json:"-"` // ns, from the intended start to the send; open loop, else nil

	Scheduled   uint64 // open loop: arrivals of the window
	MissedSends uint64 // of these, those that had to wait because all slots were taken
	Unsent      uint64 // of these, those that were still waiting when the drain was over
	Unanswered  uint64 // requests that were sent and had no answer when the drain was over
	TraceLeft   uint64 // rows of the trace, not repeated, that were never sent
	MaxInFlight int    // most requests in flight at once; of several threads, the sum of each one's most

	Stages [Kinds]*StageTimes `json:"-"` // by kind; nil: none were watched

	Series []Bin                     `json:"-"`
	Drift  Drift                     // worked out from the series, or from slices
	bins   []*hdrhistogram.Histogram // behind Series, of Spec's window

	Threads       Usage                  // client threads alone
	Process       Usage                  // the whole process; with an in-process store that is the store, too
	CPURatio      float64                // CPU time of the busiest client thread, of the window
	BusyRatio     float64                // turns that found something, of the thread whose CPU ratio that is
	ClientLoops   transport.LoopCounters // client loops together
	ClientThreads int
	Host          Host
	Go            Runtime
}

// KindOps are the operations of one kind.
type KindOps struct {
	Ops uint64
	Lat *hdrhistogram.Histogram `json:"-"` // ns, from the intended start; nil when the mix has none
}

// Bin is one span of the time series.
type Bin struct {
	Begin    time.Duration // since the window's begin
	Length   time.Duration
	Ops      uint64
	P50, P99 time.Duration // with two digits; 0 when there were no operations
	N        uint64        // operations behind the percentiles
}

// Drift compares the first third of the window with the last.
type Drift struct {
	First, Last uint64 // operations
	Known       bool   // both thirds are whole and the first is not empty
}

// Ratio is the change from the first third to the last, of the first.
func (d Drift) Ratio() float64 {
	if !d.Known {
		return 0
	}
	return float64(d.Last)/float64(d.First) - 1
}

// Noise is three standard deviations of Ratio for a rate that does not change, with independent
// operations: a smaller drift has no meaning.
func (d Drift) Noise() float64 {
	if !d.Known || d.Last == 0 {
		return 0
	}
	return 3 * math.Sqrt(1/float64(d.First)+1/float64(d.Last))
}

// OpsPerS is the rate over the window, 0 without one.
func (r *Result) OpsPerS() float64 { return r.perS(r.Ops) }

// BytesPerS is the goodput over the window.
func (r *Result) BytesPerS() float64 { return r.perS(r.Bytes) }

func (r *Result) perS(n uint64) float64 {
	if r.Duration <= 0 {
		return 0
	}
	return float64(n) / r.Duration.Seconds()
}

// Achieved is completed operations of scheduled ones, open loop; ok is false otherwise.
func (r *Result) Achieved() (ratio float64, ok bool) {
	if r.Spec.Loop != Open || r.Scheduled == 0 {
		return 0, false
	}
	return float64(r.Ops) / float64(r.Scheduled), true
}

// Saturated reports whether the busiest client thread had no time left: it used more than 90 % of its
// CPU, and more than 90 % of its turns found something. A thread that sleeps has hardly any empty
// turn, so there the CPU decides; a thread that spins uses all its CPU, so there the turns do.
func (r *Result) Saturated() bool { return r.CPURatio > 0.9 && r.BusyRatio > 0.9 }

// Truncated returns the number of errors that are requests with a short transfer. They occur only with --uring-large once.
func (r *Result) Truncated() uint64 { return r.ByStatus[kv.StatusTruncated] }

// StatusErrors lists the errors by status, in words: "busy 12, io error 1"; "" without any.
func (r *Result) StatusErrors() string {
	s := ""
	for i, n := range r.ByStatus {
		if n == 0 {
			continue
		}
		if s != "" {
			s += ", "
		}
		s += fmt.Sprintf("%s %d", kv.Status(i), n)
	}
	return s
}

// addThreads adds the costs of each thread, over the time in its counters.
func (r *Result) addThreads(spent []threadCounters) {
	for _, t := range spent {
		r.Threads.Add(t.usage)
		r.ClientLoops.Add(t.loop)
		if ratio := float64(t.usage.CPU()) / float64(max(1, t.at)); ratio > r.CPURatio {
			r.CPURatio = ratio
			r.BusyRatio = 1 - float64(t.loop.EmptyTurns)/float64(max(1, t.loop.Turns))
		}
	}
}

// fill fills r in from the merged records.
func (r *Result) fill(rec *recorder, m Mix, window time.Duration) {
	r.Lat = newHist()
	for k := range rec.lat {
		if m.Share[k] == 0 && rec.ops[k] == 0 {
			continue
		}
		r.Op[k] = KindOps{Ops: rec.ops[k], Lat: rec.lat[k].hist()}
		r.Ops += rec.ops[k]
		rec.lat[k].addTo(r.Lat)
	}
	if rec.late != nil { // their kinds were not drawn
		rec.late.addTo(r.Lat)
	}
	for i, n := range rec.errs {
		r.Errors += n
		r.ByStatus[i] = n
	}
	r.Svc, r.Lag = rec.svc.hist(), rec.lag.hist()
	r.Misses, r.Bytes, r.Unanswered = rec.misses, rec.bytes, rec.unanswered
	r.ExpectedMisses = rec.expectedMisses
	r.Scheduled, r.MissedSends, r.Unsent = rec.scheduled+rec.unsent, rec.missed, rec.unsent
	r.MaxInFlight = rec.maxInFlight
	r.VerifyFailures, r.FirstFailure = rec.verifyFailures, rec.firstFailure
	for k, t := range rec.stages {
		if t != nil && t.N > 0 {
			r.Stages[k] = t
		}
	}
	r.bins = rec.series
	r.series(window)
}

// series fills in Series and Drift from the bins' histograms; without any, as of slices, Drift stays. The bins add up to the window. A bin that an early end
// has cut to less than half is merged with the one before it: a rate over so short a time has no meaning.
func (r *Result) series(window time.Duration) {
	if r.Series = nil; len(r.bins) == 0 {
		return
	}
	r.Drift = Drift{}
	n := seriesBins(r.Spec.Duration)
	whole := 0
	for i, h := range r.bins {
		begin, end := binBegin(r.Spec.Duration, i, n), binBegin(r.Spec.Duration, i+1, n)
		if begin >= window {
			break
		}
		if i > 0 && window-begin < (end-begin)/2 {
			last := r.bins[i-1].Clone()
			last.Merge(h)
			begin = r.Series[i-1].Begin
			r.Series[i-1] = newBin(begin, window-begin, last)
			break
		}
		if end <= window {
			whole++
		}
		r.Series = append(r.Series, newBin(begin, min(end, window)-begin, h))
	}
	third := whole / 3
	if third == 0 {
		return
	}
	for i := range third {
		r.Drift.First += r.Series[i].Ops
		r.Drift.Last += r.Series[whole-1-i].Ops
	}
	r.Drift.Known = r.Drift.First > 0
}

// newBin returns a bin with the latencies in h.
func newBin(begin, length time.Duration, h *hdrhistogram.Histogram) Bin {
	n := uint64(h.TotalCount())
	v := Bin{Begin: begin, Length: length, Ops: n, N: n}
	if n > 0 {
		v.P50, v.P99 = time.Duration(h.ValueAtQuantile(50)), time.Duration(h.ValueAtQuantile(99))
	}
	return v
}
