package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/experiments"
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

// made is what an experiment costs, one data set of which is read and written, and its runs.
func made(t *testing.T, n int) (*costs, []experiments.Run) {
	t.Helper()
	x := &experiments.Experiment{Cells: []experiments.Cell{
		{{Name: "transport", Value: "inproc"}, {Name: "mix", Value: "c"}, {Name: "records", Value: "100k"}},
		{{Name: "transport", Value: "tcp"}, {Name: "mix", Value: "a"}, {Name: "records", Value: "100k"}},
		{{Name: "transport", Value: "tcp"}, {Name: "backend", Value: "null"}},
		{{Name: "transport", Value: "inproc"}, {Name: "dir", Value: filepath.Join(t.TempDir(), "named")}, {Name: "records", Value: "1M"}},
	}}
	c, err := estimates(x, "")
	if err != nil {
		t.Fatal(err)
	}
	return &c, x.Design(n, 1)
}

func TestDemandsAreOfEachDataSetOnceAndOneCopy(t *testing.T) {
	c, runs := made(t, 10)
	if n := len(c.loads(runs)); n != 2 {
		t.Fatalf("%d data to be loaded: one for the cells that agree, and the named folder's", n)
	}
	all := c.demands(runs, "/tmp", 0)
	set, extra, named := c.of[0].bytes, c.of[1].extra, c.of[3].bytes
	if len(all) != 2 || all[0].bytes != named || all[1].bytes != set+extra || all[1].dir != "/tmp" || extra <= set {
		t.Errorf("%+v; a set takes %d, a copy that is written %d, the named folder %d", all, set, extra, named)
	}
	if all := c.demands(runs, "/tmp", set); len(all) != 2 || all[1].bytes != extra {
		t.Errorf("with the set there: %+v", all)
	}
	if all := c.demands([]experiments.Run{{Block: 1, Order: 1, Cell: 2}}, "/tmp", 0); len(all) != 0 {
		t.Errorf("without a store: %+v", all)
	}
	if c.of[0].run >= c.of[1].run || c.of[2].run >= c.of[0].run {
		t.Errorf("%v to read in place, %v to copy, %v without a store", c.of[0].run, c.of[1].run, c.of[2].run)
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
