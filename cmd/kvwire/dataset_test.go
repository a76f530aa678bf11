package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
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

// runKvwire runs a command of this program.
func runKvwire(ctx context.Context, args []string) error {
	cmd := asKvwire(ctx, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestDataSetsAreTheSameWhereTheirFilesAre(t *testing.T) {
	name := func(args ...string) string {
		d, ok := asked(t, args...).DataSet()
		if !ok {
			return ""
		}
		return d.Name()
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
		if got := asked(t, "--mix="+mix).Writes(); got != want {
			t.Errorf("%s writes: %v, want %v", mix, got, want)
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
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exit.Interrupted || !strings.Contains(said.String(), "--resume") {
		t.Errorf("%v: %s", err, &said)
	}
	if left, _ := filepath.Glob(temporary + "/*"); len(left) > 0 {
		t.Errorf("there are %q", left)
	}
}
