package cell

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/report"
)

// rdmaPort is the RDMA port that a client uses, with its counters at the ends of the window. Load hosts send it as JSON.
type rdmaPort struct {
	Choice        device.Choice
	Before, After device.Counters
}

// findRDMAPort returns the port on the way to the server; nil for other networks, and if it is not found.
func findRDMAPort(f *Settings, addr string) *rdmaPort {
	to, err := netip.ParseAddrPort(addr)
	if f.Server.Transport != "rdma" || err != nil {
		return nil
	}
	c, err := device.PickForPeer(device.Local(), to.Addr())
	if err != nil {
		return nil
	}
	return &rdmaPort{Choice: c}
}

// look reads the counters at an end of the window.
func (p *rdmaPort) look(begin bool) {
	switch {
	case p == nil:
	case begin:
		p.Before = device.ReadCounters(device.Local(), p.Choice)
	default:
		p.After = device.ReadCounters(device.Local(), p.Choice)
	}
}

// fill writes to r the device and what it counted.
func (p *rdmaPort) fill(r *report.Row) {
	if p == nil {
		return
	}
	r.Device, r.RDMAProvider = p.Choice.Kind(), p.Choice.Provider
	w := p.After.Sub(p.Before).Wire(r.Hosts == report.I(1))
	for _, c := range []struct {
		to   *report.Uint
		from device.Count
	}{{&r.RDMARnr, w.RNR}, {&r.RDMADupReq, w.DupReq}, {&r.RDMASeqErr, w.SeqErr}, {&r.RDMARetryExceeded, w.RetryExceeded}} {
		if c.from.Known {
			*c.to = report.U(c.from.N)
		}
	}
}

// ports adds up the counters of the hosts' RDMA ports, each port once; nil without RDMA.
func (s *loadHosts) ports() *rdmaPort {
	var sum *rdmaPort
	seen := map[string]bool{}
	for _, h := range s.hosts {
		p := h.port
		if p == nil {
			continue
		}
		if sum == nil {
			sum = &rdmaPort{Choice: p.Choice, Before: device.Counters{}, After: device.Counters{}}
		}
		id := fmt.Sprint(cmp.Or(h.Host.Machine, h.Name), p.Choice.Device, p.Choice.Port)
		if seen[id] {
			continue
		}
		seen[id] = true
		for name, n := range p.After.Sub(p.Before) {
			sum.Before[name] = 0
			sum.After[name] += n
		}
	}
	return sum
}
