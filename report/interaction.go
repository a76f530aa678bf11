package report

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kvwire/kvwire/lab/stats"
)

// Interaction compares two questions that differ only in one other factor: does the effect of a variant depend on
// that factor?
type Interaction struct {
	Question string // the name of what both questions share
	Factor   string // the flag in which the questions differ: "depth"
	From, To string // its two values; From is the first one in the experiment
	AtFrom   Pairs
	AtTo     Pairs
}

// Interactions returns the ratios of ratios, (variant / baseline at To) / (variant / baseline at From), for all metrics and for the variants
// that both questions have, with their intervals over generations. There are no verdicts.
func Interactions(all []Interaction) (out []Comparison, err error) {
	for i := range all {
		x := &all[i]
		for _, m := range Metrics {
			for k := range x.AtTo.Variants {
				v := &x.AtTo.Variants[k]
				at := slices.IndexFunc(x.AtFrom.Variants, func(s Series) bool { return s.Label == v.Label })
				if at < 0 {
					continue
				}
				c := newComparison(KindInteraction, x.Question, x.AtTo.Baseline.Label, v.Label, m)
				c.At = fmt.Sprintf("%s=%s / %s=%s", x.Factor, x.To, x.Factor, x.From)
				if c.Why = cmp.Or(x.AtTo.unlike(v), x.AtFrom.unlike(&x.AtFrom.Variants[at])); c.Why != "" {
					out = append(out, c)
					continue
				}
				e, err := x.ratio(m, v, &x.AtFrom.Variants[at], false)
				if err != nil {
					return nil, err
				}
				calm, err := x.ratio(m, v, &x.AtFrom.Variants[at], true)
				if err != nil {
					return nil, err
				}
				c.fill(e, calm)
				c.Why = reason(e.pairs, m, "all four", x.AtTo.Baseline, *v, x.AtFrom.Baseline, x.AtFrom.Variants[at])
				out = append(out, c)
			}
		}
	}
	return out, nil
}

// ratio pairs the log-ratios of both questions by the number of the generation. Generations of two questions are not measured at the
// same time, so this pairing removes no noise: the interval has the noise of both.
func (x *Interaction) ratio(m Metric, to, from *Series, calm bool) (p paired, err error) {
	a, err := x.AtTo.Baseline.differ(to, m, calm, logRatio)
	if err != nil {
		return p, err
	}
	b, err := x.AtFrom.Baseline.differ(from, m, calm, logRatio)
	if err != nil {
		return p, err
	}
	for i, g := range a.generations {
		if k := slices.Index(b.generations, g); k >= 0 {
			p.d, p.generations = append(p.d, a.d[i]-b.d[k]), append(p.generations, g)
		}
	}
	p.leftOut = a.leftOut + b.leftOut
	if p.pairs = len(p.d); p.pairs > 0 {
		p.Effect, err = stats.Paired(p.d, 0.95)
	}
	return p, err
}
