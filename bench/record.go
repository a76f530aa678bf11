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

	binsMax      = 120 // of the time series; with two digits, 48 KiB each and thread, touched only where it is used
	binsMin      = 12  // so that the window has thirds
	seriesDigits = 2
)

// statuses bounds the counters by status; unknown ones count as the last.
const statuses = int(kv.StatusReadOnly) + 2

func newHist() *hdrhistogram.Histogram { return hdrhistogram.New(1, histMax, histDigits) }

// record adds one duration in ns to a histogram of stages or of the time series.
func record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(min(max(ns, 0), histMax)) // cannot fail within the range
}

// recorder has what one thread records in the measured window. It allocates everything beforehand.
type recorder struct {
	counts
	lat    [Kinds]*durations  // 368 KiB each, touched only where it is used
	svc    *durations         // open loop: from the actual send
	lag    *durations         // open loop: from the intended start to the send
	late   *durations         // open loop: from the intended start of arrivals never sent to the end of the drain
	stages [Kinds]*StageTimes // nil: none are recorded

	series []*hdrhistogram.Histogram // none: the load is one in slices
	window time.Duration
	bin    int   // number of the bin that is being filled
	next   int64 // when it ends; 0: none is yet
}

// counts are the numbers of a recorder.
type counts struct {
	ops    [Kinds]uint64 // completed in the window
	errs   [statuses]uint64
	misses uint64

	expectedMisses uint64 // reads that found nothing, where the trace deletes the key or did not load it

	bytes uint64 // of values read and written, and of scans' answers

	scheduled   uint64 // open loop: arrivals in the window that were sent
	missed      uint64 // open loop: of these, those that waited because no slot was free
	unsent      uint64 // open loop: arrivals in the window that were never sent
	unanswered  uint64 // requests that were sent and had no answer at the end of the drain
	maxInFlight int

	verifyFailures uint64 // counted in warm-up and drain, too
	firstFailure   string
}

// add sums the counts of two threads.
func (c *counts) add(o *counts) {
	for k, n := range o.ops {
		c.ops[k] += n
	}
	for i, n := range o.errs {
		c.errs[i] += n
	}
	c.misses += o.misses
	c.expectedMisses += o.expectedMisses
	c.bytes += o.bytes
	c.scheduled += o.scheduled
	c.missed += o.missed
	c.unsent += o.unsent
	c.unanswered += o.unanswered
	c.maxInFlight += o.maxInFlight
	c.verifyFailures += o.verifyFailures
	if c.firstFailure == "" {
		c.firstFailure = o.firstFailure
	}
}

// newRecorder makes what a thread needs, with a time series of so many bins.
func newRecorder(s Spec, bins int) *recorder {
	r := &recorder{window: s.Duration}
	for k := range r.lat {
		r.lat[k] = newDurations()
	}
	if s.Loop == Open {
		r.svc, r.lag, r.late = newDurations(), newDurations(), newDurations()
	}
	for k := range r.stages {
		if s.Stages > 0 {
			r.stages[k] = newStageTimes()
		}
	}
	r.series = make([]*hdrhistogram.Histogram, bins)
	for i := range r.series {
		r.series[i] = hdrhistogram.New(1, histMax, seriesDigits)
	}
	return r
}

// seriesBins is the number of bins of a window's time series: one a second, more for short windows, one in several
// seconds for long ones.
func seriesBins(window time.Duration) int {
	each := max(time.Second, (window/binsMax + time.Second - 1).Truncate(time.Second))
	n := (window + each - 1) / each
	return int(max(1, min(max(n, binsMin), window)))
}

// binBegin is when bin i of n begins, since the window's begin. All bins have the same length but for the last
// nanosecond, and together they are the window exactly: bin n would begin at its end.
func binBegin(window time.Duration, i, n int) time.Duration {
	return time.Duration(int64(window)/int64(n)*int64(i)) + time.Duration(int64(window)%int64(n)*int64(i)/int64(n))
}

// addToSeries adds a completion at now to the time series of a window that began at start.
func (r *recorder) addToSeries(start, now, ns int64) {
	if len(r.series) == 0 {
		return
	}
	if r.next == 0 {
		r.next = start + int64(binBegin(r.window, 1, len(r.series)))
	}
	for now >= r.next && r.bin < len(r.series)-1 {
		r.bin++
		r.next = start + int64(binBegin(r.window, r.bin+1, len(r.series)))
	}
	record(r.series[r.bin], ns)
}

// merge adds another thread's counts to r's.
func (r *recorder) merge(o *recorder) {
	r.counts.add(&o.counts)
	r.mergeDurations(o)
	for k := range r.stages {
		if r.stages[k] != nil {
			r.stages[k].merge(o.stages[k])
		}
	}
	for i := range r.series {
		r.series[i].Merge(o.series[i])
	}
}

// mergeDurations adds another recorder's latencies to r's.
func (r *recorder) mergeDurations(o *recorder) {
	for k := range r.lat {
		r.lat[k].merge(o.lat[k])
	}
	if r.svc != nil {
		r.svc.merge(o.svc)
		r.lag.merge(o.lag)
		r.late.merge(o.late)
	}
}

// reset sets counts and latencies to 0, for the next slice. It keeps stages.
func (r *recorder) reset() {
	r.counts = counts{}
	for _, d := range r.lat {
		d.reset()
	}
	r.svc.reset()
	r.lag.reset()
	r.late.reset()
}
