package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The Makefile's version arrives in the program, and so in each row.
func TestTheLinkerSetsTheVersion(t *testing.T) {
	if testing.Short() {
		t.Skip("it links a program")
	}
	program := filepath.Join(t.TempDir(), "kvwire")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags", "-X main.version=v1.2.3-made-up", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "kvwire v1.2.3-made-up") {
		t.Errorf("%v: %q", err, out)
	}
}
