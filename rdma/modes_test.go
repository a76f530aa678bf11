package rdma

import (
	"testing"

	"github.com/kvwire/kvwire/transport/transporttest"
)

// TestRDMAModes runs the suite over what is not the default.
func TestRDMAModes(t *testing.T) {
	for name, o := range map[string]Options{
		"read":                       {Verb: Read},
		"shared receive queue":       {SRQ: true},
		"no inline data":             {InlineBytes: -1},
		"small slots, few at a time": {SlotBytes: 512, SignalEvery: 1, PostBatch: 2, MTU: 256},
	} {
		t.Run(name, func(t *testing.T) { transporttest.Run(t, need(t, o)) })
	}
}
