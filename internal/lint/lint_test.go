package lint

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestModuleKeepsItsRules is the lint itself.
func TestModuleKeepsItsRules(t *testing.T) {
	root := moduleRoot(t)
	files := moduleFiles(t, root)
	if !slices.Contains(files, "kv/kv.go") || !slices.Contains(files, "internal/lint/lint.go") {
		t.Fatalf("%d files were found, and kv/kv.go is not among them", len(files))
	}
	problems, err := Check(os.DirFS(root), files)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
}

func moduleRoot(t *testing.T) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// moduleFiles are those that git tracks or would, and without git all but hidden ones and results.
func moduleFiles(t *testing.T, root string) (files []string) {
	out, err := exec.Command("git", "-c", "safe.directory="+root, "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err == nil {
		for f := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
			if st, err := os.Lstat(filepath.Join(root, f)); err == nil && st.Mode().IsRegular() {
				files = append(files, f)
			}
		}
		return files
	}
	t.Logf("git does not list the files (%v): looking at the folder", err)
	err = fs.WalkDir(os.DirFS(root), ".", func(p string, d fs.DirEntry, err error) error {
		hidden := p != "." && strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci"
		if d.IsDir() && (hidden || slices.Contains([]string{"bin", "results", "tmp"}, p)) {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() && !hidden {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

const header = "// Package x is documented.\npackage x\n"

// checkImport checks a module of one file with one import.
func checkImport(t *testing.T, file, imported string) []Problem {
	t.Helper()
	src := header + "\nimport _ \"" + imported + "\"\n"
	if strings.HasSuffix(file, "_test.go") {
		src = strings.TrimPrefix(src, "// Package x is documented.\n")
	}
	problems, err := Check(fstest.MapFS{file: {Data: []byte(src)}}, []string{file})
	if err != nil {
		t.Fatal(err)
	}
	return problems
}

func TestImportsOfOurs(t *testing.T) {
	for _, c := range []struct {
		file, imported string
		ok             bool
		want           string // besides both names and the table's file
	}{
		{"store/a.go", "kv", true, ""},
		{"store/a.go", "store/disk", true, ""},
		{"store/a.go", "internal/arena", true, ""},
		{"tcp/a_test.go", "transport/transporttest", true, ""},
		{"tcp/a_test.go", "tcp", true, ""},
		{"fleet/a_test.go", "internal/testenv", true, ""},
		{"resp/a_test.go", "store", true, ""},
		{"loop/a_test.go", "internal/arena", true, ""},
		{"lab/run/a.go", "fleet", true, ""},
		{"lab/results/a.go", "lab", true, ""},
		{"server/serve/a.go", "tcp", true, ""},

		{"store/a.go", "tcp", false, "meet in kv.Handler"},
		{"store/a_test.go", "inproc", false, "meet in kv.Handler"},
		{"store/a.go", "internal/exit", false, ""},
		{"store/a.go", "internal/testenv", false, ""},
		{"store/disk/a.go", "transport/stream", false, "no requests or keys"},
		{"store/disk/a.go", "kv", false, "no requests or keys"},
		{"store/disk/a.go", "store/index", false, "no requests or keys"},
		{"store/index/a.go", "kv", false, "no requests, disks or loops"},
		{"store/index/a.go", "store", false, "no requests, disks or loops"},
		{"verify/a.go", "store/disk", false, "tests the whole program"},
		{"cmd/kvwire/a.go", "store/index", false, ""},
		{"tcp/a.go", "store", false, "meet stores in kv.Handler"},
		{"uring/a_test.go", "store", false, "meet stores in kv.Handler"},
		{"uring/a.go", "tcp", false, "share code in transport, loop and wire"},
		{"transport/stream/a.go", "store/disk", false, ""},
		{"transport/transporttest/a.go", "inproc", false, "tests any network"},
		{"transport/socket/a.go", "transport/stream", false, "Host"},
		{"transport/datagram/a.go", "wire", false, "no package of ours"},
		{"transport/memory/a.go", "transport", false, "Owner"},
		{"bench/a.go", "cmd/kvwire", false, "any kv.Handler"},
		{"lab/a.go", "lab/cell", false, "Exec"},
		{"lab/a.go", "experiments", false, "Exec"},
		{"lab/results/a.go", "lab/instrument", false, "Reader"},
		{"lab/experiment/a.go", "report", false, "reads files"},
		{"lab/stats/a.go", "report", false, "arithmetic"},
		{"lab/run/a.go", "tcp", false, "run.Program"},
		{"lab/cell/a.go", "rdma", false, "cell.Program"},
		{"fleet/a.go", "tcp", false, "no network, store or loop"},
		{"server/a.go", "server/serve", false, "transport.Transport"},
		{"factor/a.go", "report", false, "report takes its columns from it"},
		{"kv/a.go", "loop", false, "no package of ours (it is the interface"},
		{"kv/a_test.go", "loop", false, "in tests kv, internal/testenv"},
		{"rdma/device/a.go", "cgo/verbs", false, "reads sysfs"},

		// Directions that a list of bans once had forgotten.
		{"transport/a.go", "bench", false, ""},
		{"loop/a.go", "report", false, ""},
		{"loop/a.go", "tcp", false, ""},
		{"loop/a.go", "udp", false, ""},
		{"loop/a.go", "store", false, ""},
		{"loop/a.go", "factor", false, ""},
		{"fleet/a.go", "lab/cell", false, ""},
		{"bench/a.go", "factor", false, ""},
		{"bench/a.go", "store", false, ""},
		{"store/a.go", "factor", false, ""},
		{"store/a.go", "bench", false, ""},
		{"tcp/a.go", "factor", false, ""},
		{"uring/a.go", "factor", false, ""},
		{"rdma/a.go", "factor", false, ""},
		{"wire/a.go", "tcp", false, ""},
		{"wire/a.go", "rdma", false, ""},
		{"wire/a.go", "transport", false, ""},
		{"cgo/verbs/a.go", "rdma", false, ""},
		{"internal/fifo/a.go", "store", false, ""},
		{"resp/a.go", "store", false, ""},
		{"server/a.go", "report", false, ""},
		{"report/chart/a.go", "bench", false, ""},
	} {
		problems := checkImport(t, c.file, module+"/"+c.imported)
		if c.ok {
			if len(problems) != 0 {
				t.Errorf("%s imports %s: %v", c.file, c.imported, problems)
			}
			continue
		}
		start := filepath.Dir(c.file) + " may not import " + c.imported + ". It may import "
		if len(problems) != 1 || problems[0].Line == 0 || !strings.HasPrefix(problems[0].Text, start) || !strings.Contains(problems[0].Text, c.want) || !strings.Contains(problems[0].Text, tableFile) {
			t.Errorf("%s imports %s: %v; want %s…%s…", c.file, c.imported, problems, start, c.want)
		}
	}
}

func TestForeignImports(t *testing.T) {
	for _, c := range []struct{ file, imported, want string }{
		{"kv/a.go", "hash/crc32", ""},
		{"kv/a.go", "golang.org/x/sys/unix", "kv may not import golang.org/x/sys/unix: of foreign code it imports only the standard library. Move"},
		{"lab/stats/a.go", "golang.org/x/sys/unix", "lab/stats may not import"},
		{"transport/datagram/a.go", "crypto/hmac", ""},
		{"transport/datagram/a.go", "golang.org/x/sys/unix", "transport/datagram may not import"},
		{"internal/ring/a.go", "github.com/pawelgaczynski/giouring", ""},
		{"uring/a.go", "github.com/pawelgaczynski/giouring", "may be imported in internal/ring only"},
		{"rdma/device/a.go", "github.com/Mellanox/rdmamap", ""},
		{"report/a.go", "github.com/Mellanox/rdmamap", "may be imported in rdma/device only"},
		{"internal/probe/a.go", "github.com/Mellanox/rdmamap", "may be imported in rdma/device only"},
		{"rdma/device/a.go", "github.com/vishvananda/netlink", "only the standard library and github.com/Mellanox/rdmamap"},
		{"server/a.go", "github.com/prometheus/client_golang/prometheus", ""},
		{"loop/a.go", "github.com/prometheus/client_golang/prometheus", "may be imported in server, cmd/kvwire only"},
		{"cgo/verbs/a.go", "C", ""},
		{"rdma/a.go", "C", "may be imported in cgo/verbs only"},
		{"internal/sys/a.go", "unsafe", ""},
		{"wire/a.go", "unsafe", "behind functions that are safe"},
		{"wire/a_test.go", "unsafe", "behind functions that are safe"},
	} {
		problems := checkImport(t, c.file, c.imported)
		switch {
		case c.want == "" && len(problems) != 0:
			t.Errorf("%s imports %s: %v", c.file, c.imported, problems)
		case c.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Text, c.want) || problems[0].Line == 0):
			t.Errorf("%s imports %s: %v; want …%s…", c.file, c.imported, problems, c.want)
		}
	}
}

func TestANewFolderNeedsARow(t *testing.T) {
	problems := checkImport(t, "kvother/a.go", module+"/tcp")
	if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), "kvother: kvother has no row in "+tableFile) {
		t.Error(problems)
	}
}

// The commands stay short. Tests, and files of other folders, do not count.
func TestTheProgramIsShort(t *testing.T) {
	lines := func(n int) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(header + "\n" + strings.Repeat("var _ = 0\n", n-1-strings.Count(header, "\n")))}
	}
	files := fstest.MapFS{program + "/a.go": lines(1000), program + "/b.go": lines(500), program + "/b_test.go": lines(500), "kv/kv.go": lines(5000)}
	for _, c := range []struct {
		more int
		want string
	}{{0, ""}, {1, program + ": 1501 lines outside of tests, and at most 1500 are allowed"}} {
		files[program+"/b.go"] = lines(500 + c.more)
		problems, err := Check(files, slices.Collect(maps.Keys(files)))
		if err != nil {
			t.Fatal(err)
		}
		if c.want == "" && len(problems) > 0 || c.want != "" && (len(problems) != 1 || !strings.HasPrefix(problems[0].String(), c.want)) {
			t.Errorf("%d lines more: %v; want %q", c.more, problems, c.want)
		}
	}
}

// TestWhatNothingUsesIsFound checks a module with one package that imports one other.
func TestWhatNothingUsesIsFound(t *testing.T) {
	files := fstest.MapFS{
		"go.mod":         {},
		"wire/a.go":      {Data: []byte(header)},
		"wire/a_test.go": {Data: []byte("package x\n\nimport _ \"" + module + "/kv\"\n")}, // no use by a file
		"resp/a.go":      {Data: []byte(header + "\nimport _ \"" + module + "/kv\"\n")},
	}
	problems, err := Check(files, slices.Collect(maps.Keys(files)))
	if err != nil {
		t.Fatal(err)
	}
	has := func(text string) bool {
		return slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.Text, text) })
	}
	for _, want := range []string{
		"the table has kv, which has no Go file",
		"the table allows wire to import kv, and no file of it does",
		"the table allows tests of resp to import store, and no test needs that",
		"unsafe may be imported in internal/sys, and no file there does",
	} {
		if !has(want) {
			t.Errorf("no problem has %q: %v", want, problems)
		}
	}
	if has("the table allows resp to import kv,") {
		t.Error("an import that a file has counts as unused")
	}
}

func TestTheTableIsChecked(t *testing.T) {
	for _, c := range []struct {
		name, want string
		table      []row
	}{
		{"fine", "", []row{{name: "kv"}, {name: "loop", imports: "kv"}}},
		{"a circle", "kv may import loop, which is not in a row before it", []row{{name: "kv", imports: "loop"}, {name: "loop", imports: "kv"}}},
		{"no row", "kv may import internal/x, which is not", []row{{name: "kv", internal: "x"}}},
		{"two rows", "kv has two rows", []row{{name: "kv"}, {name: "kv"}}},
		{"indirect", "store may not reach transport/access, but may do so by store → loop → transport/access: a store has no network",
			[]row{{name: "transport/access"}, {name: "loop", imports: "transport/access"}, {name: "store", imports: "loop"}}},
	} {
		broken := brokenTable(c.table)
		if (c.want == "") != (broken == nil) || c.want != "" && !slices.ContainsFunc(broken, func(s string) bool { return strings.HasPrefix(s, c.want) }) {
			t.Errorf("%s: %q; want %q", c.name, broken, c.want)
		}
	}
}

// TestArchitectureDrawsTheTable compares the drawing in docs/architecture.md with the table. With KVWIRE_UPDATE=1 it writes it.
func TestArchitectureDrawsTheTable(t *testing.T) {
	file := filepath.Join(moduleRoot(t), "docs", "architecture.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- imports: made from " + tableFile + " -->\n```\n", "```\n<!-- end of imports -->\n"
	before, rest, found := strings.Cut(string(b), begin)
	was, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("%s does not have the lines %q and %q", file, begin, end)
	}
	is := drawing(imports)
	if was == is {
		return
	}
	if os.Getenv("KVWIRE_UPDATE") != "1" {
		t.Fatalf("the drawing in docs/architecture.md is not that of %s (KVWIRE_UPDATE=1 go test ./internal/lint writes it). It should be:\n%s", tableFile, is)
	}
	if err := os.WriteFile(file, []byte(before+begin+is+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTextRules(t *testing.T) {
	for _, c := range []struct{ name, file, src, want string }{
		{"fine", "kv/a.go", header, ""},
		{"no package comment", "kv/a.go", "package a\n", "kv: no package comment"},
		{"a test needs no package comment", "kv/a_test.go", "package a\n", ""},
		{"build tag is no package comment", "kv/a.go", "//go:build x\n\npackage a\n", "kv: no package comment"},
		{"not formatted", "kv/a.go", header + "var  x int\n", "kv/a.go: not formatted: gofmt -w kv/a.go"},
		{"does not parse", "kv/a.go", header + "var\n", "kv/a.go: does not parse"},
		{"sleep", "kv/a_test.go", "package a\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", "kv/a_test.go:5: time.Sleep in a test"},
		{"sleep by another name", "kv/a_test.go", "package a\n\nimport clock \"time\"\n\nvar f = clock.Sleep\n", "kv/a_test.go:5: time.Sleep in a test"},
		{"sleep of something else", "kv/a_test.go", "package a\n\nimport \"time\"\n\nvar d time.Duration\n\nfunc f() { loop.Sleep(d) }\n", ""},
		{"sleep elsewhere", "kv/a.go", header + "\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", ""},
		{"machine path", "docs/a.md", "one\ncd /wo" + "rk/main\n", "docs/a.md:2: a path of one machine"},
		{"path in the project", "docs/a.md", "a/wo" + "rk/b and net/wo" + "rk/\n", ""},
		{"registry", "Makefile", "GOPROXY=https://proxy.gol" + "ang.org\n", "Makefile:1: a package registry's host"},
		{"test data is not checked as Go", "kv/testdata/x.go", "package", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			problems, err := Check(fstest.MapFS{c.file: {Data: []byte(c.src)}}, []string{c.file})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.want == "" && len(problems) != 0:
				t.Errorf("%v", problems)
			case c.want != "" && !slices.ContainsFunc(problems, func(p Problem) bool { return strings.HasPrefix(p.String(), c.want) }):
				t.Errorf("%v; want %s…", problems, c.want)
			}
		})
	}
}

func TestCheckReportsAFileThatIsNotThere(t *testing.T) {
	if _, err := Check(fstest.MapFS{}, []string{"a.go"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
