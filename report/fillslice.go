package report

import (
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/loop"
)

// ClientSlice is the client's side of a slice, as measured. Of several load hosts it is their sum, but for Host and Ksoftirqd, which are the first one's,
// and Parked, which is the longest.
type ClientSlice struct {
	bench.Slice
	CPU       time.Duration // of the client's process, from resume to park
	Usage     bench.Usage   // the same, divided into user and system, with context switches
	Parked    time.Duration // the pause before the slice
	ParkedCPU time.Duration // the process's CPU time in that pause
	Host      bench.HostTimes
	Ksoftirqd time.Duration // CPU time of the kernel's threads for soft interrupts
	Visible   bool          // those threads can be seen
	Cwnd      int           // congestion window at the slice's end, in segments: the median of the connections; 0: not known
}

// Row is the client's side of a slice as a row of slices.csv.
func (l *ClientSlice) Row(spec bench.Spec) *Slice {
	s := &Slice{StartedAt: l.Began.UTC().Format(time.RFC3339Nano), SettleNs: I(int64(l.Settle)), WindowNs: I(int64(l.Window)), DrainNs: I(int64(l.Drain)),
		Ops: U(l.Ops), SliceOps: U(l.AllOps), Errors: U(l.Errors), MaxInflight: I(l.MaxInFlight),
		ClientCPUNs: I(int64(l.CPU)), ParkedNs: I(int64(l.Parked)), ClientParkedCPUNs: I(int64(l.ParkedCPU)),
		CtxswVol: U(l.Usage.CtxVol), CtxswInvol: U(l.Usage.CtxInvol)}
	if l.Window > 0 {
		s.OpsPerS = F(float64(l.Ops) / l.Window.Seconds())
	}
	if l.N > 0 {
		s.LatP50Ns, s.LatP90Ns, s.LatP99Ns = percentile(l.P50, l.N, 50), percentile(l.P90, l.N, 90), percentile(l.P99, l.N, 99)
	}
	if total := l.Host.Total(); total > 0 {
		s.HostSoftirqNs = I(int64(l.Host.SoftIRQ))
		s.StealRatio = F(float64(l.Host.Steal) / float64(total))
	}
	if l.Visible {
		s.KsoftirqdNs = I(int64(l.Ksoftirqd))
	}
	if l.Cwnd > 0 {
		s.TCPCwnd = I(l.Cwnd)
	}
	if spec.Loop == bench.Open {
		s.MissedSends = U(l.MissedSends)
		if due := l.Scheduled + l.Unsent; due > 0 {
			s.AchievedRatio = F(float64(l.Ops) / float64(due))
		}
	}
	return s
}

// FillCounters adds what the loops of both sides counted. server is the zero value where client and server are one process.
func (s *Slice) FillCounters(client, server loop.Stats) {
	both := client
	both.Add(server)
	s.ClientSyscalls, s.ServerSyscalls = U(client.Syscalls), U(server.Syscalls)
	s.ClientEnters, s.ServerEnters = U(client.Enters), U(server.Enters)
	s.ClientSQEs, s.ServerSQEs = U(client.SQEs), U(server.SQEs)
	s.ClientCQEs, s.ServerCQEs = U(client.CQEs), U(server.CQEs)
	s.Sends, s.Receives, s.BytesCopied = U(both.Sends), U(both.Receives), U(both.Copied)
	if both.Polls > 0 {
		s.RDMAPosts, s.RDMAWRs, s.RDMAPolls = U(both.Bells), U(both.WRs), U(both.Polls)
	}
}

// FillForeign adds the share of the machine's CPU time that others took. ours is the CPU time of client and server, which are on this machine.
func (s *Slice) FillForeign(host bench.HostTimes, ours time.Duration) {
	if total := host.Total(); total > 0 {
		s.ForeignCPURatio = F(max(0, float64(host.User+host.Nice+host.System-ours)/float64(total)))
	}
}
