package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/store"
)

// asked are the flags of a run.
func asked(t *testing.T, args ...string) *factors {
	t.Helper()
	f := newBenchFactors()
	if err := f.parse(args, nil); err != nil {
		t.Fatal(err)
	}
	return f
}

// program runs a command of this program.
func program(ctx context.Context, args []string) error {
	cmd := asKvwire(ctx, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestDataSetsAreTheSameWhereTheirFilesAre(t *testing.T) {
	name := func(args ...string) string {
		d, ok := asked(t, args...).dataSet()
		if !ok {
			return ""
		}
		return d.name()
	}
	base := name()
	for _, same := range [][]string{{"--transport=inproc"}, {"--mix=a"}, {"--conns=64"}, {"--disk-engine=aio"}, {"--durability=flush"}, {"--cache-bytes=1MiB"}, {"--server-threads=1"},
		{"--placement=dispatched", "--net-loops=4"}} {
		if got := name(same...); got != base {
			t.Errorf("%v: %s, want %s", same, got, base)
		}
	}
	seen := map[string]bool{base: true}
	for _, other := range [][]string{{"--records=7"}, {"--key-bytes=17"}, {"--value-bytes=7"}, {"--value-dist=uniform"}, {"--value-dist=zipfian"}, {"--value-dist=uniform", "--value-min-bytes=7"},
		{"--seed=7"}, {"--server-threads=2"}, {"--placement=dispatched", "--store-loops=3"}, {"--update=inplace"}} {
		got := name(other...)
		if got == "" || seen[got] {
			t.Errorf("%v: %q is another's", other, got)
		}
		seen[got] = true
	}
	for _, none := range [][]string{{"--backend=null"}, {"--backend=mem"}, {"--backend=raw"}, {"--dir=mine"}, {"--server-at=127.0.0.1:1"}} {
		if got := name(none...); got != "" {
			t.Errorf("%v: %s, want none", none, got)
		}
	}
}

func TestMixesThatWriteAreKnown(t *testing.T) {
	for mix, want := range map[string]bool{"a": true, "b": true, "c": false, "d": true, "e": true, "f": true, "get": false, "scan": false, "get=50,scan=50": false, "put": true, "insert": true, "rmw": true,
		"get=99,put=1": true} {
		if got := asked(t, "--mix="+mix).writes(); got != want {
			t.Errorf("%s writes: %v, want %v", mix, got, want)
		}
	}
}

// Processes that live at the same time have copies of their own. A copy is made anew after a process that wrote, and for other data.
func TestDataSetsAreLoadedOnceAndCopiedForEachPlace(t *testing.T) {
	f, g := asked(t, "--records=500"), asked(t, "--records=300")
	d, _ := f.dataSet()
	other, _ := g.dataSet()
	loads := 0
	s := &dataSets{dir: filepath.Join(t.TempDir(), "data"), load: func(ctx context.Context, args []string) error { loads++; return program(ctx, args) }}
	mark := func(dir string) string { return filepath.Join(dir, "mark") } // is gone when the copy is made anew
	take := func(d *dataSet, writes bool, place int, again bool, wantLoads int) string {
		t.Helper()
		dir, how, err := s.take(t.Context(), d, writes, place)
		if err != nil || how != dataCopied || loads != wantLoads {
			t.Fatalf("%v, %s, %d loads, want %d", err, how, loads, wantLoads)
		}
		if _, err := os.Stat(mark(dir)); (err == nil) != again {
			t.Errorf("place %d: the copy of before is used again: %v, want %v", place, err == nil, again)
		}
		_ = os.Remove(mark(dir))
		if all, err := store.Inspect(dir, nil); err != nil || all[0].Items != d.records {
			t.Fatalf("%s: %v, %d items, want %d", dir, err, all[0].Items, d.records)
		}
		if err := os.WriteFile(mark(dir), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	first := take(&d, false, 0, false, 1)
	if second := take(&d, true, 1, false, 1); second == first {
		t.Errorf("two places have the same folder %s", first)
	}
	take(&d, false, 0, true, 1)  // the one before only read
	take(&d, false, 1, false, 1) // it wrote
	take(&other, false, 0, false, 2)
	take(&d, false, 0, false, 2)

	s.keep = true
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(s.dir + "/*")
	slices.Sort(left)
	want := []string{filepath.Join(s.dir, d.name()), filepath.Join(s.dir, other.name())}
	if slices.Sort(want); !slices.Equal(left, want) {
		t.Errorf("there are %q, want %q", left, want)
	}
	s = &dataSets{dir: s.dir, load: s.load}
	if _, _, err := s.take(t.Context(), &d, false, 0); err != nil || loads != 2 {
		t.Errorf("%v, %d loads: another process finds what was kept", err, loads)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it stays: %v", err)
	}
}

func TestHalfALoadIsNeverUsed(t *testing.T) {
	d, _ := asked(t).dataSet()
	parent := t.TempDir()
	failed := errors.New("killed")
	half := func(_ context.Context, args []string) error { // as much of a store as a crash leaves
		for _, a := range args {
			if dir, ok := strings.CutPrefix(a, "--dir="); ok {
				if _, err := os.Stat(dir); err == nil {
					t.Errorf("%s is loaded on top of what is there", dir)
				}
				return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), failed)
			}
		}
		return errors.New("no --dir")
	}
	s := &dataSets{dir: filepath.Join(parent, "data"), load: half}
	for range 2 {
		if _, _, err := s.take(t.Context(), &d, false, 0); !errors.Is(err, failed) {
			t.Fatal(err)
		}
	}
	// One whose process did not live to remove it, and the copy of a run.
	if err := errors.Join(os.Mkdir(filepath.Join(s.dir, d.name()+".part"), 0o755), os.Mkdir(s.copy(0), 0o755)); err != nil {
		t.Fatal(err)
	}
	s = &dataSets{dir: s.dir, load: half}
	if _, _, err := s.take(t.Context(), &d, false, 0); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(s.dir + "/*"); len(left) > 0 {
		t.Errorf("there are %q", left)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.take(ended, &d, false, 0); err == nil || !strings.Contains(err.Error(), "interrupted while loading") {
		t.Errorf("%v", err)
	}

	mine := filepath.Join(parent, "mine") // and open to others, until now
	if err := errors.Join(os.Mkdir(mine, 0o700), os.Chmod(mine, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := (&dataSets{dir: mine, keep: true}).make(); err != nil {
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
		s := &dataSets{dir: dir, load: half}
		if _, _, err := s.take(t.Context(), &d, false, 0); err == nil || !strings.Contains(err.Error(), "somebody else's") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// ^C in the middle of a generation, or of a whole run, leaves no data.
func TestAnInterruptedRunRemovesItsDataSets(t *testing.T) {
	for _, slice := range []string{"20ms", "0"} {
		t.Run("slice "+slice, func(t *testing.T) { interruptedWithData(t, slice) })
	}
}

func interruptedWithData(t *testing.T, slice string) {
	dir := t.TempDir()
	file, temporary := filepath.Join(dir, "small.yaml"), filepath.Join(dir, "tmp")
	text := "name: small\ntransport: inproc\nbackend: disk\nrecords: 500\nmix: a\nduration: 10m\nwarmup: 0s\n"
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o644), os.Mkdir(temporary, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := asKvwire(context.Background(), "run", file, "--generations", "1", "--slice", slice, "--output-dir", filepath.Join(dir, "out"))
	cmd.Env = append(cmd.Env, "TMPDIR="+temporary)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		if copies, _ := filepath.Glob(temporary + "/kvwire-small-*/copy-0/store.json"); len(copies) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no data set is copied: %s", &said)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupted || !strings.Contains(said.String(), "--resume") {
		t.Errorf("%v: %s", err, &said)
	}
	if left, _ := filepath.Glob(temporary + "/*"); len(left) > 0 {
		t.Errorf("there are %q", left)
	}
}
