package main

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEstimatesCoverWhatALoadTakes(t *testing.T) {
	for _, args := range [][]string{{"--records=20k", "--value-bytes=64"}, {"--records=1k", "--value-bytes=4KiB"}, {"--records=200", "--value-bytes=64KiB"},
		{"--records=3k", "--value-bytes=8KiB", "--value-dist=uniform", "--value-min-bytes=100", "--server-threads=2"},
		{"--records=8k", "--value-dist=list", "--value-sizes=60,360:2,984,4056"}} {
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

// used returns the disk space of a folder's files.
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
