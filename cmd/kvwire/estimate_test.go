package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
)

func TestEstimatesCoverWhatALoadTakes(t *testing.T) {
	for _, args := range [][]string{{"--records=20k", "--value-bytes=64"}, {"--records=1k", "--value-bytes=4KiB"}, {"--records=200", "--value-bytes=64KiB"},
		{"--records=3k", "--value-bytes=8KiB", "--value-dist=uniform", "--value-min-bytes=100", "--server-threads=2"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			d, _ := asked(t, args...).dataSet()
			dir := filepath.Join(t.TempDir(), "store")
			if err := program(t.Context(), d.load(dir)); err != nil {
				t.Fatal(err)
			}
			const small = 16 << 20 // below it, first extents are most of it
			got, want := used(dir), d.bytes(false)
			if got > want || want > 2*got && want > small {
				t.Errorf("it takes %d bytes, %d were estimated", got, want)
			}
		})
	}
}

// made is what an experiment costs, one data set of which is read and written, and its runner.
func made(t *testing.T, n int) (*costs, *lab.Runner) {
	t.Helper()
	x := &experiment.Experiment{Cells: []experiment.Cell{
		{{Name: "transport", Value: "inproc"}, {Name: "mix", Value: "c"}, {Name: "records", Value: "100k"}},
		{{Name: "transport", Value: "tcp"}, {Name: "mix", Value: "a"}, {Name: "records", Value: "100k"}},
		{{Name: "transport", Value: "tcp"}, {Name: "backend", Value: "null"}},
		{{Name: "transport", Value: "inproc"}, {Name: "dir", Value: filepath.Join(t.TempDir(), "named")}, {Name: "records", Value: "1M"}},
	}}
	c, err := estimates(x, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := planner(x, lab.Settings{Generations: n, Slice: lab.DefaultSlice}, "")
	if err != nil {
		t.Fatal(err)
	}
	return &c, r
}

func TestDemandsAreOfEachDataSetOnceAndACopyForEachProcess(t *testing.T) {
	c, r := made(t, 10)
	runs := r.Runs()
	if n := len(c.loads(runs)); n != 2 {
		t.Fatalf("%d data to be loaded: one for the cells that agree, and the named folder's", n)
	}
	all := c.demands(r, runs, "/tmp", 0)
	set, read, written, named := c.of[0].bytes, c.of[0].extra, c.of[1].extra, c.of[3].bytes
	if len(all) != 2 || all[0].bytes != named || all[1].bytes != set+written || all[1].dir != "/tmp" || written <= read || read < set {
		t.Errorf("%+v; a set takes %d, a copy that is read %d, one that is written %d, the named folder %d", all, set, read, written, named)
	}
	if all := c.demands(r, runs, "/tmp", set); len(all) != 2 || all[1].bytes != written {
		t.Errorf("with the set there: %+v", all)
	}
}

// All processes of a generation live at the same time, the baseline's second one among them.
func TestDemandsHaveAllProcessesOfAGeneration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte("transport: [inproc, tcp]\nbackend: disk\nmix: a\nrecords: 100k\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	x, err := readExperiment(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := estimates(x, "")
	if err != nil {
		t.Fatal(err)
	}
	for slice, processes := range map[time.Duration]int64{lab.DefaultSlice: 3, 0: 1} {
		r, err := planner(x, lab.Settings{Generations: 2, Slice: slice}, "")
		if err != nil {
			t.Fatal(err)
		}
		all := c.demands(r, r.Runs(), "/tmp", 0)
		if want := c.of[0].bytes + processes*c.of[0].extra; len(all) != 1 || all[0].bytes != want {
			t.Errorf("slices of %v: %+v, want %d bytes", slice, all, want)
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
