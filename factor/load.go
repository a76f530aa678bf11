package factor

import (
	"strings"

	"github.com/kvwire/kvwire/bench"
)

// files are the Owners of factors whose values come from a file.
var files = []string{"workload", "trace"}

var loadRows = []Factor{
	{Name: "mix", Common: true, Group: "Load", Side: Bench, Default: "get", Owners: files, At: func(v *Values) any { return &v.Load.Mix },
		Help:    "operations: a to f (YCSB), get, put, insert, scan, rmw, or shares such as get=50,put=50",
		Meaning: "operations: a YCSB letter, a kind, or shares"},
	{Name: "key-dist", Common: true, Group: "Load", Side: Bench, Words: []string{"uniform", "zipfian", "zipfian-records", "latest"}, Owners: files, At: func(v *Values) any { return &v.Load.KeyDist },
		Help:    "distribution of keys: uniform, zipfian (YCSB's, of 10^10 ranks), zipfian-records (a rank for each record, as KVell has it: more skewed) or latest; default: that of the mix",
		Meaning: "distribution of keys; zipfian has YCSB's 10^10 ranks, zipfian-records one for each record"},
	{Name: "key-bytes", Group: "Load", Side: Load, Default: "16", Range: Span{"1", "1KiB"}, Owners: files, At: func(v *Values) any { return &v.Load.KeyBytes },
		Help: "size of keys"},
	{Name: "value-bytes", Common: true, Group: "Load", Side: Server | Load, Default: "1KiB", Range: Span{"0", "16MiB"}, ByRun: true, Owners: []string{"value-dist", "value-sizes", "workload", "trace"}, At: func(v *Values) any { return &v.Load.ValueBytes },
		Help:  "size of values, or of the largest",
		Sweep: Unless("value-dist", "list").Or("backend", "null")},
	{Name: "value-dist", Group: "Load", Side: Load, Default: "fixed", Words: []string{"fixed", "uniform", "zipfian", "list"}, Owners: files, At: func(v *Values) any { return &v.Load.ValueDist },
		Help:    "sizes of values: fixed, uniform or zipfian (short ones most often) between --value-min-bytes and --value-bytes, or those of a list, --value-sizes",
		Meaning: "sizes of values: fixed, uniform, zipfian or list",
		Sweep:   Unless("backend", "null")},
	{Name: "value-min-bytes", Group: "Load", Side: Load, Default: "0", Range: Span{"0", "16MiB"}, Owners: []string{"value-dist", "value-bytes", "value-sizes", "workload", "trace"}, At: func(v *Values) any { return &v.Load.ValueMinBytes },
		Help:  "size of the smallest values, if sizes differ",
		Sweep: Unless("backend", "null").AndNot("value-dist", "list")},
	{Name: "value-sizes", Group: "Load", Side: Load, Owners: []string{"value-dist", "workload", "trace"}, At: func(v *Values) any { return &v.Load.ValueSizes },
		Help:    "list of the values' sizes, each with a weight if they are not equally frequent: 60,360:2,4KiB",
		Meaning: "sizes of values in a list, in bytes, each with its weight if that is not 1",
		When:    Where("value-dist", "list"),
		Sweep:   Unless("backend", "null")},
	{Name: "records", Common: true, Group: "Load", Side: Load, Default: "100000", Range: Span{"1", "1099511627776"}, Owners: files, At: func(v *Values) any { return &v.Load.Records },
		Help: "number of records in the store"},
	{Name: "scan-items", Group: "Load", Side: Server | Bench, Default: "100", Range: Span{"1", "10000"}, ByRun: true, Owners: []string{"mix", "workload", "trace"}, At: func(v *Values) any { return &v.Load.ScanItems },
		Help:    "a scan asks for 1 to this many items",
		Meaning: "most items that a scan asks for; the least is 1"},
	{Name: "verify-values", Group: "Load", Side: Bench, Default: "all", ByRun: true, At: func(v *Values) any { return &v.Load.VerifyValues },
		Help:    "answers to gets and scans whose values are checked: all, none, or a sample, one in 64 at random (sample=N: one in N). A check costs the client CPU time (docs/workloads.md)",
		Meaning: "answers to gets and scans whose values were checked: all, none or sample=N, one in N at random",
		Sweep:   Unless("backend", "null")},
	{Name: "seed", Group: "Load", Side: Load, Default: "1", Range: Span{"0", "18446744073709551615"}, At: func(v *Values) any { return &v.Load.Seed },
		Help: "seed of the order of keys, of operations and of arrivals"},
	{Name: "conns", Common: true, Group: "Load", Side: Load | Client, Default: "4", Range: Span{"1", "65536"}, ByRun: true, Owners: []string{"server-threads", "client-threads"}, At: func(v *Values) any { return &v.Load.Conns },
		Help: "number of connections in all"},
	{Name: "depth", Common: true, Group: "Load", Side: Load | Client, Default: "16", Range: Span{"1", "1024"}, At: func(v *Values) any { return &v.Load.Depth },
		Help: "most requests in flight on each connection"},
	{Name: "client-threads", Common: true, Group: "Load", Side: Load | Client, Default: "1", Range: Span{"1", "1024"}, ByRun: true, Owners: []string{"server-threads"}, At: func(v *Values) any { return &v.Load.Threads },
		Help: "number of threads of the load generator, at most one for each connection", Meaning: "number of threads of the load generator"},
	{Name: "client-cpus", Group: "Load", Side: Load, ByRun: true, Owners: []string{"server-threads", "placement", "client-threads"}, At: func(v *Values) any { return &v.Load.CPUs },
		Help:    "CPUs of the load generator's process; default: other CPUs than the server's",
		Meaning: "CPUs of the client's process"},
	{Name: "link-rate", Group: "Load", Side: Bench, Default: "0", Range: Span{"0", "1000G"}, At: func(v *Values) any { return &v.Load.LinkRate },
		Help:    "bits per second of a link between server and client (2.5G), which the run makes from a veth pair and token buckets (TBF), each end in a network namespace (in a guest both in the first one); needs root; 8000 at least; 0: no link",
		Meaning: "bits per second of the link that the run made between server and client; 0: none",
		Sweep:   Where("transport", "tcp", "uring", "udp", "rdma")},
	{Name: "link-loss", Group: "Load", Side: Bench, Default: "0%", Range: Span{"0%", "50%"}, At: func(v *Values) any { return &v.Load.LinkLoss },
		Help:    "share of the packets that the link of --link-rate loses in each direction, at random (netem)",
		Meaning: "share of the packets that the link of the run's own lost, in each direction",
		When:    Unless("link-rate", "0"), Sweep: Where("transport", "tcp", "uring", "udp", "rdma")},
	{Name: "link-frames", Group: "Load", Side: Bench, Default: "false", At: func(v *Values) any { return &v.Load.LinkFrames },
		Help: "no packet on the link of --link-rate is larger than an Ethernet frame; else packets of up to 64 KiB stand for several, and are lost together",
		When: Unless("link-rate", "0"), Sweep: Where("transport", "tcp", "uring", "udp", "rdma")},
	{Name: "loop", Common: true, Group: "Load", Side: Bench, Default: "closed", Words: []string{"closed", "open"}, At: func(v *Values) any { return &v.Load.Loop },
		Help:    "closed: a completion starts the next request; open: requests arrive by the clock, --target-per-s",
		Meaning: "closed: a completion starts the next request; open: requests arrive by the clock"},
	{Name: "arrival", Group: "Load", Side: Bench, Default: "poisson", Words: []string{"poisson", "constant"}, ByRun: true, Owners: []string{"loop", "trace"}, At: func(v *Values) any { return &v.Load.Arrival },
		Help: "open loop: random times between arrivals (poisson), or equal ones (constant)",
		When: Where("loop", "open")},
	{Name: "target-per-s", Common: true, Group: "Load", Side: Bench, Default: "0", Range: Span{"0.001", "1G"}, ByRun: true, Owners: []string{"loop"}, At: func(v *Values) any { return &v.Load.TargetPerS },
		Help:    "open loop: arrivals per second; 0.5 is one every two seconds",
		Meaning: "open loop: intended arrivals per second",
		Sweep:   Where("loop", "open")},
	{Name: "search", Common: true, Group: "Load", Side: Bench, NoColumn: "`target_per_s` is the rate that was found", At: func(v *Values) any { return &v.Load.Search },
		Help: "open loop: find the highest rate that keeps a percentile below a bound, such as 'p99<200us', in steps of --duration, from --target-per-s on (default: the lowest rate at which the percentile is known); the row has the rate found"},
}

// sourceRows are the factors of a load from a file: a YCSB property file or a trace.
var sourceRows = []Factor{
	{Name: "workload", Common: true, Group: "Load from a file", Side: Load, ByRun: true, At: func(v *Values) any { return &v.Load.Workload },
		Help:    "a YCSB property file: it sets records, sizes, operations, distributions and rate, unless a flag sets them (docs/workloads.md)",
		Meaning: "name of the YCSB property file that the load came from"},
	{Name: "trace", Common: true, Group: "Load from a file", Side: Load, ByRun: true, At: func(v *Values) any { return &v.Load.Trace },
		Help:    "a file with the columns time,op,key,size, or in another --trace-format, plain or compressed by gzip: each request is sent at its time (docs/workloads.md)",
		Meaning: "the trace that was replayed: name of its file, the first 12 digits of its SHA-256, and, if they are not the defaults, trace-unit, trace-format and ttl (trace-ttl=delete): a.csv@0123456789ab/us"},
	{Name: "trace-unit", Group: "Load from a file", Side: Load, Default: bench.Seconds.String(), Words: bench.TimeUnits(), NoColumn: "part of `trace`", At: func(v *Values) any { return &v.Load.TraceUnit },
		Help: "unit of the trace's times: " + strings.Join(bench.TimeUnits(), ", ")},
	{Name: "trace-format", Group: "Load from a file", Side: Load, Default: bench.TraceFormats()[bench.TraceCSV], Words: bench.TraceFormats(), NoColumn: "part of `trace`", At: func(v *Values) any { return &v.Load.TraceFormat },
		Help: "the trace's format: " + strings.Join(bench.TraceFormats(), ", ") + " (the last two are those of Twitter's and Meta's cache traces)"},
	{Name: "trace-ttl", Group: "Load from a file", Side: Load, Default: bench.TraceTTLs()[bench.TTLIgnore], Words: bench.TraceTTLs(), NoColumn: "part of `trace`", At: func(v *Values) any { return &v.Load.TraceTTL },
		Help: "times to live of a trace's items: ignore them, or delete each item at its time"},
	{Name: "trace-speed", Group: "Load from a file", Side: Bench, Default: "1x", Range: Span{"0.001x", "1000000x"}, ByRun: true, Owners: []string{"trace"}, At: func(v *Values) any { return &v.Load.TraceSpeed },
		Help:    "open loop: speed of the replay relative to the recorded times (2x, 0.5x)",
		Meaning: "speed of the replay relative to the recorded times"},
	{Name: "trace-repeat", Group: "Load from a file", Side: Bench, Default: "false", ByRun: true, Owners: []string{"trace"}, At: func(v *Values) any { return &v.Load.TraceRepeat },
		Help:    "start the trace again at its end, until --duration is over",
		Meaning: "the trace starts again at its end"},
}

var windowRows = []Factor{
	{Name: "duration", Common: true, Group: "Measured window", Side: Bench, Default: "10s", Range: Span{"1us", longest}, ByRun: true, At: func(v *Values) any { return &v.Load.Duration },
		Help:  "length of the measured window",
		Scope: "whole runs without operations; an experiment that sweeps it has whole runs"},
	{Name: "operations", Common: true, Group: "Measured window", Side: Bench, NoColumn: "`ops` and `errors` count them, and `duration_ns` is the time that they took", Default: "0", Range: Span{"0", "1099511627776"}, At: func(v *Values) any { return &v.Load.Operations },
		Help:  "end the measured window after this number of operations in all, failed ones included; 0: after --duration. The time series then has one bin, and drift is not known",
		Scope: "whole runs; cells that set it are not measured in slices"},
	{Name: "warmup", Common: true, Group: "Measured window", Side: Bench, Default: "2s", Range: Span{"0s", longest}, ByRun: true, At: func(v *Values) any { return &v.Load.Warmup },
		Help: "load before the measured window, not recorded"},
	{Name: "stages", Common: true, Group: "Measured window", Side: Bench, Default: "0", NoColumn: "`phase` is breakdown", Range: Span{"0", "1000000000"}, At: func(v *Values) any { return &v.Load.Stages },
		Help: "record how long each stage of a request takes (stages.csv), for one in this many requests; 0: for none. Recording costs time: use such a run for the stages only"},
}

// Spec returns the load that v describes, without its trace. Verify is set for backends that keep values.
func (v *Values) Spec() bench.Spec {
	l := &v.Load
	s := bench.Spec{Mix: l.Mix, KeyBytes: int(l.KeyBytes), ValueBytes: int(l.ValueBytes), ValueMinBytes: int(l.ValueMinBytes), ValueSizes: l.ValueSizes, Records: uint64(l.Records),
		ScanItems: l.ScanItems, Seed: l.Seed, TargetPerS: float64(l.TargetPerS), Conns: l.Conns, Depth: l.Depth,
		ClientThreads: l.Threads, Duration: l.Duration, Warmup: l.Warmup, Stages: l.Stages, Verify: Keeps(v.Store.Backend), VerifyOneIn: int(l.VerifyValues)}
	if s.Operations = uint64(l.Operations); s.Operations > 0 {
		s.Duration = 0
	}
	if l.KeyDist != "" {
		s.KeyDist, _ = bench.ParseKeyDist(l.KeyDist) // CheckWords has checked it, like the values below
	}
	s.ValueDist, _ = bench.ParseSizeDist(l.ValueDist)
	s.Loop, _ = bench.ParseLoopKind(l.Loop)
	s.Arrival, _ = bench.ParseArrival(l.Arrival)
	return s
}
