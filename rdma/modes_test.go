package rdma

import (
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/transport/transporttest"
)

// TestRDMAModes runs the brief suite with options that are not the defaults; in make test-long, the suite.
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
		t.Run(name, func(t *testing.T) {
			if o.Verb != Read && o.Connect != ByCM { // READs are soft-RoCE's own, and the model has no rdma_cm
				modelSuffices(t)
			}
			if o.Verb != Read && !o.SRQ {
				testenv.NotRaced(t)
				testenv.NotShort(t, "the other modes have the same tests")
			}
			run(t, need(t, o))
		})
	}
}
