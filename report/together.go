package report

import (
	"fmt"
	"slices"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/lab/stats"
)

// Together combines the runs of one cell in several generations into one row. Rates and costs are medians over all runs that have operations.
// Percentiles come from one histogram of all their latencies, which is returned, too (percentiles are never averaged; nil: there are no latencies,
// or some are lost). lat returns the histogram of a run; nil: it is lost.
func Together(rows []Row, lat func(runID string) (*hdrhistogram.Histogram, error)) (Row, *hdrhistogram.Histogram, error) {
	use := slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return !r.Ops.Known() })
	if len(use) == 0 {
		use = rows
	}
	var h *hdrhistogram.Histogram
	lost := false
	for i := range use {
		if !use[i].Ops.Known() {
			continue
		}
		of, err := lat(use[i].RunID)
		switch {
		case err != nil:
			return use[0], nil, err
		case of == nil:
			lost = true
		case h == nil:
			h = of
		default:
			h.Merge(of)
		}
	}
	if lost { // the others are of some generations only
		h = nil
	}
	all := use[0]
	if len(rows) == 1 {
		return all, h, nil
	}
	for _, of := range []func(r *Row) *Float{
		func(r *Row) *Float { return &r.OpsPerS },
		func(r *Row) *Float { return &r.ClientUserNsPerOp },
		func(r *Row) *Float { return &r.ClientSysNsPerOp },
		func(r *Row) *Float { return &r.ServerUserNsPerOp },
		func(r *Row) *Float { return &r.ServerSysNsPerOp },
		func(r *Row) *Float { return &r.ClientSyscallsPerOp },
		func(r *Row) *Float { return &r.ServerSyscallsPerOp },
		func(r *Row) *Float { return &r.SendsPerOp },
		func(r *Row) *Float { return &r.ReceivesPerOp },
		func(r *Row) *Float { return &r.UDPPacketsPerOp },
		func(r *Row) *Float { return &r.UDPRetransmissionsPerOp },
		func(r *Row) *Float { return &r.CtxswVolPerOp },
		func(r *Row) *Float { return &r.HopsPerOp },
		func(r *Row) *Float { return &r.ClientSQEsPerOp },
		func(r *Row) *Float { return &r.ServerSQEsPerOp },
		func(r *Row) *Float { return &r.CgoCallsPerOp },
		func(r *Row) *Float { return &r.BytesCopiedPerOp },
		func(r *Row) *Float { return &r.GoodputBytesPerS },
	} {
		*of(&all) = medianOf(use, of)
	}
	all.LatP50Ns, all.LatP99Ns = Percentile(h, 50), Percentile(h, 99)
	all.Valid, all.InvalidReason, all.Marks = B(true), "", ""
	if n := count(rows, func(r *Row) bool { return !r.valid() }); n > 0 && all.SkippedReason == "" {
		all.Valid, all.InvalidReason = B(false), fmt.Sprintf("%d of %d runs (see invalid_reason in runs.csv)", n, len(rows))
	}
	if n := count(use, func(r *Row) bool { return r.Marks != "" }); n > 0 {
		all.Marks = fmt.Sprintf("%d of %d runs (see marks in runs.csv)", n, len(rows))
	}
	return all, h, nil
}

// medianOf is the median over the rows, or NA if a row has no value.
func medianOf(rows []Row, of func(r *Row) *Float) Float {
	var v []float64
	for i := range rows {
		x, ok := of(&rows[i]).Get()
		if !ok {
			return Float{}
		}
		v = append(v, x)
	}
	slices.Sort(v)
	return F(stats.Median(v))
}

func count(rows []Row, is func(r *Row) bool) (n int) {
	for i := range rows {
		if is(&rows[i]) {
			n++
		}
	}
	return n
}
