// Package names converts the names of enumerated values, as in flags and experiments, to numbers.
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
