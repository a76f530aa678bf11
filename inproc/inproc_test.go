package inproc

import (
	"testing"

	"github.com/kvwire/kvwire/transport/transporttest"
)

var network = transporttest.Network{Transport: Transport{}, Local: true}

func TestInproc(t *testing.T) { transporttest.Run(t, network) }

func TestCodec(t *testing.T) {
	transporttest.Run(t, transporttest.Network{Transport: Codec{}, Local: true})
}

func BenchmarkLoopInprocNull(b *testing.B) { transporttest.BenchmarkNull(b, network) }

func BenchmarkLoopCodecNull(b *testing.B) {
	transporttest.BenchmarkNull(b, transporttest.Network{Transport: Codec{}, Local: true})
}
