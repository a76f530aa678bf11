package lab

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/report"
)

// dataLab is a fakeLab whose cells have data.
type dataLab struct {
	*fakeLab
	data []Data // by cell
	gone int    // a cell that cannot be run here
}

func (l dataLab) Facts(cell int) (Facts, error) {
	return Facts{Row: &report.Row{}, Here: cell != l.gone, Data: l.data[cell]}, nil
}

// withData is a runner of two questions, get and put over tcp and uring, whose cells have this data: get and put over tcp, then over uring.
func withData(t *testing.T, slice time.Duration, gone int, data ...Data) *Runner {
	t.Helper()
	f, r := newFake(t, twoQuestions, Settings{Generations: 10, Slice: slice})
	r.Exec = dataLab{f, data, gone}
	if err := r.Prepare(); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDemandsAreOfEachDataSetOnceAndACopyForEachProcess(t *testing.T) {
	named := filepath.Join(t.TempDir(), "named")
	r := withData(t, 0, -1, Data{Name: "set", Bytes: 90, Extra: 100}, Data{Name: "set", Bytes: 90, Extra: 160}, Data{}, Data{Name: "store", Bytes: 1000, Dir: named})
	runs := r.Runs()
	if n := len(r.loads(runs)); n != 2 {
		t.Fatalf("%d data to be loaded: one for the cells that agree, and the named folder's", n)
	}
	all := r.demands(runs, "/tmp", 0)
	if len(all) != 2 || all[0].bytes != 1000 || all[0].dir != named || all[1].bytes != 90+160 || all[1].dir != "/tmp" {
		t.Errorf("%+v", all)
	}
	if all := r.demands(runs, "/tmp", 90); len(all) != 2 || all[1].bytes != 160 {
		t.Errorf("with the set there: %+v", all)
	}
}

// All processes of a generation live at the same time, the baseline's second one among them.
func TestDemandsHaveAllProcessesOfAGeneration(t *testing.T) {
	d := Data{Name: "set", Bytes: 90, Extra: 100}
	for _, c := range []struct {
		slice     time.Duration
		gone      int
		processes int64
	}{{DefaultSlice, -1, 3}, {DefaultSlice, 3, 3}, {0, -1, 1}} {
		r := withData(t, c.slice, c.gone, d, d, d, d)
		if all := r.demands(r.Runs(), "/tmp", 0); len(all) != 1 || all[0].bytes != 90+c.processes*100 {
			t.Errorf("slices of %v, without cell %d: %+v, want %d processes", c.slice, c.gone, all, c.processes)
		}
	}
}

func TestAForecastHasCellsTimeAndSpace(t *testing.T) {
	set := Data{Name: "set", Load: time.Hour, Bytes: 90 << 10, Extra: 100 << 10}
	r := withData(t, DefaultSlice, 3, set, set, Data{Long: "a trace is long"}, Data{Name: "other", Load: time.Hour})
	var out strings.Builder
	if err := r.Forecast(&out, t.TempDir(), true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1  20 × (baseline)  --transport=tcp --mix=get\n", "4  not here", "2 questions, 4 cells, 1 of them not here, 10 generations, slices of 50ms: about 1h0m0s",
		"disk space: a data set of 90 KiB, and up to 200 KiB for the processes of a generation, in ", "\na trace is long\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, &out)
		}
	}
}

func TestADiskThatIsTooSmallIsRefused(t *testing.T) {
	dir := t.TempDir()
	_, free, err := freeAt(filepath.Join(dir, "not", "there", "yet"))
	if err != nil || free == 0 {
		t.Fatalf("%d bytes free: %v", free, err)
	}
	most := int64(free)
	if err := roomy([]demand{{dir: dir, bytes: most / 4}, {dir: filepath.Join(dir, "x"), bytes: most / 4}}); err != nil {
		t.Error(err)
	}
	err = roomy([]demand{{dir: dir, bytes: most / 2}, {dir: filepath.Join(dir, "x"), bytes: most}})
	if err == nil || !strings.Contains(err.Error(), "free some space; or choose another disk, with TMPDIR") {
		t.Errorf("two on one disk: %v", err)
	}
}

// Remarks name what has no effect in slices, unless the experiment shows that its author knows.
func TestRemarksOnWhatSlicesDoNotHave(t *testing.T) {
	noEffect := "duration has no effect"
	for _, c := range []struct {
		text  string
		slice time.Duration
		time  time.Duration
		whole map[int]string
		want  string
	}{
		{"", DefaultSlice, 0, nil, ""},
		{"duration: 2s\n", DefaultSlice, 0, nil, noEffect},
		{"duration: 2s\n", DefaultSlice, time.Second, nil, ""},
		{"duration: 2s\nslice: 50ms\n", DefaultSlice, 0, nil, ""},
		{"duration: 2s\nstages: {one-in: 16}\n", DefaultSlice, 0, nil, ""},
		{"duration: 2s\n", 0, 0, nil, ""},
		{"duration: 2s\n", DefaultSlice, 0, map[int]string{3: "it grows"}, "whole runs, not slices: it grows"},
		{"", 0, 0, map[int]string{3: "it grows"}, ""},
	} {
		f, r := newFake(t, twoQuestions+c.text, Settings{Generations: 1, Slice: c.slice, Time: c.time})
		f.whole, r.Time = c.whole, c.time
		if err := r.Prepare(); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(r.Remarks(r.Runs()), "\n")
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" || strings.Contains(got, "\n") {
			t.Errorf("%q in slices of %v: %q, want %q", c.text, c.slice, got, c.want)
		}
	}
}
