// Package report owns the form of results: the row of runs.csv and its JSON twin, the environment, the
// table for people, and the rules for which figures are printed and which rows are valid. It may import factor, whose
// table has the columns of factors, bench with its parts, report/chart, kv, loop, store and internal packages, and
// starts nothing.
package report

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"sync"

	"github.com/kvwire/kvwire/factor"
)

// SchemaVersion is the version of runs.csv that this package writes. It reads version 1, too.
const SchemaVersion = 2

// Opt is a number or truth value that may be unknown. The zero value is NA: an empty field, never 0.
type Opt[T int64 | uint64 | float64 | bool] struct {
	v     T
	known bool
}

// The kinds of columns other than string, where "" is NA.
type (
	Int   = Opt[int64]
	Uint  = Opt[uint64]
	Float = Opt[float64]
	Bool  = Opt[bool]
)

// I is a known integer.
func I[T ~int | ~int32 | ~int64 | ~uint32](v T) Int { return Int{int64(v), true} }

// U is a known integer of 0 or more.
func U(v uint64) Uint { return Uint{v, true} }

// F is a known number; NaN and infinities are NA.
func F(v float64) Float {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Float{}
	}
	return Float{v, true}
}

// B is a known truth value.
func B(v bool) Bool { return Bool{v, true} }

// Get is the value, and whether it is known.
func (o Opt[T]) Get() (T, bool) { return o.v, o.known }

// Known is false for NA.
func (o Opt[T]) Known() bool { return o.known }

// String is the value as it stands in a field: "" for NA.
func (o Opt[T]) String() string {
	if !o.known {
		return ""
	}
	switch v := any(o.v).(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	panic("report: unreachable")
}

// set reads a field.
func (o *Opt[T]) set(s string) error {
	*o = Opt[T]{}
	if s == "" {
		return nil
	}
	var v any
	var err error
	what := "a number"
	switch any(o.v).(type) {
	case int64:
		v, err = strconv.ParseInt(s, 10, 64)
		what = "an integer"
	case uint64:
		v, err = strconv.ParseUint(s, 10, 64)
		what = "an integer of 0 or more"
	case float64:
		var f float64
		f, err = strconv.ParseFloat(s, 64)
		if v = f; math.IsNaN(f) || math.IsInf(f, 0) {
			err = strconv.ErrRange
		}
	case bool:
		v, err = s == "true", nil
		if s != "true" && s != "false" {
			err, what = strconv.ErrSyntax, "true or false"
		}
	}
	if err != nil {
		return fmt.Errorf("%q is not %s", clip(s), what)
	}
	o.v, o.known = v.(T), true
	return nil
}

// How a run was measured: the values of the column method.
const (
	MethodSlices = "slices" // in alternation with the other variants of its question
	MethodWhole  = "whole"  // alone, in one piece
)

// ModelSuffix ends the names of variants and networks over the model of an RDMA device.
const ModelSuffix = "(model)"

// ModelNote explains ModelSuffix below a table.
const ModelNote = "(model): a model of an RDMA device, not a measurement of one. The link is the user's choice (column rdma_model), and no other network crosses it. All other figures were measured on this machine."

// Modelled reports whether the row's RDMA device is a model.
func (r *Row) Modelled() bool {
	link, _ := r.Value("rdma_model")
	return link != ""
}

// OnUnix is the value of the columns device and fabric for a unix socket.
const OnUnix = "unix"

// Row is one run of one cell: one line of runs.csv, with its columns in their order: identity, all factors, outcome, cost, wire,
// validity. Empty means NA: does not apply, or is not known. Of a run in slices it is all slices of one generation together.
type Row struct {
	// Identity.
	SchemaVersion     Int    `csv:"schema_version"`
	ExpID             string `csv:"exp_id"`
	RunID             string `csv:"run_id"`
	Phase             string `csv:"phase"`               // measure, aa or breakdown
	Question          string `csv:"question"`            // the flags that sweep, of those that the cells compared have in common
	Cell              Int    `csv:"cell"`                // of the experiment, from 1
	Variant           string `csv:"variant"`             // what is compared: "rdma write"; of phase aa "tcp again"
	Generation        Int    `csv:"generation"`          // from 1; version 1 had its blocks here
	OrderInGeneration Int    `csv:"order_in_generation"` // from 1
	Attempts          Int    `csv:"attempts"`            // of an experiment's run: those before the last one were disturbed
	Seed              Uint   `csv:"seed"`
	StartedAt         string `csv:"started_at"` // RFC 3339, UTC
	GitRev            string `csv:"git_rev"`

	// Factors of the measurement.
	Method   string `csv:"method"`    // slices: in alternation with the other variants; whole: alone
	SliceNs  Int    `csv:"slice_ns"`  // counted window of a slice
	SettleNs Int    `csv:"settle_ns"` // uncounted, before it

	// Factors of the network, the loops and the load.
	Transport     string `csv:"transport"`
	Device        string `csv:"device"` // hw, rxe, siw, model, loopback, unix, veth or nic
	Wait          string `csv:"wait"`
	Placement     string `csv:"placement"`
	RDMAVerb      string `csv:"rdma_verb"`
	DiskEngine    string `csv:"disk_engine"`
	Backend       string `csv:"backend"` // null, mem, disk or raw
	Mix           string `csv:"mix"`
	KeyDist       string `csv:"key_dist"`
	KeyBytes      Int    `csv:"key_bytes"`
	ValueBytes    Int    `csv:"value_bytes"` // of the largest, if they differ
	Records       Uint   `csv:"records"`
	Conns         Int    `csv:"conns"`
	Depth         Int    `csv:"depth"`
	ClientThreads Int    `csv:"client_threads"`
	ServerThreads Int    `csv:"server_threads"`
	Loop          string `csv:"loop"`
	Arrival       string `csv:"arrival"`
	TargetPerS    Float  `csv:"target_per_s"`

	// Factors of both sides, and of the machine.
	Ring            string `csv:"ring"` // shared or separate
	ClientTransport string `csv:"client_transport"`
	Fabric          string `csv:"fabric"` // transport=redis: tcp, unix or rdma
	TCPEngine       string `csv:"tcp_engine"`
	Accel           string `csv:"accel"` // kvm or tcg: in a guest of ours
	Hosts           Int    `csv:"hosts"` // machines that took part; 1: client and server on one
	DirectIO        Bool   `csv:"direct_io"`
	ServerCPUs      string `csv:"server_cpus"`
	ClientCPUs      string `csv:"client_cpus"`
	Kernel          string `csv:"kernel"`
	FixedBuffers    Bool   `csv:"fixed_buffers"`
	NetLoops        Int    `csv:"net_loops"`
	StoreLoops      Int    `csv:"store_loops"`
	Theta           Float  `csv:"theta"`
	ScanItems       Int    `csv:"scan_items"`
	ValueDist       string `csv:"value_dist"` // fixed, uniform, zipfian, list or trace
	ValueMinBytes   Int    `csv:"value_min_bytes"`
	Workload        string `csv:"workload"` // the YCSB property file's name
	Trace           string `csv:"trace"`    // bench.Trace.Name: a.csv@0123456789ab, and options that are not the defaults
	TraceSpeed      Float  `csv:"trace_speed"`
	TraceRepeat     Bool   `csv:"trace_repeat"`
	LoadHosts       Int    `csv:"load_hosts"`
	DataSet         string `csv:"data_set"` // fresh, reused or copied

	// Factors of RDMA.
	RDMAProvider     string `csv:"rdma_provider"`      // the driver: rxe, siw, mlx5, …; model
	RDMAModel        string `csv:"rdma_model"`         // device=model: the modelled link
	RDMAConnect      string `csv:"rdma_connect"`       // tcp or cm
	RDMAInlineBytes  Int    `csv:"rdma_inline_bytes"`  // up to that size messages are inline: what was asked for, or less where the queue pair granted less
	RDMASignalEvery  Int    `csv:"rdma_signal_every"`  // one send in so many asks for a completion
	RDMAPostBatch    Int    `csv:"rdma_post_batch"`    // work requests per doorbell, at most
	RDMASlotBytes    Int    `csv:"rdma_slot_bytes"`    // of a receive
	RDMAMTU          Int    `csv:"rdma_mtu"`           // path MTU in bytes: the least of what was asked for and of both ports'
	HugePages        Bool   `csv:"huge_pages"`         // under the registered memory, as asked for
	RDMATrafficClass Int    `csv:"rdma_traffic_class"` // 0: the system's
	RDMAServiceLevel Int    `csv:"rdma_service_level"` // 0: rdma_cm's, or 0

	// Factors of the disk engine. fixed_buffers and direct_io, above, are what came of it.
	DiskDepth     Int    `csv:"disk_depth"`       // reads and writes in flight, per partition, at most
	DiskBatch     Int    `csv:"disk_batch"`       // held back until so many are queued; 0: adaptive, each turn's
	DiskWait      Int    `csv:"disk_wait"`        // completions that a loop sleeps for (wait_nr)
	DiskWaitMaxNs Int    `csv:"disk_wait_max_ns"` // … and for how long at most
	Taskrun       string `csv:"taskrun"`          // defer or coop, where it was asked for
	SQPoll        Bool   `csv:"sqpoll"`
	IOPoll        Bool   `csv:"iopoll"`
	FixedFiles    Bool   `csv:"fixed_files"`

	// Factors of tcp's sockets.
	TCPNoDelay            Bool   `csv:"tcp_nodelay"`
	TCPClientEngine       string `csv:"tcp_client_engine"`
	TLS                   string `csv:"tls"`                       // on or off
	TCPSlowStartAfterIdle Bool   `csv:"tcp_slow_start_after_idle"` // net.ipv4.tcp_slow_start_after_idle: an idle connection forgets its congestion window

	// All factors without a field above: no code reads them. Their columns are in the order of factor.All.
	Factors Factors

	// Outcome.
	Slices           Int    `csv:"slices"` // how many the run was measured in; whole: NA
	DurationNs       Int    `csv:"duration_ns"`
	WarmupNs         Int    `csv:"warmup_ns"`
	Ops              Uint   `csv:"ops"`
	Errors           Uint   `csv:"errors"`
	Misses           Uint   `csv:"misses"`
	ExpectedMisses   Uint   `csv:"expected_misses"` // NA without a trace
	Unanswered       Uint   `csv:"unanswered"`      // requests without an answer at the end of the drain
	Unsent           Uint   `csv:"unsent"`          // open loop: arrivals never sent
	Truncated        Uint   `csv:"truncated"`       // requests that ended so, among the errors
	VerifyFailures   Uint   `csv:"verify_failures"` // NA where nothing was verified
	OpsPerS          Float  `csv:"ops_per_s"`
	GoodputBytesPerS Float  `csv:"goodput_bytes_per_s"`
	LatMinNs         Int    `csv:"lat_min_ns"`
	LatMeanNs        Float  `csv:"lat_mean_ns"`
	LatSDNs          Float  `csv:"lat_sd_ns"` // standard deviation
	LatP5Ns          Int    `csv:"lat_p5_ns"`
	LatP50Ns         Int    `csv:"lat_p50_ns"`
	LatP90Ns         Int    `csv:"lat_p90_ns"`
	LatP99Ns         Int    `csv:"lat_p99_ns"`
	LatP999Ns        Int    `csv:"lat_p999_ns"`
	LatMaxNs         Int    `csv:"lat_max_ns"`
	SvcP50Ns         Int    `csv:"svc_p50_ns"`
	SvcP99Ns         Int    `csv:"svc_p99_ns"`
	SvcP999Ns        Int    `csv:"svc_p999_ns"`
	LimitedBy        string `csv:"limited_by"` // closed loop: client, server or client+server: whose CPUs were full; disk; network

	// Generator.
	LagP50Ns       Int   `csv:"lag_p50_ns"`
	LagP99Ns       Int   `csv:"lag_p99_ns"`
	LagMaxNs       Int   `csv:"lag_max_ns"`
	MissedSends    Uint  `csv:"missed_sends"`
	AchievedRatio  Float `csv:"achieved_ratio"`
	MaxInflight    Int   `csv:"max_inflight"`
	ClientCPURatio Float `csv:"client_cpu_ratio"` // of the busiest client thread

	// Cost. Without a side in the name: client and server together. Per operation from the resume to the park.
	ClientUserNsPerOp   Float `csv:"client_user_ns_per_op"`
	ClientSysNsPerOp    Float `csv:"client_sys_ns_per_op"`
	ServerUserNsPerOp   Float `csv:"server_user_ns_per_op"`
	ServerSysNsPerOp    Float `csv:"server_sys_ns_per_op"`
	HostBusyNsPerOp     Float `csv:"host_busy_ns_per_op"` // less the idle baseline
	HostSoftirqNsPerOp  Float `csv:"host_softirq_ns_per_op"`
	KsoftirqdNsPerOp    Float `csv:"ksoftirqd_ns_per_op"` // CPU time of the ksoftirqd threads, which is in neither process
	ClientSyscallsPerOp Float `csv:"client_syscalls_per_op"`
	ServerSyscallsPerOp Float `csv:"server_syscalls_per_op"`
	ClientEntersPerOp   Float `csv:"client_enters_per_op"`
	ServerEntersPerOp   Float `csv:"server_enters_per_op"`
	ClientSQEsPerOp     Float `csv:"client_sqes_per_op"`
	ServerSQEsPerOp     Float `csv:"server_sqes_per_op"`
	ClientCQEsPerOp     Float `csv:"client_cqes_per_op"`
	ServerCQEsPerOp     Float `csv:"server_cqes_per_op"`
	CtxswVolPerOp       Float `csv:"ctxsw_vol_per_op"`
	CtxswInvolPerOp     Float `csv:"ctxsw_invol_per_op"`
	CgoCallsPerOp       Float `csv:"cgo_calls_per_op"`
	PollsPerOp          Float `csv:"polls_per_op"`     // turns of the server's loops
	EmptyPollRatio      Float `csv:"empty_poll_ratio"` // of these, those that found nothing
	BatchMean           Float `csv:"batch_mean"`       // completions per turn of the server's loops that found something
	BytesCopiedPerOp    Float `csv:"bytes_copied_per_op"`
	AllocsPerOp         Float `csv:"allocs_per_op"`
	GoGCPauseNs         Int   `csv:"go_gc_pause_ns"` // in all, of the side that paused longer
	GoSchedP99Ns        Int   `csv:"go_sched_p99_ns"`
	DiskReadsPerOp      Float `csv:"disk_reads_per_op"`
	DiskWritesPerOp     Float `csv:"disk_writes_per_op"`
	ClientParkedCPUNs   Int   `csv:"client_parked_cpu_ns"` // CPU time of the client while it was parked, in all
	ServerParkedCPUNs   Int   `csv:"server_parked_cpu_ns"`
	ParkedCPURatio      Float `csv:"parked_cpu_ratio"` // CPU time of both processes while parked, divided by that time

	// Memory in RAM at the end of the window. The kernel's memory for sockets is in neither.
	ClientResidentBytes Int `csv:"client_resident_bytes"`
	ServerResidentBytes Int `csv:"server_resident_bytes"`

	// Cost of messages and of loops, of client and server together.
	SendsPerOp      Float `csv:"sends_per_op"`      // to sockets: system calls or ring entries
	ReceivesPerOp   Float `csv:"receives_per_op"`   // from sockets, likewise
	HopsPerOp       Float `csv:"hops_per_op"`       // from one loop to another
	ShortsPerOp     Float `csv:"shorts_per_op"`     // sends, and receives of bodies, that ended short
	NoBuffersPerOp  Float `csv:"nobuffers_per_op"`  // receives that found no provided buffer (ENOBUFS)
	CQOverflows     Uint  `csv:"cq_overflows"`      // times that completions waited outside of a full queue
	ZeroCopiesPerOp Float `csv:"zerocopies_per_op"` // sends that were to be without copy
	ZeroCopiedRatio Float `csv:"zerocopied_ratio"`  // of these, those that the kernel copied after all
	TurnsPerS       Float `csv:"turns_per_s"`       // of all loops together
	OpsPerTurn      Float `csv:"ops_per_turn"`      // of the turns that found something and of those that did not

	// Cost of datagrams, of client and server together.
	UDPPacketsPerOp         Float `csv:"udp_packets_per_op"`         // given to the kernel
	UDPRetransmissionsPerOp Float `csv:"udp_retransmissions_per_op"` // of requests, and of what asks for replies
	UDPTimeoutsPerOp        Float `csv:"udp_timeouts_per_op"`
	UDPStallsPerOp          Float `csv:"udp_stalls_per_op"` // a request had something to send, and its connection no credit
	UDPRTTNs                Float `csv:"udp_rtt_ns"`        // mean round trip, without the server's time

	// Cost of RDMA, of client and server together.
	RDMAPostsPerOp        Float `csv:"rdma_posts_per_op"` // doorbells: calls that hand work to the NIC
	RDMAWRsPerOp          Float `csv:"rdma_wrs_per_op"`   // work requests for send queues
	RDMAPollsPerOp        Float `csv:"rdma_polls_per_op"` // of completion queues
	RDMAEmptyPollRatio    Float `csv:"rdma_empty_poll_ratio"`
	RDMACQEsPerPoll       Float `csv:"rdma_cqes_per_poll"`       // of polls that found something
	RDMAReadsPerOp        Float `csv:"rdma_reads_per_op"`        // one-sided
	RDMAReadRetriesPerOp  Float `csv:"rdma_read_retries_per_op"` // torn, and read again
	RDMAReadFallbackRatio Float `csv:"rdma_read_fallback_ratio"` // of gets, those that went by send after all

	// Cost of the disk engine.
	DiskSyscallsPerIO Float `csv:"disk_syscalls_per_io"` // on a loop's ring those that carried transfers, sockets' entries among them or not; else all, threads that reap included
	DiskBatchMean     Float `csv:"disk_batch_mean"`      // transfers handed over at a time
	DiskDepthMean     Float `csv:"disk_depth_mean"`      // in flight after each batch, per partition
	DiskDepthMax      Int   `csv:"disk_depth_max"`       // since the store was opened
	IndexBytesPerKey  Float `csv:"index_bytes_per_key"`  // at the end of the window, key included

	// Wire.
	TCPRetrans        Uint `csv:"tcp_retrans"`
	RDMARnr           Uint `csv:"rdma_rnr"` // these four: of the client's port, whoever used it
	RDMADupReq        Uint `csv:"rdma_dup_req"`
	RDMASeqErr        Uint `csv:"rdma_seq_err"`
	RDMARetryExceeded Uint `csv:"rdma_retry_exceeded"`
	TCPCwnd           Int  `csv:"tcp_cwnd"` // congestion window at the end, in segments: the least of the connections

	// Validity.
	StealRatio      Float  `csv:"steal_ratio"`
	ForeignCPURatio Float  `csv:"foreign_cpu_ratio"`
	DriftRatio      Float  `csv:"drift_ratio"` // last third of the window against the first: 0 is steady
	Steady          Bool   `csv:"steady"`
	ThrottledRatio  Float  `csv:"throttled_ratio"` // share of a CPU quota's periods in which the threads were throttled, of the worse side
	Marks           string `csv:"marks"`           // disturbances of a run that stays valid: "drift +12 %; foreign CPU 30 %"
	Valid           Bool   `csv:"valid"`
	InvalidReason   string `csv:"invalid_reason"`
	SkippedReason   string `csv:"skipped_reason"` // the run was not measured
	Note            string `csv:"note"`           // for people: "no O_DIRECT: page cache"
}

// rowSchema are the columns of runs.csv. Version 1 called two of them otherwise.
var rowSchema = sync.OnceValue(func() *schema { return schemaWith(factor.All) })

// schemaWith are the columns of runs.csv with the factors of that table.
func schemaWith(table factor.Table) *schema {
	return schemaOf[Row](table, meanings, map[string]string{"block": "generation", "order_in_block": "order_in_generation"})
}

// Columns are the names of all columns, in order.
func Columns() []string { return rowSchema().names() }

// The first factor and the first column behind the factors.
const (
	firstFactor  = "method"
	firstOutcome = "slices"
)

// FactorColumns returns the names of the columns that describe the cell of a run: two runs with the same values in all of them belong to
// the same cell.
func FactorColumns() []string {
	all := Columns()
	return all[rowSchema().byName[firstFactor]:rowSchema().byName[firstOutcome]]
}

// Fields returns the row's values as in runs.csv.
func (r *Row) Fields() []string { return rowSchema().fields(reflect.ValueOf(r).Elem()) }

// Value returns a column's value as in runs.csv; ok is false if there is no such column.
func (r *Row) Value(name string) (value string, ok bool) {
	i, ok := rowSchema().byName[name]
	if !ok {
		return "", false
	}
	return rowSchema().value(reflect.ValueOf(r).Elem(), i), true
}

// Set sets a column to a value as in runs.csv.
func (r *Row) Set(name, value string) error {
	return rowSchema().set(reflect.ValueOf(r).Elem(), name, value)
}

// MarshalJSON returns the row as an object with the columns in their order, without those that are NA.
func (r Row) MarshalJSON() ([]byte, error) { return rowSchema().marshal(reflect.ValueOf(&r).Elem()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Row) UnmarshalJSON(b []byte) error {
	*r = Row{}
	return rowSchema().unmarshal(reflect.ValueOf(r).Elem(), b)
}

// SetFactors fills in the columns of the factors that pass and apply among these values, which are as users would write them. It leaves out
// what the run fills in by itself, and what a unix socket does not have.
func (r *Row) SetFactors(get func(name string) string, pass func(*factor.Factor) bool) {
	for i := range factor.All {
		f := &factor.All[i]
		column := f.ColumnName()
		if column == "" || f.ByRun || f.OffUnix && r.Device == OnUnix || !pass(f) || !f.Applies(get) {
			continue
		}
		_ = r.Set(column, f.Field(get(f.Name))) // Field has checked it
	}
}
