package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// depression is the Hamilton scale of 9 patients before and after a tranquilizer (Hollander and Wolfe, Nonparametric
// Statistical Methods, 1973, p. 29): the example of R's wilcox.test.
var depression = func() (d []float64) {
	before := []float64{1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30}
	after := []float64{0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29}
	for i := range before {
		d = append(d, before[i]-after[i])
	}
	return d
}()

var (
	ten    = []float64{0.12, -0.05, 0.31, 0.22, 0.08, 0.17, -0.02, 0.26, 0.19, 0.41}
	twenty = []float64{-0.3, 1.25, 0.61, -0.87, 0.44, 0.95, -0.11, 0.52, 1.73, -0.42, 0.28, 0.07, -0.63, 1.1, 0.36, -0.21, 0.74, 0.89, -0.05, 0.16}
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(b)) || a == b }

func TestPairedAgreesWithR(t *testing.T) {
	for name, c := range map[string]struct {
		d     []float64
		level float64
		want  Effect
	}{
		// R 4.2: wilcox.test(d, conf.int = TRUE, conf.level = level, exact = TRUE)
		"depression":       {depression, 0.95, Effect{N: 9, Estimate: 0.46, Low: 0.01, High: 0.786, P: 0.0390625}},
		"depression, 90 %": {depression, 0.9, Effect{N: 9, Estimate: 0.46, Low: 0.175, High: 0.726, P: 0.0390625}},
		"ten":              {ten, 0.95, Effect{N: 10, Estimate: 0.17, Low: 0.07, High: 0.265, P: 0.009765625}},
		"ten, 99 %":        {ten, 0.99, Effect{N: 10, Estimate: 0.17, Low: 0.015, High: 0.315, P: 0.009765625}},
		"twenty":           {twenty, 0.95, Effect{N: 20, Estimate: 0.3175, Low: -0.01, High: 0.655, P: 0.05316925049}},
	} {
		got, err := Paired(c.d, c.level)
		if err != nil {
			t.Fatal(err)
		}
		if got.N != c.want.N || !near(got.Estimate, c.want.Estimate) || !near(got.Low, c.want.Low) || !near(got.High, c.want.High) || !near(got.P, c.want.P) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// signs calls f with the sum of the ranks of the positive differences, for all ways in which the signs can fall.
func signs(ranks []float64, f func(positive float64)) {
	for set := range 1 << len(ranks) {
		sum := 0.0
		for i, r := range ranks {
			if set>>i&1 != 0 {
				sum += r
			}
		}
		f(sum)
	}
}

// ranksOf is the textbook's: the mean of the places that equal values take.
func ranksOf(d []float64) (ranks []float64, positive float64) {
	for _, v := range d {
		if v == 0 {
			continue
		}
		smaller, equal := 0, 0
		for _, o := range d {
			switch {
			case o == 0:
			case math.Abs(o) < math.Abs(v):
				smaller++
			case math.Abs(o) == math.Abs(v):
				equal++
			}
		}
		r := float64(smaller) + float64(equal+1)/2
		ranks = append(ranks, r)
		if v > 0 {
			positive += r
		}
	}
	return ranks, positive
}

func bruteP(d []float64) float64 {
	ranks, positive := ranksOf(d)
	all := 0.0
	for _, r := range ranks {
		all += r
	}
	least, n, far := min(positive, all-positive), 0, 0
	signs(ranks, func(p float64) {
		n++
		if min(p, all-p) <= least {
			far++
		}
	})
	return float64(far) / float64(n)
}

func TestPIsThatOfAllSignsTiesAndZerosToo(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		d := make([]float64, 1+rng.IntN(11))
		for i := range d {
			d[i] = float64(rng.IntN(9) - 4) // many ties, some zeros
		}
		e, err := Paired(d, 0.95)
		if err != nil {
			t.Fatal(err)
		}
		if want := bruteP(d); !near(e.P, want) {
			t.Fatalf("%v: p %v, want %v", d, e.P, want)
		}
	}
}

// A value is in the interval if and only if the test does not reject it.
func TestIntervalIsWhatTheTestDoesNotReject(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		d := make([]float64, 6+rng.IntN(7))
		for i := range d {
			d[i] = rng.NormFloat64() + 0.3
		}
		for _, level := range []float64{0.8, 0.9, 0.95} {
			e, err := Paired(d, level)
			if err != nil {
				t.Fatal(err)
			}
			if e.Level < level || e.Level > level+0.1 {
				t.Fatalf("%d pairs: covers %v, asked for %v", len(d), e.Level, level)
			}
			rejects := func(at float64) bool {
				moved := make([]float64, len(d))
				for i := range d {
					moved[i] = d[i] - at
				}
				return bruteP(moved) <= 1-level
			}
			const step = 1e-9
			if !rejects(e.Low-step) || rejects(e.Low+step) || rejects(e.High-step) || !rejects(e.High+step) {
				t.Fatalf("%v: interval %v to %v at %v", d, e.Low, e.High, level)
			}
			if e.Estimate < e.Low || e.Estimate > e.High {
				t.Fatalf("the estimate %v is outside of %v to %v", e.Estimate, e.Low, e.High)
			}
		}
	}
}

// With 10 pairs the smallest p is 2/1024, so that Holm can reject at most 25 of a family.
func TestTenPairsCanRejectTwentyFive(t *testing.T) {
	d := make([]float64, 10)
	for i := range d {
		d[i] = 1 + float64(i)/100
	}
	e, _ := Paired(d, 0.95)
	if !near(e.P, 2.0/1024) {
		t.Fatalf("p = %v", e.P)
	}
	for n, want := range map[int]bool{25: true, 26: false} {
		ps := make([]float64, n)
		for i := range ps {
			ps[i] = e.P
		}
		if got := Holm(ps)[0] <= Alpha; got != want {
			t.Errorf("a family of %d: rejected %v", n, got)
		}
	}
}

func TestIntervalsOfTooFewPairsHaveTheirLevel(t *testing.T) {
	for n, want := range map[int]float64{1: 0, 2: 0.5, 3: 0.75, 5: 0.9375} {
		d := make([]float64, n)
		for i := range d {
			d[i] = float64(i + 1)
		}
		e, err := Paired(d, 0.95)
		if err != nil || !near(e.Level, want) || e.Low != 1 || e.High != float64(n) {
			t.Errorf("%d pairs: %+v, %v; want a level of %v", n, e, err, want)
		}
	}
}

func TestPairedRefusesInvalidValues(t *testing.T) {
	for _, d := range [][]float64{nil, {math.NaN()}, {1, math.Inf(1)}, make([]float64, PairsMax+1)} {
		if _, err := Paired(d, 0.95); err == nil {
			t.Errorf("%d differences are taken", len(d))
		}
	}
	for _, level := range []float64{0, 1, math.NaN(), 95} {
		if _, err := Paired([]float64{1}, level); err == nil {
			t.Errorf("a level of %v is taken", level)
		}
	}
}

// Holm's own example, and R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
func TestHolm(t *testing.T) {
	got := Holm([]float64{0.01, 0.04, 0.03, 0.005})
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} {
		if !near(got[i], want) {
			t.Errorf("p %d: %v, want %v", i, got[i], want)
		}
	}
	if len(Holm(nil)) != 0 || Holm([]float64{0.7, 0.9})[1] != 1 {
		t.Error("the ends")
	}
}

func TestIndependentAgreesWithR(t *testing.T) {
	// Permeability constants of membranes at term and before (Hollander and Wolfe, 1973, p. 69): R's example.
	term := []float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46}
	before := []float64{1.15, 0.88, 0.90, 0.74, 1.21}
	seven, eight := []float64{5.1, 4.8, 6.2, 5.5, 5.9, 4.9, 5.3}, []float64{6.4, 6.9, 5.8, 7.1, 6.6, 6.05, 7.4, 6.8}
	for name, c := range map[string]struct {
		a, b  []float64
		level float64
		want  Effect
	}{
		// R 4.2: wilcox.test(b, a, conf.int = TRUE, conf.level = level, exact = TRUE)
		"membranes":       {term, before, 0.95, Effect{N: 5, Estimate: -0.305, Low: -0.76, High: 0.15, P: 0.2544122544}},
		"membranes, 80 %": {term, before, 0.8, Effect{N: 5, Estimate: -0.305, Low: -0.7, High: 0.05, P: 0.2544122544}},
		"seven, eight":    {seven, eight, 0.95, Effect{N: 7, Estimate: 1.275, Low: 0.6, High: 1.9, P: 0.002175602176}},
	} {
		got, err := Independent(c.a, c.b, c.level)
		if err != nil {
			t.Fatal(err)
		}
		if got.N != c.want.N || !near(got.Estimate, c.want.Estimate) || !near(got.Low, c.want.Low) || !near(got.High, c.want.High) || !near(got.P, c.want.P) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// p is the share of all ways to choose the first sample that are as far out, in the smaller tail, twice.
func TestIndependentPIsThatOfAllChoicesTiesToo(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		n, m := 1+rng.IntN(5), 1+rng.IntN(5)
		v := make([]float64, n+m)
		for i := range v {
			v[i] = float64(rng.IntN(6))
		}
		rank := make([]float64, n+m)
		for i, x := range v {
			for _, y := range v {
				switch {
				case y < x:
					rank[i]++
				case y == x:
					rank[i] += 0.5
				}
			}
		}
		sum := 0.0
		for i := range n {
			sum += rank[i]
		}
		all, low, high := 0, 0, 0
		for set := range 1 << (n + m) {
			chosen, s := 0, 0.0
			for i := range v {
				if set>>i&1 != 0 {
					chosen++
					s += rank[i]
				}
			}
			if chosen != n {
				continue
			}
			all++
			if s <= sum {
				low++
			}
			if s >= sum {
				high++
			}
		}
		want := min(1, 2*float64(min(low, high))/float64(all))
		e, err := Independent(v[:n], v[n:], 0.95)
		if err != nil || !near(e.P, want) {
			t.Fatalf("%v and %v: p %v, want %v (%v)", v[:n], v[n:], e.P, want, err)
		}
	}
}

func TestIndependentRefusesInvalidValues(t *testing.T) {
	for _, c := range [][2][]float64{{nil, {1}}, {{1}, nil}, {{math.NaN()}, {1}}, {{1}, {math.Inf(1)}}, {make([]float64, 150), make([]float64, 51)}} {
		if _, err := Independent(c[0], c[1], 0.95); err == nil {
			t.Errorf("samples of %d and %d are taken", len(c[0]), len(c[1]))
		}
	}
	if e, err := Independent([]float64{1, 2}, []float64{5}, 0.95); err != nil || e.Low != 3 || e.High != 4 || e.Level >= 0.95 {
		t.Errorf("too few for the level: %+v, %v", e, err)
	}
}
