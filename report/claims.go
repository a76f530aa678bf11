package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/bench/stats"
)

// quantities are what claims may be about beside the metrics: what is counted of a run, and each side's share of the CPU time. A column
// has the name that it has in runs.csv.
var quantities = []Metric{
	{"client_cpu_ns_per_op", false, "ns/op", func(r *Row) Float { return total(r.ClientUserNsPerOp, r.ClientSysNsPerOp) }},
	{"server_cpu_ns_per_op", false, "ns/op", func(r *Row) Float { return total(r.ServerUserNsPerOp, r.ServerSysNsPerOp) }},
	{"syscalls_per_op", false, "", func(r *Row) Float { return bothSides(r, r.ClientSyscallsPerOp, r.ServerSyscallsPerOp) }},
	{"client_syscalls_per_op", false, "", func(r *Row) Float { return r.ClientSyscallsPerOp }},
	{"server_syscalls_per_op", false, "", func(r *Row) Float { return r.ServerSyscallsPerOp }},
	{"batch_mean", true, "", func(r *Row) Float { return r.BatchMean }},
	{"ops_per_turn", true, "", func(r *Row) Float { return r.OpsPerTurn }},
	{"disk_batch_mean", true, "", func(r *Row) Float { return r.DiskBatchMean }},
	{"whole_ratio", true, "", func(r *Row) Float { // of all requests, those whose transfers did not end short
		n, known := r.Truncated.Get()
		ops, _ := r.Ops.Get()
		errs, _ := r.Errors.Get()
		if !known || ops+errs == 0 {
			return Float{}
		}
		return F(1 - float64(n)/float64(ops+errs))
	}},
	{"disk_syscalls_per_io", false, "", func(r *Row) Float { return r.DiskSyscallsPerIO }},
}

// FindQuantity gives what a claim may be about by its name: a metric, or what was counted.
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

// Expected is what a claim says of the ratio of a figure to another, or of a figure itself: that it lies between least and most.
type Expected struct {
	Direction   stats.Verdict // Higher or Lower, by more than δ, or Same, within it; "": least and most say all
	Least, Most float64       // -Inf and +Inf: none
}

// Shown is what is looked at for a claim.
type Shown struct {
	Metric Metric
	Series []Series // one, whose own value is meant; or in order, of which the last is compared with the first, and each with the one before
	Expect Expected
	Noise  float64 // δ of the ratios; NaN: not known
}

// Answer is whether what was measured agrees with a claim.
type Answer string

// The answers.
const (
	Agrees      Answer = "agrees"         // the figure lies within what was claimed, significantly
	Disagrees   Answer = "disagrees"      // it lies outside
	Unsure      Answer = "can't tell"     // neither
	TooFew      Answer = "too few blocks" // a figure, and no verdict
	NotMeasured Answer = "not measured"
)

// Finding is what was found of one Shown.
type Finding struct {
	Answer           Answer
	Why              string  // what the answer alone does not say; ""
	Pairs            int     // blocks that the figure comes from
	Invalid, LeftOut int     // as a Comparison's
	Value, Low, High float64 // the ratio, or the cell's own value; NaN: none
	Level            float64 // that the interval covers
	PHolm, Delta     float64 // NaN: not tested; not known
}

// JudgeClaims answers for all that is shown, which share the error of stats.Alpha (Holm). blocks is how many there were to be: with fewer
// than MinPairs there is no verdict.
//
// A figure agrees when the hypothesis that it is at a bound is rejected for each bound, and lies within them; it
// disagrees when that is rejected for the one that it is beyond. Along an axis it disagrees, too, where a step goes the other way
// by more than δ: the steps of an axis share stats.Alpha of their own.
func JudgeClaims(all []Shown, blocks int) ([]Finding, error) {
	out := make([]Finding, len(all))
	var tested []int // of out
	var ps []float64
	for i := range all {
		f, p, err := all[i].find(blocks)
		if err != nil {
			return nil, err
		}
		if out[i] = f; f.Answer == Agrees || f.Answer == Disagrees {
			tested, ps = append(tested, i), append(ps, p)
		}
	}
	for k, p := range stats.Holm(ps) {
		i := tested[k]
		if out[i].PHolm = p; p > stats.Alpha {
			out[i].Answer, out[i].Why = Unsure, ""
		}
		if err := all[i].steps(&out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// find answers for one alone: Agrees and Disagrees are where the figure lies, and p is for Holm to judge.
func (s *Shown) find(blocks int) (f Finding, p float64, err error) {
	f = Finding{Answer: NotMeasured, Value: math.NaN(), Low: math.NaN(), High: math.NaN(), Level: math.NaN(), PHolm: math.NaN(), Delta: math.NaN()}
	of, figure, err := s.effect()
	if err != nil {
		return f, 0, err
	}
	f.Pairs, f.Invalid, f.LeftOut = of.pairs, of.invalid, of.leftOut
	for _, x := range s.Series {
		if why := x.missing(s.Metric, len(s.Series) > 1); why != "" {
			f.Why = why
			return f, 0, nil
		}
	}
	if of.pairs == 0 {
		f.Why = "no block has all of it"
		return f, 0, nil
	}
	f.Value, f.Low, f.High, f.Level = figure(of.Estimate), figure(of.Low), figure(of.High), of.Level
	if len(s.Series) > 1 {
		f.Delta = s.Noise
	}
	switch {
	case blocks < MinPairs:
		f.Answer, f.Why = TooFew, fmt.Sprintf("no verdict: it takes %d", MinPairs)
		return f, 0, nil
	case of.pairs < MinPairs || of.invalid > 0:
		f.Why = fmt.Sprintf("%d valid blocks: a verdict takes %d", of.pairs-of.invalid, MinPairs)
		return f, 0, nil
	case math.IsNaN(s.Noise) && !s.sized():
		f.Answer, f.Why = Unsure, "no baseline was run twice: what is noise is not known"
		return f, 0, nil
	case s.Expect.Direction == stats.Same && s.Noise > stats.SameMax:
		f.Answer, f.Why = Unsure, fmt.Sprintf("a machine whose baseline differs from itself by %.0f %% calls everything the same", 100*s.Noise)
		return f, 0, nil
	}
	f.Answer, p, err = s.place(of)
	switch {
	case f.Answer == Disagrees && s.goesAsClaimed(of):
		f.Why = "the direction is as claimed, the size is not"
	case f.Answer == Unsure:
		f.Why = fmt.Sprintf("the baseline differs from itself by as much (δ %.2f)", s.Noise)
	}
	return f, p, err
}

// sized says whether a claim can be judged without δ: it has no direction, or says how far in that.
func (s *Shown) sized() bool {
	switch s.Expect.Direction {
	case stats.Higher:
		return !math.IsInf(s.Expect.Least, 0)
	case stats.Lower:
		return !math.IsInf(s.Expect.Most, 0)
	}
	return s.Expect.Direction == ""
}

// floor is δ, or the least that it can be where it is not known.
func (s *Shown) floor() float64 {
	if math.IsNaN(s.Noise) {
		return stats.FloorMin
	}
	return s.Noise
}

// effect is what the blocks say, and how its figures are read: in logarithms of ratios, or as they are.
func (s *Shown) effect() (of paired, figure func(float64) float64, err error) {
	if len(s.Series) == 1 {
		of, err = s.Series[0].own(s.Metric)
		return of, func(v float64) float64 { return v }, err
	}
	of, err = s.Series[0].against(s.Series[len(s.Series)-1], s.Metric)
	return of, math.Exp, err
}

// bounds are those of the effect: of a value itself, or of the logarithm of a ratio, where a direction is one beyond delta.
func (s *Shown) bounds(delta float64) (least, most float64) {
	least, most = s.Expect.Least, s.Expect.Most
	if len(s.Series) == 1 {
		return least, most
	}
	least, most = math.Log(max(0, least)), math.Log(most)
	limit := math.Log1p(delta)
	switch s.Expect.Direction {
	case stats.Higher:
		least = max(least, limit)
	case stats.Lower:
		most = min(most, -limit)
	case stats.Same:
		least, most = max(least, -limit), min(most, limit)
	}
	return least, most
}

// place says where the estimate lies, and p of the hypothesis that the truth does not. A direction is one beyond δ, and is refuted where
// there is none at all: what noise could hide is neither.
func (s *Shown) place(of paired) (Answer, float64, error) {
	if least, most := s.bounds(s.floor()); of.Estimate > least && of.Estimate < most {
		p, err := of.beyond(least, most)
		return Agrees, p, err
	}
	refuted := s.floor()
	if s.Expect.Direction != stats.Same {
		refuted = stats.FloorMin
	}
	least, most := s.bounds(refuted)
	switch {
	case of.Estimate <= least:
		p, err := of.beyond(least)
		return Disagrees, p, err
	case of.Estimate >= most:
		p, err := of.beyond(most)
		return Disagrees, p, err
	}
	return Unsure, 1, nil
}

// beyond is p of the hypothesis that the effect is at one of some bounds, for the one that is most likely.
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

// goesAsClaimed says whether the whole interval is on the side that was claimed.
func (s *Shown) goesAsClaimed(of paired) bool {
	limit := math.Log1p(s.floor())
	return s.Expect.Direction == stats.Higher && of.Low > limit || s.Expect.Direction == stats.Lower && of.High < -limit
}

// steps looks at each step along an axis: none may go the other way.
func (s *Shown) steps(f *Finding) error {
	n := len(s.Series) - 1
	if n < 2 || f.Answer == Disagrees {
		return nil
	}
	limit, level := math.Log1p(s.floor()), 1-stats.Alpha/float64(n)
	for i := range n {
		of, err := s.Series[i].against(s.Series[i+1], s.Metric)
		if err != nil {
			return err
		}
		step := fmt.Sprintf("from %s to %s", s.Series[i].Label, s.Series[i+1].Label)
		if of.pairs < MinPairs || of.invalid > 0 {
			f.Answer, f.Why = Unsure, fmt.Sprintf("%s: %d valid blocks, and a verdict takes %d", step, of.pairs-of.invalid, MinPairs)
			continue
		}
		e, err := stats.Paired(of.d, level)
		if err != nil {
			return err
		}
		against := s.Expect.Direction == stats.Higher && e.High < -limit || s.Expect.Direction == stats.Lower && e.Low > limit
		if against && e.Level >= level {
			f.Answer, f.Why = Disagrees, fmt.Sprintf("%s it is %.2f times", step, math.Exp(e.Estimate))
			return nil
		}
	}
	return nil
}

// own are a series' values themselves.
func (s Series) own(m Metric) (p paired, err error) {
	var valid, all []float64
	for _, r := range s.Rows {
		v, ok := m.of(r).Get()
		if !ok || r.SkippedReason != "" {
			p.leftOut++
			continue
		}
		if all = append(all, v); r.valid() {
			valid = append(valid, v)
		}
	}
	return p, p.settle(valid, all)
}

// missing is why no run of a series has a value, for a ratio or as it is; "": one has.
func (s Series) missing(m Metric, ratio bool) (why string) {
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

// Overall is the answer for a claim that is shown several times: all have to agree.
func Overall(findings []Finding) Answer {
	for _, a := range []Answer{Disagrees, Unsure, TooFew, NotMeasured} {
		if slices.ContainsFunc(findings, func(f Finding) bool { return f.Answer == a }) {
			return a
		}
	}
	return Agrees
}
