package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
	"github.com/spf13/pflag"
)

// factors are the flags of a command: those of the table that concern it, and its own.
type factors struct {
	set *pflag.FlagSet
	factor.Values

	// The server.
	listen        string
	keepStdin     bool
	control       bool // serve: obey standard input (control.go). Else: start a server that does
	drainDeadline time.Duration
	acceptLoss    bool
	bounds        serverBounds
	metrics       string
	guard         guard
	logging       logging
	log           *slog.Logger // see logger

	// The load.
	loadSource
	target   string
	redis    bool // target is a Redis's
	as       identity
	serverAt string
	launch   launchers
	goal     *goal // of Load.Search

	outputDir string
	recordDir string
	runID     string
	json      bool
}

// newFactors makes the flags of a command; help is what --help begins with.
func newFactors(name, help string) *factors {
	f := &factors{set: newFlags(name, help), Values: factor.NewValues()}
	return f
}

// spans are the ranges of the flags that are no factors.
var spans = map[string]factor.Span{
	"max-conns": {Least: "1", Most: "1048576"}, "max-depth": {Least: "1", Most: "1024"}, "max-key-bytes": {Least: "1", Most: "1KiB"}, "max-value-bytes": {Least: "0", Most: "16MiB"},
	"connection-memory": {Least: "0", Most: "1TiB"}, "message-memory": {Least: "0", Most: "1TiB"},
	"hello-deadline": {Least: "1ms", Most: "24h"}, "stall-deadline": {Least: "1ms", Most: "24h"}, "idle-deadline": {Least: "0s", Most: "8760h"}, "drain-deadline": {Least: "0s", Most: "24h"},

	"generations": {Least: "0", Most: "100"}, "blocks": {Least: "0", Most: "100"}, "slice": {Least: "0s", Most: "10s"}, "time": {Least: "0s", Most: "24h"}, "retry": {Least: "0", Most: "20"},

	"experiments": {Least: "0", Most: "10000"}, "injected": {Least: "0", Most: "10000"}, "injected-generations": {Least: "1", Most: "100"}, "pairs": {Least: "0", Most: "100"}, "whole": {Least: "0", Most: "100"},
}

// serverFlags are the factors of a server.
func (f *factors) serverFlags() {
	t := slices.Clone(factor.All)
	t.Find("value-bytes").Help = "size of the values that the null backend answers with; values of up to 1 MiB, or this, are taken"
	t.Find("scan-items").Help = "scans of that many such values fit an answer"
	t.Bind(f.set, &f.Values, factor.Any(factor.Server))
}

// loadFlags are the factors that pass, and what every load has.
func (f *factors) loadFlags(pass func(*factor.Factor) bool) {
	factor.All.Bind(f.set, &f.Values, pass)
	f.set.BoolVar(&f.json, "json", false, "print the result as JSON")
	f.identityFlags()
}

func (f *factors) benchFlags() {
	s := f.set
	f.loadFlags(factor.Any(factor.Server | factor.Load | factor.Bench))
	s.StringVar(&f.target, "target", "", "host:port or unix:PATH of a server that runs and is loaded, or redis://host:port or redis+unix:///PATH; default: a server of its own")
	s.StringVar(&f.serverAt, "server-at", "", "host:port of a kvwire host on another machine, where the server is started; default: here")
	f.launch.add(s)
	s.StringVar(&f.outputDir, "output-dir", "", "append the row to runs.csv in this folder, and leave the run's latencies (hdr/) and throughput over time (timeseries.csv)")
	s.StringVar(&f.recordDir, "record-dir", "", "leave those two there")
	s.StringVar(&f.runID, "run-id", "", "the run's name in them")
	for _, name := range []string{"record-dir", "run-id"} { // kvwire run's own
		_ = s.MarkHidden(name)
	}
}

// parse reads the arguments; what is left over is an error unless rest takes it.
func (f *factors) parse(args []string, rest func(args []string) error) error {
	factor.Limit(f.set, spans)
	if err := parseFlags(f.set, args); err != nil {
		return err
	}
	if rest != nil {
		return rest(f.set.Args())
	}
	if f.set.NArg() > 0 {
		return usagef("unexpected %q (see %s --help)", masked(f.set.Arg(0)), f.set.Name())
	}
	return nil
}

// sets says whether the user gave a flag.
func (f *factors) sets(name string) bool {
	g := f.set.Lookup(name)
	return g != nil && g.Changed
}

// asUsage makes a usage error of an error.
func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUsage, err}
}

// plan is the server's loops. It checks the server's flags, and those of the network.
func (f *factors) plan() (p loop.Plan, err error) {
	t, err := find(f.Server.Transport)
	if err != nil {
		return p, err
	}
	if f.TCP.TLS == factor.On && f.serverAt != "" {
		return p, usagef("--tls on: a kvwire host has no certificate for the servers that it starts: start them by --server-launch")
	}
	if err := f.CheckServer(f.sets); err != nil {
		return p, asUsage(err)
	}
	if p, err = f.Plan(t.sleep(), t.local); err == nil && f.OnDisk() {
		err = f.CheckStore(f.limits())
	}
	return p, asUsage(err)
}

// limits are the largest key and value that the server takes: 1 MiB, or what the load needs.
func (f *factors) limits() kv.Limits {
	value := max(1<<20, int(f.Load.ValueBytes))
	if answer := f.Load.ScanItems * (int(f.Load.ValueBytes) + int(f.Load.KeyBytes) + kv.ItemHeaderBytes); answer > value {
		value = min(answer, store.ValueBytesMax)
	}
	return kv.Limits{MaxKeyBytes: cmp.Or(int(f.bounds.keyBytes), store.KeyBytesMax), MaxValueBytes: cmp.Or(int(f.bounds.valueBytes), value)}
}

// store is the store's options, for each of the shards.
func (f *factors) store(shards int) store.Options {
	o := f.StoreOptions(shards, f.limits())
	o.AcceptLoss, o.Log = f.acceptLoss, f.logger()
	return o
}

// spec is the load. It checks the load's flags.
func (f *factors) spec() (s bench.Spec, err error) {
	l := &f.Load
	if err := factor.All.CheckWords(&f.Values); err != nil {
		return s, asUsage(err)
	}
	if l.Search != "" {
		if f.goal, err = parseGoal(l.Search); err != nil {
			return s, usagef("--search: %v", err)
		}
		switch {
		case f.sets("loop") && l.Loop != bench.Open.String():
			return s, usagef("--search needs --loop open")
		case l.TargetPerS <= 0:
			l.TargetPerS = factor.Rate(f.goal.from(l.Duration))
		}
		l.Loop = bench.Open.String()
	}
	if f.inProcess() {
		if f.sets("client-threads") {
			return s, usagef("--client-threads: a client without a network lives on the server's loops (--server-threads; dispatched: --net-loops)")
		}
		if f.sets("client-cpus") {
			return s, usagef("--client-cpus: a client without a network lives on the server's CPUs (--server-cpus)")
		}
		l.Threads = f.Server.InprocThreads()
		l.Conns = max(l.Conns, l.Threads)
	}
	if s = f.Spec(); f.replay != nil {
		s.Trace, s.TraceSpeed, s.TraceRepeat = f.replay, float64(l.TraceSpeed), l.TraceRepeat
	}
	switch {
	case s.Operations > 0 && f.sets("duration"):
		return s, usagef("--operations %s and --duration %v both end the window: give one of them", &l.Operations, l.Duration)
	case s.Operations > 0 && len(f.launch.Clients) > 0: // hosts that end at different times would be in no window together
		return s, usagef("--operations: load hosts end their windows together, after --duration: leave --operations out")
	case s.Operations > 0 && f.goal != nil:
		return s, usagef("--search measures for --duration at each rate: leave --operations out")
	case s.ValueDist != bench.FixedSize && f.Store.Backend == "null":
		return s, usagef("--value-dist %s needs a backend that keeps values, not null", l.ValueDist)
	case s.ValueDist == bench.FixedSize && f.sets("value-min-bytes"):
		return s, usagef("--value-min-bytes needs --value-dist uniform or zipfian")
	case l.Threads > l.Conns:
		return s, usagef("--client-threads %d: 1 to --conns (%d)", l.Threads, l.Conns)
	case s.Loop == bench.Open && l.TargetPerS <= 0 && f.replay == nil && f.set.Lookup("target-per-s") != nil:
		return s, usagef("--loop open needs --target-per-s, the arrivals per second")
	case s.Loop == bench.Closed && l.TargetPerS > 0:
		return s, usagef("--target-per-s needs --loop open")
	}
	if err := factor.All.CheckGiven(&f.Values, f.sets, factor.Any(factor.Load|factor.Bench)); err != nil {
		return s, asUsage(err)
	}
	if err := s.Check(); err != nil {
		return s, asUsage(err)
	}
	return s, f.checkAmounts(s)
}

// checkValue checks a value of an experiment file by itself, so that what is wrong is found at its line.
func (f *factors) checkValue() error {
	for _, check := range []func() error{
		func() error { return factor.All.CheckWords(&f.Values) },
		f.RDMA.Check, f.TCP.Check,
		func() error { _, err := bench.ParseMix(f.Load.Mix); return err },
		f.checkSource,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// dataBytesMax bounds the keys and values of all records together: with a multiple of it, the sizes of files, indexes and estimates still fit 63 bits.
const dataBytesMax = 1 << 56

// checkAmounts refuses flags whose product no machine has, or of which this machine has less memory than they take.
func (f *factors) checkAmounts(s bench.Spec) error {
	if f.replay == nil && float64(s.Records)*float64(s.KeyBytes+s.ValueBytes) > dataBytesMax {
		return usagef("--records %s × (--key-bytes %s + --value-bytes %s): 64 PiB of keys and values at most", &f.Load.Records, &f.Load.KeyBytes, &f.Load.ValueBytes)
	}
	if len(f.launch.Clients) > 0 { // the memory of other machines: each looks at its own
		return nil
	}
	return fitsRequests(s)
}

// fitsRequests refuses more requests in flight than this machine has memory for.
func fitsRequests(s bench.Spec) error {
	each := s.RequestBytes()
	return fits(float64(s.Conns)*float64(s.Depth)*float64(each), fmt.Sprintf("--conns %d × --depth %d × %s for each request", s.Conns, s.Depth, report.Size(int64(each))))
}

// checkServerAmounts is checkAmounts for a server on this machine. The memory of connections and messages is a bound, whose pages are taken by their use: memory
// says where there is less.
func (f *factors) checkServerAmounts(p *loop.Plan) error {
	loops, sockets := float64(p.NetLoops), f.Uring.Options()
	for _, n := range []struct {
		name  string
		bytes float64
		times float64
		on    bool
	}{
		{"cache-bytes", float64(f.Store.CacheBytes), 1, f.OnDisk()},
		{"rdma-export-bytes", float64(f.RDMA.ExportBytes), 1, f.Server.Transport == "rdma"},
		{"uring-buffers", float64(sockets.Buffers) * float64(sockets.BufferBytes), loops, sockets.Multishot},
	} {
		if !f.sets(n.name) || !n.on {
			continue
		}
		what := fmt.Sprintf("--%s %s", n.name, f.set.Lookup(n.name).Value)
		if n.name == "uring-buffers" {
			what += " × --uring-buffer-bytes " + f.Uring.BufferBytes.String()
		}
		if n.times > 1 {
			what += fmt.Sprintf(" × %d loops", p.NetLoops)
		}
		if err := fits(n.bytes*n.times, what); err != nil {
			return err
		}
	}
	return nil
}

// fits refuses what takes more bytes than this machine, or its control group, has memory.
func fits(need float64, what string) error {
	have, by, err := probe.Memory(probe.Local())
	if err != nil || need <= float64(have) {
		return nil // where the memory is not known, the kernel decides
	}
	return usagef("%s: %.1f GiB, and %s has %.1f GiB of memory: lower one of them", what, need/(1<<30), by, float64(have)/(1<<30))
}
