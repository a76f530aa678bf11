package serve

import (
	"crypto/tls"
	"strings"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/inproc"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport"
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
	{Name: "rdma", Probe: probeRDMA, Host: rdma.Here,
		Transport: func(v *factor.Values, _, _ *tls.Config) transport.Transport {
			return rdma.Transport{Options: v.RDMA.Options()}
		}},
}

func probeRDMA(v *factor.Values) error {
	err := v.RDMA.UseDevice()
	if err == nil {
		_, err = rdma.Here()
	}
	return err
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
