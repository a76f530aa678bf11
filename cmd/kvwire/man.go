package main

import (
	"context"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/manual"
)

const manHelp = `Usage: kvwire man DIR

Examples:
  kvwire man /usr/local/share/man/man1

Writes the manual pages kvwire.1, kvwire-bench.1 and so on into DIR: the text of --help-all.`

func manCommand(ctx context.Context, args []string) error {
	set := newFlags("man", manHelp)
	if err := parseFlags(set, args); err != nil {
		return err
	}
	if set.NArg() != 1 {
		return exit.Usagef("man needs one folder (kvwire man DIR)")
	}
	all, err := allCommands(ctx)
	if err != nil {
		return err
	}
	return exit.Named(manual.Write(set.Arg(0), all, version))
}
