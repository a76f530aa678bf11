package serve

import (
	"crypto/tls"
	"net/netip"
	"strings"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/inproc"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/udp"
	"github.com/kvwire/kvwire/uring"
)

// Networks are all networks that kvwire has.
var Networks = []*server.Network{
	{Name: "inproc", Local: true,
		Transport: func(*factor.Values, *tls.Config, *tls.Config) transport.Transport { return inproc.Transport{} }},
	{Name: "codec", Local: true,
		Transport: func(*factor.Values, *tls.Config, *tls.Config) transport.Transport { return inproc.Codec{} }},
	{Name: "tcp", Transport: func(v *factor.Values, server, client *tls.Config) transport.Transport {
		o := v.TCP.Options()
		o.ServerTLS, o.ClientTLS = server, client
		return tcp.Transport{Options: o}
	}},
	{Name: "uring", Probe: func(*factor.Values) error { return probe.Uring(probe.Local()).Err() },
		Transport: func(v *factor.Values, _, _ *tls.Config) transport.Transport {
			return uring.Transport{Options: v.Uring.Options()}
		}},
	{Name: "rdma", Probe: func(v *factor.Values) error { _, err := rdmaHost(v); return err }, Host: rdmaHost, Prepare: func(v *factor.Values) error { return v.RDMA.UseDevice() },
		Transport: func(v *factor.Values, _, _ *tls.Config) transport.Transport {
			return rdma.Transport{Options: v.RDMA.Options()}
		}},
	{Name: "udp", Probe: func(v *factor.Values) error {
		if v.UDP.Options().Engine == udp.Uring {
			return probe.Uring(probe.Local()).Err()
		}
		return nil
	}, Transport: func(v *factor.Values, _, _ *tls.Config) transport.Transport {
		return udp.Transport{Options: v.UDP.Options()}
	}},
}

// rdmaHost is the default address of a server over rdma. Other machines do not reach the modelled device.
func rdmaHost(v *factor.Values) (netip.Addr, error) {
	if v.RDMA.Modelled() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), device.ModelFinding(rdma.Built).Err()
	}
	return rdma.Here()
}

// FindNetwork returns the network of that name.
func FindNetwork(name string) (*server.Network, error) {
	var names []string
	for _, n := range Networks {
		if n.Name == name {
			return n, nil
		}
		names = append(names, n.Name)
	}
	return nil, exit.Usagef("transport %q is unknown (%s)", name, strings.Join(names, ", "))
}
