package report

import (
	"cmp"
	"encoding/csv"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/kvwire/kvwire/lab/stats"
)

// CarryFile is the name of the file of carry-over in a folder of results.
const CarryFile = "carryover.csv"

// Carry is the effect of a variant on the slice after its own: a line of carryover.csv. A ratio of 1 is no effect.
type Carry struct {
	Question, Metric string
	After            string  // the variant whose slice came before
	Ratio            float64 // slices after it, divided by the median slice of their own variant and generation
	Low, High, Level float64 // its interval over the generations
	Generations      int
}

// carryMetrics are the metrics of carryover.csv, in the order of its lines.
var carryMetrics = []string{"ops_per_s", "cpu_ns_per_op", "lat_p50_ns"}

// CarryOver estimates, for each question, metric and predecessor, how slices after the predecessor differ from others. Each
// slice is compared, by its log-ratio, with the median slice of its own variant and generation. A generation's value is the median over the
// slices after the predecessor. These slices are part of the median that they are compared with, so with few variants the estimate is too small.
// The result over the generations is Hodges and Lehmann's estimate with its exact interval.
func CarryOver(all []Slice) (out []Carry) {
	type key struct{ question, metric, after string }
	var order []key
	values := map[key][]float64{} // one of each generation
	for _, g := range byGeneration(all) {
		for _, name := range carryMetrics {
			for _, after := range g.variants() {
				d := g.following(after, ofSlices[name])
				if len(d) == 0 {
					continue
				}
				k := key{g.question, name, after}
				if values[k] == nil {
					order = append(order, k)
				}
				slices.Sort(d)
				values[k] = append(values[k], stats.Median(d))
			}
		}
	}
	slices.SortStableFunc(order, func(a, b key) int {
		metric := cmp.Compare(slices.Index(carryMetrics, a.metric), slices.Index(carryMetrics, b.metric))
		return cmp.Or(cmp.Compare(a.question, b.question), metric, cmp.Compare(a.after, b.after))
	})
	for _, k := range order {
		d := values[k]
		e, err := stats.Paired(d[:min(len(d), stats.PairsMax)], 0.95)
		if err != nil {
			continue // there is one value at least, and all are finite
		}
		i := interval(e)
		out = append(out, Carry{k.question, k.metric, k.after, math.Exp(e.Estimate), i.Low, i.High, i.Level, e.N})
	}
	return out
}

// generationSlices are the slices of one generation of a question.
type generationSlices struct {
	question   string
	generation int64
	slices     []*Slice
}

func byGeneration(all []Slice) (of []*generationSlices) {
	type key struct {
		question   string
		generation int64
	}
	at := map[key]*generationSlices{}
	for i := range all {
		n, _ := all[i].Generation.Get()
		k := key{all[i].Question, n}
		if at[k] == nil {
			at[k] = &generationSlices{question: k.question, generation: n}
			of = append(of, at[k])
		}
		at[k].slices = append(at[k].slices, &all[i])
	}
	return of
}

// variants are the variants that have slices, sorted.
func (g *generationSlices) variants() (all []string) {
	for _, s := range g.slices {
		all = append(all, s.Variant)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// following are the log-ratios of the slices after a variant, each to the median slice of its own variant.
func (g *generationSlices) following(after string, of func(s *Slice) Float) (d []float64) {
	medians := map[string]float64{}
	values := map[string][]float64{}
	for _, s := range g.slices {
		if v, ok := of(s).Get(); ok && v > 0 {
			values[s.Variant] = append(values[s.Variant], v)
		}
	}
	for variant, v := range values {
		slices.Sort(v)
		medians[variant] = stats.Median(v)
	}
	for _, s := range g.slices {
		if v, ok := of(s).Get(); ok && v > 0 && s.After == after {
			d = append(d, logRatio(medians[s.Variant], v))
		}
	}
	return d
}

// WriteCarryOver writes carryover.csv.
func WriteCarryOver(w io.Writer, all []Carry) error {
	c := csv.NewWriter(w)
	_ = c.Write(names(carryColumns))
	for _, x := range all {
		_ = c.Write([]string{x.Question, x.Metric, x.After, finite(x.Ratio), finite(x.Low), finite(x.High), finite(x.Level), strconv.Itoa(x.Generations)})
	}
	c.Flush()
	return c.Error()
}
