package device

import (
	"io/fs"
	"strconv"
)

// Counters are a port's counters, by their path in sysfs: "hw_counters/duplicate_request", "counters/port_xmit_data". Each has
// its driver's unit (port_xmit_data: 4 bytes). A counter that is missing, or "N/A", is not in the map.
type Counters map[string]uint64

// ReadCounters reads the counters of a choice's port. The kernel may return values that are up to 10 ms old.
func ReadCounters(s *System, c Choice) Counters {
	p := Port{Device: c.Device, Number: c.Port}
	all := Counters{}
	s.readCounters(all, "counters/", p.dir()+"/counters")
	s.readCounters(all, "hw_counters/", p.dir()+"/hw_counters")
	s.readCounters(all, "hw_counters/", classDir(c.Device)+"/hw_counters") // some belong to the device: used only if the port has none
	return all
}

func (s *System) readCounters(to Counters, prefix, dir string) {
	entries, _ := fs.ReadDir(s.Host.Root, dir)
	for _, e := range entries {
		name := prefix + e.Name()
		if _, has := to[name]; has || e.Name() == "lifespan" { // a setting: the time for which the kernel caches the others
			continue
		}
		text, _ := s.read(dir + "/" + e.Name())
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			to[name] = n
		}
	}
}

// Sub returns the increase since before. A counter that is missing on either side, or has fallen (it was reset, or has
// wrapped), is not in the result.
func (after Counters) Sub(before Counters) Counters {
	d := Counters{}
	for name, n := range after {
		if b, ok := before[name]; ok && n >= b {
			d[name] = n - b
		}
	}
	return d
}

// Count is a number of events, if it is known.
type Count struct {
	N     uint64
	Known bool
}

// Wire has a port's counts of transmission errors, with the names of runs.csv.
type Wire struct {
	RNR           Count // a message arrived, and no receive was posted
	DupReq        Count // a request arrived twice
	SeqErr        Count // a packet was missing
	RetryExceeded Count // a queue pair failed after all retries
}

// events are the names of counters, by the end that counts the event, because some events are counted at both ends. A count is the sum of
// those of a row's names that exist.
var events = []struct {
	of        func(w *Wire) *Count
	requester []string
	responder []string
}{
	{func(w *Wire) *Count { return &w.RNR },
		[]string{"rcvd_rnr_err" /* rxe */, "rnr_nak_retry_err" /* mlx5 */, "rnr_naks_rcvd" /* bnxt_re */},
		[]string{"send_rnr_err", "out_of_buffer"}},
	{func(w *Wire) *Count { return &w.DupReq },
		nil,
		[]string{"duplicate_request" /* rxe, mlx5 */, "dup_req"}},
	{func(w *Wire) *Count { return &w.SeqErr },
		[]string{"rcvd_seq_err", "packet_seq_err", "seq_err_naks_rcvd"},
		[]string{"out_of_seq_request", "out_of_sequence", "oos_drop_count"}},
	{func(w *Wire) *Count { return &w.RetryExceeded },
		[]string{"retry_exceeded_err", "retry_rnr_exceeded_err", "req_transport_retries_exceeded", "req_rnr_retries_exceeded", "max_retry_exceeded"},
		nil},
}

// Wire sums the counters of rxe, mlx5 and bnxt_re (rxe_hw_counters.c, mlx5's counters.c and bnxt_re's hw_counters.c in
// the kernel); for other drivers the counts are not known. A negative acknowledgement is counted by its sender and by its
// receiver. With both ends on this port (loopback) only one of the two counts; else both count, because they are
// different events: one at the peer, one here.
func (c Counters) Wire(loopback bool) (w Wire) {
	for _, e := range events {
		to := e.of(&w)
		*to = c.sum(e.requester)
		if responder := c.sum(e.responder); !to.Known || responder.Known && !loopback {
			to.N += responder.N
			to.Known = to.Known || responder.Known
		}
	}
	return w
}

func (c Counters) sum(names []string) (s Count) {
	for _, name := range names {
		if n, ok := c["hw_counters/"+name]; ok {
			s.N += n
			s.Known = true
		}
	}
	return s
}
