package main

import (
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/transport"
)

// row is the client's side of a slice as a row of slices.csv.
func (l *loadSlice) row(spec bench.Spec) *report.Slice {
	s := &report.Slice{StartedAt: l.Began.UTC().Format(time.RFC3339Nano), SettleNs: report.I(int64(l.Settle)), WindowNs: report.I(int64(l.Window)), DrainNs: report.I(int64(l.Drain)),
		Ops: report.U(l.Ops), SliceOps: report.U(l.AllOps), Errors: report.U(l.Errors), MaxInflight: report.I(l.MaxInFlight),
		ClientCPUNs: report.I(int64(l.CPU)), ParkedNs: report.I(int64(l.Parked)), ClientParkedCPUNs: report.I(int64(l.ParkedCPU)),
		CtxswVol: report.U(l.Usage.CtxVol), CtxswInvol: report.U(l.Usage.CtxInvol)}
	if l.Window > 0 {
		s.OpsPerS = report.F(float64(l.Ops) / l.Window.Seconds())
	}
	if l.N > 0 {
		s.LatP50Ns, s.LatP90Ns, s.LatP99Ns = percentile(l.P50, l.N, 50), percentile(l.P90, l.N, 90), percentile(l.P99, l.N, 99)
	}
	if total := l.Host.Total(); total > 0 {
		s.HostSoftirqNs = report.I(int64(l.Host.SoftIRQ))
		s.StealRatio = report.F(float64(l.Host.Steal) / float64(total))
	}
	if l.Visible {
		s.KsoftirqdNs = report.I(int64(l.Ksoftirqd))
	}
	if l.Cwnd > 0 {
		s.TCPCwnd = report.I(l.Cwnd)
	}
	if spec.Loop == bench.Open {
		s.MissedSends = report.U(l.MissedSends)
		if due := l.Scheduled + l.Unsent; due > 0 {
			s.AchievedRatio = report.F(float64(l.Ops) / float64(due))
		}
	}
	return s
}

// percentile returns a percentile in ns if at least 100 values lie beyond it, else NA.
func percentile(ns int64, n uint64, p float64) report.Int {
	if float64(n)*min(p, 100-p)/100 < 100-1e-6 {
		return report.Int{}
	}
	return report.I(ns)
}

// fillCounters adds what the loops of both sides counted. server is the zero value where client and server are one process.
func fillCounters(s *report.Slice, client, server transport.LoopCounters) {
	both := client
	both.Add(server)
	s.ClientSyscalls, s.ServerSyscalls = report.U(client.Syscalls), report.U(server.Syscalls)
	s.ClientEnters, s.ServerEnters = report.U(client.Enters), report.U(server.Enters)
	s.ClientSQEs, s.ServerSQEs = report.U(client.SQEs), report.U(server.SQEs)
	s.ClientCQEs, s.ServerCQEs = report.U(client.CQEs), report.U(server.CQEs)
	s.Sends, s.Receives, s.BytesCopied = report.U(both.Sends), report.U(both.Receives), report.U(both.Copied)
	if both.Polls > 0 {
		s.RDMAPosts, s.RDMAWRs, s.RDMAPolls = report.U(both.Bells), report.U(both.WRs), report.U(both.Polls)
	}
}

// foreign is the share of the machine's CPU time that others took in a slice, where client and server are on this machine.
func foreign(host bench.HostTimes, ours time.Duration) report.Float {
	total := host.Total()
	if total <= 0 {
		return report.Float{}
	}
	return report.F(max(0, float64(host.User+host.Nice+host.System-ours)/float64(total)))
}
