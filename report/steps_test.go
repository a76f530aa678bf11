package report

import (
	"bytes"
	"encoding/csv"
	"math"
	"strings"
	"testing"
)

// rung is a step of add ns on top of one whose generations differ by much more.
func rung(step string, n int, add int64) Rung {
	r := Rung{Question: "depth=1", Path: "tcp", Step: step, From: Series{Label: "codec null", Rows: map[int]*Row{}}, To: Series{Label: "tcp null", Rows: map[int]*Row{}}}
	for b := 1; b <= n; b++ {
		base := int64(10_000 * (1 + b%3))
		r.From.Rows[b] = &Row{Transport: "codec", LatP50Ns: I(base), ClientUserNsPerOp: F(500), ClientSysNsPerOp: F(0), Valid: B(true)}
		r.To.Rows[b] = &Row{Transport: "tcp", LatP50Ns: I(base + add + int64(b%5)), ClientUserNsPerOp: F(600), ClientSysNsPerOp: F(200), ServerUserNsPerOp: F(100), ServerSysNsPerOp: F(50), Valid: B(true)}
	}
	return r
}

func TestAStepIsTheDifferenceWithinAGeneration(t *testing.T) {
	all, err := Steps([]Rung{rung("network", 10, 5000), rung("none", 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	p50, cpu := all[0], all[1]
	if p50.Metric.Name != "lat_p50_ns" || p50.Pairs != 10 || math.Abs(p50.Ns-5002) > 1 || p50.Low > p50.Ns || p50.High < p50.Ns || p50.High-p50.Low > 4 || p50.Level < 0.95 {
		t.Errorf("%+v", p50)
	}
	if cpu.Ns != 450 || cpu.Metric.Name != "cpu_ns_per_op" { // a call's costs are in the client's columns alone
		t.Errorf("%+v", cpu)
	}

	var b bytes.Buffer
	if err := WriteSteps(&b, all); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(lines) != 3 || lines[2][8] != "450" || lines[2][2] != "network" {
		t.Errorf("%q %v", lines, err)
	}
	b.Reset()
	if err := PrintSteps(&b, all); err != nil || !strings.Contains(b.String(), "+5.00 µs") || !strings.Contains(b.String(), "(95 %)") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestAStepLeavesInvalidGenerationsOut(t *testing.T) {
	r := rung("network", 8, 5000)
	r.To.Rows[1].Valid, r.To.Rows[2].Marks = B(false), "drift +9 %"
	all, err := Steps([]Rung{r})
	if err != nil || all[0].Pairs != 7 || all[0].LeftOut != 1 {
		t.Errorf("%+v %v", all[0], err)
	}
}
