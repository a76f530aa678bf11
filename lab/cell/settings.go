// Package cell owns the measurement of one cell by one process: the session of a server and a client, loads in slices and in whole windows, by this process or by load
// hosts, and the row of the result. A variant and a load host are such processes that carry out commands.
//
// It imports no network: the program gives it a Program.
package cell

import (
	"cmp"
	"context"
	"fmt"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/spf13/pflag"
)

// Settings are the flags of a cell, and the program that measures it. NewSettings makes them.
type Settings struct {
	factor.Values
	Given   factor.Given
	Program *Program
	flags   *pflag.FlagSet // of Values, and of a command

	// The server, and how the client reaches it.
	Target   string // address of a server that runs already; "": the run starts one
	Redis    bool   // Target speaks Redis's protocol
	ServerAt string // address of a kvwire host that starts the server; "": none
	Launch   fleet.Launchers
	linked   bool // Launch is that of the link that the run makes itself (planLink)
	Identity access.Identity
	identity identityFlags
	Control  bool // the loops of the run's server can be parked

	// The load.
	Workload string       // name of the property file that was read
	Replay   *bench.Trace // that was read; nil: none
	Warning  string       // about the property file or the trace: one line; "": none
	Goal     *lab.Goal    // of Load.Search, after Spec; nil: none

	RecordDir string // folder for latencies and throughput over time; "": none
	RunID     string
}

// Program is what Settings need of the program: its version, its networks and its servers. A process has one.
type Program struct {
	Version  string
	Revision string // "": not known

	Network func(name string) (*server.Network, error)
	Granted func(c transport.Conn) (inlineBytes, mtu int, known bool) // of rdma

	Plan  func(f *Settings) (loop.Plan, error)      // the server's loops; it checks the server's flags
	Works func(f *Settings) error                   // the reason why the disk engine does not work on this machine
	Serve func(f *Settings) (*server.Server, error) // starts the server in this process

	Context context.Context                  // of the command; nil: it does not end. Reading a trace ends with it
	Note    func(format string, args ...any) // prints a line for the user

	Inputs lab.Inputs // the copies of the files that flags name; the goroutine that reads settings owns it
	traces map[traceFile]*bench.Trace
}

func (p *Program) context() context.Context {
	if p.Context == nil {
		return context.Background()
	}
	return p.Context
}

// NewSettings returns settings with the defaults of all factors. The user's flags are in set, to which the caller adds those that the command has.
func NewSettings(p *Program, set *pflag.FlagSet) *Settings {
	return &Settings{Values: factor.NewValues(), Program: p, flags: set, Given: func(name string) bool {
		g := set.Lookup(name)
		return g != nil && g.Changed
	}}
}

// InProcess reports whether client and server are one process.
func (f *Settings) InProcess() bool {
	n, err := f.Program.Network(f.Server.Transport)
	return err == nil && n.Local
}

// Plan returns the loops of the server. It checks the server's flags, and those of the network.
func (f *Settings) Plan() (loop.Plan, error) {
	if f.TCP.TLS == factor.On && f.ServerAt != "" {
		return loop.Plan{}, exit.Usagef("--tls on: a kvwire host has no certificate for the servers that it starts: start them by --server-launch")
	}
	return f.Program.Plan(f)
}

// Prepare reads what the flags of the load and of the target name, and checks the flags against each other. It returns the load, and starts nothing.
func (f *Settings) Prepare() (spec bench.Spec, err error) {
	if err := cmp.Or(f.ReadSource(), f.setSizes()); err != nil {
		return spec, err
	}
	if err := f.ReadTarget(); err != nil {
		return spec, err
	}
	if f.ServerAt != "" {
		if err := factor.CheckHostPort("server-at", f.ServerAt, 1); err != nil {
			return spec, exit.With(exit.Usage, err)
		}
	}
	return f.check()
}

// LoadMix is the mix of kvwire load.
const LoadMix = "put"

// LoadDepth is the default depth of kvwire load: a disk writes new items in long runs, if it has many at once.
const LoadDepth = 64

// loadInFlightBytes bounds the values in flight of a load with the default depth.
const loadInFlightBytes = 64 << 20

// loadDepth returns the requests in flight on each of n connections or threads of a load, at most LoadDepth: fewer if values are large.
func loadDepth(n, valueBytes int) int {
	return min(LoadDepth, max(1, loadInFlightBytes/max(1, n)/max(1, valueBytes)))
}

// PrepareLoad is Prepare for kvwire load, which fills the store in --dir or that of a running server.
func (f *Settings) PrepareLoad() (spec bench.Spec, err error) {
	if err := cmp.Or(f.ReadSource(), f.setSizes()); err != nil {
		return spec, err
	}
	if err := f.ReadTarget(); err != nil {
		return spec, err
	}
	if f.Target != "" {
		if err := f.checkNoServerFlags(); err != nil {
			return spec, err
		}
	}
	if err := factor.All.CheckWords(&f.Values); err != nil {
		return spec, exit.With(exit.Usage, err)
	}
	switch {
	case f.Target == "" && f.Store.Dir == "":
		return spec, exit.Usagef("load needs a store: --dir, or --target")
	case f.Target == "" && f.Given("transport") && f.Server.Transport != "inproc":
		return spec, exit.Usagef("--transport needs --target: a store in --dir is loaded without a network")
	case f.Target != "" && f.Store.Dir != "":
		return spec, exit.Usagef("--dir and --target exclude each other")
	case f.Store.Backend != "disk":
		return spec, exit.Usagef("load needs --backend disk, not %s, which keeps nothing", f.Store.Backend)
	}
	if f.Target == "" {
		f.Server.Transport = "inproc"
	}
	if !f.Given("depth") { // fewer large values
		f.Load.Depth = min(loadDepth(f.Load.Conns, int(f.Load.ValueBytes)), f.Load.Depth)
	}
	return f.Spec()
}

// check returns the load, and an error for flags that contradict each other.
func (f *Settings) check() (spec bench.Spec, err error) {
	if f.Target != "" {
		if f.InProcess() {
			return spec, exit.Usagef("--target needs a network, not --transport %s", f.Server.Transport)
		}
		if err := f.checkNoServerFlags(); err != nil {
			return spec, err
		}
	}
	switch {
	case f.ServerAt == "":
	case f.Target != "":
		return spec, exit.Usagef("--server-at starts a server, and --target names a running one: leave one of them out")
	case f.InProcess():
		return spec, exit.Usagef("--server-at needs a network, not --transport %s", f.Server.Transport)
	case f.Given("dir"):
		return spec, exit.Usagef("--dir %s: a server at --server-at chooses its own folder: leave --dir out", f.Store.Dir)
	}
	if err := f.planLink(); err != nil {
		return spec, err
	}
	if err := f.checkLaunch(); err != nil {
		return spec, err
	}
	if spec, err = f.Spec(); err != nil || len(f.Launch.Clients) == 0 {
		return spec, err
	}
	spec.AllThreads = len(f.Launch.Clients) * f.Load.Threads
	if err := spec.Check(); err != nil {
		return spec, exit.Usagef("%d load hosts: %v", len(f.Launch.Clients), err)
	}
	return spec, nil
}

// checkNoServerFlags returns an error for flags of a server, where Target runs already.
func (f *Settings) checkNoServerFlags() error {
	for _, name := range factor.All.Names(func(x *factor.Factor) bool {
		return x.Has(factor.Server) && !x.HasAny(factor.Client|factor.Load|factor.Bench)
	}) {
		if f.Given(name) {
			return exit.Usagef("--%s applies to a server, and the server at --target %s runs already: leave it out", name, f.Target)
		}
	}
	return nil
}

// checkLaunch returns an error for launchers that other flags contradict.
func (f *Settings) checkLaunch() error {
	if err := f.Launch.Check(); err != nil || !f.Launch.Used() {
		return err
	}
	switch {
	case f.InProcess():
		return exit.Usagef("--server-launch and --client-launch need a network, not --transport %s", f.Server.Transport)
	case len(f.Launch.Clients) > 0 && f.Load.Stages > 0:
		return exit.Usagef("--stages needs the load on this host: leave out --client-launch")
	case f.Target != "":
		return exit.Usagef("--target %s names a running server: leave out --server-launch and --client-launch", f.Target)
	case f.ServerAt != "":
		return exit.Usagef("--server-at %s starts the server: leave --server-launch and --client-launch out", f.ServerAt)
	}
	return nil
}

// Spec returns the load. It checks the load's flags.
func (f *Settings) Spec() (s bench.Spec, err error) {
	l := &f.Load
	if err := factor.All.CheckWords(&f.Values); err != nil {
		return s, exit.With(exit.Usage, err)
	}
	if l.Search != "" {
		if f.Goal, err = parseGoal(l.Search); err != nil {
			return s, exit.Usagef("--search: %v", err)
		}
		switch {
		case f.Given("loop") && l.Loop != bench.Open.String():
			return s, exit.Usagef("--search needs --loop open")
		case l.TargetPerS <= 0:
			l.TargetPerS = factor.Rate(searchFrom(f.Goal, l.Duration))
		}
		l.Loop = bench.Open.String()
	}
	if f.InProcess() {
		if f.Given("client-threads") {
			return s, exit.Usagef("--client-threads: a client without a network lives on the server's loops (--server-threads; dispatched: --net-loops)")
		}
		if f.Given("client-cpus") {
			return s, exit.Usagef("--client-cpus: a client without a network lives on the server's CPUs (--server-cpus)")
		}
		l.Threads = f.Server.InprocThreads()
		l.Conns = max(l.Conns, l.Threads)
	}
	l.Threads = min(l.Threads, l.Conns) // a thread without a connection has no load
	if s = f.Values.Spec(); f.Replay != nil {
		s.Trace, s.TraceSpeed, s.TraceRepeat = f.Replay, float64(l.TraceSpeed), l.TraceRepeat
	}
	switch {
	case s.Operations > 0 && f.Given("duration"):
		return s, exit.Usagef("--operations %s and --duration %v both end the window: give one of them", &l.Operations, l.Duration)
	case s.Operations > 0 && len(f.Launch.Clients) > 0: // hosts that end at different times have no common window
		return s, exit.Usagef("--operations: load hosts end their windows together, after --duration: leave --operations out")
	case s.Operations > 0 && f.Goal != nil:
		return s, exit.Usagef("--search measures for --duration at each rate: leave --operations out")
	case s.ValueDist != bench.FixedSize && f.Store.Backend == "null":
		return s, exit.Usagef("--value-dist %s needs a backend that keeps values, not null", l.ValueDist)
	case s.ValueDist == bench.ListedSizes && len(s.ValueSizes) == 0:
		return s, exit.Usagef("--value-dist list needs --value-sizes, the list")
	case s.ValueDist == bench.FixedSize && f.Given("value-min-bytes"):
		return s, exit.Usagef("--value-min-bytes needs --value-dist uniform or zipfian")
	case s.Loop == bench.Open && l.TargetPerS <= 0 && f.Replay == nil:
		return s, exit.Usagef("--loop open needs --target-per-s, the arrivals per second")
	case s.Loop == bench.Closed && l.TargetPerS > 0:
		return s, exit.Usagef("--target-per-s needs --loop open")
	}
	if err := factor.All.CheckGiven(&f.Values, f.Given, factor.Any(factor.Load|factor.Bench)); err != nil {
		return s, exit.With(exit.Usage, err)
	}
	if _, err := bench.ParseMix(l.Mix); err != nil {
		return s, exit.Usagef("--%w", err)
	}
	if err := s.Check(); err != nil {
		return s, exit.With(exit.Usage, err)
	}
	return s, f.checkAmounts(s)
}

// dataBytesMax bounds the keys and values of all records together: with a multiple of it, the sizes of files, indexes and estimates still fit 63 bits.
const dataBytesMax = 1 << 56

// checkAmounts returns an error for flags whose product exceeds any machine, or the memory of this one.
func (f *Settings) checkAmounts(s bench.Spec) error {
	if f.Replay == nil && float64(s.Records)*float64(s.KeyBytes+s.ValueBytes) > dataBytesMax {
		return exit.Usagef("--records %s × (--key-bytes %s + --value-bytes %s): 64 PiB of keys and values at most", &f.Load.Records, &f.Load.KeyBytes, &f.Load.ValueBytes)
	}
	if len(f.Launch.Clients) > 0 { // each load host checks its own memory
		return nil
	}
	return fitsRequests(s)
}

// fitsRequests returns an error for more requests in flight than this machine has memory for.
func fitsRequests(s bench.Spec) error {
	each := s.RequestBytes()
	what := fmt.Sprintf("--conns %d × --depth %d × %s for each request", s.Conns, s.Depth, report.Size(int64(each)))
	return exit.With(exit.Usage, probe.Fits(float64(s.Conns)*float64(s.Depth)*float64(each), what))
}
