package main

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/lab"
	"golang.org/x/sys/unix"
)

func TestEstimatesCoverWhatALoadTakes(t *testing.T) {
	for _, args := range [][]string{{"--records=20k", "--value-bytes=64"}, {"--records=1k", "--value-bytes=4KiB"}, {"--records=200", "--value-bytes=64KiB"},
		{"--records=3k", "--value-bytes=8KiB", "--value-dist=uniform", "--value-min-bytes=100", "--server-threads=2"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			d, _ := asked(t, args...).DataSet()
			dir := filepath.Join(t.TempDir(), "store")
			if err := runKvwire(t.Context(), d.LoadArgs(dir)); err != nil {
				t.Fatal(err)
			}
			const small = 16 << 20 // below it, first extents are most of it
			got, want := used(t, dir), d.Bytes(false)
			if got > want || want > 2*got && want > small {
				t.Errorf("it takes %d bytes, %d were estimated", got, want)
			}
		})
	}
}

func TestCellsWithTheSameDataHaveOneDataSet(t *testing.T) {
	read, written := asked(t, "--transport=inproc", "--mix=c", "--records=100k").Facts().Data, asked(t, "--transport=tcp", "--mix=a", "--records=100k").Facts().Data
	if read.Name == "" || read.Name != written.Name || read.Bytes != written.Bytes || read.Load != written.Load || written.Extra <= read.Extra || read.Extra < read.Bytes {
		t.Errorf("read %+v, written %+v", read, written)
	}
	if d := asked(t, "--backend=null").Facts().Data; d != (lab.Data{}) {
		t.Errorf("backend null has %+v", d)
	}
	if d := asked(t, "--transport=inproc", "--dir=named", "--records=1M").Facts().Data; d.Dir != "named" || d.Bytes <= read.Bytes || d.Extra != 0 {
		t.Errorf("a folder of the user's: %+v", d)
	}
	for _, name := range []string{"", "named"} {
		args := []string{"--transport=inproc", "--backend=raw", "--raw-bytes=1MiB"}
		if name != "" {
			args = append(args, "--dir="+name)
		}
		if d := asked(t, args...).Facts().Data; d.Dir != name || d.Bytes+d.Extra != 1<<20 {
			t.Errorf("a raw file in %q: %+v", name, d)
		}
	}
}

// used is the space that a folder's files take.
func used(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && d.Type().IsRegular() {
			err = unix.Lstat(path, &st)
		}
		sum += st.Blocks * 512
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
