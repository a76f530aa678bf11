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
