package report

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/report/chart"
)

// figure is a chart in the page.
type figure struct {
	Title, File string // File is the name in charts/, without .svg or .pdf; "": it is not there
	SVG         template.HTML
}

// drawer makes charts, in the page and as files. It keeps the first error.
type drawer struct {
	p          *Page
	dir, label string
	byNetwork  bool            // series have the colour of their network; else that of their label
	labels     []string        // of all series, in order
	files      map[string]bool // written
	err        error
}

func newDrawer(dir string, p *Page) *drawer {
	d := &drawer{p: p, dir: filepath.Join(dir, "charts"), label: p.label(), files: map[string]bool{}}
	for _, q := range p.Questions {
		for _, v := range q.Variants {
			d.byNetwork = d.byNetwork || v.Row.Transport != q.Variants[0].Row.Transport
			if !slices.Contains(d.labels, v.Label) {
				d.labels = append(d.labels, v.Label)
			}
		}
	}
	if !p.NoCharts {
		d.err = os.MkdirAll(d.dir, 0o755)
	}
	return d
}

// series is the name, colour and dash of a variant. Variants over one network have its colour and dashes of their own.
func (d *drawer) series(q *PageQuestion, label string) chart.Series {
	s := chart.Series{Label: SeriesName(d.p.Factor, label), Hidden: label, Color: chart.Other(max(0, slices.Index(d.labels, label)))}
	i := slices.IndexFunc(q.Variants, func(v PageVariant) bool { return v.Label == label })
	if i < 0 || !d.byNetwork && len(d.labels) > 1 {
		return s
	}
	return d.network(s, q.Variants[i].Row.Transport, number(q.Variants[:i], func(v PageVariant) bool { return v.Row.Transport == q.Variants[i].Row.Transport }))
}

func (d *drawer) network(s chart.Series, name string, dash int) chart.Series {
	s.Hidden, s.Dash = name, dash
	s.Color = cmp.Or(chart.Network(name), s.Color)
	return s
}

func (d *drawer) title(parts ...string) string {
	parts = append(parts, d.label)
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " · ")
}

var (
	notInNames = regexp.MustCompile(`[^a-z0-9_.]+`)
	// ourChart is what drawer names its files, now and before they had names: anything else in charts/ is not ours.
	ourChart = regexp.MustCompile(`^([0-9]{3,6}|.*\.(ratios|latency|cpu|stages|bill|load|[a-z0-9_]+_ns|[a-z0-9_]+_ns_per_op|ops_per_s)(-[0-9]+)?)\.(svg|pdf)$`)
)

// nameMax bounds the part of a file's name that is a question's.
const nameMax = 120

// slug is a question's name as a part of a file's name or of a link; "all" where it has none.
func slug(question string) string {
	s := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(question), "-"), "-")
	return cmp.Or(s[:min(len(s), nameMax)], "all")
}

// figure writes the files of a chart, named by question and metric, and returns it for the page. No chart: no figure.
func (d *drawer) figure(question, metric string, c *chart.Chart) []figure {
	if c == nil || d.err != nil {
		return nil
	}
	caption := c.Title
	if question != "" { // the card has its name
		caption = strings.Replace(caption, " · "+questionWords(question), "", 1)
	}
	if d.p.NoCharts {
		if metric == "cpu" || metric == "cpu_ns_per_op" {
			d.picture(c)
		}
		return []figure{{caption, "", template.HTML(c.Inline())}}
	}
	name := slug(question) + "." + metric
	for n := 2; d.files[name]; n++ {
		name = fmt.Sprintf("%s.%s-%d", slug(question), metric, n)
	}
	d.files[name] = true
	var svg, pdf strings.Builder
	if d.err = c.SVG(&svg); d.err == nil {
		d.err = c.PDF(&pdf)
	}
	for ext, text := range map[string]string{".svg": svg.String(), ".pdf": pdf.String()} {
		if d.err == nil {
			d.err = WriteFile(filepath.Join(d.dir, name+ext), []byte(text))
		}
	}
	return []figure{{caption, name, template.HTML(c.Inline())}}
}

// picture writes the first of several charts as PictureFile.
func (d *drawer) picture(c *chart.Chart) {
	if d.files[PictureFile] {
		return
	}
	d.files[PictureFile] = true
	var svg strings.Builder
	if d.err = c.SVG(&svg); d.err == nil {
		d.err = WriteFile(filepath.Join(filepath.Dir(d.dir), PictureFile), []byte(svg.String()))
	}
}

// removeOld removes the charts of an earlier report that this one has not.
func (d *drawer) removeOld() {
	files, err := os.ReadDir(d.dir)
	if d.err == nil && !(d.p.NoCharts && errors.Is(err, fs.ErrNotExist)) {
		d.err = err
	}
	for _, f := range files {
		if name := f.Name(); d.err == nil && ourChart.MatchString(name) && f.Type().IsRegular() && !d.files[strings.TrimSuffix(name, filepath.Ext(name))] {
			d.err = os.Remove(filepath.Join(d.dir, name))
		}
	}
}

// linesMax is the largest number of lines in a chart that a reader can distinguish. A chart with more is left out; tables and bars have all of them.
const linesMax = 12

// barsMost is the largest number of bars in a chart: a question with more variants has several.
const barsMost = 40

// forestRows is the largest number of intervals in a chart: with more it has several.
const forestRows = 36

// ratio is a comparison as a mark of a forest plot.
func (d *drawer) ratio(q *PageQuestion, c *Comparison) chart.Ratio {
	return chart.Ratio{Series: d.series(q, c.Variant), Low: c.Low, Mid: c.Ratio, High: c.High, Text: strings.TrimSpace(RatioText(c.Ratio) + " " + c.Brackets())}
}

// baselineText names what ratios are to.
func (d *drawer) baselineText(base string) string {
	if base == "inproc" {
		return "a call in the same process (inproc)"
	}
	return SeriesName(d.p.Factor, base)
}

const forestAxis = "ratio, logarithmic; grey band: too small a difference to matter"

// forests draws the ratios of all questions by one metric.
func (d *drawer) forests(metric string) (all []figure) {
	m, _ := FindMetric(metric)
	var groups []chart.Group
	base, rows := "", 0
	flush := func() {
		if rows > 0 {
			title := d.title(m.Title() + ", ratio to " + d.baselineText(base))
			all = append(all, d.figure("all", metric, chart.Forest(title, forestAxis, d.p.Matters, groups))...)
		}
		groups, rows = nil, 0
	}
	for i := range d.p.Questions {
		q := &d.p.Questions[i]
		g := chart.Group{Name: questionWords(q.Title)}
		for _, v := range q.Variants {
			if c := ratios(d.p.Comparisons, q.Title, v.Label, metric); c != nil {
				base = c.Baseline
				g.Ratios = append(g.Ratios, d.ratio(q, c))
			}
		}
		if rows+len(g.Ratios) > forestRows {
			flush()
		}
		if len(g.Ratios) > 0 {
			groups, rows = append(groups, g), rows+len(g.Ratios)
		}
	}
	flush()
	return all
}

// intervals draws the ratios of one question by all metrics.
func (d *drawer) intervals(q *PageQuestion) *chart.Chart {
	var groups []chart.Group
	for _, s := range shownMetrics {
		g := chart.Group{Name: s.title}
		for _, v := range q.Variants {
			if c := ratios(d.p.Comparisons, q.Title, v.Label, s.name); c != nil {
				g.Ratios = append(g.Ratios, d.ratio(q, c))
			}
		}
		if len(g.Ratios) > 0 {
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return nil
	}
	return chart.Forest(d.title("Ratios to "+d.baselineText(baselineOf(d.p.Comparisons, q.Title)), questionWords(q.Title)), forestAxis, d.p.Matters, groups)
}

// quantiles are where the curve of a distribution has its points.
var quantiles = func() (q []float64) {
	for e := 0.0; e < 5; e += 0.05 {
		q = append(q, 100*(1-math.Pow(10, -e)))
	}
	return q
}()

func (d *drawer) latencies(q *PageQuestion) *chart.Chart {
	var lines []chart.Line
	for i := range q.Variants {
		v := &q.Variants[i]
		if v.Lat == nil || v.Lat.TotalCount() == 0 {
			continue
		}
		l := chart.Line{Series: d.series(q, v.Label)}
		l.Text = fmt.Sprintf("%s: p50 %s, p99 %s", l.Label, durationOr(Percentile(v.Lat, 50)), durationOr(Percentile(v.Lat, 99)))
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
	if len(lines) == 0 || len(lines) > linesMax {
		return nil
	}
	return chart.Latencies(d.title("Distribution of latency", questionWords(q.Title)), lines, Duration)
}

// micros writes a number of µs.
func micros(v float64) string {
	if v == 0 {
		return "0"
	}
	return strings.Replace(Duration(int64(math.Round(1e3*v))), "-", "−", 1)
}

// cpu draws the CPU time of some variants of a question.
func (d *drawer) cpu(q *PageQuestion, variants []PageVariant) *chart.Chart {
	parts := []struct {
		label string
		of    func(r *Row) Float
	}{
		{"client, user", func(r *Row) Float { return r.ClientUserNsPerOp }},
		{"client, kernel", func(r *Row) Float { return r.ClientSysNsPerOp }},
		{"server, user", func(r *Row) Float { return r.ServerUserNsPerOp }},
		{"server, kernel", func(r *Row) Float { return r.ServerSysNsPerOp }},
	}
	var bars []chart.Series
	stacks := make([]chart.Part, len(parts))
	for i := range variants {
		v := &variants[i]
		if !v.Row.ClientUserNsPerOp.Known() {
			continue
		}
		bars = append(bars, d.series(q, v.Label))
		for i, part := range parts {
			x, _ := part.of(&v.Row).Get()
			stacks[i].Label, stacks[i].Color = part.label, chart.PartColour(i)
			stacks[i].Values = append(stacks[i].Values, x/1e3)
		}
	}
	if len(bars) == 0 {
		return nil
	}
	stacks = slices.DeleteFunc(stacks, func(part chart.Part) bool {
		return !slices.ContainsFunc(part.Values, func(v float64) bool { return v != 0 })
	})
	axis := "CPU time per operation"
	if slices.ContainsFunc(variants, func(v PageVariant) bool { return v.Row.Transport == "inproc" }) {
		axis += " (inproc: one process)"
	}
	return chart.Bars(d.title("CPU time per operation", questionWords(q.Title)), axis, bars, stacks, micros)
}

func (d *drawer) bill(q *PageQuestion) *chart.Chart {
	var bars []chart.Series
	var bills []Bill
	for i := range q.Variants {
		if b, ok := BillOf(&q.Variants[i].Row, d.p.Units); ok {
			bars, bills = append(bars, d.series(q, q.Variants[i].Label)), append(bills, b)
		}
	}
	if len(bills) == 0 {
		return nil
	}
	var parts []chart.Part
	for i, item := range bills[0].Items {
		part := chart.Part{Label: partWords(item.Unit), Color: chart.PartColour(slices.IndexFunc(counts, func(c unitCount) bool { return c.unit == item.Unit }))}
		some := false
		for _, b := range bills {
			part.Values = append(part.Values, b.Items[i].Ns/1e3)
			some = some || b.Items[i].Ns >= 0.5
		}
		if some {
			parts = append(parts, part)
		}
	}
	rest := chart.Part{Label: billUnexplained, Color: chart.Grey}
	for _, b := range bills {
		rest.Values = append(rest.Values, b.UnexplainedNs/1e3)
	}
	return chart.Bars(d.title("Bill of materials", questionWords(q.Title)), "CPU time per operation; at the end: as measured", bars, append(parts, rest), micros)
}

func (d *drawer) stages(q *PageQuestion, s *PageStages) *chart.Chart {
	var bars []chart.Series
	for _, b := range s.Bars {
		label, op, _ := strings.Cut(b.Label, ", ")
		of := d.series(q, label)
		if op != "" {
			of.Label += ", " + op
		}
		bars = append(bars, of)
	}
	var parts []chart.Part
	for i, stage := range stageNames {
		part := chart.Part{Label: partWords(stage), Color: chart.PartColour(i)}
		some := false
		for _, b := range s.Bars {
			part.Values = append(part.Values, b.MeanNs[stage]/1e3)
			some = some || b.MeanNs[stage] > 0
		}
		if some {
			parts = append(parts, part)
		}
	}
	return chart.Bars(d.title("Where a request's time goes", questionWords(s.Title)), "mean of the watched requests", bars, parts, micros)
}

// ladderSteps are the rungs, from the lowest.
var ladderSteps = []string{"codec", "network", "store", "disk"}

// ladder is the steps of a question by one metric, on top of each other.
type ladder struct {
	question string
	metric   Metric
	steps    []Step
}

// ladders are all ladders of the page, without "notification", which is an alternative and no rung.
func (p *Page) ladders() (all []ladder) {
	for _, s := range p.Steps {
		if s.Step == "notification" {
			continue
		}
		i := slices.IndexFunc(all, func(l ladder) bool { return l.question == s.Question && l.metric.Name == s.Metric.Name })
		if i < 0 {
			i, all = len(all), append(all, ladder{question: s.Question, metric: s.Metric})
		}
		all[i].steps = append(all[i].steps, s)
	}
	return slices.DeleteFunc(all, func(l ladder) bool { // the ratios show what a network adds
		return !slices.ContainsFunc(l.steps, func(s Step) bool { return s.Step != "network" })
	})
}

func (d *drawer) ladder(l ladder) *chart.Chart {
	of := map[string]map[string]float64{} // by path and step
	var paths []string
	var bars []chart.Series
	for _, s := range l.steps {
		if of[s.Path] == nil {
			of[s.Path] = map[string]float64{}
			paths = append(paths, s.Path)
			network, _, _ := strings.Cut(s.Path, " ")
			bars = append(bars, d.network(chart.Series{Label: s.Path, Color: chart.Other(len(bars))}, network, 0))
		}
		of[s.Path][s.Step] = s.Ns
	}
	var parts []chart.Part
	for i, name := range ladderSteps {
		part := chart.Part{Label: name, Color: chart.PartColour(i)}
		some := false
		for _, path := range paths {
			ns := of[path][name]
			if name == "codec" && path != "inproc" {
				ns = of["codec"]["codec"] // every network uses the same frames
			}
			part.Values = append(part.Values, ns/1e3)
			some = some || ns != 0
		}
		if some {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return chart.Bars(d.title("The ladder: "+l.metric.Title(), questionWords(l.question)), "what each part adds to inproc and null", bars, parts, micros)
}

func (d *drawer) curve(p *PageCurve) *chart.Chart {
	var lines []chart.Line
	for _, l := range p.Lines {
		line := chart.Line{}
		for i := range l.Rows {
			q := PageQuestion{Variants: []PageVariant{{Label: l.Label, Row: l.Rows[i]}}}
			line.Series = d.series(&q, l.Label)
			x, ok := l.Rows[i].OpsPerS.Get()
			y, ok2 := l.Rows[i].LatP50Ns.Get()
			if ok && ok2 && x > 0 && y > 0 {
				line.X, line.Y = append(line.X, x), append(line.Y, float64(y))
			}
		}
		if len(line.X) > 0 {
			line.Dash = number(lines, func(l chart.Line) bool { return l.Color == line.Color })
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 || len(lines) > linesMax {
		return nil
	}
	return chart.Curves(d.title("Throughput and latency", questionWords(p.Title)), "operations per second (logarithmic)", "median latency (logarithmic)", lines, Rate, Duration)
}

// number counts the elements of which is holds.
func number[T any](all []T, is func(T) bool) (n int) {
	for _, v := range all {
		if is(v) {
			n++
		}
	}
	return n
}
