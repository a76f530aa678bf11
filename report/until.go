package report

import (
	"math"
	"slices"

	"github.com/kvwire/kvwire/bench/stats"
)

// Narrow reports whether measuring may stop: whether each interval that counts reaches at most until, such as 0.03, to either side. The
// intervals are at 1 - stats.Alpha/Looks, at every look alike. Those that count are of the primary metrics; where no question has any,
// of the metrics that slices have. What was not measured does not count.
func Narrow(all []Pairs, o Options, until float64) (bool, error) {
	o, err := o.filled()
	if err != nil {
		return false, err
	}
	miss := stats.Alpha / float64(o.Looks)
	claims := slices.ContainsFunc(all, func(q Pairs) bool { return len(q.Primary) > 0 })
	some := false
	for i := range all {
		q := &all[i]
		for _, m := range Metrics {
			if claims && !slices.Contains(q.Primary, m.Name) || !claims && ofSlices[m.Name] == nil {
				continue
			}
			for k := range q.Variants {
				p, err := q.Baseline.against(&q.Variants[k], m)
				if err != nil {
					return false, err
				}
				if p.pairs == 0 {
					continue
				}
				e, err := stats.Paired(p.d, 1-miss)
				if err != nil {
					return false, err
				}
				if some = true; e.N < stats.LeastPairs(miss) || (e.High-e.Low)/2 > math.Log1p(until) {
					return false, nil
				}
			}
		}
	}
	return some, nil
}
