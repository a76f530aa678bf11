package setup_test

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// The archives of a release are made twice with the same bytes, hold what release-trial.sh looks for, and their programs for this machine run.
func TestRelease(t *testing.T) {
	if os.Getenv("KVWIRE_LONG") == "" {
		t.Skip("it builds three programs and measures with two: make test-long runs it")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("only Linux on amd64 builds a release")
	}
	first, second := t.TempDir(), t.TempDir()
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), "VERSION=v0.98.7", "SOURCE_DATE_EPOCH=1700000000")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("./release.sh", first)
	run("./release.sh", second)
	run("cmp", first+"/SHA256SUMS", second+"/SHA256SUMS")
	out := run("./release-trial.sh", first)
	for _, line := range []string{"kvwire-v0.98.7-linux-amd64: ran\n", "kvwire-v0.98.7-linux-amd64-static: ran\n", "kvwire-v0.98.7-linux-arm64-static-not-run: not run\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in:\n%s", line, out)
		}
	}
}

// The containers and the workflow have the module's version of Go.
func TestContainersHaveTheModulesGo(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if version == nil {
		t.Fatal("go.mod names no version of Go")
	}
	for _, name := range []string{"../Dockerfile", "../.devcontainer/devcontainer.json", "../.github/workflows/ci.yml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		images := regexp.MustCompile(`golang:([\d.]+)`).FindAllSubmatch(text, -1)
		if len(images) == 0 {
			t.Errorf("%s has no image with Go", name)
		}
		for _, m := range images {
			if string(m[1]) != string(version[1]) {
				t.Errorf("%s has Go %s, go.mod %s", name, m[1], version[1])
			}
		}
	}
}
