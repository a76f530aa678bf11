package cell

import (
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/server"
)

// planner returns a program that plans: its networks and servers cannot be used.
func planner() *Program {
	return &Program{
		Network: func(name string) (*server.Network, error) {
			return &server.Network{Name: name, Local: name == "inproc" || name == "codec"}, nil
		},
		Plan: func(f *Settings) (loop.Plan, error) {
			if err := f.CheckServer(f.Given); err != nil {
				return loop.Plan{}, err
			}
			return f.Values.Plan(loop.SleepEpoll, f.InProcess())
		},
	}
}

// cellOf returns the settings of a cell with these flags.
func cellOf(t *testing.T, args ...string) *Settings {
	t.Helper()
	f := planner().newCell()
	if err := f.flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDataSetsAreTheSameWhereTheirFilesAre(t *testing.T) {
	name := func(args ...string) string {
		d, ok := cellOf(t, args...).DataSet()
		if !ok {
			return ""
		}
		return d.Name()
	}
	base := name()
	for _, same := range [][]string{{"--transport=inproc"}, {"--mix=a"}, {"--conns=64"}, {"--disk-engine=aio"}, {"--durability=flush"}, {"--cache-bytes=1MiB"}, {"--server-threads=1"},
		{"--placement=dispatched", "--net-loops=4"}} {
		if got := name(same...); got != base {
			t.Errorf("%v: %s, want %s", same, got, base)
		}
	}
	seen := map[string]bool{base: true}
	for _, other := range [][]string{{"--records=7"}, {"--key-bytes=17"}, {"--value-bytes=7"}, {"--value-dist=uniform"}, {"--value-dist=zipfian"}, {"--value-dist=uniform", "--value-min-bytes=7"},
		{"--value-dist=list", "--value-sizes=60,360"}, {"--value-dist=list", "--value-sizes=60,360:2"}, {"--seed=7"}, {"--server-threads=2"}, {"--placement=dispatched", "--store-loops=3"}, {"--update=inplace"}} {
		got := name(other...)
		if got == "" || seen[got] {
			t.Errorf("%v: %q is another's", other, got)
		}
		seen[got] = true
	}
	if a, b := name("--value-dist=list", "--value-sizes=4KiB,60:1"), name("--value-dist=list", "--value-sizes=60,4096"); a != b {
		t.Errorf("one list, written in two ways: %s and %s", a, b)
	}
	for _, none := range [][]string{{"--backend=null"}, {"--backend=mem"}, {"--backend=raw"}, {"--dir=mine"}} {
		if got := name(none...); got != "" {
			t.Errorf("%v: %s, want none", none, got)
		}
	}
	far := cellOf(t)
	far.ServerAt = "127.0.0.1:1"
	if d, ok := far.DataSet(); ok {
		t.Errorf("a server elsewhere: %s, want none", d.Name())
	}
}

func TestMixesThatWriteAreKnown(t *testing.T) {
	for mix, want := range map[string]bool{"a": true, "b": true, "c": false, "d": true, "e": true, "f": true, "get": false, "scan": false, "get=50,scan=50": false, "put": true, "insert": true, "rmw": true,
		"get=99,put=1": true} {
		if got := cellOf(t, "--mix="+mix).Writes(); got != want {
			t.Errorf("%s writes: %v, want %v", mix, got, want)
		}
	}
}

func TestCellsWithTheSameDataHaveOneDataSet(t *testing.T) {
	read, written := cellOf(t, "--transport=inproc", "--mix=c", "--records=100k").Facts().Data, cellOf(t, "--transport=tcp", "--mix=a", "--records=100k").Facts().Data
	if read.Name == "" || read.Name != written.Name || read.Bytes != written.Bytes || read.Load != written.Load || written.Extra <= read.Extra || read.Extra < read.Bytes {
		t.Errorf("read %+v, written %+v", read, written)
	}
	if d := cellOf(t, "--backend=null").Facts().Data; d != (lab.Data{}) {
		t.Errorf("backend null has %+v", d)
	}
	if d := cellOf(t, "--transport=inproc", "--dir=named", "--records=1M").Facts().Data; d.Dir != "named" || d.Bytes <= read.Bytes || d.Extra != 0 {
		t.Errorf("a folder of the user's: %+v", d)
	}
	for _, name := range []string{"", "named"} {
		args := []string{"--transport=inproc", "--backend=raw", "--raw-bytes=1MiB"}
		if name != "" {
			args = append(args, "--dir="+name)
		}
		if d := cellOf(t, args...).Facts().Data; d.Dir != name || d.Bytes+d.Extra != 1<<20 {
			t.Errorf("a raw file in %q: %+v", name, d)
		}
	}
}

// Flags that are each in range, and whose product no machine has, are a usage error before anything is allocated; so is a window that
// another one's limit would make longer.
func TestProductsOfFlags(t *testing.T) {
	for name, args := range map[string][]string{
		"requests":        {"--conns=65536", "--depth=1024", "--value-bytes=16MiB"},
		"answers":         {"--conns=65536", "--depth=1024", "--mix=scan", "--scan-items=10000", "--value-bytes=16MiB"},
		"data":            {"--records=1099511627776", "--value-bytes=16MiB"},
		"longest window":  {"--duration=2562047h"},
		"longest warm-up": {"--warmup=2562047h47m"},
		"longest of both": {"--duration=1200h1ns", "--warmup=1200h"},
	} {
		var c experiment.Cell
		for _, a := range args {
			flag, value, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
			c = append(c, experiment.Flag{Name: flag, Value: value})
		}
		_, _, err := planner().Cell(c)
		if exit.Code(err) != exit.Usage || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want a usage error", name, err)
		}
	}
}

// A slice of load ends by time, so cells with another end are measured in whole runs.
func TestCellsWithAnEndOfTheirOwnAreWhole(t *testing.T) {
	for args, whole := range map[string]bool{"": false, "--duration=1s": false, "--operations=0": false, "--operations=1k": true, "--mix=insert": true, "--mix=a": false, "--dir=mine": true} {
		if why := cellOf(t, strings.Fields(args)...).Facts().Whole; (why != "") != whole {
			t.Errorf("%q: whole because %q", args, why)
		}
	}
}
