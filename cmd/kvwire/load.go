package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab/cell"
)

const loadHelp = `Examples:
  kvwire load --dir /data/kv --records 4M --value-bytes 1000
  kvwire load --dir /data/mixed --records 1M --value-bytes 16KiB --value-min-bytes 100 --value-dist zipfian
  kvwire load --dir /data/kv --workload workloada
  kvwire load --target 127.0.0.1:7070 --transport uring --records 100k
  kvwire load --target redis://127.0.0.1:6379 --transport tcp --records 100k     (or redis+unix:///run/redis/redis.sock)

Fills a store with records whose keys and values follow from --seed, so that bench can check them:
the one in --dir, or that of a running server. It ends in an error where the server has not answered for 15 s.`

// loadMix is the mix of a load.
const loadMix = "put"

const (
	loadDepth         = 64
	loadInFlightBytes = 64 << 20
)

func loadCommand(ctx context.Context, args []string) error {
	f := newFactors("load", loadHelp)
	f.set.StringVar(&f.Target, "target", "", "host:port or unix:PATH of a running server, or redis://host:port or redis+unix:///PATH")
	f.loadFlags(func(x *factor.Factor) bool { return x.Has(factor.Load) || x.Has(factor.Server) && !x.Has(factor.Bench) })
	f.Load.Depth = loadDepth // a disk writes new items in long runs, if it has many at once
	f.set.Lookup("depth").DefValue = strconv.Itoa(loadDepth)
	f.Load.Mix = loadMix
	if err := f.parse(args, nil); err != nil {
		return err
	}
	if err := f.readSource(); err != nil {
		return err
	}
	if err := f.readTarget(); err != nil {
		return err
	}
	if f.Target != "" {
		if err := f.CheckNoServerFlags(); err != nil {
			return err
		}
	}
	switch {
	case f.Target == "" && f.Store.Dir == "":
		return usagef("load needs a store: --dir, or --target")
	case f.Target == "" && f.sets("transport") && f.Server.Transport != "inproc":
		return usagef("--transport needs --target: a store in --dir is loaded without a network")
	case f.Target != "" && f.Store.Dir != "":
		return usagef("--dir and --target exclude each other")
	case f.Store.Backend != "disk":
		return usagef("load needs --backend disk, not %s: nothing would stay", f.Store.Backend)
	}
	if f.Target == "" {
		f.Server.Transport = "inproc"
	}
	if !f.sets("depth") { // of large values as many as take little memory
		f.Load.Depth = min(max(1, loadInFlightBytes/max(f.Load.Conns, 1)/max(int(f.Load.ValueBytes), 1)), f.Load.Depth)
	}
	spec, err := f.Spec()
	if err != nil {
		return err
	}
	r, err := cell.Open(ctx, &f.Settings)
	if err != nil {
		return err
	}
	f.warn()
	if b := r.Flags["backend"]; !factor.Keeps(b) {
		return errors.Join(usagef("the server at %s has the %s backend: nothing that is loaded would stay", f.Target, b), r.Close())
	}
	if items, err := r.Items(); err == nil && items > spec.Records {
		fmt.Fprintf(os.Stderr, "kvwire: the store has %d items already, and --records asks for %d: the load writes these %[2]d and keeps the others\n", items, spec.Records)
	}
	p := terminal.Stderr()
	done, err := r.Fill(ctx, spec, showProgress(p))
	p.Clear()
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("interrupted after %d of %d records, which are in the store", done.Records, spec.Records)
	}
	if err != nil {
		return err
	}
	if f.json {
		return json.NewEncoder(stdout).Encode(done)
	}
	fmt.Fprintf(stdout, "loaded %d of %d records in %v (%.0f/s)\n", done.Records, spec.Records, done.Duration.Round(time.Millisecond),
		float64(done.Records)/max(done.Duration.Seconds(), 1e-9))
	return nil
}

// showProgress shows how far a load or a measurement is, for bench.Run and bench.Load.
func showProgress(l *terminal.Line) func(bench.Progress) {
	return func(s bench.Progress) {
		if !l.OnTerminal() {
			return
		}
		left := ""
		switch {
		case s.Records > 0 && s.OpsPerS > 0:
			left = fmt.Sprintf("%d %%, %v left", 100*s.Ops/s.Records, time.Duration(float64(s.Records-min(s.Ops, s.Records))/s.OpsPerS*1e9).Round(time.Second))
		case s.Total > 0 && s.Total < bench.WindowMax: // the most of a window that ends after a number of operations
			left = fmt.Sprintf("%v left", max(0, s.Total-s.Elapsed).Round(time.Second))
		}
		l.Show("%-8s %s, %.0f/s", s.Phase, left, s.OpsPerS)
	}
}
