package report

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/bench"
)

// together is what two hosts found, both as result does.
func together(t *testing.T, parts ...*bench.Result) *bench.Result {
	t.Helper()
	all, err := bench.Together(parts)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFillHostsAddsAndTakesTheWorstMachine(t *testing.T) {
	a, b := result(), result()
	b.Host.User, b.Host.Steal = b.Host.User+time.Second, 100*time.Millisecond
	row := Row{Transport: "tcp", Hosts: I(3)}
	FillHosts(&row, together(t, a, b), Sides{Server: server(), IdleCPUs: F(0.1)},
		[]LoadHost{{Name: "load host 1", Result: a}, {Name: "load host 2", Result: b, Beside: bench.Usage{User: 4 * time.Second}}})
	for name, want := range map[string]string{
		"ops": "400000", "ops_per_s": "40000", "conns": "8", "depth": "2", "client_threads": "4", "load_hosts": "2", "hosts": "3",
		"client_user_ns_per_op": "2000", "server_user_ns_per_op": "2500", "lat_p50_ns": "100031",
		"foreign_cpu_ratio": "0.2", // host 1: 5 s of 20, less its own one
		"steal_ratio":       "0.004739336492890996", "host_busy_ns_per_op": "", "valid": "true", "invalid_reason": "", "marks": "load host 1: foreign CPU 20 %",
	} {
		if got, _ := row.Value(name); got != want {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}
}

func TestFillHostsNamesTheHostOfAReason(t *testing.T) {
	good, bad := result(), result()
	good.Host.User, good.Host.System = 0, time.Second // nothing foreign
	bad.Host.HostTimes = good.Host.HostTimes
	bad.Host.Steal, bad.Interrupted = time.Second, true
	row := Row{}
	FillHosts(&row, together(t, good, bad), Sides{}, []LoadHost{{Name: "load host 1", Result: good}, {Name: "load host 2", Result: bad}})
	if row.Valid != B(false) || row.InvalidReason != "interrupted" || !strings.HasPrefix(row.Marks, "load host 2: steal ") || strings.Contains(row.Marks, "host 1") {
		t.Errorf("valid %s: %s", row.Valid, row.InvalidReason)
	}
	row = Row{}
	FillHosts(&row, together(t, bad), Sides{}, []LoadHost{{Name: "load host 1", Result: bad}})
	if row.Valid != B(false) || row.InvalidReason != "interrupted" || !strings.HasPrefix(row.Marks, "steal ") || !row.HostSoftirqNsPerOp.Known() {
		t.Errorf("a single host: valid %s: %s", row.Valid, row.InvalidReason)
	}
	row = Row{}
	FillHosts(&row, together(t, good), Sides{}, []LoadHost{{Name: "load host 1", Result: good}})
	if row.Valid != B(true) {
		t.Errorf("a single good host: %s", row.InvalidReason)
	}
}

func TestAServersHostMayBeDisturbedToo(t *testing.T) {
	times := bench.HostTimes{User: 2 * time.Second, System: 2 * time.Second, Idle: 15 * time.Second, Steal: time.Second}
	row := Row{StealRatio: F(0.001), ForeignCPURatio: F(0.3), Valid: B(true)}
	FillServerHost(&row, bench.Host{HostTimes: times, Known: true}, bench.Usage{User: time.Second})
	if row.Valid != B(true) || row.Marks != "the server's host: steal 5.0 %; the server's host: foreign CPU 15 %" || row.StealRatio != F(0.05) || row.ForeignCPURatio != F(0.3) {
		t.Errorf("valid %s: %s; steal %s, foreign CPU %s", row.Valid, row.Marks, row.StealRatio, row.ForeignCPURatio)
	}
	row = Row{Marks: "drift +9 %", Valid: B(true)}
	times.Steal = 0
	FillServerHost(&row, bench.Host{HostTimes: times, Known: true}, bench.Usage{User: time.Second})
	if row.Marks != "drift +9 %; the server's host: foreign CPU 16 %" {
		t.Error(row.Marks)
	}
	row = Row{Valid: B(true)}
	FillServerHost(&row, bench.Host{HostTimes: times, Known: true}, bench.Usage{User: 4 * time.Second})
	if FillServerHost(&row, bench.HostOver(bench.HostTimes{}, times), bench.Usage{}); row.Marks != "" || row.StealRatio != F(0) {
		t.Errorf("a quiet host, and one that is not known: %s", row.Marks)
	}
}

func TestHostsEnvironmentsComeBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if err := WriteHosts(dir, []HostEnv{{Role: "server", Env: Env{Kernel: "6.1", CPUs: 4}}}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "hosts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back []HostEnv
	if err := json.Unmarshal(b, &back); err != nil || len(back) != 1 || back[0].Role != "server" || back[0].Env.Kernel != "6.1" {
		t.Errorf("%v: %s", err, b)
	}
}

func TestARunThatAQuotaStoppedHasAMark(t *testing.T) {
	quota := func(periods, throttled uint64) bench.HostTimes {
		var h bench.HostTimes
		h.Quotas[0] = bench.QuotaTimes{Periods: periods, Throttled: throttled}
		return h
	}
	res := &bench.Result{Ops: 1000, Duration: time.Second, Host: bench.Host{HostTimes: quota(45, 36)}}
	row := Row{}
	Fill(&row, res, Sides{})
	if row.ThrottledRatio != F(0.8) || row.Valid != B(true) || !strings.Contains(row.Marks, "CPU quota: throttled in 80 % of its periods") || !row.Disturbed() {
		t.Errorf("%s: %s, %s", row.ThrottledRatio, row.Valid, row.Marks)
	}
	why := row.Marks
	if FillServerQuota(&row, bench.Host{HostTimes: quota(45, 36)}); row.Marks != why {
		t.Errorf("the same group's quota counts twice: %s", row.Marks)
	}
	row = Row{Valid: B(true)}
	if FillServerQuota(&row, bench.Host{HostTimes: quota(100, 0)}); row.Marks != "" || row.ThrottledRatio != F(0) {
		t.Errorf("%s: %s", row.ThrottledRatio, row.Marks)
	}
	if FillServerQuota(&row, bench.Host{HostTimes: quota(100, 50)}); row.ThrottledRatio != F(0.5) || row.Valid != B(true) || row.Marks != "the server's CPU quota: throttled in 50 % of its periods" {
		t.Errorf("%s: %s", row.ThrottledRatio, row.Marks)
	}
	row = Row{}
	if Fill(&row, &bench.Result{Ops: 1000, Duration: time.Second}, Sides{}); row.ThrottledRatio.Known() {
		t.Error("a share where there is no quota")
	}
}

func TestEnvironmentHasTheTightestCPUQuota(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n", "sys/fs/cgroup/a/cpu.max": "75000 50000\n"} {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if e := environment(root); e.CPUQuota != 1.5 || e.CPUQuotaPeriodNs != 50e6 {
		t.Errorf("%v CPUs in %d ns", e.CPUQuota, e.CPUQuotaPeriodNs)
	}
	if e := environment(t.TempDir()); e.CPUQuota != 0 {
		t.Errorf("%v CPUs without a quota", e.CPUQuota)
	}
}
