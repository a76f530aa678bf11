package lab

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// Display is a Watcher. It writes a line for each finished step; on a terminal it also shows the present step below these lines. It writes errors to the
// log, too.
type Display struct {
	line  *terminal.Line
	x     *experiment.Experiment
	log   io.Writer
	shown map[string]bool // reasons of skipped and of failed runs: each is shown once
}

var _ Watcher = (*Display)(nil)

// NewDisplay returns a Display for an experiment.
func NewDisplay(line *terminal.Line, x *experiment.Experiment, log io.Writer) *Display {
	return &Display{line: line, x: x, log: log, shown: map[string]bool{}}
}

// Clear removes the step under way.
func (d *Display) Clear() { d.line.Clear() }

// Started implements Watcher.
func (d *Display) Started(s Position) {
	d.line.Show("%s, about %v left: starting", d.title(s), s.Left.Round(time.Second))
}

// Sliced implements Watcher.
func (d *Display) Sliced(s Position, rounds, of int) {
	d.line.Show("%s, about %v left: round %d of %d", d.title(s), s.Left.Round(time.Second), rounds, of)
}

// Finished implements Watcher.
func (d *Display) Finished(s Position, rows []*report.Row) {
	var parts []string
	for _, row := range rows {
		if row.Phase == "aa" && row.Ops.Known() {
			continue // the A/A check has no line of its own
		}
		name := report.SeriesName(d.x.Compare, row.Variant)
		again := d.shown[row.SkippedReason+row.InvalidReason]
		d.shown[row.SkippedReason+row.InvalidReason] = row.SkippedReason+row.InvalidReason != ""
		switch {
		case again && row.SkippedReason != "":
		case again && !row.Ops.Known():
			parts = append(parts, name+" failed")
		default:
			parts = append(parts, name+" "+summary(row))
		}
	}
	if len(parts) > 0 {
		d.line.Print(d.title(s) + ": " + strings.Join(parts, ", "))
	}
}

// Noted implements Watcher.
func (d *Display) Noted(s Position, line string) {
	fmt.Fprintf(d.log, "%s: %s\n", d.title(s), line)
	d.line.Print(d.title(s) + ": " + line)
}

// title names a step: [3/24] backend=disk mix=get.
func (d *Display) title(s Position) string {
	t := fmt.Sprintf("[%d/%d]", s.Done, s.Of)
	name := ""
	switch {
	case s.Whole != nil && s.Whole.Stages:
		name = strings.TrimSpace("stages of " + CellName(d.x, s.Whole.Cell))
	case s.Whole != nil:
		name = CellName(d.x, s.Whole.Cell)
	default:
		name = QuestionName(d.x, d.x.Questions()[s.Question].Flags)
	}
	if name != "" {
		t += " " + name
	}
	return t
}

// summary is the part of a progress line about one run.
func summary(r *report.Row) string {
	if r.SkippedReason != "" {
		return "skipped: " + report.Shorten(r.SkippedReason, report.ProgressReasonMax)
	}
	if !r.Ops.Known() && r.InvalidReason != "" {
		return "failed: " + r.InvalidReason
	}
	m, err := report.FindMetric("cpu_ns_per_op")
	if v, ok := m.Of(r).Get(); ok && err == nil {
		return m.Text(v) + " CPU/op"
	}
	if v, ok := r.OpsPerS.Get(); ok {
		return report.Rate(v) + " ops/s"
	}
	return "no operations"
}
