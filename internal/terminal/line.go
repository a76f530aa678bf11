// Package terminal owns what commands print to: standard output (Output), and the line of progress at the bottom of a terminal, which is overwritten
// again and again (Line). If standard error is no terminal, or a dumb one, there is no such line, and only lines that stay are written. It imports no
// other package of kvwire.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Line is the line of progress. It belongs to one goroutine.
type Line struct {
	out   io.Writer
	width func() int // returns the terminal's present number of columns; nil: out is no terminal
	shown bool
}

// New returns a Line on out. width returns the terminal's present number of columns; nil: out is no terminal.
func New(out io.Writer, width func() int) *Line { return &Line{out: out, width: width} }

// Stderr returns a Line on standard error.
func Stderr() *Line {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err != nil || os.Getenv("TERM") == "dumb" {
		return New(os.Stderr, nil)
	}
	return New(os.Stderr, columns)
}

// columns returns the number of columns of the terminal on standard error. It is read each time, because the user may change it.
func columns() int {
	const usual = 80
	size, err := unix.IoctlGetWinsize(int(os.Stderr.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 { // a serial line reports none
		return usual
	}
	return int(size.Col)
}

// OnTerminal reports whether there is a terminal.
func (l *Line) OnTerminal() bool { return l.width != nil }

// Show replaces the line. It writes once and clears what is behind the new text, so nothing flickers. The last column stays
// empty: some terminals go to the next line with it, which could not be taken back.
func (l *Line) Show(format string, args ...any) {
	if l.width != nil {
		fmt.Fprintf(l.out, "\r%s\033[K", fit(fmt.Sprintf(format, args...), l.width()-1))
		l.shown = true
	}
}

// Print writes a permanent line in the place of the line of progress. A line wider than the terminal continues on the next one.
func (l *Line) Print(line string) {
	if l.width == nil {
		fmt.Fprintln(l.out, line)
		return
	}
	most := l.width() - 1
	var b strings.Builder
	b.WriteByte('\r')
	row := ""
	for i, word := range strings.Fields(line) {
		if i > 0 && utf8.RuneCountInString(row)+1+utf8.RuneCountInString(word) > most {
			b.WriteString(fit(row, most) + "\033[K\n")
			row = " "
		}
		if i > 0 {
			row += " "
		}
		row += word
	}
	b.WriteString(fit(row, most) + "\033[K\n")
	_, _ = io.WriteString(l.out, b.String())
	l.shown = false
}

// Clear removes the line, before something else is written.
func (l *Line) Clear() {
	if l.shown {
		l.Erase()
	}
}

// Erase removes the line at the bottom of the terminal, also if another process has written it.
func (l *Line) Erase() {
	if l.width != nil {
		fmt.Fprint(l.out, "\r\033[K")
		l.shown = false
	}
}

// fit cuts a text to most characters, and marks the cut.
func fit(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	if most < 1 {
		return ""
	}
	return string([]rune(s)[:most-1]) + "…"
}
