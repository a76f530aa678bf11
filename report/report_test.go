package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
)

// Identity of version 2. Then come all factors, outcome, cost, wire and validity.
const identityColumns = `schema_version exp_id run_id phase question cell variant generation order_in_generation attempts seed started_at git_rev`

func TestColumnsAreIdentityThenFactorsThenTheRest(t *testing.T) {
	all, factors := Columns(), FactorColumns()
	if got := strings.Join(all[:13], " "); got != identityColumns || all[13] != factors[0] {
		t.Errorf("identity: %s, and then %s", got, all[13])
	}
	for _, c := range []string{"method", "slice_ns", "settle_ns", "transport", "rdma_verb", "depth", "ring", "client_transport", "tcp_engine", "update", "cache_bytes", "accel", "hosts", "kernel", "workload", "trace_repeat",
		"rdma_mtu", "disk_batch", "value_min_bytes", "data_set", "tcp_nodelay", "tcp_slow_start_after_idle", "uring_napi_ns", "tls", "load_hosts"} {
		if !slices.Contains(factors, c) {
			t.Errorf("%s is no factor", c)
		}
	}
	rest := all[13+len(factors):]
	last := -1
	for _, c := range []string{"slices", "duration_ns", "ops_per_s", "limited_by", "lag_p50_ns", "client_user_ns_per_op", "ksoftirqd_ns_per_op", "client_parked_cpu_ns", "server_parked_cpu_ns", "parked_cpu_ratio",
		"tcp_retrans", "tcp_cwnd", "steal_ratio", "marks", "valid", "invalid_reason", "skipped_reason", "note"} {
		at := slices.Index(rest, c)
		if at <= last {
			t.Errorf("%s stands at %d behind the factors, and what is before it at %d", c, at, last)
		}
		last = at
	}
}

// Folders of version 1 are read: blocks are generations, and what no longer makes a run invalid is a mark.
func TestOldFoldersAreRead(t *testing.T) {
	files, err := filepath.Glob("../docs/results/*/*/runs*.csv")
	more, err2 := filepath.Glob("../docs/results/*/runs*.csv")
	if files = append(files, more...); err != nil || err2 != nil || len(files) < 10 {
		t.Fatalf("%d files of results: %v, %v", len(files), err, err2)
	}
	marked := 0
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := Read(f)
		f.Close()
		if err != nil || len(rows) == 0 {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
			continue
		}
		for _, r := range rows {
			if r.Marks != "" {
				marked++
			}
			valid, known := r.Valid.Get()
			if strings.Contains(r.InvalidReason, "drift ") || strings.Contains(r.InvalidReason, "foreign CPU") || known && valid != (r.InvalidReason == "") || r.Ops.Known() && !r.Slices.Known() && r.Method != MethodWhole {
				t.Fatalf("%s: run %s: valid %v, %q, marks %q, method %q", name, r.RunID, r.Valid, r.InvalidReason, r.Marks, r.Method)
			}
			if r.ExpID == "network-overhead" && strings.Contains(name, "2026-11-21-network-overhead") && !r.Generation.Known() {
				t.Fatalf("%s: run %s is of no generation", name, r.RunID)
			}
		}
	}
	if marked < 500 {
		t.Errorf("%d rows have marks", marked)
	}
}

func TestOneReasonOfVersion1StaysWhereItIsOne(t *testing.T) {
	text := "schema_version,run_id,block,order_in_block,ops,valid,invalid_reason\n" +
		"1,a,3,4,5,false,4 loaded records missing; steal 2.0 %; CPU quota: throttled in 3 % of its periods; drift -12 %\n1,b,3,5,5,false,load host 1: foreign CPU 11 %; the server's CPU quota: throttled in 50 % of its periods\n1,c,3,6,5,false,send lag p99 15 µs\n"
	rows, err := Read(strings.NewReader(text))
	if err != nil || len(rows) != 3 {
		t.Fatal(rows, err)
	}
	for i, want := range []Row{
		{RunID: "a", OrderInGeneration: I(4), Valid: B(false), InvalidReason: "4 loaded records missing", Marks: "steal 2.0 %; CPU quota: throttled in 3 % of its periods; drift -12 %"},
		{RunID: "b", OrderInGeneration: I(5), Valid: B(true), Marks: "load host 1: foreign CPU 11 %; the server's CPU quota: throttled in 50 % of its periods"},
		{RunID: "c", OrderInGeneration: I(6), Valid: B(false), InvalidReason: "send lag p99 15 µs"},
	} {
		want.SchemaVersion, want.Generation, want.Ops, want.Method = I(1), I(3), U(5), MethodWhole
		if !reflect.DeepEqual(rows[i], want) {
			t.Errorf("%+v", rows[i])
		}
	}
}

// full has a value in every column.
func full(t testing.TB) (r Row) {
	t.Helper()
	for i, c := range Columns() {
		err := errors.Join(r.Set(c, "1"), r.Set(c, []string{"12345678901", "7"}[i%2]))
		if err != nil {
			if err = r.Set(c, "true"); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.SchemaVersion = I(SchemaVersion)
	r.Seed = U(math.MaxUint64)
	r.OpsPerS, r.AchievedRatio, r.DriftRatio = F(1234567.125), F(0.98), F(-0.03)
	r.Note = "a \"quoted\", comma'd\nnote – with two lines"
	r.Valid = B(false)
	return r
}

func TestARunIsDisturbedByTheMachineAlone(t *testing.T) {
	for name, c := range map[string]struct {
		row  Row
		want bool
	}{
		"quiet":           {Row{Ops: U(1), StealRatio: F(0.01), ForeignCPURatio: F(0.1), Steady: B(true)}, false},
		"nothing known":   {Row{Ops: U(1)}, false},
		"steal":           {Row{Ops: U(1), StealRatio: F(0.011)}, true},
		"foreign":         {Row{Ops: U(1), ForeignCPURatio: F(0.11)}, true},
		"drift":           {Row{Ops: U(1), Steady: B(false)}, true},
		"errors as well":  {Row{Ops: U(1), Steady: B(false), Errors: U(1)}, false},
		"failed":          {Row{StealRatio: F(0.5), InvalidReason: "exit status 1: …"}, false},
		"achieved little": {Row{Ops: U(1), AchievedRatio: F(0.5), Valid: B(false)}, false},
	} {
		if got := c.row.Disturbed(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCSVComesBackAsItWas(t *testing.T) {
	rows := []Row{full(t), {SchemaVersion: I(SchemaVersion)}, {SchemaVersion: I(SchemaVersion), Transport: "rdma", SkippedReason: "no device"}}
	var b bytes.Buffer
	w, err := NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		if err := w.Append(r); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(bytes.NewReader(b.Bytes())); err != nil || len(got) != i+1 { // flushed row by row
			t.Fatalf("after %d rows: %d, %v", i+1, len(got), err)
		}
	}
	if s := b.String(); strings.Contains(s, "\r") || strings.Contains(s, "NaN") || !strings.HasPrefix(s, "schema_version,exp_id,") || !strings.HasSuffix(s, "\n") {
		t.Errorf("form: %q", s[:100])
	}
	got, err := Read(&b)
	if err != nil || !reflect.DeepEqual(got, rows) {
		t.Fatalf("%v\n%+v\n%+v", err, got, rows)
	}
}

func TestReadAcceptsColumnsInAnyOrder(t *testing.T) {
	got, err := Read(strings.NewReader("ops,transport\n5,tcp\n,uring\n"))
	if err != nil || len(got) != 2 || got[0].Ops != U(5) || got[1].Ops.Known() || got[1].Transport != "uring" {
		t.Fatalf("%v %+v", err, got)
	}
}

func TestReadNamesLineAndColumn(t *testing.T) {
	for in, words := range map[string][]string{
		"":                                      {"no header"},
		"ops,nonsense\n":                        {"line 1", "character 5", `"nonsense"`, "unknown"},
		"ops,ops\n":                             {"line 1", `"ops"`, "twice"},
		"ops,transport\n5,tcp\nx,tcp\n":         {"line 3", "character 1", "column ops", `"x"`},
		"transport,ops\na,-5\n":                 {"line 2", "character 3", "column ops", "0 or more"},
		"ops_per_s\nNaN\n":                      {"column ops_per_s", `"NaN"`},
		"ops_per_s\n+Inf\n":                     {"column ops_per_s"},
		"valid\nyes\n":                          {"column valid", "true or false"},
		"ops,transport\n5\n":                    {"line 2", "fields"},
		"ops,transport\n5,\"tcp\n":              {"quote"},
		"transport\n\xff\n":                     {"column transport", "UTF-8"},
		"schema_version\n3\n":                   {"column schema_version", "version 3"},
		"note\n" + strings.Repeat("x", 1<<17):   {"column note", "65536"},
		"ops\n99999999999999999999999999999999": {"column ops"},
	} {
		_, err := Read(strings.NewReader(in))
		if err == nil {
			t.Errorf("%.40q was taken", in)
			continue
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%.40q: error %q does not say %q", in, err, w)
			}
		}
	}
	rows, err := Read(strings.NewReader("ops\n5\n6\nx\n"))
	if err == nil || len(rows) != 2 {
		t.Errorf("rows before the mistake: %d, %v", len(rows), err)
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	w, _ := NewWriter(&b)
	_ = w.Append(full(f))
	f.Add(b.Bytes())
	f.Add([]byte("ops,transport\n5,tcp\n"))
	f.Add([]byte("ops,note\r\n5,\"a\r\r\nb\"\r\n"))
	f.Add([]byte("ops_per_s,lat_mean_ns\n1e300,0x1p-2\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		rows, _ := Read(bytes.NewReader(in))
		var b bytes.Buffer
		w, err := NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			rows[i].SchemaVersion = I(SchemaVersion)
			if err := w.Append(rows[i]); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Read(&b)
		if err != nil || len(got) != len(rows) || len(rows) > 0 && !reflect.DeepEqual(got, rows) {
			t.Fatalf("what was read once does not come back: %v\n%+v\n%+v", err, got, rows)
		}
	})
}

func TestJSONHasTheColumnsNamesAndLeavesOutNA(t *testing.T) {
	r := full(t)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Row
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, r) {
		t.Fatalf("%v\n%+v\n%+v", err, back, r)
	}
	b, _ = json.Marshal(Row{Transport: "tcp", Ops: U(0), Valid: B(true)})
	if string(b) != `{"transport":"tcp","ops":0,"valid":true}` {
		t.Errorf("%s", b)
	}
	for _, bad := range []string{`{"nonsense":1}`, `{"ops":"x"}`, `[]`, `{"valid":1}`} {
		if json.Unmarshal([]byte(bad), &back) == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestNaNIsNA(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if F(v).Known() || F(v).String() != "" {
			t.Errorf("%v is known", v)
		}
	}
}

func hist(values ...int64) *hdrhistogram.Histogram {
	h := hdrhistogram.New(1, int64(time.Minute), 3)
	for _, v := range values {
		_ = h.RecordValue(v)
	}
	return h
}

func TestPercentileNeedsAHundredValuesBeyondIt(t *testing.T) {
	for _, c := range []struct {
		n     int64
		p     float64
		known bool
	}{
		{199, 50, false}, {200, 50, true}, {999, 90, false}, {1000, 90, true}, {9_999, 99, false}, {10_000, 99, true},
		{99_999, 99.9, false}, {100_000, 99.9, true}, {1_999, 5, false}, {2_000, 5, true},
	} {
		h := hdrhistogram.New(1, 1000, 3)
		_ = h.RecordValues(42, c.n)
		if v := Percentile(h, c.p); v.Known() != c.known || c.known && v != I(42) {
			t.Errorf("p%v of %d values: %q", c.p, c.n, v)
		}
	}
	if Percentile(nil, 50).Known() {
		t.Error("no histogram has a percentile")
	}
}

// result is a closed-loop run that has nothing against it.
func result() *bench.Result {
	h := hdrhistogram.New(1, int64(time.Minute), 3)
	_ = h.RecordValues(100_000, 200_000)
	r := &bench.Result{Spec: bench.Spec{Mix: "a", ValueBytes: 1024, Conns: 4, Depth: 2, Verify: true}.Defaults(),
		Started: time.Unix(1_700_000_000, 0), Duration: 10 * time.Second, Warmup: time.Second, Ops: 200_000, Bytes: 200_000 << 10, Lat: h, MaxInFlight: 8,
		Drift: bench.Drift{First: 66_000, Last: 66_500, Known: true}, CPURatio: 0.5, BusyRatio: 1, ClientThreads: 2}
	r.Process = bench.Usage{User: 400 * time.Millisecond, Sys: 600 * time.Millisecond, CtxVol: 100_000}
	r.ClientLoops = transport.LoopCounters{Stats: loop.Stats{Turns: 300_000, EmptyTurns: 100_000, Syscalls: 400_000, Delivered: 200_000, Copied: 200_000 << 10}}
	r.Host = bench.Host{Known: true, HostTimes: bench.HostTimes{User: 2 * time.Second, System: 3 * time.Second, SoftIRQ: time.Second, Idle: 14 * time.Second}}
	return r
}

func server() *Server {
	return &Server{Usage: bench.Usage{User: time.Second, Sys: 2 * time.Second, CtxVol: 100_000},
		Loops: transport.LoopCounters{Stats: loop.Stats{Turns: 400_000, EmptyTurns: 200_000, Syscalls: 300_000, Delivered: 600_000, Copied: 200_000 << 10}}, DiskReads: U(100_000)}
}

func TestFillOfAGoodRun(t *testing.T) {
	row := Row{Transport: "tcp", Backend: "mem"}
	Fill(&row, result(), Sides{Server: server(), IdleCPUs: F(0.1)})
	for name, want := range map[string]string{
		"transport": "tcp", "mix": "a", "key_dist": "zipfian", "theta": "0.99", "value_bytes": "1024", "conns": "4", "depth": "2", "client_threads": "2", "loop": "closed", "arrival": "", "target_per_s": "",
		"started_at": "2023-11-14T22:13:20Z", "duration_ns": "10000000000", "ops": "200000", "ops_per_s": "20000", "goodput_bytes_per_s": "20480000",
		"lat_p50_ns": "100031", "lat_p999_ns": "100031", "svc_p50_ns": "100031", "lag_p50_ns": "", "achieved_ratio": "", "errors": "0", "verify_failures": "0",
		"client_user_ns_per_op": "2000", "client_sys_ns_per_op": "3000", "server_user_ns_per_op": "5000", "server_sys_ns_per_op": "10000",
		"host_busy_ns_per_op": "25000", "host_softirq_ns_per_op": "5000", "client_syscalls_per_op": "2", "server_syscalls_per_op": "1.5", "ctxsw_vol_per_op": "1",
		"polls_per_op": "2", "empty_poll_ratio": "0.5", "batch_mean": "3", "bytes_copied_per_op": "2048", "disk_reads_per_op": "0.5", "disk_writes_per_op": "", "cgo_calls_per_op": "0", "rdma_posts_per_op": "", "rdma_empty_poll_ratio": "", "rdma_reads_per_op": "",
		"foreign_cpu_ratio": "0.05", "steal_ratio": "0", "steady": "true", "valid": "true", "invalid_reason": "", "limited_by": "",
	} {
		if got, _ := row.Value(name); got != want {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}
}

// In slices the costs are of all operations from resume to park, more than the window counted; rates are of the window.
func TestCostsAreOfTheOperationsBehindThem(t *testing.T) {
	r := result()
	r.CostOps = 2 * r.Ops
	row := Row{Transport: "tcp"}
	Fill(&row, r, Sides{Server: server(), IdleCPUs: F(0.1)})
	for name, want := range map[string]string{"ops": "200000", "ops_per_s": "20000", "client_user_ns_per_op": "1000", "server_sys_ns_per_op": "5000", "host_busy_ns_per_op": "12500", "host_softirq_ns_per_op": "2500",
		"client_syscalls_per_op": "1", "polls_per_op": "1", "disk_reads_per_op": "0.25", "batch_mean": "3", "ops_per_turn": "1"} {
		if got, _ := row.Value(name); got != want {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}
}

func TestFillOfARunThatLostRequests(t *testing.T) {
	r := result()
	r.Unanswered = 16
	var row Row
	Fill(&row, r, Sides{})
	if got, _ := row.Value("unanswered"); got != "16" || row.Valid != B(false) || row.InvalidReason != "16 requests had no answer: their ages count as latencies" {
		t.Errorf("%s unanswered, invalid: %q", got, row.InvalidReason)
	}
	row.StealRatio = F(1) // whatever the machine did: a run that lost requests is none to do again until it looks better
	if row.Disturbed() {
		t.Error("the machine is to blame")
	}
	r = result()
	r.Spec.Loop, r.Spec.TargetPerS, r.Lag, r.Svc = bench.Open, 20_000, hist(1), hist(1)
	r.Scheduled, r.Unsent = 200_000, 1
	row = Row{}
	if Fill(&row, r, Sides{}); !strings.Contains(row.InvalidReason, "1 arrivals were never sent") {
		t.Errorf("invalid: %q", row.InvalidReason)
	}
	if row.Invalidate("the server is gone"); !strings.HasSuffix(row.InvalidReason, "; the server is gone") {
		t.Errorf("invalid: %q", row.InvalidReason)
	}
}

func TestAServerElsewhereTakesNoCPUHere(t *testing.T) {
	one, two := Row{Hosts: I(1)}, Row{Hosts: I(2)}
	Fill(&one, result(), Sides{Server: server()})
	Fill(&two, result(), Sides{Server: server()})
	a, _ := one.ForeignCPURatio.Get()
	b, ok := two.ForeignCPURatio.Get()
	if !ok || b <= a {
		t.Errorf("foreign CPU %v with the server here, %v with it elsewhere", a, b)
	}
}

func TestFillNamesTheTrace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.csv")
	text := "time,op,key,size\n0,get,k,10\n1,put,k,20\n"
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	trace, err := bench.ReadTrace(t.Context(), name, bench.TraceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[bench.LoopKind]map[string]string{
		bench.Open:   {"arrival": "trace", "trace_speed": "2"},
		bench.Closed: {"arrival": "", "trace_speed": ""},
	} {
		r := result()
		r.Spec = bench.Spec{Trace: trace, TraceSpeed: 2, Loop: kind}.Defaults()
		r.Drift = bench.Drift{First: 1000, Last: 5000, Known: true} // the trace's own
		var row Row
		Fill(&row, r, Sides{})
		for column, value := range map[string]string{"mix": "get=0.5,put=0.5", "key_dist": "trace", "value_dist": "trace", "value_bytes": "20", "value_min_bytes": "10", "records": "1",
			"trace": fmt.Sprintf("a.csv@%x", sha256.Sum256([]byte(text)))[:len("a.csv@")+12], "trace_repeat": "false", "target_per_s": "", "theta": "", "drift_ratio": "", "steady": ""} {
			want[column] = value
		}
		for column, value := range want {
			if got, _ := row.Value(column); got != value {
				t.Errorf("%v: %s is %q, expected %q", kind, column, got, value)
			}
		}
		if strings.Contains(row.InvalidReason, "drift") {
			t.Errorf("%v: %s", kind, row.InvalidReason)
		}
	}
}

func TestFillSumsWhatBothNICsCost(t *testing.T) {
	row, r, s := Row{Transport: "rdma", RDMAVerb: "read"}, result(), server()
	r.ClientLoops.Add(transport.LoopCounters{Counters: transport.Counters{CCalls: 20_000, Bells: 40_000, WRs: 200_000, Polls: 60_000, EmptyPolls: 10_000, WCs: 100_000, Reads: 110_000, ReadRetries: 10_000, ReadMisses: 15_000, ReadSkips: 25_000}})
	s.Loops.Add(transport.LoopCounters{Counters: transport.Counters{CCalls: 10_000, Bells: 10_000, WRs: 100_000, Polls: 40_000, EmptyPolls: 40_000, WCs: 0}})
	Fill(&row, r, Sides{Server: s})
	for name, want := range map[string]string{"cgo_calls_per_op": "0.15", "rdma_posts_per_op": "0.25", "rdma_wrs_per_op": "1.5", "rdma_polls_per_op": "0.5",
		"rdma_empty_poll_ratio": "0.5", "rdma_cqes_per_poll": "2", "rdma_reads_per_op": "0.55", "rdma_read_retries_per_op": "0.05", "rdma_read_fallback_ratio": "0.32"} {
		if got, _ := row.Value(name); got != want {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}
	row = Row{Transport: "rdma"}
	if Fill(&row, r, Sides{}); row.CgoCallsPerOp.Known() || row.RDMAPostsPerOp.Known() || row.RDMAReadsPerOp.Known() {
		t.Error("half of the costs pass for all of them")
	}
}

func TestFillLeavesUnknownWhatIsNotKnown(t *testing.T) {
	row := Row{}
	r := result()
	r.Host.Known, r.Spec.Verify = false, false
	Fill(&row, r, Sides{})
	for _, name := range []string{"server_user_ns_per_op", "server_syscalls_per_op", "ctxsw_vol_per_op", "bytes_copied_per_op", "steal_ratio", "foreign_cpu_ratio", "host_busy_ns_per_op", "verify_failures", "polls_per_op"} {
		if got, _ := row.Value(name); got != "" {
			t.Errorf("%s is %q", name, got)
		}
	}
	Fill(&row, &bench.Result{Spec: bench.Spec{}.Defaults(), Interrupted: true, Lat: hist()}, Sides{InProcess: true})
	if v, _ := row.Value("ops_per_s"); v != "" && row.Valid != B(false) {
		t.Errorf("an empty run: %q, valid %v", v, row.Valid)
	}
}

func TestJudgeNamesWhatIsWrong(t *testing.T) {
	open := func(r *bench.Result) {
		r.Spec.Loop, r.Spec.TargetPerS = bench.Open, 20_000
		r.Svc, r.Lag, r.Scheduled = r.Lat, hist(1000, 1000), r.Ops
	}
	for name, c := range map[string]struct {
		change        func(*bench.Result)
		reason, marks string
	}{
		"good":           {func(r *bench.Result) {}, "", ""},
		"good open":      {open, "", ""},
		"wrong value":    {func(r *bench.Result) { r.VerifyFailures, r.FirstFailure = 3, "get of record 7" }, "3 values read wrong: get of record 7", ""},
		"missing":        {func(r *bench.Result) { r.Misses = 4 }, "4 loaded records missing", ""},
		"errors":         {func(r *bench.Result) { r.Errors = 5; r.ByStatus[5] = 5 }, "errors: no space 5", ""},
		"interrupted":    {func(r *bench.Result) { r.Interrupted = true }, "interrupted", ""},
		"steal":          {func(r *bench.Result) { r.Host.Steal = time.Second }, "", "steal 4.8 %"},
		"foreign":        {func(r *bench.Result) { r.Host.User += 3 * time.Second; r.Host.Idle -= 3 * time.Second }, "", "foreign CPU 20 %"},
		"drift":          {func(r *bench.Result) { r.Drift.Last = 60_000 }, "", "drift -9 %"},
		"chance":         {func(r *bench.Result) { r.Drift = bench.Drift{First: 100, Last: 120, Known: true} }, "", ""},
		"closed at 100%": {func(r *bench.Result) { r.CPURatio, r.BusyRatio = 1, 0.99 }, "", ""},
		"open at 100%":   {func(r *bench.Result) { open(r); r.CPURatio, r.BusyRatio = 0.95, 0.99 }, "client saturated (95 % of a CPU)", ""},
		"open, spinning": {func(r *bench.Result) { open(r); r.CPURatio, r.BusyRatio = 1, 0.5 }, "", ""},
		"too slow":       {func(r *bench.Result) { open(r); r.Scheduled = 210_000 }, "achieved 95.2 % of the target", ""},
		"late sends":     {func(r *bench.Result) { open(r); r.Lag = hist(15_000, 15_000) }, "send lag p99 15.0 µs, 15 % of the median", ""},
		"two":            {func(r *bench.Result) { r.Misses = 4; r.Interrupted = true }, "4 loaded records missing; interrupted", ""},
	} {
		r := result()
		c.change(r)
		row := Row{}
		Fill(&row, r, Sides{Server: server()})
		if row.InvalidReason != c.reason || row.Valid != B(c.reason == "") || row.Marks != c.marks {
			t.Errorf("%s: valid %v, reason %q, marks %q, expected %q and %q", name, row.Valid, row.InvalidReason, row.Marks, c.reason, c.marks)
		}
	}
	r := result()
	r.CPURatio, r.BusyRatio = 1, 0.99
	row := Row{}
	if Fill(&row, r, Sides{}); row.LimitedBy != "client" {
		t.Errorf("limited by %q", row.LimitedBy)
	}
}

// A process that is client and server in one waits for its disk, or has no CPU time left.
func TestTheDiskIsTheLimitWhereOneProcessHasCPUTimeLeft(t *testing.T) {
	for name, c := range map[string]struct {
		cpu, busy float64 // of the window, on two CPUs; turns that found something
		transfers uint64
		want      string
	}{
		"waits":          {0.5, 1, 1000, "disk"},
		"pool":           {1.9, 0.9, 1000, "client+server"},
		"polls":          {1.9, 0.1, 1000, "disk"},
		"nothing read":   {0.5, 1, 0, ""},
		"nothing at all": {1.9, 0.9, 0, ""},
	} {
		r := result()
		r.Process.User = time.Duration(c.cpu * float64(r.Duration))
		r.Process.Sys, r.BusyRatio, r.CPURatio = 0, c.busy, 0.5
		var row Row
		if Fill(&row, r, Sides{InProcess: true, DiskTransfers: c.transfers, CPUs: 2}); row.LimitedBy != c.want {
			t.Errorf("%s: limited by %q, not %q", name, row.LimitedBy, c.want)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for ns, want := range map[int64]string{0: "0 ns", 950: "950 ns", 1000: "1.00 µs", 12_345: "12.3 µs", 999_400: "999 µs", 999_600: "1.00 ms", 1_234_567: "1.23 ms", 4_000_000_000: "4.00 s", -1500: "-1.50 µs"} {
		if got := Duration(ns); got != want {
			t.Errorf("%d ns: %q, expected %q", ns, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 0.5: "0.50", 12.34: "12.3", 950: "950", 9_990: "9990", 12_345: "12.3k", 123_456: "123k", 999_600: "1.00M", 1_234_567: "1.23M"} {
		if got := Rate(v); got != want {
			t.Errorf("%v/s: %q, expected %q", v, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 64: "64 B", 1000: "1000 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 20: "1 MiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d B: %q, expected %q", n, got, want)
		}
	}
}

func TestTableIsAlignedAndHasReasons(t *testing.T) {
	row := func(transport string, ops, cpu float64, p50 int64) Row {
		return Row{Transport: transport, Mix: "get", ValueBytes: I(64), Conns: I(16), OpsPerS: F(ops), LatP50Ns: I(p50),
			ClientUserNsPerOp: F(cpu), ClientSysNsPerOp: F(1000), ClientSyscallsPerOp: F(1.25), Valid: B(true)}
	}
	rows := []Row{row("inproc", 2_345_678, 200, 410), row("tcp", 123_456, 2100, 98_700), {Transport: "rdma", SkippedReason: "no RDMA device\n(modprobe rdma_rxe)"}, row("uring", 99_000, 2100, 1_200_000)}
	rows[1].ServerUserNsPerOp, rows[1].ServerSysNsPerOp, rows[1].ServerSyscallsPerOp = F(900), F(4000), F(0.5)
	rows[1].LatP99Ns, rows[1].Note = I(213_000), "no O_DIRECT: page cache"
	rows[3].Valid, rows[3].InvalidReason, rows[3].Marks = B(false), "interrupted", "drift +7 %"
	rows[3].Conns = I(64)
	rows[0].LimitedBy = "client"
	want := `transport  op   value  conns  ops/s      p50     p99  CPU µs/op  syscalls/op  note
inproc     get   64 B     16  2.35M   410 ns       –       1.20         1.25  limited by the client
tcp        get   64 B     16   123k  98.7 µs  213 µs  3.10+4.90    1.25/0.50  no O_DIRECT: page cache
rdma       –        –      –      –        –       –          –            –  skipped: no RDMA device (modprobe rdma_rxe)
uring      get   64 B     64  99.0k  1.20 ms       –       3.10         1.25  !; invalid: interrupted
` + legend + marksNote
	var b bytes.Buffer
	if err := PrintTable(&b, rows); err != nil || b.String() != want {
		t.Errorf("%v\n%s\nexpected\n%s", err, b.String(), want)
	}
	b.Reset()
	long := "no RDMA device: " + strings.Repeat("why ", 30)
	if err := PrintTable(&b, []Row{rows[0], {Transport: "rdma", SkippedReason: long}, {Transport: "rdma", SkippedReason: long}}); err != nil ||
		strings.Count(b.String(), "skipped [1]\n") != 2 || strings.Count(b.String(), "\n[1] skipped: no RDMA device") != 1 {
		t.Errorf("a long reason, twice: %v\n%s", err, b.String())
	}
	b.Reset()
	if err := PrintTable(&b, rows[:1]); err != nil || strings.Contains(b.String(), "conns") {
		t.Errorf("%v\n%s", err, b.String())
	}
	if err := PrintTable(&b, nil); err != nil {
		t.Error(err)
	}
}
