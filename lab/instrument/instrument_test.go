package instrument

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

func TestRateOfRedisBenchmark(t *testing.T) {
	head := `"test","rps","avg_latency_ms"` + "\n"
	for text, want := range map[string]float64{
		head + `"GET","325203.25","0.164"` + "\n": 325203.25,
		`"GET","12.5"`:              12.5, // older ones have no head
		head:                        0,
		"":                          0,
		head + `"GET","0.00","0"`:   0,
		"WARNING: no such command,": 0,
	} {
		got, err := redisRate(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestKnownCostsAreRatiosToTheBaseline(t *testing.T) {
	row := &report.Row{LatP50Ns: report.I(20_000), ClientUserNsPerOp: report.F(1000), ClientSysNsPerOp: report.F(4000), ServerUserNsPerOp: report.F(1000), ServerSysNsPerOp: report.F(4000)}
	if v := more("lat_p50_ns", 5000)(row); v != 1.25 {
		t.Errorf("a delay of 5 µs at 20: %v", v)
	}
	if v := more("cpu_ns_per_op", 500)(row); v != 1.05 {
		t.Errorf("500 ns more than 10,000: %v", v)
	}
	if v := more("lat_p50_ns", 5000)(&report.Row{}); !math.IsNaN(v) {
		t.Errorf("of a row without a median: %v", v)
	}
	somewhatMore := func(d time.Duration) time.Duration { return d + 50 }
	if c := costOf(0.1, 100_000, somewhatMore); c.BusyNs != 9950 || c.CostNs != 10_000 || c.Share != 0.1 || !strings.HasPrefix(c.Label, "10 %") {
		t.Errorf("%+v", c)
	}
}

func TestTheInstrumentsPage(t *testing.T) {
	right := lab.Coverage{Metric: "ops_per_s", Experiments: 400, Covered: 390, Attained: 0.96875, Low: 0.954, High: 0.988}
	wrong := lab.Coverage{Metric: "lat_p50_ns", Experiments: 400, Covered: 360, Attained: 0.96875, Low: 0.866, High: 0.928, Short: 2}
	r := result{Interrupted: true, AA: &studyResult{Load: true, Asked: 800, Generations: 6, Coverage: []lab.Coverage{right, wrong}}, Agreement: &agreementResult{Skipped: "it was not asked for"}}
	text := r.text()
	for _, want := range []string{"**It was interrupted.**", "| ops_per_s | 400 | 390 | 0.975 | 0.954 to 0.988 | 0.9688 | yes |", "| lat_p50_ns | 400 | 360 | 0.900 | 0.866 to 0.928 | 0.9688 | **no** |",
		"Up to 2 experiments", "Not measured: it was not asked for."} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if got := r.disagreements(); len(got) != 1 || got[0] != "lat_p50_ns" {
		t.Errorf("%q do not agree", got)
	}
	r.AA = nil
	if got := r.disagreements(); len(got) != 0 {
		t.Errorf("%q do not agree, and nothing was measured", got)
	}
}
