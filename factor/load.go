package factor

import (
	"strings"

	"github.com/kvwire/kvwire/bench"
)

var loadRows = []Factor{
	{Name: "mix", Common: true, Group: "Load", Side: Bench, Default: "get", At: func(v *Values) any { return &v.Load.Mix },
		Help:    "a to f (YCSB), get, put, insert, scan, rmw, or shares such as get=50,put=50",
		Meaning: "operations: a YCSB letter, a kind, or shares"},
	{Name: "key-dist", Common: true, Group: "Load", Side: Bench, Words: []string{"uniform", "zipfian", "latest"}, At: func(v *Values) any { return &v.Load.KeyDist },
		Help:    "uniform, zipfian or latest; default: the mix's own",
		Meaning: "distribution of keys"},
	{Name: "key-bytes", Group: "Load", Side: Load, Default: "16", Range: Span{"1", "1KiB"}, At: func(v *Values) any { return &v.Load.KeyBytes },
		Help:    "size of keys",
		Meaning: "size of keys"},
	{Name: "value-bytes", Common: true, Group: "Load", Side: Server | Load, Default: "1KiB", Range: Span{"0", "16MiB"}, ByRun: true, At: func(v *Values) any { return &v.Load.ValueBytes },
		Help:    "size of values, or of the largest",
		Meaning: "size of values, or of the largest"},
	{Name: "value-dist", Group: "Load", Side: Load, Default: "fixed", Words: []string{"fixed", "uniform", "zipfian"}, At: func(v *Values) any { return &v.Load.ValueDist },
		Help:    "sizes of values: fixed, or uniform or zipfian (short ones most often) between --value-min-bytes and --value-bytes",
		Meaning: "sizes of values: fixed, uniform or zipfian",
		Sweep:   Unless("backend", "null")},
	{Name: "value-min-bytes", Group: "Load", Side: Load, Default: "0", Range: Span{"0", "16MiB"}, At: func(v *Values) any { return &v.Load.ValueMinBytes },
		Help:    "size of the smallest values, where sizes differ",
		Meaning: "size of the smallest values, where sizes differ",
		Sweep:   Unless("backend", "null")},
	{Name: "records", Common: true, Group: "Load", Side: Load, Default: "100000", Range: Span{"1", "1099511627776"}, At: func(v *Values) any { return &v.Load.Records },
		Help:    "records in the store",
		Meaning: "records in the store"},
	{Name: "scan-items", Group: "Load", Side: Server | Bench, Default: "100", Range: Span{"1", "10000"}, ByRun: true, At: func(v *Values) any { return &v.Load.ScanItems },
		Help:    "scans ask for 1 to that many items",
		Meaning: "the most items that a scan asks for; the least is 1"},
	{Name: "seed", Group: "Load", Side: Load, Default: "1", Range: Span{"0", "18446744073709551615"}, At: func(v *Values) any { return &v.Load.Seed },
		Help:    "of the keys' order, the operations and the arrivals",
		Meaning: "seed of the order of keys, of operations and of arrivals"},
	{Name: "conns", Common: true, Group: "Load", Side: Load | Client, Default: "4", Range: Span{"1", "65536"}, ByRun: true, At: func(v *Values) any { return &v.Load.Conns },
		Help:    "connections in all",
		Meaning: "connections in all"},
	{Name: "depth", Common: true, Group: "Load", Side: Load | Client, Default: "16", Range: Span{"1", "1024"}, At: func(v *Values) any { return &v.Load.Depth },
		Help:    "requests in flight on each connection",
		Meaning: "requests in flight on each connection"},
	{Name: "client-threads", Common: true, Group: "Load", Side: Load | Client, Default: "1", Range: Span{"1", "1024"}, ByRun: true, At: func(v *Values) any { return &v.Load.Threads },
		Help:    "threads of the load generator",
		Meaning: "threads of the load generator"},
	{Name: "client-cpus", Group: "Load", Side: Load, ByRun: true, At: func(v *Values) any { return &v.Load.CPUs },
		Help:    "CPUs of the load generator's process; default: apart from the server's",
		Meaning: "CPUs of the client's process"},
	{Name: "link-rate", Group: "Load", Side: Bench, Default: "0", Range: Span{"0", "1000G"}, At: func(v *Values) any { return &v.Load.LinkRate },
		Help:    "bits per second of a link between server and client (2.5G): the run makes it of two network namespaces, a veth pair and token buckets (TBF), as root; 0: none",
		Meaning: "bits per second of the link that the run made between server and client; 0: none",
		Sweep:   Where("transport", "tcp", "uring")},
	{Name: "loop", Common: true, Group: "Load", Side: Bench, Default: "closed", Words: []string{"closed", "open"}, At: func(v *Values) any { return &v.Load.Loop },
		Help:    "closed: a completion starts the next; open: arrivals by the clock, --target-per-s",
		Meaning: "closed: a completion starts the next; open: arrivals by the clock"},
	{Name: "arrival", Group: "Load", Side: Bench, Default: "poisson", Words: []string{"poisson", "constant"}, ByRun: true, At: func(v *Values) any { return &v.Load.Arrival },
		Help:    "open loop: poisson or constant",
		Meaning: "open loop: poisson or constant",
		When:    Where("loop", "open")},
	{Name: "target-per-s", Common: true, Group: "Load", Side: Bench, Default: "0", Range: Span{"0.001", "1G"}, ByRun: true, At: func(v *Values) any { return &v.Load.TargetPerS },
		Help:    "open loop: arrivals per second; 0.5 is one every two seconds",
		Meaning: "open loop: arrivals asked for",
		Sweep:   Where("loop", "open")},
	{Name: "search", Common: true, Group: "Load", Side: Bench, Column: NoColumn, At: func(v *Values) any { return &v.Load.Search },
		Help: "open loop: find the highest rate that keeps a percentile, such as 'p99<200us', in steps of --duration, from --target-per-s on (default: the least at which the percentile is known); the row is that of the rate found"},
}

// sourceRows are the factors of a load from a file: a YCSB property file or a trace.
var sourceRows = []Factor{
	{Name: "workload", Common: true, Group: "Load from a file", Side: Load, ByRun: true, At: func(v *Values) any { return &v.Load.Workload },
		Help:    "a YCSB property file: records, sizes, operations, distributions and pace, where no other flag says otherwise (docs/workloads.md)",
		Meaning: "name of the YCSB property file that the load came from"},
	{Name: "trace", Common: true, Group: "Load from a file", Side: Load, ByRun: true, At: func(v *Values) any { return &v.Load.Trace },
		Help:    "a file, plain or compressed by gzip, with the columns time,op,key,size or in another --trace-format: its requests, each at its time (docs/workloads.md)",
		Meaning: "name of the trace that was replayed, and the first 12 digits of its SHA-256"},
	{Name: "trace-unit", Group: "Load from a file", Side: Load, Default: bench.Seconds.String(), Column: NoColumn, At: func(v *Values) any { return &v.Load.TraceUnit },
		Help: "unit of the trace's times: " + strings.Join(bench.TimeUnits(), ", ")},
	{Name: "trace-format", Group: "Load from a file", Side: Load, Default: bench.TraceFormats()[bench.TraceCSV], Words: bench.TraceFormats(), Column: NoColumn, At: func(v *Values) any { return &v.Load.TraceFormat },
		Help: "the trace's format: " + strings.Join(bench.TraceFormats(), ", ") + " (the last two are those of Twitter's and Meta's cache traces)"},
	{Name: "trace-ttl", Group: "Load from a file", Side: Load, Default: bench.TraceTTLs()[bench.TTLIgnore], Words: bench.TraceTTLs(), Column: NoColumn, At: func(v *Values) any { return &v.Load.TraceTTL },
		Help: "times to live of a trace's items: ignore them, or delete each item at its time"},
	{Name: "trace-speed", Group: "Load from a file", Side: Bench, Default: "1x", Range: Span{"0.001x", "1000000x"}, ByRun: true, At: func(v *Values) any { return &v.Load.TraceSpeed },
		Help:    "open loop: the trace so many times as fast (2x, 0.5x)",
		Meaning: "speed of the replay relative to the recorded times"},
	{Name: "trace-repeat", Group: "Load from a file", Side: Bench, Default: "false", ByRun: true, At: func(v *Values) any { return &v.Load.TraceRepeat },
		Help:    "begin the trace anew at its end, until --duration is over",
		Meaning: "the trace starts again at its end"},
}

var windowRows = []Factor{
	{Name: "duration", Common: true, Group: "Measured window", Side: Bench, Default: "10s", Range: Span{"1us", longest}, ByRun: true, At: func(v *Values) any { return &v.Load.Duration },
		Help:    "of the measured window",
		Meaning: "length of the measured window"},
	{Name: "operations", Common: true, Group: "Measured window", Side: Bench, Column: NoColumn, Default: "0", Range: Span{"0", "1099511627776"}, At: func(v *Values) any { return &v.Load.Operations },
		Help: "end the measured window after this number of operations in all, failed ones included; 0: after --duration. The time series then has one interval, and drift is not known"},
	{Name: "warmup", Common: true, Group: "Measured window", Side: Bench, Default: "2s", Range: Span{"0s", longest}, ByRun: true, At: func(v *Values) any { return &v.Load.Warmup },
		Help:    "before it, not recorded",
		Meaning: "load before the measured window, not recorded"},
	{Name: "stages", Common: true, Group: "Measured window", Side: Bench, Default: "0", Column: NoColumn, Range: Span{"0", "1000000000"}, At: func(v *Values) any { return &v.Load.Stages },
		Help: "watch one request in so many: how long each stage of it takes (stages.csv); 0: none. It costs time: measure nothing else meanwhile"},
}

// Spec returns the load that v describes, without its trace. Verify is set for backends that keep values.
func (v *Values) Spec() bench.Spec {
	l := &v.Load
	s := bench.Spec{Mix: l.Mix, KeyBytes: int(l.KeyBytes), ValueBytes: int(l.ValueBytes), ValueMinBytes: int(l.ValueMinBytes), Records: uint64(l.Records),
		ScanItems: l.ScanItems, Seed: l.Seed, TargetPerS: float64(l.TargetPerS), Conns: l.Conns, Depth: l.Depth,
		ClientThreads: l.Threads, Duration: l.Duration, Warmup: l.Warmup, Stages: l.Stages, Verify: Keeps(v.Store.Backend)}
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
