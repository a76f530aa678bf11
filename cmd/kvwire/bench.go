package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
)

const benchHelp = `Usage: kvwire bench [flags]

Examples:
  kvwire bench --transport uring --backend mem --conns 64 --depth 16 --value-bytes 1KiB
  kvwire bench --mix a --loop open --target-per-s 50k --duration 30s --output-dir results/mine
  kvwire bench --search 'p99<1ms' --duration 2s      (the highest rate with a p99 below 1 ms)
  kvwire bench --transport uring --depth 1 --stages 16   (where a request's time goes)
  kvwire bench --tls on      (its cost: compare with --tcp-engine goroutine --tcp-client-engine goroutine)
  kvwire bench --workload workloada --duration 30s   (a YCSB property file; flags override it)
  kvwire bench --trace trace.csv --trace-speed 2x    (columns time,op,key,size: each request at its time)
  kvwire bench --target redis://127.0.0.1:6379 --transport tcp --mix b     (a Redis server, loaded by kvwire load --target redis://…)
  kvwire bench --transport inproc --backend null     (the highest rate of the load generator)
  kvwire bench --transport inproc --backend raw --disk-engine aio --conns 1 --depth 64     (the highest rate of a disk engine)
  kvwire bench --server-launch 'ssh lab1' --server-addr 10.0.0.1 --client-launch 'ssh lab2' --client-launch 'ssh lab3'

Starts a server, loads it (unless --dir names a store that has as many records), warms up, measures, and prints one row. With --target it measures a server
that runs already and was loaded with the same --records, --seed and sizes: kvwire's own, or one that speaks Redis's protocol (redis://).`

func benchCommand(ctx context.Context, args []string) error {
	f := newFactors("bench", benchHelp)
	f.benchFlags()
	if err := f.parse(args, nil); err != nil {
		return err
	}
	spec, err := f.Prepare()
	if err != nil {
		return err
	}
	if f.outputDir != "" { // a folder that refuses the row is found out before the measurement, not after
		if err := results.ReadyForRow(f.outputDir); err != nil {
			return err
		}
	}
	p := terminal.Stderr()
	f.Program.Note = func(format string, args ...any) { p.Clear(); note(format, args...) }
	s, err := cell.Open(ctx, f.Settings)
	if err != nil {
		return err
	}
	f.warn()
	spec.Verify = factor.Keeps(s.Flags["backend"])
	m, err := s.Measure(ctx, spec, cell.ShowProgress(p))
	p.Clear()
	s.NoteHang(m, err)
	err = s.Explain(err)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	if m == nil {
		return err
	}
	row := s.Row(m)
	if row.RunID = f.RunID; row.RunID == "" {
		row.RunID = lab.NewRunID(m.Started)
	}
	werr := f.save(s, row, m.Result) // before the output, whose reader may have gone: then SIGPIPE ends the process
	werr = errors.Join(werr, output(f, row))
	if !f.json {
		werr = errors.Join(werr, report.PrintStages(os.Stdout, m.Result))
	}
	if err == nil {
		err = m.Verdict()
	}
	return errors.Join(err, werr)
}

// save records a run in --output-dir and --record-dir.
func (f *factors) save(s *cell.Session, row *report.Row, res *bench.Result) (err error) {
	if f.outputDir != "" {
		err = s.Record(f.outputDir, row, res, func() error { return results.AppendRow(f.outputDir, row, program().Environment()) })
	}
	if f.RecordDir != "" && f.RecordDir != f.outputDir {
		err = errors.Join(err, s.Record(f.RecordDir, row, res, nil))
	}
	return err
}

// output prints the row.
func output(f *factors, row *report.Row) error {
	if f.json {
		return json.NewEncoder(os.Stdout).Encode(row)
	}
	return report.PrintTable(os.Stdout, []report.Row{*row})
}
