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

// The columns of the other CSV files, in their order.
var (
	seriesColumns = []tableField{
		{"run_id", "string", "the run in runs.csv"},
		{"begin_ns", "integer", "start of the bin, from the start of the window"},
		{"length_ns", "integer", "length of the bin"},
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
		{"verdict", "string", "of a primary claim: faster, slower, cheaper or dearer where the corrected interval excludes 1 (by at least x %, or a factor of at least x, where it lies beyond the smallest difference that matters), same, can't tell, not measured, not comparable"},
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

// unitSuffixes are those that a name ends with, longest first: snake_case with SI base units. The first of them is there because it ends with ns_per_op, too.
var unitSuffixes = []struct{ suffix, unit string }{
	{"retransmissions_per_op", "1/op"}, {"ns_per_op", "ns/op"}, {"bytes_copied_per_op", "B/op"}, {"bytes_per_s", "B/s"}, {"_per_op", "1/op"}, {"_per_s", "1/s"}, {"_per_io", "1/IO"},
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

// meanings describe the columns of runs.csv that are no factors. Every one has a line here, or a row in factor.All.
var meanings = map[string]string{
	"schema_version": "version of this table", "exp_id": "name of the experiment", "run_id": "name of the run; a run that is tried again keeps it",
	"phase":    "measure: a cell; aa: the baseline in a second process, to be compared with the first; breakdown: a whole run for the stages",
	"question": "the swept flags whose values the compared cells share", "cell": "number of the cell in the experiment, from 1", "variant": "name of the cell within its question: its value of the compared factor; with again: the baseline in a second process",
	"generation": "from 1; each has fresh processes of all variants, which alternate (version 1: a block of the design)", "order_in_generation": "place in its generation's order, from 1",
	"method": "slices: in alternation with the other variants of the question; whole: alone, in one piece", "slice_ns": "counted window of a slice", "settle_ns": "load at the start of a slice that is not counted", "slices": "number of slices of the run",
	"started_at": "start of the warm-up, UTC", "git_rev": "commit of the program",
	"device": "device that carried the requests: hw, rxe, siw, model (a modelled device), loopback, unix (a unix socket), veth or nic",
	"fabric": "what carries Redis's protocol (transport=redis): tcp, unix (a unix socket) or rdma (Valkey's protocol)",
	"ops":    "operations answered in the window", "errors": "operations that failed",
	"misses": "reads of loaded records that were not there", "expected_misses": "trace: reads that found nothing, of keys that the trace deletes or that were not there when it began", "unanswered": "requests that were sent and had no answer at the end of the drain; their ages count as latencies (lower bounds)",
	"verify_failures": "values read that were not written for their key; empty where nothing was verified",
	"ops_per_s":       "operations divided by the window", "goodput_bytes_per_s": "bytes of values read and written, in scans, too: without keys and headers", "lat_min_ns": "least latency, from the intended start to the answer",
	"lat_mean_ns": "mean latency", "lat_p5_ns": "5th percentile of latency", "lat_p50_ns": "median latency", "lat_p90_ns": "90th percentile of latency",
	"lat_p99_ns": "99th percentile of latency", "lat_p999_ns": "99.9th percentile of latency", "lat_max_ns": "greatest latency, of requests that completed after the window, too",
	"svc_p50_ns": "median time from the actual send to the answer (closed loop: the latency)", "svc_p99_ns": "99th percentile of the time from the actual send to the answer", "svc_p999_ns": "99.9th percentile of the time from the actual send to the answer",
	"lag_p50_ns": "open loop: median time from the intended start to the send", "lag_p99_ns": "open loop: 99th percentile of the time from the intended start to the send", "lag_max_ns": "open loop: longest time from the intended start to the send",
	"missed_sends": "open loop: arrivals that waited because all slots were in use", "achieved_ratio": "open loop: completed operations divided by arrivals",
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
	"rdma_seq_err": "the port's count of packets out of sequence", "rdma_retry_exceeded": "the port's count of messages whose retries all failed",
	"throttled_ratio": "share of the periods of a control group's CPU quota in which the run was throttled, of the worse side",
	"steal_ratio":     "share of the CPU time that the hypervisor took", "foreign_cpu_ratio": "share of the CPU time that other processes used", "drift_ratio": "rate in the window's last third divided by the rate in its first third, less 1 (slices: thirds of the slices)",
	"steady": "no drift beyond 5 % and noise", "marks": "disturbances of a run that stays valid: drift, steal, a CPU quota, CPU time of others", "valid": "false: the figures are wrong or incomplete", "invalid_reason": "why the run is invalid", "skipped_reason": "why the run was not measured",
	"accel": "in a guest: kvm, or tcg (emulated CPUs)",
	"hosts": "machines that took part; 1: client and server on one host", "direct_io": "files bypass the kernel's page cache",
	"kernel":     "release of Linux",
	"theta":      "exponent of the zipfian distribution",
	"limited_by": "closed loop: the side that used all its CPUs: client, server or client+server; disk: one process that had CPU time left; network: the values fill link_rate", "unsent": "open loop: arrivals that were never sent; their ages count as latencies (lower bounds)",
	"client_enters_per_op": "calls of io_uring_enter by the client's loops", "server_enters_per_op": "calls of io_uring_enter by the server's loops",
	"client_sqes_per_op": "submission queue entries of the client's loops", "server_sqes_per_op": "submission queue entries of the server's loops",
	"client_cqes_per_op": "completion queue entries of the client's loops", "server_cqes_per_op": "completion queue entries of the server's loops", "note": "a remark in words",
	"rdma_provider":     "the driver, such as rxe, siw or mlx5; model: none",
	"rdma_posts_per_op": "doorbells: calls that hand work to the NIC, of both sides", "rdma_wrs_per_op": "work requests for send queues, of both sides",
	"rdma_polls_per_op": "polls of completion queues, of both sides", "rdma_empty_poll_ratio": "share of the polls of completion queues that found nothing", "rdma_cqes_per_poll": "completions of polls that found something",
	"rdma_reads_per_op": "one-sided READs", "rdma_read_retries_per_op": "READs that were repeated because the item was being written", "rdma_read_fallback_ratio": "share of the gets that READ could not answer, so that they went by SEND",
	"disk_syscalls_per_io": "system calls of the disk engine for each transfer", "disk_batch_mean": "mean number of transfers that are submitted together", "disk_depth_mean": "transfers in flight after each batch, per partition",
	"index_bytes_per_key": "memory of the store's index divided by the number of its keys, at the end of the window; the key is part of it", "disk_depth_max": "most transfers in flight since the store was opened", "turns_per_s": "turns of the server's loops", "ops_per_turn": "operations per turn of the server's loops, including turns that found nothing",
	"lat_sd_ns": "standard deviation of the latency", "shorts_per_op": "sends, and receives of bodies of known length, that ended short, of both sides", "truncated": "requests that ended with a short transfer; they are among the errors",
	"nobuffers_per_op": "receives that found no provided buffer (ENOBUFS), of both sides", "cq_overflows": "times that completions waited outside of a full queue, of both sides", "zerocopies_per_op": "sends without copy that were requested, of both sides",
	"zerocopied_ratio": "share of the sends without copy that the kernel copied nevertheless",
	"sends_per_op":     "sends to sockets, system calls or ring entries, of both sides", "receives_per_op": "receives from sockets, system calls or ring entries, of both sides", "hops_per_op": "requests and replies that went from one loop to another, of both sides",
	"client_resident_bytes": "memory of the client's process in RAM, at the end (inproc: of client and server)", "server_resident_bytes": "memory of the server's process in RAM, at the end",
	"udp_packets_per_op": "datagrams given to the kernel, by both sides", "udp_retransmissions_per_op": "packets of requests, and of what asks for parts of replies, that were sent again",
	"udp_timeouts_per_op": "requests whose time-out passed without progress", "udp_stalls_per_op": "times that a request had something to send, and its connection had no credit", "udp_rtt_ns": "mean round trip of datagrams, without the server's time",
	"load_hosts": "processes that made the load together, each behind a launcher",
	"attempts":   "whole runs with --retry: number of tries; the last one counts, the earlier ones were disturbed",
	"data_set":   "the store's records: loaded by the run itself (fresh), loaded before (reused), or a copy of a store loaded before (copied)",
}

// sliceMeanings describe the columns of slices.csv.
var sliceMeanings = map[string]string{
	"run_id": "the run in runs.csv that combines all slices of this generation and variant", "question": "the swept flags whose values the compared cells share", "cell": "number of the cell in the experiment, from 1",
	"variant": "name of the cell within its question; with again: the baseline in a second process", "generation": "from 1; each has fresh processes of all variants", "slice": "number within the generation and variant, from 1",
	"round": "number of the round in the generation, from 1; a round has one slice of each variant", "place": "place of the slice in its round, from 1", "after": "the variant whose slice came before; empty for the first", "started_at": "start of the load, UTC",

	"settle_ns": "load before the window, not counted", "window_ns": "the counted window", "drain_ns": "from the end of the window until no request was in flight", "ops": "operations answered in the window",
	"slice_ops": "operations answered from resume to park, to which CPU time and counters refer", "errors": "operations that failed", "ops_per_s": "operations divided by the window",
	"lat_p50_ns": "median latency", "lat_p90_ns": "90th percentile of latency", "lat_p99_ns": "99th percentile of latency",

	"client_cpu_ns": "CPU time of the client's process from resume to park (inproc: of client and server)", "server_cpu_ns": "CPU time of the server's process from resume to park", "cpu_ns_per_op": "CPU time of both processes divided by slice_ops",
	"parked_ns": "time parked before this slice", "client_parked_cpu_ns": "CPU time of the client's process in parked_ns", "server_parked_cpu_ns": "CPU time of the server's process in parked_ns",
	"host_softirq_ns": "the machine's CPU time in soft interrupts", "ksoftirqd_ns": "CPU time of the kernel's ksoftirqd threads", "steal_ratio": "share of the CPU time that the hypervisor took", "foreign_cpu_ratio": "share of the CPU time that other processes used",

	"client_syscalls": "system calls of the client's loops", "server_syscalls": "system calls of the server's loops", "client_enters": "calls of io_uring_enter by the client's loops", "server_enters": "calls of io_uring_enter by the server's loops",
	"client_sqes": "submission queue entries of the client's loops", "server_sqes": "submission queue entries of the server's loops", "client_cqes": "completion queue entries of the client's loops", "server_cqes": "completion queue entries of the server's loops",
	"sends": "sends to sockets, of both sides", "receives": "receives from sockets, of both sides", "rdma_posts": "doorbells, of both sides", "rdma_wrs": "work requests for send queues, of both sides", "rdma_polls": "polls of completion queues, of both sides",
	"ctxsw_vol": "voluntary context switches, of both sides", "ctxsw_invol": "involuntary context switches, of both sides", "bytes_copied": "copied in user space, by both sides", "disk_reads": "reads of the store", "disk_writes": "writes of the store",

	"max_inflight": "most requests in flight at once", "achieved_ratio": "open loop: completed operations divided by arrivals", "missed_sends": "open loop: arrivals that waited because all slots were in use", "tcp_cwnd": "congestion window at the end, in segments: the least of the connections",
}
