package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const sliceColumns = `run_id question cell variant generation slice round place after started_at settle_ns window_ns drain_ns ops slice_ops errors ops_per_s lat_p50_ns lat_p90_ns lat_p99_ns ` +
	`client_cpu_ns server_cpu_ns cpu_ns_per_op parked_ns client_parked_cpu_ns server_parked_cpu_ns host_softirq_ns ksoftirqd_ns steal_ratio foreign_cpu_ratio ` +
	`client_syscalls server_syscalls client_enters server_enters client_sqes server_sqes client_cqes server_cqes sends receives rdma_posts rdma_wrs rdma_polls ctxsw_vol ctxsw_invol bytes_copied ` +
	`disk_reads disk_writes max_inflight achieved_ratio missed_sends tcp_cwnd`

func TestColumnsOfSlices(t *testing.T) {
	if got := strings.Join(SliceColumns(), " "); got != sliceColumns {
		t.Error(got)
	}
}

// fullSlice has a value in every column.
func fullSlice(t testing.TB, n int) (s Slice) {
	t.Helper()
	for i, c := range SliceColumns() {
		if err := s.Set(c, fmt.Sprint(n*1000+i)); err != nil {
			t.Fatal(err)
		}
	}
	s.Variant, s.After, s.OpsPerS = "rdma write", `tcp, "again"`, F(1234.5)
	return s
}

func TestSlicesComeBackAsTheyWere(t *testing.T) {
	name := filepath.Join(t.TempDir(), SlicesFile)
	if all, err := ReadSlices(name); err != nil || all != nil {
		t.Fatalf("no file: %v, %v", all, err)
	}
	want := []Slice{fullSlice(t, 1), {RunID: "b"}, fullSlice(t, 3)}
	for i := range want { // opened anew for each: one header
		w, err := OpenSlices(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Append(want[i]), w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadSlices(name)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\n%+v\n%+v", err, got, want)
	}
	b, err := json.Marshal(want[0])
	var back Slice
	if err != nil || json.Unmarshal(b, &back) != nil || back != want[0] {
		t.Errorf("%v: %s", err, b)
	}
	if b, _ := json.Marshal(Slice{RunID: "a", Ops: U(0)}); string(b) != `{"run_id":"a","ops":0}` {
		t.Errorf("%s", b)
	}
}

// A crash leaves half a line: it is left out, and the next slices follow the last whole one.
func TestALineThatWasCutShortIsLeftOut(t *testing.T) {
	name := filepath.Join(t.TempDir(), SlicesFile)
	w, err := OpenSlices(name)
	if err != nil {
		t.Fatal(err)
	}
	two := Slice{RunID: "two", Variant: "a\nb"} // one line, whatever a label has in it
	if err := errors.Join(w.Append(Slice{RunID: "one"}, two), w.Close()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name)
	if err != nil || bytes.Count(whole, []byte("\n")) != 3 {
		t.Fatalf("%v: %q", err, whole)
	}
	for cut := len(whole); cut >= 0; cut-- {
		if err := os.WriteFile(name, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		lines := max(0, bytes.Count(whole[:cut], []byte("\n"))-1)
		if got, err := ReadSlices(name); err != nil || len(got) != lines {
			t.Fatalf("cut at %d: %d slices, want %d: %v", cut, len(got), lines, err)
		}
		w, err := OpenSlices(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Append(Slice{RunID: "three"}), w.Close()); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadSlices(name); err != nil || len(got) != lines+1 || got[lines].RunID != "three" {
			t.Fatalf("cut at %d, and gone on: %+v, %v", cut, got, err)
		}
	}
}

func TestSlicesThatCannotBeRead(t *testing.T) {
	header := strings.Join(SliceColumns(), ",") + "\n"
	for text, words := range map[string][]string{
		"run_id,colour\na,b\n":                         {"line 1", `"colour" is unknown`},
		"run_id,ops\na,1\nb,-1\n":                      {"line 3", "column ops", "0 or more"},
		header + "a\n":                                 {"line 2", "fields"},
		"run_id\n" + strings.Repeat("x", 1<<17) + "\n": {"column run_id", "65536"},
	} {
		name := filepath.Join(t.TempDir(), SlicesFile)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := ReadSlices(name)
		for _, w := range append(words, name) {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%.40q: %v does not say %q", text, err, w)
			}
		}
	}
	name := filepath.Join(t.TempDir(), SlicesFile)
	if err := os.WriteFile(name, []byte("run_id,ops\na,1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSlices(name); err == nil || !strings.Contains(err.Error(), "those of another version") {
		t.Errorf("a header of another version: %v", err)
	}
}

// slicesOf are those of one generation, a round each: rates is the variant's rate by round.
func slicesOf(variant string, generation int, rates ...float64) (all []Slice) {
	for i, v := range rates {
		s := Slice{Variant: variant, Generation: I(generation), Slice: I(i + 1), Round: I(i + 1), LatP50Ns: I(int64(1e12 / max(v, 1))), CPUNsPerOp: F(1e9 / v), StealRatio: F(0)}
		if v > 0 {
			s.OpsPerS = F(v)
		}
		all = append(all, s)
	}
	return all
}

func metric(t *testing.T, name string) Metric {
	t.Helper()
	m, err := FindMetric(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTheValueOfAGeneration(t *testing.T) {
	row := func(rate float64) map[int]*Row {
		return map[int]*Row{1: {Transport: "tcp", OpsPerS: F(rate), LatP99Ns: I(int64(1e9 / rate)), Valid: B(true)}}
	}
	a := Series{Label: "a", Rows: row(100), Slices: map[int][]Slice{1: slicesOf("a", 1, 100, 200, 50, 400)}}
	b := Series{Label: "b", Rows: row(300), Slices: map[int][]Slice{1: slicesOf("b", 1, 110, 240, 55, 0)}}
	for _, c := range []struct {
		name   string
		metric string
		change func()
		calm   bool
		want   float64 // ratio; 0: none
	}{
		{"the median over rounds that have both", "ops_per_s", func() {}, false, 1.1},
		{"of times, too", "lat_p50_ns", func() {}, false, 1 / 1.1},
		{"p99 is of the totals", "lat_p99_ns", func() {}, false, 1 / 3.},
		{"nothing calm about totals", "lat_p99_ns", func() {}, true, 0},
		{"all are calm", "ops_per_s", func() {}, true, 1.1},
		{"steal on one side of a round", "ops_per_s", func() { a.Slices[1][0].StealRatio = F(0.02); b.Slices[1][2].StealRatio = F(0.02) }, true, 1.2},
		{"which counts otherwise", "ops_per_s", func() {}, false, 1.1},
		{"no side has slices in one round", "ops_per_s", func() { b.Slices[1] = slicesOf("b", 1, 0, 0, 0, 0) }, false, 3},
		{"one side has none", "ops_per_s", func() { b.Slices = nil }, false, 3},
		{"whole runs have nothing calm", "ops_per_s", func() {}, true, 0},
	} {
		c.change()
		e, err := a.differ(&b, metric(t, c.metric), c.calm, logRatio)
		if err != nil {
			t.Fatal(err)
		}
		if (e.pairs == 1) != (c.want != 0) || c.want != 0 && math.Abs(math.Exp(e.Estimate)/c.want-1) > 1e-6 {
			t.Errorf("%s: %v of %d, want %v", c.name, math.Exp(e.Estimate), e.pairs, c.want)
		}
	}
}

func TestCompareHasTheCalmRatio(t *testing.T) {
	p := pairs(8)
	p.Baseline.Slices, p.Variants[0].Slices = map[int][]Slice{}, map[int][]Slice{}
	for g := 1; g <= 8; g++ {
		x := 100 * (1 + float64(g)/100)
		p.Baseline.Slices[g], p.Variants[0].Slices[g] = slicesOf("tcp", g, x, x, x), slicesOf("fast", g, 2*x, 2*x, 1.5*x)
		p.Variants[0].Slices[g][0].StealRatio, p.Variants[0].Slices[g][1].StealRatio = F(0.1), F(0.1)
	}
	all := compare(t, Options{}, p)
	c := find(t, all, "fast", "ops_per_s")
	if math.Abs(c.Ratio-2) > 1e-9 || math.Abs(c.CalmRatio-1.5) > 1e-9 || math.Abs(c.Calm.Low-1.5) > 1e-9 || c.Calm.Level < 0.95 {
		t.Errorf("%+v", c)
	}
	if c := find(t, all, "slow", "ops_per_s"); !math.IsNaN(c.CalmRatio) {
		t.Errorf("without slices: %+v", c)
	}
}

func TestInteractionIsTheRatioOfRatios(t *testing.T) {
	one, many := pairs(12), pairs(12)
	many.Question, many.Variants[0] = "q", series("fast", 12, 3e5, still(3))
	delete(many.Variants[0].Rows, 4)
	many.Variants[0].Rows[5].Valid = B(false)
	many.Variants = append(many.Variants, series("other", 12, 1, still(1)))
	all, err := Interactions([]Interaction{{Question: "mix=get", Factor: "depth", From: "1", To: "16", AtFrom: one, AtTo: many}})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3*len(Metrics) {
		t.Fatalf("%d lines", len(all))
	}
	c := find(t, all, "fast", "ops_per_s")
	if c.Kind != KindInteraction || c.At != "depth=16 / depth=1" || c.Question != "mix=get" || math.Abs(c.Ratio-1.5) > 1e-3 || c.Pairs != 10 || c.LeftOut != 1 || c.Level < 0.95 || c.Claim() {
		t.Errorf("%+v", c)
	}
	if c := find(t, all, "slow", "lat_p50_ns"); math.Abs(c.Ratio-1) > 1e-3 || !(c.Low <= 1 && c.High >= 1) {
		t.Errorf("%+v", c)
	}
}

func TestCarryOverIsFoundByPredecessor(t *testing.T) {
	var all []Slice
	variants := []string{"tcp", "tcp again", "uring", "uring multishot"}
	rng := rand.New(rand.NewPCG(1, 2))
	for g := 1; g <= 8; g++ {
		after := ""
		for round := range 24 {
			for place, i := range rng.Perm(len(variants)) { // less than half of each variant's slices follow uring's: their medians know nothing of it
				rate := float64(1000*(i+1)) * (1 + float64(g)/50)
				if after == "uring" {
					rate *= 0.9
				}
				all = append(all, Slice{Question: "depth=1", Variant: variants[i], Generation: I(g), Round: I(round + 1), Place: I(place + 1), After: after, OpsPerS: F(rate), CPUNsPerOp: F(1000)})
				after = variants[i]
			}
		}
	}
	got := CarryOver(all)
	if len(got) != 2*len(variants) { // no slice has latencies
		t.Fatalf("%+v", got)
	}
	for _, c := range got {
		want := 1.0
		if c.After == "uring" && c.Metric == "ops_per_s" {
			want = 0.9
		}
		if math.Abs(c.Ratio-want) > 1e-9 || c.Low > want+1e-9 || c.High < want-1e-9 || c.Generations != 8 || c.Level < 0.95 || c.Question != "depth=1" {
			t.Errorf("%+v, want %v", c, want)
		}
	}
	var b bytes.Buffer
	if err := WriteCarryOver(&b, got); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(lines) != 1+len(got) || strings.Join(lines[0], " ") != "question metric after ratio low high level generations" || lines[1][1] != "ops_per_s" || lines[1][2] != "tcp" {
		t.Errorf("%v, %q", err, lines)
	}
	if got := CarryOver(nil); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestSidesThatDifferInMoreAreRefused(t *testing.T) {
	change := func(f func(r *Row)) func(p *Pairs) {
		return func(p *Pairs) {
			for _, r := range p.Variants[0].Rows {
				f(r)
			}
		}
	}
	for _, c := range []struct {
		name     string
		change   func(p *Pairs)
		compared []string
		want     string // "": taken
	}{
		{"alike", func(p *Pairs) {}, []string{"transport"}, ""},
		{"connections", change(func(r *Row) { r.Conns = I(4) }), []string{"transport"}, "a comparison by transport would differ in conns, too: tcp has 8, and fast has 4, in generation 1: measure both with the same"},
		{"connections, which are what is compared", change(func(r *Row) { r.Conns = I(4) }), []string{"conns"}, ""},
		{"nobody says what is compared", change(func(r *Row) { r.Conns = I(4) }), nil, ""},
		{"does not apply to one", change(func(r *Row) { r.Conns = Int{} }), []string{"transport"}, ""},
		{"a transport's own", change(func(r *Row) {
			r.Transport, r.RDMAVerb, r.Device, r.Factors, r.TCPNoDelay, r.Ring = "rdma", "write", "rxe", Factors{"uring_receive": "multishot"}, B(false), "separate"
		}), []string{"transport"}, ""},
		{"what belongs to a variant", change(func(r *Row) { r.Wait = "spin" }), []string{"transport", "wait"}, ""},
		{"as a flag is written", change(func(r *Row) { r.DiskEngine = "aio" }), []string{"disk-engine"}, ""},
		{"measured in other slices", change(func(r *Row) { r.SliceNs = I(100) }), []string{"transport"}, "in slice_ns, too: tcp has 50, and fast has 100"},
		{"whole beside slices", change(func(r *Row) { r.Method = MethodWhole }), []string{"transport"}, "in method, too: tcp has slices, and fast has whole"},
		{"a store loaded by the run", change(func(r *Row) { r.DataSet = "fresh" }), []string{"transport"}, "in data_set, too: tcp has reused, and fast has fresh"},
		{"a copy of the same store", change(func(r *Row) { r.DataSet = "copied" }), []string{"transport"}, ""},
		{"in one process", change(func(r *Row) { r.Transport, r.ClientThreads, r.ClientCPUs, r.Hosts = "inproc", I(2), "0-1", I(1) }), []string{"transport"}, ""},
		{"on other CPUs", change(func(r *Row) { r.ClientCPUs = "2" }), []string{"transport"}, "in client_cpus, too"},
		{"all on other CPUs, in one process", func(p *Pairs) {
			for _, s := range append([]Series{p.Baseline, p.Again}, p.Variants...) {
				for _, r := range s.Rows {
					r.Transport = "inproc"
				}
			}
			change(func(r *Row) { r.ClientCPUs = "2" })(p)
		}, []string{"server-cpus"}, ""},
		{"skipped", change(func(r *Row) { r.Conns, r.SkippedReason = I(4), "no device" }), []string{"transport"}, ""},
		{"the baseline again", func(p *Pairs) { p.Again.Rows[2].Depth = I(1) }, []string{"transport"}, "in depth, too: tcp has 16, and tcp has 1"},
	} {
		p := pairs(6)
		p.Compared = c.compared
		for _, s := range []Series{p.Baseline, p.Again, p.Variants[0], p.Variants[1], p.Variants[2]} {
			for _, r := range s.Rows {
				r.Conns, r.Depth, r.Wait, r.SliceNs, r.Method, r.DataSet, r.DiskEngine, r.TCPNoDelay, r.Device, r.Transport, r.ClientThreads, r.ClientCPUs, r.Hosts = I(8), I(16), "block", I(50), MethodSlices, "reused", "uring", B(true), "loopback", "tcp", I(1), "1", I(2)
			}
		}
		c.change(&p)
		all, err := Compare([]Pairs{p}, Options{})
		if c.name == "the baseline again" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got := find(t, all, "fast", "ops_per_s")
		if refused := got.Verdict == "not comparable"; refused != (c.want != "") || refused && (!strings.Contains(got.Why, c.want) || !math.IsNaN(got.Ratio) || got.Pairs != 0) {
			t.Errorf("%s: %q, %q, want %q", c.name, got.Verdict, got.Why, c.want)
		}
		if other := find(t, all, "slow", "ops_per_s"); other.Pairs != 6 || other.Why != "" && !strings.HasPrefix(other.Why, "too few") {
			t.Errorf("%s: another variant, which is alike: %+v", c.name, other)
		}
		if got := find(t, all, "fast", "cpu_ns_per_op"); got.Claim() || got.Why == "" || strings.Contains(got.Why, "differ in") != (c.want != "") {
			t.Errorf("%s: an exploratory row: %q, %q", c.name, got.Verdict, got.Why)
		}
	}
}

func TestMeasuringStopsWhereAllIntervalsAreNarrow(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		change func(p *Pairs)
		until  float64
		want   bool
	}{
		{"narrow", 12, func(p *Pairs) {}, 0.03, true},
		{"asked for more", 12, func(p *Pairs) {}, 0.0001, false},
		{"six, where a third of the error takes seven", 6, func(p *Pairs) {}, 0.03, false},
		{"one that is wide", 12, func(p *Pairs) {
			p.Variants[2] = series("alike", 12, 1e5, func(g int) float64 { return float64(1 + g%5) })
		}, 0.03, false},
		{"one that is wide and no claim", 12, func(p *Pairs) {
			p.Primary = []string{"ops_per_s"}
			for g, r := range p.Variants[0].Rows {
				r.LatP50Ns = I(1000 * (1 + g%5))
			}
		}, 0.03, true},
		{"no claims at all", 12, func(p *Pairs) { p.Primary = nil }, 0.03, true},
		{"one that was not measured", 12, func(p *Pairs) { p.Variants[0].Rows = nil }, 0.03, true},
		{"nothing was measured", 12, func(p *Pairs) { p.Baseline.Rows = nil }, 0.03, false},
	} {
		p := pairs(c.n)
		c.change(&p)
		if got, err := Narrow([]Pairs{p}, Options{Looks: 3}, c.until); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

func TestALineIsThatOfItsRecord(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.csv")
	if err := os.WriteFile(name, []byte("a,b\n1,\"two\nlines\"\n\n2,x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for record, want := range []int{2, 5, 0} {
		if got := LineOf(name, record); got != want {
			t.Errorf("record %d: line %d, want %d", record, got, want)
		}
	}
	if got := LineOf(name+"x", 0); got != 0 {
		t.Errorf("a file that does not exist: line %d", got)
	}
}
