package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
)

// live shows how far an experiment is: a line for each step that is done, and on a terminal the step under way below it. All on stderr; what
// went wrong is also in the log.
type live struct {
	*progress
	folder *results.Folder
	log    io.Writer
	shown  map[string]bool // reasons of skipped and of failed runs: each is shown once
}

var _ lab.Watcher = (*live)(nil)

func newLive(folder *results.Folder, log io.Writer) *live {
	return &live{progress: newProgress(""), folder: folder, log: log, shown: map[string]bool{}}
}

// Started implements lab.Watcher.
func (l *live) Started(s lab.Step) {
	l.line("%s: starting; about %v left", l.title(s), s.Left.Round(time.Second))
}

// Sliced implements lab.Watcher.
func (l *live) Sliced(s lab.Step, rounds, of int) {
	l.line("%s: round %d of %d; about %v left", l.title(s), rounds, of, s.Left.Round(time.Second))
}

// Kept implements lab.Watcher.
func (l *live) Kept(s lab.Step, rows []*report.Row) {
	var parts []string
	for _, row := range rows {
		again := l.shown[row.SkippedReason+row.InvalidReason]
		l.shown[row.SkippedReason+row.InvalidReason] = row.SkippedReason+row.InvalidReason != ""
		switch {
		case again && row.SkippedReason != "":
		case again && !row.Ops.Known():
			parts = append(parts, row.Variant+" failed")
		default:
			parts = append(parts, row.Variant+" "+summary(row))
		}
	}
	if len(parts) > 0 {
		l.print(l.title(s) + ": " + strings.Join(parts, "; "))
	}
}

// Noted implements lab.Watcher.
func (l *live) Noted(s lab.Step, line string) {
	fmt.Fprintf(l.log, "%s: %s\n", l.title(s), line)
	l.print(l.title(s) + ": " + line)
}

// title names a step: [3/24] generation 1/12, backend=disk mix=get.
func (l *live) title(s lab.Step) string {
	t := fmt.Sprintf("[%d/%d] generation %d/%d", s.Done, s.Of, s.Generation, s.Generations)
	x, name := l.folder.Experiment, ""
	switch {
	case s.Whole != nil && s.Whole.Stages:
		name = strings.TrimSpace("stages of " + lab.CellName(x, s.Whole.Cell))
	case s.Whole != nil:
		name = lab.CellName(x, s.Whole.Cell)
	default:
		name = lab.QuestionName(x, x.Questions()[s.Question].Flags)
	}
	if name != "" {
		t += ", " + name
	}
	return t
}

// print writes a line that stays: on a terminal cut to its width.
func (l *live) print(line string) {
	if l.width == nil {
		fmt.Fprintln(l.out, line)
		return
	}
	l.stay(line)
}
