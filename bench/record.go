package bench

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/kv"
)

// Latencies are recorded from 1 ns to 60 s with three digits; what is longer counts as 60 s.
const (
	histMax    = int64(60 * time.Second)
	histDigits = 3

	maxIntervals = 120 // of the time series; with two digits, 30 KiB each and thread
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
	lat    [Kinds]*hdrhistogram.Histogram // 221 KiB each, touched only where it is used
	svc    *hdrhistogram.Histogram        // open loop: from the actual send
	lag    *hdrhistogram.Histogram        // open loop: from the intended start to the send
	ops    [Kinds]uint64                  // completed in the window
	errs   [statuses]uint64
	misses uint64
	stages [Kinds]*StageTimes // nil: none are taken down
	bytes  uint64             // of values read and written, and of scans' answers

	scheduled   uint64 // open loop: arrivals in the window that were sent
	missed      uint64 // open loop: of these, those that waited because no slot was free
	unsent      uint64 // open loop: arrivals in the window that were never sent
	maxInFlight int

	series   []*hdrhistogram.Histogram
	interval int64 // ns
	at       int   // interval that is being written
	next     int64 // when it ends
}

func newRecorder(s Spec) *recorder {
	r := &recorder{interval: seriesInterval(s.Duration)}
	for k := range r.lat {
		r.lat[k] = newHist()
	}
	if s.Loop == Open {
		r.svc, r.lag = newHist(), newHist()
	}
	for k := range r.stages {
		if s.Stages > 0 {
			r.stages[k] = newStageTimes()
		}
	}
	r.series = make([]*hdrhistogram.Histogram, int((int64(s.Duration)+r.interval-1)/r.interval))
	for i := range r.series {
		r.series[i] = hdrhistogram.New(1, histMax, seriesDigits)
	}
	return r
}

// seriesInterval is a second, less for short windows, whole seconds for long ones.
func seriesInterval(window time.Duration) int64 {
	switch {
	case window < minIntervals*time.Second:
		return max(1, int64(window)/minIntervals)
	case window > maxIntervals*time.Second:
		return int64((window/maxIntervals + time.Second - 1).Truncate(time.Second))
	}
	return int64(time.Second)
}

// point adds a completion at now to the time series of a window that began at start.
func (r *recorder) point(start, now, ns int64) {
	for now >= r.next {
		if r.next == 0 {
			r.next = start
			r.at = -1
		}
		r.next += r.interval
		r.at++
	}
	record(r.series[min(r.at, len(r.series)-1)], ns)
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
	for i := range r.errs {
		r.errs[i] += o.errs[i]
	}
	r.misses += o.misses
	r.bytes += o.bytes
	r.scheduled += o.scheduled
	r.missed += o.missed
	r.unsent += o.unsent
	r.maxInFlight += o.maxInFlight
	for i := range r.series {
		r.series[i].Merge(o.series[i])
	}
}
