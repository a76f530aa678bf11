package main

import (
	"context"
	"encoding/json"

	"github.com/kvwire/kvwire/report"
)

const statHelp = `Usage: kvwire stat DIR

Examples:
  kvwire stat /data/kv
  kvwire stat --json /data/kv

Prints how many items the store in DIR has, what its slabs hold, and the memory that its index takes.
Nothing is changed; nobody may have the store open: ask a server that serves it with kvwire bench --target, or look at its CSV.`

func statCommand(_ context.Context, args []string) error {
	all, asJSON, err := inspectFolder("stat", statHelp, args)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(stdout).Encode(all)
	}
	return report.PrintStore(stdout, all)
}
