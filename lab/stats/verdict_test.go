package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// spread is n log-ratios around the logarithm of ratio, up to width away from it, none like another.
func spread(n int, ratio, width float64) []float64 {
	d := make([]float64, n)
	for i := range d {
		d[i] = math.Log(ratio) + width*(2*float64((i*7)%n)/float64(max(1, n-1))-1) + 1e-9*float64(i)
	}
	return d
}

func TestVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		d       []float64
		matters float64
		want    Verdict
		atLeast float64 // within 0.02 of it; 0: none
	}{
		"twice":                                {spread(12, 2, 0.1), 0.03, Higher, 0.91},
		"half":                                 {spread(12, 0.5, 0.1), 0.03, Lower, 0.48},
		"surely there, beyond what matters":    {spread(12, 1.06, 0.01), 0.03, Higher, 0.055},
		"surely there, and not beyond":         {spread(12, 1.02, 0.01), 0.03, Higher, 0},
		"surely less, and not beyond":          {spread(12, 0.98, 0.01), 0.03, Lower, 0},
		"across what matters":                  {spread(12, 1.03, 0.02), 0.03, Higher, 0},
		"within what matters":                  {spread(12, 1.001, 0.02), 0.03, Same, 0},
		"the same values, all of them":         {make([]float64, 12), 0.03, Same, 0},
		"within 1 %, where less matters":       {spread(12, 1.001, 0.02), 0.005, CantTell, 0},
		"wide":                                 {spread(12, 1.1, 0.8), 0.03, CantTell, 0},
		"as wide as ±10 %, and 20 % of effect": {spread(12, 1.2, 0.1), 0.03, Higher, 0.14},
		"six that agree":                       {spread(6, 1.5, 0.1), 0.03, Higher, 0.36},
		"five that agree":                      {spread(5, 1.5, 0.1), 0.03, CantTell, 0},
		"five that are the same":               {spread(5, 1, 0.001), 0.03, CantTell, 0},
	} {
		got, err := JudgeFamily([][]float64{c.d}, Alpha, c.matters)
		if err != nil {
			t.Fatal(err)
		}
		j := got[0]
		if j.Verdict != c.want || math.Abs(j.AtLeast-c.atLeast) > 0.02 || (j.AtLeast == 0) != (c.atLeast == 0) {
			t.Errorf("%s: %s by at least %v, interval %v to %v; want %s by %v", name, j.Verdict, j.AtLeast, j.Low, j.High, c.want, c.atLeast)
		}
		if j.Asked != 0.95 || j.Needed != 6 || j.N >= 6 && j.Level < 0.95 {
			t.Errorf("%s: a level of %v for %v, from %d pairs or more", name, j.Level, j.Asked, j.Needed)
		}
	}
}

// The numbers of generations that the defaults rest on.
func TestLeastPairs(t *testing.T) {
	for _, c := range []struct {
		miss float64
		want int
	}{{0.05, 6}, {0.05 / 12, 9}, {0.05 / 3, 7}, {0.05 / 3 / 12, 11}, {0.01, 8}, {1, 1}, {0.5, 2}} {
		n := LeastPairs(c.miss)
		if n != c.want {
			t.Errorf("an interval that misses %v takes %d pairs, want %d", c.miss, n, c.want)
		}
		for k, attained := range map[int]bool{n: true, n - 1: false} {
			if k < 1 {
				continue
			}
			if e, err := pairedMiss(spread(k, 2, 0.01), c.miss); err != nil || (1-e.Level <= c.miss+1e-15) != attained {
				t.Errorf("%d pairs cover %v, and may miss %v: attained %v", k, e.Level, c.miss, attained)
			}
		}
	}
	if n := LeastPairs(0); n <= PairsMax {
		t.Errorf("no number of pairs misses nothing: %d", n)
	}
}

// An interval at its share of the error excludes no difference exactly where Holm's method rejects it: over random families, with ties and
// zeros too, few pairs and many, one look and three.
func TestCorrectedIntervalsAgreeWithHolm(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	rejected, kept := 0, 0
	for range 1500 {
		family := make([][]float64, 1+rng.IntN(12))
		ps := make([]float64, len(family))
		for i := range family {
			d := make([]float64, 1+rng.IntN(16))
			shift, coarse := rng.Float64()*2*float64(rng.IntN(2)), rng.IntN(3) == 0
			for k := range d {
				if d[k] = rng.NormFloat64() + shift; coarse {
					d[k] = math.Round(2*d[k]) / 2
				}
			}
			family[i] = d
			e, err := Paired(d, 0.95)
			if err != nil {
				t.Fatal(err)
			}
			if ps[i] = e.DualP; e.DualP < e.P-1e-12 && !coarse {
				t.Fatalf("%v: the interval's p %v is below the test's %v", d, e.DualP, e.P)
			}
			if !coarse && !near(e.DualP, e.P) {
				t.Fatalf("%v: without ties both tests are one: %v and %v", d, e.DualP, e.P)
			}
		}
		alpha := Alpha / float64(1+2*rng.IntN(2))
		all, err := JudgeFamily(family, alpha, Matters)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range Holm(ps) {
			holm, interval := p <= alpha, all[i].Low > 0 || all[i].High < 0
			interval = interval && all[i].N >= all[i].Needed
			verdict := all[i].Verdict == Higher || all[i].Verdict == Lower
			if holm != interval || holm != verdict || all[i].PHolm != p {
				t.Fatalf("claim %d of %d: p %v, after Holm %v of %v, interval %v to %v at %v, %s", i+1, len(family), ps[i], p, alpha, all[i].Low, all[i].High, all[i].Asked, all[i].Verdict)
			}
			if holm {
				rejected++
			} else {
				kept++
			}
		}
	}
	if rejected < 500 || kept < 500 {
		t.Errorf("%d rejected and %d kept: the families show too little", rejected, kept)
	}
}

func TestSharesOfAFamily(t *testing.T) {
	// Holm's own example: 0.005 is rejected at 0.05/4, 0.01 at 0.05/3, and 0.03 is not at 0.05/2, whose share 0.04 has as well.
	for i, got := range HolmShares([]float64{0.01, 0.04, 0.03, 0.005}, 0.05) {
		if want := []float64{0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4}[i]; got != want {
			t.Errorf("p %d: %v, want %v", i, got, want)
		}
	}
	for i, got := range HolmShares([]float64{0.5, 0.6}, 0.05) {
		if got != 0.05/2 {
			t.Errorf("p %d of none that is rejected: %v", i, got)
		}
	}
}

func TestJudgeFamilyRefusesInvalidOptions(t *testing.T) {
	for _, c := range []struct{ alpha, matters float64 }{{0, 0.03}, {1, 0.03}, {0.05, 0}, {0.05, 1}, {math.NaN(), 0.03}} {
		if _, err := JudgeFamily([][]float64{{1}}, c.alpha, c.matters); err == nil {
			t.Errorf("an error of %v and a difference of %v are taken", c.alpha, c.matters)
		}
	}
	if _, err := JudgeFamily([][]float64{{}}, 0.05, 0.03); err == nil {
		t.Error("an effect without pairs is taken")
	}
	if all, err := JudgeFamily(nil, 0.05, 0.03); err != nil || len(all) != 0 {
		t.Errorf("no claims: %v, %v", all, err)
	}
}
