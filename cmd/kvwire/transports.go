package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/inproc"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
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
	{"tcp", false, (*factors).overTCP, func() error { return nil }},
	{"uring", false, func(f *factors) transport.Transport { return uring.Transport{Options: f.uring.options} }, func() error { return probe.Uring(probe.Local()).Err() }},
	{"rdma", false, func(f *factors) transport.Transport { return rdma.Transport{Options: f.rdma} }, rdmaHere},
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

// inProcess says whether client and server are one process.
func (f *factors) inProcess() bool {
	n, err := find(f.transport)
	return err == nil && n.local
}

// works is nil where the transport works, and else says why not and what to do, with the exit code.
func (n *network) works() error {
	if err := n.here(); err != nil {
		return &exitError{exitMissing, fmt.Errorf("transport %s: %w", n.name, err)}
	}
	return nil
}

func (n *network) sleep() loop.Sleep { return n.impl(new(factors)).Sleep() }

// storeSleep is how loops sleep that have keys only.
func storeSleep() loop.Sleep {
	if ring.Built {
		return loop.SleepRing
	}
	return loop.SleepEpoll
}

// alike are the flags of which both sides of a network must have the same.
func alike(network string) []string {
	switch network {
	case "rdma":
		return rdmaFlags
	case "tcp":
		return tcpBoth
	case "uring":
		return uringFlags
	}
	return nil
}

// ofClient says whether a server's flag is its client's, too.
func ofClient(name string) bool {
	return slices.Contains([]string{"transport", "backend", "wait", "spin-max", "value-bytes", "scan-items"}, name) ||
		slices.Contains(rdmaFlags, name) || slices.Contains(tcpBoth, name) || slices.Contains(uringFlags, name) || slices.Contains(ringFlags, name)
}

// clientsAlone says whether a flag that servers have concerns the client here, and not the server.
func (f *factors) clientsAlone(name string) bool {
	return f.transport != "uring" && (slices.Contains(uringFlags, name) || slices.Contains(ringFlags, name) && !f.onDisk())
}
