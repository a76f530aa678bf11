package cgroup

import (
	"slices"
	"testing"
	"testing/fstest"
	"time"
)

// tree is a root folder with these files.
func tree(files ...string) fstest.MapFS {
	t := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		t[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return t
}

func TestQuotasOfBothVersions(t *testing.T) {
	const cg = "sys/fs/cgroup/"
	for name, c := range map[string]struct {
		root fstest.MapFS
		want []Quota
	}{
		"no control groups": {tree("proc/stat", ""), nil},
		"no quota":          {tree("proc/self/cgroup", "0::/a\n", cg+"a/cpu.max", "max 100000\n", cg+"a/cpu.stat", "nr_periods 5\n"), nil},
		"version 2, own and above": {tree("proc/self/cgroup", "0::/a/b\n",
			cg+"a/b/cpu.max", "50000 100000\n", cg+"a/b/cpu.stat", "usage_usec 7\nnr_periods 45\nnr_throttled 36\nthrottled_usec 9\n",
			cg+"a/cpu.max", "150000 100000\n", cg+"a/cpu.stat", "nr_periods 40\nnr_throttled 1\n"),
			[]Quota{{"/" + cg + "a/b/cpu.max", 0.5, 100 * time.Millisecond, 45, 36}, {"/" + cg + "a/cpu.max", 1.5, 100 * time.Millisecond, 40, 1}}},
		"version 2, in a container whose path is the host's": {tree("proc/self/cgroup", "0::/docker/123\n", cg+"cpu.max", "10000 20000\n"),
			[]Quota{{"/" + cg + "cpu.max", 0.5, 20 * time.Millisecond, 0, 0}}},
		"version 1": {tree("proc/self/cgroup", "5:memory:/m\n4:cpu,cpuacct:/x\n0::/\n",
			cg+"cpu,cpuacct/x/cpu.cfs_quota_us", "200000\n", cg+"cpu,cpuacct/x/cpu.cfs_period_us", "100000\n", cg+"cpu,cpuacct/x/cpu.stat", "nr_periods 9\nnr_throttled 2\nthrottled_time 1\n",
			cg+"cpu,cpuacct/cpu.cfs_quota_us", "-1\n", cg+"cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
			[]Quota{{"/" + cg + "cpu,cpuacct/x/cpu.cfs_quota_us", 2, 100 * time.Millisecond, 9, 2}}},
		"version 1, mounted by the controller's name": {tree("proc/self/cgroup", "4:cpuacct,cpu:/\n", cg+"cpu/cpu.cfs_quota_us", "100000", cg+"cpu/cpu.cfs_period_us", "100000"),
			[]Quota{{"/" + cg + "cpu/cpu.cfs_quota_us", 1, 100 * time.Millisecond, 0, 0}}},
		"nonsense": {tree("proc/self/cgroup", "x\n0::/../..\n", cg+"cpu.max", "0 0\n"), nil},
	} {
		if got := Quotas(c.root); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestLeastIsTheTightest(t *testing.T) {
	if _, ok := Least(nil); ok {
		t.Error("a quota of none")
	}
	if q, ok := Least([]Quota{{CPUs: 2}, {CPUs: 0.5}, {CPUs: 1}}); !ok || q.CPUs != 0.5 {
		t.Errorf("%+v", q)
	}
}
