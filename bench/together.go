package bench

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/kvwire/kvwire/internal/quote"
)

// MaxEncoded bounds an encoded result: 8 histograms of latencies and 120 of the time series need about 100 KiB and 4 KiB
// each when their counts are spread as widely as they can be.
const MaxEncoded = 8 << 20

// countMost bounds a count: at 100 million per second it is reached in 3 years, and sums of a thousand do not overflow.
const countMost = 1 << 53

// encoded is a result on its way to another process, as JSON with the histograms in HdrHistogram's own encoding (V2, base64).
type encoded struct {
	Result *Result       `json:"result"`
	Lat    string        `json:"lat"`
	Svc    string        `json:"svc,omitempty"`
	Lag    string        `json:"lag,omitempty"`
	Op     [Kinds]string `json:"op"`
	Bins   []string      `json:"bins"`
}

// Encode returns a result as one line of JSON, for DecodeResult.
func (r *Result) Encode() ([]byte, error) {
	e := encoded{Result: r}
	text := func(h *hdrhistogram.Histogram) (string, error) {
		if h == nil {
			return "", nil
		}
		b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		return string(b), err
	}
	var errs [3 + Kinds]error
	e.Lat, errs[0] = text(r.Lat)
	e.Svc, errs[1] = text(r.Svc)
	e.Lag, errs[2] = text(r.Lag)
	for k := range r.Op {
		e.Op[k], errs[3+k] = text(r.Op[k].Lat)
	}
	err := errors.Join(errs[:]...)
	for _, h := range r.bins {
		s, ierr := text(h)
		e.Bins, err = append(e.Bins, s), errors.Join(err, ierr)
	}
	if err != nil {
		return nil, fmt.Errorf("bench: encode the latencies: %w", err)
	}
	return json.Marshal(e)
}

// DecodeResult reads what Encode wrote, in another process of the same version; trace is the one that was replayed, or nil. All is checked, and nothing
// of b is kept.
func DecodeResult(b []byte, trace *Trace) (*Result, error) {
	if len(b) > MaxEncoded {
		return nil, fmt.Errorf("bench: a result of %d bytes is larger than %d", len(b), MaxEncoded)
	}
	var e encoded
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("bench: decode a result: %w", err)
	}
	r := e.Result
	if r == nil {
		return nil, errors.New("bench: decode a result: it has no counts")
	}
	quote.Strings(r)
	r.Spec.Trace = trace
	if err := r.sane(); err != nil {
		return nil, fmt.Errorf("bench: decode a result: impossible values: %w", err)
	}
	if len(e.Bins) > seriesBins(r.Spec.Duration) {
		return nil, fmt.Errorf("bench: decode a result: impossible values: %d bins in %v", len(e.Bins), r.Spec.Duration)
	}
	if err := r.decode(&e); err != nil {
		return nil, fmt.Errorf("bench: the latencies of a result: %w", err)
	}
	r.series(r.Duration)
	return r, nil
}

// sane returns an error for values that would break sums and divisions.
func (r *Result) sane() error {
	s := r.Spec
	if err := s.Check(); err != nil {
		return err
	}
	switch {
	case s.Duration <= 0 || r.Duration < 0 || r.Duration > s.Duration || r.Warmup < 0:
		return fmt.Errorf("a window of %v after a warm-up of %v, of %v", r.Duration, r.Warmup, s.Duration)
	case r.Slices < 0 || r.Slices > countMost || r.Drift.Known && r.Drift.First == 0 || max(r.Drift.First, r.Drift.Last) > countMost:
		return fmt.Errorf("%d slices, %d operations in the first third and %d in the last", r.Slices, r.Drift.First, r.Drift.Last)
	case r.ClientThreads < 1 || r.ClientThreads > maxThreads || r.MaxInFlight < 0 || r.MaxInFlight > countMost:
		return fmt.Errorf("%d client threads, %d requests in flight", r.ClientThreads, r.MaxInFlight)
	}
	sum := uint64(0)
	for _, n := range []uint64{r.Ops, r.CostOps, r.Bytes, r.Misses, r.ExpectedMisses, r.Errors, r.VerifyFailures, r.Scheduled, r.MissedSends, r.Unsent, r.Unanswered, r.TraceLeft} {
		if n > countMost {
			return fmt.Errorf("a count of %d", n)
		}
	}
	for _, k := range r.Op {
		if k.Ops > countMost {
			return fmt.Errorf("%d operations", k.Ops)
		}
		sum += k.Ops
	}
	if sum != r.Ops {
		return fmt.Errorf("%d operations, and %d by their kinds", r.Ops, sum)
	}
	return nil
}

// decode fills in the histograms.
func (r *Result) decode(e *encoded) (err error) {
	read := func(s string, digits int64) *hdrhistogram.Histogram {
		if s == "" || err != nil {
			return nil
		}
		var h *hdrhistogram.Histogram
		if h, err = hdrhistogram.Decode([]byte(s)); err != nil {
			return nil
		}
		if h.LowestTrackableValue() != 1 || h.HighestTrackableValue() != histMax || h.SignificantFigures() != digits {
			err = fmt.Errorf("from %d to %d ns with %d digits: it is from another version", h.LowestTrackableValue(), h.HighestTrackableValue(), h.SignificantFigures())
			return nil
		}
		if h.TotalCount() > countMost {
			err = fmt.Errorf("%d latencies", h.TotalCount())
		}
		return h
	}
	r.Lat, r.Svc, r.Lag = read(e.Lat, histDigits), read(e.Svc, histDigits), read(e.Lag, histDigits)
	for k := range r.Op {
		r.Op[k].Lat = read(e.Op[k], histDigits)
	}
	r.bins = nil
	for _, s := range e.Bins {
		r.bins = append(r.bins, read(s, seriesDigits))
	}
	open := r.Spec.Loop == Open
	if err == nil && (r.Lat == nil || open != (r.Svc != nil) || open != (r.Lag != nil)) {
		err = errors.New("one of them is missing")
	}
	for i, h := range r.bins {
		if err == nil && h == nil {
			err = fmt.Errorf("bin %d is missing", i)
		}
	}
	return err
}

// Together combines the results of several processes that made one load at the same time: it adds counts, merges latencies by their
// counts (percentiles are never averaged), and finds the busiest thread of all. It leaves out the machine's times, since
// processes may share a machine. It does not change the parts. They must have the same window, and there must be at least one.
func Together(parts []*Result) (*Result, error) {
	all := &Result{Spec: parts[0].Spec, Started: parts[0].Started, Lat: newHist()}
	all.Spec.FirstThread, all.Spec.AllThreads, all.Spec.Conns, all.Spec.ClientThreads = 0, 0, 0, 0
	if all.Spec.Loop == Open {
		all.Svc, all.Lag = newHist(), newHist()
	}
	for _, r := range parts {
		if r.Spec.Loop != all.Spec.Loop || (r.Slices > 0) != (parts[0].Slices > 0) || r.Slices == 0 && r.Spec.Duration != all.Spec.Duration ||
			len(r.bins) != len(parts[0].bins) {
			return nil, fmt.Errorf("bench: results of a %s loop over %v and of a %s loop over %v are not of one load", all.Spec.Loop, all.Spec.Duration, r.Spec.Loop, r.Spec.Duration)
		}
		all.add(r)
	}
	all.series(all.Duration)
	return all, nil
}

// add adds the result of one process, for Together.
func (r *Result) add(o *Result) {
	r.Spec.Conns += o.Spec.Conns
	r.Spec.ClientThreads += o.ClientThreads
	r.ClientThreads += o.ClientThreads
	r.Spec.Duration, r.Slices = max(r.Spec.Duration, o.Spec.Duration), max(r.Slices, o.Slices)
	r.Duration, r.Warmup = max(r.Duration, o.Duration), max(r.Warmup, o.Warmup)
	r.Interrupted = r.Interrupted || o.Interrupted
	r.addCounts(o)
	merge(&r.Lat, o.Lat)
	merge(&r.Svc, o.Svc)
	merge(&r.Lag, o.Lag)
	for k := range o.Op {
		r.Op[k].Ops += o.Op[k].Ops
		merge(&r.Op[k].Lat, o.Op[k].Lat)
	}
	if r.bins == nil {
		r.bins = make([]*hdrhistogram.Histogram, len(o.bins))
	}
	for i, h := range o.bins {
		merge(&r.bins[i], h)
	}
	r.Threads.Add(o.Threads)
	r.Process.Add(o.Process)
	r.ClientLoops.Add(o.ClientLoops)
	if o.CPURatio > r.CPURatio {
		r.CPURatio, r.BusyRatio = o.CPURatio, o.BusyRatio
	}
	r.Go.GCs += o.Go.GCs
	r.Go.Allocs += o.Go.Allocs
	r.Go.GCPause, r.Go.SchedP99 = max(r.Go.GCPause, o.Go.GCPause), max(r.Go.SchedP99, o.Go.SchedP99)
}

func (r *Result) addCounts(o *Result) {
	r.Ops += o.Ops
	r.CostOps += o.CostOps
	r.Drift.First += o.Drift.First
	r.Drift.Last += o.Drift.Last
	r.Drift.Known = r.Drift.First > 0
	r.Bytes += o.Bytes
	r.Misses += o.Misses
	r.ExpectedMisses += o.ExpectedMisses
	r.Errors += o.Errors
	for i, n := range o.ByStatus {
		r.ByStatus[i] += n
	}
	r.VerifyFailures += o.VerifyFailures
	if r.FirstFailure == "" {
		r.FirstFailure = o.FirstFailure
	}
	r.Scheduled += o.Scheduled
	r.MissedSends += o.MissedSends
	r.Unsent += o.Unsent
	r.Unanswered += o.Unanswered
	r.TraceLeft += o.TraceLeft
	r.MaxInFlight += o.MaxInFlight
}

// merge adds from's counts to those of *to, which is made where there is none. from may be nil.
func merge(to **hdrhistogram.Histogram, from *hdrhistogram.Histogram) {
	if from == nil {
		return
	}
	if *to == nil {
		*to = hdrhistogram.New(from.LowestTrackableValue(), from.HighestTrackableValue(), int(from.SignificantFigures()))
	}
	(*to).Merge(from)
}
