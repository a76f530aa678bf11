package report

import (
	"math"
	"slices"

	"github.com/kvwire/kvwire/lab/stats"
)

// Narrow reports whether measuring may stop, because each interval that counts has a half-width of at most until, such as 0.03. The
// intervals have the level 1 - stats.Alpha/Looks at every look. Those of the primary metrics count; if no question has any,
// those of the metrics that slices have. Variants without pairs do not count.
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
