package main

import (
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/report"
)

// benchInto are the arguments of a short run that leaves its row in a folder.
func benchInto(dir string) []string {
	return []string{"bench", "--transport", "inproc", "--backend", "null", "--warmup", "0s", "--operations", "1k", "--output-dir", dir}
}

// runsOfTable are the runs of a table beside runs.csv, in the order of their first lines; its header stands once.
func runsOfTable(t *testing.T, name string) (runs []string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil || len(lines) == 0 || lines[0][0] != "run_id" {
		t.Fatalf("%s: %v, %d lines", name, err, len(lines))
	}
	for _, l := range lines[1:] {
		if !slices.Contains(runs, l[0]) {
			runs = append(runs, l[0])
		}
	}
	return runs
}

func TestBenchesAtOnceLeaveAllTheirRows(t *testing.T) {
	const n = 8
	dir := filepath.Join(t.TempDir(), "new", "c")
	var all []*running
	for range n {
		all = append(all, begin(t, benchInto(dir)...))
	}
	for _, r := range all {
		if err := r.cmd.Wait(); err != nil { // such as no operation in its window, on a busy machine: the row is there all the same
			t.Logf("%v: %s", err, &r.said)
		}
	}
	rows, err := report.ReadRows(filepath.Join(dir, "runs.csv"))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range rows {
		ids = append(ids, r.RunID)
		if _, err := report.ReadHistogram(dir, r.RunID); err != nil {
			t.Error(err)
		}
	}
	slices.Sort(ids)
	series := runsOfTable(t, filepath.Join(dir, "timeseries.csv"))
	slices.Sort(series)
	if len(slices.Compact(slices.Clone(ids))) != n || !slices.Equal(ids, series) {
		t.Errorf("of %d runs there are the rows %v and the series %v", n, ids, series)
	}
}

// What a run has found is saved before it is printed: a reader that has gone ends the process.
func TestTheRowIsSavedThoughNobodyReadsTheOutput(t *testing.T) {
	for _, output := range []string{"", "--json"} {
		dir := filepath.Join(t.TempDir(), "c")
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		cmd := asKvwire(context.Background(), append(benchInto(dir), strings.Fields(output)...)...)
		cmd.Stdout = w
		if err := cmd.Run(); err == nil {
			t.Error("it did not see that nobody reads")
		}
		_ = w.Close()
		rows, err := report.ReadRows(filepath.Join(dir, "runs.csv"))
		if err != nil || len(rows) != 1 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		if _, err := report.ReadHistogram(dir, rows[0].RunID); err != nil {
			t.Error(err)
		}
	}
}

// The name of a run is used once: a second run with it is refused, and changes nothing.
func TestARunOfTheSameNameIsRefused(t *testing.T) {
	dir := t.TempDir()
	first := begin(t, append(benchInto(dir), "--run-id", "one")...)
	_ = first.cmd.Wait() // its row says how it went
	before, err := os.ReadFile(filepath.Join(dir, "hdr", "one.hlog"))
	if err != nil {
		t.Fatal(err)
	}
	second := begin(t, append(benchInto(dir), "--run-id", "one")...)
	if err := second.cmd.Wait(); err == nil || !strings.Contains(second.said.String(), "run one exists already") {
		t.Errorf("%v: %s", err, &second.said)
	}
	after, err := os.ReadFile(filepath.Join(dir, "hdr", "one.hlog"))
	rows, rerr := report.ReadRows(filepath.Join(dir, "runs.csv"))
	if err != nil || rerr != nil || string(after) != string(before) || len(rows) != 1 {
		t.Errorf("%v, %v, %d rows", err, rerr, len(rows))
	}
}
