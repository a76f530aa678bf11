package lab

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestEachVariantFollowsEachOtherEquallyOften(t *testing.T) {
	for k := 1; k <= 13; k++ {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(k)))
			const sets = 3
			rounds := orders(k, sets*setOf(k), rng)
			if len(rounds) != sets*setOf(k) {
				t.Fatalf("%d rounds", len(rounds))
			}
			follows := map[[2]int]int{}
			for _, round := range rounds {
				sorted := slices.Sorted(slices.Values(round))
				for i, v := range sorted {
					if v != i {
						t.Fatalf("the round %v does not have each variant once", round)
					}
				}
				for i := range round[1:] {
					follows[[2]int{round[i], round[i+1]}]++
				}
			}
			want := 0
			for a := range k {
				for b := range k {
					if a == b {
						continue
					}
					if want == 0 {
						want = follows[[2]int{a, b}]
					}
					if n := follows[[2]int{a, b}]; n != want || n == 0 {
						t.Errorf("%d follows %d %d times, and the first pair %d times", b, a, n, want)
					}
				}
			}
		})
	}
}

func TestOrdersAreRandom(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(50) {
		seen[fmt.Sprint(orders(4, 8, rand.New(rand.NewPCG(seed, 1))))] = true
	}
	if len(seen) < 40 {
		t.Errorf("%d different orders of 50 seeds", len(seen))
	}
}

func TestARoundSeldomBeginsWithTheVariantThatEndedTheLast(t *testing.T) {
	again, rounds := 0, 0
	for seed := range uint64(100) {
		last := -1
		for _, round := range orders(4, 12, rand.New(rand.NewPCG(seed, 2))) {
			rounds++
			if round[0] == last {
				again++
			}
			last = round[3]
		}
	}
	if again*10 > rounds {
		t.Errorf("%d of %d rounds", again, rounds)
	}
}
