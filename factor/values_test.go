package factor

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/uring"
)

// parsed are the values of a command line.
func parsed(t *testing.T, line string) (*Values, Given) {
	t.Helper()
	v, set := NewValues(), scratch()
	All.Bind(set, &v, func(*Factor) bool { return true })
	if err := set.Parse(strings.Fields(line)); err != nil {
		t.Fatal(err)
	}
	return &v, set.Changed
}

func TestContradictionsAreRefused(t *testing.T) {
	for line, want := range map[string]string{
		"":                                       "",
		"--transport tcp --tcp-engine goroutine": "",
		"--wait often":                           `--wait "often" is unknown (block, spin or hybrid)`,
		"--tls on --transport uring":             "TLS needs --transport tcp, not uring",
		"--tls on --client-transport uring":      "TLS needs a client over tcp, not --client-transport uring",
		"--tls on --tcp-client-engine epoll":     "TLS needs --tcp-client-engine goroutine, not epoll",
		"--tls on --tcp-cork":                    "need --tcp-engine epoll",
		"--tcp-client-engine goroutine --client-transport uring":            "--tcp-client-engine has no effect with --client-transport uring",
		"--tcp-engine goroutine --tcp-quickack":                             "need --tcp-engine epoll",
		"--tcp-busy-poll 1ns":                                               "--tcp-busy-poll 1ns: must be whole microseconds",
		"--ring separate":                                                   "--ring needs --transport uring, not tcp",
		"--net-loops 2":                                                     "--net-loops needs --placement dispatched, not colocated",
		"--server-threads 2 --placement dispatched":                         "--server-threads needs --placement colocated",
		"--spin-max 1ms":                                                    "--spin-max needs --wait hybrid, not block",
		"--transport rdma --rdma-verb write --rdma-srq":                     "rdma: a shared receive queue",
		"--transport rdma --rdma-verb write-poll --wait spin":               "",
		"--transport rdma --rdma-verb write-poll":                           "rdma: the verb write-poll needs --wait spin, not block: its messages make no event",
		"--transport rdma --rdma-verb write-poll --wait hybrid":             "rdma: the verb write-poll needs --wait spin, not hybrid",
		"--transport rdma --rdma-verb write-poll --wait spin --rdma-srq":    "rdma: a shared receive queue has no use with the verb write-poll",
		"--transport rdma --rdma-mtu 1500":                                  "rdma: path MTU 1500",
		"--transport uring --uring-napi 1500ns":                             "--uring-napi 1.5µs: must be whole microseconds",
		"--transport uring --uring-bundle --uring-large linked":             "--uring-bundle cannot be used with --uring-large linked: leave one of them out",
		"--transport uring --uring-receive multishot --uring-buffers 3":     "--uring-buffers 3: must be a power of two",
		"--transport uring --taskrun coop --sqpoll":                         "--taskrun has no effect with --sqpoll",
		"--backend null --null-busy 1us":                                    "",
		"--backend mem --null-busy 1us":                                     "--null-busy needs --backend null, not mem",
		"--backend null --null-delay 1us --transport rdma --rdma-verb read": "--null-delay applies to requests that the server answers",
	} {
		v, given := parsed(t, line)
		err := v.CheckServer(given)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, and not %q", line, err, want)
		}
	}
}

func TestTLSChoosesItsEngines(t *testing.T) {
	v, given := parsed(t, "--tls on")
	if err := v.CheckServer(given); err != nil || v.TCP.Options().Engine != tcp.Goroutines || v.TCP.Options().ClientEngine != tcp.Goroutines {
		t.Errorf("%v, %+v", err, v.TCP)
	}
}

func TestPlansOfLoops(t *testing.T) {
	inRing := loop.SleepEpoll // a build without rings has no other way
	if ring.Built {
		inRing = loop.SleepRing
	}
	for _, c := range []struct {
		line       string
		net        loop.Sleep
		local      bool
		netLoops   int
		storeLoops int
		sleep      loop.Sleep // of the loops with keys
		want       func(p *loop.Plan) bool
	}{
		{"", loop.SleepEpoll, false, 1, 1, loop.SleepEpoll, func(p *loop.Plan) bool { return p.Store.Ring && p.Net.Ring && !p.Store.SQPoll }},
		{"--server-threads 3 --backend mem", loop.SleepEpoll, false, 3, 1, loop.SleepEpoll, func(p *loop.Plan) bool { return !p.Net.Ring }},
		{"--placement dispatched --net-loops 2 --store-loops 3 --wait hybrid --spin-max 1ms", loop.SleepEpoll, false, 2, 3, inRing,
			func(p *loop.Plan) bool {
				return p.Net.Wait == loop.WaitHybrid && p.Net.SpinMax == time.Millisecond && !p.Net.Ring && p.Store.Ring
			}},
		{"--placement dispatched --disk-engine pool", loop.SleepEpoll, false, 1, 1, loop.SleepEpoll, func(p *loop.Plan) bool { return !p.Store.Ring }},
		{"--transport uring --ring separate --taskrun coop", loop.SleepRing, false, 1, 1, loop.SleepRing,
			func(p *loop.Plan) bool {
				return p.Net.SocketRing && !p.Store.SocketRing && p.Net.CoopTaskrun && p.Store.CoopTaskrun
			}},
		{"--transport inproc --backend disk --sqpoll", loop.SleepEpoll, true, 1, 1, inRing, func(p *loop.Plan) bool { return p.Store.SQPoll }},
	} {
		v, given := parsed(t, c.line)
		if err := v.CheckServer(given); err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		p, err := v.Plan(c.net, c.local)
		if err != nil || p.NetLoops != c.netLoops || p.StoreLoops != c.storeLoops || p.Store.Sleep != c.sleep || !c.want(&p) {
			t.Errorf("%s: %v, %+v", c.line, err, p)
		}
	}
}

func TestDatagramsDoNotShareARingWithSQPoll(t *testing.T) {
	for line, refused := range map[string]bool{
		"--transport udp --udp-engine uring --backend disk":                                 false,
		"--transport udp --udp-engine uring --backend disk --sqpoll":                        true,
		"--transport udp --udp-engine uring --backend disk --sqpoll --placement dispatched": false,
	} {
		v, given := parsed(t, line)
		if err := v.CheckServer(given); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if _, err := v.Plan(loop.SleepRing, false); (err != nil) != refused {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Without flags the options are their defaults.
func TestDefaultsAreThoseOfTheOptions(t *testing.T) {
	v := NewValues()
	if o := v.TCP.Options(); !reflect.DeepEqual(o, tcp.Options{}) {
		t.Errorf("tcp: %+v", o)
	}
	if o := v.Uring.Options(); o != uringDefaults {
		t.Errorf("uring: %+v", o)
	}
	if o := v.RDMA.Options(); o != rdmaDefaults {
		t.Errorf("rdma: %+v", o)
	}
	want := bench.Spec{ValueBytes: 1 << 10, Seed: 1, Conns: 4, Depth: 16, ClientThreads: 1, Warmup: 2 * time.Second, Verify: true}.Defaults()
	if s := v.Spec().Defaults(); !reflect.DeepEqual(s, want) {
		t.Errorf("load: %+v, and not %+v", s, want)
	}
}

func TestOptionsOfPartitions(t *testing.T) {
	v, _ := parsed(t, "--cache-bytes 4MiB --update inplace --disk-depth 8 --fixed-files=false")
	o := v.StoreOptions(4, kv.Limits{MaxKeyBytes: 16, MaxValueBytes: 1 << 20})
	if o.Backend != store.Disk || o.CacheBytes != 1<<20 || o.Update != store.UpdateInPlace || o.DepthMax != 8 || !o.NoFixedFiles || o.NoFixedBuffers || o.ExportEntries != 0 {
		t.Errorf("%+v", o)
	}
	v, _ = parsed(t, "--transport rdma --rdma-verb read --rdma-export-bytes 1MiB --value-bytes 1000")
	if o = v.StoreOptions(2, kv.Limits{}); o.ExportItemBytes != 1064 || o.ExportEntries != 256 {
		t.Errorf("tables of a server whose items are read: %d entries of %d B", o.ExportEntries, o.ExportItemBytes)
	}
	v, _ = parsed(t, "--transport uring --disk-engine aio --sqpoll")
	if o = v.StoreOptions(1, kv.Limits{}); o.SQPoll {
		t.Error("--sqpoll applies to the sockets here: the disk engine has no ring")
	}
	v, _ = parsed(t, "--transport uring --uring-receive multishot --uring-large step")
	if o := v.Uring.Options(); o.Receive != uring.Multishot || o.Large != uring.Step {
		t.Errorf("%+v", o)
	}
}

func TestChecksAsText(t *testing.T) {
	for text, want := range map[string]struct {
		oneIn int
		text  string
	}{"all": {0, "all"}, "none": {-1, "none"}, "sample": {64, "sample=64"}, "sample=2": {2, "sample=2"}} {
		var c Checks
		if err := c.Set(text); err != nil || int(c) != want.oneIn || c.String() != want.text {
			t.Errorf("%s: %v, %d, %s", text, err, int(c), c.String())
		}
	}
	for _, text := range []string{"", "sample=", "sample=1", "sample=-2", "sample=2000000000", "some", "64"} {
		var c Checks
		if err := c.Set(text); err == nil {
			t.Errorf("%q is %v", text, &c)
		}
	}
}

func TestListsOfSizesAsText(t *testing.T) {
	for text, want := range map[string]string{"": "", "0": "0", "4KiB, 60:3,360:1": "60:3,360,4096", "1KiB:10000": "1024:10000"} {
		var l Sizes
		if err := l.Set(text); err != nil || l.String() != want {
			t.Errorf("%q: %s, %v; want %s", text, &l, err, want)
		}
		if err := l.Set(want); err != nil || l.String() != want {
			t.Errorf("%q again: %s, %v", want, &l, err)
		}
	}
	for text, want := range map[string]string{
		",": "is not a size", "60,": "is not a size", "60;70": "is not a size", "60:": "the weight is not a whole number", "60:1.5": "the weight is not a whole number", "60:-1": "the weight -1",
		"60,60": "60 B after 60 B", "17MiB": "from 0 to 16777216", "60:10001": "at most 10000", strings.Repeat("1,", 100) + "1": "1 to 100 sizes",
	} {
		var l Sizes
		if err := l.Set(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
