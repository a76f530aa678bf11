package lint

import (
	"fmt"
	"slices"
	"strings"
)

// row is one of our packages, and the packages of ours that it may import. A name is a folder of the module.
type row struct {
	name     string
	imports  string // what its files may import, outside of internal/
	internal string // what they may import of internal/, without that prefix
	tests    string // what its tests may import besides; every test may also import its own package and internal/testenv
	rule     string // why it imports no more, for the message of a forbidden import; may be empty
}

// imports has all packages, from the bottom up: a row names rows above it only, so no imports form a circle. It allows
// direct imports, and so it decides the indirect ones. apart has the indirect ones that it may never allow. The drawing in
// docs/architecture.md is made from it.
var imports = []row{
	{name: "internal/arena"},
	{name: "internal/cgroup"},
	{name: "internal/exit"},
	{name: "internal/fifo"},
	{name: "internal/lint", rule: "it also checks trees that do not compile"},
	{name: "internal/names"},
	{name: "internal/plural"},
	{name: "internal/quote"},
	{name: "internal/sys"},
	{name: "internal/terminal"},
	{name: "internal/textfile"},
	{name: "internal/export", internal: "arena"},
	{name: "internal/interrupt", internal: "exit terminal"},
	{name: "internal/logging", internal: "exit quote"},
	{name: "internal/ring", internal: "arena"},
	{name: "internal/probe", internal: "arena cgroup ring sys"},
	{name: "internal/testenv", internal: "ring sys"},

	{name: "examples/traces"},
	{name: "experiments", rule: "it only embeds files"},
	{name: "test/goycsb", rule: "it is a module of its own"},
	{name: "setup"},

	{name: "kv", rule: "it is the interface between networks and stores"},
	{name: "lab/stats", rule: "it is arithmetic, which report and bench/units import, too"},
	{name: "lab/experiment", imports: "experiments", internal: "names plural textfile",
		rule: "it reads files, and has no code for flags and measurements"},

	{name: "wire", imports: "kv"},
	{name: "resp", imports: "kv", tests: "loop store tcp transport transport/access"},
	{name: "loop", imports: "kv", internal: "names ring sys", tests: "internal/arena"},

	{name: "store/index", internal: "arena sys", rule: "it has keys and records, and no requests, disks or loops"},
	{name: "store/disk", imports: "loop", internal: "arena fifo probe ring sys", rule: "it has files and bytes, and no requests or keys"},
	{name: "store", imports: "kv loop store/disk store/index", internal: "arena export fifo names plural sys textfile", tests: "internal/ring",
		rule: "stores and networks meet in kv.Handler"},

	{name: "transport/access", imports: "wire", internal: "textfile"},
	{name: "transport/datagram", rule: "it gets and returns packets, and requests as bytes"},
	{name: "transport/memory", internal: "arena", rule: "connections, protocols and loops are interfaces here (Owner, Order, Loop)"},
	{name: "transport", imports: "kv loop transport/access wire", internal: "quote"},
	{name: "transport/socket", imports: "loop resp transport wire", internal: "quote", rule: "a connection is an interface here (Host)"},
	{name: "transport/stream", imports: "kv loop resp transport transport/access transport/memory transport/socket wire", internal: "arena fifo quote sys"},
	{name: "transport/transporttest", imports: "kv loop transport transport/access transport/socket wire", internal: "arena sys testenv",
		rule: "it tests any network by the interfaces of transport"},

	{name: "inproc", imports: "kv loop transport transport/stream wire", internal: "ring sys", tests: "transport/transporttest", rule: alone},
	{name: "tcp", imports: "loop transport transport/socket transport/stream", internal: "names sys",
		tests: "kv transport/access transport/transporttest wire", rule: alone},
	{name: "uring", imports: "loop transport transport/socket transport/stream", internal: "fifo names ring sys",
		tests: "internal/arena kv transport/transporttest wire", rule: alone},
	{name: "udp", imports: "kv loop transport transport/access transport/datagram transport/memory wire", internal: "arena fifo names ring sys",
		tests: "transport/transporttest", rule: alone},
	{name: "cgo/verbs/model", rule: "it is C, in the place of libibverbs"},
	{name: "cgo/verbs", imports: "cgo/verbs/model", internal: "arena probe", rule: "it calls libibverbs, and rdma decides what for"},
	{name: "rdma/device", internal: "probe", rule: "it reads sysfs, in every build"},
	{name: "rdma/valkey", imports: "transport", internal: "fifo sys", rule: "it has a protocol, and no device"},
	{name: "rdma", imports: "cgo/verbs cgo/verbs/model kv loop rdma/device rdma/valkey transport transport/socket transport/stream wire",
		internal: "arena export fifo names sys", tests: "internal/probe transport/transporttest", rule: alone},

	{name: "bench", imports: "kv loop transport", internal: "arena cgroup names quote sys textfile", rule: "it loads any kv.Handler or transport.Conn"},
	{name: "bench/units", imports: "kv lab/stats loop", internal: "ring sys"},
	{name: "factor", imports: "bench kv loop rdma store tcp transport/datagram transport/socket udp uring", internal: "names quote ring",
		rule: "it imports the packages whose options its values are, and report takes its columns from it"},
	{name: "internal/manual", imports: "factor"},
	{name: "report/chart"},
	{name: "report", imports: "bench bench/units factor kv lab/stats report/chart store transport", internal: "cgroup exit plural terminal", tests: "loop",
		rule: "it has rows and pages, and does not measure"},

	{name: "server", imports: "bench factor kv loop store transport", internal: "exit quote", rule: "its network is a transport.Transport (server/serve has them all)"},
	{name: "server/serve", imports: "factor inproc kv loop rdma rdma/device report server store tcp transport transport/access transport/socket udp uring",
		internal: "exit plural probe"},

	{name: "lab", imports: "bench lab/experiment lab/stats report", internal: "exit plural quote terminal",
		rule: "what starts servers and clients is an interface here (Exec)"},
	{name: "lab/results", imports: "lab lab/experiment lab/stats report", internal: "exit", rule: "what a cell's flags mean comes as functions (Reader)"},
	{name: "lab/instrument", imports: "lab lab/experiment lab/stats report", internal: "exit quote terminal"},
	{name: "fleet", imports: "bench bench/units factor lab lab/experiment report server transport/access", internal: "exit quote",
		rule: "it has processes and the lines that they exchange, and no network, store or loop"},
	{name: "lab/cell", imports: "bench bench/units factor fleet kv lab lab/experiment loop rdma/device report server store transport transport/access transport/socket",
		internal: "exit probe quote terminal textfile", rule: "networks and servers come from the program (cell.Program)"},
	{name: "lab/run", imports: "factor fleet lab lab/cell lab/experiment lab/results report server store", internal: "exit terminal",
		rule: "networks and servers come from the program (run.Program)"},

	{name: "verify", imports: "inproc kv loop rdma server store tcp transport transport/datagram transport/transporttest udp uring wire", internal: "probe ring sys testenv",
		rule: "it tests the whole program"},
	{name: "cmd/kvwire", imports: "bench bench/units factor fleet lab lab/cell lab/experiment lab/instrument lab/results lab/run loop rdma report server server/serve store",
		internal: "exit interrupt logging manual names quote ring terminal", tests: "internal/probe kv lab/stats transport/access wire"},
}

const alone = "networks share code in transport, loop and wire, and meet stores in kv.Handler"

// apart are trees of packages that do not reach each other, not even by way of others. Tests are free of it.
var apart = []struct {
	from, to string
	reason   string
}{
	{"store", "transport wire resp inproc tcp uring udp rdma cgo bench factor", "a store has no network: both meet in kv.Handler"},
	{"transport inproc tcp uring udp rdma", "store bench factor server", "a network has no store: both meet in kv.Handler"},
	{"transport", "inproc tcp uring udp rdma cgo", "the common code of networks imports none of them"},
	{"inproc", "tcp uring udp rdma cgo", alone},
	{"tcp", "inproc uring udp rdma cgo", alone},
	{"uring", "inproc tcp udp rdma cgo", alone},
	{"udp", "inproc tcp uring rdma cgo", alone},
	{"rdma", "inproc tcp uring udp", alone},
	{"loop", "transport wire resp store bench", "a loop has members, and does not import them"},
	{"bench", "store resp inproc tcp uring udp rdma cgo factor report server lab/experiment lab/cell fleet", "it loads any kv.Handler or transport.Conn"},
	{"factor report", "lab/experiment lab/cell lab/results lab/instrument lab/run fleet server inproc", "rows and factors are below what measures"},
	{"server", "lab/experiment lab/cell lab/results lab/instrument lab/run fleet", "a server is part of a measurement, and does not make one"},
}

// imported returns the folders that the row allows to files, in full, and apart from these those for its tests.
func (r *row) imported() (files, tests []string) {
	files = strings.Fields(r.imports)
	for _, name := range strings.Fields(r.internal) {
		files = append(files, "internal/"+name)
	}
	return files, strings.Fields(r.tests)
}

// rowOf returns a package's row; nil: the table does not have the package.
func rowOf(table []row, name string) *row {
	if i := slices.IndexFunc(table, func(r row) bool { return r.name == name }); i >= 0 {
		return &table[i]
	}
	return nil
}

const tableFile = "internal/lint/imports.go"

// forbiddenOurs returns why a file, or a test, of a package may not import another of ours; "": it may.
func forbiddenOurs(r *row, imported string, test bool) string {
	files, tests := r.imported()
	if slices.Contains(files, imported) || test && (imported == r.name || imported == "internal/testenv" || slices.Contains(tests, imported)) {
		return ""
	}
	allowed := "no package of ours"
	if len(files) > 0 {
		allowed = strings.Join(files, ", ")
	}
	if test {
		allowed += ", and in tests " + strings.Join(append([]string{r.name, "internal/testenv"}, tests...), ", ")
	}
	if r.rule != "" {
		allowed += " (" + r.rule + ")"
	}
	return fmt.Sprintf("%s may not import %s. It may import %s. Pass what it needs as a function or an interface, or move it to a package below both; "+
		"if the import is right, add it to the table in %s", r.name, imported, allowed, tableFile)
}

// brokenTable returns what is wrong with the table itself: packages that are named twice or above those that they import,
// and packages that reach what they have to be apart from.
func brokenTable(table []row) (broken []string) {
	below := map[string]bool{}
	for _, r := range table {
		files, _ := r.imported()
		for _, name := range files {
			if !below[name] {
				broken = append(broken, fmt.Sprintf("%s may import %s, which is not in a row before it: move the row of the one that imports down; imports must not form a circle", r.name, name))
			}
		}
		if below[r.name] {
			broken = append(broken, r.name+" has two rows: join them")
		}
		below[r.name] = true
	}
	if broken != nil {
		return broken
	}
	for _, a := range apart {
		from, to := strings.Fields(a.from), strings.Fields(a.to)
		for _, r := range table {
			if !within(r.name, from...) {
				continue
			}
			if path := reach(table, r.name, to); path != nil {
				broken = append(broken, fmt.Sprintf("%s may not reach %s, but may do so by %s: %s. Remove an import of this path", r.name, path[len(path)-1], strings.Join(path, " → "), a.reason))
			}
		}
	}
	return broken
}

// reach returns the packages on a path from one package into the trees; nil: there is no such path. The table has no circles.
func reach(table []row, from string, trees []string) []string {
	files, _ := rowOf(table, from).imported()
	for _, name := range files {
		if within(name, trees...) {
			return []string{from, name}
		}
		if rest := reach(table, name, trees); rest != nil {
			return append([]string{from}, rest...)
		}
	}
	return nil
}

// drawingMax is the longest line of the drawing.
const drawingMax = 150

// drawing formats the table for docs/architecture.md. A package's level is one above the highest level of those that it imports.
// Packages of internal/ have no level: those that import others of ours are listed at the end.
func drawing(table []row) string {
	levels, inside := map[string]int{}, []string{}
	var rows [][]*row // by level
	for i := range table {
		r := &table[i]
		if within(r.name, "internal") {
			if files, _ := r.imported(); len(files) > 0 {
				inside = append(inside, strings.TrimPrefix(r.name, "internal/")+" ─► "+strings.Join(append(strings.Fields(r.imports), strings.Fields(r.internal)...), ", "))
			}
			continue
		}
		for _, name := range strings.Fields(r.imports) {
			levels[r.name] = max(levels[r.name], levels[name]+1)
		}
		n := levels[r.name]
		if n == len(rows) {
			rows = append(rows, nil)
		}
		rows[n] = append(rows[n], r)
	}
	var b strings.Builder
	var leaves []string
	for n, level := range slices.Backward(rows) {
		for _, r := range level {
			var parts []string
			if r.imports != "" {
				parts = append(parts, strings.ReplaceAll(r.imports, " ", ", "))
			}
			if r.internal != "" {
				parts = append(parts, "internal: "+strings.ReplaceAll(r.internal, " ", ", "))
			}
			if parts == nil {
				leaves = append(leaves, r.name)
				continue
			}
			wrap(&b, fmt.Sprintf("%2d  %-24s ─► ", n, r.name), strings.Join(parts, "; "))
		}
	}
	wrap(&b, " 0  import none of ours:        ", strings.Join(leaves, ", "))
	wrap(&b, "    inside of internal:         ", strings.Join(inside, "; "))
	return b.String()
}

// wrap appends a text behind a head, in lines of at most drawingMax characters.
func wrap(b *strings.Builder, head, text string) {
	indent := len([]rune(head))
	b.WriteString(head)
	at := indent
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i > 0 && at+1+n > drawingMax:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		case i > 0:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
}
