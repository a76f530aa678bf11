package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/rdma"
)

const versionHelp = `Usage: kvwire version [flags]

Examples:
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
	var built, leftOut []string
	for _, part := range []struct {
		name string
		in   bool
	}{{"io_uring", v.Uring}, {"RDMA", v.RDMA}} {
		if part.in {
			built = append(built, "with "+part.name)
		} else {
			built, leftOut = append(built, "without "+part.name), append(leftOut, part.name)
		}
	}
	fmt.Fprintf(stdout, "kvwire %s, %s, %s, %s\n", v.Version, v.Go, v.Arch, strings.Join(built, ", "))
	if len(leftOut) > 0 {
		fmt.Fprintf(stdout, "This build leaves out %s. All networks: make build in a checkout, or, with a C compiler, libibverbs-dev and librdmacm-dev: %s (without RDMA, and without these packages: -tags giouring)\n",
			strings.Join(leftOut, " and "), "go install -tags 'giouring rdma' -ldflags=-checklinkname=0 github.com/kvwire/kvwire/cmd/kvwire@latest")
	}
	return nil
}
