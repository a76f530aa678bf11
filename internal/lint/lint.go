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

// Check looks at the named files of a module, of whatever language and build tags. If go.mod is one of them, they are the
// whole module: then an import that the table allows, and no file has, is a problem, too.
func Check(root fs.FS, files []string) ([]Problem, error) {
	c := checker{fset: token.NewFileSet(), documented: map[string]bool{}, rows: map[string]*row{}, uses: map[use]bool{}}
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
	for _, text := range brokenTable(imports) {
		c.add(tableFile, 0, "%s", text)
	}
	if c.programLines > programLinesMax {
		c.add(program, 0, "%d lines outside of tests, and at most %d are allowed: a command binds flags, calls a package and prints; move the rest to that package", c.programLines, programLinesMax)
	}
	if slices.Contains(files, "go.mod") {
		c.unused()
	}
	slices.SortFunc(c.problems, func(a, b Problem) int { return strings.Compare(a.String(), b.String()) })
	return c.problems, nil
}

type checker struct {
	fset       *token.FileSet
	documented map[string]bool // folders with Go files other than tests, and whether one has a package comment
	rows       map[string]*row // the rows of the folders with Go files; nil: the table has none
	uses       map[use]bool
	problems   []Problem

	programLines int // lines of program outside of tests
}

// program is the folder of the commands, and programLinesMax the most lines that it may have outside of tests.
const (
	program         = "cmd/kvwire"
	programLinesMax = 1500
)

// use is an import of a package, by a folder's tests or by its other files.
type use struct {
	dir, imported string
	test          bool
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
	dir, test := path.Dir(name), strings.HasSuffix(name, "_test.go")
	r, known := c.rows[dir]
	if !known {
		if r = rowOf(imports, dir); r == nil {
			c.add(dir, 0, "%s has no row in %s: add one, with the packages of ours that it may import, below these", dir, tableFile)
		}
		c.rows[dir] = r
	}
	if !test && dir == program {
		c.programLines += bytes.Count(src, []byte("\n"))
	}
	if !test {
		c.documented[dir] = c.documented[dir] || f.Doc.Text() != ""
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		c.uses[use{dir, strings.TrimPrefix(imported, module+"/"), test}] = true
		if r == nil {
			continue
		}
		if text := forbidden(r, imported, test); text != "" {
			c.add(name, c.fset.Position(spec.Pos()).Line, "%s", text)
		}
	}
	if test {
		c.sleeps(name, f)
	}
}

// unused finds imports that the table or the list allows, and no file has.
func (c *checker) unused() {
	for _, r := range imports {
		if c.rows[r.name] == nil {
			c.add(tableFile, 0, "the table has %s, which has no Go file: remove the row", r.name)
			continue
		}
		files, tests := r.imported()
		for _, name := range files {
			if !c.uses[use{r.name, name, false}] {
				c.add(tableFile, 0, "the table allows %s to import %s, and no file of it does: remove that", r.name, name)
			}
		}
		for _, name := range tests {
			if slices.Contains(files, name) || !c.uses[use{r.name, name, true}] {
				c.add(tableFile, 0, "the table allows tests of %s to import %s, and no test needs that: remove it", r.name, name)
			}
		}
	}
	for _, o := range only {
		for _, folder := range o.folders {
			used := false
			for u := range c.uses {
				used = used || within(u.dir, folder) && within(u.imported, o.imported)
			}
			if !used {
				c.add("internal/lint/lint.go", 0, "%s may be imported in %s, and no file there does: remove the folder from the list", o.imported, folder)
			}
		}
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

// only are imports that stand in few folders, with the reason.
var only = []struct {
	imported string
	folders  []string
	text     string
}{
	{"github.com/pawelgaczynski/giouring", []string{"internal/ring"}, "its helpers have traps, so use internal/ring"},
	{"github.com/Mellanox/rdmamap", []string{"rdma/device"}, "it has traps, so use device.Map"},
	{"github.com/prometheus", []string{"server", "cmd/kvwire"}, "a package keeps plain counters, and server exports them as metrics"},
	{"C", []string{"cgo/verbs"}, "one package calls C, and one tag leaves it out, so put the binding there"},
	{"unsafe", []string{"cgo/verbs", "internal/ring", "internal/arena", "internal/sys", "internal/testenv"}, "put what needs it into one of these, behind functions that are safe"},
}

// standard are packages that import no foreign code, except what is named.
var standard = []struct{ folder, except string }{
	{"kv", ""}, {"lab/stats", ""}, {"transport/datagram", ""}, {"rdma/device", "github.com/Mellanox/rdmamap"},
}

// forbidden returns the reason why a file, or a test, of a package may not import a package; "": it may.
func forbidden(r *row, imported string, test bool) string {
	for _, o := range only {
		if within(imported, o.imported) && !within(r.name, o.folders...) {
			return fmt.Sprintf("%s may be imported in %s only: %s", imported, strings.Join(o.folders, ", "), o.text)
		}
	}
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		return forbiddenOurs(r, ours, test)
	}
	foreign := strings.Contains(strings.Split(imported, "/")[0], ".")
	for _, s := range standard {
		if r.name == s.folder && foreign && (s.except == "" || !within(imported, s.except)) {
			return fmt.Sprintf("%s may not import %s: of foreign code it imports only the standard library%s. Move what needs more to a package above it",
				r.name, imported, strings.TrimSuffix(" and "+s.except, " and "))
		}
	}
	return ""
}
