package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench/units"
)

// Page is the content of report.html.
type Page struct {
	Name, Description string
	Command           string  // the command line that runs the experiment again
	Factor            string  // the compared factor: transport
	Matters           float64 // the smallest difference that counts, such as 0.03
	ID                string  // of this execution
	Generations       int
	Env               Env
	Warnings          []string // lines that stand above the figures
	Comparisons       []Comparison
	Carry             []Carry // carry-over between slices; empty without slices
	Questions         []PageQuestion
	Curves            []PageCurve
	Stages            []PageStages
	Steps             []Step
	Units             []units.Unit // unit costs of the bills of materials; may be empty
	NoCharts          bool         // no files of charts but one, PictureFile
}

// PageQuestion is a question: cells that are compared with each other.
type PageQuestion struct {
	Title    string // the question's name in the comparisons; "" if only the compared factor sweeps
	Variants []PageVariant
}

// PageVariant is one cell, all its runs together.
type PageVariant struct {
	Label string
	Row   Row
	Lat   *hdrhistogram.Histogram // nil: not recorded
}

// PageCurve is one chart of latency over throughput. Each line is a variant, each point a load.
type PageCurve struct {
	Title string
	Lines []PageLine
}

// PageLine has the cells of a variant, from the least load to the most.
type PageLine struct {
	Label string
	Rows  []Row
}

// claimLine is a line of the table of verdicts.
type claimLine struct {
	Verdict, Class, Why, WhyAll, Variant, Baseline, Question, Metric, Ratio, Interval, Level, AA, Pairs string
}

func claimLines(all []Comparison) (lines []claimLine) {
	for _, c := range all {
		if !c.Claim() {
			continue
		}
		class, _, _ := strings.Cut(c.Verdict, " ")
		l := claimLine{Verdict: c.Verdict, Class: strings.ReplaceAll(class, "'", ""), Why: c.ShortWhy(), WhyAll: c.Why, Variant: c.Variant, Baseline: c.Baseline, Question: questionWords(c.Question),
			Metric: c.Metric.Title(), Interval: c.Corrected.Text(), Level: Number("%.1f %%", 100*c.Corrected.Level), AA: c.AA.Text(), Pairs: c.PairsText()}
		if c.Pairs > 0 {
			l.Ratio = Number("%.3f", c.Ratio)
		}
		lines = append(lines, l)
	}
	return lines
}

func interactionLines(all []Comparison) (lines []claimLine) {
	for _, c := range all {
		if c.Kind == KindInteraction && c.Pairs > 0 {
			lines = append(lines, claimLine{Variant: c.Variant, Baseline: c.Baseline, Question: strings.TrimSpace(c.Question + " " + c.At), Metric: c.Metric.Title(),
				Ratio: Number("%.3f", c.Ratio), Interval: c.Interval.Text(), Level: Number("%.1f %%", 100*c.Level), Pairs: c.PairsText()})
		}
	}
	return lines
}

// carryLine is a line of the table of carry-over.
type carryLine struct{ Question, Metric, After, Ratio, Interval, Generations string }

// carryLines are the lines whose interval excludes 1.
func carryLines(all []Carry) (lines []carryLine) {
	for _, c := range all {
		if c.Level >= 0.95 && (c.Low > 1 || c.High < 1) {
			m, _ := FindMetric(c.Metric)
			lines = append(lines, carryLine{questionWords(c.Question), m.Title(), c.After, Number("%.3f", c.Ratio), Interval{c.Low, c.High, c.Level}.Text(), fmt.Sprint(c.Generations)})
		}
	}
	return lines
}

// Number formats a number for a table; "" for NaN and infinities.
func Number(f string, v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return fmt.Sprintf(f, v)
}

// PairsText has the number of generations in a comparison, and of those left out: "11, 1 left out".
func (c *Comparison) PairsText() string {
	if c.LeftOut > 0 {
		return fmt.Sprintf("%d, %d left out", c.Pairs, c.LeftOut)
	}
	return fmt.Sprint(c.Pairs)
}

// facts are the lines of the environment.
func facts(e *Env) (lines [][2]string) {
	b, err := json.Marshal(e)
	var all map[string]any
	if err != nil || json.Unmarshal(b, &all) != nil {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		v := all[k]
		if m, ok := v.(map[string]any); ok {
			var parts []string
			for _, name := range slices.Sorted(maps.Keys(m)) {
				parts = append(parts, fmt.Sprintf("%s: %v", name, m[name]))
			}
			v = strings.Join(parts, "; ")
		}
		if f, ok := v.(float64); ok {
			v = fmt.Sprintf("%.0f", f)
		}
		lines = append(lines, [2]string{strings.ReplaceAll(k, "_", " "), fmt.Sprint(v)})
	}
	return lines
}
