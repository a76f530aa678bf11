// Package verbs is a thin layer over libibverbs and librdmacm, and the only package that may import "C". It needs a build with the tag
// rdma and cgo; in others Unavailable returns the reason. Calls are made for batches: many work requests, receives or
// completions in one call into C, all in memory outside the Go heap. Each object must be closed by its Close,
// in the order memory window, queue pair, shared receive queue, completion queue, region, device. It may import
// internal packages only.
//
// The verbs are defined in the InfiniBand Architecture Specification, volume 1, chapter 11, and
// in the manual pages of rdma-core (ibv_post_send(3), ibv_poll_cq(3), …).
package verbs

import (
	"slices"
	"strings"

	"github.com/kvwire/kvwire/cgo/verbs/model"
	"github.com/kvwire/kvwire/internal/probe"
)

// Link is the link of the modelled device.
type Link = model.Link

// Unavailable returns the reason why no queue pair can be made here, a *probe.Refusal of one line; nil if
// there is a device. It lists the devices at each call, so it is not for the data path.
func Unavailable() error {
	names, err := Names()
	return unavailable(Built, len(names), err, func() probe.Finding { return probe.RDMA(probe.Local()) })
}

func unavailable(built bool, devices int, err error, look func() probe.Finding) error {
	f := probe.Finding{Name: "rdma", State: probe.Unavailable}
	switch {
	case !built:
		f.Why, f.Remedy = "this build leaves RDMA out", "make build (build tag rdma, with cgo); elsewhere: the command that kvwire version prints"
	case err != nil:
		f.Why, f.Remedy = err.Error(), "see kvwire doctor"
	case devices > 0:
		return nil
	default:
		f.Why, f.Remedy = "libibverbs finds no device", "see kvwire doctor"
	}
	if device := look(); device.State != probe.Available {
		causes := []string{device.Why, f.Why}
		if !built {
			slices.Reverse(causes)
		}
		f.Why = strings.Join(causes, "; ")
		f.Remedy += "; for a device: " + device.Remedy
	}
	return f.Err()
}
