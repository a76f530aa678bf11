package inproc

import (
	"testing"

	"github.com/kvwire/kvwire/transport/transporttest"
)

var network = transporttest.Network{Transport: Transport{}, Local: true}

func TestInproc(t *testing.T) { transporttest.Run(t, network) }

func BenchmarkLoopInprocNull(b *testing.B) { transporttest.BenchmarkNull(b, network) }
