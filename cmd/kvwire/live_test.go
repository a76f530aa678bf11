package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
	"golang.org/x/sys/unix"
)

// screen is what a terminal shows of what was written to it: all lines, without the spaces at their ends.
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

// shownLive is a live display of an experiment of two questions, on a terminal of a width that the test changes; nil: on none.
func shownLive(t *testing.T, width *int) (l *live, out, log *bytes.Buffer) {
	t.Helper()
	cell := func(words ...string) (c experiment.Cell) {
		for i := 0; i < len(words); i += 2 {
			c = append(c, experiment.Flag{Name: words[i], Value: words[i+1]})
		}
		return c
	}
	any := func(value string) (string, error) { return value, nil }
	x, err := experiment.Read("x.yaml", []byte("transport: [inproc, tcp]\nmix: [get, put]\n"), experiment.Flags{"transport": any, "mix": any})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := x.Cells[1].String(), cell("transport", "inproc", "mix", "put").String(); got != want {
		t.Fatalf("the second cell is %s, want %s", got, want)
	}
	out, log = new(bytes.Buffer), new(bytes.Buffer)
	l = &live{progress: &progress{out: out}, folder: &results.Folder{Experiment: x}, log: log, shown: map[string]bool{}}
	if width != nil {
		l.width = func() int { return *width }
	}
	return l, out, log
}

func liveRow(variant string) *report.Row {
	return &report.Row{Variant: variant, OpsPerS: report.F(98_200), LatP50Ns: report.I(784_000), Valid: report.B(true), Ops: report.U(1),
		ClientUserNsPerOp: report.F(2770), ClientSysNsPerOp: report.F(0), ServerUserNsPerOp: report.F(5600), ServerSysNsPerOp: report.F(0)}
}

// steps has l show a generation that failed once and is kept, and then one that is under way.
func steps(l *live) {
	first := lab.Step{Question: 0, Generation: 1, Generations: 12, Done: 1, Of: 24, Left: 2 * time.Minute}
	l.Started(first)
	l.Noted(first, "tcp failed, the generation is done again: it ended")
	for i := range 3 {
		l.Sliced(first, i+1, 3)
	}
	l.Kept(first, []*report.Row{liveRow("inproc"), {Variant: "rdma", SkippedReason: "no device"}, {Variant: "tcp", Valid: report.B(false), InvalidReason: "it ended"}})
	whole := lab.Step{Question: 1, Generation: 1, Generations: 12, Done: 2, Of: 24, Left: time.Minute, Whole: &experiment.Run{Generation: 1, Cell: 3}}
	l.Kept(whole, []*report.Row{{Variant: "rdma", SkippedReason: "no device"}})
	l.Kept(whole, []*report.Row{liveRow("tcp")})
	l.Sliced(lab.Step{Question: 1, Generation: 2, Generations: 12, Done: 3, Of: 24, Left: time.Minute}, 7, 40)
}

var keptLines = []string{
	"[1/24] generation 1/12, mix=get: tcp failed, the generation is done again: it ended",
	"[1/24] generation 1/12, mix=get: inproc 98.2k ops/s, p50 784 µs, CPU 8.37 µs; rdma skipped: no device; tcp failed: it ended",
	"[2/24] generation 1/12, tcp put: tcp 98.2k ops/s, p50 784 µs, CPU 8.37 µs",
}

func TestFinishedStepsStayAboveTheOneUnderWay(t *testing.T) {
	width := 140
	l, out, log := shownLive(t, &width)
	steps(l)
	want := append(slices.Clone(keptLines), "[3/24] generation 2/12, mix=put: round 7 of 40; about 1m0s left")
	if got := screen(out.String()); !slices.Equal(got, want) {
		t.Errorf("the screen shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if l.clear(); screen(out.String())[3] != "" {
		t.Errorf("in the end it shows\n%s", strings.Join(screen(out.String()), "\n"))
	}
	if got := log.String(); got != keptLines[0]+"\n" {
		t.Errorf("the log has %q", got)
	}
}

func TestStepsFollowTheTerminalsWidth(t *testing.T) {
	width := 140
	l, out, _ := shownLive(t, &width)
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
		l.clear()
	}
}

func TestStepsArePlainLinesWhereThereIsNoTerminal(t *testing.T) {
	l, out, _ := shownLive(t, nil)
	steps(l)
	l.clear()
	if got, want := out.String(), strings.Join(keptLines, "\n")+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// terminal is a pseudo terminal of a width: the end that a program writes to, and the one that shows it.
func terminal(t *testing.T, columns uint16) (program, shown *os.File) {
	t.Helper()
	shown, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = shown.Close() })
	fd := int(shown.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return program, shown
}

func TestARunOnATerminalShowsItsSteps(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "small.yaml")
	if err := os.WriteFile(file, []byte("name: small\ntransport: [inproc, tcp]\nbackend: null\nwarmup: 10ms\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const columns = 90
	program, shown := terminal(t, columns)
	cmd := asKvwire(context.Background(), "run", file, "--generations", "1", "--slice", "20ms", "--time", "500ms", "--output-dir", filepath.Join(dir, "out"))
	cmd.Stderr = program
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	_ = program.Close() // reading ends with the last process that has it
	watchdog := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
	defer watchdog.Stop()
	var written []byte
	for buf := make([]byte, 4096); ; {
		n, err := shown.Read(buf)
		written = append(written, buf[:n]...)
		if err != nil { // EIO
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %q", err, written)
	}
	lines := screen(string(written))
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "[1/1] generation 1/1: inproc ") || lines[1] != "" {
		t.Errorf("the screen shows\n%s", strings.Join(lines, "\n"))
	}
	if !bytes.Contains(written, []byte("[1/1] generation 1/1: round 1 of ")) {
		t.Errorf("the step under way was not shown: %q", written)
	}
	for _, part := range strings.FieldsFunc(strings.ReplaceAll(string(written), "\033[K", ""), func(r rune) bool { return r == '\r' || r == '\n' }) {
		if utf8.RuneCountInString(part) >= columns {
			t.Errorf("a line that wraps: %q", part)
		}
	}
}
