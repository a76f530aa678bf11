// Package cgroup reads the control groups of this process (cgroups(7)): it finds their folders, of version 1 and 2, and their quotas of CPU time. It may not
// import other packages of kvwire.
package cgroup

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Folders calls f with the folder of this process's control group for a controller, and then with the folders of its ancestors. root is the root folder. In a
// container the paths may be those of the host, so f must skip folders that do not exist.
func Folders(root fs.FS, controller string, f func(dir string, version int)) {
	b, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return // a kernel without them
	}
	for l := range strings.Lines(string(b)) {
		g := strings.SplitN(strings.TrimSpace(l), ":", 3) // number:controllers:path
		if len(g) < 3 {
			continue
		}
		mounts, version := []string{"sys/fs/cgroup"}, 2
		if g[1] != "" {
			if !slices.Contains(strings.Split(g[1], ","), controller) {
				continue
			}
			mounts, version = []string{"sys/fs/cgroup/" + g[1]}, 1
			if g[1] != controller {
				mounts = append(mounts, "sys/fs/cgroup/"+controller)
			}
		}
		for _, mount := range mounts {
			if _, err := fs.Stat(root, mount); err != nil {
				continue
			}
			for at := path.Clean("/" + g[2]); ; at = path.Dir(at) {
				f(path.Join(mount, at), version)
				if at == "/" {
					break
				}
			}
			break
		}
	}
}

// Quota is a bound on the CPU time of a control group: in each period its threads run for CPUs × Period in all, and are throttled for the rest.
type Quota struct {
	File   string // with the quota, from the root on
	CPUs   float64
	Period time.Duration

	Periods   uint64 // that have passed in which the group had something to run
	Throttled uint64 // of these, those in which it was throttled
}

// Quotas returns the quotas of this process's control groups, those of its own group first; nil if there are none.
func Quotas(root fs.FS) (all []Quota) {
	Folders(root, "cpu", func(dir string, version int) {
		var q Quota
		var quota, period string
		if version == 2 {
			q.File = path.Join(dir, "cpu.max")
			if f := strings.Fields(read(root, q.File)); len(f) == 2 {
				quota, period = f[0], f[1]
			}
		} else {
			q.File = path.Join(dir, "cpu.cfs_quota_us")
			quota, period = read(root, q.File), read(root, path.Join(dir, "cpu.cfs_period_us"))
		}
		us, err := strconv.ParseUint(quota, 10, 40) // "max" and -1 are no bound
		every, perr := strconv.ParseUint(period, 10, 40)
		if err != nil || perr != nil || us == 0 || every == 0 {
			return
		}
		q.File = "/" + q.File
		q.CPUs, q.Period = float64(us)/float64(every), time.Duration(every)*time.Microsecond
		for l := range strings.Lines(read(root, path.Join(dir, "cpu.stat"))) {
			name, value, _ := strings.Cut(strings.TrimSpace(l), " ")
			n, err := strconv.ParseUint(value, 10, 64)
			switch {
			case err != nil:
			case name == "nr_periods":
				q.Periods = n
			case name == "nr_throttled":
				q.Throttled = n
			}
		}
		all = append(all, q)
	})
	return all
}

// Least returns the quota with the fewest CPUs; ok is false if there are no quotas.
func Least(all []Quota) (q Quota, ok bool) {
	for i, o := range all {
		if i == 0 || o.CPUs < q.CPUs {
			q = o
		}
	}
	return q, len(all) > 0
}

func read(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
