package lint

import (
	"errors"
	"io/fs"
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

func TestImportRules(t *testing.T) {
	for _, c := range []struct{ file, imported, want string }{
		{"store/a.go", module + "/kv", ""},
		{"store/a.go", module + "/loop", ""},
		{"store/a.go", module + "/tcp", "store knows no transport"},
		{"store/disk/a.go", module + "/transport/stream", "store knows no transport"},
		{"store/a.go", module + "/store/index", ""},
		{"store/a.go", module + "/store/disk", ""},
		{"store/disk/a.go", module + "/loop", ""},
		{"store/disk/a.go", module + "/kv", "store/disk imports loop and internal packages only"},
		{"store/disk/a.go", module + "/store/index", "store/disk imports loop and internal packages only"},
		{"verify/a.go", module + "/store/disk", "only store imports its rooms"},
		{"store/index/a.go", module + "/internal/arena", ""},
		{"store/index/a.go", module + "/kv", "store/index imports internal packages only"},
		{"store/index/a.go", module + "/store", "store/index imports internal packages only"},
		{"bench/a.go", module + "/store/index", "only store imports its rooms"},
		{"cmd/kvwire/a.go", module + "/store/index", "only store imports its rooms"},
		{"store/a_test.go", module + "/inproc", "store knows no transport"},
		{"tcp/a.go", module + "/store", "a transport knows no store"},
		{"transport/stream/a.go", module + "/store/disk", "a transport knows no store"},
		{"transport/socket/a.go", module + "/transport", ""},
		{"transport/socket/a.go", module + "/transport/stream", "transport/socket does not import transport/stream"},
		{"transport/datagram/a.go", module + "/wire", "transport/datagram imports the standard library only"},
		{"transport/datagram/a.go", "crypto/hmac", ""},
		{"transport/memory/a.go", module + "/internal/arena", ""},
		{"transport/memory/a.go", module + "/transport", "transport/memory imports internal/arena only"},
		{"uring/a_test.go", module + "/store", "a transport knows no store"},
		{"uring/a.go", module + "/tcp", "transports do not know each other"},
		{"transport/transporttest/a.go", module + "/inproc", "transports do not know each other"},
		{"rdma/a.go", module + "/cgo/verbs", ""},
		{"tcp/tcptest/a.go", module + "/tcp", ""},
		{"bench/a.go", module + "/cmd/kvwire", "nothing imports cmd"},
		{"cmd/kvwire/a.go", module + "/tcp", ""},
		{"cmd/kvwire/a.go", module + "/store", ""},
		{"cmd/kvwire/a.go", module + "/lab/experiment", ""},
		{"bench/a.go", module + "/lab/experiment", "only cmd and fleet import lab"},
		{"report/a.go", module + "/lab/experiment", "only cmd and fleet import lab"},
		{"lab/a.go", module + "/lab/experiment", ""},
		{"lab/experiment/a.go", module + "/internal/textfile", ""},
		{"lab/experiment/a.go", module + "/lab", "lab/experiment imports internal packages and experiments only"},
		{"lab/experiment/a.go", module + "/report", "lab/experiment imports internal packages and experiments only"},
		{"lab/experiment/a.go", module + "/experiments", ""},
		{"lab/a.go", module + "/experiments", "only lab/experiment imports experiments"},
		{"lab/a.go", module + "/report", ""},
		{"lab/a.go", module + "/bench", ""},
		{"lab/a.go", module + "/lab/results", "within lab only lab/run imports lab/results, lab/instrument or lab/cell"},
		{"lab/results/a.go", module + "/lab/instrument", "within lab only lab/run imports lab/results, lab/instrument or lab/cell"},
		{"lab/instrument/a.go", module + "/lab", ""},
		{"lab/instrument/a.go", module + "/store", "lab imports report, bench and internal packages only"},
		{"lab/a.go", module + "/store", "lab imports report, bench and internal packages only"},
		{"lab/a.go", module + "/tcp", "lab imports report, bench and internal packages only"},
		{"lab/a.go", module + "/cmd/kvwire", "nothing imports cmd"},
		{"lab/results/a.go", module + "/lab", ""},
		{"lab/results/a.go", module + "/lab/stats", ""},
		{"lab/a.go", module + "/lab/stats", ""},
		{"report/a.go", module + "/lab/stats", ""},
		{"bench/units/a.go", module + "/lab/stats", ""},
		{"bench/a.go", module + "/lab/stats", "only cmd, lab, report and bench/units import lab/stats"},
		{"lab/stats/a.go", module + "/report", "lab/stats imports the standard library only"},
		{"lab/results/a.go", module + "/bench/units", ""},
		{"lab/results/a.go", module + "/bench", "lab/results imports lab, report, bench/units"},
		{"lab/results/a.go", module + "/store", "lab/results imports lab, report, bench/units"},
		{"lab/results/a.go", module + "/cmd/kvwire", "nothing imports cmd"},
		{"cmd/kvwire/a.go", module + "/lab/results", ""},
		{"report/a.go", module + "/lab", "only cmd and fleet import lab"},
		{"fleet/a.go", module + "/lab", ""},
		{"fleet/a.go", module + "/server", ""},
		{"fleet/a.go", module + "/tcp", "fleet knows processes and lines"},
		{"fleet/a.go", module + "/store", "fleet knows processes and lines"},
		{"lab/results/a.go", module + "/fleet", "lab/results imports lab, report, bench/units"},
		{"lab/cell/a.go", module + "/fleet", ""},
		{"lab/cell/a.go", module + "/server", ""},
		{"lab/cell/a.go", module + "/rdma/device", ""},
		{"lab/run/a.go", module + "/lab/results", ""},
		{"lab/run/a.go", module + "/fleet", ""},
		{"lab/run/a.go", module + "/tcp", "lab/run joins lab, lab/cell, lab/results and fleet, and knows no network or loop"},
		{"lab/run/a.go", module + "/server/serve", "only cmd imports server/serve"},
		{"lab/instrument/a.go", module + "/lab/run", "only cmd imports lab/run"},
		{"server/serve/a.go", module + "/tcp", ""},
		{"server/a.go", module + "/server/serve", "only cmd imports server/serve"},
		{"lab/cell/a.go", module + "/tcp", "lab/cell knows no network"},
		{"lab/cell/a.go", module + "/rdma", "lab/cell knows no network"},
		{"lab/a.go", module + "/lab/cell", "within lab only lab/run imports"},
		{"server/a.go", module + "/fleet", "only cmd and lab/cell import fleet"},
		{"factor/a.go", module + "/store", ""},
		{"factor/a.go", module + "/rdma", ""},
		{"factor/a.go", module + "/report", "report takes its columns from factor"},
		{"report/a.go", module + "/factor", ""},
		{"kv/a.go", "hash/crc32", ""},
		{"kv/a.go", module + "/loop", "kv imports the standard library only"},
		{"kv/a.go", "golang.org/x/sys/unix", "kv imports the standard library only"},
		{"kvother/a.go", "golang.org/x/sys/unix", ""},
		{"internal/ring/a.go", "github.com/pawelgaczynski/giouring", ""},
		{"uring/a.go", "github.com/pawelgaczynski/giouring", "may be imported in internal/ring only"},
		{"rdma/device/a.go", "github.com/Mellanox/rdmamap", ""},
		{"report/a.go", "github.com/Mellanox/rdmamap", "may be imported in rdma/device only"},
		{"internal/probe/a.go", "github.com/Mellanox/rdmamap", "may be imported in rdma/device only"},
		{"rdma/device/a.go", module + "/internal/probe", ""},
		{"rdma/device/a.go", module + "/rdma", "rdma/device imports internal packages and rdmamap only"},
		{"rdma/device/a.go", module + "/cgo/verbs", "rdma/device imports internal packages and rdmamap only"},
		{"rdma/device/a.go", "github.com/vishvananda/netlink", "rdma/device imports internal packages and rdmamap only"},
		{"rdma/a.go", module + "/rdma/device", ""},
		{"server/serve/a.go", module + "/rdma/device", ""},
		{"cmd/kvwire/a.go", module + "/rdma/device", "only rdma, server/serve and lab/cell import rdma/device"},
		{"cgo/verbs/a.go", module + "/rdma/device", "only rdma, server/serve and lab/cell import rdma/device"},
		{"bench/a.go", module + "/rdma/device", "only rdma, server/serve and lab/cell import rdma/device"},
		{"tcp/a.go", module + "/rdma/device", "only rdma, server/serve and lab/cell import rdma/device"},
		{"server/a.go", "github.com/prometheus/client_golang/prometheus", ""},
		{"loop/a.go", "github.com/prometheus/client_golang/prometheus", "may be imported in server, cmd/kvwire only"},
		{"cgo/verbs/a.go", "C", ""},
		{"rdma/a.go", "C", "may be imported in cgo/verbs only"},
		{"internal/sys/a.go", "unsafe", ""},
		{"wire/a.go", "unsafe", "give it a safe face"},
		{"wire/a_test.go", "unsafe", "give it a safe face"},
	} {
		src := header + "\nimport _ \"" + c.imported + "\"\n"
		if strings.HasSuffix(c.file, "_test.go") {
			src = strings.TrimPrefix(src, "// Package x is documented.\n")
		}
		problems, err := Check(fstest.MapFS{c.file: {Data: []byte(src)}}, []string{c.file})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.want == "" && len(problems) != 0:
			t.Errorf("%s imports %s: %v", c.file, c.imported, problems)
		case c.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Text, c.want) || problems[0].Line == 0):
			t.Errorf("%s imports %s: %v; want …%s…", c.file, c.imported, problems, c.want)
		}
	}
}

func TestTextRules(t *testing.T) {
	for _, c := range []struct{ name, file, src, want string }{
		{"fine", "a/a.go", header, ""},
		{"no package comment", "a/a.go", "package a\n", "a: no package comment"},
		{"a test needs no package comment", "a/a_test.go", "package a\n", ""},
		{"build tag is no package comment", "a/a.go", "//go:build x\n\npackage a\n", "a: no package comment"},
		{"not formatted", "a/a.go", header + "var  x int\n", "a/a.go: not formatted: gofmt -w a/a.go"},
		{"does not parse", "a/a.go", header + "var\n", "a/a.go: does not parse"},
		{"sleep", "a/a_test.go", "package a\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", "a/a_test.go:5: time.Sleep in a test"},
		{"sleep by another name", "a/a_test.go", "package a\n\nimport clock \"time\"\n\nvar f = clock.Sleep\n", "a/a_test.go:5: time.Sleep in a test"},
		{"sleep of something else", "a/a_test.go", "package a\n\nimport \"time\"\n\nvar d time.Duration\n\nfunc f() { loop.Sleep(d) }\n", ""},
		{"sleep elsewhere", "a/a.go", header + "\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", ""},
		{"machine path", "docs/a.md", "one\ncd /wo" + "rk/main\n", "docs/a.md:2: a path of one machine"},
		{"path in the project", "docs/a.md", "a/wo" + "rk/b and net/wo" + "rk/\n", ""},
		{"registry", "Makefile", "GOPROXY=https://proxy.gol" + "ang.org\n", "Makefile:1: a package registry's host"},
		{"test data is not checked as Go", "a/testdata/x.go", "package", ""},
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
