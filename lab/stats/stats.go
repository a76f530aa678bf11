// Package stats computes the statistics of paired measurements: the size of an effect with an exact interval, and a verdict
// whose interval is corrected for the number of claims. Nothing in it depends on a transport or a metric. It imports only the
// standard library, so report and bench/units may import it although they stand below lab.
//
// The pairs are generations: in each one every variant is measured once, and the baseline twice. All measurements of
// a generation have the same load from other users of the machine, the same disk and the same temperature.
package stats

import (
	"fmt"
	"math"
	"slices"
)

// Effect is the effect in n paired differences. In log-ratios it is a log-ratio.
type Effect struct {
	N         int     // pairs
	Estimate  float64 // Hodges and Lehmann's: the median of the means of all pairs of differences
	Low, High float64 // of the interval
	Level     float64 // what the interval covers, exactly: at least the requested level, or the most that so few pairs allow
	P         float64 // two-sided, exact, of the Wilcoxon signed-rank test against no difference

	// DualP is the p of the test that the interval inverts: an interval that misses at most a excludes 0 exactly where DualP <= a. It is P
	// where there are neither ties nor zeros, which count against a difference here, and else it is at least as large as P.
	DualP float64
}

// PairsMax bounds the pairs: the exact distribution and all means of pairs are computed.
const PairsMax = 1000

// Paired returns the effect in n differences. level is the requested coverage of the interval, such as 0.95.
//
// Estimate and interval are those of Hodges and Lehmann (1963), inverted from the Wilcoxon signed-rank test (1945); the
// distribution of the test is computed for the ranks that there are, ties and all (Pratt and Gibbons, Concepts of Nonparametric
// Theory, 1981, 3.7), after differences of 0 have been dropped, as Wilcoxon does. R's wilcox.test with exact = TRUE agrees
// where there are neither ties nor zeros.
func Paired(d []float64, level float64) (Effect, error) {
	if !(level > 0 && level < 1) {
		return Effect{}, fmt.Errorf("stats: a level of %v: choose one between 0 and 1, such as 0.95", level)
	}
	return pairedMiss(d, 1-level)
}

// pairedMiss is Paired by what the interval may miss: 1 less the level.
func pairedMiss(d []float64, miss float64) (Effect, error) {
	n := len(d)
	switch {
	case n == 0:
		return Effect{}, fmt.Errorf("stats: no pairs to compare")
	case n > PairsMax:
		return Effect{}, fmt.Errorf("stats: %d pairs: at most %d", n, PairsMax)
	}
	for _, v := range d {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Effect{}, fmt.Errorf("stats: the difference %v is not a finite number", v)
		}
	}
	w := walsh(d)
	e := Effect{N: n, Estimate: Median(w), P: signedRankP(d)}
	p := untied(n)
	e.Low, e.High, e.Level = invert(w, p, miss)
	e.DualP = dualP(w, p)
	return e, nil
}

// untied is the distribution of the signed-rank statistic of n differences without ties, by doubled values.
func untied(n int) []float64 {
	ranks := make([]int, n)
	for i := range ranks {
		ranks[i] = 2 * (i + 1)
	}
	return below(ranks, n*(n+1)+1)
}

// dualP is twice the probability of a statistic as far out as that of 0: as many Walsh averages as that are not beyond 0. The sum is
// that of invert, in the same order, so that both agree to the last bit.
func dualP(w, p []float64) float64 {
	above, below := 0, 0
	for _, v := range w {
		if v >= 0 {
			above++
		}
		if v <= 0 {
			below++
		}
	}
	sum := 0.0
	for k := 0; k <= min(above, below); k++ {
		sum += p[2*k]
	}
	return min(1, 2*sum)
}

// walsh are the means of all pairs of differences, each with itself too, sorted.
func walsh(d []float64) []float64 {
	w := make([]float64, 0, len(d)*(len(d)+1)/2)
	for i, a := range d {
		for _, b := range d[i:] {
			w = append(w, a/2+b/2) // the sum may be beyond a float64
		}
	}
	slices.Sort(w)
	return w
}

// Median is that of sorted values, of which there is one at least.
func Median(s []float64) float64 {
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return s[n/2-1]/2 + s[n/2]/2
}

// invert gives the interval of a test from the sorted values w that its statistic counts: from the k-th smallest to the k-th largest, k
// as large as it may be for the interval to miss at most miss, of both sides together. It misses where the statistic is below k, or as
// far from its other end. p is the distribution of the statistic, doubled, from its least value on.
func invert(w, p []float64, miss float64) (low, high, covers float64) {
	k, missed := 0, 0.0 // of one side: P(W ≤ k-1)
	for sum := 0.0; k < len(w); k++ {
		if sum += p[2*k]; 2*sum > miss {
			break
		}
		missed = sum
	}
	if k == 0 { // with so few values the widest interval covers less than the requested level
		return w[0], w[len(w)-1], 1 - 2*p[0]
	}
	return w[k-1], w[len(w)-k], 1 - 2*missed
}

// midranks gives the ranks of values, sorted by this, and the rank of each: doubled, and the mean of those that are equal.
func midranks(v []float64) (ranks []int, of map[float64]int) {
	slices.Sort(v)
	ranks, of = make([]int, 0, len(v)), map[float64]int{}
	for i := 0; i < len(v); {
		j := i
		for j < len(v) && v[j] == v[i] {
			j++
		}
		of[v[i]] = i + 1 + j
		for ; i < j; i++ {
			ranks = append(ranks, of[v[i]])
		}
	}
	return ranks, of
}

// below is the distribution of the sum of those ranks whose sign is positive, when each is with probability one half: by
// doubled ranks, so that those of ties are whole. p[s] is the probability of a sum of s.
func below(ranks []int, size int) []float64 {
	p := make([]float64, size)
	p[0] = 1
	top := 0
	for _, r := range ranks {
		top += r
		for s := min(top, size-1); s >= 0; s-- {
			p[s] /= 2
			if s >= r {
				p[s] += p[s-r] / 2
			}
		}
	}
	return p
}

// signedRankP is the two-sided p of the signed-rank test.
func signedRankP(d []float64) float64 {
	var abs []float64
	for _, v := range d {
		if v != 0 {
			abs = append(abs, math.Abs(v))
		}
	}
	if len(abs) == 0 {
		return 1
	}
	ranks, rank := midranks(abs)
	all, positive := 0, 0
	for _, r := range ranks {
		all += r
	}
	for _, v := range d {
		if v > 0 {
			positive += rank[v]
		}
	}
	p := below(ranks, all+1)
	tail := 0.0
	for s := 0; s <= min(positive, all-positive); s++ {
		tail += p[s]
	}
	return min(1, 2*tail)
}

// Independent returns the effect of b compared with a, for unpaired values: the shift from a to b. Estimate and interval are those of
// Hodges and Lehmann for two samples (the median of all differences), inverted from the rank-sum test of Wilcoxon (1945) and
// Mann and Whitney (1947), whose distribution is computed for the ranks that there are. N is the smaller sample's size.
func Independent(a, b []float64, level float64) (Effect, error) {
	n, m := len(a), len(b)
	switch {
	case n == 0 || m == 0:
		return Effect{}, fmt.Errorf("stats: a sample is empty")
	case n+m > samplesMax:
		return Effect{}, fmt.Errorf("stats: %d values: at most %d", n+m, samplesMax)
	case !(level > 0 && level < 1):
		return Effect{}, fmt.Errorf("stats: a level of %v: choose one between 0 and 1, such as 0.95", level)
	}
	var d []float64
	for _, x := range a {
		for _, y := range b {
			if v := y - x; math.IsNaN(v) || math.IsInf(v, 0) {
				return Effect{}, fmt.Errorf("stats: the difference %v is not a finite number", v)
			}
			d = append(d, y-x)
		}
	}
	slices.Sort(d)
	e := Effect{N: min(n, m), Estimate: Median(d), P: rankSumP(a, b)}
	places := make([]int, n+m)
	for i := range places {
		places[i] = 2 * (i + 1)
	}
	e.Low, e.High, e.Level = invert(d, sumsOf(places, n)[n*(n+1):], 1-level) // the least sum of ranks is n(n+1)/2
	return e, nil
}

// samplesMax bounds the samples of Independent: its work grows with their fourth power.
const samplesMax = 200

// sumsOf is the distribution of the sum of n of the ranks, each choice of n as likely as any other; ranks are doubled.
func sumsOf(ranks []int, n int) []float64 {
	all := 0
	for _, r := range ranks {
		all += r
	}
	ways := make([][]float64, n+1) // by how many were chosen, by sum: shares of the choices, to stay finite
	for i := range ways {
		ways[i] = make([]float64, all+1)
	}
	ways[0][0] = 1
	for i, r := range ranks {
		for k := min(n, i+1); k > 0; k-- {
			for s := all; s >= r; s-- {
				ways[k][s] += ways[k-1][s-r]
			}
		}
	}
	total := 0.0
	for _, w := range ways[n] {
		total += w
	}
	for s := range ways[n] {
		ways[n][s] /= total
	}
	return ways[n]
}

// rankSumP is the two-sided p of the rank-sum test: twice the smaller tail.
func rankSumP(a, b []float64) float64 {
	ranks, rank := midranks(slices.Concat(a, b))
	sum := 0
	for _, v := range a {
		sum += rank[v]
	}
	low, high := 0.0, 0.0
	for s, p := range sumsOf(ranks, len(a)) {
		if s <= sum {
			low += p
		}
		if s >= sum {
			high += p
		}
	}
	return min(1, 2*min(low, high))
}
