package tcp

import (
	"testing"

	"github.com/kvwire/kvwire/transport/transporttest"
)

var network = transporttest.Network{Transport: Transport{}, Stream: true}

func TestMain(m *testing.M) { transporttest.Main(m, network) }

func TestTCP(t *testing.T) { transporttest.Run(t, network) }

func BenchmarkLoopTCPNull(b *testing.B) { transporttest.BenchmarkNull(b, network) }
