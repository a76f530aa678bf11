package report

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/factor"
)

// Each factor has a column of runs.csv, or a reason that names the columns with its effect, unless it is a place.
func TestEachFactorHasAColumnOrAReason(t *testing.T) {
	inBackquotes := regexp.MustCompile("`([^`]+)`")
	for _, f := range factor.All {
		if c := f.ColumnName(); c != "" {
			if !slices.Contains(Columns(), c) {
				t.Errorf("%s: runs.csv has no column %s", f.Name, c)
			}
			continue
		}
		found := inBackquotes.FindAllStringSubmatch(f.NoColumn, -1)
		if len(found) == 0 && !strings.HasPrefix(f.NoColumn, "a place") {
			t.Errorf("%s: %q names no column", f.Name, f.NoColumn)
		}
		for _, c := range found {
			if !slices.Contains(Columns(), c[1]) {
				t.Errorf("%s: %q names %s, which is no column", f.Name, f.NoColumn, c[1])
			}
		}
	}
}

func TestDocumentsHaveReasonsAndScopes(t *testing.T) {
	var b strings.Builder
	if err := WriteColumns(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| `stages` | none: `phase` is breakdown | int | 0 |",
		"| `operations` | none: `ops` and `errors` count them",
		"| whole runs; cells that set it are not measured in slices |",
		"| `trace-unit` | none: part of `trace` | word | s | s, ms, us, ns |",
		"| `fixed-files` | fixed_files | bool | true |  | backend=disk/raw and disk-engine=uring/uring-shared/uring-sq |",
	} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("there is no %q", line)
		}
	}
}
