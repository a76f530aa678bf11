package experiment

import (
	"fmt"
	"slices"
	"strings"
)

// topKeys are the keys of experiment.yaml, other than flags, at its top level. sections has the keys that stand below one of them.
var (
	topKeys = []string{"name", "description", "require", "overrides", "generations", "time", "slice", "until", "matters", "interaction", "compare", "primary", "thresholds", "stages"}

	sections = map[string]string{"metrics": "primary", "metric": "thresholds", "least": "thresholds", "most": "thresholds", "one-in": "stages"}
)

// unknown returns the text of an error about a key that is no flag. It names the place of a key that belongs elsewhere, or the flag with the nearest name.
func (r *reader) unknown(key string) string {
	switch section := sections[key]; {
	case key == "":
		return "a key is empty"
	case slices.Contains(topKeys, key):
		return fmt.Sprintf("%q is in the wrong place: move it to the top level of experiment.yaml, without indentation", key)
	case section != "":
		return fmt.Sprintf("%q is in the wrong place: move it below %q", key, section)
	}
	names := slices.Clone(topKeys)
	for n := range r.flags {
		names = append(names, n)
	}
	if best := nearest(key, names); best != "" {
		return fmt.Sprintf("%q is not a flag; do you mean %q?", key, best)
	}
	return fmt.Sprintf("%q is not a flag that an experiment can set", key)
}

// nearest is the name with the fewest edits from s, or "" if all have more than a third of its length. Of equal ones it is the first in the alphabet.
func nearest(s string, names []string) string {
	s = strings.ToLower(strings.ReplaceAll(strings.TrimLeft(s, "-"), "_", "-"))
	if len(s) > 64 {
		return ""
	}
	names = slices.Sorted(slices.Values(names))
	best, least := "", max(2, len(s)/3)+1
	for _, n := range names {
		if d := distance(s, n); d < least && d < len(n) {
			best, least = n, d
		}
	}
	return best
}

// distance is the number of single-byte edits from a to b (Levenshtein 1965).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(diagonal+cost, row[j]+1, row[j+1]+1)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
