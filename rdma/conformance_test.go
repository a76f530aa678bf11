package rdma

import (
	"net/netip"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport/transporttest"
)

// network is the transport on this machine's own device, if there is one.
func network(o Options) (transporttest.Network, error) {
	if err := Unavailable(); err != nil {
		return transporttest.Network{}, err
	}
	c, err := device.Pick(device.Local(), netip.IPv4Unspecified())
	return transporttest.Network{Transport: Transport{o}, Host: c.Addr.String()}, err
}

// need is network, for tests that cannot do without.
func need(t testing.TB, o Options) transporttest.Network {
	t.Helper()
	n, err := network(o)
	testenv.Need(t, "rdma", err)
	return n
}

func TestMain(m *testing.M) {
	n, _ := network(Options{})
	transporttest.Main(m, n)
}

func TestRDMA(t *testing.T) {
	for _, v := range []Verb{Send, Write} {
		t.Run(v.String(), func(t *testing.T) { transporttest.Run(t, need(t, Options{Verb: v})) })
	}
}

func BenchmarkLoopRDMANull(b *testing.B) {
	for _, v := range []Verb{Send, Write} {
		b.Run(v.String(), func(b *testing.B) { transporttest.BenchmarkNull(b, need(b, Options{Verb: v})) })
	}
}
