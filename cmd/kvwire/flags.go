package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/logging"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
	"github.com/spf13/pflag"
)

// factors are the flags of a command: those of the table that concern it, and its own.
type factors struct {
	set *pflag.FlagSet
	cell.Settings

	// The server.
	listen        string
	keepStdin     bool
	drainDeadline time.Duration
	acceptLoss    bool
	bounds        serverBounds
	metrics       string
	guard         guard
	logging       logging.Options
	log           *slog.Logger // after parse

	as        identity
	outputDir string
	json      bool
}

// newFactors makes the flags of a command; help is what --help begins with.
func newFactors(name, help string) *factors {
	f := &factors{set: newFlags(name, help), logging: logging.Options{Level: slog.LevelWarn}}
	f.Settings = cell.Settings{Values: factor.NewValues(), Given: f.sets, Program: cell.Program{Version: version, Revision: revision(), Network: f.network, Granted: rdma.Granted, Plan: f.plan,
		Serve: func() (*server.Server, error) { return startServer(f) },
		Note:  func(format string, args ...any) { fmt.Fprintf(os.Stderr, "kvwire: "+format+"\n", args...) }}}
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
	s.StringVar(&f.Target, "target", "", "host:port or unix:PATH of a server that runs and is loaded, or redis://host:port or redis+unix:///PATH; default: a server of its own")
	s.StringVar(&f.ServerAt, "server-at", "", "host:port of a kvwire host on another machine, where the server is started; default: here")
	f.launchFlags()
	factor.Group(s, hostsGroup, "server-at")
	s.StringVar(&f.outputDir, "output-dir", "", "append the row to runs.csv in this folder, and leave the run's latencies (hdr/) and throughput over time (timeseries.csv)")
	s.StringVar(&f.RecordDir, "record-dir", "", "leave those two there")
	s.StringVar(&f.RunID, "run-id", "", "the run's name in them")
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
	f.log = f.logging.New(os.Stderr)
	if rest != nil {
		return rest(f.set.Args())
	}
	if f.set.NArg() > 0 {
		return usagef("unexpected %q (see %s --help)", quote.URL(f.set.Arg(0)), f.set.Name())
	}
	return nil
}

// sets says whether the user gave a flag.
func (f *factors) sets(name string) bool {
	g := f.set.Lookup(name)
	return g != nil && g.Changed
}

// asUsage makes a usage error of an error.
func asUsage(err error) error { return exit.With(exit.Usage, err) }

// plan is the server's loops. It checks the server's flags, and those of the network.
func (f *factors) plan() (p loop.Plan, err error) {
	t, err := find(f.Server.Transport)
	if err != nil {
		return p, err
	}
	if f.TCP.TLS == factor.On && f.ServerAt != "" {
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
	o.AcceptLoss, o.Log = f.acceptLoss, f.log
	return o
}

// checkBench reads what the load and the target name, and checks the flags against each other, before anything is started.
func (f *factors) checkBench() (spec bench.Spec, err error) {
	if err := f.readSource(); err != nil {
		return spec, err
	}
	if err := f.readTarget(); err != nil {
		return spec, err
	}
	if f.ServerAt != "" {
		if err := checkAddress("server-at", f.ServerAt, 1); err != nil {
			return spec, err
		}
	}
	return f.Check()
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
		if err := cell.Fits(n.bytes*n.times, what); err != nil {
			return err
		}
	}
	return nil
}
