package chart

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// inside checks that each text and path lies in the chart, and that no two texts overlap.
func inside(t *testing.T, c *Chart) {
	t.Helper()
	type extent struct {
		text               string
		left, right, floor float64
	}
	var texts []extent
	for _, s := range c.shapes {
		for _, p := range s.points {
			if p[0] < -0.5 || p[0] > c.w+0.5 || p[1] < -0.5 || p[1] > c.h+0.5 || math.IsNaN(p[0]+p[1]) {
				t.Errorf("%q at %v is outside of %v × %v", s.text+s.title, p, c.w, c.h)
			}
		}
		if s.text == "" {
			continue
		}
		w := textWidth(s.text, s.size) / fontSlack
		left := s.points[0][0] - w*map[string]float64{middle: 0.5, end: 1}[s.anchor]
		e := extent{s.text, left, left + w, s.points[0][1]}
		if e.left < 0 || e.right > c.w {
			t.Errorf("%q is cut: %.0f to %.0f of %.0f", e.text, e.left, e.right, c.w)
		}
		for _, o := range texts {
			if math.Abs(o.floor-e.floor) < 7 && o.left < e.right && e.left < o.right {
				t.Errorf("%q and %q overlap", o.text, e.text)
			}
		}
		texts = append(texts, e)
	}
}

func TestNothingIsCutAndNoTextsOverlap(t *testing.T) {
	number := func(v float64) string { return fmt.Sprintf("%.2f µs", v) }
	for _, label := range []string{"tcp", "rdma write", "client_transport=uring device=loopback tcp_engine=epoll backend=disk disk_engine=uring cache_bytes=16777216"} {
		for _, high := range []float64{1.2, 3, 40, 3000} {
			var ratios []Ratio
			var bars []Series
			for i := range 3 {
				s := Series{Label: fmt.Sprintf("%s %d", label, i), Color: Other(i)}
				bars = append(bars, s)
				ratios = append(ratios, Ratio{s, 0.9, 1.1, high, fmt.Sprintf("1.10 [0.90–%.2f]", high)})
			}
			c := Forest("Ratio", "ratio, logarithmic", 0.03, []Group{{"backend null, value 64 B", ratios}, {strings.Repeat("long name ", 12), ratios}})
			inside(t, c)
			if c.w > 1.5*minWidth {
				t.Errorf("%s: %v wide: small on a phone", label, c.w)
			}
			parts := []Part{{"client, user", PartColour(0), []float64{1, high, 3}}, {"server, user", PartColour(1), []float64{0, 2, -0.5 * high}}}
			inside(t, Bars("CPU time", "µs per operation", bars, parts, number))
		}
	}
}

// An axis has enough labels to be read, however short or long it is.
func TestAnAxisHasSeveralTicks(t *testing.T) {
	for _, high := range []float64{1.05, 1.3, 2, 3.9, 4.1, 10, 300, 1e6} {
		a := logAxis(0.95, high, 0, 200)
		if ticks := a.ticks(8); len(ticks) < 3 || len(ticks) > 10 {
			t.Errorf("0.95 to %v: ticks at %v", high, ticks)
		}
	}
}

func TestTicksHaveNoSuperfluousZeros(t *testing.T) {
	for label, want := range map[string]string{"1.00 µs": "1 µs", "10.0k": "10k", "2.50M": "2.5M", "100 ns": "100 ns", "p99.99": "p99.99", "0.001": "0.001"} {
		if got := tickText(label); got != want {
			t.Errorf("%s: %s, want %s", label, got, want)
		}
	}
}
