package report

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench"
)

// series is n valid runs, one in each generation, whose rate is rate times what noise gives for it.
func series(label string, n int, rate float64, noise func(generation int) float64) Series {
	s := Series{Label: label, Rows: map[int]*Row{}}
	for b := 1; b <= n; b++ {
		v := rate * noise(b)
		s.Rows[b] = &Row{Transport: label, OpsPerS: F(v), LatP50Ns: I(int64(1e12 / v)), Valid: B(true)}
	}
	return s
}

// still is a machine whose generations differ and whose runs do not, but for some part per thousand.
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

func compare(t *testing.T, o Options, all ...Pairs) []Comparison {
	t.Helper()
	out, err := Compare(all, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVerdictsPerMetric(t *testing.T) {
	all := compare(t, Options{}, pairs(12))
	for variant, want := range map[string]string{"fast": "faster by at least 9", "slow": "slower by at least 19", "alike": "faster"} {
		for _, metric := range []string{"ops_per_s", "lat_p50_ns"} {
			c := find(t, all, variant, metric)
			if metric == "lat_p50_ns" {
				want = strings.NewReplacer("at least 9", "at least 49", "at least 19", "at least 24").Replace(want)
			}
			if !strings.HasPrefix(c.Verdict, want) || c.Why != "" || c.Pairs != 12 || c.LeftOut != 0 || c.Kind != KindRatio {
				t.Errorf("%s by %s: %q, %+v, want %s", variant, metric, c.Verdict, c, want)
			}
			if c.PHolm < c.P || c.Low > c.Ratio || c.High < c.Ratio || c.Corrected.Low > c.Low || c.Corrected.High < c.High || c.Corrected.Level < c.Level || !(c.AA.Low <= 1 && c.AA.High >= 1) {
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

// Every verdict, and every reason why there is none.
func TestVerdictsAndReasons(t *testing.T) {
	alone := func(p *Pairs) { p.Variants, p.Primary = p.Variants[:1], []string{"ops_per_s"} }
	noisy := func(width float64) func(int) float64 {
		return func(g int) float64 { return still(1)(g) * math.Exp(width*(float64((g*7)%12)/6-11./12)) }
	}
	for _, c := range []struct {
		name         string
		n            int
		change       func(p *Pairs)
		o            Options
		metric       string
		verdict, why string
	}{
		{name: "faster", n: 12, change: alone, verdict: "faster by at least 99 %"},
		{name: "a factor of two and more", n: 12, change: func(p *Pairs) {
			alone(p)
			p.Primary = []string{"lat_p50_ns"}
			p.Variants[0] = series("fast", 12, 0.25e5, still(1))
		}, metric: "lat_p50_ns", verdict: "slower by a factor of at least 4"},
		{name: "less time is faster", n: 12, change: func(p *Pairs) { alone(p); p.Primary = []string{"lat_p50_ns"} }, metric: "lat_p50_ns", verdict: "faster by at least 49 %"},
		{name: "surely, and by little", n: 12, change: func(p *Pairs) { alone(p); p.Variants[0] = series("fast", 12, 1.02e5, still(3)) }, verdict: "faster"},
		{name: "slower", n: 12, change: func(p *Pairs) { alone(p); p.Variants[0] = series("fast", 12, 0.9549e5, still(1)) }, verdict: "slower by at least 4.5 %"},
		{name: "same", n: 12, change: func(p *Pairs) { alone(p); p.Variants[0] = series("fast", 12, 1e5, noisy(0.02)) }, verdict: "same"},
		{name: "the same, where less matters", n: 12, change: func(p *Pairs) { alone(p); p.Variants[0] = series("fast", 12, 1e5, noisy(0.02)) }, o: Options{Matters: 0.002}, verdict: "can't tell", why: "interval too wide: "},
		{name: "20 % at noise of 10 %", n: 12, change: func(p *Pairs) {
			alone(p)
			p.Baseline, p.Again, p.Variants[0] = series("tcp", 12, 1e5, still(1)), series("tcp", 12, 1e5, noisy(0.1)), series("fast", 12, 1.2e5, noisy(0.1))
		}, verdict: "faster by at least "},
		{name: "wide", n: 12, change: func(p *Pairs) { alone(p); p.Variants[0] = series("fast", 12, 1e5, noisy(0.5)) }, verdict: "can't tell", why: "interval too wide: "},
		{name: "few generations", n: 5, change: alone, verdict: "can't tell", why: "too few generations: 5, and a verdict takes 6"},
		{name: "few for three looks", n: 6, change: alone, o: Options{Looks: 3}, verdict: "can't tell", why: "too few generations: 6, and a verdict takes 7"},
		{name: "few for six claims", n: 7, verdict: "can't tell", why: "too few generations: 7, and a verdict takes 8"},
		{name: "enough valid ones", n: 12, change: func(p *Pairs) { alone(p); spoil(p.Variants[0], 6) }, verdict: "faster by at least 99 %"},
		{name: "few valid ones", n: 12, change: func(p *Pairs) { alone(p); spoil(p.Variants[0], 7) }, verdict: "can't tell", why: "too few generations: 5, and a verdict takes 6"},
		{name: "marks", n: 12, change: func(p *Pairs) {
			alone(p)
			for _, r := range p.Variants[0].Rows {
				r.Marks, r.Steady, r.StealRatio = "drift +30 %; steal 20.0 %", B(false), F(0.2)
			}
		}, verdict: "faster by at least 99 %"},
		{name: "no A/A", n: 12, change: func(p *Pairs) { alone(p); p.Again = Series{} }, verdict: "can't tell", why: "the baseline was not measured twice"},
		{name: "an A/A that differs", n: 12, change: func(p *Pairs) { alone(p); p.Again = series("tcp", 12, 1.05e5, still(2)) }, verdict: "can't tell", why: "the baseline differs from itself: 1.0"},
		{name: "an A/A that differs at 95 % alone", n: 7, change: func(p *Pairs) { alone(p); p.Again = series("tcp", 7, 1.05e5, still(2)) }, verdict: "faster by at least 99 %"},
		{name: "skipped", n: 12, change: func(p *Pairs) {
			alone(p)
			for _, r := range p.Variants[0].Rows {
				r.SkippedReason, r.OpsPerS, r.Valid = "no device", Float{}, Bool{}
			}
		}, verdict: "not measured", why: "fast: skipped: no device"},
		{name: "never run", n: 12, change: func(p *Pairs) { alone(p); p.Variants[0].Rows = nil }, verdict: "not measured", why: "fast: not run"},
		{name: "a baseline that failed", n: 12, change: func(p *Pairs) {
			alone(p)
			for _, r := range p.Baseline.Rows {
				r.InvalidReason, r.OpsPerS = "exit status 1", Float{}
			}
		}, verdict: "not measured", why: "tcp: failed: exit status 1"},
	} {
		p := pairs(c.n)
		if c.change != nil {
			c.change(&p)
		}
		metric := cmp.Or(c.metric, "ops_per_s")
		got := find(t, compare(t, c.o, p), "fast", metric)
		if !strings.HasPrefix(got.Verdict, c.verdict) || c.verdict == "same" && got.Verdict != c.verdict || c.verdict == "faster" && got.Verdict != c.verdict ||
			!strings.HasPrefix(got.Why, c.why) || c.why == "" && got.Why != "" {
			t.Errorf("%s: %q, %q (%s, corrected %s, A/A %s); want %q, %q", c.name, got.Verdict, got.Why, got.Interval.Text(), got.Corrected.Text(), got.AA.Text(), c.verdict, c.why)
		}
	}
}

func spoil(s Series, n int) {
	for g := 1; g <= n; g++ {
		s.Rows[g].Valid = B(false)
	}
}

// Only invalid, failed and missing runs are left out.
func TestInvalidRunsAreLeftOut(t *testing.T) {
	p := pairs(12)
	spoil(p.Variants[0], 4)
	if c := find(t, compare(t, Options{}, p), "fast", "ops_per_s"); c.Pairs != 8 || c.LeftOut != 4 {
		t.Errorf("4 invalid: %+v", c)
	}
	p = pairs(12)
	p.Variants[0].Rows[3].OpsPerS, p.Variants[0].Rows[4].SkippedReason = Float{}, "there is none here"
	delete(p.Variants[0].Rows, 7)
	if c := find(t, compare(t, Options{}, p), "fast", "ops_per_s"); c.Pairs != 9 || c.LeftOut != 2 {
		t.Errorf("a failed, a skipped and a missing run: %+v", c)
	}
}

// The more claims there are, the larger each corrected p is. A claim that was not measured does not count.
func TestClaimsShareTheError(t *testing.T) {
	p := pairs(7)
	p.Variants, p.Primary = p.Variants[:1], []string{"ops_per_s"}
	one := find(t, compare(t, Options{}, p), "fast", "ops_per_s")
	many := find(t, compare(t, Options{}, p, p, p, p, p, p), "fast", "ops_per_s")
	if !strings.HasPrefix(one.Verdict, "faster") || many.Verdict != "can't tell" || many.PHolm != 6*one.PHolm || many.Why != "too few generations: 7, and a verdict takes 8" {
		t.Errorf("%v %v alone, %v %v %q among six", one.Verdict, one.PHolm, many.Verdict, many.PHolm, many.Why)
	}
	p.Variants = append(p.Variants, Series{Label: "rdma"}, Series{Label: "rdma write"}, Series{Label: "rdma read"})
	if c := find(t, compare(t, Options{}, p), "fast", "ops_per_s"); c.PHolm != one.PHolm || c.Verdict != one.Verdict {
		t.Errorf("beside three that were not measured: %v %v", c.Verdict, c.PHolm)
	}
}

func TestExploratoryRowsHaveAnIntervalAndNoVerdict(t *testing.T) {
	p := pairs(12)
	p.Primary = nil
	for _, c := range compare(t, Options{Looks: 3}, p) {
		if c.Claim() || (c.Why != "") != (c.Pairs == 0) || !math.IsNaN(c.Corrected.Low) || c.Pairs > 0 && (c.Level < 0.95 || c.Level > 0.97) {
			t.Errorf("%+v", c)
		}
	}
}

func TestOptionsOutOfBoundsAreRefused(t *testing.T) {
	for _, o := range []Options{{Looks: -1}, {Matters: -0.1}, {Matters: 1}} {
		if _, err := Compare([]Pairs{pairs(6)}, o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestComparisonsAsCSVHaveNoNaN(t *testing.T) {
	all := compare(t, Options{}, pairs(10))
	var b bytes.Buffer
	if err := WriteComparisons(&b, all); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(lines) != 1+len(all) || len(all) != 3*len(Metrics) {
		t.Fatalf("%d lines of %d comparisons: %v", len(lines), len(all), err)
	}
	if got := strings.Join(lines[0], " "); got != "kind question at metric baseline variant generations left_out ratio ratio_low ratio_high level aa_low aa_high p p_holm "+
		"corrected_low corrected_high corrected_level verdict why ratio_calm ratio_calm_low ratio_calm_high exploratory" {
		t.Error(got)
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
	if got.Valid != B(true) || note(&got) != "" {
		t.Errorf("%v: %s", got.Valid, note(&got))
	}
	rows[1].Valid, rows[2].Marks = B(false), "drift +40 %"
	for i := range rows {
		h := hdrhistogram.New(1, 1e9, 3)
		_ = h.RecordValues([]int64{100, 100, 900}[i], 10_000)
		of[rows[i].RunID] = h
	}
	got, all, _ = Together(rows, func(id string) (*hdrhistogram.Histogram, error) { return of[id], nil })
	if got.OpsPerS != F(20) || all.TotalCount() != 30_000 || !strings.HasPrefix(got.InvalidReason, "1 of 3 runs") || !strings.HasPrefix(got.Marks, "1 of 3 runs") {
		t.Errorf("all runs together are all runs: %v, %d, %q, %q", got.OpsPerS, all.TotalCount(), got.InvalidReason, got.Marks)
	}
}

func TestRecordComesBack(t *testing.T) {
	dir := t.TempDir()
	h := hdrhistogram.New(1, 1e9, 3)
	for v := int64(1); v < 1e6; v += 97 {
		_ = h.RecordValue(v)
	}
	res := &bench.Result{Lat: h, Series: []bench.Bin{{Begin: 0, Length: 1e9, Ops: 20_000, N: 20_000, P50: 5, P99: 7}, {Begin: 1e9, Length: 5e8, Ops: 10, N: 10, P50: 5, P99: 7}}}
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
		if err := WriteManifest(dir, false); err != nil {
			t.Fatal(err)
		}
	}
	const sum = "b9e68e1bea3e5b19ca6b2f98b73a54b73daafaa250484902e09982e07a12e733"
	want := []string{sum + "  a", sum + "  hdr/b"}
	if got := readLines(t, filepath.Join(dir, ManifestFile)); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	link := filepath.Join(t.TempDir(), "latest")
	if err := errors.Join(os.Symlink(dir, link), WriteManifest(link, false)); err != nil {
		t.Fatal(err)
	}
	if got := readLines(t, filepath.Join(dir, ManifestFile)); !slices.Equal(got, want) {
		t.Errorf("through a link: %q", got)
	}
}

// A report that is written again keeps the sums of its inputs: damage stays visible.
func TestManifestKeepsTheSumsOfInputs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"runs.csv", "slices.csv", "hdr/a", "report.html", "charts/a.svg"} {
		write(name, "old")
	}
	if missing, changed, err := CheckInputs(dir); len(missing)+len(changed) != 0 || err != nil {
		t.Errorf("without a manifest: %q, %q, %v", missing, changed, err)
	}
	if err := WriteManifest(dir, false); err != nil {
		t.Fatal(err)
	}
	old := readLines(t, filepath.Join(dir, ManifestFile))
	for _, name := range []string{"runs.csv", "report.html", "more"} {
		write(name, "new")
	}
	for _, name := range []string{"hdr/a", "charts/a.svg"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // a second report names the same files
		missing, changed, err := CheckInputs(dir)
		if !slices.Equal(missing, []string{"hdr/a"}) || !slices.Equal(changed, []string{"runs.csv"}) || err != nil {
			t.Errorf("%q, %q, %v", missing, changed, err)
		}
		if err := WriteManifest(dir, true); err != nil {
			t.Fatal(err)
		}
	}
	got := readLines(t, filepath.Join(dir, ManifestFile)) // hdr/a, more, report.html, runs.csv, slices.csv
	if len(got) != 5 || got[0] != old[1] || got[3] != old[3] || got[4] != old[4] || got[2] == old[2] || !strings.HasSuffix(got[1], "  more") {
		t.Errorf("%q\nwas %q", got, old)
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
	if c, _ := Unpaired(rows(100, 8, 2), rows(200, 7, 0), m); c.Pairs != 6 || c.LeftOut != 2 {
		t.Errorf("invalid runs beside others: %+v", c)
	}
	if c, _ := Unpaired(rows(100, 3, 3), rows(200, 3, 0), m); c.Pairs != 0 || c.LeftOut != 3 {
		t.Errorf("nothing but invalid runs: %+v", c)
	}
	if c, err := Unpaired([]Row{{SkippedReason: "none"}}, rows(1, 3, 0), m); err != nil || c.Pairs != 0 || !math.IsNaN(c.Ratio) {
		t.Errorf("nothing measured: %+v, %v", c, err)
	}
}

func TestLongReasonsAreCutInTables(t *testing.T) {
	for why, want := range map[string]string{"": "", "short": "short", strings.Repeat("ä", whyMax+1): strings.Repeat("ä", whyMax) + "…"} {
		if got := (&Comparison{Why: why}).ShortWhy(); got != want {
			t.Errorf("%q: %q", why, got)
		}
	}
}
