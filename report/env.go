package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"

	"github.com/kvwire/kvwire/internal/cgroup"
	"golang.org/x/sys/unix"
)

// Env is env.json: the environment on which results depend, besides the factors. What could not be found out is
// left out. The host's name is private, and not in it.
type Env struct {
	OS          string            `json:"os,omitempty"` // its name and version
	Kernel      string            `json:"kernel,omitempty"`
	Arch        string            `json:"arch"`
	CPUModel    string            `json:"cpu_model,omitempty"`
	CPUs        int               `json:"cpus"` // that this process may use
	Cores       int               `json:"cores,omitempty"`
	Hypervisor  *bool             `json:"hypervisor,omitempty"`
	Governor    string            `json:"cpu_governor,omitempty"`
	Turbo       *bool             `json:"turbo,omitempty"`
	SMT         *bool             `json:"smt,omitempty"`
	NUMANodes   int               `json:"numa_nodes,omitempty"`
	THP         string            `json:"thp,omitempty"`
	Clocksource string            `json:"clocksource,omitempty"`
	Mitigations map[string]string `json:"mitigations,omitempty"` // by vulnerability
	MemoryBytes uint64            `json:"memory_bytes,omitempty"`

	CPUQuota         float64 `json:"cpu_quota_cpus,omitempty"` // CPUs whose time the control groups of this process allow it; absent without a quota
	CPUQuotaPeriodNs int64   `json:"cpu_quota_period_ns,omitempty"`

	SlowStartAfterIdle *bool `json:"tcp_slow_start_after_idle,omitempty"` // a TCP connection that was idle for a retransmission timeout begins with a small window again; absent: not known

	IOUringDisabled *int    `json:"io_uring_disabled,omitempty"` // 0: allowed to all
	MemlockBytes    *uint64 `json:"memlock_bytes,omitempty"`     // soft limit; absent when unlimited
	MemlockNoLimit  bool    `json:"memlock_unlimited,omitempty"`

	GoVersion  string `json:"go_version"`
	GOMAXPROCS int    `json:"gomaxprocs,omitempty"`
	GOGC       *int   `json:"gogc,omitempty"` // percent; -1: off
	GitRev     string `json:"git_rev,omitempty"`
	GitDirty   bool   `json:"git_dirty,omitempty"`

	RDMA any `json:"rdma,omitempty"` // device, port, GID and what the queue pairs were granted; nil: no RDMA device
}

// Environment reads the environment of this process. gitRev names the commit that was built; "": what the Go tool noted in the
// binary, if it did.
func Environment(gitRev string) Env {
	e := environment("/")
	e.Arch, e.GoVersion, e.CPUs, e.GOMAXPROCS = runtime.GOARCH, runtime.Version(), runtime.NumCPU(), runtime.GOMAXPROCS(0)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		e.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil {
		if limit.Cur == unix.RLIM_INFINITY {
			e.MemlockNoLimit = true
		} else {
			e.MemlockBytes = &limit.Cur
		}
	}
	gogc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	if metrics.Read(gogc); gogc[0].Value.Kind() == metrics.KindUint64 {
		v := int(int32(min(gogc[0].Value.Uint64(), 1<<31-1)))
		if gogc[0].Value.Uint64() >= 1<<31 {
			v = -1
		}
		e.GOGC = &v
	}
	e.GitRev = gitRev
	if info, ok := debug.ReadBuildInfo(); ok && gitRev == "" {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				e.GitRev = s.Value
			case "vcs.modified":
				e.GitDirty = s.Value == "true"
			}
		}
	}
	return e
}

// environment reads the files below root. Missing files leave fields empty.
func environment(root string) (e Env) {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	flag := func(name string) *bool {
		switch read(name) {
		case "0":
			return new(false)
		case "1":
			return new(true)
		}
		return nil
	}
	for line := range strings.Lines(read("etc/os-release")) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			e.OS = strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	cpuinfo(&e, read("proc/cpuinfo"))
	e.MemoryBytes = memTotal(read("proc/meminfo"))
	const cpu = "sys/devices/system/cpu/"
	e.Governor = read(cpu + "cpu0/cpufreq/scaling_governor")
	if e.Turbo = flag(cpu + "cpufreq/boost"); e.Turbo == nil {
		if no := flag(cpu + "intel_pstate/no_turbo"); no != nil {
			e.Turbo = new(!*no)
		}
	}
	e.SMT = flag(cpu + "smt/active")
	e.THP = chosen(read("sys/kernel/mm/transparent_hugepage/enabled"))
	e.Clocksource = read("sys/devices/system/clocksource/clocksource0/current_clocksource")
	if nodes, err := filepath.Glob(filepath.Join(root, "sys/devices/system/node/node[0-9]*")); err == nil {
		e.NUMANodes = len(nodes)
	}
	if files, err := filepath.Glob(filepath.Join(root, cpu, "vulnerabilities/*")); err == nil && len(files) > 0 {
		e.Mitigations = map[string]string{}
		for _, f := range files {
			e.Mitigations[filepath.Base(f)] = read(cpu + "vulnerabilities/" + filepath.Base(f))
		}
	}
	if q, ok := cgroup.Least(cgroup.Quotas(os.DirFS(root))); ok {
		e.CPUQuota, e.CPUQuotaPeriodNs = q.CPUs, int64(q.Period)
	}
	e.SlowStartAfterIdle = flag("proc/sys/net/ipv4/tcp_slow_start_after_idle")
	if v, err := strconv.Atoi(read("proc/sys/kernel/io_uring_disabled")); err == nil {
		e.IOUringDisabled = &v
	}
	return e
}

// cpuinfo reads model, cores and hypervisor from /proc/cpuinfo. Not all architectures name them.
func cpuinfo(e *Env, text string) {
	cores := map[string]bool{}
	physical := ""
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "model name":
			e.CPUModel = value
		case "physical id":
			physical = value
		case "core id":
			cores[physical+"/"+value] = true
		case "flags":
			e.Hypervisor = new(strings.Contains(" "+value+" ", " hypervisor "))
		}
	}
	e.Cores = len(cores)
}

func memTotal(meminfo string) uint64 {
	for line := range strings.Lines(meminfo) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
			kib, err := strconv.ParseUint(f[1], 10, 44)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// chosen returns the word in brackets: "always [madvise] never".
func chosen(s string) string {
	_, s, ok := strings.Cut(s, "[")
	word, _, closed := strings.Cut(s, "]")
	if !ok || !closed {
		return ""
	}
	return word
}

// WriteFile writes env.json into a folder.
func (e Env) WriteFile(dir string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return fmt.Errorf("report: environment: %w", err)
	}
	if err := WriteFile(filepath.Join(dir, "env.json"), b.Bytes()); err != nil {
		return fmt.Errorf("report: environment: %w", err)
	}
	return nil
}
