package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/lab"
)

// goal is what a rate has to keep.
type goal struct {
	percentile float64 // 0 to 100
	below      time.Duration
	text       string
}

// parseGoal reads "p99<200us".
func parseGoal(s string) (*goal, error) {
	name, limit, ok := strings.Cut(s, "<")
	digits, isP := strings.CutPrefix(strings.TrimSpace(name), "p")
	p, err := factor.ParseDecimal(digits)
	d, derr := time.ParseDuration(strings.TrimSpace(limit))
	if !ok || !isP || err != nil || derr != nil || !(p > 0 && p < 100) || d <= 0 {
		return nil, fmt.Errorf("%q is no goal (such as p99<200us or p99.9<5ms)", s)
	}
	return &goal{percentile: p, below: d, text: s}, nil
}

// from is a rate at which a window has enough operations to know the percentile (report.Percentile).
func (g *goal) from(window time.Duration) float64 {
	enough := 120 / (min(g.percentile, 100-g.percentile) / 100)
	return math.Ceil(max(lab.SearchFrom, enough/window.Seconds()))
}
