package main

import (
	"net/netip"

	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/report"
)

// environment is this machine, with the RDMA device that it would use if nothing else is said.
func environment() report.Env {
	e := report.Environment(revision())
	s := device.Local()
	if c, err := device.Pick(s, netip.Addr{}); err == nil {
		r := rdmaEnv{Env: device.ReadEnv(s, c)}
		if caps, err := rdma.QueryCaps(c, rdma.Options{}); err == nil {
			r.Caps = &caps
		}
		e.RDMA = r
	}
	return e
}

// rdmaEnv is the section rdma of env.json.
type rdmaEnv struct {
	device.Env
	Caps *rdma.Caps `json:"queue_pair,omitempty"` // of one with the default options
}
