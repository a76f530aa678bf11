package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/kvwire/kvwire/bench"
)

// A slice begins with nothing in flight, and its settle time is not counted. A request that takes longer than the settle time loses a part of the
// window, and in a window of a few operations the rate is one of a few values. Slices like that can show the same rate for different variants.
const (
	minSliceOps    = 20                      // fewer operations per slice are too few
	enoughSliceOps = 25                      // for a suggested slice: some may end outside its window
	sliceLatencies = 20                      // latencies in a suggested slice: then its settle time has two
	longestSlice   = 2000 * time.Millisecond // above that: whole runs
)

// shortSlices is the finding that the slices of a run are too short for its requests.
type shortSlices struct {
	why  string  // "": they are not, or it is not known
	need float64 // length in ns of slices that are long enough
}

// shortSlices compares the slices of a run with its requests. A whole run has none.
func (r *Row) shortSlices() (s shortSlices) {
	n, _ := r.Slices.Get()
	ops, ok := r.Ops.Get()
	window, ok2 := r.SliceNs.Get()
	settle, ok3 := r.SettleNs.Get()
	if n == 0 || !ok || !ok2 || !ok3 || r.SkippedReason != "" {
		return s
	}
	perSlice := float64(ops) / float64(n)
	errs, _ := r.Errors.Get()
	few := perSlice < minSliceOps && errs == 0 // errors are another reason for few operations
	p50, _ := r.LatP50Ns.Get()
	if service, ok := r.SvcP50Ns.Get(); ok && !r.valid() {
		p50 = min(p50, service) // an overloaded open loop: requests wait before they are sent, and longer slices do not shorten that
	}
	if few {
		s.need = float64(window+settle) * enoughSliceOps / perSlice
	}
	switch {
	case p50 > settle:
		s.need = max(s.need, sliceLatencies*float64(p50))
		s.why = fmt.Sprintf("a request takes %s, longer than the %s of a slice that are not counted: use %s", Duration(p50), Duration(settle), sliceFlag(s.need))
	case few:
		s.why = fmt.Sprintf("%.1f operations in a slice are too few: use %s", math.Floor(10*perSlice)/10, sliceFlag(s.need))
	}
	return s
}

// sliceFlag is the flag for slices of at least this length in ns: 1, 2 or 5 times a power of ten, in ms.
func sliceFlag(ns float64) string {
	for unit := time.Millisecond; unit <= longestSlice; unit *= 10 {
		for _, d := range []time.Duration{unit, 2 * unit, 5 * unit} {
			if d <= longestSlice && float64(d) >= ns {
				return fmt.Sprintf("--slice %dms", d.Milliseconds())
			}
		}
	}
	return "--slice 0 (whole runs)"
}

// shortSlicesOf is the same of a result that is not valid, before the row has its slices.
func shortSlicesOf(row *Row, res *bench.Result) shortSlices {
	if res.Slices == 0 {
		return shortSlices{}
	}
	n := time.Duration(res.Slices)
	r := Row{Slices: I(res.Slices), SliceNs: I(int64(res.Duration / n)), SettleNs: I(int64(res.Warmup / n)), Ops: row.Ops, Errors: row.Errors, LatP50Ns: row.LatP50Ns, SvcP50Ns: row.SvcP50Ns}
	return r.shortSlices()
}

// shortSlices is that of the median run: at least half of the runs that were measured in slices need longer ones. A few slow generations are outliers.
// Invalid runs count, because short slices may be the reason.
func (s *Series) shortSlices() shortSlices {
	var all []shortSlices
	for _, g := range slices.Sorted(maps.Keys(s.Rows)) {
		if r := s.Rows[g]; r.Slices.Known() {
			all = append(all, r.shortSlices())
		}
	}
	if len(all) == 0 {
		return shortSlices{}
	}
	slices.SortStableFunc(all, func(a, b shortSlices) int { return cmp.Compare(a.need, b.need) })
	short := all[len(all)/2]
	if short.why != "" {
		short.why = s.Label + ": " + short.why
	}
	return short
}

// longestNeed is that of the side that needs the longest slices.
func longestNeed(sides ...Series) (most shortSlices) {
	for _, s := range sides {
		if short := s.shortSlices(); short.need > most.need {
			most = short
		}
	}
	return most
}
