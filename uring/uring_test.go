package uring

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/transport/transporttest"
)

// optionsEnv tells a child process which options it has.
const optionsEnv = "KVWIRE_URINGTEST_OPTIONS"

// network is the transport with these options.
func network(o Options) transporttest.Network {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return transporttest.Network{Transport: Transport{o}, Stream: true, Env: []string{optionsEnv + "=" + string(text)}}
}

func TestMain(m *testing.M) {
	var o Options
	if text := os.Getenv(optionsEnv); text != "" {
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(err)
		}
	}
	if errno, err := strconv.Atoi(os.Getenv(forbidEnv)); err == nil {
		if err := forbid(uint32(errno)); err != nil {
			panic(err)
		}
	}
	transporttest.Main(m, network(o))
}

func TestUring(t *testing.T) {
	testenv.Uring(t)
	for name, separate := range map[string]bool{"shared": false, "separate": true} {
		t.Run(name, func(t *testing.T) {
			n := network(Options{})
			n.Loops.SocketRing = separate
			transporttest.Run(t, n)
		})
	}
}

// The suite with what is not the default. A loop is one goroutine in all of them: shortened, for the race detector, it is some.
func TestOptions(t *testing.T) {
	testenv.Uring(t)
	all := map[string]Options{
		"linked":                           {Large: Linked},
		"multishot, bundles, fixed files":  {Multishot: true, Bundle: true, BufferBytes: 256, FixedFiles: true},
		"multishot, few and small buffers": {Multishot: true, Buffers: 2, BufferBytes: 64, BodyBytes: 300},
	}
	if !testing.Short() {
		all["step"] = Options{Large: Step}
		all["bundles, sent alone"] = Options{Bundle: true}
		all["without copy, from the first byte"] = Options{Large: ZeroCopy, ZeroCopyBytes: 1}
	}
	if transporttest.Long { // parts of those above
		all["multishot"] = Options{Multishot: true}
		all["fixed files"] = Options{FixedFiles: true}
		all["without copy, fixed files"] = Options{Large: ZeroCopy, ZeroCopyBytes: 10_000, FixedFiles: true}
	}
	for name, o := range all {
		t.Run(name, func(t *testing.T) { transporttest.Run(t, network(o)) })
	}
}

func BenchmarkLoopUringNull(b *testing.B) {
	testenv.Uring(b)
	transporttest.BenchmarkNull(b, network(Options{}))
}
