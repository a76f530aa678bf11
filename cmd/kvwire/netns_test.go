package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/transport/access"
	"golang.org/x/sys/unix"
)

// hostsOfTest are network namespaces of a test's own: a server's, joined by veth with one of each client. The server's address is
// the same for all.
type hostsOfTest struct {
	server  string // a launcher
	clients []string
	addr    string
	names   []string // of the namespaces
}

// namespaces makes them, and removes them at the end of the test.
func namespaces(t *testing.T, clients int) *hostsOfTest {
	t.Helper()
	if os.Geteuid() != 0 {
		testenv.Need(t, "netns", errors.New("network namespaces need root"))
	}
	base := fmt.Sprintf("kvw%d", os.Getpid())
	h := &hostsOfTest{addr: "10.231.0.1"}
	try := func(args ...string) error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return err
	}
	ip := func(args ...string) {
		t.Helper()
		if err := try(args...); err != nil {
			t.Fatal(err)
		}
	}
	add := func(name string) string {
		t.Helper()
		testenv.Need(t, "netns", try("netns", "add", name))
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() }) // its veths go with it
		testenv.Need(t, "netns", try("-n", name, "link", "set", "lo", "up"))     // where / is no mount, as in a chroot, this is what fails
		h.names = append(h.names, name)
		return "ip netns exec " + name
	}
	h.server = add(base + "s")
	for i := range clients {
		name := base + "c" + strconv.Itoa(i)
		h.clients = append(h.clients, add(name))
		near, far := fmt.Sprintf("10.231.%d.1", i), fmt.Sprintf("10.231.%d.2", i)
		testenv.Need(t, "netns", try("-n", base+"s", "link", "add", "to"+strconv.Itoa(i), "type", "veth", "peer", "name", "back", "netns", name))
		ip("-n", base+"s", "addr", "add", near+"/24", "dev", "to"+strconv.Itoa(i))
		ip("-n", base+"s", "link", "set", "to"+strconv.Itoa(i), "up")
		ip("-n", name, "addr", "add", far+"/24", "dev", "back")
		ip("-n", name, "link", "set", "back", "up")
		if near != h.addr {
			ip("-n", name, "route", "add", h.addr+"/32", "via", near)
		}
	}
	t.Setenv(asProgram, "1") // what is started behind the launchers is this test's binary
	return h
}

// empty checks that no process is left in them.
func (h *hostsOfTest) empty(t *testing.T) {
	t.Helper()
	for _, name := range h.names {
		out, err := exec.Command("ip", "netns", "pids", name).CombinedOutput()
		if err != nil || len(strings.Fields(string(out))) > 0 {
			t.Errorf("processes left in %s: %s %v", name, out, err)
		}
	}
}

// args are the flags that put a run's processes there.
func (h *hostsOfTest) args() []string {
	a := []string{"--server-launch=" + h.server, "--server-addr=" + h.addr}
	for _, c := range h.clients {
		a = append(a, "--client-launch="+c)
	}
	return a
}

// measureOn runs bench's own steps in this process, so that each host's part can be seen.
func measureOn(t *testing.T, args ...string) (*cell.Measured, *report.Row) {
	t.Helper()
	f, spec := launchedFactors(t, args...)
	s, err := cell.Open(context.Background(), f.Settings)
	if err != nil {
		t.Fatal(err)
	}
	spec.Verify = factor.Keeps(s.Flags["backend"])
	m, err := s.Measure(context.Background(), spec, func(bench.Progress) {})
	if err != nil {
		t.Fatal(errors.Join(err, s.Close()))
	}
	row := s.Row(m)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return m, row
}

func TestLoadHostsInNamespacesAddUp(t *testing.T) {
	for _, transport := range []string{"tcp", "uring"} {
		for _, clients := range []int{1, 2} {
			if testing.Short() && (clients == 1 || transport != "tcp") {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", transport, clients), func(t *testing.T) {
				if transport == "uring" {
					testenv.Uring(t)
				}
				h := namespaces(t, clients)
				m, row := measureOn(t, append(h.args(), "--transport="+transport, "--backend=mem", "--mix=get=50,insert=50", "--records=5k", "--value-bytes=100",
					"--conns=2", "--depth=4", "--client-threads=2", "--loop=open", "--target-per-s=2k", "--duration=3s", "--warmup=1ms")...)
				var ops uint64
				var lats, rate float64 // an open loop has latencies of requests that belong to the window by their intended time, so not as many as operations that end in it
				for _, p := range m.Hosts {
					if p.Result.Ops == 0 || p.Result.ClientThreads != 2 || p.Result.Misses > 0 || p.Result.Errors > 0 || p.Result.VerifyFailures > 0 {
						t.Errorf("%s: %+v", p.Name, p.Result)
					}
					ops += p.Result.Ops
					lats += float64(p.Result.Lat.TotalCount())
					rate += p.Result.OpsPerS()
				}
				if len(m.Hosts) != clients || m.Result.Ops != ops || float64(m.Result.Lat.TotalCount()) != lats || lats == 0 || math.Abs(m.Result.OpsPerS()/rate-1) > 1e-9 {
					t.Errorf("%d hosts: %d operations at %v/s with %d latencies, of %d at %v/s with %v", len(m.Hosts), m.Result.Ops, m.Result.OpsPerS(), m.Result.Lat.TotalCount(), ops, rate, lats)
				}
				for name, want := range map[string]string{
					"transport": transport, "load_hosts": strconv.Itoa(clients), "client_threads": strconv.Itoa(2 * clients), "conns": strconv.Itoa(2 * clients), "depth": "4",
					"hosts":  "1", // one kernel, however many namespaces
					"device": "", "ops": strconv.FormatUint(ops, 10), "errors": "0", "misses": "0", "verify_failures": "0",
				} {
					if got, _ := row.Value(name); got != want {
						t.Errorf("%s is %q, want %q", name, got, want)
					}
				}
				if most, _ := row.MaxInflight.Get(); most < 1 || most > int64(8*clients) {
					t.Errorf("%d requests were in flight", most)
				}
				if user, _ := row.ServerUserNsPerOp.Get(); user <= 0 {
					t.Errorf("the server took %v ns per operation", user)
				}
				h.empty(t)
			})
		}
	}
}

func TestTheServerAloneInANamespace(t *testing.T) {
	h := namespaces(t, 1)
	// The client goes into the other namespace as a whole.
	words := append(strings.Fields(h.clients[0]), os.Args[0], "bench", "--server-launch="+h.server, "--server-addr="+h.addr, "--backend=null", "--operations=2k", "--warmup=0s", "--json")
	out, err := exec.Command(words[0], words[1:]...).Output()
	var row report.Row
	if err == nil {
		err = json.Unmarshal(out, &row)
	}
	if ops, _ := row.Ops.Get(); err != nil || ops == 0 || row.LoadHosts.Known() || row.Hosts != report.I(1) || row.Device != "" {
		t.Errorf("%v: %s", err, out)
	}
	h.empty(t)
}

// A host that dies once has its generation done again; dying again, it fails the variant, with its reason, and --resume does it again.
func TestAHostThatIsKilledFailsTheRun(t *testing.T) {
	testenv.NotShort(t, "generations of several seconds")
	for _, c := range []struct {
		name, command string
		at            int // which namespace
	}{{"load host 2", "loadhost", 2}, {"the server", "serve", 0}} {
		t.Run(c.name, func(t *testing.T) {
			h := namespaces(t, 2)
			dir := t.TempDir()
			file, out := filepath.Join(dir, "killed.yaml"), filepath.Join(dir, "out")
			if err := os.WriteFile(file, []byte("name: killed\ntransport: tcp\nbackend: mem\nrecords: 2k\nwarmup: 50ms\ngenerations: 1\nslice: 20ms\ntime: 4s\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			run := exec.Command(os.Args[0], append([]string{"run", file, "--output-dir=" + out}, h.args()...)...)
			var said strings.Builder
			run.Stderr = &said
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			defer run.Process.Kill()
			for range 2 {
				if _, err := atWork(h.names[2], "loadhost"); err != nil { // the generation is under way
					t.Fatal(err)
				}
				pid, err := atWork(h.names[c.at], c.command)
				if err != nil {
					t.Fatal(err)
				}
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			var status *exec.ExitError
			if err := run.Wait(); !errors.As(err, &status) || status.ExitCode() != exit.Failed {
				t.Fatalf("%v: %s", err, &said)
			}
			h.empty(t)
			row := onlyRow(t, out)
			if want := c.name + " (behind ip netns exec " + h.names[c.at] + ") ended: signal: killed"; row.Valid != report.B(false) || !strings.Contains(row.InvalidReason, want) {
				t.Errorf("valid %s, %s operations: %s", row.Valid, row.Ops, row.InvalidReason)
			}
			again, err := exec.Command(os.Args[0], "run", "--resume", out).CombinedOutput()
			if err != nil || !strings.Contains(string(again), "out has 0 of its runs") {
				t.Fatalf("%v: %s", err, again)
			}
			row = onlyRow(t, out)
			if ops, _ := row.Ops.Get(); ops == 0 || row.LoadHosts != report.I(2) || row.Errors != report.U(0) {
				t.Errorf("%d operations of %s hosts, %s errors: %s", ops, row.LoadHosts, row.Errors, again)
			}
			h.empty(t)
		})
	}
}

// onlyRow is the one row of a folder of results.
func onlyRow(t *testing.T, dir string) *report.Row {
	t.Helper()
	rows, err := report.ReadRows(filepath.Join(dir, "runs.csv"))
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	return &rows[0]
}

// atWork waits until a kvwire of that command is at work in a namespace, and gives its number.
func atWork(name, command string) (pid int, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		out, err := exec.Command("ip", "netns", "pids", name).Output()
		if err != nil {
			return 0, err
		}
		for _, word := range strings.Fields(string(out)) {
			pid, _ := strconv.Atoi(word)
			if b, _ := os.ReadFile("/proc/" + word + "/cmdline"); strings.Contains(string(b), "\x00"+command+"\x00") && cpuTicks(pid) >= 10 {
				return pid, nil
			}
		}
	}
	return 0, fmt.Errorf("no %s in %s", command, name)
}

// ^C ends all hosts in order, and what they found is written.
func TestInterruptStopsAllHosts(t *testing.T) {
	h := namespaces(t, 2)
	cmd := exec.Command(os.Args[0], append([]string{"bench", "--backend=null", "--warmup=0s", "--duration=10m", "--json"}, h.args()...)...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	for _, name := range h.names[1:] {
		if _, err := atWork(name, "loadhost"); err != nil {
			t.Fatal(err, &said)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exit.Interrupted {
		t.Fatalf("%v, want exit code %d: %s", err, exit.Interrupted, &said)
	}
	var row report.Row
	if err := json.Unmarshal([]byte(out.String()), &row); err != nil {
		t.Fatalf("%v: %q", err, &out)
	}
	if n, _ := row.Ops.Get(); n == 0 || !strings.Contains(row.InvalidReason, "interrupted") || row.LoadHosts != report.I(2) {
		t.Errorf("%d operations of %s hosts, invalid: %q", n, row.LoadHosts, row.InvalidReason)
	}
	h.empty(t)
}

// The secret that a run makes for its processes is in no argument, and a client without it cannot connect.
func TestARunsServerLetsInTheRunAlone(t *testing.T) {
	h := namespaces(t, 1)
	cmd := exec.Command(os.Args[0], append([]string{"bench", "--backend=null", "--warmup=0s", "--duration=10m", "--json"}, h.args()...)...)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	for i, command := range []string{"serve", "loadhost"} {
		pid, err := atWork(h.names[i], command)
		if err != nil {
			t.Fatal(err, &said)
		}
		proc := "/proc/" + strconv.Itoa(pid)
		env, _ := os.ReadFile(proc + "/environ")
		_, after, ok := strings.Cut(string(env), access.AuthEnv+"=run rw ")
		secret, _, _ := strings.Cut(after, "\n")
		args, _ := os.ReadFile(proc + "/cmdline")
		if !ok || len(secret) < 16 || strings.Contains(string(args), secret) {
			t.Errorf("%s: a secret of %d bytes, arguments %q", command, len(secret), args)
		}
		if i > 0 {
			continue
		}
		target := h.addr + ":" + strconv.Itoa(listening(t, proc))
		words := append(strings.Fields(h.clients[0]), os.Args[0], "bench", "--target="+target, "--backend=null", "--operations=1")
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "no access: this server requires a name and a secret") {
			t.Errorf("a stranger: %v: %s", err, out)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exit.Interrupted {
		t.Fatalf("%v, want exit code %d: %s", err, exit.Interrupted, &said)
	}
	h.empty(t)
}

// listening is the port that is listened on in the namespace of a process.
func listening(t *testing.T, proc string) int {
	t.Helper()
	b, err := os.ReadFile(proc + "/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != "0A" {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
			return int(port)
		}
	}
	t.Fatalf("nobody listens: %s", b)
	return 0
}

// launchedFactors are checked flags of bench.
func launchedFactors(t *testing.T, args ...string) (*factors, bench.Spec) {
	t.Helper()
	f := newBenchFactors()
	if err := f.parse(args, nil); err != nil {
		t.Fatal(err)
	}
	spec, err := f.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	return f, spec
}

// A link of the run's own passes its rate, is the limit where it is full, and is gone at the end.
func TestALinkOfTheRunsOwnIsTheLimit(t *testing.T) {
	namespaces(t, 1) // skips where there are none
	testenv.Need(t, "netns", tokenBucket())
	const rate = 200e6 // bits per second: less than a busy machine moves
	m, row := measureOn(t, "--link-rate=200M", "--transport=tcp", "--backend=mem", "--mix=put", "--records=16", "--value-bytes=64KiB", "--conns=1", "--depth=4", "--duration=1s", "--warmup=300ms")
	if got := 8 * m.Result.BytesPerS(); got > rate || got < 0.7*rate {
		t.Errorf("%.0f bits of values a second over a link of %.0f", got, float64(rate))
	}
	if given, _ := row.Value("link_rate"); given != "200000000" || row.InvalidReason != "" || row.LimitedBy != "network" && 8*m.Result.BytesPerS() > 0.85*rate {
		t.Errorf("limited by %q, link_rate %q, %s", row.LimitedBy, given, row.InvalidReason)
	}
	for _, side := range "sc" {
		if _, err := os.Stat(fmt.Sprintf("/run/netns/kvwlink%d%c", os.Getpid(), side)); err == nil {
			t.Errorf("the namespace of %c is left", side)
		}
	}
}

// Over a link whose packets are frames, and over one that loses some of them, each request is answered, and the row has what was sent again.
func TestDatagramsOverALinkOfTheRunsOwn(t *testing.T) {
	namespaces(t, 1) // skips where there are none
	testenv.Need(t, "netns", tokenBucket())
	for name, args := range map[string][]string{"frames": nil, "loss": {"--link-loss=5%"}} {
		t.Run(name, func(t *testing.T) {
			if name == "loss" {
				testenv.Need(t, "netem", qdisc("netem", "loss", "random", "5%"))
			}
			_, row := measureOn(t, append(args, "--link-rate=1G", "--link-frames", "--transport=udp", "--backend=mem", "--mix=a", "--records=100", "--value-bytes=20k", "--conns=2", "--depth=4",
				"--duration=500ms", "--warmup=100ms")...)
			again, _ := row.UDPRetransmissionsPerOp.Get()
			if errs, _ := row.Errors.Get(); errs > 0 || row.InvalidReason != "" || name == "loss" && again == 0 {
				t.Errorf("%d errors, %v retransmissions per operation, %s", errs, again, row.InvalidReason)
			}
			for column, want := range map[string]string{"link_frames": "true", "link_loss": map[string]string{"frames": "0", "loss": "0.05"}[name], "verify_failures": "0"} {
				if got, _ := row.Value(column); got != want {
					t.Errorf("%s is %q, want %q", column, got, want)
				}
			}
		})
	}
}

// tokenBucket returns the reason why this kernel has no TBF.
func tokenBucket() error { return qdisc("tbf", "rate", "1gbit", "burst", "128kb", "limit", "1mb") }

// qdisc returns the reason why this kernel has no such queueing discipline.
func qdisc(what ...string) error {
	name := fmt.Sprintf("kvwtbf%d", os.Getpid())
	defer func() { _ = exec.Command("ip", "netns", "del", name).Run() }()
	for _, args := range [][]string{{"ip", "netns", "add", name}, {"ip", "-n", name, "link", "add", "near", "type", "veth", "peer", "name", "far"},
		append([]string{"tc", "-n", name, "qdisc", "add", "dev", "near", "root"}, what...)} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}
