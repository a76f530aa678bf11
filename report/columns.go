package report

import "strings"

// tableField is a column of one of our CSV files.
type tableField struct {
	name, kind string // kind: a type of Frictionless Table Schema
	meaning    string
}

func names(fields []tableField) (all []string) {
	for _, f := range fields {
		all = append(all, f.name)
	}
	return all
}

// The columns of what lies beside runs.csv, in their order.
var (
	seriesColumns = []tableField{
		{"run_id", "string", "the run in runs.csv"},
		{"begin_ns", "integer", "start of the interval, from the start of the window"},
		{"length_ns", "integer", "length of the interval"},
		{"ops", "integer", "operations completed in it"},
		{"ops_per_s", "number", "operations per second in it"},
		{"lat_p50_ns", "integer", "median latency, two digits; empty below 200 operations"},
		{"lat_p99_ns", "integer", "99th percentile of latency, two digits; empty below 10,000 operations"},
	}
	histColumns = []tableField{
		{"run_id", "string", "the run in runs.csv"},
		{"kind", "string", "lat: from the intended start to the answer; svc: from the actual send; lag: from the intended start to the send (svc and lag: open loop)"},
		{"lower_ns", "integer", "the shortest duration of this bucket"},
		{"upper_ns", "integer", "the longest duration of this bucket"},
		{"count", "integer", "operations in the bucket; empty buckets have no line"},
	}
	stageColumns = []tableField{
		{"run_id", "string", "the run in runs.csv"},
		{"op", "string", "the kind of operation"},
		{"stage", "string", "the stage: client_queue, client_submit, fabric_out, notify_server, server_queue, store, disk, server_submit, fabric_back, notify_client, fabric (both ways together, where they cannot be separated), or total"},
		{"n", "integer", "requests that were watched"},
		{"mean_ns", "number", "mean; the means of all stages add up to that of total"},
		{"p50_ns", "integer", "median, two digits; empty below 200 requests"},
		{"p99_ns", "integer", "99th percentile, two digits; empty below 10,000 requests"},
	}
	stepColumns = []tableField{
		{"question", "string", "the swept flags whose values both cells share"},
		{"path", "string", "the network that the step belongs to"},
		{"step", "string", "the part that is added: codec, network, store, disk, or notification"},
		{"from", "string", "the cell without the part"},
		{"to", "string", "the cell with the part"},
		{"metric", "string", "lat_p50_ns or cpu_ns_per_op"},
		{"generations", "integer", "number of generations in the difference"},
		{"left_out", "integer", "number of generations left out, because a side is invalid or has no value"},
		{"diff_ns", "number", "what the step adds: Hodges and Lehmann's estimate over the generations"},
		{"diff_low_ns", "number", "the interval's lower end"},
		{"diff_high_ns", "number", "the interval's upper end"},
		{"level", "number", "exact coverage of the interval: at least 0.95, or with fewer than 6 generations the most that they allow"},
	}
	billColumns = []tableField{
		{"question", "string", "the swept flags whose values the compared cells share"},
		{"variant", "string", "the cell, all its runs together"},
		{"item", "string", "a unit of calibration.json; sum: of all items; measured: cpu_ns_per_op; unexplained: measured less sum"},
		{"count_per_op", "number", "how often an operation needs it, client and server together"},
		{"unit_ns", "number", "cost of one"},
		{"ns_per_op", "number", "count_per_op times unit_ns"},
	}
	compareColumns = []tableField{
		{"kind", "string", "ratio: variant divided by baseline; interaction: that ratio at one value of a factor, divided by the same ratio at the factor's first value"},
		{"question", "string", "the swept flags whose values the compared cells share"},
		{"at", "string", "interaction: the factor with its two values, such as depth=16 / depth=1"},
		{"metric", "string", "the compared quantity: ops_per_s, lat_p50_ns, lat_p99_ns or cpu_ns_per_op"},
		{"baseline", "string", "the variant that others are compared with"},
		{"variant", "string", "the variant compared with it"},
		{"generations", "integer", "number of generations in the ratio; each gives one log-ratio"},
		{"left_out", "integer", "number of generations left out, because a side is invalid or has no value"},
		{"ratio", "number", "variant divided by baseline: Hodges and Lehmann's estimate over the generations"},
		{"ratio_low", "number", "the interval's lower end"},
		{"ratio_high", "number", "the interval's upper end"},
		{"level", "number", "exact coverage of the interval: at least 0.95, or with fewer than 6 generations the most that they allow"},
		{"aa_low", "number", "A/A ratio (the baseline again, divided by the baseline): lower end of its 95 % interval"},
		{"aa_high", "number", "A/A ratio: upper end of its 95 % interval"},
		{"p", "number", "p of Wilcoxon's signed-rank test that the ratio is 1, exact and two-sided: an interval excludes 1 if its level is at most 1 - p"},
		{"p_holm", "number", "p after Holm's correction for all primary claims"},
		{"corrected_low", "number", "of a primary claim: the lower end of the interval at corrected_level"},
		{"corrected_high", "number", "of a primary claim: the upper end of the interval at corrected_level"},
		{"corrected_level", "number", "exact coverage of the corrected interval: at least 1 - a/(m-k+1), where a is 0.05 (a third of it with three looks), m the number of claims, and k the claim's rank by p, or the rank of the first claim that is not rejected; empty if there are too few generations"},
		{"verdict", "string", "of a primary claim: faster, slower, cheaper or dearer where the corrected interval excludes 1 (by at least x % where it lies beyond the smallest difference that matters), same, can't tell, not measured, not comparable"},
		{"why", "string", "the reason for no verdict or no ratio: too few generations, an interval too wide, or what is missing; if the sides differ in another factor than the compared one, that factor and its two values; if the slices were too short for the requests, the --slice to use"},
		{"ratio_calm", "number", "the ratio without slices in which the hypervisor took CPU time"},
		{"ratio_calm_low", "number", "lower end of the interval of ratio_calm"},
		{"ratio_calm_high", "number", "upper end of the interval of ratio_calm"},
		{"exploratory", "boolean", "true: no primary claim, so there is an interval and no verdict"},
	}
	carryColumns = []tableField{
		{"question", "string", "the swept flags whose values the compared cells share"},
		{"metric", "string", "ops_per_s, cpu_ns_per_op or lat_p50_ns"},
		{"after", "string", "the variant whose slice came before"},
		{"ratio", "number", "slices after that variant, divided by the median slice of their own variant and generation: Hodges and Lehmann's estimate over the generations"},
		{"low", "number", "the interval's lower end"},
		{"high", "number", "the interval's upper end"},
		{"level", "number", "exact coverage of the interval: at least 0.95, or with fewer than 6 generations the most that they allow"},
		{"generations", "integer", "number of generations in the ratio"},
	}
)

// unitSuffixes are those that a name ends with, longest first: snake_case with SI base units.
var unitSuffixes = []struct{ suffix, unit string }{
	{"ns_per_op", "ns/op"}, {"bytes_copied_per_op", "B/op"}, {"bytes_per_s", "B/s"}, {"_per_op", "1/op"}, {"_per_s", "1/s"}, {"_per_io", "1/IO"},
	{"_per_poll", "1/poll"}, {"_per_turn", "1/turn"}, {"_ns", "ns"}, {"_bytes", "B"}, {"_mtu", "B"}, {"_ratio", "1"},
}

// unitOf is a column's unit; "" where it has none.
func unitOf(name string) string {
	for _, u := range unitSuffixes {
		if strings.HasSuffix(name, u.suffix) {
			return u.unit
		}
	}
	return ""
}

// meanings say what the columns of runs.csv mean. Every one has a line here: a test sees to it.
var meanings = map[string]string{
	"schema_version": "version of this table", "exp_id": "name of the experiment", "run_id": "name of the run; a run that is tried again keeps it",
	"phase":    "measure: a cell; aa: the baseline in a second process, to be compared with the first; breakdown: a whole run for the stages",
	"question": "the swept flags whose values the compared cells share", "cell": "number of the cell in the experiment, from 1", "variant": "name of the cell within its question: its value of the compared factor; with again: the baseline in a second process",
	"generation": "from 1; each has fresh processes of all variants, which alternate (version 1: a block of the design)", "order_in_generation": "place in its generation's order, from 1",
	"method": "slices: in alternation with the other variants of the question; whole: alone, in one piece", "slice_ns": "counted window of a slice", "settle_ns": "load at the start of a slice that is not counted", "slices": "number of slices of the run", "seed": "of keys, operations and arrivals",
	"started_at": "start of the warm-up, UTC", "git_rev": "commit of the program",

	"transport": "network between client and server", "device": "what carried it: hw, rxe, siw, loopback, unix (a unix socket), veth or nic",
	"wait": "what an idle loop does: block, spin or hybrid", "placement": "colocated: every loop has connections and keys; dispatched: network loops and store loops",
	"rdma_verb": "how messages travel: send, write or read", "disk_engine": "how pages are read and written", "backend": "null, mem, disk or raw",
	"mix": "operations: a YCSB letter, a kind, or shares", "key_dist": "distribution of keys", "key_bytes": "size of keys", "value_bytes": "size of values, or of the largest",
	"records": "records in the store", "conns": "connections in all", "depth": "requests in flight on each connection", "client_threads": "threads of the load generator",
	"server_threads": "loops of the server", "loop": "closed: a completion starts the next; open: arrivals by the clock", "arrival": "open loop: poisson or constant",
	"target_per_s": "open loop: arrivals asked for", "durability": "when a put is acknowledged: device or flush",

	"duration_ns": "the measured window", "warmup_ns": "before it, not recorded", "ops": "operations answered in the window", "errors": "operations that failed",
	"misses": "reads of loaded records that were not there", "unanswered": "requests that were sent and had no answer at the end of the drain; their ages count as latencies (lower bounds)",
	"verify_failures": "values read that were not written for their key; empty where nothing was verified",
	"ops_per_s":       "operations divided by the window", "goodput_bytes_per_s": "bytes of values read and written, in scans, too: without keys and headers", "lat_min_ns": "least latency, from the intended start to the answer",
	"lat_mean_ns": "mean latency", "lat_p5_ns": "5th percentile of latency", "lat_p50_ns": "median latency", "lat_p90_ns": "90th percentile of latency",
	"lat_p99_ns": "99th percentile of latency", "lat_p999_ns": "99.9th percentile of latency", "lat_max_ns": "greatest latency, of requests that completed after the window, too",
	"svc_p50_ns": "median time from the actual send to the answer (closed loop: the latency)", "svc_p99_ns": "99th percentile of the time from the actual send to the answer", "svc_p999_ns": "99.9th percentile of the time from the actual send to the answer",

	"lag_p50_ns": "open loop: median time from the intended start to the send", "lag_p99_ns": "open loop: 99th percentile of the time from the intended start to the send", "lag_max_ns": "open loop: longest time from the intended start to the send",
	"missed_sends": "open loop: arrivals that waited because all slots were taken", "achieved_ratio": "open loop: completed operations divided by arrivals",
	"max_inflight": "most requests in flight at once", "client_cpu_ratio": "CPU time of the busiest client thread, divided by the window",

	"client_user_ns_per_op": "CPU time of the client's process in user mode (inproc: of client and server)", "client_sys_ns_per_op": "CPU time of the client's process in the kernel",
	"server_user_ns_per_op": "CPU time of the server's process in user mode", "server_sys_ns_per_op": "CPU time of the server's process in the kernel",
	"host_busy_ns_per_op": "CPU time of the whole machine, less its idle baseline", "host_softirq_ns_per_op": "CPU time in soft interrupts", "ksoftirqd_ns_per_op": "CPU time of the kernel's ksoftirqd threads, which is in neither process",
	"client_parked_cpu_ns": "CPU time of the client's process while it was parked, in all", "server_parked_cpu_ns": "CPU time of the server's process while it was parked, in all", "parked_cpu_ratio": "CPU time of both processes while parked, divided by the time parked",
	"client_syscalls_per_op": "system calls of the client's loops", "server_syscalls_per_op": "system calls of the server's loops",
	"ctxsw_vol_per_op": "voluntary context switches, of both sides", "ctxsw_invol_per_op": "involuntary context switches, of both sides", "cgo_calls_per_op": "calls into C, of both sides",
	"polls_per_op": "turns of the server's loops", "empty_poll_ratio": "share of the turns of the server's loops that found nothing", "batch_mean": "completions per turn, of the turns of the server's loops that found something",
	"bytes_copied_per_op": "copied in user space, by both sides", "allocs_per_op": "objects allocated, by both sides", "go_gc_pause_ns": "pauses of Go's collector in all, of the side that paused longer",
	"go_sched_p99_ns": "99th percentile of the time that goroutines waited to run, of the side that waited longer", "disk_reads_per_op": "reads of the store", "disk_writes_per_op": "writes of the store",

	"tcp_retrans": "segments sent again by the machine", "tcp_cwnd": "congestion window at the end, in segments: the least of the connections", "tcp_slow_start_after_idle": "the system's setting: an idle connection forgets its congestion window", "rdma_rnr": "the port's count of receivers that were not ready", "rdma_dup_req": "the port's count of duplicate requests",
	"rdma_seq_err": "the port's count of packets out of sequence", "rdma_retry_exceeded": "the port's count of retries given up",

	"throttled_ratio": "share of the periods of a control group's CPU quota in which the run was throttled, of the worse side",
	"steal_ratio":     "CPU time that the hypervisor took", "foreign_cpu_ratio": "CPU time of other processes", "drift_ratio": "rate in the window's last third divided by the rate in its first third, less 1 (slices: thirds of the slices)",
	"steady": "no drift beyond 5 % and noise", "marks": "disturbances of a run that stays valid: drift, steal, a CPU quota, CPU time of others", "valid": "false: the figures are wrong or incomplete", "invalid_reason": "why the run is invalid", "skipped_reason": "why the run did not take place",

	"ring": "uring: sockets and disk on one ring (shared) or two (separate)", "client_transport": "the client's side", "tcp_engine": "tcp: how sockets are driven",
	"update": "an item is rewritten to a free slot (cow) or over itself (inplace)", "cache_bytes": "page cache of the whole store", "accel": "kvm or tcg: in a guest of kvwire's",
	"hosts": "machines that took part; 1: client and server on one host", "direct_io": "files bypass the kernel's page cache", "server_cpus": "CPUs of the server's process", "client_cpus": "CPUs of the client's process",
	"kernel": "release of Linux", "fixed_buffers": "memory is registered with io_uring", "net_loops": "dispatched: loops with connections", "store_loops": "dispatched: loops with keys",
	"spin_max_ns": "hybrid: how long a loop spins before it sleeps", "theta": "of the zipfian distribution", "scan_items": "scans ask for 1 to that many items",

	"limited_by": "closed loop: whose CPUs were full: client, server or client+server", "unsent": "open loop: arrivals that were never sent; their ages count as latencies (lower bounds)",
	"client_enters_per_op": "calls of io_uring_enter by the client's loops", "server_enters_per_op": "calls of io_uring_enter by the server's loops",
	"client_sqes_per_op": "submission queue entries of the client's loops", "server_sqes_per_op": "submission queue entries of the server's loops",
	"client_cqes_per_op": "completion queue entries of the client's loops", "server_cqes_per_op": "completion queue entries of the server's loops", "note": "a remark in words",

	"rdma_provider": "the driver, such as rxe, siw or mlx5", "rdma_connect": "how queue pairs are connected: tcp or cm", "rdma_inline_bytes": "messages up to that size are inline: as granted",
	"rdma_signal_every": "one work request in so many asks for a completion", "rdma_post_batch": "work requests per doorbell, at most", "rdma_slot_bytes": "size of a receive",
	"rdma_srq": "receives are shared by queue pairs", "rdma_mtu": "path MTU", "huge_pages": "huge pages asked for under registered memory", "rdma_export_bytes": "verb read: memory of the tables that items are read from",

	"rdma_posts_per_op": "doorbells: calls that hand work to the NIC, of both sides", "rdma_wrs_per_op": "work requests for send queues, of both sides",
	"rdma_polls_per_op": "polls of completion queues, of both sides", "rdma_empty_poll_ratio": "share of the polls of completion queues that found nothing", "rdma_cqes_per_poll": "completions of polls that found something",
	"rdma_reads_per_op": "one-sided READs", "rdma_read_retries_per_op": "READs again of an item that was being written", "rdma_read_fallback_ratio": "share of the gets that went by SEND after all",

	"disk_depth": "reads and writes in flight, per partition, at most", "disk_batch": "transfers held back until so many are queued; 0: each turn's go at its end",
	"disk_wait": "completions that a loop sleeps for", "disk_wait_max_ns": "the longest sleep for disk_wait completions", "taskrun": "completions appear when the loop looks (defer) or whenever it is in the kernel (coop)",
	"sqpoll": "a thread of the kernel submits", "iopoll": "completions are looked for at the device", "fixed_files": "files are registered with io_uring", "raw_bytes": "size of the raw backend's file",
	"null_busy_ns": "backend null: CPU time added to each request (a known cost)", "null_delay_ns": "backend null: delay added to each answer (a known cost)",

	"disk_syscalls_per_io": "system calls of the disk engine for each transfer", "disk_batch_mean": "transfers handed over at a time", "disk_depth_mean": "transfers in flight after each batch, per partition",
	"disk_depth_max": "most transfers in flight since the store was opened", "turns_per_s": "turns of the server's loops", "ops_per_turn": "operations per turn of the server's loops, including turns that found nothing",

	"tcp_accept": "one loop accepts all connections, or each does", "tcp_nodelay": "TCP_NODELAY", "tcp_cork": "MSG_MORE where more of a turn's bytes follow", "tcp_quickack": "TCP_QUICKACK after each receive",
	"tcp_send_bytes": "send buffer; 0: the kernel sizes it", "tcp_receive_bytes": "receive buffer; 0: the kernel sizes it", "tcp_busy_poll_ns": "SO_BUSY_POLL", "tcp_zerocopy_bytes": "writes from that size on are not copied; 0: none",

	"uring_receive": "io_uring's sockets: an entry receives once (single) or again and again into provided buffers (multishot)", "uring_buffers": "provided buffers of each loop", "uring_buffer_bytes": "size of each", "uring_body_bytes": "the least rest of a value that is received into its place, by a receive of its own",
	"uring_bundle": "one completion for several provided buffers, and sends of such", "uring_fixed_files": "sockets are registered", "uring_large": "what becomes of a transfer that the kernel would end short: waitall, step, linked, zerocopy or once",
	"uring_zerocopy_bytes": "zerocopy: sends from that size on are not copied", "uring_napi_ns": "NAPI busy polling of a wait",

	"rdma_traffic_class": "traffic class of the packets, with DSCP; 0: the system's", "rdma_service_level": "service level of the packets, on InfiniBand; 0: the path record's with rdma_cm, else 0",

	"lat_sd_ns": "standard deviation of the latency", "shorts_per_op": "sends, and receives of bodies of known length, that ended short, of both sides", "truncated": "requests that ended with a short transfer; they are among the errors",
	"nobuffers_per_op": "receives that found no provided buffer (ENOBUFS), of both sides", "cq_overflows": "times that completions waited outside of a full queue, of both sides", "zerocopies_per_op": "sends that were to be without copy, of both sides",
	"zerocopied_ratio": "share of the sends without copy that the kernel copied after all",

	"tcp_client_engine": "tcp: how the client's sockets are driven", "tls": "tcp: TLS 1.3 on each connection: on or off",

	"value_dist": "sizes of values: fixed, uniform or zipfian", "value_min_bytes": "size of the smallest values, where sizes differ",

	"sends_per_op": "sends to sockets, system calls or ring entries, of both sides", "receives_per_op": "receives from sockets, likewise", "hops_per_op": "requests and replies that went from one loop to another, of both sides",

	"workload": "name of the YCSB property file that the load came from", "trace": "name of the trace that was replayed, and the first 12 digits of its SHA-256", "trace_speed": "speed of the replay relative to the recorded times",
	"trace_repeat": "the trace started again at its end", "load_hosts": "processes that made the load together, each behind a launcher",

	"attempts": "whole runs with --retry: number of tries; the last one counts, the earlier ones were disturbed",
	"data_set": "the store's records: loaded by the run itself (fresh), loaded before (reused), or a copy of a store loaded before (copied)",
}

// sliceMeanings say what the columns of slices.csv mean.
var sliceMeanings = map[string]string{
	"run_id": "the run in runs.csv that combines all slices of this generation and variant", "question": "the swept flags whose values the compared cells share", "cell": "number of the cell in the experiment, from 1",
	"variant": "name of the cell within its question; with again: the baseline in a second process", "generation": "from 1; each has fresh processes of all variants", "slice": "number within the generation and variant, from 1",
	"round": "number of the round in the generation, from 1; a round has one slice of each variant", "place": "place of the slice in its round, from 1", "after": "the variant whose slice came before; empty for the first", "started_at": "start of the load, UTC",

	"settle_ns": "load before the window, not counted", "window_ns": "the counted window", "drain_ns": "from the end of the window until no request was in flight", "ops": "operations answered in the window",
	"slice_ops": "operations answered from resume to park, to which CPU time and counters refer", "errors": "operations that failed", "ops_per_s": "operations divided by the window",
	"lat_p50_ns": "median latency", "lat_p90_ns": "90th percentile of latency", "lat_p99_ns": "99th percentile of latency",

	"client_cpu_ns": "CPU time of the client's process from resume to park (inproc: of client and server)", "server_cpu_ns": "CPU time of the server's process from resume to park", "cpu_ns_per_op": "CPU time of both processes divided by slice_ops",
	"parked_ns": "time parked before this slice", "client_parked_cpu_ns": "CPU time of the client's process in parked_ns", "server_parked_cpu_ns": "CPU time of the server's process in parked_ns",
	"host_softirq_ns": "the machine's CPU time in soft interrupts", "ksoftirqd_ns": "CPU time of the kernel's ksoftirqd threads", "steal_ratio": "CPU time that the hypervisor took", "foreign_cpu_ratio": "CPU time of other processes",

	"client_syscalls": "system calls of the client's loops", "server_syscalls": "system calls of the server's loops", "client_enters": "calls of io_uring_enter by the client's loops", "server_enters": "calls of io_uring_enter by the server's loops",
	"client_sqes": "submission queue entries of the client's loops", "server_sqes": "submission queue entries of the server's loops", "client_cqes": "completion queue entries of the client's loops", "server_cqes": "completion queue entries of the server's loops",
	"sends": "sends to sockets, of both sides", "receives": "receives from sockets, of both sides", "rdma_posts": "doorbells, of both sides", "rdma_wrs": "work requests for send queues, of both sides", "rdma_polls": "polls of completion queues, of both sides",
	"ctxsw_vol": "voluntary context switches, of both sides", "ctxsw_invol": "involuntary context switches, of both sides", "bytes_copied": "copied in user space, by both sides", "disk_reads": "reads of the store", "disk_writes": "writes of the store",

	"max_inflight": "most requests in flight at once", "achieved_ratio": "open loop: completed operations divided by arrivals", "missed_sends": "open loop: arrivals that waited because all slots were taken", "tcp_cwnd": "congestion window at the end, in segments: the least of the connections",
}
