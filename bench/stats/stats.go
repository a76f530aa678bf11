// Package stats says what paired measurements allow to conclude: the size of an effect with an exact interval, and a verdict
// that takes into account how many were asked for and how large the noise is. It knows no transport and no metric.
//
// The pairs are blocks of a randomised complete block design: in each block every variant is measured once, and so is the
// baseline, twice. What is compared within a block has the same neighbours, disk and temperature.
package stats

import (
	"fmt"
	"math"
	"slices"
)

// Effect is what n paired differences say. Those of log-ratios are log-ratios.
type Effect struct {
	N         int     // pairs
	Estimate  float64 // Hodges and Lehmann's: the median of the means of all pairs of differences
	Low, High float64 // of the interval
	Level     float64 // what the interval covers, exactly: at least what was asked for, or the most that so few pairs allow
	P         float64 // two-sided, exact, of the Wilcoxon signed-rank test against no difference
}

// PairsMax bounds the pairs: the exact distribution and all means of pairs are computed.
const PairsMax = 1000

// Paired gives the effect in n differences. level is the coverage that is asked of the interval, such as 0.95.
//
// Estimate and interval are those of Hodges and Lehmann (1963), inverted from the Wilcoxon signed-rank test (1945); the
// distribution of the test is computed for the ranks that there are, ties and all (Pratt and Gibbons, Concepts of Nonparametric
// Theory, 1981, 3.7), after differences of 0 have been dropped, as Wilcoxon does. R's wilcox.test with exact = TRUE agrees
// where there are neither ties nor zeros.
func Paired(d []float64, level float64) (Effect, error) {
	n := len(d)
	switch {
	case n == 0:
		return Effect{}, fmt.Errorf("stats: no pairs to compare")
	case n > PairsMax:
		return Effect{}, fmt.Errorf("stats: %d pairs: at most %d", n, PairsMax)
	case !(level > 0 && level < 1):
		return Effect{}, fmt.Errorf("stats: a level of %v: choose one between 0 and 1, such as 0.95", level)
	}
	for _, v := range d {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Effect{}, fmt.Errorf("stats: a difference of %v", v)
		}
	}
	w := walsh(d)
	e := Effect{N: n, Estimate: Median(w), P: signedRankP(d)}
	e.Low, e.High, e.Level = interval(w, n, level)
	return e, nil
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

// interval is from the k-th smallest to the k-th largest Walsh average, k as large as the level allows: it misses where the
// statistic of the test is below k, or as far from its other end.
func interval(w []float64, n int, level float64) (low, high, covers float64) {
	ranks := make([]int, n)
	for i := range ranks {
		ranks[i] = 2 * (i + 1)
	}
	return invert(w, below(ranks, 2*len(w)+1), level)
}

// invert gives the interval of a test from the sorted values w that its statistic counts. p is the distribution of
// the statistic, doubled, from its least value on.
func invert(w, p []float64, level float64) (low, high, covers float64) {
	k, miss := 0, 0.0 // of one side: P(W ≤ k-1)
	for sum := 0.0; k < len(w); k++ {
		if sum += p[2*k]; 2*sum > 1-level {
			break
		}
		miss = sum
	}
	if k == 0 { // with so few values the widest that there is covers less than was asked for
		return w[0], w[len(w)-1], 1 - 2*p[0]
	}
	return w[k-1], w[len(w)-k], 1 - 2*miss
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

// Holm adjusts p values for how many they are (Holm 1979): those that are at most α may be rejected together with an
// error of α in all. The order is that of ps.
func Holm(ps []float64) []float64 {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case ps[a] < ps[b]:
			return -1
		case ps[a] > ps[b]:
			return 1
		}
		return 0
	})
	adjusted := make([]float64, len(ps))
	most := 0.0
	for k, i := range order {
		most = max(most, min(1, float64(len(ps)-k)*ps[i]))
		adjusted[i] = most
	}
	return adjusted
}

// FloorMin is the least difference that is called one: 3 %.
const FloorMin = 0.03

// Floor is δ, the ratio less 1 below which two variants count as the same: twice the half-width of the interval of the
// baseline against itself, and FloorMin at least. aa are log-ratios.
func Floor(aa Effect) float64 {
	return max(FloorMin, math.Expm1(aa.High-aa.Low))
}

// Verdict is what may be said of a variant beside its baseline.
type Verdict string

// The verdicts. Higher and Lower say how the metric differs; whether that is good is the metric's affair.
const (
	Higher   Verdict = "higher"     // significantly, and by more than δ
	Lower    Verdict = "lower"      //
	Same     Verdict = "same"       // the whole interval is within δ
	CantTell Verdict = "can't tell" // neither
)

// Alpha is the error that a family of verdicts may have in all.
const Alpha = 0.05

// SameMax is the largest δ for which two variants may be called the same: on a machine that is noisier than that nothing can be.
const SameMax = 0.25

// Judge gives the verdict on an effect of log-ratios: p is that of the effect after Holm, delta from Floor.
func Judge(e Effect, p, delta float64) Verdict {
	limit := math.Log1p(delta)
	switch {
	case e.Low >= -limit && e.High <= limit:
		if delta > SameMax {
			return CantTell
		}
		return Same
	case p <= Alpha && e.Estimate > limit:
		return Higher
	case p <= Alpha && e.Estimate < -limit:
		return Lower
	}
	return CantTell
}

// Independent gives the effect of b beside a where nothing pairs them: the shift from a to b. Estimate and interval are those of
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
				return Effect{}, fmt.Errorf("stats: a difference of %v", v)
			}
			d = append(d, y-x)
		}
	}
	slices.Sort(d)
	e := Effect{N: min(n, m), Estimate: Median(d), P: rankSumP(a, b)}
	untied := make([]int, n+m)
	for i := range untied {
		untied[i] = 2 * (i + 1)
	}
	e.Low, e.High, e.Level = invert(d, sumsOf(untied, n)[n*(n+1):], level) // the least sum of ranks is n(n+1)/2
	return e, nil
}

// samplesMax bounds what Independent takes: its work grows with the fourth power.
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
