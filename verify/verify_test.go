package verify

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport/transporttest"
)

var (
	during = flag.Duration("for", 0, "make verify: how long TestVerify goes on; 0: it is skipped")
	out    = flag.String("out", filepath.Join(os.TempDir(), "kvwire-verify"), "folder for pictures of what is not linearizable")
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// long is the time for the histories of a setup in a test; there is at least one of each plan.
func long() time.Duration {
	if transporttest.Long {
		return 20 * time.Second
	}
	return 0
}

// Whatever goes wrong, what clients see is linearizable: in every setup, with every plan.
func TestHistories(t *testing.T) {
	for i, s := range Setups() {
		t.Run(s.String(), func(t *testing.T) {
			if i%perNetwork != i/perNetwork%perNetwork { // one of each network, each with another store
				testenv.NotShort(t, "one setup of each network is enough")
			}
			feature, err := s.Available()
			testenv.Need(t, feature, err)
			if !transporttest.Emulated {
				t.Parallel() // it waits most of its time, for other processes and for deadlines
			}
			began := time.Now()
			f, err := Run(t.Context(), s, t.TempDir(), *out, func(f Figures) bool { return f.Histories >= len(plans) && time.Since(began) >= long() })
			t.Logf("%d histories, %d operations (%d scans), %d of unknown outcome; %s", f.Histories, f.Operations, f.Scans, f.Unknown, f.faults())
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A store with a bug is caught. Its bugs are built in by a tag only; without it they are not there.
func TestSeededBugsAreCaught(t *testing.T) {
	testenv.NotShort(t, "it builds a program")
	exe := filepath.Join(t.TempDir(), "verify.test")
	tags, link := "seededbug", "-s -w" // linking takes a third less time without debugging tables
	if ring.Built {
		tags, link = tags+" giouring", link+" -checklinkname=0"
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go here to build the bugs with")
	}
	if said, err := exec.Command("go", "test", "-c", "-vet=off", "-o", exe, "-tags", tags, "-ldflags="+link, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the store with bugs: %v\n%s", err, said)
	}
	for _, bug := range []struct{ name, update string }{{"early", store.UpdateCOW}, {"stale", store.UpdateInPlace}, {"", store.UpdateCOW}} {
		t.Run("bug="+bug.name, func(t *testing.T) {
			t.Setenv("KVWIRE_SEEDED_BUG", bug.name)
			most := 20 * len(plans)
			if bug.name == "" {
				most = len(plans)
			}
			f, err := Run(t.Context(), Setup{Network: "tcp", Backend: store.Disk, Update: bug.update, Exe: exe}, t.TempDir(), t.TempDir(),
				func(f Figures) bool { return f.Histories >= most })
			switch {
			case bug.name == "" && err != nil:
				t.Fatalf("without a bug: %v", err)
			case bug.name != "" && !errors.Is(err, ErrViolation):
				t.Fatalf("%d histories, and the bug was not caught: %v", f.Histories, err)
			case err != nil:
				t.Logf("caught in history %d, after %d operations:\n%v", f.Histories, f.Operations, err)
				_, file, _ := strings.Cut(err.Error(), "open ")
				if _, err := os.Stat(strings.TrimSuffix(file, ")")); err != nil {
					t.Errorf("the picture: %v", err)
				}
			}
		})
	}
	t.Run("a crash with bug=early", func(t *testing.T) {
		t.Setenv("KVWIRE_SEEDED_BUG", "early")
		f, err := Crashes{Rounds: 60, Each: 20, Seed: 1, Dir: t.TempDir(), Out: t.TempDir(), Exe: exe, Report: func(CrashFigures) {}}.Run(t.Context())
		if !errors.Is(err, ErrViolation) {
			t.Fatalf("%v, and the bug was not caught: %v", f, err)
		}
		t.Logf("caught after %d rounds and %d acknowledged changes", f.Rounds, f.Acknowledged)
	})
}

// TestVerify is make verify: all setups that work here, one after the other, until the time is over.
func TestVerify(t *testing.T) {
	if *during == 0 {
		t.Skip("it is for make verify")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *during)
	defer cancel()
	var here []Setup
	missing := map[string]error{}
	for _, s := range Setups() {
		if _, err := s.Available(); err != nil {
			missing[s.Network] = err
		} else {
			here = append(here, s)
		}
	}
	rows := make([]row, len(here))
	began := time.Now()
	turns := len(here) * (1 + int(*during/(time.Duration(len(here))*20*time.Second)))
	for i := 0; i < turns && ctx.Err() == nil; i++ {
		r, s := &rows[i%len(here)], here[i%len(here)]
		until := time.Now().Add((*during - time.Since(began)) / time.Duration(turns-i))
		f, err := Run(ctx, s, t.TempDir(), *out, func(Figures) bool { return time.Now().After(until) })
		r.Add(f)
		r.err = errors.Join(r.err, err)
		fmt.Fprintf(os.Stderr, "%5.0f s  %-32s %4d histories, %6d operations\n", time.Since(began).Seconds(), s, f.Histories, f.Operations)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			t.Fail()
		}
	}
	table(here, rows, missing)
}

// row is a setup's line of the table.
type row struct {
	Figures
	err error
}

func (r *row) result() string {
	switch {
	case errors.Is(r.err, ErrViolation):
		return "NOT LINEARIZABLE"
	case errors.Is(r.err, ErrUndecided):
		return "UNDECIDED"
	case r.err != nil:
		return "FAILED"
	case r.Histories == 0:
		return "not reached"
	}
	return "linearizable"
}

func (f Figures) faults() string {
	return fmt.Sprintf("%d connections cut, %d servers and %d clients killed, %d of the disk's transfers slow, %d EIO, %d reads", f.Cuts, f.ServerKills, f.ClientKills, f.Slow, f.EIO, f.Reads)
}

func table(setups []Setup, rows []row, missing map[string]error) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\ntransport\tplacement\tbackend\tcut\tserver killed\tclient killed\tslow IO\tEIO\tdisk reads\thistories\toperations\tunknown\tscans\tresult")
	line := func(name, placement, backend string, f Figures, result string) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", name, placement, backend, f.Cuts, f.ServerKills, f.ClientKills, f.Slow, f.EIO, f.Reads,
			f.Histories, f.Operations, f.Unknown, f.Scans, result)
	}
	var all row
	for i, s := range setups {
		backend := s.Backend.String()
		if s.Backend == store.Disk {
			backend += " " + s.Update
		}
		network := s.Network
		if find(network).feature == "rdma" && rdma.Modelled() != nil {
			network += " over a modelled device"
		}
		line(network, s.Placement.String(), backend, rows[i].Figures, rows[i].result())
		all.Add(rows[i].Figures)
		all.err = errors.Join(all.err, rows[i].err)
	}
	line("all", "", "", all.Figures, all.result())
	for _, n := range networks {
		if err := missing[n.name]; err != nil {
			line(n.name, "", "", Figures{}, "not here: "+err.Error())
		}
	}
	_ = w.Flush()
}

// Which histories pass the check, and what the error says about others.
func TestCheckFindsViolations(t *testing.T) {
	type step struct {
		process int
		from    int64
		to      int64 // 0: no outcome
		call    event
		end     event
	}
	put := func(p int, from, to int64, wrote string) step {
		return step{p, from, to, event{Op: kv.OpPut, Key: "h000000.k0", Wrote: wrote}, event{}}
	}
	get := func(from, to int64, got string) step {
		status := kv.StatusOK
		if got == absent {
			status = kv.StatusNotFound
		}
		return step{9, from, to, event{Op: kv.OpGet, Key: "h000000.k0"}, event{Status: status, Got: got}}
	}
	scan := func(from, to int64, items ...item) step {
		return step{9, from, to, event{Op: kv.OpScan, Key: "h000000.k0", Limit: 2}, event{Items: items}}
	}
	for name, c := range map[string]struct {
		steps []step
		wrong string // "": it is right
	}{
		"in turn":                             {[]step{put(1, 1, 2, "a"), get(3, 4, "a"), put(1, 5, 6, "b"), get(7, 8, "b")}, ""},
		"either of two at the same time":      {[]step{put(1, 1, 9, "a"), put(2, 1, 9, "b"), get(2, 3, "b"), get(4, 5, "a")}, ""},
		"stale":                               {[]step{put(1, 1, 2, "a"), put(1, 3, 4, "b"), get(5, 6, "a")}, "get: ok, a"},
		"back and forth":                      {[]step{put(1, 1, 9, "a"), put(2, 1, 9, "b"), get(2, 3, "b"), get(4, 5, "a"), get(6, 7, "b")}, "get: ok, b"},
		"lost":                                {[]step{put(1, 1, 2, "a"), get(3, 4, absent)}, "get: not found"},
		"unknown, and seen late":              {[]step{put(1, 1, 2, "a"), put(2, 3, 0, "b"), get(5, 6, "a"), get(7, 8, "b")}, ""},
		"unknown, and never seen":             {[]step{put(1, 1, 2, "a"), put(2, 3, 0, "b"), get(5, 6, "a")}, ""},
		"unknown, seen, and gone":             {[]step{put(1, 1, 2, "a"), put(2, 3, 0, "b"), get(5, 6, "b"), get(7, 8, "a")}, "get: ok, a"},
		"never written it":                    {[]step{put(1, 1, 2, "a"), get(3, 4, "torn or mixed")}, "torn"},
		"a scan of what was there":            {[]step{put(1, 1, 2, "a"), scan(3, 4, item{"h000000.k0", "a"}, item{fillerKey(0), fillerState(0)})}, ""},
		"a scan of what is gone":              {[]step{put(1, 1, 2, "a"), put(1, 3, 4, "b"), scan(5, 6, item{"h000000.k0", "a"}, item{fillerKey(0), fillerState(0)})}, "scan"},
		"a scan that leaves a key out":        {[]step{put(1, 1, 2, "a"), scan(3, 4, item{fillerKey(0), fillerState(0)}, item{fillerKey(1), fillerState(1)})}, "scan"},
		"a scan out of order":                 {[]step{scan(3, 4, item{fillerKey(0), fillerState(0)}, item{"h000000.k0", "a"})}, "follows"},
		"a scan with another's value":         {[]step{scan(3, 4, item{fillerKey(0), fillerState(1)})}, "never written"},
		"a scan that ends before its limit":   {[]step{scan(3, 4, item{fillerKey(0), fillerState(0)})}, "is missing"},
		"a scan that has more than its share": {[]step{scan(3, 4, item{fillerKey(0), ""}, item{fillerKey(1), ""}, item{fillerKey(2), ""})}, "3 items"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &History{}
			for i, s := range c.steps {
				s.call.Kind, s.call.Number, s.call.At = invoked, i, s.from
				h.add(s.process, s.call)
				if s.to != 0 {
					s.end.Kind, s.end.Number, s.end.At = returned, i, s.to
					h.add(s.process, s.end)
				}
			}
			err := h.Check(t.TempDir())
			if (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Fatalf("%v, want %q", err, c.wrong)
			}
		})
	}
}

// A value names its writer, also after appends, and nothing that is torn or mixed goes for one.
func TestValuesIdentifyTheirWriters(t *testing.T) {
	a, b := appendPiece(nil, idOf(1, 2, 3), 100), appendPiece(nil, idOf(4, 5, 6), 70_000)
	both := append(append([]byte{}, a...), b...)
	for _, c := range []struct {
		value []byte
		want  string
	}{
		{a, "1.2.3"}, {both, "1.2.3+4.5.6"}, {a[:99], "torn"}, {nil, "torn"}, {both[:len(both)-1], "torn"}, {append(append([]byte{}, b[:4096]...), both[4096:len(b)]...), "torn"},
	} {
		if got := stateOf(registerKey(0, 0), c.value); got != c.want && (c.want != "torn" || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%d bytes are %q, want %q", len(c.value), got, c.want)
		}
	}
	if got := stateOf(counterKey(0, 0), []byte("42")); got != counted(42) {
		t.Errorf("42 is %s", got)
	}
}
