package report

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kvwire/kvwire/internal/plural"
)

// tableColumnsMax is the width of a terminal that printed tables fit into.
const tableColumnsMax = 80

// Metrics in the order in which they are shown, the most trustworthy first, with the head of their column and their title.
var shownMetrics = []struct{ name, head, title string }{
	{"cpu_ns_per_op", "CPU per operation", "CPU time per operation"},
	{"lat_p50_ns", "p50", "Median latency (p50)"},
	{"lat_p99_ns", "p99", "99th percentile of latency (p99)"},
	{"ops_per_s", "ops/s", "Operations per second"},
}

// Title is the metric in words.
func (m Metric) Title() string {
	for _, s := range shownMetrics {
		if s.name == m.Name {
			return s.title
		}
	}
	return m.Name
}

// RatioText formats a ratio with three digits.
func RatioText(v float64) string {
	switch {
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.0995:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// Brackets formats an interval behind its estimate: "[5.12–6.20]"; "" where there is none.
func (i Interval) Brackets() string {
	if i.Text() == "" {
		return ""
	}
	return "[" + RatioText(i.Low) + "–" + RatioText(i.High) + "]"
}

// SeriesName is a variant's name for people: a value that is no word gets the name of its factor (depth=16).
func SeriesName(factor, variant string) string {
	if first, _ := utf8.DecodeRuneInString(variant); unicode.IsDigit(first) || variant == "true" || variant == "false" {
		return factor + "=" + variant
	}
	return variant
}

// ratios finds the comparison of a variant by a metric; nil: there is no ratio.
func ratios(all []Comparison, question, variant, metric string) *Comparison {
	i := slices.IndexFunc(all, func(c Comparison) bool {
		return c.Kind == KindRatio && c.Question == question && c.Variant == variant && c.Metric.Name == metric && c.Pairs > 0
	})
	if i < 0 {
		return nil
	}
	return &all[i]
}

// baselineOf is the name of a question's baseline; "": it is not compared.
func baselineOf(all []Comparison, question string) string {
	for _, c := range all {
		if c.Kind == KindRatio && c.Question == question {
			return c.Baseline
		}
	}
	return ""
}

// few reports whether a ratio has too few generations for an interval of 95 %.
func (c *Comparison) few() bool { return c.Pairs < MinPairs }

// The longest reasons, in characters: in a line of progress, and in a note below the table of ratios.
const (
	ProgressReasonMax = 48
	noteReasonMax     = 120
)

// layers are the packages in front of a transport's reason.
var layers = regexp.MustCompile(`^transport [a-z]+: ([a-z]+: )?`)

// Shorten returns the cause of a reason, in at most max characters: without the names of packages in front, and without details and remedies,
// which follow in parentheses or after a semicolon. The page and runs.csv have the whole reason.
func Shorten(reason string, max int) string {
	cause := layers.ReplaceAllString(strings.Join(strings.Fields(reason), " "), "")
	if end := strings.IndexAny(cause, "(;"); end > 0 {
		cause = strings.TrimRight(cause[:end], " ")
	}
	if r := []rune(cause); len(r) > max {
		return strings.TrimRight(string(r[:max-1]), " ") + "…"
	}
	return cause
}

// reasonNote returns the cause of a reason for a note, and where to find the remedy.
func reasonNote(reason string) string {
	note := Shorten(reason, noteReasonMax)
	if strings.Contains(reason, "kvwire doctor") {
		note += " (remedy: kvwire doctor)"
	}
	return note
}

// ratioLine is a line of the table of ratios: a question's name alone, or a variant with a cell for each metric.
type ratioLine struct {
	question, label string
	cells           []string
}

// Print prints the results for a terminal: ratios and verdicts, or a table of rows where nothing is compared.
func (p *Page) Print(w io.Writer) error {
	if !slices.ContainsFunc(p.Questions, func(q PageQuestion) bool { return len(q.Variants) > 1 }) {
		var rows []Row
		for _, q := range p.Questions {
			for _, v := range q.Variants {
				rows = append(rows, v.Row)
			}
		}
		return PrintTable(w, rows)
	}
	if err := PrintRatios(w, p); err != nil || p.Generations < 2 {
		return err
	}
	if p.Generations < MinPairs {
		_, err := fmt.Fprintf(w, "\nNo verdicts: %s are too few.\n", plural.Of(p.Generations, "generation"))
		return err
	}
	if !slices.ContainsFunc(p.Comparisons, func(c Comparison) bool { return c.Claim() }) {
		return nil
	}
	fmt.Fprintln(w)
	return PrintVerdicts(w, p)
}

// PrintRatios prints a block for each question: its baseline as 1×, and the ratios of its variants. What was not measured is in a line below.
func PrintRatios(w io.Writer, p *Page) error {
	var b strings.Builder
	base := ""
	if len(p.Questions) > 0 {
		base = baselineOf(p.Comparisons, p.Questions[0].Title)
	}
	switch {
	case base == "":
		fmt.Fprintf(&b, "Medians of %s. Ratios need two generations or more.\n", plural.Of(p.Generations, "generation"))
	case base == "inproc":
		wrap(&b, "", fmt.Sprintf("Ratios to a call in the same process (inproc = 1×), %s.", p.intervals()))
		wrap(&b, "", "A call uses one CPU, a network two (client and server): ops/s include that.")
	default:
		wrap(&b, "", fmt.Sprintf("Ratios to %s (= 1×), %s.", SeriesName(p.Factor, base), p.intervals()))
	}
	var lines []ratioLine
	for i := range p.Questions {
		lines = append(lines, p.ratioLines(&p.Questions[i])...)
	}
	writeRatioLines(&b, lines)
	p.writeNotes(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// ratioLines are the lines of a question. A question in which nothing was measured has none.
func (p *Page) ratioLines(q *PageQuestion) (lines []ratioLine) {
	base := baselineOf(p.Comparisons, q.Title)
	for i := range q.Variants {
		v := &q.Variants[i]
		if v.Row.SkippedReason != "" {
			continue
		}
		l := ratioLine{label: SeriesName(p.Factor, v.Label)}
		for _, s := range shownMetrics {
			m, _ := FindMetric(s.name)
			value := na
			if x, ok := m.Of(&v.Row).Get(); ok {
				value = m.Text(x)
			}
			c := ratios(p.Comparisons, q.Title, v.Label, s.name)
			rate := m.Name == "ops_per_s"
			switch {
			case v.Label == base && value != na:
				value = "1×  " + value
			case c != nil && rate:
				value = RatioText(c.Ratio) + "  " + value
			case c != nil:
				value = strings.TrimSpace(RatioText(c.Ratio) + " " + c.Brackets())
				if _, most := p.pairs(); c.few() && most >= MinPairs {
					value += "*"
				}
			case base != "":
				value = na
			}
			if rate && v.Row.Marks != "" {
				value += " !"
			}
			l.cells = append(l.cells, value)
		}
		lines = append(lines, l)
	}
	if len(lines) > 0 && q.Title != "" {
		lines = slices.Insert(lines, 0, ratioLine{question: q.Title})
	}
	return lines
}

// writeRatioLines aligns the lines. Names stand above their figures where both do not fit into one line.
func writeRatioLines(b *strings.Builder, lines []ratioLine) {
	head := ratioLine{}
	for _, s := range shownMetrics {
		head.cells = append(head.cells, s.head)
	}
	width, label := make([]int, len(shownMetrics)), 0
	for _, l := range append(slices.Clone(lines), head) {
		label = max(label, utf8.RuneCountInString(l.label))
		for i, c := range l.cells {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	total := 0
	for _, n := range width {
		total += 2 + n
	}
	beside := 2+label+total <= tableColumnsMax
	if !beside {
		label = 0
	}
	row := func(name string, cells []string) {
		text := "  " + pad(name, label)
		for i, c := range cells {
			text += "  " + pad(c, width[i])
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	row("", head.cells)
	for _, l := range lines {
		switch {
		case l.question != "":
			wrap(b, "", l.question)
		case beside:
			row(l.label, l.cells)
		default:
			wrap(b, "  ", l.label)
			row("", l.cells)
		}
	}
}

// writeNotes writes what was not measured, what is invalid, and the footnote of the marks.
func (p *Page) writeNotes(b *strings.Builder) {
	variants := map[string][]string{} // by note
	var order []string
	marked := false
	for _, q := range p.Questions {
		for _, v := range q.Variants {
			var note string
			switch valid, known := v.Row.Valid.Get(); {
			case v.Row.SkippedReason != "":
				note = "Not measured: %s: " + reasonNote(v.Row.SkippedReason)
			case known && !valid:
				note = "Invalid: %s: " + reasonNote(v.Row.InvalidReason)
			}
			marked = marked || v.Row.Marks != "" && v.Row.SkippedReason == ""
			if note == "" {
				continue
			}
			if variants[note] == nil {
				order = append(order, note)
			}
			if name := SeriesName(p.Factor, v.Label); !slices.Contains(variants[note], name) {
				variants[note] = append(variants[note], name)
			}
		}
	}
	for _, note := range order {
		wrap(b, "", strings.Replace(note, "%s", strings.Join(variants[note], ", "), 1))
	}
	if _, most := p.pairs(); most >= MinPairs && slices.ContainsFunc(p.Comparisons, func(c Comparison) bool { return c.Kind == KindRatio && c.Pairs > 0 && c.few() }) {
		wrap(b, "", "* An interval of less than 95 %, or none: fewer than 6 generations could be compared.")
	}
	if marked {
		wrap(b, "", strings.TrimSpace(marksNote))
	}
	if p.modelled() {
		wrap(b, "", ModelNote)
	}
}

// PrintVerdicts prints the primary claims with their corrected intervals and verdicts, by question.
func PrintVerdicts(w io.Writer, p *Page) error {
	var b strings.Builder
	question := "\n"
	for _, c := range p.Comparisons {
		if !c.Claim() {
			continue
		}
		if c.Question != question {
			question = c.Question
			wrap(&b, "", strings.TrimSpace("Verdicts "+question))
		}
		ratio := na
		if c.Pairs > 0 {
			ratio = strings.TrimSpace(RatioText(c.Ratio) + " " + c.Corrected.Brackets())
		}
		wrap(&b, "  ", fmt.Sprintf("%s / %s, %s: %s  %s", SeriesName(p.Factor, c.Variant), SeriesName(p.Factor, c.Baseline), c.Metric.Name, ratio, c.Verdict))
		if c.Why != "" {
			wrap(&b, "      ", c.ShortWhy())
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// intervals describes the intervals of the ratios.
func (p *Page) intervals() string {
	_, most := p.pairs()
	switch {
	case most == 1:
		return p.Compared() + ", without intervals (they take two generations or more, and 95 % takes 6)"
	case !slices.ContainsFunc(p.Comparisons, func(c Comparison) bool { return c.Kind == KindRatio && c.Brackets() != "" }):
		return p.Compared() + ", without intervals (the column why of compare.csv has the reasons)"
	case most < MinPairs:
		return p.Compared() + ": intervals of less than 95 %"
	}
	return "95 % intervals of " + p.Compared()
}

// Compared is the number of generations in the ratios, and of those planned, if they differ: "3 to 5 of 12 generations".
func (p *Page) Compared() string {
	planned := plural.Of(p.Generations, "generation")
	switch least, most := p.pairs(); {
	case most == 0 || least == p.Generations:
		return planned
	case least < most:
		return fmt.Sprintf("%d to %d of %s", least, most, planned)
	default:
		return fmt.Sprintf("%d of %s", most, planned)
	}
}

// pairs are the least and the most generations in the ratios of a question. A question counts by its ratio with the most generations; one without
// ratios does not count. most is 0 if there are none.
func (p *Page) pairs() (least, most int) {
	of := map[string]int{}
	for _, c := range p.Comparisons {
		if c.Kind == KindRatio && c.Pairs > 0 {
			of[c.Question] = max(of[c.Question], c.Pairs)
		}
	}
	for _, n := range of {
		if most = max(most, n); least == 0 || n < least {
			least = n
		}
	}
	return least, most
}

// pad fills a text up with spaces.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// wrap writes a text in lines of at most tableColumnsMax characters, each with the indent; later lines have two spaces more.
func wrap(b *strings.Builder, indent, text string) {
	line := indent
	for _, word := range strings.Split(text, " ") {
		switch {
		case line == indent:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > tableColumnsMax:
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent + "  " + word
		default:
			line += " " + word
		}
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}
