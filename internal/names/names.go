// Package names reads words of which each stands for a number, as flags and experiments have them.
package names

import (
	"fmt"
	"slices"
	"strings"
)

// Parse gives the place of s in all; the error names what there is.
func Parse[T ~uint8](s string, all []string) (T, error) {
	if i := slices.Index(all, s); i >= 0 {
		return T(i), nil
	}
	last := len(all) - 1
	return 0, fmt.Errorf("%q is unknown (%s or %s)", s, strings.Join(all[:last], ", "), all[last])
}
