package lab

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// screen is the content of a terminal: all lines, without the spaces at their ends.
func screen(written string) (lines []string) {
	line, col := []rune{}, 0
	for len(written) > 0 {
		if rest, ok := strings.CutPrefix(written, "\033[K"); ok {
			line, written = line[:min(col, len(line))], rest
			continue
		}
		r, n := utf8.DecodeRuneInString(written)
		written = written[n:]
		switch r {
		case '\r':
			col = 0
		case '\n':
			lines, line, col = append(lines, strings.TrimRight(string(line), " ")), nil, 0
		default:
			for len(line) <= col {
				line = append(line, ' ')
			}
			line[col] = r
			col++
		}
	}
	return append(lines, strings.TrimRight(string(line), " "))
}

// shownSteps is a display of an experiment of two questions, on a terminal of a width that the test changes; nil: on none.
func shownSteps(t *testing.T, width *int) (l *Display, out, log *bytes.Buffer) {
	t.Helper()
	cell := func(words ...string) (c experiment.Cell) {
		for i := 0; i < len(words); i += 2 {
			c = append(c, experiment.Flag{Name: words[i], Value: words[i+1]})
		}
		return c
	}
	any := func(value string) (string, error) { return value, nil }
	x, err := experiment.Read("x.yaml", []byte("transport: [inproc, tcp]\nmix: [get, put]\n"), experiment.Flags{"transport": {Parse: any}, "mix": {Parse: any}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := x.Cells[1].String(), cell("transport", "inproc", "mix", "put").String(); got != want {
		t.Fatalf("the second cell is %s, want %s", got, want)
	}
	out, log = new(bytes.Buffer), new(bytes.Buffer)
	var columns func() int
	if width != nil {
		columns = func() int { return *width }
	}
	return NewDisplay(terminal.New(out, columns), x, log), out, log
}

func shownRow(variant string) *report.Row {
	return &report.Row{Variant: variant, OpsPerS: report.F(98_200), LatP50Ns: report.I(784_000), Valid: report.B(true), Ops: report.U(1),
		ClientUserNsPerOp: report.F(2770), ClientSysNsPerOp: report.F(0), ServerUserNsPerOp: report.F(5600), ServerSysNsPerOp: report.F(0)}
}

// steps has l show a generation that failed once and is kept, and then one that is under way.
func steps(l *Display) {
	first := Position{Question: 0, Generation: 1, Generations: 12, Done: 1, Of: 24, Left: 2 * time.Minute}
	l.Started(first)
	l.Noted(first, "tcp failed, the generation is measured again: it ended")
	for i := range 3 {
		l.Sliced(first, i+1, 3)
	}
	l.Finished(first, []*report.Row{shownRow("inproc"), {Variant: "rdma", SkippedReason: "no device"}, {Variant: "tcp", Valid: report.B(false), InvalidReason: "it ended"}})
	whole := Position{Question: 1, Generation: 1, Generations: 12, Done: 2, Of: 24, Left: time.Minute, Whole: &experiment.Run{Generation: 1, Cell: 3}}
	l.Finished(whole, []*report.Row{{Variant: "rdma", SkippedReason: "no device"}})
	l.Finished(whole, []*report.Row{shownRow("tcp")})
	l.Sliced(Position{Question: 1, Generation: 2, Generations: 12, Done: 3, Of: 24, Left: time.Minute}, 7, 40)
}

var keptLines = []string{
	"[1/24] mix=get: tcp failed, the generation is measured again: it ended",
	"[1/24] mix=get: inproc 8.37 µs CPU/op, rdma skipped: no device, tcp failed: it ended",
	"[2/24] tcp put: tcp 8.37 µs CPU/op",
}

func TestFinishedStepsStayAboveTheOneUnderWay(t *testing.T) {
	width := 140
	l, out, log := shownSteps(t, &width)
	steps(l)
	want := append(slices.Clone(keptLines), "[3/24] mix=put, about 1m0s left: round 7 of 40")
	if got := screen(out.String()); !slices.Equal(got, want) {
		t.Errorf("the screen shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if l.Clear(); screen(out.String())[3] != "" {
		t.Errorf("in the end it shows\n%s", strings.Join(screen(out.String()), "\n"))
	}
	if got := log.String(); got != keptLines[0]+"\n" {
		t.Errorf("the log has %q", got)
	}
}

func TestStepsFollowTheTerminalsWidth(t *testing.T) {
	width := 140
	l, out, _ := shownSteps(t, &width)
	lines := 0
	for _, w := range []int{140, 76, 40, 3, 1, 0, 76} {
		width = w
		steps(l)
		all := screen(out.String())
		for _, s := range all[lines:] {
			if n := utf8.RuneCountInString(s); n > max(w-1, 0) {
				t.Errorf("a line of %d characters on a terminal of %d: %q", n, w, s)
			}
		}
		lines = len(all) - 1
		l.Clear()
	}
}

func TestStepsArePlainLinesWhereThereIsNoTerminal(t *testing.T) {
	l, out, _ := shownSteps(t, nil)
	steps(l)
	l.Clear()
	if got, want := out.String(), strings.Join(keptLines, "\n")+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
