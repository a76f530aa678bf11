package device

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/kvwire/kvwire/internal/probe"
)

// Model is the provider of the modelled device, and its column device. It is in user space: sysfs does not have it.
const Model = "model"

// modelName is its name among verbs devices, which package cgo/verbs/model gives it.
const modelName = "model0"

var model atomic.Bool

// UseModel makes the model the only device of this process.
func UseModel() { model.Store(true) }

// ModelFinding returns the row of kvwire doctor about the model. built is true if this build has it.
func ModelFinding(built bool) probe.Finding {
	f := probe.Finding{Name: "RDMA model", State: probe.Available,
		Why: "a model, not a device: the verbs between processes of one user on this machine, through shared memory (kvwire run quick --rdma-device model; bench and serve have this flag, too). rdma_cm (--rdma-connect cm) needs a device of the kernel's"}
	if !built {
		f.State, f.Why, f.Remedy = probe.Unavailable, "this build leaves RDMA out", "make build"
	}
	return f
}

// modelPort is the model's port. Each address of this machine is in its table, loopback first: no other machine reaches it.
func modelPort(nets []Interface) Port {
	p := Port{Device: modelName, Number: 1, Provider: Model, Software: true, LinkLayer: Ethernet, State: "ACTIVE"}
	for _, loopback := range []bool{true, false} {
		for i := range nets {
			for _, prefix := range nets[i].Prefixes {
				if a := prefix.Addr(); a.IsLoopback() == loopback {
					c := p.choice(gid{index: len(p.Choices), raw: a.As16()}, a, &nets[i])
					c.GIDType, c.NetMTU = RoCEv2, 0 // the interface carries none of its packets
					p.Choices = append(p.Choices, c)
				}
			}
		}
	}
	return p
}

// checkModelReach returns an error if the peer is on another machine, which the model does not connect.
func checkModelReach(s *System, peer netip.Addr) error {
	nets, err := s.Interfaces()
	if err != nil {
		nets = nil
	}
	if owner(nets, peer) == nil {
		return refuse(aboutPath, fmt.Sprintf("%s is not an address of this machine, and the model of a device connects processes of one machine only", peer), "a server on this machine; or a real device")
	}
	return nil
}
