package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench/units"
	"github.com/kvwire/kvwire/report/chart"
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

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// figure is a chart in the page.
type figure struct {
	Title string
	SVG   template.HTML // made by chart, whose texts are escaped
}

type pageSection struct {
	Title, Table string
	Bill         string // of materials; "": none
	Figures      []figure
}

// WritePage writes report.html into dir, and each of its charts as SVG and PDF into dir/charts.
func WritePage(dir string, p *Page) error {
	d := drawer{dir: filepath.Join(dir, "charts"), label: p.label()}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	view := struct {
		*Page
		Date     string
		Label    string
		Claims   []claimLine
		Inter    []claimLine // interactions
		Carried  []carryLine
		Sections []pageSection
		Curves   []figure
		Stages   []figure
		Ladder   pageSection
		Facts    [][2]string
	}{Page: p, Date: time.Now().UTC().Format("2006-01-02 15:04 UTC"), Label: d.label, Claims: claimLines(p.Comparisons), Inter: interactionLines(p.Comparisons), Carried: carryLines(p.Carry), Facts: facts(&p.Env)}
	for _, c := range p.Curves {
		view.Curves = append(view.Curves, d.figures(d.curves(c))...)
	}
	for _, s := range p.Stages {
		view.Stages = append(view.Stages, d.figures(d.stages(s))...)
	}
	if len(p.Steps) > 0 {
		var text strings.Builder
		if err := PrintSteps(&text, p.Steps); err != nil {
			return err
		}
		view.Ladder.Table, view.Ladder.Figures = text.String(), d.ladders(p)
	}
	for _, q := range p.Questions {
		s := pageSection{Title: q.Title}
		var rows []Row
		for _, v := range q.Variants {
			if v.Row.SkippedReason == "" { // the warnings say why
				rows = append(rows, v.Row)
			}
		}
		var text strings.Builder
		if err := PrintTable(&text, rows); err != nil {
			return err
		}
		s.Table = text.String()
		text.Reset()
		if err := printBill(&text, &q, p.Units); err != nil {
			return err
		}
		s.Bill = text.String()
		s.Figures = append(s.Figures, d.figures(d.latencies(q))...)
		s.Figures = append(s.Figures, d.figures(d.cpu(q))...)
		for _, m := range Metrics {
			s.Figures = append(s.Figures, d.figures(d.ratios(q, m, p.Comparisons))...)
		}
		view.Sections = append(view.Sections, s)
	}
	if d.err == nil {
		d.err = removeCharts(d.dir, d.n)
	}
	if d.err != nil {
		return d.err
	}
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, view); err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, "report.html"), page.Bytes())
}

// label is a part of each chart's title: the kind of RDMA, and whether CPUs are emulated or in a guest.
func (p *Page) label() string {
	var say []string
	has := func(of func(r *Row) string, value string) bool {
		return slices.ContainsFunc(p.Questions, func(q PageQuestion) bool {
			return slices.ContainsFunc(q.Variants, func(v PageVariant) bool { return of(&v.Row) == value })
		})
	}
	if has(func(r *Row) string { return r.Device }, "rxe") {
		say = append(say, "RDMA is soft-RoCE")
	}
	if has(func(r *Row) string { return r.Accel }, "tcg") {
		say = append(say, "emulated CPUs")
	}
	if has(func(r *Row) string { return r.Accel }, "kvm") {
		say = append(say, "in a guest")
	}
	return strings.Join(say, ", ")
}

// drawer makes charts, in the page and as files. It keeps the first error.
type drawer struct {
	dir, label string
	n          int
	err        error
}

func (d *drawer) title(parts ...string) string {
	parts = append(parts, d.label)
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " · ")
}

// figures writes the files of a chart and returns it for the page. c may be nil: then there is no figure.
func (d *drawer) figures(title string, c *chart.Chart, err error) []figure {
	if d.err != nil || err != nil || c == nil {
		if d.err == nil {
			d.err = err
		}
		return nil
	}
	d.n++
	base := filepath.Join(d.dir, fmt.Sprintf("%03d", d.n))
	svg, err := c.Inline()
	for _, ext := range []string{".svg", ".pdf"} {
		f, ferr := os.Create(base + ext)
		if ferr != nil {
			d.err = ferr
			return nil
		}
		if err == nil {
			if ext == ".svg" {
				err = c.SVG(f)
			} else {
				err = c.PDF(f)
			}
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	d.err = err
	return []figure{{title, template.HTML(svg)}}
}

// linesMax is the largest number of lines in a chart that a reader can tell apart. A chart with more is left out; tables and bars have all of them.
const linesMax = 12

// quantiles are where the curve of a distribution has its points.
var quantiles = func() (q []float64) {
	for e := 0.0; e < 5; e += 0.05 {
		q = append(q, 100*(1-math.Pow(10, -e)))
	}
	return q
}()

func (d *drawer) latencies(q PageQuestion) (string, *chart.Chart, error) {
	var lines []chart.Line
	for _, v := range q.Variants {
		if v.Lat == nil || v.Lat.TotalCount() == 0 {
			continue
		}
		l := chart.Line{Label: v.Label}
		for _, p := range quantiles {
			if ns, ok := Percentile(v.Lat, p).Get(); ok || p <= 50 {
				if !ok {
					ns = v.Lat.ValueAtPercentile(p)
				}
				l.X, l.Y = append(l.X, float64(ns)), append(l.Y, p)
			}
		}
		lines = append(lines, l)
	}
	title := d.title("Latency", q.Title)
	if len(lines) == 0 || len(lines) > linesMax {
		return title, nil, nil
	}
	c, err := chart.Latencies(title, lines, Duration)
	return title, c, err
}

func (d *drawer) cpu(q PageQuestion) (string, *chart.Chart, error) {
	parts := []struct {
		label string
		of    func(r *Row) Float
	}{
		{"client, user", func(r *Row) Float { return r.ClientUserNsPerOp }},
		{"client, kernel", func(r *Row) Float { return r.ClientSysNsPerOp }},
		{"server, user", func(r *Row) Float { return r.ServerUserNsPerOp }},
		{"server, kernel", func(r *Row) Float { return r.ServerSysNsPerOp }},
	}
	var names []string
	stacks := make([]chart.Part, len(parts))
	any := false
	for _, v := range q.Variants {
		if !v.Row.ClientUserNsPerOp.Known() {
			continue
		}
		names = append(names, v.Label)
		for i, part := range parts {
			x, ok := part.of(&v.Row).Get()
			any = any || ok
			stacks[i].Label, stacks[i].Hue = part.label, i
			stacks[i].Values = append(stacks[i].Values, x/1e3)
		}
	}
	title := d.title("CPU time", q.Title)
	if !any {
		return title, nil, nil
	}
	c, err := chart.Bars(title, "µs per operation (inproc: client and server are one process)", names, stacks)
	return title, c, err
}

func (d *drawer) stages(s PageStages) (string, *chart.Chart, error) {
	title := d.title("Where a request's time goes", s.Title)
	most := 0.0
	for _, b := range s.Bars {
		most = max(most, b.MeanNs[StageTotal])
	}
	unit, name := 1e3, "µs"
	if most > 10e6 {
		unit, name = 1e6, "ms"
	}
	var names []string
	for _, b := range s.Bars {
		names = append(names, b.Label)
	}
	var parts []chart.Part
	for i, stage := range stageNames {
		part := chart.Part{Label: stage, Hue: i}
		some := false
		for _, b := range s.Bars {
			part.Values = append(part.Values, b.MeanNs[stage]/unit)
			some = some || b.MeanNs[stage] > 0
		}
		if some {
			parts = append(parts, part)
		}
	}
	c, err := chart.Bars(title, name+", mean of the requests that were watched", names, parts)
	return title, c, err
}

// ladders draws, for each question of a ladder and each metric, the steps on top of each other.
func (d *drawer) ladders(p *Page) (all []figure) {
	type place struct{ question, metric string }
	var order []place
	steps := map[place][]Step{}
	for _, s := range p.Steps {
		k := place{s.Question, s.Metric.Name}
		if s.Step == "notification" { // an alternative, and no rung
			continue
		}
		if steps[k] == nil {
			order = append(order, k)
		}
		steps[k] = append(steps[k], s)
	}
	for _, k := range order {
		all = append(all, d.figures(d.ladder(k.question, steps[k]))...)
	}
	return all
}

// ladderSteps are the rungs, from the lowest.
var ladderSteps = []string{"codec", "network", "store", "disk"}

func (d *drawer) ladder(question string, steps []Step) (string, *chart.Chart, error) {
	of := map[string]map[string]float64{} // by path and step
	var paths []string
	for _, s := range steps {
		if of[s.Path] == nil {
			of[s.Path] = map[string]float64{}
			paths = append(paths, s.Path)
		}
		of[s.Path][s.Step] = s.Ns
	}
	var parts []chart.Part
	for i, name := range ladderSteps {
		part := chart.Part{Label: name, Hue: i}
		some := false
		for _, path := range paths {
			ns := of[path][name]
			if name == "codec" && path != "inproc" {
				ns = of["codec"]["codec"] // every network uses the same frames
			}
			part.Values = append(part.Values, max(ns, 0)/1e3) // below 0 is noise; the table has the value
			some = some || ns > 0
		}
		if some {
			parts = append(parts, part)
		}
	}
	m := steps[0].Metric
	title := d.title("The ladder, "+m.Name, question)
	if len(parts) == 0 {
		return title, nil, nil
	}
	c, err := chart.Bars(title, "µs above inproc and null: what each step adds within a generation", paths, parts)
	return title, c, err
}

func (d *drawer) ratios(q PageQuestion, m Metric, all []Comparison) (string, *chart.Chart, error) {
	var ratios []chart.Ratio
	band := chart.Ratio{Low: 1, Mid: 1, High: 1}
	baseline := ""
	for _, c := range all {
		if c.Kind == KindRatio && c.Question == q.Title && c.Metric.Name == m.Name && c.Pairs > 0 {
			ratios = append(ratios, chart.Ratio{Label: c.Variant, Low: c.Low, Mid: c.Ratio, High: c.High})
			baseline = c.Baseline
			if !math.IsNaN(c.AA.Low) {
				band.Low, band.High = c.AA.Low, c.AA.High
			}
		}
	}
	title := d.title(m.Name+" / "+baseline, q.Title)
	if len(ratios) == 0 {
		return title, nil, nil
	}
	c, err := chart.Ratios(title, band, ratios)
	return title, c, err
}

func (d *drawer) curves(p PageCurve) (string, *chart.Chart, error) {
	var lines []chart.Line
	for _, l := range p.Lines {
		line := chart.Line{Label: l.Label}
		for i := range l.Rows {
			x, ok := l.Rows[i].OpsPerS.Get()
			y, ok2 := l.Rows[i].LatP50Ns.Get()
			if ok && ok2 {
				line.X, line.Y = append(line.X, x), append(line.Y, float64(y))
			}
		}
		if len(line.X) > 0 {
			lines = append(lines, line)
		}
	}
	title := d.title("Throughput and latency", p.Title)
	if len(lines) == 0 || len(lines) > linesMax {
		return title, nil, nil
	}
	c, err := chart.Curves(title, "operations per second", "median latency", lines, Rate, Duration)
	return title, c, err
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
		l := claimLine{Verdict: c.Verdict, Class: strings.ReplaceAll(class, "'", ""), Why: c.ShortWhy(), WhyAll: c.Why, Variant: c.Variant, Baseline: c.Baseline, Question: c.Question,
			Metric: c.Metric.Name, Interval: c.Corrected.Text(), Level: Number("%.1f %%", 100*c.Corrected.Level), AA: c.AA.Text(), Pairs: c.PairsText()}
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
			lines = append(lines, claimLine{Variant: c.Variant, Baseline: c.Baseline, Question: strings.TrimSpace(c.Question + " " + c.At), Metric: c.Metric.Name,
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
			lines = append(lines, carryLine{c.Question, c.Metric, c.After, Number("%.3f", c.Ratio), Interval{c.Low, c.High, c.Level}.Text(), fmt.Sprint(c.Generations)})
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
