package device

import (
	"io/fs"
	"strconv"
)

// Counters are a port's, by their place in sysfs: "hw_counters/duplicate_request", "counters/port_xmit_data". Each has
// its driver's unit (port_xmit_data: 4 bytes). What is missing, or "N/A", is not in it: missing is not 0.
type Counters map[string]uint64

// ReadCounters reads the counters of a choice's port. The kernel may answer with values of up to 10 ms ago.
func ReadCounters(s *System, c Choice) Counters {
	p := Port{Device: c.Device, Number: c.Port}
	all := Counters{}
	s.readCounters(all, "counters/", p.dir()+"/counters")
	s.readCounters(all, "hw_counters/", p.dir()+"/hw_counters")
	s.readCounters(all, "hw_counters/", class(c.Device)+"/hw_counters") // some are the device's: only where the port has none
	return all
}

func (s *System) readCounters(to Counters, prefix, dir string) {
	entries, _ := fs.ReadDir(s.Host.Root, dir)
	for _, e := range entries {
		name := prefix + e.Name()
		if _, has := to[name]; has || e.Name() == "lifespan" { // a setting: how long the kernel caches the others
			continue
		}
		text, _ := s.read(dir + "/" + e.Name())
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			to[name] = n
		}
	}
}

// Sub is what was counted since before. What is missing on either side, or has gone backwards (it was reset, or is
// narrow and wrapped), is missing.
func (after Counters) Sub(before Counters) Counters {
	d := Counters{}
	for name, n := range after {
		if b, ok := before[name]; ok && n >= b {
			d[name] = n - b
		}
	}
	return d
}

// Count is a number of events, or not known.
type Count struct {
	N     uint64
	Known bool
}

// Wire is what a port counted of troubles on the way, in the terms of runs.csv.
type Wire struct {
	RNR           Count // a message came and no receive was posted
	DupReq        Count // a request came twice
	SeqErr        Count // a packet was missing
	RetryExceeded Count // a queue pair gave up
}

// events are counters' names: by who sees the event, since some are counted at both ends. An event is the sum of
// those of a row's names that are there.
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

// Wire reads rxe's, mlx5's and bnxt_re's names (rxe_hw_counters.c, mlx5's counters.c and bnxt_re's hw_counters.c in
// the kernel); other drivers' counts are not known. A negative acknowledgement is counted where it is sent and where
// it is received. With both ends on this port (loopback) one of the two is taken, and else both: one is then
// the peer's trouble and one is ours.
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
