package probe

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kvwire/kvwire/internal/cgroup"
	"github.com/kvwire/kvwire/internal/ring"
	"golang.org/x/sys/unix"
)

// Names of rows that other packages use.
const (
	NameUring  = "io_uring"
	NameDirect = "O_DIRECT"
	NameRDMA   = "RDMA device"
)

// Uring reports whether a ring can be made, or which of kernel, sysctl, seccomp filter and limits
// prevents it.
func Uring(h *Host) Finding {
	f := Finding{Name: NameUring}
	missing, err := h.OpenRing()
	switch {
	case err == nil && len(missing) == 0:
		f.State, f.Why = Available, fmt.Sprintf("kernel %s, all operations", orUnknown(h.release()))
		if before(h.release(), 5, 19) {
			f.Why += "; without multishot accept and cooperative task running (5.19)"
			f.Remedy = "for figures to publish, Linux 6.1 or later"
		} else if before(h.release(), 6, 1) {
			f.Why += "; without DEFER_TASKRUN (6.1)"
			f.Remedy = "for figures to publish, Linux 6.1 or later"
		}
	case err == nil:
		f.State = Unavailable
		f.Why = fmt.Sprintf("kernel %s lacks the operations %s", orUnknown(h.release()), strings.Join(missing, ", "))
		f.Remedy = "Linux 5.19 or later; 6.1 is recommended"
	case errors.Is(err, ring.ErrNotBuilt):
		f.State, f.Why, f.Remedy = Unavailable, "not in this build", "make build (build tag giouring); elsewhere: the command that kvwire version prints"
	case errors.Is(err, unix.ENOSYS):
		h.uringMissing(&f)
	case errors.Is(err, unix.EPERM):
		h.uringForbidden(&f)
	case errors.Is(err, unix.ENOMEM):
		memlock, _ := h.limit("Max locked memory")
		f.State, f.Why = Unavailable, "no memory for a ring: locked-memory limit "+size(memlock)
		f.Remedy = memlockRemedy
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		f.State, f.Why, f.Remedy = Unavailable, "no file descriptor left for a ring", "ulimit -n 20000"
	default:
		f.Why = "making a ring failed: " + err.Error()
	}
	return f
}

// uringMissing distinguishes a kernel without io_uring from a filter that returns the same error.
func (h *Host) uringMissing(f *Finding) {
	f.State = Unavailable
	release := h.release()
	switch seccomp, _ := h.status("Seccomp"); {
	case before(release, 5, 1):
		f.Why, f.Remedy = fmt.Sprintf("kernel %s is older than io_uring", release), "Linux 5.19 or later; 6.1 is recommended"
	case seccomp == "2" && !h.exists("proc/sys/kernel/io_uring_disabled"):
		f.Why = "ENOSYS: hidden by a seccomp filter, or not built into kernel " + orUnknown(release)
		f.Remedy = seccompRemedy
	case seccomp == "2":
		f.Why, f.Remedy = "hidden by a seccomp filter (ENOSYS), though the kernel has it", seccompRemedy
	default:
		f.Why = fmt.Sprintf("kernel %s was built without it", orUnknown(release))
		f.Remedy = "a kernel with CONFIG_IO_URING=y (all distributions' own have it)"
	}
}

const seccompRemedy = "docker run --security-opt seccomp=unconfined, or a profile that allows io_uring_setup, io_uring_enter and io_uring_register"

// uringForbidden distinguishes the sysctl, a seccomp filter and a security module.
func (h *Host) uringForbidden(f *Finding) {
	f.State = Unavailable
	disabled, _ := h.read("proc/sys/kernel/io_uring_disabled")
	seccomp, _ := h.status("Seccomp")
	switch {
	case disabled == "2":
		f.Why, f.Remedy = "switched off for everybody: kernel.io_uring_disabled = 2", "as root: sysctl kernel.io_uring_disabled=0"
	case disabled == "1" && !h.capable(capSysAdmin):
		group, _ := h.read("proc/sys/kernel/io_uring_group")
		f.Why = "only for root and the group " + orUnknown(group) + ": kernel.io_uring_disabled = 1"
		f.Remedy = "as root: sysctl kernel.io_uring_disabled=0, or put yourself into kernel.io_uring_group"
	case seccomp == "2":
		f.Why, f.Remedy = "forbidden by a seccomp filter (Docker's default profile does so)", seccompRemedy
	default:
		f.Why = "EPERM, though neither kernel.io_uring_disabled nor a seccomp filter explains it"
		f.Remedy = "look for a denial of a security module: journalctl -k | grep -i io_uring"
	}
}

// Memlock reports how much memory may be registered with a ring or a NIC.
func Memlock(h *Host) Finding {
	f := Finding{Name: "locked memory"}
	n, ok := h.limit("Max locked memory")
	const enough = 64 << 20 // the default cache and the connections of a quick run
	switch {
	case h.capable(capIPCLock):
		f.State, f.Why = Available, fmt.Sprintf("limit %s, which does not bind this process (CAP_IPC_LOCK)", size(n))
	case !ok:
		f.Why = "/proc/self/limits cannot be read"
	case n < enough:
		f.State = Available
		f.Why = fmt.Sprintf("limit %s: larger caches run on unregistered buffers, marked in the row", size(n))
		f.Remedy = memlockRemedy
	default:
		f.State, f.Why = Available, "limit "+size(n)
	}
	return f
}

const memlockRemedy = "ulimit -l unlimited, or LimitMEMLOCK=infinity in the service, or docker run --ulimit memlock=-1"

// Lockable reports whether so many bytes of memory may be registered with a NIC, which locks all of them. Unlike a ring's buffers
// they always count against the limit.
func Lockable(h *Host, bytes uint64) Finding {
	f := Finding{Name: "locked memory"}
	n, ok := h.limit("Max locked memory")
	switch {
	case h.capable(capIPCLock):
		f.State, f.Why = Available, fmt.Sprintf("limit %s, which does not bind this process (CAP_IPC_LOCK)", size(n))
	case !ok:
		f.Why = "/proc/self/limits cannot be read"
	case n < bytes:
		f.State, f.Why, f.Remedy = Unavailable, fmt.Sprintf("%s are to be registered and the limit is %s", size(bytes), size(n)), memlockRemedy
	default:
		f.State, f.Why = Available, "limit "+size(n)
	}
	return f
}

// Files reports how many descriptors, and so connections, a process may have.
func Files(h *Host) Finding {
	f := Finding{Name: "open files"}
	n, ok := h.limit("Max open files")
	switch {
	case !ok:
		f.Why = "/proc/self/limits cannot be read"
	case n == unlimited:
		f.State, f.Why = Available, "no limit"
	default:
		f.State, f.Why = Available, fmt.Sprintf("limit %d", n)
		if n < 4096 {
			f.Remedy = "for thousands of connections: ulimit -n 20000"
		}
	}
	return f
}

// CPUs reports how many CPUs the process may use, and whether it is pinned to fewer than the machine has.
func CPUs(h *Host) Finding {
	f := Finding{Name: "CPUs"}
	allowed, _ := h.status("Cpus_allowed_list")
	online, _ := h.read("sys/devices/system/cpu/online")
	n, ok := countCPUs(allowed)
	m, okOnline := countCPUs(online)
	if !ok || !okOnline {
		f.Why = "/proc/self/status or /sys/devices/system/cpu/online cannot be read"
		return f
	}
	f.State, f.Why = Available, fmt.Sprintf("%d of %d usable (%s)", n, m, allowed)
	switch {
	case n < 2:
		f.Why += ": client and server share one, so each waits for the other"
		f.Remedy = "two or more CPUs"
		if n < m {
			f.Remedy += ": this process is pinned (taskset, cpuset)"
		}
	case n < m:
		f.Why += ": pinned by taskset or a cpuset"
	}
	return f
}

// Quota reports whether a control group limits this process's CPU time.
func Quota(h *Host) Finding {
	f := Finding{Name: "CPU quota", State: Available, Why: "none: no control group bounds the CPU time"}
	q, ok := cgroup.Least(cgroup.Quotas(h.Root))
	if !ok {
		return f
	}
	f.Why = fmt.Sprintf("%.2f CPUs (%s): when the quota is used up, all threads are throttled for the rest of the period of %v; so far in %d of %d periods", q.CPUs, q.File, q.Period, q.Throttled, q.Periods)
	f.Remedy = "measure without a quota (docker: no --cpus; Kubernetes: no CPU limit), and keep others off with a cpuset"
	return f
}

func orUnknown(s string) string {
	if s == "" {
		return "(unknown)"
	}
	return s
}
