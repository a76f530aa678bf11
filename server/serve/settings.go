// Package serve owns a server that factors and flags describe: its networks, bounds, access, disk engine and
// temporary folder, the checks of serve --check, and the life of the process of kvwire serve. It is the only package
// besides verify that imports all networks. It has no code for loads and clients.
package serve

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/plural"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/uring"
)

// Settings describe a server by factors and flags: what `kvwire serve` and the runs of an experiment start. Values and Given must be set.
type Settings struct {
	*factor.Values
	Given factor.Given // reports whether the user gave a flag

	Listen        string // "": a port of loopback
	Metrics       string // the address of the metrics port; "": none
	Bounds        Bounds
	Access        Access
	AcceptLoss    bool
	DrainDeadline time.Duration

	Log      *slog.Logger // nil: nothing is logged
	Progress Progress     // of opening the store; nil: it is not shown
}

// Progress shows how much of a store has been read.
type Progress interface {
	Show(shard, shards int, done, total int64) // bytes of a shard; any goroutine may call it
	Clear()                                    // at the end
}

// BindFactors adds the factors of a server to the flags.
func (s *Settings) BindFactors(set *pflag.FlagSet) {
	t := slices.Clone(factor.All)
	t.Find("value-bytes").Help = "size of the values that the null backend answers with; values of up to 1 MiB, or of this size if it is larger, are accepted"
	t.Find("scan-items").Help = "scans of that many such values fit an answer"
	t.Bind(set, s.Values, factor.Any(factor.Server))
}

// InProcess reports whether client and server are one process.
func (s *Settings) InProcess() bool {
	n, err := FindNetwork(s.Server.Transport)
	return err == nil && n.Local
}

// Plan returns the server's loops. It checks the server's factors, and those of the network.
func (s *Settings) Plan() (p loop.Plan, err error) {
	n, err := FindNetwork(s.Server.Transport)
	if err != nil {
		return p, err
	}
	if err := s.CheckServer(s.Given); err != nil {
		return p, exit.With(exit.Usage, err)
	}
	if p, err = s.Values.Plan(n.Transport(s.Values, nil, nil).Sleep(), n.Local); err == nil && s.OnDisk() {
		err = s.CheckStore(s.limits())
	}
	return p, exit.With(exit.Usage, err)
}

// limits are the largest key and value: 1 MiB, or what the load needs.
func (s *Settings) limits() kv.Limits {
	value := max(1<<20, int(s.Load.ValueBytes))
	if answer := s.Load.ScanItems * (int(s.Load.ValueBytes) + int(s.Load.KeyBytes) + kv.ItemHeaderBytes); answer > value {
		value = min(answer, store.ValueBytesMax)
	}
	return kv.Limits{MaxKeyBytes: cmp.Or(int(s.Bounds.keyBytes), store.KeyBytesMax), MaxValueBytes: cmp.Or(int(s.Bounds.valueBytes), value)}
}

// storeOptions are the options of each of the shards.
func (s *Settings) storeOptions(shards int) store.Options {
	o := s.StoreOptions(shards, s.limits())
	o.AcceptLoss, o.Log = s.AcceptLoss, s.log()
	return o
}

// options are those of the connections, without a log.
func (s *Settings) options() transport.ServerOptions {
	b := &s.Bounds
	return transport.ServerOptions{Limits: s.limits(), Depth: cmp.Or(b.depth, max(s.Load.Depth, 256)), MaxConns: b.conns, HelloMax: b.hello, StallMax: b.stall, IdleMax: b.idle,
		ConnBytes: int(b.connBytes), PoolBytes: int(b.poolBytes), InOrder: !s.OnDisk(), Access: s.Access.list}
}

func (s *Settings) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// Start checks the settings and starts the server in this process. The caller closes it.
func (s *Settings) Start() (*server.Server, error) {
	n, err := FindNetwork(s.Server.Transport)
	if err != nil {
		return nil, err
	}
	s.ChooseEngine()
	plan, err := s.Plan()
	if err != nil {
		return nil, err
	}
	if err := n.Use(s.Values); err != nil {
		return nil, err
	}
	if err := s.EngineWorks(); err != nil {
		return nil, err
	}
	if err := s.checkAmounts(&plan); err != nil {
		return nil, err
	}
	if err := checkAddressSpace(&plan, int64(s.Store.CacheBytes)); err != nil {
		return nil, err
	}
	c := server.Config{Network: n.Transport(s.Values, s.Access.tls, nil), Plan: plan, Listen: cmp.Or(s.Listen, "127.0.0.1:0"), Options: s.options(), Flags: s.ServerTexts(), Log: s.log()}
	if found, enough := s.memory(&plan); !enough {
		c.Log.Warn("the server may need more memory than there is", "found", found)
	}
	if n.Name == "rdma" && !s.RDMA.Modelled() {
		if _, err := s.pinned(probe.Local(), &plan); err != nil {
			return nil, err
		}
	}
	loop.SetGOMAXPROCS(plan.NetLoops + plan.StoreLoops + s.engineThreads())
	if s.OnDisk() && s.Store.Dir == "" {
		if c.Temporary, err = makeTemporary(); err != nil {
			return nil, err
		}
		s.Store.Dir = c.Temporary
	}
	c.Store = func(shards int) (store.Options, error) {
		o := s.storeOptions(shards)
		if s.Progress != nil {
			o.Progress = func(shard int, done, total int64) { s.Progress.Show(shard, shards, done, total) }
		}
		return o, nil
	}
	if s.Progress != nil {
		defer s.Progress.Clear()
	}
	v, err := server.Start(c)
	if _, local := socket.UnixPath(c.Listen); local {
		err = exit.Named(err)
	}
	return v, err
}

// checkAmounts returns an error for flags that need more memory than this machine has. The memory of connections and messages is only a bound, whose pages are
// taken when they are used: memory compares it.
func (s *Settings) checkAmounts(p *loop.Plan) error {
	loops, sockets := float64(p.NetLoops), s.Uring.Options()
	for _, n := range []struct {
		name  string
		bytes float64
		times float64
		on    bool
	}{
		{"cache-bytes", float64(s.Store.CacheBytes), 1, s.OnDisk()},
		{"rdma-export-bytes", float64(s.RDMA.ExportBytes), 1, s.Server.Transport == "rdma"},
		{"uring-buffers", float64(sockets.Buffers) * float64(sockets.BufferBytes), loops, sockets.Receive != uring.Single},
	} {
		if !s.Given(n.name) || !n.on {
			continue
		}
		what := fmt.Sprintf("--%s %s", n.name, factor.All.Find(n.name).Text(s.Values))
		if n.name == "uring-buffers" {
			what += " × --uring-buffer-bytes " + s.Uring.BufferBytes.String()
		}
		if n.times > 1 {
			what += fmt.Sprintf(" × %s", plural.Of(p.NetLoops, "loop"))
		}
		if err := probe.Fits(n.bytes*n.times, what); err != nil {
			return exit.With(exit.Usage, err)
		}
	}
	return nil
}

// checkAddressSpace returns an error for a limit of the address space under which the server could not start, or under which Go's runtime would abort it later:
// the runtime has no error for a thread without room for its stack. The reserved space is measured (a server of one loop 2.7 GiB, of two 3.7); most of it is
// never used.
func checkAddressSpace(p *loop.Plan, cacheBytes int64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &limit); err != nil || limit.Cur == unix.RLIM_INFINITY {
		return nil
	}
	loops := p.Loops()
	if need := uint64(2<<30 + int64(loops)<<30 + cacheBytes); limit.Cur < need {
		return exit.With(exit.Missing, fmt.Errorf("ulimit -v allows %d MiB of address space: a server of %s reserves up to %d, and touches little of it (ulimit -v unlimited; a cgroup bounds what is used)",
			limit.Cur>>20, plural.Of(loops, "loop"), need>>20))
	}
	return nil
}
