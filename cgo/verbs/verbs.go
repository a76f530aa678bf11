// Package verbs is the seam to libibverbs: the one package that may import "C", behind the build
// tag rdma. In this version it holds no binding yet: it says why RDMA is not to be had, and which
// device is missing. It may import internal packages only.
package verbs

import "github.com/kvwire/kvwire/internal/probe"

// Unavailable is why no queue pair can be made: a *probe.Refusal that prints as one line. In this
// version it is never nil. It looks for devices each time, so it is not for the data path.
func Unavailable() error { return unavailable(Built, probe.RDMA(probe.Local())) }

func unavailable(built bool, device probe.Finding) error {
	f := probe.Finding{
		Name:   "rdma",
		State:  probe.Unavailable,
		Why:    "the RDMA transport is not implemented in this version",
		Remedy: "use inproc, tcp or uring",
	}
	if !built {
		f.Why += ", and this build leaves RDMA out"
		f.Remedy += "; with a version that has it: make build (build tag rdma)"
	}
	if device.State != probe.Available {
		f.Why += "; " + device.Name + ": " + device.Why
		f.Remedy += "; for a device: " + device.Remedy
	}
	return f.Err()
}
