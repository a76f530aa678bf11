package results

import (
	"cmp"
	"errors"
	"io"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// QuestionResult is a question with its results: for each cell with runs, one row that combines all of them.
type QuestionResult struct {
	experiment.Question
	Rows       []report.Row
	Histograms []*hdrhistogram.Histogram // latencies of each row; nil: none
	RowCells   []int                     // the rows' cells, as indices into the experiment's
}

// questionName is the name of a question within its experiment.
func (r *Folder) questionName(flags experiment.Cell) string {
	return lab.QuestionName(r.Experiment, flags)
}

// variantName is the name of a cell within its question, or its transport if it is the only cell.
func (r *Folder) variantName(cell int) string {
	c := r.Experiment.Cells[cell]
	transport, _ := c.Get("transport")
	return lab.VariantName(r.Experiment, c, cmp.Or(transport, r.Experiment.Name))
}

// questionResults are the results of all questions, in the experiment's order.
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

// pairs are the series of a question: baseline, baseline again, and variants.
func (r *Folder) pairs(q experiment.Question) report.Pairs {
	p := report.Pairs{Question: r.questionName(q.Flags), Compared: r.Experiment.Compared(), Baseline: r.series(q.Cells[0], false), Again: r.series(q.Cells[0], true)}
	if r.Experiment.Primary.Has(q.Flags) && r.Plan.Generations >= report.MinPairs {
		p.Primary = r.Experiment.Primary.Metrics
	}
	for _, c := range q.Cells[1:] {
		p.Variants = append(p.Variants, r.series(c, false))
	}
	return p
}

// compare writes compare.csv, if there are two generations or more: ratios first, then interactions.
func (r *Folder) compare() ([]report.Comparison, error) {
	if r.Plan.Generations < 2 {
		return nil, nil
	}
	var pairs []report.Pairs
	for _, q := range r.Experiment.Questions() {
		if len(q.Cells) > 1 {
			pairs = append(pairs, r.pairs(q))
		}
	}
	all, err := report.Compare(pairs, r.options())
	if err != nil {
		return nil, err
	}
	more, err := report.Interactions(r.interactions())
	if all = append(all, more...); err != nil || len(all) == 0 {
		return nil, err
	}
	return all, r.write("compare.csv", func(w io.Writer) error { return report.WriteComparisons(w, all) })
}

// interactions are the experiment's interactions with the runs of both questions.
func (r *Folder) interactions() (all []report.Interaction) {
	factor, pairs := r.Experiment.Interactions()
	for _, p := range pairs {
		all = append(all, report.Interaction{Question: r.questionName(p.Common), Factor: factor, From: p.From, To: p.To, AtFrom: r.pairs(p.AtFrom), AtTo: r.pairs(p.AtTo)})
	}
	return all
}

// carryOver writes carryover.csv: the effect of each variant on the slice after its own.
func (r *Folder) carryOver() ([]report.Carry, error) {
	var all []report.Slice
	for _, run := range r.Runs {
		all = append(all, r.Slices[r.Plan.RunID(run)]...)
	}
	carry := report.CarryOver(all)
	if len(carry) == 0 {
		return nil, nil
	}
	return carry, r.write(report.CarryFile, func(w io.Writer) error { return report.WriteCarryOver(w, carry) })
}

// options are the options for the folder's comparisons.
func (r *Folder) options() report.Options {
	o := report.Options{Matters: r.Experiment.Matters}
	if r.Plan.Until > 0 {
		o.Looks = lab.LooksMax
	}
	return o
}

// Findings are the results of a folder's runs.
type Findings struct {
	Comparisons []report.Comparison
	Steps       []report.Step
	Carry       []report.Carry
	Questions   []QuestionResult
}

// Findings writes compare.csv, carryover.csv and steps.csv, each if it has lines. With an error it returns the results that it could compute.
func (r *Folder) Findings() (f Findings, err error) {
	var cerr, oerr, serr, qerr error
	f.Comparisons, cerr = r.compare()
	f.Carry, oerr = r.carryOver()
	f.Steps, serr = r.steps()
	f.Questions, qerr = r.questionResults()
	return f, errors.Join(cerr, oerr, serr, qerr)
}

// CheckPrimary checks that the primary metrics exist, and that there are at most primaryClaimsMax claims.
func CheckPrimary(path string, x *experiment.Experiment) error {
	if x.Primary == nil {
		return nil
	}
	for _, name := range x.Primary.Metrics {
		if _, err := report.FindMetric(name); err != nil {
			return exit.Usagef("%s: primary: %v", path, err)
		}
	}
	n := 0
	for _, q := range x.Questions() {
		if x.Primary.Has(q.Flags) {
			n += (len(q.Cells) - 1) * len(x.Primary.Metrics)
		}
	}
	if n == 0 || n > primaryClaimsMax {
		return exit.Usagef("%s: primary makes %d claims: choose its flags and metrics so that there are 1 to %d", path, n, primaryClaimsMax)
	}
	return nil
}

// primaryClaimsMax is the largest number of primary claims: 12 generations are enough for verdicts on all of them.
const primaryClaimsMax = 12
