package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/report"
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
	refused := map[string]error{}
	for _, n := range networks {
		if err := n.here(); err != nil {
			refused[n.name] = err
		}
	}
	least, most, err := defaultPins()
	if err != nil {
		return err
	}
	r := append(probe.Doctor(f.Store.Dir, refused), device.Findings(device.Local(), least, most)...)
	r = append(r, pingPong()...)
	if f.json {
		return r.WriteJSON(stdout)
	}
	return r.WriteText(stdout)
}

// pingPong tries the device that would be picked; without one there is no row.
func pingPong() probe.Report {
	c, err := device.Pick(device.Local(), netip.Addr{})
	if err != nil {
		return nil
	}
	f := probe.Finding{Name: "verbs ping-pong", State: probe.Unavailable}
	p, err := rdma.PingPong(c)
	var refusal *probe.Refusal
	switch {
	case err == nil:
		f.State = probe.Available
		f.Why = fmt.Sprintf("%s, %d B round trip %s (median of %d)", c.Device, p.Bytes, report.Duration(p.Median.Nanoseconds()), p.Trips)
		if caps, err := rdma.QueryCaps(c, rdma.Options{}); err == nil {
			f.Why += fmt.Sprintf("; it makes queue pairs of the kinds %s, and kvwire uses RC", strings.Join(caps.Kinds, ", "))
			if caps.MemoryWindows {
				f.Why += "; with memory windows of type 2B, which keep connections of --rdma-verb write apart"
			} else {
				f.Why += "; without memory windows of type 2B: connections of --rdma-verb write are not kept apart (SECURITY.md)"
			}
		}
	case errors.As(err, &refusal):
		f.State, f.Why, f.Remedy = refusal.Finding.State, refusal.Finding.Why, refusal.Finding.Remedy
	default:
		f.Why = strings.ReplaceAll(err.Error(), "\n", "; ") // ends with what to do
	}
	return probe.Report{f}
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
