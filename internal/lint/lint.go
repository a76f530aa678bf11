// Package lint has the rules about the structure of the source, and checks them: which packages may import which,
// where unsafe and C are allowed, and which text no file may contain. Its test runs them on the whole module. It
// imports nothing of ours.
package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Problem is a broken rule. Line is 0 where it is about the whole file.
type Problem struct {
	File string // relative to the module, with slashes
	Line int
	Text string // what is wrong, and what to do instead
}

// String is file:line: text, as compilers print it.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// module is the path before our own packages.
const module = "github.com/kvwire/kvwire"

// Check looks at the named files of a module, of whatever language and build tags.
func Check(root fs.FS, files []string) ([]Problem, error) {
	c := checker{fset: token.NewFileSet(), documented: map[string]bool{}}
	for _, name := range files {
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return nil, fmt.Errorf("lint: %w", err)
		}
		c.text(name, src)
		if strings.HasSuffix(name, ".go") && !strings.Contains("/"+name, "/testdata/") {
			c.goFile(name, src)
		}
	}
	for dir, ok := range c.documented {
		if !ok {
			c.add(dir, 0, "no package comment: say what the package owns and what it may not import")
		}
	}
	slices.SortFunc(c.problems, func(a, b Problem) int { return strings.Compare(a.String(), b.String()) })
	return c.problems, nil
}

type checker struct {
	fset       *token.FileSet
	documented map[string]bool // folders with Go files other than tests, and whether one has a package comment
	problems   []Problem
}

func (c *checker) add(file string, line int, format string, args ...any) {
	c.problems = append(c.problems, Problem{file, line, fmt.Sprintf(format, args...)})
}

// bans are texts that belong to one machine. The patterns are cut in two, so that this file is not
// one of those that hold them.
var bans = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`(^|[^A-Za-z0-9_.-])/wo` + `rk/`), "a path of one machine: make it relative to the checkout, or take it from a flag"},
	{regexp.MustCompile(`(proxy\.gol` + `ang\.org|deb\.deb` + `ian\.org|archive\.ub` + `untu\.com|registry\.npm` + `js\.org)`),
		"a package registry's host: use the ordinary client with the settings of the machine"},
}

func (c *checker) text(name string, src []byte) {
	for _, b := range bans {
		if at := b.pattern.FindIndex(src); at != nil {
			c.add(name, 1+bytes.Count(src[:at[1]], []byte("\n")), "%s", b.text)
		}
	}
}

func (c *checker) goFile(name string, src []byte) {
	f, err := parser.ParseFile(c.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		c.add(name, 0, "does not parse: %v", err)
		return
	}
	if formatted, err := format.Source(src); err != nil || !bytes.Equal(src, formatted) {
		c.add(name, 0, "not formatted: gofmt -w %s", name)
	}
	dir := path.Dir(name)
	if !strings.HasSuffix(name, "_test.go") {
		c.documented[dir] = c.documented[dir] || f.Doc.Text() != ""
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if text := forbidden(dir, imported); text != "" {
			c.add(name, c.fset.Position(spec.Pos()).Line, "%s", text)
		}
	}
	if strings.HasSuffix(name, "_test.go") {
		c.sleeps(name, f)
	}
}

// sleeps finds time.Sleep, also where time has another name.
func (c *checker) sleeps(name string, f *ast.File) {
	local := ""
	for _, spec := range f.Imports {
		if spec.Path.Value == `"time"` {
			local = "time"
			if spec.Name != nil {
				local = spec.Name.Name
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok || s.Sel.Name != "Sleep" {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && x.Name == local {
			c.add(name, c.fset.Position(s.Pos()).Line, "time.Sleep in a test: wait for the event itself, with a deadline (a channel, testing/synctest, a counter that is polled through the loop)")
		}
		return true
	})
}

// within reports whether a folder or import path is one of the trees or inside of it.
func within(name string, trees ...string) bool {
	for _, t := range trees {
		if name == t || strings.HasPrefix(name, t+"/") {
			return true
		}
	}
	return false
}

var networks = []string{"inproc", "tcp", "uring", "rdma", "udp"}

// only are imports that stand in few folders, with the reason.
var only = []struct {
	imported string
	folders  []string
	text     string
}{
	{"github.com/pawelgaczynski/giouring", []string{"internal/ring"}, "its helpers have traps, so use internal/ring"},
	{"github.com/Mellanox/rdmamap", []string{"rdma/device"}, "it has traps, so use device.Map"},
	{"github.com/prometheus", []string{"server", "cmd/kvwire"}, "counters are plain, and told by who owns them"},
	{"C", []string{"cgo/verbs"}, "cgo is behind one seam and one tag, so put the binding there"},
	{"unsafe", []string{"cgo/verbs", "internal/ring", "internal/arena", "internal/sys"}, "put what needs it into one of these and give it a safe face"},
}

const deviceOnly = "rdma/device imports internal packages and rdmamap only: it looks at sysfs, in every build"

// forbidden returns the reason why a file in the folder dir may not import a package; "": it may.
func forbidden(dir, imported string) string {
	for _, o := range only {
		if within(imported, o.imported) && !within(dir, o.folders...) {
			return fmt.Sprintf("%s may be imported in %s only: %s", imported, strings.Join(o.folders, ", "), o.text)
		}
	}
	ours, isOurs := strings.CutPrefix(imported, module+"/")
	if !isOurs {
		foreign := strings.Contains(strings.Split(imported, "/")[0], ".")
		switch {
		case within(dir, "kv") && foreign:
			return "kv imports the standard library only: it is the seam that everything else stands on"
		case within(dir, "rdma/device") && foreign && !within(imported, "github.com/Mellanox/rdmamap"):
			return deviceOnly
		}
		return ""
	}
	transports := append([]string{"transport"}, networks...)
	switch {
	case within(ours, "experiments") && within(dir, "lab/experiment"):
		return ""
	case within(ours, "experiments"):
		return "only lab/experiment imports experiments: call its Find and ReadFile, which look for files, too"
	case within(ours, "cmd"):
		return "nothing imports cmd: move what is shared into a package of its own"
	case within(ours, "verify"):
		return "nothing imports verify: it is for tests of the whole, and stands above everything but cmd"
	case within(dir, "factor") && within(ours, "report", "lab", "server", "inproc"):
		return "factor imports what its values are options of, and nothing that stands above these: report takes its columns from factor"
	case within(dir, "kv") && !within(ours, "kv"):
		return "kv imports the standard library only: it is the seam that everything else stands on"
	case within(dir, "lab/stats") && ours != "lab/stats": // its examples import it
		return "lab/stats imports the standard library only: it is arithmetic, which report and bench/units import, too"
	case within(ours, "lab/stats") && !within(dir, "cmd", "lab", "report", "bench/units"):
		return "only cmd, lab, report and bench/units import lab/stats"
	case within(dir, "lab/experiment") && !within(ours, "lab/experiment", "internal"):
		return "lab/experiment imports internal packages and experiments only: it knows no flag, and not how cells are measured"
	case within(ours, "lab/run", "server/serve") && !within(dir, "cmd", ours):
		return "only cmd imports " + ours + ": it stands below the commands, and above all other rooms"
	case within(dir, "lab/run"):
		if within(ours, append([]string{"transport", "loop", "verify", "cgo"}, networks...)...) {
			return "lab/run joins lab, lab/cell, lab/results and fleet, and knows no network or loop: take a Program"
		}
		return ""
	case within(dir, "lab") && within(ours, "lab/results", "lab/instrument", "lab/cell") && !within(dir, ours):
		return "within lab only lab/run imports lab/results, lab/instrument or lab/cell: they stand above what runs an experiment"
	case within(dir, "lab/cell"):
		if within(ours, append([]string{"transport/stream", "transport/memory", "verify", "cgo"}, networks...)...) && !within(ours, "rdma/device") {
			return "lab/cell knows no network: take a Program"
		}
		return ""
	case within(dir, "lab/results") && !within(ours, "lab", "report", "bench/units", "internal/exit"):
		return "lab/results imports lab, report, bench/units and internal/exit only: take what a cell's flags mean as functions (Reader)"
	case within(dir, "lab") && !within(ours, "lab", "report", "bench", "internal"):
		return "lab imports report, bench and internal packages only: take what starts servers and clients as functions"
	case within(ours, "lab") && !within(ours, "lab/stats") && !within(dir, "cmd", "lab", "fleet"):
		return "only cmd and fleet import lab"
	case within(ours, "server") && !within(dir, "cmd", "server", "verify", "fleet", "lab/cell"):
		return "only cmd, fleet, lab/cell and verify import server: take what starts servers as a function"
	case within(ours, "fleet") && !within(dir, "cmd", "fleet"):
		return "only cmd and lab/cell import fleet: take what starts processes as a function"
	case within(dir, "fleet") && !within(ours, "factor", "lab", "report", "server", "transport/access", "bench", "internal", "fleet"):
		return "fleet knows processes and lines, and no network, store or loop"
	case within(dir, "server") && within(ours, networks...) && !within(dir, "server/serve"):
		return "server knows no network: take a transport.Transport (server/serve knows them all)"
	case within(dir, "rdma/device") && !within(ours, "internal", "rdma/device"):
		return deviceOnly
	case within(ours, "rdma/device") && !within(dir, "rdma", "server/serve", "lab/cell"):
		return "only rdma, server/serve and lab/cell import rdma/device: what others need is in internal/probe"
	case within(dir, "transport/socket") && within(ours, "transport/stream", "transport/memory", "transport/transporttest"):
		return "transport/socket does not import transport/stream: take what is to happen with a connection as an interface (Host)"
	case within(dir, "transport/memory") && !within(ours, "internal/arena"):
		return "transport/memory imports internal/arena only: it knows no connection (Owner), protocol (Order) or loop (Loop)"
	case within(dir, "transport/datagram"):
		return "transport/datagram imports the standard library only: packets go in and out, and a request is bytes"
	case within(dir, "store") && within(ours, transports...):
		return "store knows no transport: both meet in kv.Handler"
	case within(dir, transports...) && within(ours, "store"):
		return "a transport knows no store: both meet in kv.Handler; in tests use a handler of your own"
	case within(ours, "store/disk", "store/index") && !within(dir, "store"):
		return "only store imports its rooms: take what others need from store"
	case within(dir, "store/index") && !within(ours, "internal", "store/index"):
		return "store/index imports internal packages only: it knows keys and records, and nothing of requests, disks or loops"
	case within(dir, "store/disk") && !within(ours, "internal", "loop", "store/disk"):
		return "store/disk imports loop and internal packages only: it knows files and bytes, and nothing of requests or keys"
	}
	for _, n := range networks {
		if within(ours, n) && within(dir, transports...) && !within(dir, n) {
			return "transports do not know each other: what they share belongs into transport, loop or wire"
		}
	}
	return ""
}
