package rdma

import (
	"testing"

	"github.com/kvwire/kvwire/transport/transporttest"
)

// TestRDMAModes runs the suite with options that are not the defaults; if that is slow, the brief suite.
func TestRDMAModes(t *testing.T) {
	run := transporttest.RunBrief
	if transporttest.Long {
		run = transporttest.Run
	}
	for name, o := range map[string]Options{
		"read":                       {Verb: Read},
		"rdma_cm":                    {Connect: ByCM},
		"shared receive queue":       {SRQ: true},
		"no inline data":             {InlineBytes: -1},
		"small slots, few at a time": {SlotBytes: 512, SignalEvery: 1, PostBatch: 2, MTU: 256},
	} {
		t.Run(name, func(t *testing.T) { run(t, need(t, o)) })
	}
}
