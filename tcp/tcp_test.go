package tcp

import (
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/transporttest"
)

var network = transporttest.Network{Transport: Transport{}, Stream: true}

func TestMain(m *testing.M) { transporttest.Main(m, inherited()) }

func TestTCP(t *testing.T) { transporttest.Run(t, network) }

func TestGoroutines(t *testing.T) {
	n := network
	n.Transport = Transport{Options{Engine: Goroutines, ClientEngine: Goroutines}}
	transporttest.RunUnlessShort(t, n)
}

// listenEnv is the environment variable with the address at which a child process listens.
const listenEnv = "KVWIRE_TCPTEST_HOST"

// The brief suite over unix sockets, and the suite in make test-long. Options that only TCP has do nothing there.
func TestUnixSockets(t *testing.T) {
	testenv.NotShort(t, "the code is TestTCP's and TestGoroutines'")
	for name, o := range map[string]Options{
		"epoll":      {Cork: true, QuickAck: true, ZeroCopyBytes: 1, Sockets: netsock.Options{SendBytes: 64 << 10}},
		"goroutines": {Engine: Goroutines, ClientEngine: Goroutines},
	} {
		t.Run(name, func(t *testing.T) {
			n := network
			n.Transport, n.Host = Transport{o}, transporttest.UnixHost(t)
			n.Env = []string{listenEnv + "=" + n.Host}
			if transporttest.Long {
				transporttest.RunVariant(t, n)
			} else { // TestTCP and TestGoroutines have the rest
				transporttest.RunBrief(t, n)
			}
		})
	}
}

// The suite with everything that is off by default.
func TestOptions(t *testing.T) {
	if testing.Short() {
		t.Skip("no goroutine more than TestTCP: not for the race detector, unless in make test-long")
	}
	n := network
	n.Transport = Transport{Options{Cork: true, QuickAck: true, ZeroCopyBytes: 10_000,
		Sockets: netsock.Options{Nagle: true, SendBytes: 64 << 10, ReceiveBytes: 64 << 10, ReusePort: true}}}
	transporttest.Run(t, n)
}

func TestAPortWithListenersOfEachLoopHasOneServer(t *testing.T) {
	for _, engine := range []Engine{Epoll, Goroutines} {
		t.Run(engine.String(), func(t *testing.T) {
			n := network
			n.Transport = Transport{Options{Engine: engine, ClientEngine: engine, Sockets: netsock.Options{ReusePort: true}}}
			transporttest.OnePort(t, n)
		})
	}
}

func BenchmarkLoopTCPNull(b *testing.B) { transporttest.BenchmarkNull(b, network) }

func TestRedis(t *testing.T) { transporttest.RunRedis(t, network) }

// Ten thousand connections that send nothing, and many that read slowly.
func TestBearsIdleAndSlowConnections(t *testing.T) {
	testenv.NotShort(t, "ten thousand connections")
	for name, o := range map[string]Options{"epoll": {}, "goroutines": {Engine: Goroutines}} {
		if name != "epoll" && !transporttest.Long {
			continue
		}
		t.Run(name, func(t *testing.T) {
			n := network
			n.Transport = Transport{o}
			transporttest.HoldConns(t, n, transporttest.ManyIdleAndSlow)
		})
	}
}
