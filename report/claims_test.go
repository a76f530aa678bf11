package report

import (
	"math"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/plural"
	"github.com/kvwire/kvwire/lab/stats"
)

// expected is the expectation of a claim; 0 is no bound.
func expected(direction stats.Verdict, least, most float64) Expected {
	e := Expected{direction, math.Inf(-1), math.Inf(1)}
	if least > 0 {
		e.Least = least
	}
	if most > 0 {
		e.Most = most
	}
	return e
}

// shown compares rates by ops_per_s, over n generations of a still machine.
func shown(t *testing.T, e Expected, n int, rates ...float64) ClaimTest {
	t.Helper()
	m, err := FindQuantity("ops_per_s")
	if err != nil {
		t.Fatal(err)
	}
	s := ClaimTest{Metric: m, Expect: e, AACheck: AACheck{Checked: true}}
	for i, rate := range rates {
		s.Series = append(s.Series, series(string(rune('a'+i)), n, rate, still(i)))
	}
	return s
}

func judged(t *testing.T, generations int, all ...ClaimTest) []ClaimResult {
	t.Helper()
	f, err := JudgeClaims(all, generations)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAClaimIsComparedWithTheRatio(t *testing.T) {
	for _, c := range []struct {
		name        string
		e           Expected
		base, of    float64
		want        Finding
		why         string
		generations int
		self        string // "": the baseline is like itself; differs; unchecked
	}{
		{name: "higher, and is", e: expected(stats.Higher, 0, 0), base: 1e5, of: 1.5e5, want: Agrees},
		{name: "higher by so much, and is", e: expected(stats.Higher, 1.4, 1.6), base: 1e5, of: 1.5e5, want: Agrees},
		{name: "higher by so much, and is less so", e: expected(stats.Higher, 1.8, 0), base: 1e5, of: 1.5e5, want: Disagrees, why: "the direction is as claimed, the size is not"},
		{name: "higher by so much, and is more so", e: expected(stats.Higher, 1.1, 1.3), base: 1e5, of: 1.5e5, want: Disagrees, why: "the direction is as claimed, the size is not"},
		{name: "higher, and is lower", e: expected(stats.Higher, 0, 0), base: 1e5, of: 0.7e5, want: Disagrees},
		{name: "higher, and is the same", e: expected(stats.Higher, 0, 0), base: 1e5, of: 1e5, want: Disagrees},
		{name: "higher, and the baseline differs from itself", e: expected(stats.Higher, 0, 0), base: 1e5, of: 1.2e5, self: "differs", want: Unsure, why: "the baseline differs from itself: 1.010 to 1.030 (99 %)"},
		{name: "higher, and is by less than what matters", e: expected(stats.Higher, 0, 0), base: 1e5, of: 1.01e5, want: Agrees},
		{name: "higher, and is lower by less than that", e: expected(stats.Higher, 0, 0), base: 1e5, of: 0.99e5, want: Disagrees},
		{name: "lower, and is", e: expected(stats.Lower, 0, 0.25), base: 1e5, of: 0.2e5, want: Agrees},
		{name: "lower by so much, and is less so", e: expected(stats.Lower, 0, 0.25), base: 1e5, of: 0.5e5, want: Disagrees, why: "the direction is as claimed, the size is not"},
		{name: "the same, and is", e: expected(stats.Same, 0, 0), base: 1e5, of: 1.005e5, want: Agrees},
		{name: "the same, and is not", e: expected(stats.Same, 0, 0), base: 1e5, of: 1.2e5, want: Disagrees},
		{name: "between", e: expected("", 0.9, 1.1), base: 1e5, of: 1e5, want: Agrees},
		{name: "between, and is beyond", e: expected("", 0.9, 1.1), base: 1e5, of: 1.2e5, want: Disagrees},
		{name: "at the bound", e: expected(stats.Higher, 1.5, 0), base: 1e5, of: 1.5e5, want: Unsure},
		{name: "few generations", e: expected(stats.Higher, 0, 0), base: 1e5, of: 1.5e5, generations: 5, want: TooFew, why: "it takes 6"},
		{name: "one generation", e: expected(stats.Higher, 0, 0), base: 1e5, of: 1.5e5, generations: 1, want: TooFew},
		{name: "nothing that checks", e: expected(stats.Higher, 0, 0), base: 1e5, of: 1.5e5, self: "unchecked", want: Unsure, why: "the baseline was not measured twice"},
		{name: "nothing that checks, and a size", e: expected(stats.Higher, 1.4, 0), base: 1e5, of: 1.5e5, self: "unchecked", want: Agrees},
		{name: "nothing that checks, and a size of the other side", e: expected(stats.Higher, 0, 1.6), base: 1e5, of: 1.5e5, self: "unchecked", want: Unsure, why: "the baseline was not measured twice"},
		{name: "between, where nothing checks", e: expected("", 1.2, 0), base: 1e5, of: 1.5e5, self: "unchecked", want: Agrees},
	} {
		if c.generations == 0 {
			c.generations = 10
		}
		s := shown(t, c.e, c.generations, c.base, c.of)
		switch c.self {
		case "differs":
			s.AACheck = AACheck{Checked: true, Differs: true, Wide: Interval{1.01, 1.03, 0.99}}
		case "unchecked":
			s.AACheck = AACheck{}
		}
		f := judged(t, c.generations, s)[0]
		if f.Finding != c.want || !strings.Contains(f.Why, c.why) || c.why == "" && f.Why != "" && c.want != TooFew {
			t.Errorf("%s: %q, %q; want %q, %q", c.name, f.Finding, f.Why, c.want, c.why)
		}
		if math.Abs(f.Value/(c.of/c.base)-1) > 0.01 || f.Low > f.Value || f.High < f.Value || f.Pairs != c.generations {
			t.Errorf("%s: a ratio of %v in %v to %v, of %d", c.name, f.Value, f.Low, f.High, f.Pairs)
		}
		if known := !math.IsNaN(f.PHolm); known && (c.want == TooFew || f.PHolm > 0.05) && c.want != Unsure {
			t.Errorf("%s: p = %v", c.name, f.PHolm)
		}
	}
}

func TestAClaimOfACellsOwnValue(t *testing.T) {
	m, err := FindQuantity("syscalls_per_op")
	if err != nil {
		t.Fatal(err)
	}
	of := func(v float64, generations int) Series {
		s := Series{Label: "uring", Rows: map[int]*Row{}}
		for b := 1; b <= generations; b++ {
			s.Rows[b] = &Row{Transport: "inproc", ClientSyscallsPerOp: F(v * (1 + float64(b%3)/100)), Valid: B(true)}
		}
		return s
	}
	for v, want := range map[float64]Finding{1. / 128: Agrees, 1. / 32: Disagrees, 0: Agrees} {
		f := judged(t, 10, ClaimTest{Metric: m, Series: []Series{of(v, 10)}, Expect: expected("", 0, 1./64)})[0]
		if f.Finding != want || math.Abs(f.Value-v) > 0.02*v {
			t.Errorf("%v: %+v, want %s", v, f, want)
		}
	}
	if f := judged(t, 1, ClaimTest{Metric: m, Series: []Series{of(1, 1)}, Expect: expected("", 0, 1./64)})[0]; f.Finding != TooFew || f.Value != 1.01 || f.Level != 0 {
		t.Errorf("one generation: %+v", f)
	}
	if s := m.Text(1. / 64); s != "0.0156" {
		t.Errorf("a number of system calls as %q", s)
	}
}

func TestABaselineInOneProcessIsCheckedByTheCPUTimeOfBothSides(t *testing.T) {
	of := func(factor float64) Series {
		s := Series{Label: "inproc", Rows: map[int]*Row{}}
		for g := 1; g <= 10; g++ {
			s.Rows[g] = &Row{Transport: "inproc", ClientUserNsPerOp: F(factor * (100 + float64(g%3))), ClientSysNsPerOp: F(10), Valid: B(true)}
		}
		return s
	}
	for name, checked := range map[string]bool{"server_cpu_ns_per_op": true, "server_syscalls_per_op": false} {
		m, err := FindQuantity(name)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := CheckAA(of(1), of(1.2), m); err != nil || s.Checked != checked || s.Differs != checked {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// A run in which requests ended short is invalid. A claim about the share of whole requests is about such runs.
func TestShortTransfersCountForTheShareOfWholeRequests(t *testing.T) {
	m, err := FindQuantity(wholeRatio)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		reason string
		want   Finding
	}{{"errors: truncated 20", Agrees}, {"errors: truncated 20, io error 1", NotMeasured}, {"2 values read wrong", NotMeasured}} {
		s := series("once", 12, 1e5, still(0))
		for _, r := range s.Rows {
			r.Ops, r.Errors, r.Truncated, r.Valid, r.InvalidReason = U(80), U(20), U(20), B(false), c.reason
		}
		f := judged(t, 12, ClaimTest{Metric: m, Expect: expected("", 0, 0.99), Series: []Series{s}})
		if f[0].Finding != c.want || c.want == Agrees && f[0].Value != 0.8 {
			t.Errorf("%s: %s, %v", c.reason, f[0].Finding, f[0].Value)
		}
	}
}

func TestATrendGoesOneWayOnly(t *testing.T) {
	for _, c := range []struct {
		name  string
		e     Expected
		rates []float64
		want  Finding
		why   string
	}{
		{"rises", expected(stats.Higher, 2, 0), []float64{1e5, 2e5, 4e5}, Agrees, ""},
		{"rises, and stays", expected(stats.Higher, 2, 0), []float64{1e5, 4e5, 4e5}, Agrees, ""},
		{"rises and falls", expected(stats.Higher, 2, 0), []float64{1e5, 4e5, 3e5}, Disagrees, "from b to c the ratio is 0.75"},
		{"rises too little", expected(stats.Higher, 2, 0), []float64{1e5, 1.2e5, 1.5e5}, Disagrees, "the direction is as claimed"},
		{"falls", expected(stats.Lower, 0, 0.5), []float64{4e5, 2e5, 1e5}, Agrees, ""},
		{"falls and rises", expected(stats.Lower, 0, 0.5), []float64{4e5, 1e5, 1.5e5}, Disagrees, "from b to c the ratio is 1.50"},
	} {
		f := judged(t, 10, shown(t, c.e, 10, c.rates...))[0]
		if f.Finding != c.want || !strings.HasPrefix(f.Why, c.why) || c.why == "" && f.Why != "" {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
	s := shown(t, expected(stats.Higher, 2, 0), 10, 1e5, 2e5, 4e5)
	spoil(s.Series[1], 5)
	if f := judged(t, 10, s)[0]; f.Finding != Unsure || f.Why != "from b to c: 5 generations, and a verdict takes 6" {
		t.Errorf("a step that is not known: %+v", f)
	}
}

func TestAReasonIsGivenForWhatWasNotMeasured(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *ClaimTest)
		why    string
	}{
		"not run": {func(s *ClaimTest) { s.Series[1].Rows = nil }, "b: not run"},
		"skipped": {func(s *ClaimTest) {
			for _, r := range s.Series[0].Rows {
				r.SkippedReason, r.OpsPerS = "no device", Float{}
			}
		}, "a: skipped: no device"},
		"failed": {func(s *ClaimTest) {
			for _, r := range s.Series[1].Rows {
				r.InvalidReason, r.OpsPerS = "it broke", Float{}
			}
		}, "b: failed: it broke"},
		"without the figure": {func(s *ClaimTest) { s.Metric, _ = FindQuantity("batch_mean") }, "a: it has no batch_mean"},
		"nothing":            {func(s *ClaimTest) { s.Series[0] = series("a", 10, 0, still(1)) }, "a: ops_per_s is 0, which has no ratio"},
		"no generation of both": {func(s *ClaimTest) {
			for b := 1; b <= 5; b++ {
				delete(s.Series[0].Rows, b)
				delete(s.Series[1].Rows, b+5)
			}
		}, "no generation has valid runs of all cells"},
	} {
		s := shown(t, expected(stats.Higher, 0, 0), 10, 1e5, 2e5)
		c.change(&s)
		if f := judged(t, 10, s)[0]; f.Finding != NotMeasured || f.Why != c.why {
			t.Errorf("%s: %q, %q; want %q", name, f.Finding, f.Why, c.why)
		}
	}
}

// A run that was interrupted, or has few valid runs, has figures, of too few generations.
func TestAFigureOfFewOfThePlannedGenerationsHasNoVerdict(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		for name, change := range map[string]func(s *ClaimTest){
			"invalid": func(s *ClaimTest) { spoil(s.Series[1], 12-n) },
			"interrupted": func(s *ClaimTest) {
				for g := n + 1; g <= 12; g++ {
					delete(s.Series[0].Rows, g)
					delete(s.Series[1].Rows, g)
				}
			},
		} {
			s := shown(t, expected(stats.Higher, 0, 0), 12, 1e5, 2e5)
			change(&s)
			want := plural.Of(n, "generation") + ": a verdict takes 6"
			if f := judged(t, 12, s)[0]; f.Finding != TooFew || f.Why != want || f.Pairs != n || math.Abs(f.Value-2) > 0.1 {
				t.Errorf("%s, %d: %+v; want %q", name, n, f, want)
			}
		}
	}
}

// The more claims there are, the larger each corrected p is.
func TestAllClaimsShareTheError(t *testing.T) {
	one := shown(t, expected(stats.Higher, 0, 0), 7, 1e5, 2e5)
	if f := judged(t, 7, one)[0]; f.Finding != Agrees {
		t.Errorf("alone: %+v", f)
	}
	for _, f := range judged(t, 7, one, one, one, one) {
		if f.Finding != TooFew || f.Why != "7 generations: a verdict on 4 comparisons takes 8" || math.Abs(f.PHolm-4*0.015625) > 1e-12 {
			t.Errorf("among four: %+v", f)
		}
	}
	missing := one
	missing.Series = []Series{one.Series[0], {Label: "b"}}
	if f := judged(t, 7, missing, missing, one, missing)[2]; f.Finding != Agrees {
		t.Errorf("what was not measured takes no share: %+v", f)
	}
}

func TestAllThatShowsAClaimHasToAgree(t *testing.T) {
	for want, answers := range map[Finding][]Finding{
		Agrees: {Agrees, Agrees}, Disagrees: {Agrees, Unsure, Disagrees}, Unsure: {Agrees, Unsure, NotMeasured}, NotMeasured: {Agrees, NotMeasured}, TooFew: {TooFew, NotMeasured},
	} {
		var f []ClaimResult
		for _, a := range answers {
			f = append(f, ClaimResult{Finding: a})
		}
		if got := Overall(f); got != want {
			t.Errorf("%v: %s", answers, got)
		}
	}
}

func TestQuantitiesAreThoseOfBothSides(t *testing.T) {
	r := &Row{Transport: "tcp", ClientSyscallsPerOp: F(1), ServerSyscallsPerOp: F(2), ServerUserNsPerOp: F(30), ServerSysNsPerOp: F(40)}
	for name, want := range map[string]Float{"syscalls_per_op": F(3), "server_syscalls_per_op": F(2), "server_cpu_ns_per_op": F(70), "client_cpu_ns_per_op": {}, "batch_mean": {}} {
		m, err := FindQuantity(name)
		if err != nil || m.Of(r) != want {
			t.Errorf("%s: %v, %v", name, m.Of(r), err)
		}
	}
	if _, err := FindQuantity("speed"); err == nil || !strings.Contains(err.Error(), "batch_mean") {
		t.Error(err)
	}
}
