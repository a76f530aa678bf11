package report

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// folder makes files with these contents.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func listed(t *testing.T, dir string) (all []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		all = append(all, f.Name())
	}
	return all
}

func TestChartsOfAnEarlierReportGoAndOthersStay(t *testing.T) {
	dir := folder(t, map[string]string{"charts/001.svg": "", "charts/002.pdf": "", "charts/mix-get.latency.svg": "", "charts/all.cpu_ns_per_op-2.pdf": "", "charts/mine.svg": "", "charts/004.png": ""})
	if err := WritePage(dir, &Page{}); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, filepath.Join(dir, "charts")); !slices.Equal(got, []string{"004.png", "mine.svg"}) {
		t.Error(got)
	}
}

func TestForgetLeavesOneTraceOfEachRunThatStays(t *testing.T) {
	const header = "run_id,begin_ns\n"
	for name, c := range map[string]struct{ before, after string }{
		"in the middle":  {header + "a,0\na,1\nb,0\nc,0\n", header + "a,0\na,1\nc,0\n"},
		"cut short":      {header + "a,0\nb,0\nc,12", header + "a,0\n"},
		"of nothing":     {header, header},
		"an empty file":  {"", ""},
		"all of another": {header + "b,0\nb,1\n", header},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"timeseries.csv": c.before, "hdr/a.hlog": "", "hdr/b.hlog": "", "hdr/b.txt": ""})
			if err := Forget(dir, func(run string) bool { return run != "b" }); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "timeseries.csv")); err != nil || string(b) != c.after {
				t.Errorf("%v, %q, want %q", err, b, c.after)
			}
			if got := listed(t, filepath.Join(dir, "hdr")); !slices.Equal(got, []string{"a.hlog", "b.txt"}) {
				t.Error(got)
			}
		})
	}
	if err := Forget(t.TempDir(), func(string) bool { return true }); err != nil {
		t.Errorf("where there is nothing: %v", err)
	}
	dir := folder(t, map[string]string{"timeseries.csv": "run_id,begin_ns\n\"a,0\n"})
	if err := Forget(dir, func(string) bool { return true }); err == nil || !strings.Contains(err.Error(), "timeseries.csv") {
		t.Errorf("a damaged file: %v", err)
	}
}

func FuzzKeepSeries(f *testing.F) {
	f.Add([]byte("run_id,begin_ns\na,0\nb,1\n"))
	f.Add([]byte("run_id\n\"a\nb\",0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		kept, err := keepSeries(b, func(run string) bool { return run != "b" })
		if err != nil {
			return
		}
		if _, err := keepSeries(kept, func(run string) bool { return true }); err != nil {
			t.Fatalf("%q cannot be read again: %v", kept, err)
		}
		lines := strings.Split(string(kept), "\n")
		if slices.ContainsFunc(lines[1:], func(l string) bool { return strings.HasPrefix(l, "b,") }) && !strings.Contains(string(kept), `"`) {
			t.Fatalf("%q has a line that was to go", kept)
		}
	})
}
