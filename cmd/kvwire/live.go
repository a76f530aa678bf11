package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// live is the table of an experiment while it runs. On a terminal, a line for each run that is done stays, and the line below tells
// of the run under way. Elsewhere there is one plain line for each run. All on stderr.
type live struct {
	*progress
	runs   int
	cells  []string     // by index: what they are called
	widest int          // of these
	drawn  int          // characters that cells have in the header that was written last; 0: there is none
	none   map[int]bool // cells that do not work here and were shown
}

func newLive(x *experiments.Experiment, runs int) *live {
	l := &live{progress: newProgress(""), runs: runs, widest: len("cell"), none: map[int]bool{}}
	for i := range x.Cells {
		l.cells = append(l.cells, lab.CellName(x, i))
		l.widest = max(l.widest, utf8.RuneCountInString(l.cells[i])+len(againMark))
	}
	return l
}

// againMark stands behind the baseline that is run once more.
const againMark = " (again)"

// The columns beside the cell, as wide as their figures get.
var liveColumns = []struct {
	head string
	wide int
}{{"ops/s", 6}, {"p50", 8}, {"p99", 8}, {"CPU µs/op", 10}}

// liveCellMin is how far the cell's name is cut at most where the terminal is narrow.
const liveCellMin = 12

// finished shows a run that is done: on a terminal as a line of the table (a cell that does not work here once), elsewhere as the
// plain line.
func (l *live) finished(i int, run experiments.Run, row *report.Row, plain string) {
	if l.width == nil {
		fmt.Fprintln(l.out, plain)
		return
	}
	if row.SkippedReason != "" {
		if l.none[run.Cell] {
			return
		}
		l.none[run.Cell] = true
	}
	var heads, figures []string
	for _, c := range liveColumns {
		heads, figures = append(heads, c.head), append(figures, report.TableCell(row, c.head))
	}
	heads, figures = append(heads, "note"), append(figures, report.TableCell(row, "note"))
	var lines []string
	wide := l.cellWidth()
	if wide != l.drawn { // also when the terminal was made wider, or narrower
		lines = append(lines, l.format("run", "block", "cell", wide, heads))
		l.drawn = wide
	}
	name := l.cells[run.Cell]
	if run.AA {
		name += againMark
	}
	l.stay(append(lines, l.format(fmt.Sprintf("%d/%d", i+1, l.runs), fmt.Sprint(run.Block), name, wide, figures))...)
}

// cellWidth is how many characters cells' names have: all, or what a narrow terminal leaves them.
func (l *live) cellWidth() int {
	beside := l.runWidth() + len("  block  ") + 3 // of the note, which is cut
	for _, c := range liveColumns {
		beside += 2 + c.wide
	}
	return min(l.widest, max(liveCellMin, l.width()-1-beside))
}

func (l *live) runWidth() int { return 2*len(fmt.Sprint(l.runs)) + 1 }

// format is a line of the table; the last of figures is the note, which is as long as it is.
func (l *live) format(run, block, cell string, wide int, figures []string) string {
	cell = fit(cell, wide)
	s := fmt.Sprintf("%*s  %5s  %s%*s", l.runWidth(), run, block, cell, wide-utf8.RuneCountInString(cell), "")
	for i, c := range liveColumns {
		s += fmt.Sprintf("  %*s", c.wide, figures[i])
	}
	return strings.TrimRight(s+"  "+figures[len(liveColumns)], " ")
}

// underWay shows the run that is under way: for how long, of about how long, and how long all the rest takes.
func (l *live) underWay(i int, run experiments.Run, what string, since, of, left time.Duration) {
	if l.width == nil {
		return
	}
	l.line("%*s  %5d  %s: %s, %v of about %v; about %v left", l.runWidth(), fmt.Sprintf("%d/%d", i+1, l.runs), run.Block, l.cells[run.Cell], what,
		since.Round(time.Second), max(of, time.Second).Round(time.Second), left.Round(time.Second))
}

// pace is how long runs take beside what was estimated of them.
type pace struct{ estimated, took time.Duration }

// add takes a finished run into account.
func (p *pace) add(estimated, took time.Duration) {
	p.estimated += estimated
	p.took += took
}

// of corrects an estimate by what the runs so far have shown.
func (p *pace) of(estimated time.Duration) time.Duration {
	if p.estimated <= 0 {
		return estimated
	}
	return time.Duration(float64(estimated) * float64(p.took) / float64(p.estimated))
}
