package main

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
	"github.com/rogpeppe/go-internal/testscript"
)

// sliced DIR: the rows and slices of a folder belong together, as checkSliced has it.
func sliced(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(checkSliced(ts.MkAbs(args[0])))
}

// readSliced are the rows of a folder, and its slices by run.
func readSliced(dir string) ([]report.Row, map[string][]report.Slice, error) {
	rows, err := report.ReadRows(filepath.Join(dir, lab.RowsFile))
	all, serr := report.ReadSlices(filepath.Join(dir, report.SlicesFile))
	return rows, byRun(all), errors.Join(err, serr)
}

// byRun groups slices by run, and keeps their order.
func byRun(all []report.Slice) map[string][]report.Slice {
	of := map[string][]report.Slice{}
	for _, s := range all {
		of[s.RunID] = append(of[s.RunID], s)
	}
	return of
}

// checkSliced returns an error if a row in slices is not the sum of its slices, a slice belongs to no row, the slices of a generation's variants do not
// alternate or differ in number, or a question of several variants has its baseline only once.
func checkSliced(dir string) error {
	rows, of, err := readSliced(dir)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return fmt.Errorf("%s has no rows", dir)
	}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	type generation struct{ question, number string }
	counts, again, variants := map[generation]int64{}, map[generation]int{}, map[generation]int{}
	ids := map[string]bool{}
	for i := range rows {
		r := &rows[i]
		if ids[r.RunID] {
			wrong("run %s has two rows", r.RunID)
		}
		ids[r.RunID] = true
		measured, _ := r.Slices.Get()
		if r.Method != report.MethodSlices || measured == 0 {
			if n := len(of[r.RunID]); n > 0 {
				wrong("run %s has %d slices, and was not measured in slices", r.RunID, n)
			}
			continue
		}
		errs = append(errs, checkRow(r, of[r.RunID])...)
		number, _ := r.Value("generation")
		g := generation{r.Question, number}
		if n, there := counts[g]; there && n != measured {
			wrong("run %s has %d slices, and another variant of its generation %d", r.RunID, measured, n)
		}
		counts[g] = measured
		if variants[g]++; r.Phase == "aa" {
			again[g]++
		}
	}
	for id := range of {
		if !ids[id] {
			wrong("slices of run %s, which has no row", id)
		}
	}
	for g, n := range variants {
		if n > 2 && again[g] != 1 {
			wrong("question %q, generation %s: the baseline was measured once more %d times", g.question, g.number, again[g])
		}
	}
	return errors.Join(errs...)
}

// checkRow compares a row with its slices.
func checkRow(r *report.Row, slices []report.Slice) (errs []error) {
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("run %s: "+format, append([]any{r.RunID}, args...)...))
	}
	if n, _ := r.Slices.Get(); n != int64(len(slices)) {
		wrong("%d slices, of %d", len(slices), n)
	}
	var ops, all, failed uint64
	var cpu, window int64
	for i, s := range slices {
		for _, x := range []struct {
			name      string
			got, want any
		}{{"question", s.Question, r.Question}, {"variant", s.Variant, r.Variant}, {"cell", s.Cell, r.Cell}, {"generation", s.Generation, r.Generation}, {"slice", s.Slice, report.I(i + 1)},
			{"round", s.Round, report.I(i + 1)}} {
			if x.got != x.want {
				wrong("slice %d: %s is %v, want %v", i+1, x.name, x.got, x.want)
			}
		}
		n, _ := s.Ops.Get()
		cost, _ := s.SliceOps.Get()
		bad, _ := s.Errors.Get()
		client, ok := s.ClientCPUNs.Get()
		server, _ := s.ServerCPUNs.Get()
		w, _ := s.WindowNs.Get()
		if cost < n || !ok || client <= 0 {
			wrong("slice %d: %d operations in its window, %d behind its costs, CPU %d ns", i+1, n, cost, client)
		}
		if each, _ := s.CPUNsPerOp.Get(); cost > 0 && math.Abs(each*float64(cost)/float64(client+server)-1) > 0.001 {
			wrong("slice %d: CPU time of %.1f ns per operation, and it is %d ns of %d", i+1, each, client+server, cost)
		}
		ops, all, failed, cpu, window = ops+n, all+cost, failed+bad, cpu+client+server, window+w
	}
	if n, _ := r.Ops.Get(); n != ops {
		wrong("%d operations, and its slices have %d", n, ops)
	}
	if n, _ := r.Errors.Get(); n != failed {
		wrong("%d errors, and its slices have %d", n, failed)
	}
	if d, _ := r.DurationNs.Get(); math.Abs(float64(d-window)) > 0.01*float64(window) {
		wrong("a duration of %d ns, and its slices' windows are %d ns", d, window)
	}
	if m, err := report.FindMetric("cpu_ns_per_op"); err == nil && all > 0 {
		got, _ := m.Of(r).Get()
		if want := float64(cpu) / float64(all); math.Abs(got/want-1) > 0.001 {
			wrong("CPU time of %.1f ns per operation, and its slices have %.1f", got, want)
		}
	}
	return errs
}

func TestCheckSlicedFindsWhatDoesNotBelongTogether(t *testing.T) {
	row := func() *report.Row {
		return &report.Row{RunID: "a", Slices: report.I(1), Ops: report.U(5), Errors: report.U(0), DurationNs: report.I(100), ClientUserNsPerOp: report.F(10),
			ClientSysNsPerOp: report.F(0), ServerUserNsPerOp: report.F(0), ServerSysNsPerOp: report.F(0)}
	}
	slice := report.Slice{RunID: "a", Slice: report.I(1), Round: report.I(1), Ops: report.U(5), SliceOps: report.U(7), ClientCPUNs: report.I(70), CPUNsPerOp: report.F(10), WindowNs: report.I(100)}
	if errs := checkRow(row(), []report.Slice{slice}); len(errs) > 0 {
		t.Errorf("it belongs together: %v", errs)
	}
	for name, spoil := range map[string]func(r *report.Row){
		"ops": func(r *report.Row) { r.Ops = report.U(6) }, "slices": func(r *report.Row) { r.Slices = report.I(2) },
		"errors": func(r *report.Row) { r.Errors = report.U(1) }, "cpu": func(r *report.Row) { r.ClientUserNsPerOp = report.F(14) }, "time": func(r *report.Row) { r.DurationNs = report.I(200) },
	} {
		r := row()
		spoil(r)
		if len(checkRow(r, []report.Slice{slice})) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
}
