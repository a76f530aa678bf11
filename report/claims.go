package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/internal/plural"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/lab/stats"
)

// wholeRatio is about requests that end short. A run that has them is invalid, and for this quantity it counts all the same.
const wholeRatio = "whole_ratio"

// quantities are what claims may be about besides the metrics: counts of a run, and the CPU time of each side. A column
// keeps its name in runs.csv.
var quantities = []Metric{
	{"client_cpu_ns_per_op", false, "ns/op", func(r *Row) Float { return total(r.ClientUserNsPerOp, r.ClientSysNsPerOp) }},
	{"server_cpu_ns_per_op", false, "ns/op", func(r *Row) Float { return total(r.ServerUserNsPerOp, r.ServerSysNsPerOp) }},
	{"lat_mean_ns", false, "mean-ns", func(r *Row) Float { return r.LatMeanNs }},
	{"lat_max_ns", false, "max-ns", func(r *Row) Float { return float(r.LatMaxNs) }},
	{"lat_sd_ns", false, "sd-ns", func(r *Row) Float { return r.LatSDNs }},
	{"goodput_bytes_per_s", true, "B/s", func(r *Row) Float { return r.GoodputBytesPerS }},
	{"busy_cpus", true, "", func(r *Row) Float { // that client and server keep busy together
		ns := bothSides(r, total(r.ClientUserNsPerOp, r.ClientSysNsPerOp), total(r.ServerUserNsPerOp, r.ServerSysNsPerOp))
		v, known := ns.Get()
		rate, both := r.OpsPerS.Get()
		if !known || !both {
			return Float{}
		}
		return F(v * rate / 1e9)
	}},
	{"syscalls_per_op", false, "", func(r *Row) Float { return bothSides(r, r.ClientSyscallsPerOp, r.ServerSyscallsPerOp) }},
	{"client_syscalls_per_op", false, "", func(r *Row) Float { return r.ClientSyscallsPerOp }},
	{"server_syscalls_per_op", false, "", func(r *Row) Float { return r.ServerSyscallsPerOp }},
	{"batch_mean", true, "", func(r *Row) Float { return r.BatchMean }},
	{"ops_per_turn", true, "", func(r *Row) Float { return r.OpsPerTurn }},
	{"disk_batch_mean", true, "", func(r *Row) Float { return r.DiskBatchMean }},
	{wholeRatio, true, "", func(r *Row) Float { // of all requests, those whose transfers did not end short
		n, known := r.Truncated.Get()
		ops, _ := r.Ops.Get()
		errs, _ := r.Errors.Get()
		if !known || ops+errs == 0 {
			return Float{}
		}
		return F(1 - float64(n)/float64(ops+errs))
	}},
	{"index_bytes_per_key", false, "B", func(r *Row) Float { return r.IndexBytesPerKey }},
	{"server_resident_bytes", false, "B", func(r *Row) Float { return float(r.ServerResidentBytes) }},
	{"disk_reads_per_op", false, "", func(r *Row) Float { return r.DiskReadsPerOp }},
	{"disk_syscalls_per_io", false, "", func(r *Row) Float { return r.DiskSyscallsPerIO }},
}

// FindQuantity returns the metric or count with this name, for a claim.
func FindQuantity(name string) (Metric, error) {
	all := slices.Concat(Metrics, quantities)
	names := make([]string, len(all))
	for i, m := range all {
		if names[i] = m.Name; m.Name == name {
			return m, nil
		}
	}
	return Metric{}, fmt.Errorf("metric %q is unknown (%s)", name, strings.Join(names, ", "))
}

// Expected is what a claim states of a ratio of two cells, or of one cell's own value: that it lies between Least and Most.
type Expected struct {
	Direction   stats.Verdict // Higher, Lower, or Same (within stats.Matters); "": only Least and Most
	Least, Most float64       // -Inf and +Inf: none
}

// ClaimTest is one comparison that tests a claim.
type ClaimTest struct {
	Metric  Metric
	Series  []Series // one: its own value is tested; several, in order: the last is compared with the first, and each with the one before
	Expect  Expected
	AACheck AACheck // the A/A comparison of its question by this metric: the check of the instrument
}

// Finding is what the runs show of a claim.
type Finding string

// The findings.
const (
	Agrees      Finding = "agrees"              // the figure lies within the claimed bounds, significantly
	Disagrees   Finding = "disagrees"           // it lies outside, significantly
	Unsure      Finding = "can't tell"          // neither
	TooFew      Finding = "too few generations" // there is a figure, of fewer generations than a verdict takes
	NotMeasured Finding = "not measured"
)

// ClaimResult is the result of one ClaimTest.
type ClaimResult struct {
	Finding          Finding
	Why              string  // the reason for the finding; may be ""
	Pairs            int     // generations in the figure
	LeftOut          int     // as a Comparison's
	Value, Low, High float64 // the ratio, or the cell's own value; NaN: none
	Level            float64 // that the interval covers
	PHolm            float64 // NaN: not tested
}

// JudgeClaims judges all comparisons, which share the error of stats.Alpha (Holm). generations is the planned number. A figure of
// fewer than MinPairs generations has no verdict. Nor has one that would be significant alone, if it has fewer generations than
// the number of comparisons takes.
//
// A figure agrees when it lies within the bounds, and the hypothesis that it equals a bound is rejected for each bound. It
// disagrees when it lies beyond a bound, and the hypothesis that it equals this bound is rejected. A direction agrees when
// "no difference" is rejected. It disagrees when a difference of stats.Matters in this direction is rejected. Along an axis it
// also disagrees when a step goes the other way by more than stats.Matters: the steps of an axis share another stats.Alpha.
func JudgeClaims(all []ClaimTest, generations int) ([]ClaimResult, error) {
	out := make([]ClaimResult, len(all))
	var tested []int // of out
	var ps []float64
	for i := range all {
		f, p, err := all[i].find(generations)
		if err != nil {
			return nil, err
		}
		if out[i] = f; f.Finding == Agrees || f.Finding == Disagrees {
			tested, ps = append(tested, i), append(ps, p)
		}
	}
	for k, p := range stats.Holm(ps) {
		i := tested[k]
		if out[i].PHolm = p; p > stats.Alpha {
			out[i].Finding, out[i].Why = Unsure, ""
			if least := stats.LeastPairs(stats.Alpha / float64(len(tested))); ps[k] <= stats.Alpha && out[i].Pairs < least {
				out[i].Finding = TooFew
				out[i].Why = fmt.Sprintf("%s: a verdict on %d comparisons takes %d", plural.Of(out[i].Pairs, "generation"), len(tested), least)
			}
		}
		if err := all[i].steps(&out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// find judges one comparison alone. Agrees and Disagrees only state where the figure lies; the caller corrects p by Holm's method.
func (s *ClaimTest) find(generations int) (f ClaimResult, p float64, err error) {
	f = ClaimResult{Finding: NotMeasured, Value: math.NaN(), Low: math.NaN(), High: math.NaN(), Level: math.NaN(), PHolm: math.NaN()}
	of, figure, err := s.effect()
	if err != nil {
		return f, 0, err
	}
	f.Pairs, f.LeftOut = of.pairs, of.leftOut
	for _, x := range s.Series {
		if why := x.missing(s.Metric, len(s.Series) > 1); why != "" {
			f.Why = why
			return f, 0, nil
		}
	}
	var short shortSlices
	if len(s.Series) > 1 {
		short = longestNeed(s.Series...)
	}
	if of.pairs == 0 {
		f.Why = cmp.Or(short.why, "no generation has valid runs of all cells")
		return f, 0, nil
	}
	f.Value, f.Low, f.High, f.Level = figure(of.Estimate), figure(of.Low), figure(of.High), of.Level
	switch {
	case generations < MinPairs:
		f.Finding, f.Why = TooFew, fmt.Sprintf("no verdict: it takes %d generations", MinPairs)
		return f, 0, nil
	case of.pairs < MinPairs:
		f.Finding, f.Why = TooFew, fmt.Sprintf("%s: a verdict takes %d", plural.Of(of.pairs, "generation"), MinPairs)
		return f, 0, nil
	case short.why != "":
		f.Finding, f.Why = Unsure, short.why
		return f, 0, nil
	case len(s.Series) > 1 && !s.AACheck.Checked && !s.sized():
		f.Finding, f.Why = Unsure, unchecked
		return f, 0, nil
	case len(s.Series) > 1 && s.AACheck.Differs:
		f.Finding, f.Why = Unsure, s.AACheck.why()
		return f, 0, nil
	}
	f.Finding, p, err = s.place(of)
	if f.Finding == Disagrees && s.goesAsClaimed(of) {
		f.Why = "the direction is as claimed, the size is not"
	}
	return f, p, err
}

// sized reports whether a claim can be judged without an A/A check: it has no direction, or a bound in that direction.
func (s *ClaimTest) sized() bool {
	switch s.Expect.Direction {
	case stats.Higher:
		return !math.IsInf(s.Expect.Least, 0)
	case stats.Lower:
		return !math.IsInf(s.Expect.Most, 0)
	}
	return s.Expect.Direction == ""
}

// effect is the effect over the generations. figure converts it: exp of a log-ratio, or the value itself.
func (s *ClaimTest) effect() (of paired, figure func(float64) float64, err error) {
	if len(s.Series) == 1 {
		of, err = s.Series[0].own(s.Metric)
		return of, func(v float64) float64 { return v }, err
	}
	of, err = s.Series[0].against(&s.Series[len(s.Series)-1], s.Metric)
	return of, math.Exp, err
}

// bounds are the bounds of the effect: of a value itself, or of the logarithm of a ratio. A direction begins beyond delta, and Same
// lies within stats.Matters.
func (s *ClaimTest) bounds(delta float64) (least, most float64) {
	least, most = s.Expect.Least, s.Expect.Most
	if len(s.Series) == 1 {
		return least, most
	}
	least, most = math.Log(max(0, least)), math.Log(most)
	switch s.Expect.Direction {
	case stats.Higher:
		least = max(least, math.Log1p(delta))
	case stats.Lower:
		most = min(most, math.Log1p(-delta))
	case stats.Same:
		least, most = max(least, math.Log1p(-stats.Matters)), min(most, math.Log1p(stats.Matters))
	}
	return least, most
}

// place returns where the estimate lies, and p of the hypothesis that the true value does not lie there. A direction agrees with any difference that is certain,
// and is refuted if a difference of stats.Matters is certainly absent.
func (s *ClaimTest) place(of paired) (finding Finding, p float64, err error) {
	finding, p = Unsure, 1
	if least, most := s.bounds(0); of.Estimate > least && of.Estimate < most {
		if p, err = of.beyond(least, most); err != nil || p <= stats.Alpha {
			return Agrees, p, err
		}
		finding = Agrees // p is above Alpha, so Holm's method refuses it
	}
	var bound float64
	switch least, most := s.bounds(stats.Matters); {
	case of.Estimate <= least:
		bound = least
	case of.Estimate >= most:
		bound = most
	default:
		return finding, p, nil
	}
	refuted, err := of.beyond(bound)
	if err != nil || refuted <= stats.Alpha || finding == Unsure {
		return Disagrees, refuted, err
	}
	return finding, p, nil
}

// beyond is p of the hypothesis that the effect equals one of the bounds: the largest p of all bounds.
func (p *paired) beyond(bounds ...float64) (most float64, err error) {
	for _, bound := range bounds {
		if math.IsInf(bound, 0) {
			continue
		}
		d := slices.Clone(p.d)
		for i := range d {
			d[i] -= bound
		}
		e, err := stats.Paired(d, 0.95)
		if err != nil {
			return 0, err
		}
		most = max(most, e.P)
	}
	return most, nil
}

// goesAsClaimed reports whether the whole interval lies on the claimed side of 1.
func (s *ClaimTest) goesAsClaimed(of paired) bool {
	return s.Expect.Direction == stats.Higher && of.Low > 0 || s.Expect.Direction == stats.Lower && of.High < 0
}

// steps checks each step along an axis: none may go the other way.
func (s *ClaimTest) steps(f *ClaimResult) error {
	n := len(s.Series) - 1
	if n < 2 || f.Finding == Disagrees {
		return nil
	}
	limit, level := math.Log1p(stats.Matters), 1-stats.Alpha/float64(n)
	for i := range n {
		of, err := s.Series[i].against(&s.Series[i+1], s.Metric)
		if err != nil {
			return err
		}
		step := fmt.Sprintf("from %s to %s", s.Series[i].Label, s.Series[i+1].Label)
		if of.pairs < MinPairs {
			f.Finding, f.Why = Unsure, fmt.Sprintf("%s: %d generations, and a verdict takes %d", step, of.pairs, MinPairs)
			continue
		}
		e, err := stats.Paired(of.d, level)
		if err != nil {
			return err
		}
		against := s.Expect.Direction == stats.Higher && e.High < -limit || s.Expect.Direction == stats.Lower && e.Low > limit
		if against && e.Level >= level {
			f.Finding, f.Why = Disagrees, fmt.Sprintf("%s the ratio is %.2f", step, math.Exp(e.Estimate))
			return nil
		}
	}
	return nil
}

// own is the effect of a series' own values, of its valid runs.
func (s *Series) own(m Metric) (p paired, err error) {
	for _, g := range slices.Sorted(maps.Keys(s.Rows)) {
		r := s.Rows[g]
		v, ok := m.of(r).Get()
		if !ok || r.SkippedReason != "" || !r.valid() && (m.Name != wholeRatio || !r.onlyTruncated()) {
			p.leftOut++
			continue
		}
		p.d, p.generations = append(p.d, v), append(p.generations, g)
	}
	return p, p.settle()
}

// onlyTruncated reports whether a run is invalid for requests that ended short, and for nothing else.
func (r *Row) onlyTruncated() bool {
	n, known := r.Truncated.Get()
	return known && r.InvalidReason == fmt.Sprintf("errors: %s %d", kv.StatusTruncated, n)
}

// missing is why no run of a series has a value, or, with ratio, none above 0; "": a run has one.
func (s *Series) missing(m Metric, ratio bool) (why string) {
	why = "not run"
	for _, b := range slices.Sorted(maps.Keys(s.Rows)) {
		r := s.Rows[b]
		v, ok := m.of(r).Get()
		switch {
		case r.SkippedReason != "":
			why = "skipped: " + r.SkippedReason
		case !ok && r.InvalidReason != "":
			why = "failed: " + r.InvalidReason
		case !ok:
			why = "it has no " + m.Name
		case ratio && v <= 0:
			why = m.Name + " is 0, which has no ratio"
		default:
			return ""
		}
	}
	return s.Label + ": " + why
}

// Overall is the finding for a claim with several comparisons: all of them must agree.
func Overall(findings []ClaimResult) Finding {
	for _, a := range []Finding{Disagrees, Unsure, TooFew, NotMeasured} {
		if slices.ContainsFunc(findings, func(f ClaimResult) bool { return f.Finding == a }) {
			return a
		}
	}
	return Agrees
}
