package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kvwire/kvwire/experiments"
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

// table is a live table of two cells on a terminal of a width that the test changes.
func table(width *int) (*live, *bytes.Buffer) {
	var out bytes.Buffer
	l := &live{progress: &progress{out: &out, width: func() int { return *width }}, runs: 120, cells: []string{"inproc disk a 64KiB", "rdma write disk a 64KiB"}, none: map[int]bool{}}
	l.widest = len(l.cells[1]) + len(againMark)
	return l, &out
}

func liveRow() *report.Row {
	return &report.Row{Transport: "tcp", OpsPerS: report.F(98_200), LatP50Ns: report.I(784_000), LatP99Ns: report.I(1_290_000), Valid: report.B(false), InvalidReason: "drift +45 %",
		ClientUserNsPerOp: report.F(2770), ClientSysNsPerOp: report.F(0), ServerUserNsPerOp: report.F(5600), ServerSysNsPerOp: report.F(0)}
}

func TestLiveTableKeepsFinishedRunsAboveTheOneUnderWay(t *testing.T) {
	width := 140
	l, out := table(&width)
	l.underWay(0, experiments.Run{Block: 1, Cell: 0}, runningNow, 0, 3*time.Second, 5*time.Minute)
	l.finished(0, experiments.Run{Block: 1, Cell: 0}, liveRow(), "")
	l.underWay(1, experiments.Run{Block: 1, Cell: 1}, runningNow, time.Second, 3*time.Second, 4*time.Minute)
	l.finished(1, experiments.Run{Block: 1, Cell: 1, AA: true}, &report.Row{Valid: report.B(false), InvalidReason: "exit status 1"}, "")
	l.finished(2, experiments.Run{Block: 10, Cell: 1}, &report.Row{SkippedReason: "no device"}, "")
	l.finished(3, experiments.Run{Block: 10, Cell: 1}, &report.Row{SkippedReason: "no device"}, "")
	l.underWay(11, experiments.Run{Block: 10, Cell: 0}, runningNow, 2*time.Second, 3*time.Second, time.Minute)
	want := []string{
		"    run  block  cell                              ops/s       p50       p99   CPU µs/op  note",
		"  1/120      1  inproc disk a 64KiB               98.2k    784 µs   1.29 ms   2.77+5.60  invalid: drift +45 %",
		"  2/120      1  rdma write disk a 64KiB (again)       –         –         –           –  invalid: exit status 1",
		"  3/120     10  rdma write disk a 64KiB               –         –         –           –  skipped: no device",
		" 12/120     10  inproc disk a 64KiB: running, 2s of about 3s; about 1m0s left",
	}
	if got := screen(out.String()); !slices.Equal(got, want) {
		t.Errorf("the screen shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	l.clear()
	if got := screen(out.String()); !slices.Equal(got[:4], want[:4]) || got[4] != "" {
		t.Errorf("in the end it shows\n%s", strings.Join(got, "\n"))
	}
}

func TestLiveTableFollowsTheTerminalsWidth(t *testing.T) {
	width := 140
	l, out := table(&width)
	lines := 0
	for i, w := range []int{140, 76, 40, 3, 1, 0, 76} {
		width = w
		l.underWay(i, experiments.Run{Block: 1, Cell: i % 2}, runningNow, 0, time.Second, time.Minute)
		l.finished(i, experiments.Run{Block: 1, Cell: i % 2}, liveRow(), "")
		all := screen(out.String())
		for _, s := range all[lines:] {
			if n := utf8.RuneCountInString(s); n > max(w-1, 0) {
				t.Errorf("a line of %d characters on a terminal of %d: %q", n, w, s)
			}
		}
		lines = len(all) - 1
	}
	all := screen(out.String())
	if !strings.HasPrefix(all[2], "    run  block  cell ") {
		t.Errorf("the table has other columns after %q, and no head that says so: %q", all[1], all[2])
	}
	if got := all[3]; got != "  2/120      1  rdma write disk…   98.2k    784 µs   1.29 ms   2.77+5.60  …" {
		t.Errorf("on 76 columns: %q", got)
	}
}

func TestLiveTableIsPlainLinesWhereThereIsNoTerminal(t *testing.T) {
	var out bytes.Buffer
	l := &live{progress: &progress{out: &out}, runs: 2, cells: []string{"a"}}
	l.underWay(0, experiments.Run{}, runningNow, 0, 0, 0)
	l.finished(0, experiments.Run{}, liveRow(), "[1/2] a: 98.2k ops/s")
	l.clear()
	if got := out.String(); got != "[1/2] a: 98.2k ops/s\n" {
		t.Errorf("%q", got)
	}
}

func TestPaceCorrectsWhatIsLeft(t *testing.T) {
	var p pace
	if got := p.of(time.Minute); got != time.Minute {
		t.Errorf("before the first run: %v", got)
	}
	p.add(2*time.Second, 3*time.Second)
	p.add(2*time.Second, 5*time.Second)
	if got := p.of(time.Minute); got != 2*time.Minute {
		t.Errorf("runs that take twice as long: %v", got)
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

func TestARunOnATerminalShowsItsTable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "small.yaml")
	if err := os.WriteFile(file, []byte("name: small\ntransport: [inproc, tcp]\nbackend: null\nduration: 300ms\nwarmup: 10ms\nblocks: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const columns = 90
	program, shown := terminal(t, columns)
	cmd := exec.Command(os.Args[0], "run", file, "--output-dir", filepath.Join(dir, "out"))
	cmd.Env = append(os.Environ(), asProgram+"=1")
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
	if len(lines) != 4 || !strings.Contains(lines[0], "cell") || !strings.Contains(lines[1], "1/2      1  inproc ") || !strings.Contains(lines[2], "2/2      1  tcp ") || lines[3] != "" {
		t.Errorf("the screen shows\n%s", strings.Join(lines, "\n"))
	}
	if !bytes.Contains(written, []byte("tcp: running, 0s of about 1s; about ")) {
		t.Errorf("the run under way was not shown: %q", written)
	}
	for _, part := range strings.FieldsFunc(strings.ReplaceAll(string(written), "\033[K", ""), func(r rune) bool { return r == '\r' || r == '\n' }) {
		if utf8.RuneCountInString(part) >= columns {
			t.Errorf("a line that wraps: %q", part)
		}
	}
}
