package experiment

import (
	"fmt"
	"slices"

	"github.com/kvwire/kvwire/internal/names"
)

// topKeys are the keys of experiment.yaml, other than flags, at its top level. sections has the keys that stand below one of them.
var (
	topKeys = []string{"name", "description", "require", "overrides", "generations", "time", "slice", "until", "matters", "interaction", "compare", "primary", "thresholds", "stages"}

	sections = map[string]string{"metrics": "primary", "metric": "thresholds", "least": "thresholds", "most": "thresholds", "one-in": "stages"}
)

// unknown returns the text of an error about a key in a section, "" for the top level, that is no flag. It names the place of a key that belongs elsewhere, or the
// nearest name of those that the section may have.
func (r *reader) unknown(key, in string) string {
	switch section := sections[key]; {
	case key == "":
		return "a key is empty"
	case slices.Contains(topKeys, key):
		return fmt.Sprintf("%q is in the wrong place: move it to the top level of experiment.yaml, without indentation", key)
	case section != "":
		return fmt.Sprintf("%q is in the wrong place: move it below %q", key, section)
	}
	var all []string
	if in == "" {
		all = slices.Clone(topKeys)
	}
	for n, section := range sections {
		if section == in {
			all = append(all, n)
		}
	}
	for n := range r.flags {
		all = append(all, n)
	}
	if best := names.Nearest(key, all); best != "" {
		return fmt.Sprintf("%q is not a flag; do you mean %q?", key, best)
	}
	return fmt.Sprintf("%q is not a flag that an experiment can set", key)
}
