package main

import (
	"log/slog"
	"maps"
	"os"
	"strings"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/logging"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/server/serve"
	"github.com/spf13/pflag"
)

// factors are the flags of a command: those of the table that concern it, and its own.
type factors struct {
	set *pflag.FlagSet
	*cell.Settings

	logging   logging.Options
	log       *slog.Logger // after parse
	outputDir string
	json      bool
}

// newFactors makes the flags of a command; help is what --help begins with.
func newFactors(name, help string) *factors {
	f := &factors{set: newFlags(name, help), logging: logging.Options{Level: slog.LevelWarn}}
	f.Settings = cell.NewSettings(program().Program, f.set)
	return f
}

// spans are the ranges of the flags that are no factors.
var spans = func() map[string]factor.Span {
	all := map[string]factor.Span{"drain-deadline": {Least: "0s", Most: "24h"},
		"generations": {Least: "0", Most: "100"}, "blocks": {Least: "0", Most: "100"}, "slice": {Least: "0s", Most: "10s"}, "time": {Least: "0s", Most: "24h"}, "retry": {Least: "0", Most: "20"},
		"experiments": {Least: "0", Most: "10000"}, "injected": {Least: "0", Most: "10000"}, "injected-generations": {Least: "1", Most: "100"}, "pairs": {Least: "0", Most: "100"}, "whole": {Least: "0", Most: "100"}}
	maps.Copy(all, serve.BoundSpans)
	return all
}()

// loadFlags adds the factors that pass, and what every load has.
func (f *factors) loadFlags(pass func(*factor.Factor) bool) {
	factor.All.Bind(f.set, &f.Values, pass)
	f.set.BoolVar(&f.json, "json", false, "print the result as JSON")
	f.BindIdentity()
}

// benchFlags adds the flags of a measured run.
func (f *factors) benchFlags() {
	s := f.set
	f.loadFlags(factor.Any(factor.Server | factor.Load | factor.Bench))
	s.StringVar(&f.Target, "target", "", "host:port or unix:PATH of a server that runs and is loaded, or redis://host:port, redis+unix:///PATH or valkey-rdma://host:port; default: a server of its own")
	s.StringVar(&f.ServerAt, "server-at", "", "host:port of a kvwire host on another machine, where the server is started; default: here")
	f.Launch.Bind(s)
	factor.Group(s, fleet.HostsGroup, "server-at")
	s.StringVar(&f.outputDir, "output-dir", "", "append the row to runs.csv in this folder, and leave the run's latencies (hdr/) and throughput over time (timeseries.csv)")
	s.StringVar(&f.RecordDir, "record-dir", "", "leave those two there")
	s.StringVar(&f.RunID, "run-id", "", "the run's name in them")
	for _, name := range []string{"record-dir", "run-id"} { // kvwire run's own
		_ = s.MarkHidden(name)
	}
}

// parse reads the arguments. Without rest, arguments other than flags are an error.
func (f *factors) parse(args []string, rest func(args []string) error) error {
	factor.Limit(f.set, spans)
	if err := parseFlags(f.set, args); err != nil {
		return err
	}
	var empty string // for example an unset variable of a shell
	f.set.Visit(func(g *pflag.Flag) {
		if g.Value.Type() == "string" && (g.DefValue == "" || strings.HasSuffix(g.Name, "dir")) && strings.TrimSpace(g.Value.String()) == "" {
			empty = g.Name
		}
	})
	if empty != "" {
		return exit.Usagef("--%s is empty: give it a value, or leave --%[1]s out (see %s --help)", empty, f.set.Name())
	}
	f.log = f.logging.New(os.Stderr)
	if rest != nil {
		return rest(f.set.Args())
	}
	if f.set.NArg() > 0 {
		return exit.Usagef("unexpected %q (see %s --help)", quote.URL(f.set.Arg(0)), f.set.Name())
	}
	return nil
}

// warn prints what the run ignores of a property file, or that a trace is long.
func (f *factors) warn() {
	if f.Warning != "" {
		note("%s", f.Warning)
	}
}
