package report

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The table of ratios has the figures of the comparisons, no row for what was not measured, and fits a terminal of 80 columns.
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
