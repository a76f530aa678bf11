package report

import (
	"bytes"
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench"
)

// series is n valid runs, one in each block, whose rate is rate times what noise gives for the block.
func series(label string, n int, rate float64, noise func(block int) float64) Series {
	s := Series{Label: label, Rows: map[int]*Row{}}
	for b := 1; b <= n; b++ {
		v := rate * noise(b)
		s.Rows[b] = &Row{Transport: label, OpsPerS: F(v), LatP50Ns: I(int64(1e12 / v)), Valid: B(true)}
	}
	return s
}

// still is a machine whose blocks differ and whose runs do not, but for some part per thousand.
func still(salt int) func(int) float64 {
	return func(b int) float64 { return float64(1+b%3) * (1 + float64((b*7+salt*5)%11-5)/2000) }
}

func find(t *testing.T, all []Comparison, variant, metric string) Comparison {
	t.Helper()
	for _, c := range all {
		if c.Variant == variant && c.Metric.Name == metric {
			return c
		}
	}
	t.Fatalf("no comparison of %s by %s", variant, metric)
	return Comparison{}
}

func pairs(n int) Pairs {
	return Pairs{Question: "q", Primary: []string{"ops_per_s", "lat_p50_ns"}, Baseline: series("tcp", n, 1e5, still(1)), Again: series("tcp", n, 1e5, still(2)),
		Variants: []Series{series("fast", n, 2e5, still(3)), series("slow", n, 0.8e5, still(4)), series("alike", n, 1.01e5, still(5))}}
}

func TestVerdictsPerMetric(t *testing.T) {
	all, err := Compare([]Pairs{pairs(10)})
	if err != nil {
		t.Fatal(err)
	}
	for variant, want := range map[string]string{"fast": "faster", "slow": "slower", "alike": "same"} {
		for _, metric := range []string{"ops_per_s", "lat_p50_ns"} {
			c := find(t, all, variant, metric)
			if c.Verdict != want || c.Pairs != 10 || c.LeftOut+c.Invalid != 0 {
				t.Errorf("%s by %s: %+v", variant, metric, c)
			}
			if c.PHolm < c.P || c.Delta != 0.03 || c.Low > c.Ratio || c.High < c.Ratio {
				t.Errorf("%s by %s: %+v", variant, metric, c)
			}
		}
	}
	c := find(t, all, "fast", "ops_per_s")
	if math.Abs(c.Ratio-2) > 0.02 {
		t.Errorf("twice as fast is a ratio of %v", c.Ratio)
	}
	if c := find(t, all, "fast", "cpu_ns_per_op"); c.Verdict != "" || c.Pairs != 0 || !math.IsNaN(c.Ratio) {
		t.Errorf("what was not measured: %+v", c)
	}
}

func TestNoVerdictWithoutEvidence(t *testing.T) {
	for name, change := range map[string]func(p *Pairs){
		"few blocks":          func(p *Pairs) { *p = pairs(5) },
		"no A/A":              func(p *Pairs) { p.Again = Series{} },
		"five valid runs":     func(p *Pairs) { spoil(p.Variants[0], 5) },
		"a baseline that was": func(p *Pairs) { spoil(p.Baseline, 10) },
		"a noisy machine": func(p *Pairs) {
			p.Again = series("tcp", 10, 1e5, func(b int) float64 { return still(1)(b) * float64(1+b%4) })
		},
	} {
		p := pairs(10)
		change(&p)
		all, err := Compare([]Pairs{p})
		if err != nil {
			t.Fatal(err)
		}
		if c := find(t, all, "fast", "ops_per_s"); c.Verdict != "can't tell" {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func spoil(s Series, n int) {
	for b := 1; b <= n; b++ {
		s.Rows[b].Valid = B(false)
	}
}

// Invalid runs are left out as long as there are enough others; else they are compared, and said to be.
func TestInvalidRunsAreLeftOut(t *testing.T) {
	for n, want := range map[int][3]int{4: {6, 0, 4}, 5: {10, 5, 0}} {
		p := pairs(10)
		spoil(p.Variants[0], n)
		all, _ := Compare([]Pairs{p})
		if c := find(t, all, "fast", "ops_per_s"); [3]int{c.Pairs, c.Invalid, c.LeftOut} != want {
			t.Errorf("%d invalid: %+v, want %v", n, c, want)
		}
	}
	p := pairs(10)
	p.Variants[0].Rows[3].OpsPerS, p.Variants[0].Rows[4].SkippedReason = Float{}, "there is none here"
	delete(p.Variants[0].Rows, 7)
	all, _ := Compare([]Pairs{p})
	if c := find(t, all, "fast", "ops_per_s"); c.Pairs != 7 || c.LeftOut != 2 {
		t.Errorf("a failed, a skipped and a missing run: %+v", c)
	}
}

// The more claims there are, the less each p says.
func TestClaimsShareTheError(t *testing.T) {
	p := pairs(7)
	p.Variants = p.Variants[:1]
	one, _ := Compare([]Pairs{p})
	var many []Pairs
	for range 6 {
		many = append(many, p)
	}
	all, _ := Compare(many)
	a, b := find(t, one, "fast", "ops_per_s"), find(t, all, "fast", "ops_per_s")
	if a.Verdict != "faster" || b.Verdict != "can't tell" || b.PHolm != 6*a.PHolm {
		t.Errorf("%v %v among two, %v %v among twelve", a.Verdict, a.PHolm, b.Verdict, b.PHolm)
	}
}

func TestComparisonsAsCSVHaveNoNaN(t *testing.T) {
	all, _ := Compare([]Pairs{pairs(10)})
	var b bytes.Buffer
	if err := WriteComparisons(&b, all); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(lines) != 1+len(all) || len(all) != 3*len(Metrics) {
		t.Fatalf("%d lines of %d comparisons: %v", len(lines), len(all), err)
	}
	for _, l := range lines {
		if s := strings.Join(l, ","); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
			t.Error(s)
		}
	}
}

// Percentiles of several runs are those of all operations, and never means.
func TestTogetherMergesLatencies(t *testing.T) {
	of := map[string]*hdrhistogram.Histogram{}
	var rows []Row
	for i, ns := range []int64{100, 100, 900} {
		h := hdrhistogram.New(1, 1e9, 3)
		_ = h.RecordValues(ns, 10_000)
		id := string(rune('a' + i))
		of[id] = h
		rows = append(rows, Row{RunID: id, Ops: U(10_000), OpsPerS: F(float64(10 * (i + 1))), LatP50Ns: I(ns), Valid: B(true)})
	}
	got, all, err := Together(rows, func(id string) (*hdrhistogram.Histogram, error) { return of[id], nil })
	if err != nil {
		t.Fatal(err)
	}
	p50, _ := got.LatP50Ns.Get()
	p99, _ := got.LatP99Ns.Get()
	if p50 != 100 || p99 != 900 || got.OpsPerS != F(20) || all.TotalCount() != 30_000 {
		t.Errorf("p50 %d, p99 %d, %v ops/s", p50, p99, got.OpsPerS)
	}
	rows[2].Valid = B(false)
	of["a"], of["b"] = hdrhistogram.New(1, 1e9, 3), hdrhistogram.New(1, 1e9, 3)
	_ = of["a"].RecordValues(100, 10_000)
	_ = of["b"].RecordValues(100, 10_000)
	got, _, _ = Together(rows, func(id string) (*hdrhistogram.Histogram, error) { return of[id], nil })
	if p99, _ := got.LatP99Ns.Get(); p99 != 100 || got.valid() || !strings.Contains(got.InvalidReason, "1 of 3") {
		t.Errorf("an invalid run counts: p99 %d, %q", p99, got.InvalidReason)
	}
}

func TestRecordComesBack(t *testing.T) {
	dir := t.TempDir()
	h := hdrhistogram.New(1, 1e9, 3)
	for v := int64(1); v < 1e6; v += 97 {
		_ = h.RecordValue(v)
	}
	res := &bench.Result{Lat: h, Series: []bench.Interval{{Begin: 0, Length: 1e9, Ops: 20_000, N: 20_000, P50: 5, P99: 7}, {Begin: 1e9, Length: 5e8, Ops: 10, N: 10, P50: 5, P99: 7}}}
	for _, run := range []string{"one", "two"} {
		if err := Record(dir, run, res); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadHistogram(dir, "two")
	if err != nil || got.TotalCount() != h.TotalCount() || got.ValueAtPercentile(99) != h.ValueAtPercentile(99) {
		t.Fatalf("%v: %d values of %d", err, got.TotalCount(), h.TotalCount())
	}
	if _, err := ReadHistogram(dir, "three"); err == nil {
		t.Error("a run that was not recorded has latencies")
	}
	lines := readLines(t, dir+"/timeseries.csv")
	if len(lines) != 5 || lines[1] != "one,0,1000000000,20000,20000,5,7" || lines[4] != "two,1000000000,500000000,10,20,," {
		t.Errorf("%q", lines)
	}
}

func readLines(t *testing.T, name string) []string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func TestBenchTextIsGosOwnForm(t *testing.T) {
	var b bytes.Buffer
	rows := []Row{{Ops: U(1000), OpsPerS: F(2e5), LatP50Ns: I(123_456_789), Transport: "tcp"}, {SkippedReason: "none here"}}
	if err := WriteBench(&b, "quick", rows, func(r *Row) string { return "Quick/transport=" + r.Transport }); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 4 || lines[2] != "pkg: kvwire/quick" || lines[3] != "BenchmarkQuick/transport=tcp 1000 5000 ns/op 200000 ops/s 1.23457e+08 p50-ns" {
		t.Errorf("%q", lines)
	}
}

func TestManifestIsOfAllFilesButItself(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "hdr/b"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("text\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := WriteManifest(dir); err != nil {
			t.Fatal(err)
		}
	}
	const sum = "b9e68e1bea3e5b19ca6b2f98b73a54b73daafaa250484902e09982e07a12e733"
	if got := readLines(t, filepath.Join(dir, "MANIFEST.sha256")); len(got) != 2 || got[0] != sum+"  a" || got[1] != sum+"  hdr/b" {
		t.Errorf("%q", got)
	}
}

func TestUnpairedRuns(t *testing.T) {
	rows := func(rate float64, n, invalid int) (rows []Row) {
		for i := range n {
			rows = append(rows, Row{OpsPerS: F(rate * (1 + float64(i*7%n)/1000)), Valid: B(i >= invalid)})
		}
		return rows
	}
	m, err := FindMetric("ops_per_s")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Unpaired(rows(100, 8, 0), rows(200, 7, 0), m)
	if err != nil || math.Abs(c.Ratio-2) > 0.01 || c.Low > c.Ratio || c.High < c.Ratio || c.Pairs != 7 || c.Level < 0.95 || c.P > 0.001 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, _ := Unpaired(rows(100, 8, 2), rows(200, 7, 0), m); c.Pairs != 6 || c.LeftOut != 2 || c.Invalid != 0 {
		t.Errorf("invalid runs beside others: %+v", c)
	}
	if c, _ := Unpaired(rows(100, 3, 3), rows(200, 3, 0), m); c.Pairs != 3 || c.LeftOut != 0 || c.Invalid != 3 {
		t.Errorf("nothing but invalid runs: %+v", c)
	}
	if c, err := Unpaired([]Row{{SkippedReason: "none"}}, rows(1, 3, 0), m); err != nil || c.Pairs != 0 || !math.IsNaN(c.Ratio) {
		t.Errorf("nothing measured: %+v, %v", c, err)
	}
}
