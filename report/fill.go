package report

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/transport"
)

// Server is what the other side of a run cost over the measured window.
type Server struct {
	Usage bench.Usage            // the server's process
	Loops transport.LoopCounters // its loops together
	Go    bench.Runtime

	DiskReads, DiskWrites Uint // NA where it does not count them
	Other                 bool // it is not kvwire: of the rest only its CPU time is known
}

// Sides has where the store ran, and the machine's load without a run.
type Sides struct {
	Server    *Server // nil: not known, or there is none
	InProcess bool    // the store is part of the client's process, whose costs are those of both

	LinkBitsPerS float64 // of the link between client and server; 0: not known

	DiskTransfers uint64 // of such a process, in the window
	CPUs          int    // … that it may use; 0: not known

	// IdleCPUs is how many CPUs are busy without a run (bench.IdleBusy). NA: then what the host
	// spent per operation is NA, too.
	IdleCPUs Float
}

// Fill writes what a run found into row: its spec's factors, outcome, generator, cost and validity. It
// does not set what a Result does not have: identity, transport, placement and so on.
func Fill(row *Row, res *bench.Result, sides Sides) {
	fillFactors(row, res)
	fillOutcome(row, res)
	fillGenerator(row, res)
	fillCost(row, res, sides)
	fillHost(row, res, sides)
	row.LimitedBy = limitedBy(row, res, sides)
	judge(row, res)
}

// limitedBy names the sides of a closed loop that had no time left, so that the numbers are theirs: more
// than 90 % of the CPU that their threads could use, in turns that found something. A process that is client and server in one waits for
// nothing but its disk, so where it had CPU time left, and its requests went to the disk, the disk is the limit. The network is the limit where the values fill the link. In an open loop a
// saturated client makes the run invalid.
func limitedBy(row *Row, res *bench.Result, sides Sides) string {
	if res.Spec.Loop != bench.Closed || res.Duration <= 0 {
		return ""
	}
	var full []string
	if res.Saturated() {
		full = append(full, "client")
		if sides.InProcess { // one thread is both
			full = append(full, "server")
		}
	}
	if s := sides.Server; s != nil && s.Loops.Turns > 0 {
		threads, _ := row.ServerThreads.Get()
		cpu := s.Usage.CPU().Seconds() / (costTime(res).Seconds() * float64(max(1, threads)))
		if busy := 1 - float64(s.Loops.EmptyTurns)/float64(s.Loops.Turns); cpu > 0.9 && busy > 0.9 {
			full = append(full, "server")
		}
	}
	if sides.InProcess && len(full) == 0 && sides.DiskTransfers > 0 {
		if cpu := res.Process.CPU().Seconds(); sides.CPUs > 0 && cpu > 0.9*costTime(res).Seconds()*float64(sides.CPUs) && res.BusyRatio > 0.5 {
			return "client+server" // all its threads together: those that reap and those of a pool, too
		}
		return "disk"
	}
	if len(full) == 0 && linkRatio(res, sides.LinkBitsPerS) > linkFull {
		return "network"
	}
	return strings.Join(full, "+")
}

// linkFull is the share of a link above which it is the limit. Ethernet's, IP's and TCP's headers take 6 % of a full segment.
const linkFull = 0.85

// linkRatio is the share of a link that a load's values fill in one direction; 0: the link is not known, or the load uses both directions.
func linkRatio(res *bench.Result, bitsPerS float64) float64 {
	m, err := bench.ParseMix(res.Spec.Mix)
	if err != nil || bitsPerS <= 0 || m.Share[bench.Get]+m.Share[bench.Scan] < 1 && m.Share[bench.Put]+m.Share[bench.Insert] < 1 {
		return 0
	}
	return 8 * res.BytesPerS() / bitsPerS
}

func fillFactors(row *Row, res *bench.Result) {
	s := res.Spec
	row.SchemaVersion = I(SchemaVersion)
	row.Seed = U(s.Seed)
	if !res.Started.IsZero() {
		row.StartedAt = res.Started.UTC().Format(time.RFC3339Nano)
	}
	row.Mix, row.KeyDist, row.Loop = s.Mix, s.KeyDist.String(), s.Loop.String()
	row.KeyBytes, row.ValueBytes, row.Records = I(s.KeyBytes), I(s.ValueBytes), U(s.Records)
	row.ValueDist, row.ValueMinBytes = s.ValueDist.String(), I(s.ValueMinBytes)
	if s.Conns > 0 {
		row.Conns = I(s.Conns)
	}
	if s.Depth > 0 {
		row.Depth = I(s.Depth)
	}
	row.ClientThreads = I(res.ClientThreads)
	if s.KeyDist == bench.Zipfian || s.KeyDist == bench.ZipfianRecords || s.KeyDist == bench.Latest {
		row.Theta = F(s.Theta)
	}
	if m, err := bench.ParseMix(s.Mix); err == nil && m.Share[bench.Scan] > 0 {
		row.ScanItems = I(s.ScanItems)
	}
	if s.Verify {
		checks := factor.Checks(s.VerifyOneIn)
		_ = row.Set("verify_values", checks.String())
	}
	if s.Loop == bench.Open {
		row.Arrival = s.Arrival.String()
		if s.Trace == nil {
			row.TargetPerS = F(s.TargetPerS)
		}
	}
	if s.Trace != nil {
		row.Trace, row.TraceRepeat = s.Trace.Name(), B(s.TraceRepeat)
		if s.Loop == bench.Open {
			row.TraceSpeed = F(s.TraceSpeed)
		}
	}
}

func fillOutcome(row *Row, res *bench.Result) {
	row.DurationNs, row.WarmupNs = I(int64(res.Duration)), I(int64(res.Warmup))
	row.Ops, row.Errors, row.Misses, row.Truncated = U(res.Ops), U(res.Errors), U(res.Misses), U(res.Truncated())
	row.Unanswered = U(res.Unanswered)
	if res.Spec.Trace != nil {
		row.ExpectedMisses = U(res.ExpectedMisses)
	}
	if res.Spec.Checks() {
		row.VerifyFailures = U(res.VerifyFailures)
	}
	if res.Duration > 0 {
		row.OpsPerS, row.GoodputBytesPerS = F(res.OpsPerS()), F(res.BytesPerS())
	}
	if h := res.Lat; h != nil && h.TotalCount() > 0 {
		row.LatMinNs, row.LatMeanNs, row.LatMaxNs = I(h.Min()), F(math.Round(h.Mean()*10)/10), I(h.Max())
		row.LatSDNs = F(math.Round(h.StdDev()*10) / 10)
		row.LatP5Ns, row.LatP50Ns, row.LatP90Ns = Percentile(h, 5), Percentile(h, 50), Percentile(h, 90)
		row.LatP99Ns, row.LatP999Ns = Percentile(h, 99), Percentile(h, 99.9)
	}
	// A closed loop sends at once: its service time is its latency.
	svc := res.Svc
	if svc == nil {
		svc = res.Lat
	}
	row.SvcP50Ns, row.SvcP99Ns, row.SvcP999Ns = Percentile(svc, 50), Percentile(svc, 99), Percentile(svc, 99.9)
}

func fillGenerator(row *Row, res *bench.Result) {
	row.MaxInflight, row.ClientCPURatio = I(res.MaxInFlight), F(res.CPURatio)
	if res.Spec.Loop != bench.Open {
		return
	}
	row.LagP50Ns, row.LagP99Ns = Percentile(res.Lag, 50), Percentile(res.Lag, 99)
	if res.Lag != nil && res.Lag.TotalCount() > 0 {
		row.LagMaxNs = I(res.Lag.Max())
	}
	row.MissedSends, row.Unsent = U(res.MissedSends), U(res.Unsent)
	if ratio, ok := res.Achieved(); ok {
		row.AchievedRatio = F(ratio)
	}
}

func fillCost(row *Row, res *bench.Result, sides Sides) {
	row.GoGCPauseNs, row.GoSchedP99Ns = I(int64(res.Go.GCPause)), I(int64(res.Go.SchedP99))
	ops := costOps(res)
	if ops == 0 {
		return
	}
	per := func(n float64) Float { return F(n / ops) }
	c := res.ClientLoops
	row.ClientUserNsPerOp, row.ClientSysNsPerOp = per(float64(res.Process.User)), per(float64(res.Process.Sys))
	row.ClientSyscallsPerOp = per(float64(c.Syscalls))
	if c.SQEs > 0 {
		row.ClientEntersPerOp, row.ClientSQEsPerOp, row.ClientCQEsPerOp = per(float64(c.Enters)), per(float64(c.SQEs)), per(float64(c.CQEs))
	}
	usage, allocs, loops, both := res.Process, res.Go.Allocs, c, c
	if s := sides.Server; s != nil {
		row.ServerUserNsPerOp, row.ServerSysNsPerOp = per(float64(s.Usage.User)), per(float64(s.Usage.Sys))
		if s.Other {
			return
		}
		row.ServerSyscallsPerOp = per(float64(s.Loops.Syscalls))
		if s.Loops.SQEs > 0 {
			row.ServerEntersPerOp, row.ServerSQEsPerOp, row.ServerCQEsPerOp = per(float64(s.Loops.Enters)), per(float64(s.Loops.SQEs)), per(float64(s.Loops.CQEs))
		}
		usage.Add(s.Usage)
		allocs += s.Go.Allocs
		both.Add(s.Loops)
		loops = s.Loops
		row.GoGCPauseNs = I(int64(max(res.Go.GCPause, s.Go.GCPause)))
		row.GoSchedP99Ns = I(int64(max(res.Go.SchedP99, s.Go.SchedP99)))
		for _, n := range []struct {
			to   *Float
			from Uint
		}{{&row.DiskReadsPerOp, s.DiskReads}, {&row.DiskWritesPerOp, s.DiskWrites}} {
			if v, ok := n.from.Get(); ok {
				*n.to = per(float64(v))
			}
		}
	} else if !sides.InProcess {
		return // half of what follows is not known
	}
	row.CtxswVolPerOp, row.CtxswInvolPerOp = per(float64(usage.CtxVol)), per(float64(usage.CtxInvol))
	row.AllocsPerOp, row.BytesCopiedPerOp = per(float64(allocs)), per(float64(both.Copied))
	if gets := both.Reads - both.ReadRetries + both.ReadSkips; gets > 0 {
		row.RDMAReadsPerOp, row.RDMAReadRetriesPerOp = per(float64(both.Reads)), per(float64(both.ReadRetries))
		row.RDMAReadFallbackRatio = F(float64(both.ReadMisses+both.ReadSkips) / float64(gets))
	}
	row.ShortsPerOp, row.NoBuffersPerOp = per(float64(both.Shorts)), per(float64(both.NoBuffers))
	row.CQOverflows, row.ZeroCopiesPerOp = U(both.Overflows), per(float64(both.ZeroCopies))
	if both.ZeroCopies > 0 {
		row.ZeroCopiedRatio = F(float64(both.ZeroCopied) / float64(both.ZeroCopies))
	}
	row.CgoCallsPerOp = per(float64(both.CCalls))
	row.SendsPerOp, row.ReceivesPerOp = per(float64(both.Sends)), per(float64(both.Receives))
	row.HopsPerOp = per(float64(both.Mail))
	if both.Polls > 0 { // there is a NIC
		row.RDMAPostsPerOp, row.RDMAWRsPerOp, row.RDMAPollsPerOp = per(float64(both.Bells)), per(float64(both.WRs)), per(float64(both.Polls))
		row.RDMAEmptyPollRatio = F(float64(both.EmptyPolls) / float64(both.Polls))
		row.RDMACQEsPerPoll = F(float64(both.WCs) / float64(both.Polls-both.EmptyPolls))
	}
	if both.Packets > 0 {
		row.UDPPacketsPerOp, row.UDPRetransmissionsPerOp = per(float64(both.Packets)), per(float64(both.Retransmits))
		row.UDPTimeoutsPerOp, row.UDPStallsPerOp = per(float64(both.Timeouts)), per(float64(both.Stalls))
		row.UDPRTTNs = F(float64(both.RoundTripNs) / float64(both.RoundTrips))
	}
	row.PollsPerOp = per(float64(loops.Turns))
	if loops.Turns > 0 {
		row.TurnsPerS, row.OpsPerTurn = F(float64(loops.Turns)/costTime(res).Seconds()), F(ops/float64(loops.Turns))
		row.EmptyPollRatio = F(float64(loops.EmptyTurns) / float64(loops.Turns))
	}
	if busy := loops.Turns - loops.EmptyTurns; busy > 0 {
		row.BatchMean = F(float64(loops.Delivered) / float64(busy))
	}
}

func fillHost(row *Row, res *bench.Result, sides Sides) {
	h := res.Host
	if v, ok := h.Throttled(); ok {
		row.ThrottledRatio = F(v)
	}
	if !h.Known || res.Duration <= 0 {
		return
	}
	row.StealRatio = F(h.Ratio(h.Steal))
	if sides.Server != nil || sides.InProcess {
		ours := res.Process.CPU()
		if hosts, _ := row.Hosts.Get(); sides.Server != nil && hosts < 2 { // else its CPU time is not this machine's
			ours += sides.Server.Usage.CPU()
		}
		// Interrupts count for no process: those of the run's own packets are among them.
		row.ForeignCPURatio = F(max(0, h.Ratio(h.User+h.Nice+h.System-ours)))
	}
	ops := costOps(res)
	if ops == 0 {
		return
	}
	row.HostSoftirqNsPerOp = F(float64(h.SoftIRQ) / ops)
	if idle, ok := sides.IdleCPUs.Get(); ok {
		row.HostBusyNsPerOp = F(max(0, float64(h.Busy())-idle*float64(res.Duration)) / ops)
	}
}

// costTime is the time in which the costs arose: the window, and of slices their settling, too.
func costTime(res *bench.Result) time.Duration {
	if res.Slices > 0 {
		return res.Duration + res.Warmup
	}
	return res.Duration
}

// costOps are the operations that the costs were spent on.
func costOps(res *bench.Result) float64 {
	if res.CostOps != 0 {
		return float64(res.CostOps)
	}
	return float64(res.Ops)
}

// Percentile is a percentile of h in ns, or NA where it is not known.
func Percentile(h *hdrhistogram.Histogram, p float64) Int {
	if h == nil {
		return Int{}
	}
	return percentile(h.ValueAtPercentile(p), uint64(h.TotalCount()), p)
}

// percentile is ns, a percentile of n values, or NA: it is known only if at least 100 values lie beyond it, on its rarer side.
func percentile(ns int64, n uint64, p float64) Int {
	if float64(n)*min(p, 100-p)/100 < 100-1e-6 {
		return Int{}
	}
	return I(ns)
}

// Limits of a valid run.
const (
	MinAchieved = 0.98 // of the arrivals of an open loop
	maxLag      = 0.10 // p99 of the send lag, of the median latency
)

// Limits above which a run gets a mark.
const (
	maxSteal   = 0.01
	maxStill   = 0.01 // share of the periods of a CPU quota in which the run was throttled
	maxForeign = 0.10
	maxDrift   = 0.05
)

// Disturbed reports whether the run has marks and nothing else is wrong with it, so that another try may be undisturbed. It does
// not look at how large the figures are.
func (r *Row) Disturbed() bool {
	steal, _ := r.StealRatio.Get()
	foreign, _ := r.ForeignCPURatio.Get()
	still, _ := r.ThrottledRatio.Get()
	steady, known := r.Steady.Get()
	errs, _ := r.Errors.Get()
	unanswered, _ := r.Unanswered.Get()
	return r.Ops.Known() && errs == 0 && unanswered == 0 && (steal > maxSteal || still > maxStill || foreign > maxForeign || known && !steady)
}

// judge sets Valid, InvalidReason and Marks. Disturbances by the machine are marks: comparisons use
// these runs, and their intervals include the noise.
func judge(row *Row, res *bench.Result) {
	var why, marks []string
	no := func(format string, a ...any) { why = append(why, fmt.Sprintf(format, a...)) }
	mark := func(format string, a ...any) { marks = append(marks, fmt.Sprintf(format, a...)) }
	if res.VerifyFailures > 0 {
		no("%d values read wrong: %s", res.VerifyFailures, res.FirstFailure)
	}
	if res.Misses > 0 && res.Spec.Verify {
		no("%d loaded records missing", res.Misses)
	}
	if res.Errors > 0 {
		no("errors: %s", res.StatusErrors())
	}
	if res.Unanswered > 0 {
		no("%d requests had no answer: their ages count as latencies", res.Unanswered)
	}
	if res.Interrupted {
		no("interrupted")
	}
	if res.Ops == 0 {
		no("no operations")
	}
	if res.Spec.Loop == bench.Open {
		judgeOpen(row, res, no)
	}
	if v, ok := row.StealRatio.Get(); ok && v > maxSteal {
		mark("steal %.1f %%", v*100)
	}
	if v, ok := row.ThrottledRatio.Get(); ok && v > maxStill {
		mark("CPU quota: throttled in %.0f %% of its periods", v*100)
	}
	if v, ok := row.ForeignCPURatio.Get(); ok && v > maxForeign {
		mark("foreign CPU %.0f %%", v*100)
	}
	if res.Drift.Known && res.Spec.Trace == nil { // a trace drifts by itself
		// Few operations differ by chance: beyond the limit and beyond chance.
		d := res.Drift.Ratio()
		steady := math.Abs(d) <= math.Max(maxDrift, res.Drift.Noise())
		row.DriftRatio, row.Steady = F(d), B(steady)
		if !steady {
			mark("drift %+.0f %%", d*100)
		}
	}
	row.Valid, row.InvalidReason = B(len(why) == 0), strings.Join(why, "; ")
	row.Marks = strings.Join(marks, "; ")
}

// Mark adds a mark. The run stays valid.
func (r *Row) Mark(what string) {
	if r.Marks != "" {
		what = r.Marks + "; " + what
	}
	r.Marks = what
}

// Invalidate makes the run invalid, and adds the reason.
func (r *Row) Invalidate(reason string) {
	if r.Valid = B(false); r.InvalidReason != "" {
		reason = r.InvalidReason + "; " + reason
	}
	r.InvalidReason = reason
}

func judgeOpen(row *Row, res *bench.Result, no func(string, ...any)) {
	if res.Unsent > 0 {
		no("%d arrivals were never sent: their ages count as latencies", res.Unsent)
	}
	if res.Saturated() {
		no("client saturated (%.0f %% of a CPU)", res.CPURatio*100)
	}
	if ratio, ok := res.Achieved(); ok && ratio < MinAchieved {
		why := fmt.Sprintf("achieved %.1f %% of the target", ratio*100)
		if short := shortSlicesOf(row, res); short.why != "" {
			why += ": " + short.why
		}
		no("%s", why)
	}
	if res.Lag == nil || res.Lag.TotalCount() == 0 {
		return
	}
	// Looked up whatever their number: to be useful, a run must not be doubtful.
	lag, p50 := res.Lag.ValueAtPercentile(99), res.Lat.ValueAtPercentile(50)
	if float64(lag) > maxLag*float64(p50) {
		no("send lag p99 %s, %.0f %% of the median", Duration(lag), 100*float64(lag)/float64(max(1, p50)))
	}
}
