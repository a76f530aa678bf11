package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// lab is an Exec, a Keeper and a Watcher without processes. Cells are called by their transport.
type fakeLab struct {
	mu      sync.Mutex
	x       *experiment.Experiment
	alive   map[string]bool // processes, by run
	started []string
	runs    []string // whole
	order   []string // labels of the slices, as they came

	start  func(v Variant) error          // nil: all start
	slice  func(v Variant, nth int) error // nil: all succeed; nth of all slices
	finish func(v Variant) error          // nil: all succeed
	keep   func() error                   // nil: all is kept
	whole  map[int]string                 // why cells are whole
	run    func(id string) *report.Row    // nil: a valid row
	width  func(q int) float64

	rows   map[string]*report.Row
	again  map[string]bool // runs that have a row and are measured again
	looks  []int           // generations of the looks
	slices []report.Slice
	forgot []string
	noted  []string
}

func (f *fakeLab) Facts(cell int) (Facts, error) {
	name, _ := f.x.Cells[cell].Get("transport")
	return Facts{Row: &report.Row{Transport: name}, Whole: f.whole[cell]}, nil
}

func (f *fakeLab) Start(_ context.Context, v Variant) (Process, error) {
	if f.start != nil {
		if err := f.start(v); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alive[v.RunID] = true
	f.started = append(f.started, v.RunID)
	return &fakeProcess{f, v}, nil
}

func (f *fakeLab) Run(_ context.Context, _ experiment.Run, id string) (*report.Row, error) {
	f.runs = append(f.runs, id)
	if f.run != nil {
		return f.run(id), nil
	}
	return &report.Row{Valid: report.B(true), Ops: report.U(1)}, nil
}

func (f *fakeLab) Calibrate(context.Context) error { return nil }
func (f *fakeLab) Has(id string) bool              { return f.rows[id] != nil && !f.again[id] }

func (f *fakeLab) Keep(rows []*report.Row, s []report.Slice) error {
	if f.keep != nil {
		if err := f.keep(); err != nil {
			return err
		}
	}
	for _, r := range rows {
		f.rows[r.RunID] = r
		delete(f.again, r.RunID)
	}
	f.slices = append(f.slices, s...)
	return nil
}

func (f *fakeLab) Forget(ids []string) error { f.forgot = append(f.forgot, ids...); return nil }

func (f *fakeLab) RecordID(id string) string {
	if f.again[id] {
		return id + "-again"
	}
	return id
}

func (f *fakeLab) Kept(ids, absent []string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool {
		return f.rows[id] == nil || f.rows[id].SkippedReason != "" && !slices.Contains(absent, id)
	})
}

func (f *fakeLab) Narrow(q, generations int, until float64) (bool, error) {
	f.looks = append(f.looks, generations)
	return f.width != nil && f.width(q) <= until, nil
}

func (f *fakeLab) Started(Position)                 {}
func (f *fakeLab) Sliced(Position, int, int)        {}
func (f *fakeLab) Finished(Position, []*report.Row) {}
func (f *fakeLab) Noted(_ Position, line string)    { f.noted = append(f.noted, line) }

type fakeProcess struct {
	f *fakeLab
	v Variant
}

func (p *fakeProcess) Slice(context.Context, time.Duration, time.Duration) (report.Slice, error) {
	p.f.order = append(p.f.order, p.v.Label)
	if p.f.slice != nil {
		if err := p.f.slice(p.v, len(p.f.order)); err != nil {
			return report.Slice{}, err
		}
	}
	return report.Slice{Ops: report.U(100)}, nil
}

func (p *fakeProcess) Finish(context.Context) (*report.Row, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	delete(p.f.alive, p.v.RunID)
	if p.f.finish != nil {
		if err := p.f.finish(p.v); err != nil {
			return nil, err
		}
	}
	return &report.Row{Transport: p.v.Label, Valid: report.B(true), Ops: report.U(1)}, nil
}

func (p *fakeProcess) Kill() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	delete(p.f.alive, p.v.RunID)
}

// newFake is a runner of one question (tcp, uring, rdma), or of two with a second mix.
func newFake(t *testing.T, text string, s Settings) (*fakeLab, *Runner) {
	t.Helper()
	any := func(value string) (string, error) { return value, nil }
	x, err := experiment.Read("fake.yaml", []byte(text), experiment.Flags{"transport": {Parse: any}, "mix": {Parse: any}, "duration": {Parse: any}})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeLab{x: x, alive: map[string]bool{}, rows: map[string]*report.Row{}}
	t.Cleanup(func() {
		if len(f.alive) > 0 {
			t.Errorf("processes are left behind: %v", slices.Collect(maps.Keys(f.alive)))
		}
	})
	if s.Time == 0 {
		s.Time = time.Nanosecond // as few rounds as there may be
	}
	return f, &Runner{Experiment: x, Settings: s, Exec: f, Keeper: f, Watcher: f, Name: nameRun, Labels: func(q experiment.Question) (string, []string) {
		var labels []string
		for _, c := range q.Cells {
			v, _ := x.Cells[c].Get("transport")
			labels = append(labels, v)
		}
		name, _ := q.Flags.Get("mix")
		return name, labels
	}}
}

func nameRun(run experiment.Run) string {
	id := fmt.Sprintf("b%d-c%d", run.Generation, run.Cell)
	switch {
	case run.AA:
		id += "-aa"
	case run.Stages:
		id += "-stages"
	}
	return id
}

const oneQuestion = "name: fake\ntransport: [tcp, uring, rdma]\nmix: get\n"
const twoQuestions = "name: fake\ntransport: [tcp, uring]\nmix: [get, put]\n"

func TestEachGenerationHasARowForEachVariantAndASliceInEachRound(t *testing.T) {
	f, r := newFake(t, oneQuestion, Settings{Generations: 3, Slice: time.Millisecond, Seed: 5})
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.rows) != 3*4 || len(f.started) != 3*4 {
		t.Errorf("%d rows, %d processes: 3 generations of 4", len(f.rows), len(f.started))
	}
	count := map[string]int{}
	for i, s := range f.slices {
		count[fmt.Sprintf("%v %v %s", s.Generation, s.Round, s.Variant)]++
		if s.RunID == "" || !s.Cell.Known() || !s.Place.Known() || s.Question != "get" {
			t.Errorf("slice %d lacks its place in the design: %+v", i, s)
		}
		if first := s.Round == report.I(1) && s.Place == report.I(1); (s.After == "") != first {
			t.Errorf("slice %d comes after %q", i, s.After)
		}
	}
	for what, n := range count {
		if n != 1 {
			t.Errorf("%s: %d slices in one round", what, n)
		}
	}
	if len(count) != 3*4*roundsMin {
		t.Errorf("%d slices", len(count))
	}
	again := f.rows["b2-c0-aa"]
	if again == nil || again.Phase != "aa" || again.Variant != "tcp again" || again.Cell != report.I(1) || again.Slices != report.I(roundsMin) || again.Method != "slices" {
		t.Errorf("the row of the baseline's second process: %+v", again)
	}
}

func TestAGenerationInWhichAVariantFailsIsDoneAgainOnce(t *testing.T) {
	f, r := newFake(t, oneQuestion, Settings{Generations: 2, Slice: time.Millisecond})
	failed := false
	f.slice = func(v Variant, _ int) error {
		if v.Label == "uring" && !failed {
			failed = true
			return errors.New("the connection died")
		}
		return nil
	}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.rows) != 8 || len(f.started) != 12 || len(f.slices) != 2*4*roundsMin {
		t.Errorf("%d rows, %d processes, %d slices", len(f.rows), len(f.started), len(f.slices))
	}
	if len(f.forgot) != 4 || len(f.noted) != 1 || !strings.Contains(f.noted[0], "uring failed, the generation is measured again: the connection died") {
		t.Errorf("forgotten: %v; noted: %q", f.forgot, f.noted)
	}
}

func TestAVariantThatFailsAgainHasItsReasonAndTheOthersGoOn(t *testing.T) {
	for _, where := range []string{"start", "slice", "finish"} {
		t.Run(where, func(t *testing.T) {
			f, r := newFake(t, oneQuestion, Settings{Generations: 3, Slice: time.Millisecond})
			fail := func(v Variant) error {
				if v.Label == "rdma" && v.Generation >= 2 {
					return errors.New("wrong data")
				}
				return nil
			}
			switch where {
			case "start":
				f.start = fail
			case "slice":
				f.slice = func(v Variant, _ int) error { return fail(v) }
			case "finish":
				f.finish = fail
			}
			if err := r.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(f.rows) != 12 {
				t.Errorf("%d rows of 12", len(f.rows))
			}
			for id, want := range map[string]string{"b1-c2": "", "b2-c2": "wrong data", "b3-c2": "wrong data", "b2-c1": "", "b3-c0-aa": ""} {
				row := f.rows[id]
				if row == nil || row.InvalidReason != want {
					t.Errorf("%s: %+v, want the reason %q", id, row, want)
				}
			}
			for _, id := range f.started {
				if id == "b3-c2" {
					t.Error("the variant was started in a later generation")
				}
			}
		})
	}
}

func TestWhatDoesNotWorkHereIsSkippedAndTheOthersGoOn(t *testing.T) {
	f, r := newFake(t, oneQuestion, Settings{Generations: 2, Slice: time.Millisecond})
	f.start = noRDMA
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if row := f.rows["b2-c2"]; row == nil || row.SkippedReason != "no RDMA device" || row.Transport != "rdma" {
		t.Errorf("%+v", row)
	}
	if len(f.slices) != 2*3*6 { // three variants: a whole set has 6 rounds, and roundsMin are 4
		if len(f.slices) != 2*3*roundsMin {
			t.Errorf("%d slices", len(f.slices))
		}
	}
	if len(f.noted) != 0 {
		t.Errorf("noted: %q", f.noted)
	}
}

func TestAFatalErrorEndsTheRun(t *testing.T) {
	f, r := newFake(t, oneQuestion, Settings{Generations: 2, Slice: time.Millisecond})
	f.start = func(v Variant) error {
		if v.Label == "rdma" {
			return &Fatal{errors.New("required")}
		}
		return nil
	}
	if err := r.Run(t.Context()); err == nil || err.Error() != "required" {
		t.Errorf("%v", err)
	}
	if len(f.rows) != 0 {
		t.Errorf("%d rows", len(f.rows))
	}
}

func TestAnInterruptedGenerationIsDroppedAndCompleteOnesAreKept(t *testing.T) {
	f, r := newFake(t, oneQuestion, Settings{Generations: 3, Slice: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	f.slice = func(v Variant, _ int) error {
		if v.Generation == 2 {
			cancel()
		}
		return nil
	}
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if len(f.rows) != 4 || len(f.forgot) != 4 {
		t.Errorf("%d rows; forgotten: %v", len(f.rows), f.forgot)
	}
	// And it continues from there.
	f.slice, f.started = nil, nil
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.rows) != 12 || len(f.started) != 8 {
		t.Errorf("%d rows, %d processes were started", len(f.rows), len(f.started))
	}
}

func TestWhatCannotBeKeptEndsTheRun(t *testing.T) {
	f, r := newFake(t, oneQuestion, Settings{Generations: 3, Slice: time.Millisecond})
	full := errors.New("no space left on device")
	f.keep = func() error {
		if len(f.rows) >= 4 {
			return full
		}
		return nil
	}
	if err := r.Run(t.Context()); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	if len(f.rows) != 4 {
		t.Errorf("%d rows", len(f.rows))
	}
}

func TestCellsThatCannotBeSlicedAreMeasuredInWholeRuns(t *testing.T) {
	f, r := newFake(t, twoQuestions, Settings{Generations: 2, Slice: time.Millisecond, Retry: 1})
	f.whole = map[int]string{3: "its state evolves"} // uring, put
	disturbed := 0
	f.run = func(id string) *report.Row {
		row := &report.Row{Valid: report.B(true), Ops: report.U(1)}
		if id == "b1-c3" && disturbed == 0 {
			disturbed++
			row.StealRatio = report.F(0.5)
		}
		return row
	}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.runs) != 2*3+1 || len(f.rows) != 2*3+2*3 {
		t.Errorf("whole runs %v, %d rows", f.runs, len(f.rows))
	}
	if row := f.rows["b1-c3"]; row.Method != "whole" || row.Attempts != report.I(2) || row.Question != "put" {
		t.Errorf("%+v", row)
	}
	if row := f.rows["b1-c0"]; row.Method != "slices" {
		t.Errorf("%+v", row)
	}
}

func TestWholeRunsAlone(t *testing.T) {
	f, r := newFake(t, twoQuestions, Settings{Generations: 1})
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"b1-c0", "b1-c2", "b1-c1", "b1-c3"}; len(f.runs) != len(want) || len(f.started) != 0 {
		t.Errorf("whole runs %v, processes %v", f.runs, f.started)
	}
}

func TestUntilClosesAQuestionAtOneOfThreeLooks(t *testing.T) {
	f, r := newFake(t, twoQuestions, Settings{Generations: 8, Slice: time.Millisecond, Until: 0.03})
	looked := map[int]int{}
	f.width = func(q int) float64 {
		looked[q]++
		if q == 0 && looked[q] == 2 {
			return 0.02
		}
		return 0.05
	}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Looks after 4, 6 and 8 generations: the first question has 6 of them.
	if len(f.rows) != 6*3+8*3 {
		t.Errorf("%d rows", len(f.rows))
	}
	if looked[0] != 2 || looked[1] != 3 {
		t.Errorf("looks: %v", looked)
	}
	if !slices.Equal(f.looks, []int{4, 4, 6, 6, 8}) {
		t.Errorf("looks over %v generations", f.looks)
	}
	// The looks of a resumed run are the same, also where all generations are kept already.
	looks := f.looks
	clear(looked)
	f.looks, f.started, r.questions = nil, nil, nil // as a new process has it
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.looks, looks) || len(f.started) > 0 {
		t.Errorf("looks over %v generations, want %v; started: %v", f.looks, looks, f.started)
	}
}

// noRDMA is the start of variants on a machine that has no RDMA device.
func noRDMA(v Variant) error {
	if v.Label == "rdma" {
		return &NotHere{"no RDMA device"}
	}
	return nil
}

// skipRDMA is an experiment whose rdma was skipped, and is measured again.
func skipRDMA(t *testing.T) (*fakeLab, *Runner) {
	t.Helper()
	f, r := newFake(t, oneQuestion, Settings{Generations: 2, Slice: time.Millisecond})
	f.start = noRDMA
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.again, f.started, f.slices, f.forgot = map[string]bool{}, nil, nil, nil
	for id := range f.rows {
		f.again[id] = true
	}
	return f, r
}

func TestAGenerationWhoseSkippedVariantIsStillNotHereStays(t *testing.T) {
	f, r := skipRDMA(t)
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.slices) > 0 || len(f.started) != 3 { // the first generation finds it out
		t.Errorf("%d slices; started: %v", len(f.slices), f.started)
	}
	if row := f.rows["b1-c2"]; row.SkippedReason != "no RDMA device" {
		t.Errorf("%+v", row)
	}
}

func TestOlderRowsStayWhereTheNewOnesWouldLackOne(t *testing.T) {
	f, r := skipRDMA(t)
	f.start = nil
	f.keep = func() error { return ErrOlderStays }
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.noted) != 2 || len(f.forgot) != 8 || f.rows["b1-c2"].SkippedReason == "" {
		t.Errorf("noted: %q; forgotten: %v", f.noted, f.forgot)
	}
}

func TestAGenerationIsMeasuredAgainUnderOtherNames(t *testing.T) {
	f, r := skipRDMA(t)
	f.start = nil
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.started) != 8 || slices.ContainsFunc(f.started, func(id string) bool { return !strings.HasSuffix(id, "-again") }) {
		t.Errorf("started: %v", f.started)
	}
	if row := f.rows["b1-c2"]; len(f.rows) != 8 || row.SkippedReason != "" || row.RunID != "b1-c2" || len(f.again) > 0 {
		t.Errorf("%d rows, %+v", len(f.rows), row)
	}
	for _, s := range f.slices {
		if f.rows[s.RunID] == nil {
			t.Errorf("a slice of run %s, which has no row", s.RunID)
		}
	}
}

func TestLooksAreFixedBeforehand(t *testing.T) {
	for n, want := range map[int][]int{24: {12, 18, 24}, 12: {6, 9, 12}, 3: {2, 3}, 1: {1}, 7: {4, 6, 7}} {
		if got := Looks(n); !slices.Equal(got, want) {
			t.Errorf("%d generations: looks after %v, want %v", n, got, want)
		}
	}
}
