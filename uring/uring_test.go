package uring

import (
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/transport/transporttest"
)

var network = transporttest.Network{Transport: Transport{}, Stream: true}

func TestMain(m *testing.M) { transporttest.Main(m, network) }

func TestUring(t *testing.T) {
	testenv.Uring(t)
	for name, separate := range map[string]bool{"shared": false, "separate": true} {
		t.Run(name, func(t *testing.T) {
			n := network
			n.SocketRing = separate
			transporttest.Run(t, n)
		})
	}
}

func BenchmarkLoopUringNull(b *testing.B) {
	testenv.Uring(b)
	transporttest.BenchmarkNull(b, network)
}
