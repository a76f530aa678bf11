package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A store in two folders has its partitions there in turn, and is opened with the same folders in the same order only.
func TestAStoreInSeveralFoldersIsOpenedWithTheSame(t *testing.T) {
	root := t.TempDir()
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	both := a + "," + b
	if err := prepare(both, 3); err != nil {
		t.Fatal(err)
	}
	for shard, want := range []string{a, b, a} {
		f, err := openFiles(both, shard, false)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(f.dir) != want {
			t.Errorf("shard %d is in %s", shard, f.dir)
		}
		if err := f.writeAt(0, make([]byte, pageBytes), 0); err != nil { // it has data from now on
			t.Error(err)
		}
		if err := f.close(); err != nil {
			t.Error(err)
		}
	}
	if err := prepare(both, 3); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if _, err := os.Stat(filepath.Join(b, manifestName)); err == nil {
		t.Error("the second folder has a manifest, too")
	}
	for dir, want := range map[string]string{
		a:                            "was made in 2 folders, not 1",
		both + "," + root + "/c":     "was made in 2 folders, not 3",
		b + "," + a:                  "is not a store: it has no",
		b:                            "is not a store: it has no",
		a + "," + a:                  "each has a name of its own",
		a + ",":                      "each has a name of its own",
		both + ",c,d":                "4 folders for 3 partitions",
		a + "," + root + "/new," + b: "was made in 2 folders, not 3",
	} {
		if err := prepare(dir, 3); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
	if err := Copy(t.Context(), a, filepath.Join(root, "copy")); err == nil {
		t.Error("a part of the store was copied")
	}
}

// A folder that is there and has a comma in its name is one folder.
func TestAFolderWithACommaIsOneIfItIsThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x,y")
	if got := folders(dir); len(got) != 2 {
		t.Errorf("%q", got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := folders(dir); len(got) != 1 || got[0] != dir {
		t.Errorf("%q", got)
	}
}
