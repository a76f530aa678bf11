package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/kvwire/kvwire/factor"
)

// WriteColumns writes docs/columns.md: all factors, and the columns of all CSV files.
func WriteColumns(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Factors and columns\n\nWritten by `kvwire columns`; do not edit it. An empty field means that something does not apply, or is not known.\n\n" +
		"## Factors\n\nWhat an experiment can vary: flags of `kvwire bench` and keys of `experiment.yaml`. A factor that does not apply has an empty column.\n\n")
	line := func(cells ...string) {
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(c, "|", `\|`)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	line("factor", "column", "kind", "default", "values", "applies where", "meaning")
	line("---", "---", "---", "---", "---", "---", "---")
	for i := range factor.All {
		f := &factor.All[i]
		values := strings.Join(f.Words, ", ")
		if f.Range != (factor.Span{}) {
			values = f.Range.Least + " to " + f.Range.Most
		}
		column := f.ColumnName()
		if f.NoColumn != "" {
			column = "none: " + f.NoColumn
		}
		line("`"+f.Name+"`", column, f.Kind(), f.Default, values, f.Where(), f.Description())
	}
	for _, t := range tables() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", t.path, t.title)
		line("column", "type", "unit", "meaning")
		line("---", "---", "---", "---")
		for _, f := range t.fields {
			line("`"+f.name+"`", f.kind, unitOf(f.name), f.meaning)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
