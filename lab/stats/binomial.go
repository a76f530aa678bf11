package stats

import "math"

// Binomial returns the exact interval of a probability of which k of n trials came true (Clopper and Pearson, "The use of confidence or
// fiducial limits illustrated in the case of the binomial", 1934).
func Binomial(k, n int, level float64) (low, high float64) {
	tail := (1 - level) / 2
	low, high = 0, 1
	if k > 0 { // the largest p with P(X ≥ k) ≤ tail
		low = bisect(func(p float64) bool { return 1-binomialCDF(k-1, n, p) > tail })
	}
	if k < n { // the smallest p with P(X ≤ k) ≤ tail
		high = bisect(func(p float64) bool { return binomialCDF(k, n, p) < tail })
	}
	return low, high
}

// bisect finds where above becomes true between 0 and 1.
func bisect(above func(p float64) bool) float64 {
	low, high := 0.0, 1.0
	for range 60 {
		if mid := (low + high) / 2; above(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return (low + high) / 2
}

// binomialCDF is P(X ≤ k) of n trials.
func binomialCDF(k, n int, p float64) (sum float64) {
	if p <= 0 {
		return 1
	}
	if p >= 1 {
		if k >= n {
			return 1
		}
		return 0
	}
	all, _ := math.Lgamma(float64(n + 1))
	for i := 0; i <= k; i++ {
		a, _ := math.Lgamma(float64(i + 1))
		b, _ := math.Lgamma(float64(n - i + 1))
		sum += math.Exp(all - a - b + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return min(sum, 1)
}
