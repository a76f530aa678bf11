package main

import (
	"fmt"
	"strings"

	"github.com/kvwire/kvwire/inproc"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/uring"
)

// network is a transport by its name, and whether it works here.
type network struct {
	name string
	impl transport.Transport // nil: not in this version
	here func() error        // nil: it works
}

var networks = []network{
	{"inproc", inproc.Transport{}, func() error { return nil }},
	{"tcp", tcp.Transport{}, func() error { return nil }},
	{"uring", uring.Transport{}, func() error { return probe.Uring(probe.Local()).Err() }},
	{"rdma", nil, rdma.Unavailable},
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

// works is nil where the transport works, and else says why not and what to do, with the exit code.
func (n *network) works() error {
	if err := n.here(); err != nil {
		return &exitError{exitMissing, fmt.Errorf("transport %s: %w", n.name, err)}
	}
	return nil
}

func (n *network) sleep() loop.Sleep {
	if n.impl == nil {
		return loop.SleepEpoll
	}
	return n.impl.Sleep()
}

// storeSleep is how loops sleep that have keys only.
func storeSleep() loop.Sleep {
	if ring.Built {
		return loop.SleepRing
	}
	return loop.SleepEpoll
}
