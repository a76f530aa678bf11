package verify

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/kvwire/kvwire/inproc"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/udp"
	"github.com/kvwire/kvwire/uring"
)

// network is a transport to verify.
type network struct {
	name    string
	feature string // in KVWIRE_REQUIRE; "": it works everywhere
	local   bool   // client and server are one process
	redis   bool   // its clients speak Redis's protocol: gets, puts and deletes
	udp     bool   // its hello does not travel by TCP
	impl    transport.Transport
}

var networks = []network{
	{name: "inproc", local: true, impl: inproc.Transport{}},
	{name: "tcp", impl: tcp.Transport{}},
	{name: "tcp-redis", redis: true, impl: tcp.Transport{}},
	{name: "tcp-goroutines", impl: tcp.Transport{Options: tcp.Options{Engine: tcp.Goroutines}}},
	{name: "uring", feature: "uring", impl: uring.Transport{}},
	{name: "udp", udp: true, impl: udp.Transport{Options: udp.Options{Segments: true}}},
	{name: "udp-loss", udp: true, impl: udp.Transport{Options: udp.Options{Loss: 0.02, Duplicates: 0.02, Seed: 1}}},
	{name: "udp-uring", feature: "uring", udp: true, impl: udp.Transport{Options: udp.Options{Engine: udp.Uring, Segments: true, Loss: 0.02, Duplicates: 0.02, Seed: 2}}},
	{name: "rdma-send", feature: "rdma", impl: rdma.Transport{Options: rdma.Options{Verb: rdma.Send}}},
	{name: "rdma-write", feature: "rdma", impl: rdma.Transport{Options: rdma.Options{Verb: rdma.Write}}},
	{name: "rdma-read", feature: "rdma", impl: rdma.Transport{Options: rdma.Options{Verb: rdma.Read}}},
}

// find returns the network of that name.
func find(name string) *network {
	i := slices.IndexFunc(networks, func(n network) bool { return n.name == name })
	if i < 0 {
		panic("verify: no network " + name)
	}
	return &networks[i]
}

// works returns nil if the network works on this machine, or the reason why not.
func (n *network) works() error {
	switch n.feature {
	case "uring":
		return uringWorks()
	case "rdma":
		_, err := n.listen()
		return err
	}
	return nil
}

// useModel makes this process use the model of an RDMA device where the kernel has no device and KVWIRE_REQUIRE requires none. The children of a process come to the
// same decision.
var useModel = sync.OnceValue(func() error {
	if !rdma.Built || testenv.Required("rdma") || probe.RDMA(probe.Local()).State == probe.Available {
		return nil
	}
	l, err := rdma.ParseLink(rdma.DefaultLink)
	if err != nil {
		return err
	}
	return rdma.UseModel(l)
})

func uringWorks() error { return probe.Uring(probe.Local()).Err() }

// listen returns the address for servers: on loopback, or for RDMA the first device's.
func (n *network) listen() (string, error) {
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if n.feature == "rdma" {
		err := useModel()
		if err != nil {
			return "", err
		}
		if host, err = rdma.Here(); err != nil {
			return "", err
		}
	}
	return netip.AddrPortFrom(host, 0).String(), nil
}

// ringWorks reports whether loops may have rings.
func ringWorks() bool { return ring.Built && uringWorks() == nil }
