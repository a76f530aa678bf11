package report

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
)

// Scripts of users read our files by the names of their columns, and spreadsheets by their order.
func TestColumnsAreAsTheyWere(t *testing.T) {
	var b strings.Builder
	for _, r := range tables() {
		fmt.Fprintln(&b, r.path)
		for _, f := range r.fields {
			fmt.Fprintf(&b, "\t%s\t%s\n", f.name, f.kind)
		}
	}
	testenv.Golden(t, "columns.txt", b.String())
}
