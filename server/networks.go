package server

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/inproc"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/uring"
)

// Network is a network by the name that it has in the factor transport.
type Network struct {
	Name  string
	Local bool // client and server are one process, and the client lives on the server's loops

	// Probe returns the reason why the network does not work on this machine, and what to do.
	Probe func() error

	// Transport returns the network with the options of v, which must be checked. The TLS configurations may be nil.
	Transport func(v *factor.Values, server, client *tls.Config) transport.Transport
}

// Networks are all networks that kvwire has.
var Networks = []*Network{
	{"inproc", true, works,
		func(*factor.Values, *tls.Config, *tls.Config) transport.Transport { return inproc.Transport{} }},
	{"codec", true, works,
		func(*factor.Values, *tls.Config, *tls.Config) transport.Transport { return inproc.Codec{} }},
	{"tcp", false, works, func(v *factor.Values, server, client *tls.Config) transport.Transport {
		o := v.TCP.Options()
		o.ServerTLS, o.ClientTLS = server, client
		return tcp.Transport{Options: o}
	}},
	{"uring", false, func() error { return probe.Uring(probe.Local()).Err() },
		func(v *factor.Values, _, _ *tls.Config) transport.Transport { return uring.Transport{Options: v.Uring.Options()} }},
	{"rdma", false, func() error { _, err := rdma.Here(); return err },
		func(v *factor.Values, _, _ *tls.Config) transport.Transport { return rdma.Transport{Options: v.RDMA.Options()} }},
}

func works() error { return nil }

// FindNetwork returns the network of that name.
func FindNetwork(name string) (*Network, error) {
	var names []string
	for _, n := range Networks {
		if n.Name == name {
			return n, nil
		}
		names = append(names, n.Name)
	}
	return nil, exit.Usagef("transport %q is unknown (%s)", name, strings.Join(names, ", "))
}

// Works is Probe with the network's name and the exit code Missing.
func (n *Network) Works() error {
	if err := n.Probe(); err != nil {
		return exit.With(exit.Missing, fmt.Errorf("transport %s: %w", n.Name, err))
	}
	return nil
}

// Address is where a server of this network listens by default: on loopback, or, since that has no RDMA device, at the address of the first device.
func (n *Network) Address(port uint16) (string, error) {
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if n.Name == "rdma" {
		if err := n.Works(); err != nil {
			return "", err
		}
		var err error
		if host, err = rdma.Here(); err != nil {
			return "", err
		}
	}
	return netip.AddrPortFrom(host, port).String(), nil
}
