package uring

import (
	"testing"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/transport/transporttest"
)

var network = transporttest.Network{Transport: Transport{}, Stream: true}

func TestMain(m *testing.M) { transporttest.Main(m, network) }

// need skips where io_uring is not to be had, and fails where it must be.
func need(t testing.TB) {
	t.Helper()
	r, err := ring.Open(ring.Options{Entries: 8})
	if err == nil {
		_ = r.Close()
		return
	}
	if sys.Required("uring") {
		t.Fatalf("KVWIRE_REQUIRE=uring: %v", err)
	}
	t.Skipf("no io_uring: %v", err)
}

func TestUring(t *testing.T) {
	need(t)
	for name, separate := range map[string]bool{"shared": false, "separate": true} {
		t.Run(name, func(t *testing.T) {
			n := network
			n.SocketRing = separate
			transporttest.Run(t, n)
		})
	}
}

func BenchmarkLoopUringNull(b *testing.B) {
	need(b)
	transporttest.BenchmarkNull(b, network)
}
