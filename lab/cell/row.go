package cell

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport/socket"
	"golang.org/x/sys/unix"
)

// Row returns a row with the factors that the flags set: all of them, for a run that was not measured.
func (f *Settings) Row() *report.Row {
	r := f.clientRow()
	serverFactors(r, f.ServerTexts())
	return r
}

// clientRow has the factors of the load and of this side.
func (f *Settings) clientRow() *report.Row {
	l := &f.Load
	r := &report.Row{GitRev: f.Program.Revision, ValueBytes: report.I(int(l.ValueBytes)), Conns: report.I(l.Conns), ClientThreads: report.I(l.Threads)}
	client, values := cmp.Or(l.ClientTransport, f.Server.Transport), factor.All.Get(&f.Values)
	get := func(name string) string { // of the client, whose network may be another
		if name == "transport" || name == "client-transport" {
			return client
		}
		return values(name)
	}
	if r.Hosts = hostsOf(cmp.Or(f.Target, f.ServerAt)); f.Launch.Used() {
		r.Hosts = report.Int{} // seen when they are there
	}
	if n := len(f.Launch.Clients); n > 0 {
		r.LoadHosts, r.Conns, r.ClientThreads = report.I(n), report.I(n*f.Load.Conns), report.I(n*f.Load.Threads)
	}
	if one := r.Hosts == report.I(1); one && !f.InProcess() && f.Server.Transport != "rdma" {
		r.Device = carriedBy(f.Target)
	}
	if f.Redis {
		r.Fabric = fabricOf(f.Target, client)
	}
	r.SetFactors(get, func(x *factor.Factor) bool {
		return x.HasAny(factor.Load|factor.Bench) && !x.Has(factor.Server) || x.Has(factor.Server|factor.Client) && client == "uring"
	})
	if client == "tcp" {
		r.TLS = f.TCP.TLS
	}
	f.sourceRow(r)
	if f.Load.Stages > 0 {
		r.Phase = "breakdown"
	}
	if accel := os.Getenv("KVWIRE_ACCEL"); slices.Contains([]string{"kvm", "tcg"}, accel) {
		r.Accel = accel
	}
	r.Kernel = kernel()
	return r
}

// kernel is the release of this machine's kernel; "": not known.
func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// hostsOf is the number of hosts of client and server, by the server's address: NA for a name, which may be either. An address that is not this host's counts as
// another host, though it may be a container's.
func hostsOf(target string) report.Int {
	host, _, err := net.SplitHostPort(target)
	if _, local := socket.UnixPath(target); local || target == "" || host == "localhost" {
		return report.I(1)
	}
	ip, perr := netip.ParseAddr(host)
	own, oerr := net.InterfaceAddrs()
	if cmp.Or(err, perr, oerr) != nil {
		return report.Int{}
	}
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() || ip.IsUnspecified() || slices.ContainsFunc(own, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == ip
	}) {
		return report.I(1)
	}
	return report.I(2)
}

// granted is what the queue pairs of a run have of what was requested.
type granted struct {
	InlineBytes int  `json:"inline_bytes"`
	MTU         int  `json:"mtu"`
	Known       bool `json:"granted"`
}

func (g *granted) fill(r *report.Row) {
	if g.Known {
		r.RDMAInlineBytes, r.RDMAMTU = report.I(g.InlineBytes), report.I(g.MTU)
	}
}

// serverFactors fills in the server's factors, from its flags.
func serverFactors(r *report.Row, flags map[string]string) {
	r.SetFactors(func(name string) string { return flags[name] }, factor.Any(factor.Server))
	number := func(name string) int { n, _ := strconv.Atoi(flags[name]); return n } // our own text
	if r.Placement != "dispatched" {
		r.ServerThreads = report.I(max(1, number("server-threads")))
		return
	}
	net, keys := max(1, number("net-loops")), max(1, number("store-loops"))
	r.NetLoops, r.StoreLoops, r.ServerThreads = report.I(net), report.I(keys), report.I(net+keys)
}

// fallbackMax is the share of gets that may go by SEND in a row of the verb read before it has a note: such a row's latencies are of both verbs.
const fallbackMax = 0.05

// fallbackNote is the note on a row of the verb read about gets that were not READs; "" if they are few.
func fallbackNote(r *report.Row) string {
	share, ok := r.RDMAReadFallbackRatio.Get()
	if !ok || share <= fallbackMax {
		return ""
	}
	return fmt.Sprintf("%.0f %% of the gets went by SEND, not by READ: raise --rdma-export-bytes, or --warmup", 100*share)
}

// Row is the row of a measured run.
func (s *Session) Row(m *Measured) *report.Row {
	f := s.f
	r := f.clientRow()
	serverFactors(r, s.Flags) // the server's own: with --target, ours would be a guess
	r.ServerCPUs, r.ClientCPUs = s.Flags["server-cpus"], f.Load.CPUs.String()
	r.DataSet = s.dataSet
	sides := report.Sides{IdleCPUs: s.idle, InProcess: s.served != nil}
	before, after := m.before, m.after
	r0, w0 := before.Disk()
	r1, w1 := after.Disk()
	if !sides.InProcess && m.err == nil {
		sides.Server = &report.Server{Usage: after.Process.Sub(before.Process), Loops: after.Loops.Sub(before.Loops),
			Go: bench.Runtime{GCPause: after.GCPause - before.GCPause, Allocs: after.Allocs - before.Allocs}, Other: f.Redis}
		if after.HasDisk() {
			sides.Server.DiskReads, sides.Server.DiskWrites = report.U(r1-r0), report.U(w1-w0)
		}
	}
	if sides.InProcess && after.HasDisk() {
		sides.DiskTransfers, sides.CPUs = r1-r0+w1-w0, len(f.Server.CPUs)
		if sides.CPUs == 0 {
			sides.CPUs = len(fleet.AllowedCPUs())
		}
	}
	sides.LinkBitsPerS = float64(f.Load.LinkRate)
	s.fillHosts(r)
	if m.Hosts != nil {
		s.addForeignCPU(m.Hosts, sides.Server)
		s.port = m.port
		report.FillHosts(r, m.Result, sides, m.Hosts)
	} else {
		report.Fill(r, m.Result, sides)
	}
	if m.err != nil {
		r.Invalidate(text(m.err))
	}
	if sides.Server != nil && s.serverApart() {
		report.FillServerHost(r, bench.HostOver(before.Host, after.Host), sides.Server.Usage)
	}
	if sides.Server != nil {
		report.FillServerQuota(r, bench.HostOver(before.Host, after.Host))
	}
	s.port.fill(r)
	s.granted.fill(r)
	if after.HasDisk() && m.err == nil {
		fillDisk(r, before.DiskEngines(), after.DiskEngines())
	}
	if bytes, items := after.Index(); items > 0 && m.err == nil {
		r.IndexBytesPerKey = report.F(float64(bytes) / float64(items))
	}
	if n := bench.ProcessResident(); n > 0 && m.Hosts == nil {
		r.ClientResidentBytes = report.I(int(n))
	}
	if !sides.InProcess && after.Resident > 0 && m.err == nil {
		r.ServerResidentBytes = report.I(int(after.Resident))
	}
	if sides.InProcess && after.HasDisk() && m.Result.Ops > 0 {
		r.DiskReadsPerOp = report.F(float64(r1-r0) / float64(m.Result.Ops))
		r.DiskWritesPerOp = report.F(float64(w1-w0) / float64(m.Result.Ops))
	}
	var notes []string
	if n := m.Result.TraceLeft; n > 0 {
		notes = append(notes, fmt.Sprintf("%d of the trace's %d rows were not sent", n, f.Replay.Rows()))
	}
	if s.port != nil && s.port.Choice.Software && s.port.Choice.Provider != device.Model && r.Wait != "block" && len(fleet.AllowedCPUs()) <= 2 {
		notes = append(notes, "polling uses CPU time that soft-RoCE needs here")
	}
	if r.Modelled() && r.Wait == "block" {
		notes = append(notes, "waking a loop that sleeps takes time of this machine, besides the modelled link's")
	}
	if after.HasDisk() {
		r.DirectIO, r.FixedBuffers = report.B(after.DirectIO()), report.B(after.FixedBuffers())
		r.FixedFiles = report.B(after.FixedFiles())
		if !after.DirectIO() {
			notes = append(notes, "no O_DIRECT here: memory or the kernel's page cache, not a disk")
		}
	}
	if f.Server.Transport == "udp" && f.UDP.Loss > 0 {
		notes = append(notes, "kvwire itself dropped "+f.UDP.Loss.String()+" of the datagrams (--net-loss)")
	}
	if note := fallbackNote(r); note != "" {
		notes = append(notes, note)
	}
	r.Note = strings.Join(notes, "; ")
	return r
}

// fillDisk writes what the disk engines did in the window.
func fillDisk(r *report.Row, before, after store.DiskStats) {
	if n := after.Transfers - before.Transfers; n > 0 {
		r.DiskSyscallsPerIO = report.F(float64(after.Syscalls-before.Syscalls) / float64(n))
		batches := float64(after.Batches - before.Batches)
		r.DiskBatchMean, r.DiskDepthMean = report.F(float64(n)/batches), report.F(float64(after.DepthSum-before.DepthSum)/batches)
		r.DiskDepthMax = report.I(after.DepthMax)
	}
}

// sourceRow fills in the source of the load, also for a run that did not take place.
func (f *Settings) sourceRow(r *report.Row) {
	r.Workload = f.Workload
	if f.Replay == nil {
		return
	}
	r.Trace, r.KeyDist, r.TraceRepeat = f.Replay.Name(), bench.TraceKeys.String(), report.B(f.Load.TraceRepeat)
	if least, most := f.Replay.ValueBytes(); least != most {
		r.ValueDist, r.ValueMinBytes = bench.TraceSizes.String(), report.I(least)
	}
	if f.Load.Loop == bench.Open.String() {
		r.TraceSpeed = report.F(float64(f.Load.TraceSpeed))
	}
}

// carriedBy is the column device of a socket to that address on this host.
func carriedBy(target string) string {
	if _, local := socket.UnixPath(target); local {
		return report.OnUnix
	}
	return "loopback" // the kernel's way to any address of its own
}

// fabricOf is what carries Redis's protocol to a target: the column fabric. client is the client's transport.
func fabricOf(target, client string) string {
	switch _, local := socket.UnixPath(target); {
	case client == "rdma":
		return client
	case local:
		return report.OnUnix
	}
	return "tcp" // of io_uring's sockets, too
}
