// Package names converts the names of enumerated values, as in flags and experiments, to numbers, and finds the name that a user meant.
package names

import (
	"fmt"
	"slices"
	"strings"
)

// Parse returns the index of s in all. The error lists all.
func Parse[T ~uint8](s string, all []string) (T, error) {
	if i := slices.Index(all, s); i >= 0 {
		return T(i), nil
	}
	last := len(all) - 1
	return 0, fmt.Errorf("%q is unknown (%s or %s)", s, strings.Join(all[:last], ", "), all[last])
}

// Nearest is the name with the fewest edits from s, or "" if all need more than a third of its length, and more than one edit. Of equal ones it is the first in the alphabet.
func Nearest(s string, all []string) string {
	s = strings.ToLower(strings.ReplaceAll(strings.TrimLeft(s, "-"), "_", "-"))
	if len(s) > 64 {
		return ""
	}
	all = slices.Sorted(slices.Values(all))
	best, least := "", max(1, len(s)/3)+1
	for _, n := range all {
		if d := distance(s, n); d < least && d < len(n) {
			best, least = n, d
		}
	}
	return best
}

// distance is the number of single-byte edits and exchanges of neighbours from a to b (optimal string alignment: Damerau 1964, each byte edited once at most).
func distance(a, b string) int {
	older, old, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		older, old, row = old, row, older
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(old[j]+cost, old[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
