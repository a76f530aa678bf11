package experiment

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testFlags accept anything but for a few that are checked.
func testFlags() Flags {
	anything := func(v string) (string, error) { return v, nil }
	f := Flags{}
	for _, n := range []string{"backend", "mix", "key-dist", "key-bytes", "value-bytes", "records", "duration", "warmup", "seed",
		"cache-bytes", "loop", "wait", "placement", "client-threads", "server-threads", "target-per-s", "rdma-verb"} {
		f[n] = Rule{Parse: anything, OfTransport: n == "rdma-verb"}
	}
	number := func(v string) (string, error) {
		n, err := strconv.Atoi(v)
		if err != nil {
			return "", fmt.Errorf("%q is not a number", v)
		}
		return strconv.Itoa(n), nil
	}
	f["conns"], f["depth"] = Rule{Parse: number}, Rule{Parse: number}
	f["transport"] = Rule{Parse: func(v string) (string, error) {
		if !slices.Contains([]string{"inproc", "tcp", "uring", "rdma"}, v) {
			return "", fmt.Errorf("unknown transport %q", v)
		}
		return v, nil
	}}
	return f
}

func read(t *testing.T, text string) *Experiment {
	t.Helper()
	x, err := Read("dir/test-name.yaml", []byte(text), testFlags())
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func cells(x *Experiment) (all []string) {
	for _, c := range x.Cells {
		all = append(all, c.String())
	}
	return all
}

func TestReadUnfoldsListsBaselineFirst(t *testing.T) {
	x := read(t, `
mix: [get, put]
duration: 2s
transport: [inproc, tcp]
value-bytes: [64, 4KiB]
`)
	want := []string{
		"--transport=inproc --mix=get --duration=2s --value-bytes=64",
		"--transport=inproc --mix=get --duration=2s --value-bytes=4KiB",
		"--transport=inproc --mix=put --duration=2s --value-bytes=64",
		"--transport=inproc --mix=put --duration=2s --value-bytes=4KiB",
		"--transport=tcp --mix=get --duration=2s --value-bytes=64",
		"--transport=tcp --mix=get --duration=2s --value-bytes=4KiB",
		"--transport=tcp --mix=put --duration=2s --value-bytes=64",
		"--transport=tcp --mix=put --duration=2s --value-bytes=4KiB",
	}
	if got := cells(x); !slices.Equal(got, want) {
		t.Errorf("cells:\n%s", strings.Join(got, "\n"))
	}
	if want := []string{"transport", "mix", "value-bytes"}; !slices.Equal(x.Axes, want) {
		t.Errorf("axes: %v", x.Axes)
	}
	if x.Name != "test-name" {
		t.Errorf("name: %q", x.Name)
	}
	if v, ok := x.Cells[7].Get("value-bytes"); v != "4KiB" || !ok {
		t.Errorf("Get: %q %v", v, ok)
	}
	if _, ok := x.Cells[0].Get("depth"); ok {
		t.Error("Get finds a flag that is not set")
	}
}

func TestReadKeepsScalarsAsWritten(t *testing.T) {
	x := read(t, `
transport: tcp
value-bytes: 64KiB
duration: 10s
records: 50k
conns: 8
key-dist: 0.99
target-per-s: 1e6
seed: 0x10
backend: "null"
loop: 'a: b'
wait: true
`)
	want := "--transport=tcp --value-bytes=64KiB --duration=10s --records=50k --conns=8 --key-dist=0.99 --target-per-s=1e6 --seed=0x10 --backend=null --loop=a: b --wait=true"
	if got := cells(x); len(got) != 1 || got[0] != want {
		t.Errorf("cells: %q", got)
	}
	if len(x.Axes) != 0 {
		t.Errorf("axes: %v", x.Axes)
	}
}

// A rung of the ladder is called null, and YAML calls nothing so: it must not need quotes.
func TestReadAcceptsNull(t *testing.T) {
	x := read(t, "backend: [null, disk]\nmix: [get]\n")
	if got := cells(x); !slices.Equal(got, []string{"--backend=null --mix=get", "--backend=disk --mix=get"}) {
		t.Errorf("cells: %q", got)
	}
}

func TestReadAppliesOverridesPerTransport(t *testing.T) {
	x := read(t, `
name: quick
description: |
  Two lines
  of text.
require: [tcp]
transport: [inproc, tcp]
conns: 4
depth: [1, 16]
compare: depth
overrides:
  inproc: {conns: 1, wait: spin, depth: 64}
  tcp:
    conns: [2, 8]
`)
	want := []string{
		"--transport=inproc --conns=1 --depth=64 --wait=spin",
		"--transport=tcp --conns=2 --depth=1",
		"--transport=tcp --conns=2 --depth=16",
		"--transport=tcp --conns=8 --depth=1",
		"--transport=tcp --conns=8 --depth=16",
	}
	if got := cells(x); !slices.Equal(got, want) {
		t.Errorf("cells:\n%s", strings.Join(got, "\n"))
	}
	if x.Name != "quick" || x.Description != "Two lines\nof text." || !slices.Equal(x.Require, []string{"tcp"}) {
		t.Errorf("%+v", x)
	}
	if want := []string{"transport", "conns", "depth"}; !slices.Equal(x.Axes, want) {
		t.Errorf("axes: %v", x.Axes)
	}
}

func TestMistakeIsShownWithItsPlace(t *testing.T) {
	numbers := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d, \n  ", i)
		}
		return "[" + strings.TrimRight(b.String(), ", \n") + "]"
	}
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "conns: 1\nvalue-byte: 64\n", `x.yaml:2:1: "value-byte" is not a flag; do you mean "value-bytes"?`},
		{"underscore", "value_bytes: 64\n", `x.yaml:1:1: "value_bytes" is not a flag; do you mean "value-bytes"?`},
		{"dashes in front", "--conns: 1\n", `do you mean "conns"?`},
		{"section misspelt", "conns: 1\noverride: {}\n", `x.yaml:2:1: "override" is not a flag; do you mean "overrides"?`},
		{"compare in overrides", "transport: [tcp, uring]\noverrides:\n  tcp: {compare: transport}\n", `x.yaml:3:9: "compare" is in the wrong place: move it to the top level of experiment.yaml, without indentation`},
		{"compare in primary", "transport: [tcp, uring]\nprimary: {metrics: ops_per_s, compare: transport}\n", `x.yaml:2:31: "compare" is in the wrong place`},
		{"compare in a threshold", "transport: tcp\nthresholds: [{metric: ops_per_s, least: 1, compare: transport}]\n", `x.yaml:2:44: "compare" is in the wrong place`},
		{"metrics at the top", "transport: tcp\nmetrics: ops_per_s\n", `x.yaml:2:1: "metrics" is in the wrong place: move it below "primary"`},
		{"nothing near", "colour: red\n", `x.yaml:1:1: "colour" is not a flag that an experiment can set`},
		{"bad value", "mix: get\nconns: many\n", `x.yaml:2:8: conns: "many" is not a number`},
		{"bad value in a list", "conns: [1, many]\n", `x.yaml:1:12: conns: "many" is not a number`},
		{"bad value in a long list", "conns:\n  - 1\n  - many\n", `x.yaml:3:5: conns: "many" is not a number`},
		{"duplicate key", "conns: 1\nmix: get\nconns: 2\n", `x.yaml:3:1: "conns" is there twice: first on line 1`},
		{"duplicate value", "conns: [1, 2, 1]\n", `x.yaml:1:15: conns has "1" twice`},
		{"a value in two spellings", "conns: [1, 2, 01]\n", `x.yaml:1:15: conns has "1" and "01", which are the same: leave one of them`},
		{"mapping for a value", "conns: {a: 1}\n", `x.yaml:1:8: conns must be a value or a list of values, not a mapping`},
		{"list in a list", "conns: [1, [2]]\n", `conns must be a value or a list of values, not a list`},
		{"no value", "mix: get\nconns:\n", `conns has no value`},
		{"empty list", "mix: get\nconns: []\n", `x.yaml:2:8: conns has an empty list`},
		{"number as a key", "1: 2\n", `x.yaml:1:1: a key must be a flag's name, not a number`},
		{"list as the file", "- conns\n", `the file must be`},
		{"text as the file", "hello\n", `x.yaml:1:1: the file must be`},
		{"empty", "# nothing\n", `x.yaml:1:1: the file is empty`},
		{"nothing to run", "name: x\n", `x.yaml:1:1: no flag is set`},
		{"second document", "conns: 1\n---\nconns: 2\n", `x.yaml:3:`},
		{"syntax", "conns: [1\nmix: get\n", `x.yaml:`},
		{"anchor", "conns: &a 1\ndepth: *a\n", `conns must be a value or a list of values, not an anchor or alias`},
		{"name", "name: Über\nconns: 1\n", `x.yaml:1:7: name "Über" must be`},
		{"override of a flag that is none", "transport: tcp\noverrides:\n  tcp: {conn: 1}\n", `x.yaml:3:9: "conn" is not a flag; do you mean "conns"?`},
		{"override of another transport", "transport: [tcp, uring]\noverrides: {rdma: {conns: 1}}\n", `x.yaml:2:13: overrides for "rdma", which is not a transport of this file (tcp, uring)`},
		{"override without transports", "conns: 1\noverrides: {rdma: {conns: 1}}\n", `(it sets none)`},
		{"override of the transport", "transport: tcp\noverrides: {tcp: {transport: rdma}}\n", `x.yaml:2:19: a transport's section cannot set the transport`},
		{"override is a value", "transport: tcp\noverrides: {tcp: 1}\n", `overrides of tcp must be`},
		{"require of another transport", "transport: tcp\nrequire: [rdma]\n", `x.yaml:2:11: require: "rdma" is not a transport of this file (tcp)`},
		{"too many cells", "conns: " + numbers(101) + "\ndepth: " + numbers(100) + "\n", `the sweep has more than 10000 cells`},
		{"too deep", "conns: " + strings.Repeat("[", 40) + "\n", `x.yaml:1:40: brackets nest deeper than 32`},
		{"too many keys", strings.Repeat("a: 1\n", 9000), `x.yaml:8193:2: more than 8192 keys`},
		{"line too long", "mix: get\n#" + strings.Repeat("-", 5000) + "\n", `x.yaml:2:2048: the line is longer`},
		{"stages of one in none", "transport: tcp\nstages: {one-in: 0}\n", `x.yaml:2:18: stages: one-in "0": 1 to 1000000000`},
		{"stages of one in too many", "transport: tcp\nstages: {one-in: 1000000001}\n", `x.yaml:2:18: stages: one-in "1000000001": 1 to 1000000000`},
		{"not text", "conns: \xff\n", `x.yaml: not UTF-8 text`},
		{"too large", strings.Repeat("# nothing\n", MaxFileBytes/10+1), `x.yaml: larger than 1048576 bytes`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read("x.yaml", []byte(c.text), testFlags())
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("no *Error: %v", err)
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

func TestReadAcceptsTheLargestSweep(t *testing.T) {
	var b strings.Builder
	for _, k := range []string{"conns", "depth"} {
		fmt.Fprintf(&b, "%s:\n", k)
		for i := range 100 {
			fmt.Fprintf(&b, "  - %d\n", i)
		}
	}
	if n := len(read(t, b.String()).Cells); n != MaxCells {
		t.Errorf("%d cells", n)
	}
}

func TestFindTakesFolderFileAndName(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, d := range []string{"experiments/quick", "experiments/slow", "experiments/bare", "own"} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			t.Fatal(err)
		}
		if d != "experiments/bare" {
			if err := os.WriteFile(filepath.Join(d, fileName), []byte("conns: 1\n"), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	quick := filepath.Join("experiments", "quick", fileName)
	for arg, want := range map[string]string{
		"experiments/quick": quick, "experiments/quick/": quick, "quick": quick, quick: quick, "./experiments/quick/experiment.yaml": "./experiments/quick/experiment.yaml",
		"own": filepath.Join("own", fileName), "./own": filepath.Join("own", fileName),
		"ladder": "built-in:ladder/experiment.yaml", "experiments/ladder": "built-in:ladder/experiment.yaml", "experiments/ladder/": "built-in:ladder/experiment.yaml",
	} {
		if got, err := Find(arg); err != nil || got != want {
			t.Errorf("Find(%q): %q, %v; want %q", arg, got, err, want)
		}
	}
	for arg, want := range map[string]string{
		"quik": `do you mean "quick"? (there are: `, "slo": `do you mean "slow"?`, "": ", slow, ",
		"bare": "has no experiment.yaml", "experiments/none": "neither a folder", "/nowhere": "neither a folder", "../x": "neither a folder",
	} {
		if got, err := Find(arg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Find(%q): %q, %v; want …%s…", arg, got, err, want)
		}
	}
	x, err := LoadAs(quick, "", testFlags())
	if err != nil || x.Name != "quick" {
		t.Errorf("Load: %+v, %v", x, err)
	}
	if _, err := LoadAs("experiments/none", "", testFlags()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestQuickIsSmallEnoughForMakeRun(t *testing.T) {
	x, err := LoadAs("../../experiments/quick/experiment.yaml", "", testFlags())
	if err != nil {
		t.Fatal(err)
	}
	var total time.Duration
	for _, c := range x.Cells {
		if transport, _ := c.Get("transport"); transport == "rdma" {
			continue // where it works there is more than a laptop
		}
		for _, flag := range []string{"warmup", "duration"} {
			v, _ := c.Get(flag)
			d, err := time.ParseDuration(v)
			if err != nil {
				t.Fatalf("%s: %v", flag, err)
			}
			total += d
		}
		total += 2 * time.Second // starting, loading, stopping
	}
	if x.Name != "quick" || total > 150*time.Second {
		t.Errorf("%s takes about %v, and make run has 3 minutes", x.Name, total)
	}
}

func FuzzRead(f *testing.F) {
	quick, err := os.ReadFile("../../experiments/quick/experiment.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("name: x\ngenerations: 3\ntime: 60s\nslice: 50ms\nuntil: 3%\nmatters: 3%\ninteraction: [depth, transport]\ntransport: [tcp, uring]\ndepth: [1, 2]\n"))
	f.Add([]byte("name: x\nblocks: 3\ntransport: [tcp, uring]\ndepth: [1, 2]\ncompare: depth\nprimary: {metrics: [a, b], transport: tcp}\nthresholds:\n  - {metric: a, least: 1, depth: 2}\nstages: {one-in: 8, depth: 1}\n"))
	f.Add(quick)
	for _, s := range []string{"", "a", "conns: [1, 2]", "transport: [tcp]\noverrides: {tcp: {conns: 1}}", "conns: &a [*a]", "? [a]\n: b",
		"conns: !!int 1", "<<: {conns: 1}", "conns: |\n  1\n", "- - - - 1", "conns: {", "\"conns\": '1'", "conns: [1,\n2", "---\n...\n---\nconns: 1"} {
		f.Add([]byte(s))
	}
	flags := testFlags()
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := Read("x.yaml", data, flags)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || strings.ContainsAny(err.Error(), "\n\r") || x != nil {
				t.Fatalf("%T %q, %v", err, err, x)
			}
			return
		}
		if len(x.Cells) == 0 || len(x.Cells) > MaxCells || !namePattern.MatchString(x.Name) {
			t.Fatalf("%d cells, name %q", len(x.Cells), x.Name)
		}
		n := 0
		for _, q := range x.Questions() {
			n += len(q.Cells)
		}
		if n != len(x.Cells) {
			t.Fatalf("%d cells in questions, of %d", n, len(x.Cells))
		}
		for _, c := range x.Cells {
			for _, flag := range c {
				check := flags[flag.Name]
				if check.Parse == nil {
					t.Fatalf("%s: no flag", flag.Name)
				}
				if _, err := check.Parse(flag.Value); err != nil {
					t.Fatalf("cell %q", c)
				}
			}
		}
	})
}

// The program has the experiments of this checkout, with their claims, and reads them by the path that Find returns.
func TestBuiltInExperimentsAreThoseOfTheCheckout(t *testing.T) {
	folders, err := filepath.Glob("../../experiments/*/" + fileName)
	if err != nil || len(folders) == 0 {
		t.Fatal(folders, err)
	}
	var want []string
	for _, f := range folders {
		want = append(want, filepath.Base(filepath.Dir(f)))
	}
	if got := BuiltIn(); !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
	root, err := filepath.Abs("../../experiments")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, name := range want {
		file, err := Find(name)
		if err != nil || !IsBuiltIn(file) {
			t.Fatalf("%s: %q, %v", name, file, err)
		}
		for _, f := range []string{file, ClaimsPath(file)} {
			got, err := ReadFile(f)
			text, errHere := os.ReadFile(filepath.Join(root, name, filepath.Base(f)))
			if string(got) != string(text) || errors.Is(err, os.ErrNotExist) != errors.Is(errHere, os.ErrNotExist) {
				t.Errorf("%s: %d bytes and %v, want %d and %v", f, len(got), err, len(text), errHere)
			}
		}
	}
}

// A key that no cell has, once flags without effect are removed, is found at its line. One that another cell has is not.
func TestKeysThatApplyToNoCell(t *testing.T) {
	without := func(name string, of ...string) func(c Cell) Cell { // flags that apply to some transports only
		return func(c Cell) Cell {
			transport, _ := c.Get("transport")
			return slices.DeleteFunc(slices.Clone(c), func(f Flag) bool { return f.Name == name && !slices.Contains(of, transport) })
		}
	}
	for _, c := range []struct {
		text, want string
		reduce     func(c Cell) Cell
	}{
		{"transport: tcp\nrdma-verb: send\n", "x.yaml:2:1: rdma-verb applies to no cell of this key: it needs a reason (leave it out)", without("rdma-verb", "rdma")},
		{"transport: [tcp, rdma]\nrdma-verb: [send, write]\n", "", without("rdma-verb", "rdma")},
		{"transport: [tcp, rdma]\noverrides:\n  tcp: {rdma-verb: send}\n  rdma: {rdma-verb: write}\n", "x.yaml:3:9: rdma-verb applies to no cell", without("rdma-verb", "rdma")},
		{"depth: [1, 2]\nwait: spin\n", "", without("depth", "")},
	} {
		x, err := Read("x.yaml", []byte(c.text), testFlags())
		if err != nil {
			t.Fatal(err)
		}
		var all []Cell
		for _, one := range x.Cells {
			all = append(all, c.reduce(one))
		}
		got := ""
		if err := x.Unused(all, func(string) string { return "a reason" }); err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
	}
}
