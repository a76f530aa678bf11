package main

import (
	"context"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
)

const checkHelp = `Usage: kvwire check DIR

Examples:
  kvwire check /data/kv
  kvwire check --json /data/kv | jq '.[].damage'

Reads every slot of the store in DIR, verifies its checksums, and names what is damaged: shard, slab, slot and key. It also compares
each page with the account of pages that the store wrote when it was last closed or opened, and names lost pages. The last changes of the
keys on a lost page are lost: such a key may have an older value, or be back although it was deleted.
It changes nothing. No other process may have the store open. Exit code 4: there are corrupt or unreadable items, or lost pages.`

func checkCommand(_ context.Context, args []string) error {
	all, asJSON, err := inspectFolder("check", checkHelp, args)
	if err != nil {
		return err
	}
	return report.PrintDamage(stdout, all, asJSON)
}

// inspectFolder parses the arguments of check and stat, and inspects the store.
func inspectFolder(name, help string, args []string) (all []store.Inspected, asJSON bool, err error) {
	set := newFlags(name, help)
	set.BoolVar(&asJSON, "json", false, "everything, as JSON")
	if err := parseFlags(set, args); err != nil {
		return nil, false, err
	}
	if set.NArg() != 1 {
		return nil, false, exit.Usagef("%s needs one folder (kvwire %s DIR)", name, name)
	}
	p := report.NewStoreProgress("reading")
	all, err = store.Inspect(set.Arg(0), p.Show)
	p.Clear()
	return all, asJSON, exit.Named(err)
}
