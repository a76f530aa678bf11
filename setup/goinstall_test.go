package setup_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"

	"github.com/kvwire/kvwire/internal/testenv"
)

const ourModule = "github.com/kvwire/kvwire"

// moduleProxy makes a folder that go reads as a module proxy. It serves HEAD as the only version of this module.
func moduleProxy(t *testing.T, version string) string {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	files := t.TempDir()
	// HEAD only: a checkout also has bin/ and results/.
	export := exec.Command("sh", "-c", `git -c safe.directory="$1" -C "$1" archive HEAD | tar -x -C "$2"`, "sh", root, files)
	if out, err := export.CombinedOutput(); err != nil || len(out) > 0 {
		t.Skipf("no files of HEAD: %v: %s", err, out)
	}
	proxy := t.TempDir()
	dir := filepath.Join(proxy, ourModule, "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(dir, version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	if err := zip.CreateFromDir(archive, module.Version{Path: ourModule, Version: version}, files); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(files, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"list":            version + "\n",
		version + ".mod":  string(mod),
		version + ".info": fmt.Sprintf(`{"Version": %q, "Time": "2026-01-01T00:00:00Z"}`, version),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return proxy
}

// go install …@latest makes a program that needs no checkout: it has its version, the experiments, inproc and tcp, and names what
// this build left out, with the command that builds the rest.
func TestGoInstall(t *testing.T) {
	testenv.NotShort(t, "it builds the program and its dependencies anew")
	const version = "v0.98.7"
	proxy := moduleProxy(t, version)
	goEnv := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatalf("go env %s: %v", name, err)
		}
		return strings.TrimSpace(string(out))
	}
	home, empty := t.TempDir(), t.TempDir()
	environment := append(os.Environ(),
		// Dependencies come from this machine's module cache, which has those of this test, or else from this machine's GOPROXY.
		"GOPROXY=file://"+proxy+",file://"+filepath.Join(goEnv("GOMODCACHE"), "cache", "download")+","+goEnv("GOPROXY"),
		// Without -trimpath each dependency would be compiled anew, since it is in another folder each time.
		"GONOSUMDB="+ourModule, "GOFLAGS=-modcacherw -trimpath", "GOMODCACHE="+filepath.Join(home, "modules"), "GOBIN="+filepath.Join(home, "bin"))
	run := func(name string, args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.Env = empty, environment
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	wants := func(out string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !strings.Contains(out, text) {
				t.Errorf("no %q in:\n%s", text, out)
			}
		}
	}
	kvwire := filepath.Join(home, "bin", "kvwire")

	run("go", "install", ourModule+"/cmd/kvwire@latest")
	wants(run(kvwire, "version"), "kvwire "+version+", go1.", "without io_uring, without RDMA\n", "This build leaves out io_uring and RDMA.", "go install -tags 'giouring rdma' -ldflags=-checklinkname=0 "+ourModule+"/cmd/kvwire@latest")
	wants(run(kvwire, "experiments"), "quick ", "ladder ")
	wants(run(kvwire, "run", "quick", "--dry-run"), "transport=inproc", "transport=tcp")
	wants(run(kvwire, "doctor"), "not in this build")
	for _, transport := range []string{"inproc", "tcp"} {
		wants(run(kvwire, "bench", "--transport", transport, "--backend", "null", "--duration", "100ms", "--warmup", "0", "--json"), `"transport":"`+transport+`"`)
	}

	run("go", "install", "-tags", "giouring", "-ldflags=-checklinkname=0", ourModule+"/cmd/kvwire@latest")
	wants(run(kvwire, "version"), "kvwire "+version+", go1.", "with io_uring, without RDMA\n", "This build leaves out RDMA.")
}
