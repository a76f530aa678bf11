package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dataSets are data sets in dir whose copies are made of whole folders.
func dataSets(dir string) *DataSets {
	copyAll := func(_ context.Context, from, to string) error { return os.CopyFS(to, os.DirFS(from)) }
	return &DataSets{Dir: dir, Copy: copyAll}
}

// Processes that live at the same time have copies of their own. A copy is made anew after a process that wrote, and for other data.
func TestDataSetsAreLoadedOnceAndCopiedForEachPlace(t *testing.T) {
	loads := 0
	load := func(_ context.Context, dir string) error {
		loads++
		return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "store"), nil, 0o644))
	}
	s := dataSets(filepath.Join(t.TempDir(), "data"))
	if s.Made() {
		t.Error("it is made before there is a data set")
	}
	mark := func(dir string) string { return filepath.Join(dir, "mark") } // is gone when the copy is made anew
	place := func(name string, writes bool, place int, again bool, wantLoads int) string {
		t.Helper()
		dir, err := s.Place(t.Context(), name, load, writes, place)
		if err != nil || loads != wantLoads {
			t.Fatalf("%v, %d loads, want %d", err, loads, wantLoads)
		}
		if _, err := os.Stat(mark(dir)); (err == nil) != again {
			t.Errorf("place %d: the copy of before is used again: %v, want %v", place, err == nil, again)
		}
		_ = os.Remove(mark(dir))
		if _, err := os.Stat(filepath.Join(dir, "store")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(mark(dir), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	first := place("one", false, 0, false, 1)
	if second := place("one", true, 1, false, 1); second == first {
		t.Errorf("two places have the same folder %s", first)
	}
	place("one", false, 0, true, 1)  // the one before only read
	place("one", false, 1, false, 1) // it wrote
	place("other", false, 0, false, 2)
	place("one", false, 0, false, 2)

	s.Keep = true
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(s.Dir + "/*")
	if want := []string{filepath.Join(s.Dir, "one"), filepath.Join(s.Dir, "other")}; !slices.Equal(left, want) {
		t.Errorf("there are %q, want %q", left, want)
	}
	s = dataSets(s.Dir)
	if _, err := s.Place(t.Context(), "one", load, false, 0); err != nil || loads != 2 {
		t.Errorf("%v, %d loads: another process finds what was kept", err, loads)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it stays: %v", err)
	}
}

func TestAnIncompleteLoadIsNeverUsed(t *testing.T) {
	parent := t.TempDir()
	failed := errors.New("killed")
	half := func(_ context.Context, dir string) error { // as much of a store as a crash leaves
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is loaded on top of what is there", dir)
		}
		return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), failed)
	}
	s := dataSets(filepath.Join(parent, "data"))
	for range 2 {
		if _, err := s.Place(t.Context(), "one", half, false, 0); !errors.Is(err, failed) {
			t.Fatal(err)
		}
	}
	// A folder whose process ended before it could remove it, and the copy of a run.
	if err := errors.Join(os.Mkdir(filepath.Join(s.Dir, "one.part"), 0o755), os.Mkdir(s.copyDir(0), 0o755)); err != nil {
		t.Fatal(err)
	}
	s = dataSets(s.Dir)
	if _, err := s.Place(t.Context(), "one", half, false, 0); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(s.Dir + "/*"); len(left) > 0 {
		t.Errorf("there are %q", left)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Place(ended, "one", half, false, 0); err == nil || !strings.Contains(err.Error(), "interrupted while loading") {
		t.Errorf("%v", err)
	}
}

func TestTheFolderOfDataSetsIsOursAlone(t *testing.T) {
	parent := t.TempDir()
	mine := filepath.Join(parent, "mine") // and open to others, until now
	if err := errors.Join(os.Mkdir(mine, 0o700), os.Chmod(mine, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := dataSets(mine).make(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(mine); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the data sets has mode %v (%v)", st.Mode(), err)
	}
	file := filepath.Join(parent, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(parent, "link")
	if err := os.Symlink(parent, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, link} {
		if err := dataSets(dir).make(); err == nil || !strings.Contains(err.Error(), "not a folder that only this user can open") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
