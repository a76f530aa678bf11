package lab

import (
	"math/rand/v2"
	"slices"
)

// orders returns the order of the variants 0 to k-1 in each round. Within a round each variant has one place. Over each complete
// set of rounds (k rounds for an even k, 2k for an odd one) each variant follows each other variant equally often (Williams, "Experimental
// designs balanced for the estimation of residual effects of treatments", 1949). The numbering of the variants and the order of the rounds
// are random. A round begins with the variant that ended the previous round only if no other round of the set is left.
func orders(k, rounds int, rng *rand.Rand) (all [][]int) {
	last := -1
	for len(all) < rounds {
		set := williams(k)
		label := rng.Perm(k)
		for len(set) > 0 && len(all) < rounds {
			i := pickRound(set, label, last, rng)
			round := make([]int, k)
			for p, v := range set[i] {
				round[p] = label[v]
			}
			set = slices.Delete(set, i, i+1)
			all = append(all, round)
			last = round[k-1]
		}
	}
	return all
}

// pickRound picks a random round that does not begin with the variant last, or any round if all do.
func pickRound(set [][]int, label []int, last int, rng *rand.Rand) int {
	var fit []int
	for i, round := range set {
		if label[round[0]] != last {
			fit = append(fit, i)
		}
	}
	if len(fit) == 0 {
		return rng.IntN(len(set))
	}
	return fit[rng.IntN(len(fit))]
}

// williams returns one set of rounds for k variants: one Latin square for an even k, two for an odd one.
func williams(k int) (set [][]int) {
	base := make([]int, k)
	for i := range base { // 0, 1, k-1, 2, k-2, …: neighbours differ by each of 1 to k-1 once
		if i%2 == 1 {
			base[i] = (i + 1) / 2
		} else {
			base[i] = (k - i/2) % k
		}
	}
	for shift := range k {
		round := make([]int, k)
		for i, v := range base {
			round[i] = (v + shift) % k
		}
		set = append(set, round)
	}
	if k%2 == 1 && k > 1 {
		for _, round := range slices.Clone(set) {
			mirrored := slices.Clone(round)
			slices.Reverse(mirrored)
			set = append(set, mirrored)
		}
	}
	return set
}

// setOf is the number of rounds in a balanced set for k variants.
func setOf(k int) int {
	if k%2 == 1 && k > 1 {
		return 2 * k
	}
	return k
}
