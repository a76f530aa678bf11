package uring

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport/transporttest"
	"golang.org/x/sys/unix"
)

// optionsEnv is the environment variable with the options of a child process.
const optionsEnv = "KVWIRE_URINGTEST_OPTIONS"

// listenEnv is the environment variable with the address at which it listens.
const listenEnv = "KVWIRE_URINGTEST_HOST"

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
		if err := testenv.FailSyscall(unix.SYS_IO_URING_SETUP, unix.Errno(errno)); err != nil {
			panic(err)
		}
	}
	n := network(o)
	n.Host = os.Getenv(listenEnv)
	transporttest.Main(m, n)
}

func TestUring(t *testing.T) {
	testenv.Uring(t)
	for name, separate := range map[string]bool{"shared": false, "separate": true} {
		t.Run(name, func(t *testing.T) {
			n := network(Options{})
			n.Loops.SocketRing = separate
			if testenv.Short() || separate && !transporttest.Long { // sockets do the same by either ring
				transporttest.RunBrief(t, n)
			} else {
				transporttest.Run(t, n)
			}
		})
	}
}

// The brief suite over unix sockets, with the defaults, and with sends without copy, which unix sockets do not support. With the defaults make test-long has the suite.
func TestUnixSockets(t *testing.T) {
	testenv.Uring(t)
	for name, o := range map[string]Options{"default": {}, "without copy": {Large: ZeroCopy, ZeroCopyBytes: 1}} {
		t.Run(name, func(t *testing.T) {
			n := network(o)
			n.Host = transporttest.UnixHost(t)
			n.Env = append(n.Env, listenEnv+"="+n.Host)
			if o == (Options{}) && transporttest.Long {
				transporttest.RunVariant(t, n)
			} else {
				transporttest.RunBrief(t, n)
			}
		})
	}
}

// The suite with options that are not the default. With each of them a loop is one goroutine, so short runs and runs of the race detector try only some, in brief.
func TestOptions(t *testing.T) {
	testenv.Uring(t)
	testenv.NotShort(t, "TestUring has the defaults")
	for name, o := range map[string]Options{
		"step":                               {Large: Step},
		"linked":                             {Large: Linked},
		"linked, many chunks, large sockets": {Large: Linked, ChunkBytes: chunkLeast, SendBytes: 128 << 10, ReceiveBytes: 128 << 10},
		"single":                             {Receive: Single},
		"multishot":                          {Receive: Multishot},
		"multishot, few and small buffers":   {Receive: Multishot, Buffers: 2, BufferBytes: 64, BodyBytes: 300},
		"multishot, bundles, fixed files":    {Receive: Multishot, Bundle: true, BufferBytes: 256, FixedFiles: true},
		"bundles, sent alone":                {Bundle: true},
		"fixed files":                        {FixedFiles: true},
		"without copy, from the first byte":  {Large: ZeroCopy, ZeroCopyBytes: 1},
		"without copy, fixed files":          {Large: ZeroCopy, ZeroCopyBytes: 10_000, FixedFiles: true},
	} {
		if testing.Short() && o.Large != Linked && !o.Bundle {
			continue
		}
		if !transporttest.Long && (name == "multishot" || name == "fixed files") {
			continue // the sets with buffers of other sizes, and with fixed files and another option, cover it
		}
		t.Run(name, func(t *testing.T) {
			if transporttest.Long || o.Buffers > 0 || o.Large == ZeroCopy && o.FixedFiles { // these and the default have all ways to receive, and most to send
				transporttest.RunVariant(t, network(o))
			} else {
				transporttest.RunBrief(t, network(o))
			}
		})
	}
}

// A request with its answer costs one enter: the loop does not wake up for the completion of the send.
func TestACommandCostsOneEnter(t *testing.T) {
	testenv.Uring(t)
	l, err := loop.Start(loop.Options{Sleep: loop.SleepRing}, nil)
	if err != nil {
		t.Fatal(err)
	}
	silent := false
	if err := errors.Join(l.Call(func() { silent = l.Sockets().SkipsSuccess() }), l.Stop()); err != nil { // only the loop's thread may use its ring
		t.Fatal(err)
	}
	if !silent {
		t.Skip("before Linux 6.1 sends are not silent (SkipsSuccess)")
	}
	for name, o := range map[string]Options{"multishot": {Receive: Multishot}, "single": {Receive: Single}} {
		t.Run(name, func(t *testing.T) { transporttest.RespEnters(t, network(o), 1.2) })
	}
}

func BenchmarkLoopUringNull(b *testing.B) {
	testenv.Uring(b)
	transporttest.BenchmarkNull(b, network(Options{}))
}
