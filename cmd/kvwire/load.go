package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab/cell"
)

const loadHelp = `Usage: kvwire load --dir DIR|--target ADDRESS [flags]

Examples:
  kvwire load --dir /data/kv --records 4M --value-bytes 1000
  kvwire load --dir /data/mixed --records 1M --value-bytes 16KiB --value-min-bytes 100 --value-dist zipfian
  kvwire load --dir /data/kv --workload workloada
  kvwire load --target 127.0.0.1:7070 --transport uring --records 100k
  kvwire load --target redis://127.0.0.1:6379 --transport tcp --records 100k     (or redis+unix:///run/redis/redis.sock)

Fills a store with records: the store in --dir, or that of a running server. Keys and values follow from --seed, so that bench can check them.
It ends with an error if the server does not answer for 15 s.`

func loadCommand(ctx context.Context, args []string) error {
	f := newFactors("load", loadHelp)
	f.set.StringVar(&f.Target, "target", "", "host:port or unix:PATH of a running server, or redis://host:port, redis+unix:///PATH or valkey-rdma://host:port")
	f.loadFlags(func(x *factor.Factor) bool { return x.Has(factor.Load) || x.Has(factor.Server) && !x.Has(factor.Bench) })
	f.Load.Depth = cell.LoadDepth
	f.set.Lookup("depth").DefValue = strconv.Itoa(cell.LoadDepth)
	f.Load.Mix = cell.LoadMix
	if err := f.parse(args, nil); err != nil {
		return err
	}
	spec, err := f.PrepareLoad()
	if err != nil {
		return err
	}
	r, err := cell.Open(ctx, f.Settings)
	if err != nil {
		return err
	}
	f.warn()
	if b := r.Flags["backend"]; !factor.Keeps(b) {
		return errors.Join(exit.Usagef("the server at %s has the %s backend, which keeps no records", f.Target, b), r.Close())
	}
	if items, err := r.Items(); err == nil && items > spec.Records {
		note("the store has %d items already, and --records asks for %d: the load writes these %[2]d and keeps the others", items, spec.Records)
	}
	p := terminal.Stderr()
	done, err := r.Fill(ctx, spec, cell.ShowProgress(p))
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
