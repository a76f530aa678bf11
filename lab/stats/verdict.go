package stats

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Alpha is the probability of error that a family of verdicts may have in all.
const Alpha = 0.05

// Matters is the default for the smallest difference that counts: 3 %.
const Matters = 0.03

// byP is the order of p values, smallest first; equal ones keep their order.
func byP(ps []float64) []int {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(ps[a], ps[b]) })
	return order
}

// Holm adjusts p values for their number (Holm 1979): all hypotheses with an adjusted p of at most α may be rejected together, with a probability of
// error of α in all. The result has the order of ps.
func Holm(ps []float64) []float64 {
	adjusted := make([]float64, len(ps))
	most := 0.0
	for k, i := range byP(ps) {
		most = max(most, min(1, float64(len(ps)-k)*ps[i]))
		adjusted[i] = most
	}
	return adjusted
}

// HolmShares is the probability of error for the interval of each of a family: alpha/(m-k+1) for the k-th smallest of m p values. Holm's method
// stops at the first hypothesis that it does not reject; all later ones have the same share as that one. An interval with its share as error
// excludes "no difference" exactly if Holm's method rejects it, provided that p is that of the interval (Effect.DualP). The result has the order of ps.
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

// LeastPairs is the smallest number of pairs n for which an interval can have an error of at most miss. The rarest outcome is that all pairs have one
// sign, with probability 2/2^n, so n is the smallest number with 2/2^n <= miss.
func LeastPairs(miss float64) int {
	n := 1
	for p := 1.0; p > miss && n <= PairsMax; p /= 2 {
		n++
	}
	return n
}

// Verdict is the verdict on a variant compared with its baseline.
type Verdict string

// The verdicts. Higher and Lower are the sign of the difference; whether more is better depends on the metric.
const (
	Higher   Verdict = "higher"     // the corrected interval lies above no difference (a log-ratio of 0)
	Lower    Verdict = "lower"      // it lies below no difference
	Same     Verdict = "same"       // it includes no difference, and lies within what matters
	CantTell Verdict = "can't tell" // none of these
)

// Judged is the verdict on one of a family of effects. Effects are log-ratios.
type Judged struct {
	Effect          // its interval is at the corrected level; Level is its exact coverage
	Verdict Verdict // CantTell if there are fewer than Needed pairs
	Asked   float64 // the corrected level: 1 - alpha/(m-k+1)
	PHolm   float64 // DualP after Holm's correction: at most alpha exactly if the interval excludes no difference
	Needed  int     // the smallest number of pairs that allows an interval at this level
	AtLeast float64 // Higher and Lower: distance from a ratio of 1 to the near end of the interval, if that is beyond what matters; else 0
}

// JudgeFamily returns the verdicts on several effects together, each from the log-ratios of its pairs. alpha is the probability of error of all of
// them together: Alpha for one look, a third of it for each of three looks. matters is the smallest difference that counts, such as 0.03.
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
