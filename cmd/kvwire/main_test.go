package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/lab/stats"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/rogpeppe/go-internal/testscript"
)

// patience bounds waits of tests.
const patience = fleet.Patience

// TestMain makes this test binary the program too: scripts, and the program's own children, execute it.
func TestMain(m *testing.M) {
	if os.Getenv(madeUp) != "" {
		addMadeUp()
	}
	cell.IdleTime, cell.UnitWindow = 20*time.Millisecond, 15*time.Millisecond
	if os.Getenv(asProgram) != "" {
		if d, err := time.ParseDuration(os.Getenv(orderWaitOfTest)); err == nil {
			fleet.CommandWait = d
		}
		os.Exit(realMain(os.Args[1:]))
	}
	testscript.Main(m, map[string]func(){"kvwire": func() { os.Exit(realMain(os.Args[1:])) }})
}

const (
	asProgram       = "KVWIRE_TEST_AS_PROGRAM"
	orderWaitOfTest = "KVWIRE_TEST_ORDER_WAIT" // fleet.CommandWait
)

// asKvwire is the program with these arguments, as a process of its own.
func asKvwire(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// TestScript runs testdata/script/*.txtar: what a user types, and the output.
func TestScript(t *testing.T) {
	t.Parallel()
	uring := probe.Uring(probe.Local())
	_, noRDMA := rdma.Here()
	_, redis := exec.LookPath("redis-cli")
	t.Run("uring", func(t *testing.T) { testenv.Need(t, "uring", uring.Err()) })
	t.Run("rdma-device", func(t *testing.T) { testenv.Need(t, "rdma", noRDMA) })
	t.Run("redis", func(t *testing.T) { testenv.Need(t, "redis", redis) })
	_, goycsb := exec.LookPath("goycsb")
	t.Run("goycsb", func(t *testing.T) { testenv.Need(t, "goycsb", goycsb) })
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TMPDIR", e.WorkDir)
			return nil
		},
		Condition: func(c string) (bool, error) {
			switch c {
			case "uring":
				return uring.Err() == nil, nil
			case "rdma":
				return noRDMA == nil, nil
			case "guest":
				return fleet.InGuest(), nil
			case "rdma-built":
				return rdma.Built, nil
			case "redis-cli":
				return redis == nil, nil
			case "goycsb":
				return goycsb == nil, nil
			case "openssl":
				_, err := exec.LookPath("openssl")
				return err == nil, nil
			}
			return false, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":        code,
			"rows":        rows,
			"sliced":      sliced,
			"listens":     listens,
			"certificate": certificate,
			"hostile":     hostile,
			"shows":       shows,
		},
	})
}

// code N COMMAND…: the command ends with exit code N, and prints one line on stderr when N is 2.
func code(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		status, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = status.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
	if said := ts.ReadFile("stderr"); got == exit.Usage && strings.Count(said, "\n") != 1 {
		ts.Fatalf("a usage error of %d lines", strings.Count(said, "\n"))
	}
}

// rows FILE COLUMN=VALUE…: every row of a runs.csv has these values; "*" matches any value.
func rows(ts *testscript.TestScript, _ bool, args []string) {
	rs, err := report.Read(strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)
	if len(rs) == 0 {
		ts.Fatalf("%s has no rows", args[0])
	}
	for i := range rs {
		for _, a := range args[1:] {
			name, want, _ := strings.Cut(a, "=")
			got, ok := rs[i].Value(name)
			if !ok || want == "*" && got == "" || want != "*" && got != want {
				ts.Fatalf("row %d: %s is %q, want %q", i+1, name, got, want)
			}
		}
	}
}

// certificate FILE KEY: makes one for a server on this machine, that has signed itself.
func certificate(ts *testscript.TestScript, _ bool, args []string) {
	now := time.Now()
	c, key, err := access.Certificate(&x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), c, 0o644))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), key, 0o600))
}

// listens FILE VAR: waits until a server has written its greeting, and sets VAR to its address.
func listens(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		b, _ := os.ReadFile(ts.MkAbs(args[0]))
		var g server.Greeting
		if json.Unmarshal(b, &g) == nil && g.Listening != "" {
			ts.Setenv(args[1], g.Listening)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the server said nothing: %q", b)
		}
	}
}

// Every experiment of this checkout can be run: flags, values and cells are valid. It states its purpose, and its claims can be verified.
func TestExperimentsAreInOrder(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../experiments/*/experiment.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no experiments: %v", err)
	}
	artifact, err := os.ReadFile("../../docs/ARTIFACT.md")
	if err != nil {
		t.Error(err)
	}
	for _, file := range files {
		x, err := program().ReadExperiment(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if name := filepath.Base(filepath.Dir(file)); x.Name != name {
			t.Errorf("%s is named %s", file, x.Name)
		}
		if head, err := os.ReadFile(file); err != nil {
			t.Error(err)
		} else if n := regexp.MustCompile(`^#.* (\d+) cells`).FindSubmatch(head); n != nil && string(n[1]) != strconv.Itoa(len(x.Cells)) {
			t.Errorf("%s: its first line has %s cells, and it has %d", x.Name, n[1], len(x.Cells))
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "README.md"))
		if err != nil {
			t.Errorf("%s: %v", x.Name, err)
		}
		for _, says := range []string{"Question.", "What was claimed.", "How to run.", "Minutes.", "What we see"} {
			if !strings.Contains(string(text), "\n**"+says) {
				t.Errorf("%s: README.md does not say **%s**", x.Name, says)
			}
		}
		claims, err := results.ReadClaims(file, x, program().ExperimentFlags())
		if err != nil {
			t.Error(err)
		}
		comparisons := 0
		for _, c := range claims {
			if comparisons += len(c.Shown); !strings.Contains(string(artifact), "`"+c.ID+"`") {
				t.Errorf("%s: docs/ARTIFACT.md does not name the claim %s", x.Name, c.ID)
			}
		}
		if least := stats.LeastPairs(stats.Alpha / float64(max(1, comparisons))); x.Generations != 0 && x.Generations < least {
			t.Errorf("%s: %d generations, and a verdict on the %d comparisons of its claims takes %d", x.Name, x.Generations, comparisons, least)
		}
		t.Logf("%s: %d comparisons in %d generations", x.Name, comparisons, x.Generations)
		if links := strings.Contains(string(text), "](claims.yaml)"); links != (len(claims) > 0) {
			t.Errorf("%s: %d claims, and README.md links to them: %v", x.Name, len(claims), links)
		}
		t.Logf("%s: %d cells over %v, %d claims", x.Name, len(x.Cells), x.Axes, len(claims))
	}
}

// ^C ends a run at any time, also while the process moves to its CPUs.
func TestInterruptIsHeardWheneverItComes(t *testing.T) {
	t.Parallel()
	for i := range 40 {
		cmd := asKvwire(context.Background(), "bench", "--transport", "inproc", "--backend", "null", "--warmup", "0s", "--duration", "10m")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		<-time.After(time.Duration(i) * 1500 * time.Microsecond) // any moment will do
		_ = cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
			t.Fatalf("it went on after a ^C that came %v after its start", time.Duration(i)*1500*time.Microsecond)
		}
	}
}

// The first ^C ends the window early, and the row is written all the same; so does the server process.
func TestInterruptLeavesTheRow(t *testing.T) {
	testenv.NotShort(t, "TestInterruptStopsAllHosts interrupts a run, too")
	t.Parallel()
	for _, transport := range []string{"inproc", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			cmd := asKvwire(context.Background(), "bench", "--transport", transport, "--backend", "null", "--warmup", "0s", "--duration", "10m", "--json")
			var out, said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for deadline := time.Now().Add(patience); cpuTicks(cmd.Process.Pid) < 60; <-tick.C { // start and load; the start takes some 10
				if time.Now().After(deadline) {
					t.Fatalf("it does not begin: %s", &said)
				}
			}
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exit.Interrupted {
				t.Fatalf("%v, want exit code %d: %s", err, exit.Interrupted, &said)
			}
			var row report.Row
			if err := json.Unmarshal(out.Bytes(), &row); err != nil {
				t.Fatalf("%v: %q", err, &out)
			}
			if n, _ := row.Ops.Get(); n == 0 || !strings.Contains(row.InvalidReason, "interrupted") {
				t.Fatalf("%d operations, invalid: %q", n, row.InvalidReason)
			}
		})
	}
}

// cpuTicks is the CPU time of a process in hundredths of a second.
func cpuTicks(pid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}

// A command that a signal ends early has one exit code, whichever it is and whatever it has written by then.
func TestInterruptEndsEveryCommandWithOneExitCode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args  []string
		there string // a file, when the command is at work
	}{
		"run":  {[]string{"run", "x.yaml", "--output-dir", "results"}, "results/run.log"},
		"load": {[]string{"load", "--dir", "store", "--disk-engine", "pool", "--records", "100M", "--value-bytes", "100"}, "store/shard-000"},
	} {
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			t.Run(name+" "+signal.String(), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if err := os.WriteFile(filepath.Join(dir, "x.yaml"), []byte("transport: inproc\nbackend: \"null\"\nduration: 10m\nwarmup: 0s\nblocks: 1\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				cmd := asKvwire(context.Background(), c.args...)
				cmd.Dir, cmd.Env = dir, append(cmd.Env, "TMPDIR="+dir)
				var said bytes.Buffer
				cmd.Stderr = &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				defer cmd.Process.Kill()
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for deadline := time.Now().Add(patience); ; <-tick.C {
					if _, err := os.Stat(filepath.Join(dir, c.there)); err == nil {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("it does not begin: %s", &said)
					}
				}
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exit.Interrupted {
					t.Errorf("%v, want exit code %d: %s", err, exit.Interrupted, &said)
				}
			})
		}
	}
}
