package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/kvwire/kvwire/inproc"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/uring"
)

// network is a transport by its name, and whether it works here.
type network struct {
	name  string
	local bool                                 // client and server are one process, and the client lives on the server's loops
	impl  func(f *factors) transport.Transport // f has been checked
	here  func() error                         // nil: it works
}

var networks = []network{
	{"inproc", true, func(*factors) transport.Transport { return inproc.Transport{} }, func() error { return nil }},
	{"codec", true, func(*factors) transport.Transport { return inproc.Codec{} }, func() error { return nil }},
	{"tcp", false, func(f *factors) transport.Transport {
		o := f.TCP.Options()
		o.ServerTLS, o.ClientTLS = f.guard.tls, f.Identity.TLS
		return tcp.Transport{Options: o}
	}, func() error { return nil }},
	{"uring", false, func(f *factors) transport.Transport { return uring.Transport{Options: f.Uring.Options()} }, func() error { return probe.Uring(probe.Local()).Err() }},
	{"rdma", false, func(f *factors) transport.Transport { return rdma.Transport{Options: f.RDMA.Options()} }, rdmaHere},
}

func rdmaHere() error {
	_, err := rdma.Here()
	return err
}

// listenOn is where a server of this network listens when nothing else is said: on loopback, or, as that has no RDMA
// device, on the first device's address.
func (n *network) listenOn(port uint16) (string, error) {
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if n.name == "rdma" {
		if err := n.works(); err != nil {
			return "", err
		}
		var err error
		if host, err = rdma.Here(); err != nil {
			return "", err
		}
	}
	return netip.AddrPortFrom(host, port).String(), nil
}

func find(name string) (*network, error) {
	var names []string
	for i := range networks {
		if networks[i].name == name {
			return &networks[i], nil
		}
		names = append(names, networks[i].name)
	}
	return nil, usagef("transport %q is unknown (%s)", name, strings.Join(names, ", "))
}

// network is a transport for the measurement.
func (f *factors) network(name string) (*cell.Network, error) {
	n, err := find(name)
	if err != nil {
		return nil, err
	}
	return &cell.Network{Name: n.name, Local: n.local, Works: n.works, Listen: n.listenOn, Transport: func() transport.Transport { return n.impl(f) }}, nil
}

// works is nil where the transport works, and else says why not and what to do, with the exit code.
func (n *network) works() error {
	if err := n.here(); err != nil {
		return exit.With(exit.Missing, fmt.Errorf("transport %s: %w", n.name, err))
	}
	return nil
}

func (n *network) sleep() loop.Sleep { return n.impl(new(factors)).Sleep() }
