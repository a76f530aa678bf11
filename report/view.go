package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// card is what the page has of one question.
type card struct {
	ID, Title string
	Question  string // as in the files
	Heads     []string
	Rows      []cardRow
	Figures   []figure
	Table     string // all columns, as text
	Bill      string // of materials, as text; "": none
}

// cardRow is a variant in a card's table.
type cardRow struct {
	Name, Series, Color string
	Note                string
	Cells               []cardCell // value and ratio of each metric
}

// cardCell is a value for people, and for sorting and other programs as in the CSV files; "": NA.
type cardCell struct{ Text, Value string }

// view is what the template shows.
type view struct {
	*Page
	Label      string
	Model      string // ModelNote, if it applies
	Answer     []string
	Forests    []figure // of CPU time
	ToCall     bool     // ratios are to a call in the same process
	More       []figure // of the other metrics
	Claims     []claimLine
	Inter      []claimLine // interactions
	Carried    []carryLine
	Cards      []card
	Curves     []figure
	Ladders    []figure // of no card
	StepsTable string
	Facts      [][2]string
}

// PictureFile is the chart of CPU time that stands for a page without files of charts.
const PictureFile = "picture.svg"

// WritePage writes report.html into dir, and each of its charts as SVG and PDF into dir/charts, or with NoCharts one of them as PictureFile.
func WritePage(dir string, p *Page) error {
	d := newDrawer(dir, p)
	v := view{Page: p, Label: d.label, Answer: p.answer(), Claims: claimLines(p.Comparisons), Inter: interactionLines(p.Comparisons),
		Carried: carryLines(p.Carry), Facts: facts(&p.Env)}
	if p.modelled() {
		v.Model = ModelNote
	}
	v.ToCall = slices.ContainsFunc(p.Comparisons, func(c Comparison) bool { return c.Baseline == "inproc" })
	for i, s := range shownMetrics {
		if all := d.forests(s.name); i == 0 {
			v.Forests = all
		} else {
			v.More = append(v.More, all...)
		}
	}
	for i := range p.Curves {
		v.Curves = append(v.Curves, d.figure(p.Curves[i].Title, "load", d.curve(&p.Curves[i]))...)
	}
	ladders := p.ladders()
	for i := range p.Questions {
		c, err := d.card(&p.Questions[i], &ladders)
		if err != nil {
			return err
		}
		if len(c.Rows) > 0 {
			v.Cards = append(v.Cards, c)
		}
	}
	for _, l := range ladders {
		v.Ladders = append(v.Ladders, d.figure("ladder "+l.question, l.metric.Name, d.ladder(l))...)
	}
	var text strings.Builder
	if len(p.Steps) > 0 {
		if err := PrintSteps(&text, p.Steps); err != nil {
			return err
		}
	}
	v.StepsTable = text.String()
	if d.removeOld(); d.err != nil {
		return d.err
	}
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, v); err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, "report.html"), page.Bytes())
}

// card makes the card of a question. It removes the ladders that belong to it from the list.
func (d *drawer) card(q *PageQuestion, ladders *[]ladder) (c card, err error) {
	c = card{ID: slug(q.Title), Title: cmp.Or(questionWords(q.Title), "All variants"), Question: q.Title}
	var rows []Row
	for i := range q.Variants {
		if v := &q.Variants[i]; v.Row.SkippedReason == "" { // the warnings have the reason
			rows = append(rows, v.Row)
			c.Rows = append(c.Rows, d.cardRow(q, v))
		}
	}
	if len(rows) == 0 {
		return c, nil
	}
	c.columns()
	var table, bill strings.Builder
	if err := PrintTable(&table, rows); err != nil {
		return c, err
	}
	if err := printBill(&bill, q, d.p.Units); err != nil {
		return c, err
	}
	c.Table, c.Bill = table.String(), bill.String()
	c.Figures = append(c.Figures, d.figure(q.Title, "ratios", d.intervals(q))...)
	c.Figures = append(c.Figures, d.figure(q.Title, "latency", d.latencies(q))...)
	for variants := range slices.Chunk(q.Variants, barsMost) {
		c.Figures = append(c.Figures, d.figure(q.Title, "cpu", d.cpu(q, variants))...)
	}
	for i := range d.p.Stages {
		if s := &d.p.Stages[i]; s.Title == q.Title {
			c.Figures = append(c.Figures, d.figure(q.Title, "stages", d.stages(q, s))...)
		}
	}
	words := strings.Fields(q.Title)
	*ladders = slices.DeleteFunc(*ladders, func(l ladder) bool {
		for _, w := range strings.Fields(l.question) {
			if !slices.Contains(words, w) {
				return false
			}
		}
		c.Figures = append(c.Figures, d.figure("ladder "+l.question, l.metric.Name, d.ladder(l))...)
		return true
	})
	c.Figures = append(c.Figures, d.figure(q.Title, "bill", d.bill(q))...)
	return c, nil
}

// columns sets the heads, and drops columns in which no variant has a value other than the baseline's 1×.
func (c *card) columns() {
	rows := c.Rows
	cells := make([][]cardCell, len(rows))
	for i, s := range shownMetrics {
		has := func(column int) bool {
			return slices.ContainsFunc(rows, func(r cardRow) bool { return r.Cells[column].Value != "" && r.Cells[column].Text != unity })
		}
		keep := func(column int, head string) {
			c.Heads = append(c.Heads, head)
			for k := range rows {
				cells[k] = append(cells[k], rows[k].Cells[column])
			}
		}
		ratio := s.head + " ratio"
		if has(2 * i) {
			keep(2*i, s.head)
			ratio = "ratio"
		}
		if has(2*i + 1) {
			keep(2*i+1, ratio)
		}
	}
	for k := range rows {
		rows[k].Cells = cells[k]
	}
}

// unity is the baseline's ratio to itself.
const unity = "1×"

func (d *drawer) cardRow(q *PageQuestion, v *PageVariant) cardRow {
	s := d.series(q, v.Label)
	r := cardRow{Name: s.Label, Series: s.Hidden, Color: s.Color, Note: note(&v.Row)}
	base := baselineOf(d.p.Comparisons, q.Title)
	for _, shown := range shownMetrics {
		m, _ := FindMetric(shown.name)
		value, ratio := cardCell{Text: na}, cardCell{Text: na}
		if x, ok := m.Of(&v.Row).Get(); ok {
			value = cardCell{m.Text(x), finite(x)}
		}
		if c := ratios(d.p.Comparisons, q.Title, v.Label, shown.name); c != nil {
			ratio = cardCell{strings.TrimSpace(RatioText(c.Ratio) + " " + c.Brackets()), finite(c.Ratio)}
		} else if v.Label == base {
			ratio = cardCell{unity, "1"}
		}
		r.Cells = append(r.Cells, value, ratio)
	}
	return r
}

// label is a part of each chart's title: the kind of RDMA, and whether CPUs are emulated or in a guest.
func (p *Page) label() string {
	var parts []string
	has := func(of func(r *Row) string, value string) bool {
		return slices.ContainsFunc(p.Questions, func(q PageQuestion) bool {
			return slices.ContainsFunc(q.Variants, func(v PageVariant) bool { return of(&v.Row) == value })
		})
	}
	if has(func(r *Row) string { return r.Device }, "rxe") {
		parts = append(parts, "RDMA is soft-RoCE")
	}
	if p.modelled() {
		parts = append(parts, "RDMA is a model, the rest is measured")
	}
	if has(func(r *Row) string { return r.Accel }, "tcg") {
		parts = append(parts, "emulated CPUs")
	}
	if has(func(r *Row) string { return r.Accel }, "kvm") {
		parts = append(parts, "in a guest")
	}
	return strings.Join(parts, ", ")
}

// mixes are the names of operations in sentences.
var mixes = map[string]string{"get": "a get", "c": "a get", "put": "a put"} // YCSB's C is gets alone

// networkNames are the names of networks in sentences.
var networkNames = map[string]string{"tcp": "TCP", "uring": "io_uring sockets", "rdma": "RDMA", "udp": "datagrams", "inproc": "a call", "codec": "the codec alone"}

// through names a variant in a sentence: "over TCP", "with depth=16".
func (p *Page) through(v *PageVariant) string {
	if p.Factor != "transport" || networkNames[v.Row.Transport] == "" {
		return "with " + SeriesName(p.Factor, v.Label)
	}
	name := "over " + networkNames[v.Row.Transport]
	if v.Row.Transport == "rdma" && v.Row.RDMAVerb != "" {
		name += " " + strings.ToUpper(v.Row.RDMAVerb)
	}
	if v.Row.Modelled() {
		name += " " + ModelSuffix
	}
	return name
}

// modelled reports whether a variant's RDMA device is a model.
func (p *Page) modelled() bool {
	return slices.ContainsFunc(p.Questions, func(q PageQuestion) bool {
		return slices.ContainsFunc(q.Variants, func(v PageVariant) bool { return v.Row.Modelled() })
	})
}

// answerMost is the largest number of variants in a sentence; of more it has the lowest and the highest.
const answerMost = 5

// answer is the result in sentences: of the first question with claims, or else the first one with ratios; and the range over all questions.
func (p *Page) answer() (sentences []string) {
	var q *PageQuestion
	for i := range p.Questions {
		title := p.Questions[i].Title
		claimed := slices.ContainsFunc(p.Comparisons, func(c Comparison) bool { return c.Question == title && c.Claim() && c.Pairs > 0 })
		if q == nil && slices.ContainsFunc(p.Comparisons, func(c Comparison) bool { return c.Kind == KindRatio && c.Question == title && c.Pairs > 0 }) {
			q = &p.Questions[i]
		}
		if claimed {
			q = &p.Questions[i]
			break
		}
	}
	if q == nil {
		return []string{"There are no ratios: they need two variants with valid runs, in two generations or more. The tables below have medians."}
	}
	base := SeriesName(p.Factor, baselineOf(p.Comparisons, q.Title))
	switch {
	case base == "inproc":
		base = "a call in the same process"
	case p.Factor == "transport":
		base = cmp.Or(networkNames[base], base)
	}
	op := cmp.Or(mixes[q.Variants[0].Row.Mix], "an operation")
	for _, s := range []struct{ metric, begin, verb, of string }{
		{"cpu_ns_per_op", "", op + " costs", "the CPU of " + base},
		{"lat_p50_ns", "The median latency is", "", "that of " + base},
	} {
		shown, of := p.extremes(q, s.metric)
		var parts []string
		for i, c := range shown {
			v := &q.Variants[slices.IndexFunc(q.Variants, func(v PageVariant) bool { return v.Label == c.Variant })]
			through, figure := p.throughAmong(q, v), strings.TrimSpace(RatioText(c.Ratio)+"× "+c.Brackets())
			switch {
			case i > 0:
				parts = append(parts, through+" "+figure)
			case s.begin == "":
				parts = append(parts, capital(through)+" "+s.verb+" "+figure+" "+s.of)
			default:
				parts = append(parts, s.begin+" "+figure+" "+s.of+" "+through)
			}
		}
		if len(parts) > 0 {
			if of > len(shown) {
				parts[len(parts)-1] += fmt.Sprintf(", the lowest and the highest of %d", of)
			}
			sentences = append(sentences, strings.Join(parts, "; ")+".")
		}
	}
	if q.Title != "" && len(sentences) > 0 {
		sentences[0] = strings.TrimSuffix(sentences[0], ".") + " (" + questionWords(q.Title) + ")."
	}
	return append(sentences, p.ranges(base)...)
}

// extremes are the ratios of a question for a sentence: all of them in the variants' order, or, if they are too many, the lowest and the highest; of is the number of all.
func (p *Page) extremes(q *PageQuestion, metric string) (all []*Comparison, of int) {
	for i := range q.Variants {
		if c := ratios(p.Comparisons, q.Title, q.Variants[i].Label, metric); c != nil {
			all = append(all, c)
		}
	}
	of = len(all)
	if of <= answerMost {
		return all, of
	}
	byRatio := func(a, b *Comparison) int { return cmp.Compare(a.Ratio, b.Ratio) }
	return []*Comparison{slices.MinFunc(all, byRatio), slices.MaxFunc(all, byRatio)}, of
}

// throughAmong is through, or, where several variants of the question are over the same network, the variant's label.
func (p *Page) throughAmong(q *PageQuestion, v *PageVariant) string {
	name := p.through(v)
	for i := range q.Variants {
		if o := &q.Variants[i]; o.Label != v.Label && p.through(o) == name {
			return "with " + SeriesName(p.Factor, v.Label)
		}
	}
	return name
}

// ranges is a sentence about CPU time in all questions.
func (p *Page) ranges(base string) []string {
	type span struct {
		through   string
		low, high float64
		n         int // questions
		last      int // the last of them
	}
	var all []span
	most := 0
	for i := range p.Questions {
		q := &p.Questions[i]
		for k := range q.Variants {
			c := ratios(p.Comparisons, q.Title, q.Variants[k].Label, "cpu_ns_per_op")
			if c == nil {
				continue
			}
			name := p.through(&q.Variants[k])
			at := slices.IndexFunc(all, func(s span) bool { return s.through == name })
			if at < 0 {
				at, all = len(all), append(all, span{name, c.Ratio, c.Ratio, 0, -1})
			}
			s := &all[at]
			if s.low, s.high = min(s.low, c.Ratio), max(s.high, c.Ratio); s.last != i {
				s.last, s.n = i, s.n+1
			}
			most = max(most, s.n)
		}
	}
	if most < 2 || len(all) > answerMost {
		return nil
	}
	var parts []string
	for _, s := range all {
		parts = append(parts, fmt.Sprintf("%s× to %s× %s", RatioText(s.low), RatioText(s.high), s.through))
	}
	return []string{fmt.Sprintf("Over all %d questions the CPU ratio to %s is %s.", most, base, strings.Join(parts, "; "))}
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
