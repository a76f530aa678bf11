package results

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// newTestFolder is a folder of an experiment in slices: tcp and uring by two depths, of which the second takes twice the time over uring alone.
func newTestFolder(t *testing.T, generations int, until float64) *Folder {
	t.Helper()
	text := "name: fake\ntransport: [tcp, uring]\ndepth: [1, 16]\ncompare: transport\ninteraction: [depth, transport]\n"
	dir := t.TempDir()
	any := func(value string) (string, error) { return value, nil }
	flags := experiment.Flags{"transport": {Parse: any}, "depth": {Parse: any}}
	reader := Reader{Flags: flags,
		Experiment: func(path, name string, _ lab.Device, _ lab.Inputs) (*experiment.Experiment, error) {
			return experiment.LoadAs(path, name, flags)
		},
		Factors: func(c experiment.Cell) (*report.Row, error) {
			row := new(report.Row)
			row.Transport, _ = c.Get("transport")
			depth, _ := c.Get("depth")
			return row, row.Set("depth", depth)
		}}
	x, err := experiment.Read("fake.yaml", []byte(text), flags)
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
		row.RunID = f.Plan.RunID(experiment.Run{Generation: generation, Cell: cell, AA: again})
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
	if len(back.Rows) != 7*6 || len(back.RemainingRuns()) != 0 {
		t.Fatalf("%d rows, %d missing", len(back.Rows), len(back.RemainingRuns()))
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
	if err := back.page(&found).Print(&out); err != nil || !strings.Contains(out.String(), "Ratios to tcp (= 1×)") {
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
	lost := f.Plan.RunID(experiment.Run{Generation: 2, Cell: 0, AA: true})
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
	ids := []string{f.Plan.RunID(experiment.Run{Generation: 1, Cell: 0}), f.Plan.RunID(experiment.Run{Generation: 1, Cell: 1})}
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
			got, err := k.Narrow(question, g, 0.03)
			if err != nil || got != narrow {
				t.Errorf("%s: narrow: %v (%v)", fmt.Sprintf("question %d, %d generations", question, g), got, err)
			}
		}
	}
}

// A generation that is kept after another was forgotten is in the files, too, although slices.csv is a new file then.
func TestWhatIsKeptAfterForgettingIsThere(t *testing.T) {
	any := func(value string) (string, error) { return value, nil }
	x, err := experiment.Read("x.yaml", []byte("transport: [inproc, tcp]\n"), experiment.Flags{"transport": {Parse: any}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := New(dir, x, lab.Plan{ID: "x", Settings: lab.Settings{Generations: 3, Slice: 20 * time.Millisecond}}, Reader{})
	k, err := r.Keeper()
	if err != nil {
		t.Fatal(err)
	}
	id := func(generation int) string { return r.Plan.RunID(experiment.Run{Generation: generation, Cell: 0}) }
	for g := 1; g <= 3; g++ {
		// A process of the generation failed: the parts of this generation are dropped, and the generations before it stay.
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
	of := map[string]int{}
	for _, s := range all {
		of[s.RunID]++
	}
	if err != nil || len(all) != 6 || of[id(1)] != 2 || of[id(3)] != 2 {
		t.Errorf("%d slices (%v): %v", len(all), err, of)
	}
}

// slicesOf is the number of slices in slices.csv, by run.
func slicesOf(t *testing.T, f *Folder) map[string]int {
	t.Helper()
	all, err := report.ReadSlices(filepath.Join(f.Dir, report.SlicesFile))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, s := range all {
		count[s.RunID]++
	}
	return count
}

// skip makes a row one of a run that was skipped.
func skip(f *Folder, id string) {
	row := f.Rows[id]
	row.SkippedReason, row.Ops, row.Valid = "no RDMA device", report.Uint{}, report.Bool{}
	f.Rows[id] = row
}

func TestWhatIsMeasuredAgain(t *testing.T) {
	f := newTestFolder(t, 3, 0)
	k := openKeeper(t, f)
	for g := 1; g <= 3; g++ {
		keep(t, f, k, 0, g, 0)
		keep(t, f, k, 1, g, 0)
	}
	q := f.Experiment.Questions()[0]
	skip(f, f.Plan.RunID(experiment.Run{Generation: 1, Cell: q.Cells[1]}))
	failed := f.Plan.RunID(experiment.Run{Generation: 3, Cell: q.Cells[1]})
	row := f.Rows[failed]
	row.Ops = report.Uint{}
	f.Rows[failed] = row
	for _, here := range []bool{false, true} {
		clear(f.Again)
		f.DropPartGenerations()
		f.MeasureAgain(func(row *report.Row) bool { return row.SkippedReason == "" && !row.Ops.Known() }, func(experiment.Run) bool { return here })
		want := 3 // the third generation
		if here {
			want = 6 // the first one, too
		}
		if len(f.Again) != want || len(f.Rows) != 18 || len(f.RemainingRuns()) != want || !f.Again[failed] {
			t.Errorf("skipped runs can be run: %v; %d runs are measured again, want %d; %d rows", here, len(f.Again), want, len(f.Rows))
		}
	}
}

func TestAGenerationThatIsMeasuredAgainReplacesTheOlderOneWhenItIsComplete(t *testing.T) {
	f := newTestFolder(t, 2, 0)
	k := openKeeper(t, f)
	keep(t, f, k, 0, 1, 0)
	keep(t, f, k, 0, 2, 0)
	ids := f.Plan.RunID
	id := ids(experiment.Run{Generation: 1, Cell: 0})
	f.MeasureAgain(func(row *report.Row) bool { return row.RunID == id }, nil)
	if k.Has(id) || k.RecordID(id) == id || len(f.Again) != 3 {
		t.Fatalf("has %v, record %s, %d again", k.Has(id), k.RecordID(id), len(f.Again))
	}
	hdr := filepath.Join(f.Dir, "hdr")
	series := filepath.Join(f.Dir, "timeseries.csv")
	err := os.Mkdir(hdr, 0o755)
	for name, text := range map[string]string{filepath.Join(hdr, id+".hlog"): "old", filepath.Join(hdr, k.RecordID(id)+".hlog"): "new", series: "run_id,x\n" + id + ",old\nother,1\n" + k.RecordID(id) + ",new\n"} {
		if werr := os.WriteFile(name, []byte(text), 0o644); werr != nil {
			err = werr
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	content := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	// An interrupted generation leaves the older one.
	if err := k.Forget([]string{id}); err != nil {
		t.Fatal(err)
	}
	if text := content(series); text != "run_id,x\n"+id+",old\nother,1\n" || content(filepath.Join(hdr, id+".hlog")) != "old" || slicesOf(t, f)[id] != 4 {
		t.Errorf("the older records are gone: %s", text)
	}
	if _, err := os.Stat(filepath.Join(hdr, k.RecordID(id)+".hlog")); err == nil {
		t.Error("the new records are there")
	}
	record := k.RecordID(id)
	if err := errors.Join(os.WriteFile(filepath.Join(hdr, record+".hlog"), []byte("new"), 0o644), os.WriteFile(series, []byte("run_id,x\n"+id+",old\nother,1\n"+record+",new\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	bad := &report.Row{RunID: id, InvalidReason: "it died"}
	if err := k.Keep([]*report.Row{bad}, nil); !errors.Is(err, lab.ErrOlderStays) || f.Rows[id].InvalidReason != "" || !f.Again[id] {
		t.Errorf("a failed run in the place of a complete one: %v", err)
	}
	keep(t, f, k, 0, 1, 0.3) // other costs
	if !k.Has(id) || k.RecordID(id) != id || len(f.Again) != 0 {
		t.Errorf("has %v, record %s, %d again", k.Has(id), k.RecordID(id), len(f.Again))
	}
	if text := content(series); text != "run_id,x\nother,1\n"+id+",new\n" || content(filepath.Join(hdr, id+".hlog")) != "new" {
		t.Errorf("the records are not the new ones: %s", text)
	}
	keep(t, f, k, 1, 1, 0) // the files are open
	keep(t, f, k, 1, 2, 0)
	back := reopen(t, f)
	if len(back.Rows) != 12 || len(slicesOf(t, f)) != 12 || len(back.RemainingRuns()) != 0 {
		t.Errorf("%d rows, slices of %d runs", len(back.Rows), len(slicesOf(t, f)))
	}
	for id, s := range back.Slices {
		if len(s) != 4 || s[0].CPUNsPerOp != f.Slices[id][0].CPUNsPerOp {
			t.Errorf("run %s: %d slices, the first of %v, want %v", id, len(s), s[0].CPUNsPerOp, f.Slices[id][0].CPUNsPerOp)
		}
	}
	if entries, _ := filepath.Glob(filepath.Join(f.Dir, "*again*")); len(entries) > 0 {
		t.Errorf("left behind: %q", entries)
	}
}

// A crash at any point of a replacement leaves the older generation or the new one, never a mixture.
func TestAReplacementThatACrashInterruptedIsFinished(t *testing.T) {
	for _, done := range []string{"nothing", "slices", "rows"} {
		f := newTestFolder(t, 1, 0)
		k := openKeeper(t, f)
		keep(t, f, k, 0, 1, 0)
		keep(t, f, k, 1, 1, 0)
		id := f.Plan.RunID(experiment.Run{Generation: 1, Cell: 0})
		f.MeasureAgain(func(row *report.Row) bool { return row.RunID == id }, nil)
		names := map[string]string{}
		var fresh []report.Row
		for id := range f.Again {
			row := f.Rows[id]
			row.Marks, row.Slices = "new", report.I(1)
			fresh = append(fresh, row)
			names[k.RecordID(id)] = id
			if err := k.slices.Append(report.Slice{RunID: k.RecordID(id), Slice: report.I(1), Generation: row.Generation, Variant: row.Variant, Question: row.Question, Cell: row.Cell}); err != nil {
				t.Fatal(err)
			}
		}
		if err := report.WriteRows(filepath.Join(f.Dir, againFile), fresh); err != nil {
			t.Fatal(err)
		}
		if done != "nothing" {
			if err := report.Replace(f.Dir, names, func(string) bool { return true }); err != nil {
				t.Fatal(err)
			}
		}
		if done == "rows" {
			rows := fresh
			for _, row := range f.RowsInOrder() {
				if !f.Again[row.RunID] {
					rows = append(rows, row)
				}
			}
			if err := report.WriteRows(filepath.Join(f.Dir, lab.RowsFile), rows); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := FinishReplacing(f.Dir); err != nil {
				t.Fatal(err)
			}
		}
		back := reopen(t, f)
		count := slicesOf(t, f)
		for id, row := range back.Rows {
			if want := map[bool]int{false: 4, true: 1}[f.Again[id]]; count[id] != want || (row.Marks == "new") != f.Again[id] {
				t.Errorf("%s was done: run %s has %d slices, want %d, and marks %q", done, id, count[id], want, row.Marks)
			}
		}
		if len(back.Rows) != 6 || len(count) != 6 {
			t.Errorf("%s was done: %d rows, slices of %d runs", done, len(back.Rows), len(count))
		}
	}
}

// A look uses the generations before it, and no later ones that an interrupted run has kept.
func TestALookIsOverTheFirstGenerations(t *testing.T) {
	f := newTestFolder(t, 24, 0.03)
	k := openKeeper(t, f)
	for g := 1; g <= 18; g++ {
		noise := 0.002
		if g > 12 {
			noise = 3
		}
		keep(t, f, k, 0, g, noise)
	}
	for n, want := range map[int]bool{6: false, 12: true, 18: false} {
		if got, err := k.Narrow(0, n, 0.03); err != nil || got != want {
			t.Errorf("a look at %d generations: narrow: %v (%v)", n, got, err)
		}
	}
	if len(f.Rows) != 18*3 {
		t.Errorf("%d rows", len(f.Rows))
	}
}

func TestAQuestionThatUntilEndedHasNoMissingRuns(t *testing.T) {
	f := newTestFolder(t, 24, 0.03)
	k := openKeeper(t, f)
	for g := 1; g <= 12; g++ {
		keep(t, f, k, 0, g, 0.002)
		keep(t, f, k, 1, g, 0.5)
	}
	if n := len(f.RemainingRuns()); n != 12*3 { // of the second question
		t.Errorf("%d runs are missing", n)
	}
	text := strings.Join(f.warnings(), "\n")
	if !strings.Contains(text, "1 of 2 questions ended before generation 24, as planned: the half-widths of their intervals are at most 3 % (--until).") || !strings.Contains(text, "36 of 144 runs are missing") {
		t.Error(text)
	}
	for g := 13; g <= 24; g++ {
		keep(t, f, k, 1, g, 0.5)
	}
	if text := strings.Join(f.warnings(), "\n"); strings.Contains(text, "missing") || len(f.RemainingRuns()) != 0 {
		t.Error(text)
	}
	clear(f.Rows)
	clear(f.Slices)
	for g := 1; g <= 11; g++ { // before the first look
		keep(t, f, k, 0, g, 0.002)
	}
	if n := len(f.RemainingRuns()); n != 144-33 {
		t.Errorf("%d runs are missing", n)
	}
}
