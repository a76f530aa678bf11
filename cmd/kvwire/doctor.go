package main

import (
	"context"
	"os"

	"github.com/kvwire/kvwire/server/serve"
)

const doctorHelp = `Examples:
  kvwire doctor
  kvwire doctor --dir /data --json

Says for each transport and disk engine whether it works here and, where not, why and what to do; of RDMA
devices besides, by which address they are reached, and whether a message comes back.`

func doctorCommand(_ context.Context, args []string) error {
	f := newFactors("doctor", doctorHelp)
	f.set.StringVar(&f.Store.Dir, "dir", os.TempDir(), "the folder where a store is to lie")
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
