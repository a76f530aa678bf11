package report

import (
	"maps"
	"math"
	"slices"

	"github.com/kvwire/kvwire/lab/stats"
)

// paired is an effect over generations, with the values that it comes from.
type paired struct {
	stats.Effect
	d              []float64 // one value of each generation
	generations    []int     // the generations of d
	pairs, leftOut int
}

// A way returns the value of one generation for two sides. by is the difference of two values. calm leaves out slices that steal touched. ok is
// false if there is no value.
type way func(x, y *Series, m Metric, generation int, calm bool, by func(x, y float64) float64) (v float64, ok bool)

// ofSlices are the metrics that slices also have. Their value of a generation comes from byRound, that of all other metrics from byRow.
var ofSlices = map[string]func(s *Slice) Float{
	"ops_per_s":     func(s *Slice) Float { return s.OpsPerS },
	"cpu_ns_per_op": func(s *Slice) Float { return s.CPUNsPerOp },
	"lat_p50_ns":    func(s *Slice) Float { return float(s.LatP50Ns) },
}

// OfSlices reports whether slices also have the metric: then its value of a generation is the median over the rounds.
func OfSlices(m Metric) bool { return ofSlices[m.Name] != nil }

// way returns the function for the metric's value of a generation.
func (m Metric) way() way {
	if OfSlices(m) {
		return byRound
	}
	return byRow
}

// byRow uses the totals of the generation. They include slices that steal touched, so there is no calm value.
func byRow(x, y *Series, m Metric, generation int, calm bool, by func(x, y float64) float64) (v float64, ok bool) {
	a, ok := x.Rows[generation].measured(m)
	b, ok2 := y.Rows[generation].measured(m)
	if !ok || !ok2 || calm {
		return 0, false
	}
	return by(a, b), true
}

// byRound uses the median over the rounds of the generation: in each round the two sides had slices close to each other in time. It uses the totals if
// fewer than half of the rounds have a value of both sides, because the others may be the slow ones. It uses the totals for ops_per_s if a slice
// completed nothing: totals include such a stall, and a round with a rate of 0 has no ratio.
func byRound(x, y *Series, m Metric, generation int, calm bool, by func(x, y float64) float64) (v float64, ok bool) {
	of := ofSlices[m.Name]
	first := map[int64]*Slice{} // of x, by round
	for i := range x.Slices[generation] {
		s := &x.Slices[generation][i]
		if round, ok := s.Round.Get(); ok && (!calm || s.calm()) {
			first[round] = s
		}
	}
	rounds := 0
	var d []float64
	for i := range y.Slices[generation] {
		s := &y.Slices[generation][i]
		round, _ := s.Round.Get()
		f := first[round]
		if f == nil || calm && !s.calm() {
			continue
		}
		rounds++
		if m.Name == "ops_per_s" && (f.stalled() || s.stalled()) {
			return byRow(x, y, m, generation, calm, by)
		}
		a, ok := of(f).Get()
		b, ok2 := of(s).Get()
		if ok && ok2 && a > 0 && b > 0 {
			d = append(d, by(a, b))
		}
	}
	if len(d) == 0 || 2*len(d) < rounds {
		return byRow(x, y, m, generation, calm, by)
	}
	slices.Sort(d)
	return stats.Median(d), true
}

// logRatio is the logarithm of the ratio of y to x, both above 0.
func logRatio(x, y float64) float64 { return math.Log(y) - math.Log(x) }

// against pairs two series by generation, by the logarithm of the ratio of o to s.
func (s *Series) against(o *Series, m Metric) (paired, error) { return s.differ(o, m, false, logRatio) }

// calmAgainst is against, without slices that steal touched; without slices it has no pairs.
func (s *Series) calmAgainst(o *Series, m Metric) (paired, error) {
	return s.differ(o, m, true, logRatio)
}

// differ pairs two series by generation; by is the difference of a pair. It leaves out generations in which a side is invalid or has no value.
func (s *Series) differ(o *Series, m Metric, calm bool, by func(x, y float64) float64) (p paired, err error) {
	for _, g := range slices.Sorted(maps.Keys(s.Rows)) {
		if o.Rows[g] == nil {
			continue
		}
		d, ok := m.way()(s, o, m, g, calm, by)
		if !ok || !s.Rows[g].valid() || !o.Rows[g].valid() {
			p.leftOut++
			continue
		}
		p.d, p.generations = append(p.d, d), append(p.generations, g)
	}
	return p, p.settle()
}

// settle computes the effect, if there is at least one value.
func (p *paired) settle() (err error) {
	if p.pairs = len(p.d); p.pairs > 0 {
		p.Effect, err = stats.Paired(p.d, 0.95)
	}
	return err
}
