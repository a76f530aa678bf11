package results

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// bounds are the bounds of a threshold, in the metric's unit.
type bounds struct {
	metric      report.Metric
	least, most float64
}

// boundsOf parses a threshold. rate is Reader.Rate.
func boundsOf(t *experiment.Threshold, rate func(text string) (float64, error)) (b bounds, err error) {
	b = bounds{least: math.Inf(-1), most: math.Inf(1)}
	if b.metric, err = report.FindMetric(t.Metric); err != nil {
		return b, err
	}
	for _, x := range []struct {
		text string
		to   *float64
	}{{t.Least, &b.least}, {t.Most, &b.most}} {
		if x.text == "" {
			continue
		}
		if b.metric.Higher {
			*x.to, err = rate(x.text)
		} else {
			var d time.Duration
			d, err = time.ParseDuration(x.text)
			if *x.to = float64(d); err == nil && d < 0 {
				err = fmt.Errorf("%q must be 0 or above", x.text)
			}
		}
		if err != nil {
			return b, fmt.Errorf("%s: %w", t.Metric, err)
		}
	}
	if b.least > b.most {
		return b, fmt.Errorf("%s: least %s is above most %s: no run can meet both", t.Metric, t.Least, t.Most)
	}
	return b, nil
}

// CheckThresholds returns an error if a threshold of the experiment cannot be parsed. rate is Reader.Rate.
func CheckThresholds(x *experiment.Experiment, rate func(text string) (float64, error)) error {
	for i := range x.Thresholds {
		t := &x.Thresholds[i]
		if _, err := boundsOf(t, rate); err != nil {
			return exit.Usagef("%s:%d: threshold: %v", t.File, t.Line, err)
		}
	}
	return nil
}

// MissedThresholds has a line for each threshold that a cell missed. A skipped cell misses none; a cell
// without a value misses it.
func (r *Folder) MissedThresholds(questions []QuestionResult) (lines []string) {
	for i := range r.Experiment.Thresholds {
		t := &r.Experiment.Thresholds[i]
		b, err := boundsOf(t, r.reader.Rate)
		if err != nil {
			continue // it was checked
		}
		for _, a := range questions {
			for k, row := range a.Rows {
				c := r.Experiment.Cells[a.RowCells[k]]
				if !t.Concerns(c) || row.SkippedReason != "" {
					continue
				}
				v, ok := b.metric.Of(&row).Get()
				var why []string
				switch {
				case !ok:
					why = append(why, "not measured")
				case v < b.least:
					why = append(why, fmt.Sprintf("%s, at least %s asked for", b.metric.Text(v), t.Least))
				case v > b.most:
					why = append(why, fmt.Sprintf("%s, at most %s asked for", b.metric.Text(v), t.Most))
				default:
					continue
				}
				if valid, _ := row.Valid.Get(); !valid {
					why = append(why, "in an invalid run")
				}
				lines = append(lines, fmt.Sprintf("line %d: %s is %s: %s", t.Line, t.Metric, strings.Join(why, ", "), c))
			}
		}
	}
	return lines
}
