package main

import (
	"context"
	"os"

	"github.com/kvwire/kvwire/server/serve"
)

const doctorHelp = `Usage: kvwire doctor [flags]

Examples:
  kvwire doctor
  kvwire doctor --dir /data --json

Prints for each transport and disk engine whether it works on this machine and, if not, the reason and the remedy. For RDMA
devices it also prints their addresses, and whether a test message arrives.`

func doctorCommand(_ context.Context, args []string) error {
	f := newFactors("doctor", doctorHelp)
	f.set.StringVar(&f.Store.Dir, "dir", os.TempDir(), "the folder where a store is to lie, or several with commas between (a,b)")
	f.set.BoolVar(&f.json, "json", false, "print JSON")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	r, err := serve.Doctor(f.Store.Dir)
	if err != nil {
		return err
	}
	if f.json {
		return r.WriteJSON(stdout)
	}
	return r.WriteText(stdout)
}
