package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestEnvironmentOfACannedMachine(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/os-release":                                                  "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"proc/cpuinfo":                                                    "processor\t: 0\nmodel name\t: Some CPU @ 2.50GHz\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu hypervisor sse\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 2.50GHz\nphysical id\t: 0\ncore id\t\t: 0\n\nprocessor\t: 2\nphysical id\t: 1\ncore id\t\t: 0\n",
		"proc/meminfo":                                                    "MemTotal:        8000000 kB\nMemFree: 5 kB\n",
		"proc/sys/kernel/io_uring_disabled":                               "2\n",
		"proc/sys/net/ipv4/tcp_slow_start_after_idle":                     "1\n",
		"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor":            "performance\n",
		"sys/devices/system/cpu/intel_pstate/no_turbo":                    "1\n",
		"sys/devices/system/cpu/smt/active":                               "1\n",
		"sys/devices/system/cpu/vulnerabilities/meltdown":                 "Mitigation: PTI\n",
		"sys/kernel/mm/transparent_hugepage/enabled":                      "always [madvise] never\n",
		"sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
		"sys/devices/system/node/node0/x":                                 "",
		"sys/devices/system/node/node1/x":                                 "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(environment(root))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"os":"Debian GNU/Linux 12 (bookworm)","arch":"","cpu_model":"Some CPU @ 2.50GHz","cpus":0,"cores":2,"hypervisor":true,` +
		`"cpu_governor":"performance","turbo":false,"smt":true,"numa_nodes":2,"thp":"madvise","clocksource":"tsc","mitigations":{"meltdown":"Mitigation: PTI"},` +
		`"memory_bytes":8192000000,"tcp_slow_start_after_idle":true,"io_uring_disabled":2,"go_version":""}`
	if string(b) != want {
		t.Errorf("%s\nexpected\n%s", b, want)
	}
	if b, _ = json.Marshal(environment(t.TempDir())); string(b) != `{"arch":"","cpus":0,"go_version":""}` {
		t.Errorf("a machine without these files: %s", b)
	}
}

func TestEnvironmentOfThisMachine(t *testing.T) {
	dir := t.TempDir()
	e := Environment("abc123")
	e.RDMA = map[string]string{"device": "rxe0"}
	if err := e.WriteFile(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "env.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Env
	if err := json.Unmarshal(b, &back); err != nil || back.Kernel == "" || back.GitRev != "abc123" || back.GOMAXPROCS < 1 || back.GOGC == nil ||
		!reflect.DeepEqual(back.RDMA, any(map[string]any{"device": "rxe0"})) {
		t.Fatalf("%v\n%s", err, b)
	}
}
