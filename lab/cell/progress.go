package cell

import (
	"fmt"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/internal/terminal"
)

// ShowProgress returns a function that shows the progress of a load or a measurement.
func ShowProgress(l *terminal.Line) func(bench.Progress) {
	return func(s bench.Progress) {
		if !l.OnTerminal() {
			return
		}
		left := ""
		switch {
		case s.Records > 0 && s.OpsPerS > 0:
			left = fmt.Sprintf("%d %%, %v left", 100*s.Ops/s.Records, time.Duration(float64(s.Records-min(s.Ops, s.Records))/s.OpsPerS*1e9).Round(time.Second))
		case s.Total > 0 && s.Total < bench.WindowMax: // a window that ends after a number of operations has a limit of WindowMax
			left = fmt.Sprintf("%v left", max(0, s.Total-s.Elapsed).Round(time.Second))
		}
		l.Show("%-8s %s, %.0f/s", s.Phase, left, s.OpsPerS)
	}
}
