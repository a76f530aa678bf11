package report

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/lab/stats"
)

// sliced makes the rows of a series those of 100 slices of 50 ms, with this median latency (0: unknown) and mean number of operations per slice.
func sliced(s Series, p50 time.Duration, opsPerSlice float64) {
	for _, r := range s.Rows {
		r.Method, r.Slices, r.SliceNs, r.SettleNs = MethodSlices, I(100), I(45_000_000), I(5_000_000)
		r.Ops, r.Errors, r.LatP50Ns = U(uint64(100*opsPerSlice)), U(0), Int{}
		if p50 > 0 {
			r.LatP50Ns = I(int64(p50))
		}
	}
}

// A claim whose slices are too short for the requests has its ratio, no verdict, and the length of a slice that would be enough.
func TestSlicesTooShortForTheRequests(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name     string
		base     time.Duration
		baseOps  float64
		fast     time.Duration
		fastOps  float64
		change   func(p *Pairs)
		why      string // "": there is a verdict
		unpaired bool
	}{
		{name: "quick requests", base: 4900 * time.Microsecond, baseOps: 20, fast: ms, fastOps: 500},
		{name: "slower than the settle time", base: 10 * ms, baseOps: 500, fast: ms, fastOps: 500,
			why: "tcp: a request takes 10.0 ms, longer than the 5.00 ms of a slice that are not counted: use --slice 200ms"},
		{name: "the variant is", base: ms, baseOps: 500, fast: 26 * ms, fastOps: 500,
			why: "fast: a request takes 26.0 ms, longer than the 5.00 ms of a slice that are not counted: use --slice 1000ms"},
		{name: "both are: the longer slice", base: 10 * ms, baseOps: 500, fast: 20 * ms, fastOps: 500,
			why: "fast: a request takes 20.0 ms, longer than the 5.00 ms of a slice that are not counted: use --slice 500ms"},
		{name: "the longest slice", base: 100 * ms, baseOps: 500, fast: ms, fastOps: 500,
			why: "tcp: a request takes 100 ms, longer than the 5.00 ms of a slice that are not counted: use --slice 2000ms"},
		{name: "whole runs", base: 101 * ms, baseOps: 500, fast: ms, fastOps: 500,
			why: "tcp: a request takes 101 ms, longer than the 5.00 ms of a slice that are not counted: use --slice 0 (whole runs)"},
		{name: "slow and few: enough for both", base: 10 * ms, baseOps: 4.5, fast: ms, fastOps: 500,
			why: "tcp: a request takes 10.0 ms, longer than the 5.00 ms of a slice that are not counted: use --slice 500ms"},
		{name: "few, latency unknown", baseOps: 1.5, fastOps: 500, why: "tcp: 1.5 operations in a slice are too few: use --slice 1000ms"},
		{name: "few, latency short", base: ms, baseOps: 500, fast: ms, fastOps: 19.99, why: "fast: 19.9 operations in a slice are too few: use --slice 100ms"},
		{name: "very few", baseOps: 500, fastOps: 0.1, why: "fast: 0.1 operations in a slice are too few: use --slice 0 (whole runs)"},
		{name: "errors are another reason for few", base: ms, baseOps: 500, fast: ms, fastOps: 10, change: func(p *Pairs) {
			for _, r := range p.Variants[0].Rows {
				r.Errors = U(1000)
			}
		}},
		{name: "whole runs may be slow", base: time.Second, baseOps: 1, fast: time.Second, fastOps: 1, change: func(p *Pairs) {
			for _, s := range []Series{p.Baseline, p.Variants[0]} {
				for _, r := range s.Rows {
					r.Method, r.Slices, r.SliceNs, r.SettleNs = MethodWhole, Int{}, Int{}, Int{}
				}
			}
		}},
		{name: "in half of the generations", base: ms, baseOps: 500, fast: ms, fastOps: 500, change: func(p *Pairs) {
			for g := 1; g <= 6; g++ {
				p.Baseline.Rows[g].LatP50Ns = I(10_000_000)
			}
		}, why: "tcp: a request takes 10.0 ms"},
		{name: "in few generations: outliers", base: ms, baseOps: 500, fast: ms, fastOps: 500, change: func(p *Pairs) {
			for g := 1; g <= 5; g++ {
				p.Baseline.Rows[g].LatP50Ns = I(10_000_000)
			}
		}},
		{name: "every run invalid", base: ms, baseOps: 500, fast: 10 * ms, fastOps: 500, change: func(p *Pairs) { spoil(p.Variants[0], 12) }, unpaired: true,
			why: "fast: a request takes 10.0 ms, longer than the 5.00 ms of a slice that are not counted: use --slice 200ms"},
		{name: "an overloaded open loop", base: ms, baseOps: 500, fast: 79 * ms, fastOps: 500, change: func(p *Pairs) {
			spoil(p.Variants[0], 12)
			for _, r := range p.Variants[0].Rows {
				r.SvcP50Ns, r.InvalidReason = I(1_000_000), "achieved 25.9 % of the target"
			}
		}, unpaired: true, why: "fast: invalid: achieved 25.9 % of the target"},
		{name: "a loaded open loop", base: ms, baseOps: 500, fast: 8 * ms, fastOps: 500, change: func(p *Pairs) {
			for _, r := range p.Variants[0].Rows {
				r.SvcP50Ns = I(1_000_000)
			}
		}, why: "fast: a request takes 8.00 ms"},
	} {
		p := pairs(12)
		p.Primary, p.Variants = []string{"ops_per_s"}, p.Variants[:1]
		sliced(p.Baseline, c.base, c.baseOps)
		sliced(p.Variants[0], c.fast, c.fastOps)
		if c.change != nil {
			c.change(&p)
		}
		got := find(t, compare(t, Options{}, p), "fast", "ops_per_s")
		verdict := "faster by at least 99 %"
		switch {
		case c.unpaired:
			verdict = verdictNotMeasured
		case c.why != "":
			verdict = verdictCantTell
		}
		if got.Verdict != verdict || !strings.HasPrefix(got.Why, c.why) || c.why == "" && got.Why != "" {
			t.Errorf("%s: %q, %q; want %q, %q", c.name, got.Verdict, got.Why, verdict, c.why)
		}
		if !c.unpaired && (got.Pairs != 12 || math.Abs(got.Ratio-2) > 0.02 || math.IsNaN(got.Low) || math.IsNaN(got.Corrected.Low) || math.IsNaN(got.PHolm)) {
			t.Errorf("%s: %+v", c.name, got)
		}
		p.Primary = nil
		if got := find(t, compare(t, Options{}, p), "fast", "ops_per_s"); got.Verdict != "" || !strings.HasPrefix(got.Why, c.why) || c.why == "" && got.Why != "" {
			t.Errorf("%s, exploratory: %q, %q; want %q", c.name, got.Verdict, got.Why, c.why)
		}
	}
}

// Null delays of 4.8 and 5.2 ms in slices of 10 ms: each slice has two operations, whatever the variant. The slice that is suggested has at least 20.
func TestTheSuggestedSliceHasEnoughOperations(t *testing.T) {
	for _, delay := range []float64{0.3, 1, 1.1, 2.4, 4.8, 5.2, 9.9, 10, 24, 33, 49, 70} { // ms
		for _, slice := range []float64{1, 10, 20, 50, 100} {
			n := math.Floor(slice/delay) - math.Floor(slice/10/delay) // one request after the other: as many end in the window
			r := Row{Slices: I(100), SliceNs: I(int64(0.9e6 * slice)), SettleNs: I(int64(0.1e6 * slice)), Ops: U(uint64(100 * n)), Errors: U(0)}
			if 100*n >= 200 {
				r.LatP50Ns = I(int64(1e6 * delay))
			}
			short := r.shortSlices()
			if (short.why != "") != (n < minSliceOps || delay > slice/10) {
				t.Errorf("%v ms in slices of %v ms, %v operations: %q", delay, slice, n, short.why)
			}
			_, use, _ := strings.Cut(short.why, "--slice ")
			if use == "" || strings.HasPrefix(use, "0") {
				continue
			}
			d, err := time.ParseDuration(use)
			if err != nil {
				t.Fatal(err)
			}
			longer := d.Seconds() * 1000
			if n := math.Floor(longer/delay) - math.Floor(longer/10/delay); n < minSliceOps || delay > longer/10 {
				t.Errorf("%v ms in slices of %v ms: %q, in which %v operations end", delay, slice, short.why, n)
			}
		}
	}
}

func TestClaimsOfOthersNeedSlicesThatAreLongEnough(t *testing.T) {
	s := shown(t, expected(stats.Higher, 0, 0), 12, 1e5, 1.5e5)
	sliced(s.Series[0], time.Millisecond, 500)
	sliced(s.Series[1], 10*time.Millisecond, 500)
	want := "b: a request takes 10.0 ms, longer than the 5.00 ms of a slice that are not counted: use --slice 200ms"
	if f := judged(t, 12, s)[0]; f.Finding != Unsure || f.Why != want || math.Abs(f.Value-1.5) > 0.02 || !math.IsNaN(f.PHolm) {
		t.Errorf("%+v", f)
	}
	sliced(s.Series[1], time.Millisecond, 500)
	if f := judged(t, 12, s)[0]; f.Finding != Agrees {
		t.Errorf("%+v", f)
	}
}

func TestAnOpenLoopThatFellBehindNamesShortSlices(t *testing.T) {
	for _, c := range []struct {
		name   string
		slices int
		p50    time.Duration
		svc    time.Duration
		want   string
	}{
		{"slow requests", 200, 10 * time.Millisecond, 10 * time.Millisecond, "achieved 95.2 % of the target: a request takes 10.0 ms, longer than the 5.00 ms of a slice that are not counted: use --slice 500ms"},
		{"quick requests", 200, time.Millisecond, time.Millisecond, "achieved 95.2 % of the target"},
		{"overload", 200, 79 * time.Millisecond, time.Millisecond, "achieved 95.2 % of the target"},
		{"whole", 0, 10 * time.Millisecond, 10 * time.Millisecond, "achieved 95.2 % of the target"},
	} {
		r := result()
		r.Spec.Loop, r.Spec.TargetPerS = bench.Open, 20_000
		r.Lat, r.Svc = hist(), hist()
		_ = r.Lat.RecordValues(int64(c.p50), 1000)
		_ = r.Svc.RecordValues(int64(c.svc), 1000)
		r.Lag, r.Scheduled, r.Slices = hist(1000, 1000), 210_000, c.slices
		row := Row{}
		if Fill(&row, r, Sides{Server: server()}); row.InvalidReason != c.want {
			t.Errorf("%s: %q, want %q", c.name, row.InvalidReason, c.want)
		}
	}
}

// A row without a ratio always has a reason, primary or not.
func TestARowWithoutRatioHasAReason(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p *Pairs)
		metric string
		want   string
	}{
		{"not measured", func(p *Pairs) {}, "cpu_ns_per_op", "tcp: it has no cpu_ns_per_op"},
		{"never run", func(p *Pairs) { p.Variants[0].Rows = nil }, "ops_per_s", "fast: not run"},
		{"invalid", func(p *Pairs) { spoil(p.Variants[0], 12) }, "ops_per_s", "no generation has valid runs of both sides"},
		{"stalled", func(p *Pairs) {
			for _, r := range p.Variants[0].Rows {
				r.OpsPerS = F(0)
			}
		}, "ops_per_s", "fast: ops_per_s is 0, which has no ratio"},
	} {
		p := pairs(12)
		p.Primary = nil
		c.change(&p)
		all := compare(t, Options{}, p)
		if got := find(t, all, "fast", c.metric); got.Why != c.want || got.Verdict != "" {
			t.Errorf("%s: %q, %q, want %q", c.name, got.Verdict, got.Why, c.want)
		}
		ratios, err := Interactions([]Interaction{{Question: "mix=get", Factor: "depth", From: "1", To: "16", AtFrom: pairs(12), AtTo: p}})
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Replace(c.want, "both", "all four", 1)
		if got := find(t, ratios, "fast", c.metric); got.Why != want {
			t.Errorf("%s, interaction: %q, want %q", c.name, got.Why, want)
		}
		for _, got := range append(all, ratios...) {
			if (got.Why != "") != math.IsNaN(got.Ratio) {
				t.Errorf("%s: %s by %s: ratio %v, %q", c.name, got.Variant, got.Metric.Name, got.Ratio, got.Why)
			}
		}
	}
}

// A generation's value includes stalls, and does not come from its few fastest slices.
func TestTheValueOfAGenerationWithStalls(t *testing.T) {
	rates := func(s []Slice, v ...float64) []Slice {
		for i := range v {
			s[i].OpsPerS, s[i].Ops = F(v[i]), U(uint64(v[i]))
		}
		return s
	}
	for _, c := range []struct {
		name   string
		metric string
		change func(a, b []Slice)
		calm   bool
		want   float64 // ratio; 0: none
	}{
		{"none", "ops_per_s", func(a, b []Slice) {}, false, 1.1},
		{"a slice without operations: the totals", "ops_per_s", func(a, b []Slice) { rates(b, 110, 0) }, false, 0.5},
		{"on the other side", "ops_per_s", func(a, b []Slice) { rates(a, 0) }, false, 0.5},
		{"is a matter of the rate alone", "cpu_ns_per_op", func(a, b []Slice) { rates(b, 110, 0) }, false, 1 / 1.1},
		{"unknown is no stall", "ops_per_s", func(a, b []Slice) { b[1].OpsPerS, b[1].Ops = Float{}, Uint{} }, false, 1.1},
		{"totals have nothing calm", "ops_per_s", func(a, b []Slice) { rates(b, 110, 0) }, true, 0},
		{"a stall by steal, of the calm slices", "ops_per_s", func(a, b []Slice) { rates(b, 110, 0); b[1].StealRatio = F(0.5) }, true, 1.1},
		{"half of the rounds have a p50", "lat_p50_ns", func(a, b []Slice) { b[0].LatP50Ns, a[1].LatP50Ns = Int{}, Int{} }, false, 1 / 1.1},
		{"fewer: the totals", "lat_p50_ns", func(a, b []Slice) { b[0].LatP50Ns, a[1].LatP50Ns, b[2].LatP50Ns = Int{}, Int{}, Int{} }, false, 4},
		{"of the calm rounds", "lat_p50_ns", func(a, b []Slice) { a[0].StealRatio, a[1].StealRatio, b[2].StealRatio = F(0.1), F(0.1), F(0.1) }, true, 1 / 1.1},
	} {
		row := func(rate, p50 float64) map[int]*Row {
			return map[int]*Row{1: {OpsPerS: F(rate), LatP50Ns: I(int64(p50)), Valid: B(true), ClientUserNsPerOp: F(1), ClientSysNsPerOp: F(0), ServerUserNsPerOp: F(1), ServerSysNsPerOp: F(0)}}
		}
		x, y := slicesOf("a", 1, 100, 200, 50, 400), slicesOf("b", 1, 110, 220, 55, 440)
		c.change(x, y)
		a, b := Series{Label: "a", Rows: row(100, 1000), Slices: map[int][]Slice{1: x}}, Series{Label: "b", Rows: row(50, 4000), Slices: map[int][]Slice{1: y}}
		e, err := a.differ(&b, metric(t, c.metric), c.calm, logRatio)
		if err != nil {
			t.Fatal(err)
		}
		if (e.pairs == 1) != (c.want != 0) || c.want != 0 && math.Abs(math.Exp(e.Estimate)/c.want-1) > 1e-6 {
			t.Errorf("%s: %v of %d, want %v", c.name, math.Exp(e.Estimate), e.pairs, c.want)
		}
	}
}
