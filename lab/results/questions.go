package results

import (
	"errors"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// QuestionResult is a question with what was measured of it: a row for each cell that was run, which is all its runs together.
type QuestionResult struct {
	experiments.Question
	Rows       []report.Row
	Histograms []*hdrhistogram.Histogram // of the rows' latencies; nil: none
	RowCells   []int                     // the rows' cells, as indices into the experiment's
}

// questionName is what distinguishes a question from the others.
func (r *Folder) questionName(flags experiments.Cell) string {
	return lab.QuestionName(r.Experiment, flags)
}

// variantName is what distinguishes a cell from the others of its question.
func (r *Folder) variantName(cell int) string {
	_, variant := r.Experiment.Split(r.Experiment.Cells[cell])
	return lab.VariantName(r.Experiment, variant)
}

// questionResults are all questions, in the order in which they are compared.
func (r *Folder) questionResults() (all []QuestionResult, err error) {
	for _, q := range r.Experiment.Questions() {
		a := QuestionResult{Question: q}
		for _, c := range q.Cells {
			of := r.CellRows(c, false)
			if len(of) == 0 {
				continue
			}
			row, lat, err := report.Together(of, r.histogram)
			if err != nil {
				return all, err
			}
			a.Rows, a.Histograms, a.RowCells = append(a.Rows, row), append(a.Histograms, lat), append(a.RowCells, c)
		}
		all = append(all, a)
	}
	return all, nil
}

// compare writes compare.csv, where there are blocks to pair.
func (r *Folder) compare() ([]report.Comparison, error) {
	if r.Plan.Generations < 2 {
		return nil, nil
	}
	var pairs []report.Pairs
	for _, q := range r.Experiment.Questions() {
		if len(q.Cells) < 2 {
			continue
		}
		p := report.Pairs{Question: r.questionName(q.Flags), Compared: r.Experiment.Compared(), Baseline: r.series(q.Cells[0], false), Again: r.series(q.Cells[0], true)}
		if r.Experiment.Primary.Has(q.Flags) && r.Plan.Generations >= report.MinPairs {
			p.Primary = r.Experiment.Primary.Metrics
		}
		for _, c := range q.Cells[1:] {
			p.Variants = append(p.Variants, r.series(c, false))
		}
		pairs = append(pairs, p)
	}
	all, err := report.Compare(pairs, r.options())
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all, r.write("compare.csv", func(w io.Writer) error { return report.WriteComparisons(w, all) })
}

// options are how the folder's comparisons are judged.
func (r *Folder) options() report.Options {
	o := report.Options{Matters: r.Experiment.Matters}
	if r.Plan.Until > 0 {
		o.Looks = lab.LooksMax
	}
	return o
}

// halfWidth is the widest half-width of the intervals of a question at a level, as a ratio less 1: those of its primary metrics, or else of operations per second, median
// latency and CPU time. It is infinite where an interval does not exist.
func (r *Folder) halfWidth(question int, level float64) (widest float64, err error) {
	q := r.Experiment.Questions()[question]
	metrics := []string{"ops_per_s", "lat_p50_ns", "cpu_ns_per_op"}
	if r.Experiment.Primary.Has(q.Flags) {
		metrics = r.Experiment.Primary.Metrics
	}
	for _, name := range metrics {
		m, err := report.FindMetric(name)
		if err != nil {
			return 0, err
		}
		for _, c := range q.Cells[1:] {
			i, err := report.IntervalOf(r.series(q.Cells[0], false), r.series(c, false), m, level)
			if err != nil {
				return 0, err
			}
			if i.Level == 0 { // it was not measured: more generations bring nothing
				continue
			}
			if i.Level < level {
				return math.Inf(1), nil
			}
			widest = max(widest, math.Sqrt(i.High/i.Low)-1)
		}
	}
	return widest, nil
}

// Findings are what a folder's runs come to.
type Findings struct {
	Comparisons []report.Comparison
	Steps       []report.Step
	Questions   []QuestionResult
}

// Findings writes compare.csv and steps.csv, where there is something for them. What was found until an error comes with it.
func (r *Folder) Findings() (f Findings, err error) {
	var cerr, serr, qerr error
	f.Comparisons, cerr = r.compare()
	f.Steps, serr = r.steps()
	f.Questions, qerr = r.questionResults()
	return f, errors.Join(cerr, serr, qerr)
}

// CheckPrimary sees that the primary metrics exist, and that the claims are few.
func CheckPrimary(path string, x *experiments.Experiment) error {
	if x.Primary == nil {
		return nil
	}
	for _, name := range x.Primary.Metrics {
		if _, err := report.FindMetric(name); err != nil {
			return lab.Usagef("%s: primary: %v", path, err)
		}
	}
	n := 0
	for _, q := range x.Questions() {
		if x.Primary.Has(q.Flags) {
			n += (len(q.Cells) - 1) * len(x.Primary.Metrics)
		}
	}
	if n == 0 || n > primaryClaimsMax {
		return lab.Usagef("%s: primary makes %d claims: choose its flags and metrics so that there are 1 to %d", path, n, primaryClaimsMax)
	}
	return nil
}

// primaryClaimsMax bounds a primary family: 12 generations are enough for it.
const primaryClaimsMax = 12

// PrintVerdicts prints the claims, or why there are none.
func (r *Folder) PrintVerdicts(w io.Writer, all []report.Comparison) error {
	if r.Plan.Generations < 2 || len(all) == 0 {
		return nil
	}
	var claims []report.Comparison
	for _, c := range all {
		if c.Verdict != "" {
			claims = append(claims, c)
		}
	}
	fmt.Fprintln(w)
	if len(claims) == 0 {
		why := "the experiment has no primary claims"
		if r.Plan.Generations < report.MinPairs {
			why = fmt.Sprintf("%d generations are too few", r.Plan.Generations)
		}
		fmt.Fprintf(w, "No verdicts: %s. compare.csv has %d ratios with intervals.\n", why, len(all))
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "verdict\tof\tbeside\tin\tratio\tcorrected interval\tbaseline beside itself\tgenerations\twhy")
	for _, c := range claims {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s %s\t%s\t%s\t%s\t%s\t%s\n", c.Verdict, c.Variant, c.Baseline, c.Question, c.Metric.Name, report.Number("%.3f", c.Ratio), c.Corrected.Text(),
			c.AA.Text(), c.PairsText(), c.Why)
	}
	return t.Flush()
}
