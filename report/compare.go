package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/kvwire/kvwire/bench/stats"
)

// Metric is something that variants are compared by.
type Metric struct {
	Name   string // a column of runs.csv, or a sum of columns
	Higher bool   // is better
	unit   string // in bench.txt; "": a number without one
	of     func(r *Row) Float
}

// Metrics are those that there are.
var Metrics = []Metric{
	{"ops_per_s", true, "ops/s", func(r *Row) Float { return r.OpsPerS }},
	{"lat_p50_ns", false, "p50-ns", func(r *Row) Float { return float(r.LatP50Ns) }},
	{"lat_p99_ns", false, "p99-ns", func(r *Row) Float { return float(r.LatP99Ns) }},
	{"cpu_ns_per_op", false, "cpu-ns/op", func(r *Row) Float {
		return bothSides(r, total(r.ClientUserNsPerOp, r.ClientSysNsPerOp), total(r.ServerUserNsPerOp, r.ServerSysNsPerOp))
	}},
}

// bothSides is what client and server come to together.
func bothSides(r *Row, client, server Float) Float {
	if r.inProcess() {
		return client
	}
	return total(client, server)
}

// Of is a run's value, NA where it has none.
func (m Metric) Of(r *Row) Float { return m.of(r) }

// Text is a value as people write it.
func (m Metric) Text(v float64) string {
	switch {
	case m.unit == "":
		return strconv.FormatFloat(v, 'g', 3, 64)
	case m.Higher:
		return Rate(v)
	}
	return Duration(int64(v))
}

func float(i Int) Float {
	v, ok := i.Get()
	if !ok {
		return Float{}
	}
	return F(float64(v))
}

// FindMetric gives a metric by its name.
func FindMetric(name string) (Metric, error) {
	var names []string
	for _, m := range Metrics {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return Metric{}, fmt.Errorf("metric %q is unknown (%s)", name, strings.Join(names, ", "))
}

// Series are the runs of one cell, one of each block at most.
type Series struct {
	Label string
	Rows  map[int]*Row // by block
}

// Pairs is what is to be compared: a baseline, that baseline again, and the variants.
type Pairs struct {
	Question string
	Primary  []string // metrics for which verdicts are given; the others only have intervals
	Baseline Series
	Again    Series // may be empty
	Variants []Series
}

// Comparison is a row of compare.csv: one variant beside its baseline, by one metric, over the blocks that have both.
type Comparison struct {
	Question, Baseline, Variant string
	Metric                      Metric
	Pairs                       int     // blocks that were compared: those with a valid run of both, if they are MinPairs or more
	Invalid                     int     // … of these, those in which one was invalid: there were not enough others, and there is no verdict
	LeftOut                     int     // blocks that were not, because one of the two was invalid or failed
	Ratio, Low, High            float64 // of variant to baseline; NaN without pairs
	Level                       float64 // that the interval covers
	P, PHolm                    float64 // NaN: not tested
	Delta                       float64 // what counts as the same; NaN: the baseline was not run twice
	Verdict                     string  // "": it is exploratory
}

// MinPairs is how many pairs a verdict needs: with 6 an interval of 95 % exists.
const MinPairs = 6

// Compare gives the comparisons of all metrics. Verdicts are adjusted for how many there are in all.
func Compare(all []Pairs) ([]Comparison, error) {
	var out []Comparison
	var effects []stats.Effect
	var claims []int // of out
	for _, q := range all {
		for _, m := range Metrics {
			delta, err := Noise(q.Baseline, q.Again, m)
			if err != nil {
				return nil, err
			}
			for _, v := range q.Variants {
				c := Comparison{Question: q.Question, Baseline: q.Baseline.Label, Variant: v.Label, Metric: m, Delta: delta,
					Ratio: math.NaN(), Low: math.NaN(), High: math.NaN(), Level: math.NaN(), P: math.NaN(), PHolm: math.NaN()}
				e, err := q.Baseline.against(v, m)
				if err != nil {
					return nil, err
				}
				if c.Pairs, c.Invalid, c.LeftOut = e.pairs, e.invalid, e.leftOut; e.pairs > 0 {
					c.Ratio, c.Low, c.High, c.Level, c.P = math.Exp(e.Estimate), math.Exp(e.Low), math.Exp(e.High), e.Level, e.P
				}
				if slices.Contains(q.Primary, m.Name) {
					c.Verdict = string(stats.CantTell)
					if e.pairs >= MinPairs && e.invalid == 0 && !math.IsNaN(delta) {
						claims = append(claims, len(out))
					}
				}
				out, effects = append(out, c), append(effects, e.Effect)
			}
		}
	}
	ps := make([]float64, len(claims))
	for i, k := range claims {
		ps[i] = out[k].P
	}
	for i, p := range stats.Holm(ps) {
		c := &out[claims[i]]
		c.PHolm = p
		c.Verdict = verdict(stats.Judge(effects[claims[i]], p, c.Delta), c.Metric)
	}
	return out, nil
}

// Noise is δ, from a baseline and that baseline again: the difference below which two variants count as the same. NaN where it was not
// run twice.
func Noise(baseline, again Series, m Metric) (float64, error) {
	aa, err := baseline.against(again, m)
	if err != nil || aa.pairs < 2 {
		return math.NaN(), err
	}
	return stats.Floor(aa.Effect), nil
}

// verdict says it in the metric's words: faster and slower, where less time is better.
func verdict(v stats.Verdict, m Metric) string {
	better, worse := "faster", "slower"
	if m.Name == "cpu_ns_per_op" {
		better, worse = "cheaper", "dearer"
	}
	switch {
	case v == stats.Higher && m.Higher, v == stats.Lower && !m.Higher:
		return better
	case v == stats.Higher, v == stats.Lower:
		return worse
	}
	return string(v)
}

// Unpaired compares the runs of a cell in two folders, which nothing pairs: b beside a. Invalid runs are left out as long as there are
// others. There is no verdict: neighbours and weather of two days are in the difference.
func Unpaired(a, b []Row, m Metric) (c Comparison, err error) {
	c = Comparison{Metric: m, Ratio: math.NaN(), Low: math.NaN(), High: math.NaN(), Level: math.NaN(), P: math.NaN(), PHolm: math.NaN(), Delta: math.NaN()}
	x, invalid, out := logs(a, m)
	y, invalid2, out2 := logs(b, m)
	c.Invalid, c.LeftOut = invalid+invalid2, out+out2
	if c.Pairs = min(len(x), len(y)); c.Pairs == 0 {
		return c, nil
	}
	e, err := stats.Independent(x, y, 0.95)
	if err != nil {
		return c, err
	}
	c.Ratio, c.Low, c.High, c.Level, c.P = math.Exp(e.Estimate), math.Exp(e.Low), math.Exp(e.High), e.Level, e.P
	return c, nil
}

// logs are the logarithms of what runs measured: of the valid ones, or of all where none is valid.
func logs(rows []Row, m Metric) (v []float64, invalid, leftOut int) {
	var all []float64
	for i := range rows {
		x, ok := rows[i].measured(m)
		if !ok {
			leftOut++
			continue
		}
		if all = append(all, math.Log(x)); rows[i].valid() {
			v = append(v, math.Log(x))
		}
	}
	if len(v) == 0 {
		return all, len(all), leftOut
	}
	return v, 0, leftOut + len(all) - len(v)
}

// paired is an effect in log-ratios, and the blocks that it comes from.
type paired struct {
	stats.Effect
	d                       []float64 // one of each block
	pairs, invalid, leftOut int
}

// inProcess says whether client and server were one process, whose costs are in the client's columns.
func (r *Row) inProcess() bool { return r.Transport == "inproc" || r.Transport == "codec" }

// against pairs two series by block, by the logarithm of the ratio.
func (s Series) against(o Series, m Metric) (paired, error) {
	return s.differ(o, m, func(x, y float64) float64 { return math.Log(y) - math.Log(x) })
}

// differ pairs two series by block; by says how a pair differs.
func (s Series) differ(o Series, m Metric, by func(x, y float64) float64) (p paired, err error) {
	var valid, all []float64
	for _, b := range slices.Sorted(maps.Keys(s.Rows)) {
		if o.Rows[b] == nil {
			continue
		}
		x, ok := s.Rows[b].measured(m)
		y, ok2 := o.Rows[b].measured(m)
		if !ok || !ok2 {
			p.leftOut++
			continue
		}
		d := by(x, y)
		if all = append(all, d); s.Rows[b].valid() && o.Rows[b].valid() {
			valid = append(valid, d)
		}
	}
	return p, p.settle(valid, all)
}

// settle uses the valid blocks, as long as they are enough; all has them and the invalid ones.
func (p *paired) settle(valid, all []float64) (err error) {
	invalid := len(all) - len(valid)
	if len(valid) >= MinPairs || invalid == 0 {
		all = valid
		p.leftOut += invalid
	} else {
		p.invalid = invalid
	}
	p.d = all
	if p.pairs = len(all); p.pairs > 0 {
		p.Effect, err = stats.Paired(all, 0.95)
	}
	return err
}

func (r *Row) valid() bool {
	v, ok := r.Valid.Get()
	return ok && v
}

// measured is a run's value of a metric, where it has one.
func (r *Row) measured(m Metric) (float64, bool) {
	v, ok := m.of(r).Get()
	return v, ok && v > 0 && r.SkippedReason == ""
}

// WriteComparisons writes compare.csv.
func WriteComparisons(w io.Writer, all []Comparison) error {
	c := csv.NewWriter(w)
	err := c.Write(names(compareColumns))
	for _, x := range all {
		if err != nil {
			return err
		}
		err = c.Write([]string{x.Question, x.Metric.Name, x.Baseline, x.Variant, strconv.Itoa(x.Pairs), strconv.Itoa(x.Invalid), strconv.Itoa(x.LeftOut), finite(x.Ratio), finite(x.Low),
			finite(x.High), finite(x.Level), finite(x.P), finite(x.PHolm), finite(x.Delta), x.Verdict, strconv.FormatBool(x.Verdict == "")})
	}
	c.Flush()
	return c.Error()
}
