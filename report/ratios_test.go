package report

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The table of ratios has the figures of the comparisons, no row for cells that were not measured, and fits a terminal of 80 columns.
func TestRatiosFitATerminal(t *testing.T) {
	p := page(t)
	p.Factor = "transport"
	p.Questions[0].Variants[2].Row.Marks = "drift"
	p.Questions[1].Variants[0].Row.SkippedReason = noRDMA
	var b strings.Builder
	if err := p.Print(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	fast := find(t, p.Comparisons, "fast", "ops_per_s")
	for _, want := range []string{"Ratios to tcp (= 1×), 95 % intervals of 10 generations.", "1×  50.0k", RatioText(fast.Ratio) + "  100k", "Not measured: rdma: no RDMA device on this machine: kernel 6.18.44 has no\n  modules here (remedy: kvwire doctor)\n",
		"! The machine was disturbed", "Verdicts value-bytes=64", fast.Corrected.Brackets()} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "empty") {
		t.Errorf("a question without a run has a block:\n%s", text)
	}
	for _, line := range strings.Split(text, "\n") {
		if utf8.RuneCountInString(line) > tableColumnsMax {
			t.Errorf("%q is wider than a terminal", line)
		}
	}
}

// Where a table or a chart has a modelled device, it says which figures are measured, and the network's name says which are not.
func TestModelledVariantsAreNamed(t *testing.T) {
	p := page(t)
	p.Factor = "transport"
	v := &p.Questions[0].Variants[1]
	v.Row.Transport, v.Row.RDMAVerb, v.Row.Device, v.Row.RDMAModel = "rdma", "send", "model", "rtt=2us"
	var ratios, rows strings.Builder
	if err := errors.Join(PrintRatios(&ratios, p), PrintTable(&rows, []Row{p.Questions[0].Variants[0].Row, v.Row})); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := WritePage(dir, p); err != nil {
		t.Fatal(err)
	}
	html, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	svgs, err := filepath.Glob(filepath.Join(dir, "charts", "*.svg"))
	if err != nil || len(svgs) == 0 {
		t.Fatal(svgs, err)
	}
	svg, err := os.ReadFile(svgs[0])
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{ratios.String(): "(model): a model of an RDMA device", rows.String(): "rdma send (model)", string(html): "(model): a model of an RDMA device",
		string(svg): "RDMA is a model, the rest is measured"} {
		if !strings.Contains(text, want) || regexp.MustCompile(`\bhw\b`).MatchString(text) {
			t.Errorf("%q is missing in, or hw is in\n%s", want, text)
		}
	}
}

// Intervals are announced only where a ratio has one.
func TestIntervalsAreAnnouncedWhereThereAreSome(t *testing.T) {
	p := page(t)
	p.Factor = "transport"
	for i := range p.Comparisons {
		p.Comparisons[i].Interval = noInterval()
	}
	var b strings.Builder
	if err := PrintRatios(&b, p); err != nil {
		t.Fatal(err)
	}
	if head, _, _ := strings.Cut(b.String(), ")."); strings.Contains(head, "95 %") || !strings.Contains(head, "10 generations, without intervals") {
		t.Errorf("the head announces intervals that do not exist: %s", head)
	}
}

// An interrupted run has the generations that it measured in its head, not those of its plan, and no interval of one generation.
func TestTheHeadHasTheGenerationsOfTheRatios(t *testing.T) {
	for _, c := range []struct {
		first, second int // generations of the two questions; 0: not measured
		want          string
		intervals     bool
		stars         int
	}{
		{1, 1, "1 of 12 generations, without intervals", false, 0},
		{3, 3, "3 of 12 generations: intervals of less than 95 %", true, 0},
		{3, 5, "3 to 5 of 12 generations: intervals of less than 95 %", true, 0},
		{12, 1, "95 % intervals of 1 to 12 of 12 generations", true, 1},
		{9, 0, "95 % intervals of 9 of 12 generations", true, 0},
		{12, 12, "95 % intervals of 12 generations", true, 0},
	} {
		p := &Page{Generations: 12, Factor: "transport"}
		for i, n := range []int{c.first, c.second} {
			if n == 0 {
				continue
			}
			q := []string{"depth=1", "depth=16"}[i]
			pairs := Pairs{Question: q, Baseline: series("tcp", n, 1e5, still(1)), Variants: []Series{series("uring", n, 2e5, still(2))}}
			all, err := Compare([]Pairs{pairs}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			p.Comparisons = append(p.Comparisons, all...)
			p.Questions = append(p.Questions, PageQuestion{Title: q, Variants: []PageVariant{{Label: "tcp", Row: *pairs.Baseline.Rows[1]}, {Label: "uring", Row: *pairs.Variants[0].Rows[1]}}})
		}
		m, _ := FindMetric("lat_p50_ns") // ops/s have no intervals in the table
		for i := range p.Comparisons {
			if p.Comparisons[i].Metric.Name == "ops_per_s" {
				p.Comparisons[i].Metric = m
			} else {
				p.Comparisons[i].Metric = Metrics[0]
			}
		}
		var b strings.Builder
		if err := PrintRatios(&b, p); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		if !strings.Contains(strings.ReplaceAll(text, "\n  ", " "), c.want) || strings.Contains(text, "[") != c.intervals || strings.Count(text, "*\n")+strings.Count(text, "* ") != 2*c.stars {
			t.Errorf("%d and %d generations: want %q, intervals: %v, stars: %d\n%s", c.first, c.second, c.want, c.intervals, c.stars, text)
		}
		dir := t.TempDir()
		if err := WritePage(dir, p); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(filepath.Join(dir, "report.html"))
		if err != nil || !strings.Contains(string(page), " · "+p.Compared()+" · ") || !c.intervals && regexp.MustCompile(`\[[0-9.]+–`).Match(page) {
			t.Errorf("%d and %d generations: the page lacks %q, or has intervals of one generation: %v", c.first, c.second, p.Compared(), err)
		}
	}
}

// noRDMA is the reason of rows on a machine without RDMA.
const noRDMA = "transport rdma: rdma: no RDMA device on this machine: kernel 6.18.44 has no modules here (no /lib/modules/6.18.44); verbs: list devices: " +
	"function not implemented (the kernel's verbs module is not loaded: modprobe ib_uverbs) (see kvwire doctor; for a device: make vm, which runs it in a guest)"

// A short reason keeps the cause, and leaves out packages, details and remedies.
func TestShorten(t *testing.T) {
	for _, c := range []struct{ reason, want string }{
		{noRDMA, "no RDMA device on this machine: kernel 6.18.44…"},
		{"exit status 1: 3 operations\nfailed", "exit status 1: 3 operations failed"},
		{"(all of it)", "(all of it)"},
		{strings.Repeat("long ", 20), strings.Repeat("long ", 9) + "lo…"},
	} {
		if got := Shorten(c.reason, ProgressReasonMax); got != c.want || utf8.RuneCountInString(got) > ProgressReasonMax {
			t.Errorf("%q: %q, want %q", c.reason, got, c.want)
		}
	}
}

// Every ratio keeps three digits, down to small ones.
func TestRatioText(t *testing.T) {
	for v, want := range map[float64]string{123.4: "123", 99.96: "100", 12.34: "12.3", 9.999: "10.0", 1.234: "1.23", 0.0996: "0.10", 0.0621: "0.062"} {
		if got := RatioText(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	if got := []string{SeriesName("depth", "16"), SeriesName("bundle", "true"), SeriesName("transport", "tcp")}; !slices.Equal(got, []string{"depth=16", "bundle=true", "tcp"}) {
		t.Error(got)
	}
}
