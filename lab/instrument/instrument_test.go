package instrument

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
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
		"Up to 2 trials", "Not measured: it was not asked for."} {
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

// still is an Exec without processes, on a machine where a request takes 20 µs: with known costs as much longer as these are.
type still struct {
	x     *experiment.Experiment
	alive *atomic.Int32
}

func (e still) Facts(int) (lab.Facts, error) {
	return lab.Facts{Row: &report.Row{}, Here: true}, nil
}

func (e still) Start(_ context.Context, v lab.Variant) (lab.Process, error) {
	e.alive.Add(1)
	cost := time.Duration(0)
	for _, name := range []string{"null-busy", "null-delay"} {
		if text, ok := e.x.Cells[v.Cell].Get(name); ok {
			d, err := time.ParseDuration(text)
			if err != nil {
				return nil, err
			}
			cost += d
		}
	}
	return &stillProcess{e: e, v: v, ns: float64(20*time.Microsecond + cost)}, nil
}

func (e still) Run(context.Context, experiment.Run, string) (*report.Row, error) {
	return nil, errors.New("a study has no whole runs")
}

func (e still) Calibrate(context.Context) error { return nil }

type stillProcess struct {
	e  still
	v  lab.Variant
	ns float64 // of a request
}

func (p *stillProcess) Slice(_ context.Context, _, window time.Duration) (report.Slice, error) {
	ops := uint64(float64(window) / p.ns)
	return report.Slice{Ops: report.U(ops), SliceOps: report.U(ops), OpsPerS: report.F(1e9 / p.ns), CPUNsPerOp: report.F(p.ns), LatP50Ns: report.I(int64(p.ns))}, nil
}

func (p *stillProcess) Finish(context.Context) (*report.Row, error) {
	return &report.Row{RunID: p.v.RunID, Valid: report.B(true), Ops: report.U(1000), OpsPerS: report.F(1e9 / p.ns), LatP50Ns: report.I(int64(p.ns)), LatP99Ns: report.I(int64(2 * p.ns)),
		ClientUserNsPerOp: report.F(p.ns / 2), ClientSysNsPerOp: report.F(0), ServerUserNsPerOp: report.F(p.ns / 2), ServerSysNsPerOp: report.F(0)}, nil
}

func (p *stillProcess) Kill() {
	if p.e.alive != nil {
		p.e.alive.Add(-1)
		p.e.alive = nil
	}
}

func TestRunMeasuresAllPartsAndWritesThem(t *testing.T) {
	var alive atomic.Int32
	p := Program{Command: "kvwire instrument", Scratch: t.TempDir(), Exec: func(x *experiment.Experiment) lab.Exec { return still{x, &alive} },
		NullBusyCost: func(d time.Duration) time.Duration { return d }}
	o := Options{Experiments: 3, Injected: 2, Whole: 2, Generations: 6, InjectedGenerations: 6, Slice: lab.SliceMin, Wait: "spin", Dir: t.TempDir()}
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	var out, shown bytes.Buffer
	if err := Run(t.Context(), o, p, &out, terminal.New(&shown, nil)); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if alive.Load() != 0 {
		t.Errorf("%d processes are left behind", alive.Load())
	}
	page, err := os.ReadFile(filepath.Join(o.Dir, pageFile))
	if err != nil || string(page) != out.String() {
		t.Errorf("the page in the folder is another one than the printed one (%v)", err)
	}
	trials, err := os.ReadFile(filepath.Join(o.Dir, trialsFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\naa,false,3,", "\nwhole,false,1,", "\ninjected,false,2,delay of 5µs,lat_p50_ns,6,0,1.2,1.20000"} {
		if !strings.Contains(string(trials), want) {
			t.Errorf("%s lacks %q:\n%s", trialsFile, want, trials)
		}
	}
	for _, want := range []string{"A/A: begun\n", "A/A: generation 12 of 12", "slices and uninterrupted load: begun", "known costs: generation 18 of 18; about 0s left"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("the progress lacks %q:\n%s", want, &shown)
		}
	}
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	for _, o := range []Options{{Slice: time.Millisecond, Wait: "spin"}, {Slice: lab.SliceMin, Wait: "hybrid"}} {
		if err := o.Check(); exit.Code(err) != exit.Usage {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
