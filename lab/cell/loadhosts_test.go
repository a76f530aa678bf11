package cell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
)

// script writes a shell script that stands in for a launcher, which ignores its arguments, and gives the command.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "launcher.sh")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "sh " + name
}

// settings are those of a run with these launchers.
func settings(t *testing.T, l fleet.Launchers) *Settings {
	t.Helper()
	f := &Settings{Values: factor.NewValues(), Given: func(string) bool { return false }, Launch: l}
	f.Store.Backend = "null"
	f.Program = &Program{Version: "v", Network: func(name string) (*server.Network, error) { return &server.Network{Name: name}, nil }}
	return f
}

// says is a shell line that prints the greeting of this version, and another that prints that the load host is ready.
func says(t *testing.T) (greets, isReady string) {
	t.Helper()
	b, err := json.Marshal(fleet.HostInfo{Kvwire: "v", Machine: "m"})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("echo '%s'\n", b), `echo '{"ready":{"flags":{"backend":"null"}}}'` + "\n"
}

// A load host that hangs ends the run with an error that has its name and its last line. Its process is ended, whether it reacts to the end of its input or not.
func TestALoadHostThatHangsIsNamedAndEnded(t *testing.T) {
	const silent = "no line on standard output within"
	greets, isReady := says(t)
	for name, c := range map[string]struct{ then, want string }{
		"before it is ready":             {"echo 'kvwire: waiting for a lock' >&2\nwhile read x; do :; done", silent},
		"in the run":                     {isReady + "while read x; do :; done", silent},
		"and ignores its end":            {isReady + "exec sleep 1000", silent},
		"and replies to another command": {isReady + "read go; echo '{\"loaded\":true}'; while read x; do :; done", "unexpected reply, and not "},
		"and replies with garbage":       {isReady + "read go; echo gibberish; while read x; do :; done", "which is not a message of kvwire"},
		"and ends":                       {isReady + "read go; echo 'no more' >&2; exit 5", "ended: exit status 5; its last line of standard error: no more"},
		"and sends a wrong result":       {isReady + "read go; echo '{\"found\":{\"result\":{}}}'; while read x; do :; done", "decode a result"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			launcher := script(t, greets+c.then)
			f := settings(t, fleet.Launchers{Server: "env", Clients: []string{launcher}, Addr: "127.0.0.1"})
			spec, err := f.check()
			if err != nil {
				t.Fatal(err)
			}
			s := &loadHosts{f: f, silence: fleet.Patience, hosts: make([]*loadHost, 1)}
			if c.want == silent {
				s.silence = 300 * time.Millisecond // too short for a slow machine is what is to be seen anyway
			}
			err = s.start(context.Background(), "127.0.0.1:1")
			var pid int
			if err == nil {
				pid = s.hosts[0].Pid()
				if _, err = s.window(context.Background(), spec, func(bench.Progress) {}); err == nil {
					t.Error("it gave a result")
				}
				_ = s.close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "load host 1 (behind "+launcher+")") {
				t.Errorf("%v", err)
			}
			if pid != 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				t.Errorf("process %d is left", pid)
			}
		})
	}
}

// ^C before the hosts are there ends the waiting, and them.
func TestInterruptWhileHostsStart(t *testing.T) {
	f := settings(t, fleet.Launchers{Clients: []string{script(t, "echo up >&2; exec sleep 1000")}, Addr: "127.0.0.1"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := startLoadHosts(ctx, f, "127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Hosts are distinguished by their kernels, not by their number.
func TestPlacesCountMachines(t *testing.T) {
	host := func(machine, kernel string) fleet.HostInfo {
		w := fleet.HostInfo{Machine: machine}
		w.Env.Kernel = kernel
		return w
	}
	for name, c := range map[string]struct {
		addr                  string
		server                fleet.HostInfo
		loads                 []fleet.HostInfo
		hosts, device, kernel string
		apart                 bool
	}{
		"all on one":           {"127.0.0.1", host("a", "6.1"), []fleet.HostInfo{host("a", "6.1"), host("a", "6.1")}, "1", "loopback", "6.1", false},
		"namespaces of one":    {"10.0.0.1", host("a", "6.1"), []fleet.HostInfo{host("a", "6.1")}, "1", "", "6.1", false},
		"each on its own":      {"10.0.0.1", host("a", "6.1"), []fleet.HostInfo{host("b", "6.18"), host("c", "6.1")}, "3", "", "6.1, 6.18", true},
		"a load on the server": {"10.0.0.1", host("a", "6.1"), []fleet.HostInfo{host("b", "6.1"), host("a", "6.1")}, "2", "", "6.1", false},
		"one is not known":     {"10.0.0.1", host("a", "6.1"), []fleet.HostInfo{host("", "6.1")}, "", "", "6.1", false},
	} {
		f := settings(t, fleet.Launchers{Server: "env", Clients: []string{"env"}, Addr: c.addr})
		s := &Session{f: f, child: &fleet.Server{Process: &fleet.Process{Host: c.server}}, hosts: &loadHosts{f: f}}
		for _, w := range c.loads {
			s.hosts.hosts = append(s.hosts.hosts, &loadHost{Process: &fleet.Process{Host: w}})
		}
		r := f.clientRow()
		s.fillHosts(r)
		if r.Hosts.String() != c.hosts || r.Device != c.device || r.Kernel != c.kernel || s.serverApart() != c.apart {
			t.Errorf("%s: hosts %s, device %q, kernel %q, apart %v", name, r.Hosts, r.Device, r.Kernel, s.serverApart())
		}
	}
}

// A port counts once, however many load processes use it.
func TestPortsOfLoadHostsAddUp(t *testing.T) {
	port := func(machine, device string, n uint64) *loadHost {
		p := &rdmaPort{Before: map[string]uint64{"hw_counters/rcvd_rnr_err": 10}, After: map[string]uint64{"hw_counters/rcvd_rnr_err": 10 + n}}
		p.Choice.Device, p.Choice.Provider = device, "mlx5"
		return &loadHost{Process: &fleet.Process{Host: fleet.HostInfo{Machine: machine}}, port: p}
	}
	s := &loadHosts{hosts: []*loadHost{port("a", "mlx5_0", 1), port("a", "mlx5_0", 1), port("a", "mlx5_1", 2), port("b", "mlx5_0", 4), {Process: &fleet.Process{}}}}
	r := &report.Row{Hosts: report.I(3)}
	s.ports().fill(r)
	if r.RDMARnr != report.U(7) || r.RDMAProvider != "mlx5" || r.RDMADupReq.Known() {
		t.Errorf("%s times no receive was posted, provider %q", r.RDMARnr, r.RDMAProvider)
	}
	if (&loadHosts{hosts: s.hosts[4:]}).ports() != nil {
		t.Error("a port without RDMA")
	}
}

func FuzzReadCommand(f *testing.F) {
	for _, o := range []command{{Stop: true}, {Run: &bench.Spec{Mix: "a", AllThreads: 2}}, {Load: &loadCommand{Kept: true}},
		{Trace: &traceChunk{Name: "t.csv", Content: []byte("time,op,key,size\n"), End: true}}} {
		b, err := json.Marshal(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := readCommand(b)
		if err != nil {
			return
		}
		if o.Run != nil {
			_ = o.Run.Check()
		}
		if o == (command{}) {
			t.Fatal("a command without one")
		}
	})
}

func FuzzReadReply(f *testing.F) {
	for _, w := range []reply{{Loaded: true}, {Ready: &ready{granted: granted{MTU: 1024}}}, {Progress: &bench.Progress{Ops: 1}}, {Found: &portion{Result: json.RawMessage(`{"result":{}}`)}}} {
		b, err := json.Marshal(w)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var w reply
		if readReply(b, "load host 1", &w) != nil || w.Found == nil {
			return
		}
		if _, err := bench.DecodeResult(w.Found.Result, nil); err == nil && len(w.Found.Result) == 0 {
			t.Fatal("a result of nothing")
		}
	})
}
