package stats

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Alpha is the error that a family of verdicts may have in all.
const Alpha = 0.05

// Matters is the difference that counts as one where nobody has chosen another: 3 %.
const Matters = 0.03

// byP is the order of p values, smallest first; equal ones keep theirs.
func byP(ps []float64) []int {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(ps[a], ps[b]) })
	return order
}

// Holm adjusts p values for how many they are (Holm 1979): those that are at most α may be rejected together with an
// error of α in all. The order is that of ps.
func Holm(ps []float64) []float64 {
	adjusted := make([]float64, len(ps))
	most := 0.0
	for k, i := range byP(ps) {
		most = max(most, min(1, float64(len(ps)-k)*ps[i]))
		adjusted[i] = most
	}
	return adjusted
}

// HolmShares is the error that the interval of each of a family may have: alpha/(m-k+1) for the k-th smallest of m p values. Holm's method
// stops at the first one that it does not reject: those behind that one have its share. An interval that misses at most its share
// excludes no difference exactly where Holm's method rejects it, if its p is the interval's (Effect.DualP). The order is that of ps.
func HolmShares(ps []float64, alpha float64) []float64 {
	shares := make([]float64, len(ps))
	stopped := 0.0
	for k, i := range byP(ps) {
		share := alpha / float64(len(ps)-k)
		if stopped == 0 && ps[i] > share {
			stopped = share
		}
		if stopped != 0 {
			share = stopped
		}
		shares[i] = share
	}
	return shares
}

// LeastPairs is the least number of pairs with which an interval can miss at most miss: all of one sign, which has a probability of
// 2/2^n, is the rarest that there is.
func LeastPairs(miss float64) int {
	n := 1
	for p := 1.0; p > miss && n <= PairsMax; p /= 2 {
		n++
	}
	return n
}

// Verdict is what may be said of a variant beside its baseline.
type Verdict string

// The verdicts. Higher and Lower say how the metric differs; whether that is good is the metric's affair.
const (
	Higher   Verdict = "higher"     // the corrected interval excludes no difference
	Lower    Verdict = "lower"      //
	Same     Verdict = "same"       // it does not, and lies within what matters
	CantTell Verdict = "can't tell" // neither
)

// Judged is the verdict on one of a family of effects in log-ratios.
type Judged struct {
	Effect          // at the corrected level; Level is what it covers
	Verdict Verdict // with fewer than Needed pairs always CantTell
	Asked   float64 // the corrected level: 1 - alpha/(m-k+1)
	PHolm   float64 // DualP after Holm: at most alpha where the interval excludes no difference
	Needed  int     // the fewest pairs that can have an interval at this level
	AtLeast float64 // Higher and Lower: the ratio's distance from 1 that the interval's near end has, if that is beyond what matters; else 0
}

// JudgeFamily gives the verdicts on several effects together, each from the log-ratios of its pairs. alpha is the error of all of
// them together: Alpha for one look, a third of it for each of three. matters is the difference that counts as one, such as 0.03.
func JudgeFamily(family [][]float64, alpha, matters float64) ([]Judged, error) {
	if !(alpha > 0 && alpha < 1) || !(matters > 0 && matters < 1) {
		return nil, fmt.Errorf("stats: an error of %v, and a difference that matters of %v: both lie between 0 and 1", alpha, matters)
	}
	all := make([]Judged, len(family))
	ps := make([]float64, len(family))
	for i, d := range family {
		e, err := Paired(d, 1-alpha)
		if err != nil {
			return nil, err
		}
		ps[i] = e.DualP
	}
	shares, holm := HolmShares(ps, alpha), Holm(ps)
	more, less := math.Log1p(matters), math.Log1p(-matters)
	for i, d := range family {
		e, err := pairedMiss(d, shares[i])
		if err != nil {
			return nil, err
		}
		j := Judged{Effect: e, Verdict: CantTell, Asked: 1 - shares[i], PHolm: holm[i], Needed: LeastPairs(shares[i])}
		switch {
		case e.N < j.Needed:
		case e.Low > 0:
			j.Verdict = Higher
			if e.Low > more {
				j.AtLeast = math.Expm1(e.Low)
			}
		case e.High < 0:
			j.Verdict = Lower
			if e.High < less {
				j.AtLeast = -math.Expm1(e.High)
			}
		case e.Low >= less && e.High <= more:
			j.Verdict = Same
		}
		all[i] = j
	}
	return all, nil
}
