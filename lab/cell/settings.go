// Package cell owns the measurement of one cell by one process: the session of a server and a client, loads in slices and in whole windows, by this process or by load
// hosts, and the row of the result. A variant and a load host are such processes that carry out commands.
//
// It imports neither networks nor flags: the program gives it a Program.
package cell

import (
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
)

// Settings are the flags of a cell, and the program that measures it.
type Settings struct {
	factor.Values
	Given   factor.Given
	Program Program

	// The server, and how the client reaches it.
	Target   string // address of a server that runs already; "": the run starts one
	Redis    bool   // Target speaks Redis's protocol
	ServerAt string // address of a kvwire host that starts the server; "": none
	Launch   fleet.Launchers
	Identity access.Identity
	Control  bool // the loops of the run's server can be parked

	// The load.
	Workload string       // name of the property file that was read
	Replay   *bench.Trace // that was read; nil: none
	Warning  string       // about the property file or the trace: one line; "": none
	Goal     *lab.Goal    // of Load.Search, after Spec; nil: none

	RecordDir string // folder for latencies and throughput over time; "": none
	RunID     string
}

// Program is what Settings need of the program: its version, and its networks and servers.
type Program struct {
	Version  string
	Revision string // "": not known
	Network  func(name string) (*Network, error)
	Granted  func(c transport.Conn) (inlineBytes, mtu int, known bool) // of rdma
	Plan     func() (loop.Plan, error)                                 // the server's loops; it checks the server's flags
	Serve    func() (*server.Server, error)                            // starts the server in this process
	Note     func(format string, args ...any)                          // prints a line for the user
}

// Network is a transport by its name.
type Network struct {
	Name      string
	Local     bool                              // client and server are one process, and the client lives on the server's loops
	Works     func() error                      // nil: it works on this machine
	Transport func() transport.Transport        // with the options of checked Settings
	Listen    func(port uint16) (string, error) // where a server listens by default
}

// InProcess reports whether client and server are one process.
func (f *Settings) InProcess() bool {
	n, err := f.Program.Network(f.Server.Transport)
	return err == nil && n.Local
}

// Check returns the load, and an error for flags that contradict each other. It starts nothing.
func (f *Settings) Check() (spec bench.Spec, err error) {
	if f.Target != "" {
		if f.InProcess() {
			return spec, exit.Usagef("--target needs a network, not --transport %s", f.Server.Transport)
		}
		if err := f.CheckNoServerFlags(); err != nil {
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

// CheckNoServerFlags returns an error for flags of a server, where Target runs already.
func (f *Settings) CheckNoServerFlags() error {
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
	case len(f.Launch.Clients) > 0 && f.Load.Trace != "":
		return exit.Usagef("--trace %s is a file on this host, and load hosts do not have it: leave out --client-launch", f.Load.Trace)
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
	case s.ValueDist == bench.FixedSize && f.Given("value-min-bytes"):
		return s, exit.Usagef("--value-min-bytes needs --value-dist uniform or zipfian")
	case l.Threads > l.Conns:
		return s, exit.Usagef("--client-threads %d: 1 to --conns (%d)", l.Threads, l.Conns)
	case s.Loop == bench.Open && l.TargetPerS <= 0 && f.Replay == nil:
		return s, exit.Usagef("--loop open needs --target-per-s, the arrivals per second")
	case s.Loop == bench.Closed && l.TargetPerS > 0:
		return s, exit.Usagef("--target-per-s needs --loop open")
	}
	if err := factor.All.CheckGiven(&f.Values, f.Given, factor.Any(factor.Load|factor.Bench)); err != nil {
		return s, exit.With(exit.Usage, err)
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
	return Fits(float64(s.Conns)*float64(s.Depth)*float64(each), fmt.Sprintf("--conns %d × --depth %d × %s for each request", s.Conns, s.Depth, report.Size(int64(each))))
}

// Fits returns an error if bytes is more than the memory of this machine or of its control group.
func Fits(need float64, what string) error {
	have, by, err := probe.Memory(probe.Local())
	if err != nil || need <= float64(have) {
		return nil // where the memory is not known, the kernel decides
	}
	return exit.Usagef("%s: %.1f GiB, and %s has %.1f GiB of memory: lower one of them", what, need/(1<<30), by, float64(have)/(1<<30))
}
