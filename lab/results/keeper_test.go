package results

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// newTestFolder is a folder of an experiment in slices: tcp and uring by two depths, of which the second takes twice the time over uring alone.
func newTestFolder(t *testing.T, generations int, until float64) *Folder {
	t.Helper()
	text := "name: fake\ntransport: [tcp, uring]\ndepth: [1, 16]\ncompare: transport\ninteraction: [depth, transport]\n"
	dir := t.TempDir()
	any := func(value string) (string, error) { return value, nil }
	flags := experiments.Flags{"transport": any, "depth": any}
	reader := Reader{Flags: flags,
		Experiment: func(path, name string, _ lab.Inputs) (*experiments.Experiment, error) {
			return experiments.LoadAs(path, name, flags)
		},
		Factors: func(c experiments.Cell) (*report.Row, error) {
			row := new(report.Row)
			row.Transport, _ = c.Get("transport")
			depth, _ := c.Get("depth")
			return row, row.Set("depth", depth)
		}}
	x, err := experiments.Read("fake.yaml", []byte(text), flags)
	if err != nil {
		t.Fatal(err)
	}
	plan := lab.Plan{ID: "fake-20261128-120000", Experiment: "fake", Settings: lab.Settings{Generations: generations, Slice: 50 * time.Millisecond, Until: until}}
	b, err := plan.Text()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{lab.PlanFile: string(b), lab.ExperimentCopy: text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return New(dir, x, plan, reader)
}

// keep keeps a generation of a question, in which an operation takes 10 µs of CPU time, uring 1.1 times as much, and 2.2 times with depth 16. Noise is of that share.
func keep(t *testing.T, f *Folder, k *Keeper, question, generation int, noise float64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(question), uint64(generation)))
	q := f.Experiment.Questions()[question]
	var rows []*report.Row
	var slices []report.Slice
	for i, again := range []bool{false, false, true} {
		cell := q.Cells[i%2]
		row, err := f.reader.Factors(f.Experiment.Cells[cell])
		if err != nil {
			t.Fatal(err)
		}
		row.RunID = f.Plan.RunID(experiments.Run{Block: generation, Cell: cell, AA: again})
		row.Question, row.Variant, row.Cell, row.Generation, row.Method = f.questionName(q.Flags), f.variantName(cell), report.I(cell+1), report.I(generation), report.MethodSlices
		row.Slices = report.I(4)
		if again {
			row.Variant += " again"
		}
		row.Valid, row.Ops, row.OpsPerS, row.LatP50Ns = report.B(true), report.U(1000), report.F(1e5), report.I(1000)
		ns := 10e3
		if row.Transport == "uring" {
			if ns *= 1.1; question == 1 {
				ns *= 2
			}
		}
		row.ClientUserNsPerOp, row.ClientSysNsPerOp, row.ServerUserNsPerOp, row.ServerSysNsPerOp = report.F(ns/4), report.F(ns/4), report.F(ns/4), report.F(ns/4)
		rows = append(rows, row)
		for round := range 4 {
			s := report.Slice{RunID: row.RunID, Question: row.Question, Variant: row.Variant, Cell: row.Cell, Generation: row.Generation, Round: report.I(round + 1), Slice: report.I(round + 1),
				Place: report.I(i + 1), Ops: report.U(100), SliceOps: report.U(110), WindowNs: report.I(45_000_000), OpsPerS: report.F(1e5), LatP50Ns: report.I(1000),
				CPUNsPerOp: report.F(ns * math.Exp(noise*rng.NormFloat64()))}
			s.After = []string{"tcp again", "tcp", "uring"}[i]
			slices = append(slices, s)
		}
	}
	if err := k.Keep(rows, slices); err != nil {
		t.Fatal(err)
	}
}

func reopen(t *testing.T, f *Folder) *Folder {
	t.Helper()
	again, err := Open(f.Dir, f.reader)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func openKeeper(t *testing.T, f *Folder) *Keeper {
	t.Helper()
	k, err := f.Keeper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func TestWhatIsKeptIsReadBack(t *testing.T) {
	f := newTestFolder(t, 7, 0)
	k := openKeeper(t, f)
	for g := 1; g <= 7; g++ {
		keep(t, f, k, 0, g, 0.01)
		keep(t, f, k, 1, g, 0.01)
	}
	back := reopen(t, f)
	if len(back.Rows) != 7*6 || len(back.MissingRuns()) != 0 {
		t.Fatalf("%d rows, %d missing", len(back.Rows), len(back.MissingRuns()))
	}
	for id := range back.Rows {
		if len(back.Slices[id]) != 4 {
			t.Errorf("run %s has %d slices of 4", id, len(back.Slices[id]))
		}
	}
	found, err := back.Findings()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"ratio depth=1": 1.1, "ratio depth=16": 2.2, "interaction ": 2}
	for _, c := range found.Comparisons {
		if c.Metric.Name != "cpu_ns_per_op" {
			continue
		}
		name := c.Kind + " " + c.Question
		if ratio, asked := want[name]; !asked || c.Pairs != 7 || math.Abs(c.Ratio/ratio-1) > 0.02 {
			t.Errorf("%s: %.3f, %.3f to %.3f over %d generations, want %v", name, c.Ratio, c.Low, c.High, c.Pairs, ratio)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("not compared: %v", want)
	}
	var out bytes.Buffer
	if err := back.PrintVerdicts(&out, found.Comparisons); err != nil || !strings.Contains(out.String(), "uring / tcp") {
		t.Errorf("%v, %s", err, out.String())
	}
	if _, err := os.Stat(filepath.Join(f.Dir, report.CarryFile)); err != nil {
		t.Error(err)
	}
}

func TestGenerationsInPartAreDroppedAndTheirSlicesForgotten(t *testing.T) {
	f := newTestFolder(t, 2, 0)
	k := openKeeper(t, f)
	keep(t, f, k, 0, 1, 0)
	keep(t, f, k, 0, 2, 0)
	keep(t, f, k, 1, 1, 0)
	lost := f.Plan.RunID(experiments.Run{Block: 2, Cell: 0, AA: true})
	back := reopen(t, f)
	delete(back.Rows, lost) // as a crash between two rows leaves it
	back.DropPartGenerations()
	if len(back.Rows) != 6 {
		t.Errorf("%d rows: two whole generations have 6", len(back.Rows))
	}
	if err := report.Forget(back.Dir, func(id string) bool { _, there := back.Rows[id]; return there }); err != nil {
		t.Fatal(err)
	}
	openKeeper(t, back)
	last := reopen(t, back)
	all, err := report.ReadSlices(filepath.Join(f.Dir, report.SlicesFile))
	if err != nil || len(all) != 6*4 || len(last.Rows) != 6 {
		t.Errorf("%d slices, %d rows: %v", len(all), len(last.Rows), err)
	}
}

func TestForgetLeavesWhatIsKept(t *testing.T) {
	f := newTestFolder(t, 1, 0)
	k := openKeeper(t, f)
	keep(t, f, k, 0, 1, 0)
	ids := []string{f.Plan.RunID(experiments.Run{Block: 1, Cell: 0}), f.Plan.RunID(experiments.Run{Block: 1, Cell: 1})}
	if err := k.Forget(ids[:1]); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(f.Dir, "hdr"), 0o755); err != nil {
		t.Fatal(err)
	}
	if !k.Has(ids[0]) || len(f.Slices[ids[0]]) != 4 {
		t.Errorf("a run that is kept was forgotten: %d slices", len(f.Slices[ids[0]]))
	}
}

func TestAQuestionIsNarrowOnceItsIntervalsAre(t *testing.T) {
	f := newTestFolder(t, 24, 0.03)
	k := openKeeper(t, f)
	for g := 1; g <= 12; g++ {
		keep(t, f, k, 0, g, 0.002)
		keep(t, f, k, 1, g, 0.5)
		for question, narrow := range []bool{g >= 7, false} { // at 98.3 % an interval takes 7 generations
			got, err := k.Narrow(question, 0.03)
			if err != nil || got != narrow {
				t.Errorf("%s: narrow: %v (%v)", fmt.Sprintf("question %d, %d generations", question, g), got, err)
			}
		}
	}
}

// What is kept after something was forgotten is in the files, too: slices.csv is another file then.
func TestWhatIsKeptAfterForgettingIsThere(t *testing.T) {
	any := func(value string) (string, error) { return value, nil }
	x, err := experiments.Read("x.yaml", []byte("transport: [inproc, tcp]\n"), experiments.Flags{"transport": any})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := New(dir, x, lab.Plan{ID: "x", Settings: lab.Settings{Generations: 3, Slice: 20 * time.Millisecond}}, Reader{})
	k, err := r.Keeper()
	if err != nil {
		t.Fatal(err)
	}
	id := func(generation int) string { return r.Plan.RunID(experiments.Run{Block: generation, Cell: 0}) }
	for g := 1; g <= 3; g++ {
		// A process of the generation failed: what there is of it goes, and what was kept stays.
		if err := k.Forget([]string{id(g), id(1)}[:1+min(g-1, 1)]); err != nil {
			t.Fatal(err)
		}
		err := k.Keep([]*report.Row{{RunID: id(g), Generation: report.I(g)}}, []report.Slice{{RunID: id(g), Slice: report.I(1)}, {RunID: id(g), Slice: report.I(2)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	rows, err := report.ReadRows(filepath.Join(dir, lab.RowsFile))
	if err != nil || len(rows) != 3 {
		t.Errorf("%d rows (%v)", len(rows), err)
	}
	all, err := report.ReadSlices(filepath.Join(dir, report.SlicesFile))
	if of := report.ByRun(all); err != nil || len(all) != 6 || len(of[id(1)]) != 2 || len(of[id(3)]) != 2 {
		t.Errorf("%d slices (%v): %v", len(all), err, of)
	}
}
