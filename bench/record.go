package bench

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/kv"
)

// Latencies are recorded from 1 ns to 208 days with three digits. No run takes longer (Spec.Check), so no latency is cut short.
const (
	histMax    = int64(1) << 54
	histDigits = 3

	maxIntervals = 120 // of the time series; with two digits, 48 KiB each and thread, touched only where it is used
	minIntervals = 12  // so that thirds can be told apart
	seriesDigits = 2
)

// statuses bounds the counters by status; what a handler invents beyond counts as the last.
const statuses = int(kv.StatusReadOnly) + 2

func newHist() *hdrhistogram.Histogram { return hdrhistogram.New(1, histMax, histDigits) }

// record adds one duration in ns.
func record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(min(max(ns, 0), histMax)) // cannot fail within the range
}

// recorder is what one thread writes down during the measured window. Everything is made before it.
type recorder struct {
	lat    [Kinds]*hdrhistogram.Histogram // 370 KiB each, touched only where it is used
	svc    *hdrhistogram.Histogram        // open loop: from the actual send
	lag    *hdrhistogram.Histogram        // open loop: from the intended start to the send
	late   *hdrhistogram.Histogram        // open loop: from the intended start of arrivals never sent to the end of the drain
	ops    [Kinds]uint64                  // completed in the window
	errs   [statuses]uint64
	misses uint64
	stages [Kinds]*StageTimes // nil: none are taken down
	bytes  uint64             // of values read and written, and of scans' answers

	scheduled   uint64 // open loop: arrivals in the window that were sent
	missed      uint64 // open loop: of these, those that waited because no slot was free
	unsent      uint64 // open loop: arrivals in the window that were never sent
	unanswered  uint64 // requests that were sent and had no answer at the end of the drain
	maxInFlight int

	series []*hdrhistogram.Histogram
	window time.Duration
	at     int   // interval that is being written
	next   int64 // when it ends; 0: none is yet
}

func newRecorder(s Spec) *recorder {
	r := &recorder{window: s.Duration}
	for k := range r.lat {
		r.lat[k] = newHist()
	}
	if s.Loop == Open {
		r.svc, r.lag, r.late = newHist(), newHist(), newHist()
	}
	for k := range r.stages {
		if s.Stages > 0 {
			r.stages[k] = newStageTimes()
		}
	}
	r.series = make([]*hdrhistogram.Histogram, seriesIntervals(s.Duration))
	for i := range r.series {
		r.series[i] = hdrhistogram.New(1, histMax, seriesDigits)
	}
	return r
}

// seriesIntervals is the number of intervals of a window's time series: one a second, more for short windows, one in several
// seconds for long ones.
func seriesIntervals(window time.Duration) int {
	each := max(time.Second, (window/maxIntervals + time.Second - 1).Truncate(time.Second))
	n := (window + each - 1) / each
	return int(max(1, min(max(n, minIntervals), window)))
}

// seriesBegin is when interval i of n begins, since the window's begin. All intervals are of the same length but for the last
// nanosecond, and together they are the window exactly: interval n would begin at its end.
func seriesBegin(window time.Duration, i, n int) time.Duration {
	return time.Duration(int64(window)/int64(n)*int64(i)) + time.Duration(int64(window)%int64(n)*int64(i)/int64(n))
}

// point adds a completion at now to the time series of a window that began at start.
func (r *recorder) point(start, now, ns int64) {
	if r.next == 0 {
		r.next = start + int64(seriesBegin(r.window, 1, len(r.series)))
	}
	for now >= r.next && r.at < len(r.series)-1 {
		r.at++
		r.next = start + int64(seriesBegin(r.window, r.at+1, len(r.series)))
	}
	record(r.series[r.at], ns)
}

// merge adds another thread's counts to r's.
func (r *recorder) merge(o *recorder) {
	for k := range r.lat {
		merge(&r.lat[k], o.lat[k])
		r.ops[k] += o.ops[k]
		if r.stages[k] != nil {
			r.stages[k].merge(o.stages[k])
		}
	}
	merge(&r.svc, o.svc)
	merge(&r.lag, o.lag)
	merge(&r.late, o.late)
	for i := range r.errs {
		r.errs[i] += o.errs[i]
	}
	r.misses += o.misses
	r.bytes += o.bytes
	r.scheduled += o.scheduled
	r.missed += o.missed
	r.unsent += o.unsent
	r.unanswered += o.unanswered
	r.maxInFlight += o.maxInFlight
	for i := range r.series {
		r.series[i].Merge(o.series[i])
	}
}
