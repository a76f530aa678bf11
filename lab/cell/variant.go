package cell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/transport"
)

// ServeVariant is a variant of a generation: it opens a session, makes the load, and carries out the commands of in until one to finish, the end of in, which ends the
// command under way, too, or the end of ctx.
func ServeVariant(ctx context.Context, f *Settings, spec bench.Spec, in io.Reader, out io.Writer) error {
	f.Control = true
	s, err := Open(ctx, f)
	if err != nil {
		return err
	}
	spec.Verify = factor.Keeps(s.Flags["backend"])
	// The process that started this one may end at any time. A reply without a reader is an error then, and does not end this process, whose server and temporary
	// folder are still to be removed.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	v := &variant{s: s, spec: spec, out: json.NewEncoder(out)}
	commands, ctx, cancel := startCommands(ctx, in, fleet.ReadLines[fleet.VariantCommand])
	defer cancel()
	if err = v.open(ctx); errors.Is(err, context.Canceled) && context.Cause(ctx) == errInputEnded {
		err = errInputEnded
	} else if err == nil {
		err = commands.serve(ctx, func(c fleet.VariantCommand) (more bool, err error) { return v.do(ctx, c) })
	}
	v.close()
	s.NoteHang(nil, err)
	return errors.Join(s.Explain(err), s.Close())
}

// variant is a session whose load is made in slices. It belongs to one goroutine.
type variant struct {
	s    *Session
	spec bench.Spec
	out  *json.Encoder

	load    sliceLoad
	started time.Time
	before  server.Parked // after the warm-up
	last    server.Parked // after the last slice
	server  serverCost
	cwnd    []int // of all slices
	slices  int
	late    int // slices in which a loop began its load after the window had begun
}

// serverCost is the CPU time of the server's process: under load, and while it was parked.
type serverCost struct {
	load, parked time.Duration
}

// open loads the data, warms up, and parks. Meanwhile it reports its progress.
func (v *variant) open(ctx context.Context) (err error) {
	show := v.progress()
	if factor.Keeps(v.s.f.Store.Backend) {
		if err := v.s.load(ctx, v.spec, show); err != nil {
			return fmt.Errorf("load %d records: %w", v.spec.Records, err)
		}
	}
	if v.spec.Warmup > 0 {
		if err := v.warm(ctx); err != nil {
			return fmt.Errorf("warm-up: %w", err)
		}
	}
	if err := v.openLoad(ctx); err != nil {
		return err
	}
	v.started, v.before = time.Now(), v.last
	return v.out.Encode(fleet.VariantReply{Ready: true})
}

// openLoad makes the load, and parks client and server.
func (v *variant) openLoad(ctx context.Context) (err error) {
	if v.load, err = v.s.openLoad(ctx, v.spec); err == nil {
		v.last, err = v.s.parkServer(ctx)
	}
	return err
}

// warmUpPart is the longest time between two replies of a variant that warms up. It is short compared with fleet.Patience.
const warmUpPart = 10 * time.Second

// warm puts the variant under load for its warm-up, without recording it.
func (v *variant) warm(ctx context.Context) error {
	if err := v.openLoad(ctx); err != nil {
		return err
	}
	var err error
	for left := v.spec.Warmup; left > 0 && err == nil; left -= warmUpPart {
		if _, err = v.slice(ctx, fleet.SliceCommand{Window: min(left, warmUpPart)}); err == nil {
			err = v.out.Encode(fleet.VariantReply{Progress: &bench.Progress{}})
		}
	}
	_, cerr := v.load.close(ctx)
	v.load, v.server, v.cwnd, v.slices, v.late = nil, serverCost{}, nil, 0, 0
	return errors.Join(err, cerr)
}

// progress reports the progress of loading.
func (v *variant) progress() func(bench.Progress) {
	return reportProgress(func(p *bench.Progress) error { return v.out.Encode(fleet.VariantReply{Progress: p}) })
}

// do carries out one command.
func (v *variant) do(ctx context.Context, c fleet.VariantCommand) (more bool, err error) {
	var r fleet.VariantReply
	switch {
	case c.Slice != nil:
		r.Slice, err = v.slice(ctx, *c.Slice)
	case c.Finish:
		r.Row, err = v.finish(ctx)
	default:
		err = errors.New("variant: a command without slice or finish (are both the same version of kvwire?)")
	}
	if err == nil {
		err = v.out.Encode(r)
	}
	return !c.Finish, err
}

// slice resumes server and client, puts them under load, and parks them.
func (v *variant) slice(ctx context.Context, c fleet.SliceCommand) (*report.Slice, error) {
	ready := make(chan error, 1)
	go func() { ready <- v.load.ready(ctx) }() // while the server prepares itself, before it resumes
	began, err := v.s.resumeServer(ctx)
	if err := errors.Join(err, <-ready); err != nil {
		return nil, err
	}
	l, err := v.load.slice(ctx, c.Settle, c.Window)
	if err != nil {
		return nil, err
	}
	if l.VerifyFailures > 0 {
		return nil, wrongData(l.VerifyFailures, l.FirstFailure)
	}
	p, err := v.s.parkServer(ctx)
	if err != nil {
		return nil, err
	}
	load, pause := time.Duration(p.CPU)-began, began-time.Duration(v.last.CPU)
	if v.slices++; l.Late > l.Settle {
		v.late++
	}
	v.server.load += load
	v.server.parked += pause
	if l.Cwnd > 0 {
		v.cwnd = append(v.cwnd, l.Cwnd)
	}
	s, server, ours := l.Row(v.spec), transport.LoopCounters{}, l.CPU
	if v.s.served == nil {
		s.ServerCPUNs, s.ServerParkedCPUNs = report.I(int64(load)), report.I(int64(pause))
		server = p.Loops.Sub(v.last.Loops)
		usage := p.Process.Sub(v.last.Process)
		s.CtxswVol, s.CtxswInvol = report.U(l.Usage.CtxVol+usage.CtxVol), report.U(l.Usage.CtxInvol+usage.CtxInvol)
		ours += load
	}
	s.FillCounters(l.ClientLoops, server)
	if p.HasDisk() {
		r0, w0 := v.last.Disk()
		r1, w1 := p.Disk()
		s.DiskReads, s.DiskWrites = report.U(r1-r0), report.U(w1-w0)
	}
	if !v.s.f.Launch.Used() && v.s.f.ServerAt == "" {
		s.FillForeign(l.Host, ours)
	}
	if cpu, ok := s.ClientCPUNs.Get(); ok && l.AllOps > 0 {
		server, _ := s.ServerCPUNs.Get()
		s.CPUNsPerOp = report.F(float64(cpu+server) / float64(l.AllOps))
	}
	v.last = p
	return s, nil
}

// finish ends the load and returns the row of all slices. It records their latencies in RecordDir.
func (v *variant) finish(ctx context.Context) (*report.Row, error) {
	sum, err := v.load.close(ctx)
	v.load = nil
	if err != nil {
		return nil, err
	}
	res := sum.result
	res.Started = v.started
	after := v.last.Counters
	if v.s.served == nil { // the processes' clocks are exact, and rusage has the proportion of user and system time
		u := after.Process.Sub(v.before.Counters.Process)
		after.Process = v.before.Counters.Process
		after.Process.Add(divide(v.server.load, u))
	}
	m := &Measured{Started: v.started, Result: res, Hosts: sum.hosts, before: v.before.Counters, after: after, port: sum.Port}
	row := v.s.Row(m)
	row.RunID = v.s.f.RunID
	v.fill(row, &sum)
	if n := len(v.cwnd); n > 0 {
		slices.Sort(v.cwnd)
		row.TCPCwnd = report.I(v.cwnd[n/2])
	}
	if dir := v.s.f.RecordDir; dir != "" {
		err = v.s.Record(dir, row, res, nil)
	}
	return row, err
}

// divide splits an exact CPU time into user and system time in the proportion of usage. Counts are those of usage.
func divide(cpu time.Duration, usage bench.Usage) bench.Usage {
	user := time.Duration(0)
	if all := usage.CPU(); all > 0 {
		user = time.Duration(float64(cpu) * float64(usage.User) / float64(all))
	}
	usage.User, usage.Sys = user, cpu-user
	return usage
}

// fill adds the columns that only runs in slices have.
func (v *variant) fill(row *report.Row, sum *loadSum) {
	all := sum.ParkedCPU
	row.ClientParkedCPUNs = report.I(int64(sum.ParkedCPU))
	if v.s.served == nil {
		row.ServerParkedCPUNs = report.I(int64(v.server.parked))
		all += v.server.parked
	}
	if sum.Parked > 0 {
		row.ParkedCPURatio = report.F(float64(all) / float64(sum.Parked))
	}
	if ops := sum.result.CostOps; sum.Visible && ops > 0 {
		row.KsoftirqdNsPerOp = report.F(float64(sum.Ksoftirqd) / float64(ops))
	}
	if v.late > 0 {
		row.Mark(fmt.Sprintf("%d of %d slices began late", v.late, v.slices))
	}
	if sum.TCP && v.s.f.Server.Transport != "rdma" && v.s.served == nil {
		row.TCPSlowStartAfterIdle = report.B(sum.SlowStart)
	}
}

// close ends a load that was not finished, and resumes the server. The session's close resumes the client.
func (v *variant) close() {
	ctx, cancel := context.WithTimeout(context.Background(), fleet.HungPatience)
	defer cancel()
	if v.load != nil {
		v.load.abandon(ctx)
	}
	if v.s.parked != nil {
		if _, err := v.s.resumeServer(ctx); err != nil && v.s.child != nil {
			v.s.child.Hung = true
		}
	}
}
