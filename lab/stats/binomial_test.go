package stats

import (
	"math"
	"testing"
)

// R has binom.test(5, 10)$conf.int; the last line was computed with exact fractions.
func TestBinomialIsExact(t *testing.T) {
	for _, c := range []struct {
		k, n      int
		low, high float64
	}{{0, 10, 0, 0.3084971}, {10, 10, 0.6915029, 1}, {5, 10, 0.1870860, 0.8129140}, {387, 400, 0.9450652, 0.9825839}} {
		low, high := Binomial(c.k, c.n, 0.95)
		if math.Abs(low-c.low) > 1e-6 || math.Abs(high-c.high) > 1e-6 {
			t.Errorf("%d of %d: %.7f to %.7f, want %.7f to %.7f", c.k, c.n, low, high, c.low, c.high)
		}
	}
}
