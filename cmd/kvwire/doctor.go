package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/rdma/device"
)

const doctorHelp = `Examples:
  kvwire doctor
  kvwire doctor --dir /data --json

Says for each transport and disk engine whether it works here and, where not, why and what to do; of RDMA
devices besides, by which address they are reached.`

func doctorCommand(_ context.Context, args []string) error {
	f := newFactors("doctor", doctorHelp)
	f.set.StringVar(&f.dir, "dir", os.TempDir(), "the folder where a store is to lie")
	f.set.BoolVar(&f.json, "json", false, "print JSON")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	refused := map[string]error{}
	for _, n := range networks {
		if err := n.here(); err != nil {
			refused[n.name] = err
		}
	}
	r := append(probe.Doctor(f.dir, refused), device.Findings(device.Local())...)
	if f.json {
		return r.WriteJSON(os.Stdout)
	}
	return r.WriteText(os.Stdout)
}

const versionHelp = `Examples:
  kvwire version
  kvwire version --json`

func versionCommand(_ context.Context, args []string) error {
	f := newFactors("version", versionHelp)
	f.set.BoolVar(&f.json, "json", false, "print JSON")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	v := struct {
		Version string `json:"version"`
		Go      string `json:"go"`
		Arch    string `json:"arch"`
		Uring   bool   `json:"uring"`
	}{version, runtime.Version(), runtime.GOARCH, ring.Built}
	if f.json {
		return json.NewEncoder(os.Stdout).Encode(v)
	}
	built := "with io_uring"
	if !v.Uring {
		built = "without io_uring (" + ring.ErrNotBuilt.Error() + ")"
	}
	fmt.Printf("kvwire %s, %s, %s, %s\n", v.Version, v.Go, v.Arch, built)
	return nil
}
