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

Prints the number of items of the store in DIR, the contents of its slabs, and the memory of its index.
It changes nothing. No other process may have the store open. For the counters of a running server use kvwire serve --metrics.`

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
