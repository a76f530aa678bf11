package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"
)

// Rung is two neighbouring cells of a ladder, which differ in one part.
type Rung struct {
	Question string // what both have in common
	Path     string // the network that the rung belongs to
	Step     string // the part that To adds: codec, network, store, disk, notification
	From, To Series
}

// Step is what a rung adds, in one metric: the difference within each generation, over all generations that have both cells.
type Step struct {
	Rung
	Metric               Metric
	Pairs, LeftOut       int     // as in Comparison
	Ns, Low, High, Level float64 // Hodges and Lehmann's estimate, and its exact interval
}

// stepMetrics are metrics of time, whose differences are meaningful.
var stepMetrics = []string{"lat_p50_ns", "cpu_ns_per_op"}

// Steps computes the steps of rungs. A rung without a pair is left out.
func Steps(rungs []Rung) (all []Step, err error) {
	for _, r := range rungs {
		for _, name := range stepMetrics {
			m, err := FindMetric(name)
			if err != nil {
				return nil, err
			}
			p, err := r.From.differ(&r.To, m, false, func(x, y float64) float64 { return y - x })
			if err != nil {
				return nil, err
			}
			if p.pairs > 0 {
				all = append(all, Step{r, m, p.pairs, p.leftOut, p.Estimate, p.Low, p.High, p.Level})
			}
		}
	}
	return all, nil
}

// finite formats a number for a CSV file; "" for NaN and infinities.
func finite(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// WriteSteps writes steps.csv.
func WriteSteps(w io.Writer, all []Step) error {
	c := csv.NewWriter(w)
	_ = c.Write(names(stepColumns))
	for _, s := range all {
		_ = c.Write([]string{s.Question, s.Path, s.Step, s.From.Label, s.To.Label, s.Metric.Name, strconv.Itoa(s.Pairs), strconv.Itoa(s.LeftOut),
			finite(s.Ns), finite(s.Low), finite(s.High), finite(s.Level)})
	}
	c.Flush()
	return c.Error()
}

// PrintSteps prints a table of what each rung adds.
func PrintSteps(w io.Writer, all []Step) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "step\tfrom\tto\tquestion\tmetric\tadds\tinterval\tgenerations")
	for _, s := range all {
		interval := ""
		if !math.IsNaN(s.Low) && !math.IsInf(s.Low, 0) && !math.IsInf(s.High, 0) {
			interval = fmt.Sprintf("%s to %s (%.0f %%)", signed(s.Low), signed(s.High), 100*s.Level)
		}
		pairs := strconv.Itoa(s.Pairs)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Step, s.From.Label, s.To.Label, s.Question, s.Metric.Name, signed(s.Ns), interval, pairs)
	}
	return t.Flush()
}

// signed formats a duration with its sign.
func signed(ns float64) string {
	if ns < 0 {
		return "-" + Duration(int64(-ns))
	}
	return "+" + Duration(int64(ns))
}
