package report

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/kv"
)

// watched is n gets of which each took ns in the store and as much on the way.
func watched(n int, ns int64) *bench.Result {
	st := &bench.StageTimes{N: uint64(n), Total: hdrhistogram.New(1, 1e10, 2)}
	for s := range st.Hist {
		st.Hist[s] = hdrhistogram.New(1, 1e10, 2)
	}
	for range n {
		for s := range st.Hist {
			took := int64(0)
			if s == int(kv.StageStore) || s == int(kv.StageFabricOut) {
				took = ns
			}
			st.Sum[s] += took
			_ = st.Hist[s].RecordValue(took)
		}
		_ = st.Total.RecordValue(2 * ns)
	}
	r := &bench.Result{}
	r.Stages[bench.Get] = st
	return r
}

func TestStagesComeBackAndAddUp(t *testing.T) {
	dir := t.TempDir()
	if lines, err := ReadStages(dir); err != nil || lines != nil {
		t.Errorf("%v %v", lines, err)
	}
	for run, n := range map[string]int{"a": 300, "b": 100} {
		if err := Record(dir, run, watched(n, int64(n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := Record(dir, "c", &bench.Result{}); err != nil {
		t.Fatal(err)
	}
	lines, err := ReadStages(dir)
	if err != nil || len(lines) != 2*(int(kv.StageEnd)+1) {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	for _, l := range lines {
		want := 0.0
		switch {
		case l.Stage == StageTotal:
			want = 2 * float64(l.N)
		case l.Stage == "store" || l.Stage == "fabric_out":
			want = float64(l.N)
		}
		if l.MeanNs != want || l.Op != "get" || l.P50Ns.Known() != (l.N >= 200) || l.P99Ns.Known() {
			t.Errorf("%+v", l)
		}
	}
	bars := StageBars("tcp", lines)
	if len(bars) != 1 || bars[0].Label != "tcp" || bars[0].N != 400 || math.Abs(bars[0].MeanNs["store"]-250) > 1e-9 || math.Abs(bars[0].MeanNs[StageTotal]-500) > 1e-9 {
		t.Errorf("%+v", bars)
	}
	if bars := StageBars("tcp", append(lines, StageLine{Op: "put", Stage: StageTotal, N: 1, MeanNs: 5})); len(bars) != 2 || bars[1].Label != "tcp, put" {
		t.Errorf("%+v", bars)
	}
	name := filepath.Join(dir, "stages.csv")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(b, "x,get,store,many,1,,\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadStages(dir); err == nil || !strings.Contains(err.Error(), "stages.csv: line 26") {
		t.Errorf("%v", err)
	}
}
