package cell

import (
	"net"
	"net/netip"
	"testing"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/report"
)

func TestHostsOfDistinguishesOneMachineFromTwo(t *testing.T) {
	for target, want := range map[string]report.Int{
		"": report.I(1), "127.0.0.1:7070": report.I(1), "localhost:7070": report.I(1), "[::1]:7070": report.I(1), "0.0.0.0:7070": report.I(1), "unix:/run/kvwire": report.I(1),
		"192.0.2.1:7070": report.I(2), "[2001:db8::1]:7070": report.I(2), // documentation's: nobody's
		"server:7070": {}, "nonsense": {},
	} {
		if got := hostsOf(target); got != want {
			t.Errorf("%q: %s, want %s", target, got, want)
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Skip(err)
	}
	for _, a := range own {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		if target := netip.AddrPortFrom(p.Addr(), 7070).String(); hostsOf(target) != report.I(1) {
			t.Errorf("%s is this host's own, got %s", target, hostsOf(target))
		}
	}
}

func TestAccelIsTheGuests(t *testing.T) {
	for value, want := range map[string]string{"tcg": "tcg", "kvm": "kvm", "": "", "fast": ""} {
		t.Setenv("KVWIRE_ACCEL", value)
		if got := settings(t, fleet.Launchers{}).clientRow().Accel; got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func TestRDMAPortFillsTheWireColumns(t *testing.T) {
	p := &rdmaPort{Choice: device.Choice{Provider: "rxe", Software: true},
		Before: device.Counters{"hw_counters/rcvd_rnr_err": 1, "hw_counters/send_rnr_err": 1, "hw_counters/duplicate_request": 5},
		After:  device.Counters{"hw_counters/rcvd_rnr_err": 3, "hw_counters/send_rnr_err": 3, "hw_counters/duplicate_request": 5}}
	r := &report.Row{Hosts: report.I(1)}
	p.fill(r)
	if r.Device != "rxe" || r.RDMAProvider != "rxe" || r.RDMARnr != report.U(2) || r.RDMADupReq != report.U(0) || r.RDMASeqErr.Known() || r.RDMARetryExceeded.Known() {
		t.Errorf("%+v", r)
	}
	r = &report.Row{Hosts: report.I(2)}
	p.fill(r)
	if r.RDMARnr != report.U(4) {
		t.Errorf("both ends of a way between hosts: %s", r.RDMARnr)
	}
	r = &report.Row{Device: "loopback"}
	(*rdmaPort)(nil).fill(r)
	(*rdmaPort)(nil).look(true)
	if r.Device != "loopback" || r.RDMARnr.Known() {
		t.Errorf("a network without RDMA: %+v", r)
	}
}

func TestARowOfTheVerbReadSaysHowManyGetsWentBySend(t *testing.T) {
	for _, c := range []struct {
		share report.Float
		want  string
	}{
		{report.Float{}, ""}, {report.F(0), ""}, {report.F(0.05), ""},
		{report.F(0.051), "5 % of the gets went by SEND, not by READ: raise --rdma-export-bytes, or --warmup"},
		{report.F(0.63), "63 % of the gets went by SEND, not by READ: raise --rdma-export-bytes, or --warmup"},
	} {
		if got := fallbackNote(&report.Row{RDMAReadFallbackRatio: c.share}); got != c.want {
			t.Errorf("%s: %q", c.share, got)
		}
	}
}
