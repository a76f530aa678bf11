package server

import (
	"crypto/tls"
	"fmt"
	"net/netip"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/transport"
)

// Network is a network by the name that it has in the factor transport. Package serve has the list of all.
type Network struct {
	Name  string
	Local bool // client and server are one process, and the client lives on the server's loops

	// Probe returns the reason why the network does not work on this machine with these values, and what to do; nil: it always works.
	Probe func(v *factor.Values) error

	// Host returns the address of this machine where a server with these values listens by default; nil: loopback.
	Host func(v *factor.Values) (netip.Addr, error)

	// Prepare makes this process use the network with these values, before its first server or connection; nil: nothing is to be done. A process that has used it in one way
	// cannot use it in another.
	Prepare func(v *factor.Values) error

	// Transport returns the network with the options of v, which must be checked. The TLS configurations may be nil.
	Transport func(v *factor.Values, server, client *tls.Config) transport.Transport
}

// Works calls Probe, and gives its error the network's name and the exit code Missing.
func (n *Network) Works(v *factor.Values) error {
	if n.Probe == nil {
		return nil
	}
	if err := n.Probe(v); err != nil {
		return exit.With(exit.Missing, fmt.Errorf("transport %s: %w", n.Name, err))
	}
	return nil
}

// Use calls Works and Prepare.
func (n *Network) Use(v *factor.Values) error {
	err := n.Works(v)
	if err == nil && n.Prepare != nil {
		err = n.Prepare(v)
	}
	return err
}

// Address is where a server of this network listens by default.
func (n *Network) Address(v *factor.Values, port uint16) (string, error) {
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if n.Host != nil {
		if err := n.Works(v); err != nil {
			return "", err
		}
		var err error
		if host, err = n.Host(v); err != nil {
			return "", err
		}
	}
	return netip.AddrPortFrom(host, port).String(), nil
}
