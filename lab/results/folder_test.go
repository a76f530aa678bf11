package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// newFullFolder is a folder of newTestFolder's experiment with all runs of 7 generations, each in 4 slices.
func newFullFolder(t *testing.T) *Folder {
	t.Helper()
	f := newTestFolder(t, 7, 0)
	k := openKeeper(t, f)
	for g := 1; g <= 7; g++ {
		keep(t, f, k, 0, g, 0.3)
		keep(t, f, k, 1, g, 0.3)
	}
	return f
}

// edit replaces a file of the folder by what change makes of its lines; the header is line 0.
func edit(t *testing.T, f *Folder, name string, change func(lines []string) []string) {
	t.Helper()
	path := filepath.Join(f.Dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := change(strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"))
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// without removes the lines that contain text.
func without(text string) func([]string) []string {
	return func(lines []string) (kept []string) {
		for _, l := range lines {
			if !strings.Contains(l, text) {
				kept = append(kept, l)
			}
		}
		return kept
	}
}

// replace replaces text in one line.
func replace(line int, from, to string) func([]string) []string {
	return func(lines []string) []string {
		lines[line] = strings.Replace(lines[line], from, to, 1)
		return lines
	}
}

// repeat appends one line again.
func repeat(line int) func([]string) []string {
	return func(lines []string) []string { return append(lines, lines[line]) }
}

func TestRatiosOfGenerationsThatLackSlicesComeFromTotals(t *testing.T) {
	const rest = ": ratios of the same generations come from totals, and kvwire run --resume DIR measures these generations again"
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, f *Folder)
		lost   string
		sliced int // the generations of the first question whose ratios still come from slices
	}{
		{"nothing is lost", func(*testing.T, *Folder) {}, "", 7},
		{"no file", func(t *testing.T, f *Folder) {
			if err := os.Remove(filepath.Join(f.Dir, report.SlicesFile)); err != nil {
				t.Fatal(err)
			}
		}, "slices.csv, with the 168 slices of 42 runs, is missing" + rest, 0},
		{"only the header", func(t *testing.T, f *Folder) {
			edit(t, f, report.SlicesFile, func(lines []string) []string { return lines[:1] })
		}, "slices.csv has 0 of the 168 slices of 42 runs" + rest, 0},
		{"half of the file", func(t *testing.T, f *Folder) {
			edit(t, f, report.SlicesFile, func(lines []string) []string { return lines[:1+84] })
		}, "slices.csv has 0 of the 84 slices of 21 runs" + rest, 4},
		{"half of the slices of a run", func(t *testing.T, f *Folder) {
			edit(t, f, report.SlicesFile, func(lines []string) []string { return append(lines[:1], lines[3:]...) })
		}, "slices.csv has 2 of the 4 slices of a run" + rest, 6},
		{"all slices of a run", func(t *testing.T, f *Folder) {
			edit(t, f, report.SlicesFile, without(f.Plan.RunID(experiment.Run{Generation: 2, Cell: 2})+","))
		}, "slices.csv has 0 of the 4 slices of a run" + rest, 6},
		{"one slice more", func(t *testing.T, f *Folder) {
			edit(t, f, report.SlicesFile, func(lines []string) []string {
				fields := strings.Split(lines[1], ",")
				fields[5] = "5" // slice
				return append(lines, strings.Join(fields, ","))
			})
		}, "slices.csv has 4 of the 4 slices of a run, and 1 more" + rest, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFullFolder(t)
			c.damage(t, f)
			back := reopen(t, f)
			if got := back.LostSlices("DIR"); got != c.lost {
				t.Errorf("got  %s\nwant %s", got, c.lost)
			}
			warned := 0
			for _, w := range back.warnings() {
				if c.lost != "" && w == c.lost+"." {
					warned++
				}
			}
			if warned != min(1, len(c.lost)) {
				t.Errorf("the page has %d lines of it: %q", warned, back.warnings())
			}
			sliced := 0
			p := back.pairs(f.Experiment.Questions()[0])
			if strings.Contains(c.name, "all slices of a run") {
				p = back.pairs(f.Experiment.Questions()[f.question(2)])
			}
			for g := 1; g <= 7; g++ {
				a, b, again := p.Baseline.Slices[g] != nil, p.Variants[0].Slices[g] != nil, p.Again.Slices[g] != nil
				if a != b || a != again {
					t.Errorf("generation %d: slices of the baseline: %v, of the variant: %v, of the baseline again: %v", g, a, b, again)
				}
				if a {
					sliced++
				}
			}
			if sliced != c.sliced {
				t.Errorf("%d generations have slices, want %d", sliced, c.sliced)
			}
			if found, err := back.Findings(); err != nil {
				t.Error(err)
			} else if sliced == 0 { // the totals have no noise
				for _, x := range found.Comparisons {
					if x.Metric.Name == "cpu_ns_per_op" && x.Kind == report.KindRatio && x.Question == "depth=1" && math.Abs(x.Ratio-1.1) > 1e-9 {
						t.Errorf("%s: %v, want 1.1 of the totals", x.Variant, x.Ratio)
					}
				}
			}
		})
	}
}

// question is the question that has a cell.
func (r *Folder) question(cell int) int {
	for i, q := range r.Experiment.Questions() {
		for _, c := range q.Cells {
			if c == cell {
				return i
			}
		}
	}
	return -1
}

func TestLostSlicesThatAreMeasuredAgainAreNotLost(t *testing.T) {
	f := newFullFolder(t)
	edit(t, f, report.SlicesFile, func(lines []string) []string { return append(lines[:1], lines[2:]...) })
	back := reopen(t, f)
	id := f.Plan.RunID(experiment.Run{Generation: 1, Cell: f.Experiment.Questions()[0].Cells[0]})
	delete(back.Rows, id) // as --resume does
	back.DropPartGenerations()
	if len(back.Rows) != 39 || back.LostSlices("DIR") != "" {
		t.Errorf("%d rows of 39, %q", len(back.Rows), back.LostSlices("DIR"))
	}
	if err := report.Forget(back.Dir, func(id string) bool { _, there := back.Rows[id]; return there }); err != nil {
		t.Fatal(err)
	}
	keep(t, back, openKeeper(t, back), 0, 1, 0)
	for _, r := range []*Folder{back, reopen(t, f)} {
		if len(r.Rows) != 42 || len(r.Slices) != 42 || r.LostSlices("DIR") != "" {
			t.Errorf("%d rows and slices of %d runs, want 42: %q", len(r.Rows), len(r.Slices), r.LostSlices("DIR"))
		}
	}
}

func TestFoldersWithWrongLinesAreRefused(t *testing.T) {
	id := func(g, cell int) string { return fmt.Sprintf("fake-20261128-120000-b%02d-c%03d", g, cell) }
	const missing = "is not among the runs of the 7 generations that design.json plans (restore design.json, or remove this line)"
	const again = " (remove this line; kvwire run --resume then measures the run again)"
	for _, c := range []struct {
		name, file string
		change     func(lines []string) []string
		want       string
	}{
		{"a run twice", lab.RowsFile, repeat(1), "line 44: it has run " + id(1, 1) + ", as line 2 has (remove one of the two lines)"},
		{"a slice twice", report.SlicesFile, repeat(3), "line 170: it has slice 3 of run " + id(1, 1) + ", as line 4 has (remove one of the two lines)"},
		{"a slice of another generation", report.SlicesFile, replace(2, ",depth=1,1,tcp,1,", ",depth=1,1,tcp,2,"),
			"line 3: its run " + id(1, 1) + ` has generation "2" here and "1" in runs.csv` + again},
		{"a slice of another variant", report.SlicesFile, replace(2, ",tcp,", ",uring,"), "line 3: its run " + id(1, 1) + ` has variant "uring" here and "tcp" in runs.csv` + again},
		{"a slice of another question", report.SlicesFile, replace(2, ",depth=1,", ",depth=16,"), "line 3: its run " + id(1, 1) + ` has question "depth=16" here and "depth=1" in runs.csv` + again},
		{"a run that is not planned", lab.RowsFile, replace(2, "-b01-", "-b99-"), `line 3: run "fake-20261128-120000-b99-c003" ` + missing},
		{"a run without an ID", lab.RowsFile, replace(1, id(1, 1), ""), `line 2: run "" ` + missing},
		{"a run of another generation", lab.RowsFile, replace(1, "tcp,1,", "tcp,2,"), "line 2: run " + id(1, 1) + ` has generation "2" here and 1 in design.json` + again},
		{"a run of no generation", lab.RowsFile, replace(1, "tcp,1,", "tcp,,"), "line 2: run " + id(1, 1) + ` has generation "" here and 1 in design.json` + again},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFullFolder(t)
			edit(t, f, c.file, c.change)
			_, err := Open(f.Dir, f.reader)
			if want := filepath.Join(f.Dir, c.file) + ": " + c.want; err == nil || !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
	t.Run("a run twice, without a plan", func(t *testing.T) {
		f := newFullFolder(t)
		edit(t, f, lab.RowsFile, repeat(1))
		if err := os.Remove(filepath.Join(f.Dir, lab.PlanFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenReport(f.Dir, f.reader, false); err == nil || !strings.Contains(err.Error(), "runs.csv: line 44: it has run "+id(1, 1)) {
			t.Error(err)
		}
	})
}

func TestDamagedInputsOfAReportAreNamed(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, f *Folder)
		want   string // in the lines
		fails  bool
	}{
		{"none", func(*testing.T, *Folder) {}, "", false},
		{"rows are cut", func(t *testing.T, f *Folder) {
			edit(t, f, lab.RowsFile, func(lines []string) []string { return lines[:20] })
		}, "files are not as MANIFEST.sha256 has them: changed runs.csv (restore them from a copy; if the change is meant, remove MANIFEST.sha256)\n" +
			"runs.csv has 19 rows and runs.json 42: rows are lost (restore it from a copy; or kvwire run --resume DIR measures them again)", false},
		{"only the header", func(t *testing.T, f *Folder) {
			edit(t, f, lab.RowsFile, func(lines []string) []string { return lines[:1] })
		}, "files are not as MANIFEST.sha256 has them: changed runs.csv (restore them from a copy; if the change is meant, remove MANIFEST.sha256)", true},
		{"no rows", func(t *testing.T, f *Folder) {
			if err := errors.Join(os.Remove(filepath.Join(f.Dir, lab.RowsFile)), os.Remove(filepath.Join(f.Dir, report.SlicesFile))); err != nil {
				t.Fatal(err)
			}
		}, "files are not as MANIFEST.sha256 has them: missing runs.csv, slices.csv (restore them from a copy; if the change is meant, remove MANIFEST.sha256)", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFullFolder(t)
			rows, err := json.Marshal(f.RowsInOrder())
			if err := errors.Join(err, os.WriteFile(filepath.Join(f.Dir, rowsJSON), rows, 0o644), report.WriteManifest(f.Dir, false)); err != nil {
				t.Fatal(err)
			}
			c.damage(t, f)
			lines, err := Damage(f.Dir)
			if got := strings.ReplaceAll(strings.Join(lines, "\n"), f.Dir, "DIR"); got != c.want || (err != nil) != c.fails {
				t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
}
