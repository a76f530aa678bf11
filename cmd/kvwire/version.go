package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/rdma"
)

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
		RDMA    bool   `json:"rdma"`
	}{version, runtime.Version(), runtime.GOARCH, ring.Built, rdma.Built}
	if f.json {
		return json.NewEncoder(stdout).Encode(v)
	}
	built := "with io_uring"
	if !v.Uring {
		built = "without io_uring"
	}
	if v.RDMA {
		built += ", with RDMA"
	} else {
		built += ", without RDMA"
	}
	fmt.Fprintf(stdout, "kvwire %s, %s, %s, %s\n", v.Version, v.Go, v.Arch, built)
	if !v.Uring || !v.RDMA {
		fmt.Fprintln(stdout, "All networks: make build in a checkout, or, with a C compiler and libibverbs-dev: go install -tags 'giouring rdma' -ldflags=-checklinkname=0 github.com/kvwire/kvwire/cmd/kvwire@latest (without RDMA: -tags giouring)")
	}
	return nil
}
