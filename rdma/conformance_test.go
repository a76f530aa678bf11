package rdma

import (
	"encoding/json"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/kvwire/kvwire/cgo/verbs/model"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport/transporttest"
)

// optionsEnv is the environment variable with the options of a child's network.
const optionsEnv = "KVWIRE_RDMATEST_OPTIONS"

// network is the transport on this machine's own device, if there is one.
func network(o Options) (n transporttest.Network, err error) {
	if err := Unavailable(); err != nil {
		return n, err
	}
	c, err := device.Pick(device.Local(), netip.IPv4Unspecified())
	if err != nil {
		return n, err
	}
	text, err := json.Marshal(o)
	n = transporttest.Network{Transport: Transport{o}, Host: c.Addr.String(), Raw: rawDial(o), Env: []string{optionsEnv + "=" + string(text)}}
	if n.Polled = o.Verb == WritePoll; n.Polled {
		n.Wait = loop.WaitSpin
	}
	return n, err
}

// leaveProcessors makes sure that the loops of a test leave a processor of Go's scheduler to the test itself, until its end, also if they spin.
func leaveProcessors(t *testing.T) {
	was := runtime.GOMAXPROCS(runtime.NumCPU() + 4)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
}

// need is network, for tests that cannot do without.
func need(t testing.TB, o Options) transporttest.Network {
	t.Helper()
	if o.Connect == ByCM && Modelled() != nil {
		t.Skip("the model has no rdma_cm")
	}
	n, err := network(o)
	testenv.Need(t, "rdma", err)
	return n
}

// modelIsEnough reports whether tests are left out that make test also has natively, over the model of a device: in an emulated guest, except in make test-long.
// TestDevicesAgree (cgo/verbs), which the guest always has, shows that the model and soft-RoCE do the same.
func modelIsEnough() bool { return transporttest.Emulated && !transporttest.Long }

// modelSuffices skips a test if modelIsEnough.
func modelSuffices(t *testing.T) {
	t.Helper()
	if modelIsEnough() {
		t.Skip("make test has it natively, over the model: a guest has it in make test-long")
	}
}

func TestMain(m *testing.M) {
	var o Options
	if text := os.Getenv(optionsEnv); text != "" {
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(err)
		}
	}
	if Built && !testenv.Required("rdma") && probe.RDMA(probe.Local()).State != probe.Available { // where the kernel has no device, and need not have one
		if err := UseModel(model.Default); err != nil {
			panic(err)
		}
	}
	n, _ := network(o)
	transporttest.Main(m, n)
}

// TestWritePoll runs the suite, or the brief suite if it is slow, with loops that spin.
func TestWritePoll(t *testing.T) {
	testenv.NotShort(t, "loops that spin")
	modelSuffices(t)
	testenv.NotRaced(t)
	leaveProcessors(t)
	run := transporttest.RunBrief
	if transporttest.Long || Modelled() == nil { // with the model on two CPUs, each turn of a loop that spins may cost a time slice
		run = transporttest.Run
	}
	run(t, need(t, Options{Verb: WritePoll}))
}

// TestRDMA runs the suite. An emulated CPU has the brief suite, unless the run is long, and make check, too. The race detector has the whole one for one verb, and make test for
// both, over the model.
func TestRDMA(t *testing.T) {
	for _, v := range []Verb{Send, Write} {
		run := transporttest.Run
		if modelIsEnough() || testenv.Short() || testing.Short() && v != Write {
			run = transporttest.RunBrief
		}
		t.Run(v.String(), func(t *testing.T) {
			if v == Send { // in a guest, the mode rdma_cm has Send
				modelSuffices(t)
			}
			run(t, need(t, Options{Verb: v}))
		})
	}
}

func BenchmarkLoopRDMANull(b *testing.B) {
	for _, v := range []Verb{Send, Write} {
		n := need(b, Options{Verb: v})
		for _, n.Wait = range []loop.Wait{loop.WaitBlock, loop.WaitSpin} {
			b.Run(v.String()+"/"+n.Wait.String(), func(b *testing.B) { transporttest.BenchmarkNull(b, n) })
		}
	}
}
