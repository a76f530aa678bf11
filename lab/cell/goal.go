package cell

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/lab"
)

// parseGoal reads "p99<200us".
func parseGoal(s string) (*lab.Goal, error) {
	name, limit, ok := strings.Cut(s, "<")
	digits, isP := strings.CutPrefix(strings.TrimSpace(name), "p")
	p, err := factor.ParseDecimal(digits)
	d, derr := time.ParseDuration(strings.TrimSpace(limit))
	if !ok || !isP || err != nil || derr != nil || !(p > 0 && p < 100) || d <= 0 {
		return nil, fmt.Errorf("%q is not a goal (such as p99<200us or p99.9<5ms)", s)
	}
	return &lab.Goal{Percentile: p, Below: d, Text: s}, nil
}

// searchFrom is a rate at which a window has enough operations to know the goal's percentile (report.Percentile).
func searchFrom(g *lab.Goal, window time.Duration) float64 {
	enough := 120 / (min(g.Percentile, 100-g.Percentile) / 100)
	return math.Ceil(max(lab.SearchFrom, enough/window.Seconds()))
}
