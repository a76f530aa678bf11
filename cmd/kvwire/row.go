package main

import (
	"net"
	"strconv"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
	"golang.org/x/sys/unix"
)

// row has the factors that the flags set: all of them for a run that did not take place.
func (f *factors) row() *report.Row {
	r := f.clientRow()
	flags := map[string]string{}
	for _, name := range serverFlags {
		if g := f.set.Lookup(name); g != nil {
			flags[name] = g.Value.String()
		}
	}
	serverFactors(r, flags)
	return r
}

// clientRow has the factors of the load and of this side.
func (f *factors) clientRow() *report.Row {
	r := &report.Row{GitRev: revision(), Seed: report.U(f.seed), Mix: f.mix, KeyDist: f.keyDist, Loop: f.loopKind,
		KeyBytes: report.I(int(f.keyBytes)), ValueBytes: report.I(int(f.valueBytes)), Records: report.U(uint64(f.records)),
		Conns: report.I(f.conns), Depth: report.I(f.depth), ClientThreads: report.I(f.clientThreads),
		ClientTransport: f.clientTransport}
	if r.ClientTransport == "" {
		r.ClientTransport = f.transport
	}
	host, _, _ := net.SplitHostPort(f.target)
	if local := f.target == "" || net.ParseIP(host).IsLoopback(); local {
		r.Hosts = report.I(1)
		if f.transport != "inproc" {
			r.Device = "loopback"
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return r
}

// serverFactors fills in what the server is, from its flags.
func serverFactors(r *report.Row, flags map[string]string) {
	r.Transport, r.Backend, r.Placement, r.Wait = flags["transport"], flags["backend"], flags["placement"], flags["wait"]
	number := func(name string) int { n, _ := strconv.Atoi(flags[name]); return n } // our own text
	if r.Placement == "dispatched" {
		net, keys := max(1, number("net-loops")), max(1, number("store-loops"))
		r.NetLoops, r.StoreLoops, r.ServerThreads = report.I(net), report.I(keys), report.I(net+keys)
	} else {
		r.ServerThreads = report.I(max(1, number("server-threads")))
	}
	if r.Transport == "tcp" {
		r.TCPEngine = "epoll"
	}
	if r.Transport == "uring" {
		r.Ring = flags["ring"]
	}
	if spin, err := time.ParseDuration(flags["spin-max"]); err == nil && r.Wait == "hybrid" {
		r.SpinMaxNs = report.I(int64(spin))
	}
	if r.Backend != "disk" {
		return
	}
	r.DiskEngine, r.Durability, r.Update = flags["disk-engine"], flags["durability"], "inplace"
	var cache bytesFlag
	if cache.Set(flags["cache-bytes"]) == nil {
		r.CacheBytes = report.I(int(cache))
	}
}

// row is a measured run's.
func (m *measured) row(s *session) *report.Row {
	f := s.f
	r := f.clientRow()
	serverFactors(r, s.flags) // the server's own word: with --target, ours would be a guess
	r.ServerCPUs, r.ClientCPUs = s.flags["server-cpus"], f.clientCPUs.String()
	sides := report.Sides{IdleCPUs: s.idle, InProcess: s.served != nil}
	before, after := m.before, m.after
	r0, w0 := before.disk()
	r1, w1 := after.disk()
	if !sides.InProcess && m.err == nil {
		sides.Server = &report.Server{Usage: after.Process.Sub(before.Process), Loops: after.Loops.Sub(before.Loops),
			Go: bench.Runtime{GCPause: after.GCPause - before.GCPause, Allocs: after.Allocs - before.Allocs}}
		if after.hasDisk() {
			sides.Server.DiskReads, sides.Server.DiskWrites = report.U(r1-r0), report.U(w1-w0)
		}
	}
	report.Fill(r, m.result, sides)
	if sides.InProcess && after.hasDisk() && m.result.Ops > 0 {
		r.DiskReadsPerOp = report.F(float64(r1-r0) / float64(m.result.Ops))
		r.DiskWritesPerOp = report.F(float64(w1-w0) / float64(m.result.Ops))
	}
	if after.hasDisk() {
		r.DirectIO, r.FixedBuffers = report.B(after.directIO()), report.B(after.fixedBuffers())
		if !after.directIO() {
			r.Note = "no O_DIRECT here: memory or the kernel's page cache, not a disk"
		}
	}
	return r
}

func (c *counters) hasDisk() bool {
	return len(c.Stores) > 0 && c.every(func(s *store.Stats) bool { return s.Backend == "disk" })
}
