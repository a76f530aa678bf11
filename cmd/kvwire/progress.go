package main

import (
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"github.com/kvwire/kvwire/bench"
	"golang.org/x/sys/unix"
)

// progress writes one line to a terminal again and again, and nothing elsewhere: there, a line per
// finished run is enough. All on stderr.
type progress struct {
	out    io.Writer
	width  func() int // of the terminal, now; nil: it is none
	shown  bool
	prefix string
}

func newProgress(prefix string) *progress {
	p := &progress{out: os.Stderr, prefix: prefix}
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err == nil {
		p.width = terminalWidth
	}
	return p
}

// terminalWidth is the columns of the terminal on stderr. It is asked each time: the user may make it smaller.
func terminalWidth() int {
	const usual = 80
	size, err := unix.IoctlGetWinsize(int(os.Stderr.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 { // a serial line does not know
		return usual
	}
	return int(size.Col)
}

// show is for bench.Run and bench.Load.
func (p *progress) show(s bench.Progress) {
	if p.width == nil {
		return
	}
	left := ""
	switch {
	case s.Records > 0 && s.OpsPerS > 0:
		left = fmt.Sprintf("%d %%, %v left", 100*s.Ops/s.Records, time.Duration(float64(s.Records-min(s.Ops, s.Records))/s.OpsPerS*1e9).Round(time.Second))
	case s.Total > 0 && s.Total < bench.WindowMax: // the most of a window that ends after a number of operations
		left = fmt.Sprintf("%v left", max(0, s.Total-s.Elapsed).Round(time.Second))
	}
	p.line("%s%-8s %s, %.0f/s", p.prefix, s.Phase, left, s.OpsPerS)
}

// line replaces the line. One write, and what is old is cleared behind the new text: nothing flickers. The last column stays
// empty, since some terminals go to the next line with it, which could not be taken back.
func (p *progress) line(format string, args ...any) {
	if p.width != nil {
		fmt.Fprintf(p.out, "\r%s\033[K", fit(fmt.Sprintf(format, args...), p.width()-1))
		p.shown = true
	}
}

// stay writes lines, cut to the terminal's width, in the place of the line; they are not written over.
func (p *progress) stay(lines ...string) {
	all := ""
	for _, l := range lines {
		all += "\r" + fit(l, p.width()-1) + "\033[K\n"
	}
	_, _ = io.WriteString(p.out, all)
	p.shown = false
}

// clear takes the line away, before something else is written.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.out, "\r\033[K")
		p.shown = false
	}
}

// fit cuts a text to so many characters, and shows that it did.
func fit(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	if most < 1 {
		return ""
	}
	return string([]rune(s)[:most-1]) + "…"
}
