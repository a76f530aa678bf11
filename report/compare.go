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

	"github.com/kvwire/kvwire/lab/stats"
)

// Metric is a quantity by which variants are compared.
type Metric struct {
	Name   string // a column of runs.csv, or a sum of columns
	Higher bool   // more is better
	unit   string // in bench.txt; "": a number without one
	of     func(r *Row) Float
}

// Metrics are all metrics of comparisons.
var Metrics = []Metric{
	{"ops_per_s", true, "ops/s", func(r *Row) Float { return r.OpsPerS }},
	{"lat_p50_ns", false, "p50-ns", func(r *Row) Float { return float(r.LatP50Ns) }},
	{"lat_p99_ns", false, "p99-ns", func(r *Row) Float { return float(r.LatP99Ns) }},
	{"cpu_ns_per_op", false, "cpu-ns/op", func(r *Row) Float {
		return bothSides(r, total(r.ClientUserNsPerOp, r.ClientSysNsPerOp), total(r.ServerUserNsPerOp, r.ServerSysNsPerOp))
	}},
}

// bothSides returns the sum of client and server; for a run in one process, the client's value.
func bothSides(r *Row, client, server Float) Float {
	if r.inProcess() {
		return client
	}
	return total(client, server)
}

// Of returns a run's value of the metric, or NA.
func (m Metric) Of(r *Row) Float { return m.of(r) }

// Text formats a value for people: 12.3k, 45.6 µs.
func (m Metric) Text(v float64) string {
	switch {
	case m.unit == "":
		return strconv.FormatFloat(v, 'g', 3, 64)
	case m.unit == "B":
		return strconv.FormatFloat(v, 'g', 3, 64) + " B"
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

// FindMetric returns the metric with this name.
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

// Series has the runs of one cell, at most one per generation.
type Series struct {
	Label  string
	Rows   map[int]*Row    // by generation
	Slices map[int][]Slice // by generation; none: it was not measured in slices
}

// Pairs are the series of one question: the baseline, the baseline again (A/A), and the variants.
type Pairs struct {
	Question string
	Compared []string // the flags in which baseline and variants may differ: the compared factor, and flags that belong to its values; nil: any
	Primary  []string // metrics of the primary claims, which get verdicts; the others only have intervals
	Baseline Series
	Again    Series // may be empty
	Variants []Series
}

// Options are the options of a comparison.
type Options struct {
	Looks   int     // the most times that the results are looked at before they are final; each look has an equal share of stats.Alpha; 0: 1
	Matters float64 // the smallest difference that counts, such as 0.03; 0: stats.Matters
}

func (o Options) filled() (Options, error) {
	if o.Looks < 0 || o.Matters < 0 || o.Matters >= 1 {
		return o, fmt.Errorf("report: %d looks, and a difference that matters of %v: at least one look, and a ratio from 0 to 1", o.Looks, o.Matters)
	}
	if o.Looks == 0 {
		o.Looks = 1
	}
	if o.Matters == 0 {
		o.Matters = stats.Matters
	}
	return o, nil
}

// Interval is an interval of ratios; its ends are NaN where there is none.
type Interval struct {
	Low, High, Level float64
}

func noInterval() Interval { return Interval{math.NaN(), math.NaN(), math.NaN()} }

// interval converts the interval of an effect from log-ratios to ratios. One pair has none.
func interval(e stats.Effect) Interval {
	if e.Level == 0 {
		return noInterval()
	}
	return Interval{math.Exp(e.Low), math.Exp(e.High), e.Level}
}

// Text formats an interval for people: "0.931 to 0.988"; "" where there is none.
func (i Interval) Text() string {
	if math.IsNaN(i.Low) || math.IsNaN(i.High) || math.IsInf(i.Low, 0) || math.IsInf(i.High, 0) {
		return ""
	}
	return fmt.Sprintf("%.3f to %.3f", i.Low, i.High)
}

// Kinds of comparisons.
const (
	KindRatio       = "ratio"
	KindInteraction = "interaction"
)

// Comparison is a row of compare.csv: one variant compared with its baseline, by one metric, over the generations that have both.
type Comparison struct {
	Kind              string
	Question          string
	At                string // interaction: "depth=16 / depth=1"
	Baseline, Variant string
	Metric            Metric
	Pairs             int      // generations in the ratio
	LeftOut           int      // generations left out, because a side was invalid, failed or has no value
	Ratio             float64  // variant divided by baseline; NaN without pairs
	Interval                   // of the ratio, at 95 %
	AA                Interval // of the A/A ratio, at 95 %: the band of the charts
	P, PHolm          float64  // NaN: not tested
	Corrected         Interval // of a claim, at its corrected level
	Verdict           string   // "": it is exploratory
	Why               string   // why there is no verdict, or no ratio, or slices too short for the requests
	CalmRatio         float64  // without slices that steal touched; NaN: not known
	Calm              Interval
}

func newComparison(kind, question string, baseline, variant string, m Metric) Comparison {
	none := math.NaN()
	return Comparison{Kind: kind, Question: question, Baseline: baseline, Variant: variant, Metric: m,
		Ratio: none, Interval: noInterval(), AA: noInterval(), P: none, PHolm: none, Corrected: noInterval(), CalmRatio: none, Calm: noInterval()}
}

// fill copies the effect over the generations, and the same without slices that steal touched, into the row.
func (c *Comparison) fill(e, calm paired) {
	if c.Pairs, c.LeftOut = e.pairs, e.leftOut; e.pairs > 0 {
		c.Ratio, c.Interval, c.P = math.Exp(e.Estimate), interval(e.Effect), e.DualP
	}
	if calm.pairs > 0 {
		c.CalmRatio, c.Calm = math.Exp(calm.Estimate), interval(calm.Effect)
	}
}

// Claim reports whether the comparison is a primary claim.
func (c *Comparison) Claim() bool { return c.Verdict != "" }

// whyMax is the longest reason, in characters, that a printed table shows.
const whyMax = 120

// ShortWhy is Why, cut to whyMax characters.
func (c *Comparison) ShortWhy() string {
	if r := []rune(c.Why); len(r) > whyMax {
		return string(r[:whyMax]) + "…"
	}
	return c.Why
}

// Decided reports whether there is a verdict other than can't tell and not measured.
func (c *Comparison) Decided() bool {
	return c.Verdict != "" && c.Verdict != verdictCantTell && c.Verdict != verdictNotMeasured && c.Verdict != verdictNotComparable
}

// MinPairs is the smallest number of pairs that allows a 95 % interval.
const MinPairs = 6

// selfLevel is the level of the A/A interval that must contain 1: the check of the instrument.
const selfLevel = 0.99

// The verdicts that are no direction.
const (
	verdictCantTell    = string(stats.CantTell)
	verdictNotMeasured = "not measured" // a side has no value: no claim

	verdictNotComparable = "not comparable" // the sides differ in more than what is compared: no claim
)

// Compare returns the comparisons by all metrics. The intervals of claims are corrected for the number of claims
// (Holm 1979) and for the looks. A comparison whose sides differ in another factor than the compared one is refused: it has no ratio, and Why has that
// factor and both values. It does not count as a claim, and neither does a comparison with a side that was not measured. A claim with a side whose slices
// are too short for its requests counts, but has no verdict.
func Compare(all []Pairs, o Options) ([]Comparison, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	var out []Comparison
	var claims []int       // of out
	var family [][]float64 // their log-ratios
	var checks []AACheck
	for i := range all {
		q := &all[i]
		if why := q.unlike(&q.Again); why != "" {
			return nil, fmt.Errorf("report: the baseline again at %q: %s", q.Question, why)
		}
		for _, m := range Metrics {
			aa, err := CheckAA(q.Baseline, q.Again, m)
			if err != nil {
				return nil, err
			}
			for k := range q.Variants {
				v := &q.Variants[k]
				c := newComparison(KindRatio, q.Question, q.Baseline.Label, v.Label, m)
				c.AA = aa.Band
				claim := slices.Contains(q.Primary, m.Name)
				if c.Why = q.unlike(v); c.Why != "" {
					if claim {
						c.Verdict = verdictNotComparable
					}
					out = append(out, c)
					continue
				}
				e, err := q.Baseline.against(v, m)
				if err != nil {
					return nil, err
				}
				calm, err := q.Baseline.calmAgainst(v, m)
				if err != nil {
					return nil, err
				}
				c.fill(e, calm)
				c.Why = reason(e.pairs, m, "both", q.Baseline, *v)
				switch {
				case claim && e.pairs > 0:
					c.Verdict = verdictCantTell
					claims, family, checks = append(claims, len(out)), append(family, e.d), append(checks, aa)
				case claim:
					c.Verdict = verdictNotMeasured
				}
				out = append(out, c)
			}
		}
	}
	judged, err := stats.JudgeFamily(family, stats.Alpha/float64(o.Looks), o.Matters)
	if err != nil {
		return nil, err
	}
	for i := range judged {
		out[claims[i]].judge(&judged[i], &checks[i])
	}
	return out, nil
}

// reason is why a comparison has no verdict, because the slices of a side are too short for its requests, or without pairs why it has no ratio. all is "both",
// or "all four". "": there is no such reason.
func reason(pairs int, m Metric, all string, sides ...Series) (why string) {
	if why = longestNeed(sides...).why; why != "" || pairs > 0 {
		return why
	}
	for _, s := range sides {
		if why = s.missing(m, true); why != "" {
			return why
		}
	}
	for _, s := range sides {
		if why = s.invalid(); why != "" {
			return why
		}
	}
	return fmt.Sprintf("no generation has valid runs of %s sides", all)
}

// invalid is why no run of a series is valid, by the first reason; "": a run is, or there is no reason.
func (s *Series) invalid() (why string) {
	for _, g := range slices.Sorted(maps.Keys(s.Rows)) {
		r := s.Rows[g]
		if r.valid() {
			return ""
		}
		if why == "" && r.InvalidReason != "" {
			why = s.Label + ": invalid: " + r.InvalidReason
		}
	}
	return why
}

// AACheck is the comparison of a baseline with itself (A/A), by one metric: the check of the instrument.
type AACheck struct {
	Band    Interval // of the A/A ratio, at 95 %
	Checked bool     // the baseline was measured twice
	Wide    Interval // the same at 99 %
	Differs bool     // Wide excludes 1
}

// CheckAA compares a baseline with itself. A baseline in one process has no CPU time of one side; then the CPU time of both sides is checked
// instead.
func CheckAA(baseline, again Series, m Metric) (s AACheck, err error) {
	s = AACheck{Band: noInterval(), Wide: noInterval()}
	aa, err := baseline.against(&again, m)
	if err == nil && aa.pairs == 0 && (m.Name == "client_cpu_ns_per_op" || m.Name == "server_cpu_ns_per_op") {
		if m, err = FindMetric("cpu_ns_per_op"); err == nil {
			aa, err = baseline.against(&again, m)
		}
	}
	if err != nil || aa.pairs == 0 {
		return s, err
	}
	wide, err := stats.Paired(aa.d, selfLevel)
	if err != nil {
		return s, err
	}
	s.Band, s.Checked, s.Wide, s.Differs = interval(aa.Effect), true, interval(wide), wide.DualP <= 1-selfLevel
	return s, nil
}

// unchecked is the reason for no verdict where a baseline was not measured twice.
const unchecked = "the baseline was not measured twice: there is no A/A check"

// why is the reason for no verdict if the baseline differs from itself.
func (s *AACheck) why() string {
	return fmt.Sprintf("the baseline differs from itself: %.3f to %.3f (%.0f %%)", s.Wide.Low, s.Wide.High, 100*selfLevel)
}

// judge gives a claim its verdict, or can't tell with the reason. A claim that has a reason already keeps it.
func (c *Comparison) judge(j *stats.Judged, aa *AACheck) {
	c.PHolm = j.PHolm
	if j.N >= j.Needed {
		c.Corrected = interval(j.Effect)
	}
	switch {
	case c.Why != "": // slices too short for the requests
	case j.N < j.Needed:
		c.Why = fmt.Sprintf("too few generations: %d, and a verdict takes %d", j.N, j.Needed)
	case !aa.Checked:
		c.Why = unchecked
	case aa.Differs:
		c.Why = aa.why()
	case j.Verdict == stats.CantTell:
		c.Why = fmt.Sprintf("interval too wide: %.3f to %.3f", c.Corrected.Low, c.Corrected.High)
	default:
		c.Verdict = verdict(j.Verdict, c.Metric)
		if j.AtLeast > 0 {
			c.Verdict += " by " + atLeast(j.AtLeast)
		}
	}
}

// atLeast formats the distance of a ratio from 1: in per cent, or as a factor from 2 on. It is rounded down, so it does not exceed the end of the interval.
func atLeast(distance float64) string {
	if distance >= 1 {
		factor := math.Floor(10*(1+distance)) / 10
		if factor >= 10 {
			factor = math.Floor(factor)
		}
		return "a factor of at least " + strconv.FormatFloat(factor, 'f', -1, 64)
	}
	percent := math.Floor(1000*distance) / 10
	if percent >= 10 {
		percent = math.Floor(percent)
	}
	return "at least " + strconv.FormatFloat(percent, 'f', -1, 64) + " %"
}

// verdict is the word for a verdict by this metric: faster or slower, cheaper or dearer, same.
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

// Unpaired compares the runs of a cell in two folders, b with a. Nothing pairs these runs. Invalid runs are left out. There is no verdict:
// the folders were measured at different times, so the ratio includes changes of the machine between them.
func Unpaired(a, b []Row, m Metric) (c Comparison, err error) {
	c = newComparison(KindRatio, "", "", "", m)
	x, out := logs(a, m)
	y, out2 := logs(b, m)
	c.LeftOut = out + out2
	if c.Pairs = min(len(x), len(y)); c.Pairs == 0 {
		return c, nil
	}
	e, err := stats.Independent(x, y, 0.95)
	if err != nil {
		return c, err
	}
	c.Ratio, c.Interval, c.P = math.Exp(e.Estimate), interval(e), e.P
	return c, nil
}

// logs are the logarithms of the values of valid runs.
func logs(rows []Row, m Metric) (v []float64, leftOut int) {
	for i := range rows {
		x, ok := rows[i].measured(m)
		if !ok || !rows[i].valid() {
			leftOut++
			continue
		}
		v = append(v, math.Log(x))
	}
	return v, leftOut
}

// inProcess reports whether client and server were one process, whose costs are in the client's columns.
func (r *Row) inProcess() bool { return r.Transport == "inproc" || r.Transport == "codec" }

func (r *Row) valid() bool {
	v, ok := r.Valid.Get()
	return ok && v
}

// measured is a run's value of a metric; false: it has none above 0.
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
		err = c.Write([]string{x.Kind, x.Question, x.At, x.Metric.Name, x.Baseline, x.Variant, strconv.Itoa(x.Pairs), strconv.Itoa(x.LeftOut),
			finite(x.Ratio), finite(x.Low), finite(x.High), finite(x.Level), finite(x.AA.Low), finite(x.AA.High), finite(x.P), finite(x.PHolm),
			finite(x.Corrected.Low), finite(x.Corrected.High), finite(x.Corrected.Level),
			x.Verdict, x.Why, finite(x.CalmRatio), finite(x.Calm.Low), finite(x.Calm.High), strconv.FormatBool(!x.Claim())})
	}
	c.Flush()
	return c.Error()
}
