package main

import (
	"context"

	"github.com/kvwire/kvwire/report"
)

const columnsHelp = `Example:
  kvwire columns >docs/columns.md

Prints all factors, with their flags, and the columns of all CSV files, as Markdown.`

func columnsCommand(_ context.Context, args []string) error {
	if err := newFactors("columns", columnsHelp).parse(args, nil); err != nil {
		return err
	}
	return report.WriteColumns(stdout)
}
