package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/testenv"
	"golang.org/x/sys/unix"
)

// tree makes a root folder of files; a value that begins with "->" is a symbolic link.
func tree(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		if target, ok := strings.CutPrefix(files[i+1], "->"); ok {
			m[files[i]] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
		} else {
			m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
		}
	}
	return m
}

// host is a machine on which everything works, except what the test changes.
func host(files ...string) *Host {
	return &Host{
		Root:       tree(files...),
		OpenRing:   func() ([]string, error) { return nil, nil },
		OpenAIO:    func() error { return nil },
		OpenSQPoll: func() error { return nil },
		Sockets:    func() ([]string, error) { return nil, nil },
		IOPoll:     func(string) (Polled, error) { return Polled{Queue: "sys/dev/block/8:0/queue"}, nil },
		Access:     func(string) error { return nil },
		Direct:     func(string) (Direct, error) { return Direct{FileSystem: "ext4", FreeBytes: 3 << 30}, nil },
	}
}

func check(t *testing.T, f Finding, state State, why, remedy string) {
	t.Helper()
	if f.State != state || !strings.Contains(f.Why, why) || !strings.Contains(f.Remedy, remedy) {
		t.Errorf("got %s: %s -> %s\nwant %s: …%s… -> …%s…", f.State, f.Why, f.Remedy, state, why, remedy)
	}
	if f.State == Unavailable && f.Remedy == "" {
		t.Errorf("%s: a conclusive no without a remedy: %s", f.Name, f.Why)
	}
	if strings.ContainsAny(f.Why+f.Remedy, "\n\t") {
		t.Errorf("%s: more than one line: %q %q", f.Name, f.Why, f.Remedy)
	}
}

const (
	osrelease = "proc/sys/kernel/osrelease"
	disabled  = "proc/sys/kernel/io_uring_disabled"
	status    = "proc/self/status"
	limits    = "proc/self/limits"
)

func TestUringNamesTheObstacle(t *testing.T) {
	wrapped := func(err error) error { return fmt.Errorf("ring: io_uring_setup: %w", err) }
	for _, c := range []struct {
		name        string
		err         error
		missing     []string
		files       []string
		state       State
		why, remedy string
	}{
		{"works", nil, nil, []string{osrelease, "6.1.0-37-amd64\n"}, Available, "kernel 6.1.0-37-amd64, all operations", ""},
		{"before multishot accept", nil, nil, []string{osrelease, "5.15.0-100-generic\n"}, Available, "without multishot accept", "6.1"},
		{"before DEFER_TASKRUN", nil, nil, []string{osrelease, "6.0.1\n"}, Available, "DEFER_TASKRUN", "6.1"},
		{"operations missing", nil, []string{"send", "recv"}, []string{osrelease, "5.4.0\n"}, Unavailable, "5.4.0 lacks the operations send, recv", "5.19"},
		{"not built", ring.ErrNotBuilt, nil, nil, Unavailable, "not in this build", "make build"},
		{"old kernel", wrapped(unix.ENOSYS), nil, []string{osrelease, "4.19.0-amd64"}, Unavailable, "4.19.0-amd64 is older", "5.19"},
		{"not in the kernel", wrapped(unix.ENOSYS), nil, []string{osrelease, "6.1.0", status, "Seccomp:\t0\n"}, Unavailable, "built without it", "CONFIG_IO_URING"},
		{"hidden by seccomp", wrapped(unix.ENOSYS), nil, []string{osrelease, "6.6.0", status, "Seccomp:\t2\n", disabled, "0\n"}, Unavailable, "hidden by a seccomp filter", "seccomp=unconfined"},
		{"perhaps hidden by seccomp", wrapped(unix.ENOSYS), nil, []string{osrelease, "6.1.0", status, "Seccomp:\t2\n"}, Unavailable, "or not built into kernel 6.1.0", "seccomp=unconfined"},
		{"sysctl 2", wrapped(unix.EPERM), nil, []string{disabled, "2\n"}, Unavailable, "kernel.io_uring_disabled = 2", "sysctl kernel.io_uring_disabled=0"},
		{"sysctl 1", wrapped(unix.EPERM), nil, []string{disabled, "1\n", status, "CapEff:\t0000000000000000\n"}, Unavailable, "kernel.io_uring_disabled = 1", "kernel.io_uring_group"},
		{"seccomp", wrapped(unix.EPERM), nil, []string{disabled, "0\n", status, "Seccomp:\t2\n"}, Unavailable, "Docker's default profile", "seccomp=unconfined"},
		{"security module", wrapped(unix.EPERM), nil, []string{disabled, "0\n", status, "Seccomp:\t0\n"}, Unavailable, "neither", "journalctl"},
		{"memlock", wrapped(unix.ENOMEM), nil, []string{limits, "Max locked memory         65536                65536                bytes     \n"}, Unavailable, "locked-memory limit 64KiB", "ulimit -l"},
		{"descriptors", wrapped(unix.EMFILE), nil, nil, Unavailable, "no file descriptor", "ulimit -n"},
		{"something else", wrapped(unix.EIO), nil, nil, Unknown, "input/output error", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host(c.files...)
			h.OpenRing = func() ([]string, error) { return c.missing, c.err }
			check(t, Uring(h), c.state, c.why, c.remedy)
		})
	}
}

func TestMemlockReportsALimitThatBinds(t *testing.T) {
	const line = "Max locked memory         8388608              8388608              bytes     \n"
	check(t, Memlock(host(limits, line, status, "CapEff:\t0000000000000000\n")), Available, "limit 8MiB: larger caches", "ulimit -l")
	check(t, Memlock(host(limits, line, status, "CapEff:\t000001ffffffffff\n")), Available, "CAP_IPC_LOCK", "")
	check(t, Memlock(host(limits, "Max locked memory         unlimited            unlimited            bytes\n")), Available, "limit unlimited", "")
	check(t, Memlock(host()), Unknown, "cannot be read", "")
}

func TestLockableRefusesMoreThanTheLimit(t *testing.T) {
	const line = "Max locked memory         65536                65536                bytes     \n"
	check(t, Lockable(host(limits, line, status, "CapEff:\t0000000000000000\n"), 64<<20), Unavailable, "64MiB are to be registered and the limit is 64KiB", "ulimit -l unlimited")
	check(t, Lockable(host(limits, line, status, "CapEff:\t0000000000000000\n"), 64<<10), Available, "limit 64KiB", "")
	check(t, Lockable(host(limits, line, status, "CapEff:\t000001ffffffffff\n"), 64<<20), Available, "CAP_IPC_LOCK", "")
	check(t, Lockable(host(limits, "Max locked memory         unlimited            unlimited            bytes\n"), 1<<40), Available, "unlimited", "")
	check(t, Lockable(host(), 1), Unknown, "cannot be read", "")
}

func TestPinnableLeavesAQuarterOfTheMemory(t *testing.T) {
	const mem, two = "proc/meminfo", "MemTotal:       2097152 kB\n"
	const noLimit = "Max locked memory         unlimited            unlimited            bytes\n"
	const gib = "Max locked memory         1073741824           1073741824           bytes\n"
	const bound, free = "CapEff:\t0000000000000000\n", "CapEff:\t000001ffffffffff\n"
	check(t, Pinnable(host(limits, noLimit, mem, two), 48<<20, 176<<20), Available, "limit unlimited; of 2GiB of memory (this machine)", "")
	check(t, Pinnable(host(limits, gib, status, free, mem, two), 1<<30, 3<<29), Available, "CAP_IPC_LOCK", "")
	check(t, Pinnable(host(limits, gib, status, free, mem, two), 2304<<20, 2500<<20), Unavailable, "2.25GiB are to be pinned of 2GiB of memory (this machine); a quarter must stay free for other uses", "fewer loops")
	check(t, Pinnable(host(limits, noLimit, mem, two), 1<<30, 1600<<20), Available, "of 2GiB of memory", "the kernel may end the process: lower --max-conns")
	check(t, Pinnable(host(limits, gib, status, bound, mem, two), 2<<30, 2<<30), Unavailable, "2GiB are to be registered and the limit is 1GiB", "ulimit -l unlimited")
	check(t, Pinnable(host(limits, gib, status, bound, mem, two), 1<<30, 1400<<20), Available, "limit 1GiB", "some connections will be refused: 1.367GiB are to be registered")
	check(t, Pinnable(host(mem, two), 1<<30, 1<<30), Unknown, "cannot be read", "")
	check(t, Pinnable(host(limits, noLimit), 1<<50, 1<<50), Available, "limit unlimited", "") // memory is not known
}

func TestFilesReportsTheLimit(t *testing.T) {
	check(t, Files(host(limits, "Max open files            1024                 524288               files     \n")), Available, "limit 1024", "ulimit -n")
	check(t, Files(host(limits, "Max open files            20000                20000                files     \n")), Available, "limit 20000", "")
	check(t, Files(host(limits, "Max open files\n")), Unknown, "cannot be read", "")
}

func TestCPUsDistinguishesPinnedFromFew(t *testing.T) {
	const online = "sys/devices/system/cpu/online"
	check(t, CPUs(host(status, "Cpus_allowed_list:\t0-3\n", online, "0-3\n")), Available, "4 of 4 usable (0-3)", "")
	check(t, CPUs(host(status, "Cpus_allowed_list:\t2,5-6\n", online, "0-7\n")), Available, "3 of 8 usable (2,5-6): pinned", "")
	check(t, CPUs(host(status, "Cpus_allowed_list:\t1\n", online, "0-7\n")), Available, "share one", "pinned")
	check(t, CPUs(host(status, "Cpus_allowed_list:\t0\n", online, "0\n")), Available, "share one", "two or more")
	check(t, CPUs(host(status, "Cpus_allowed_list:\t3-1\n", online, "0\n")), Unknown, "cannot be read", "")
}

func TestDirectIODistinguishesRefusalFromMistake(t *testing.T) {
	for _, c := range []struct {
		name        string
		direct      Direct
		err         error
		state       State
		why, remedy string
		engine      State
	}{
		{"works", Direct{FileSystem: "ext4", FreeBytes: 5 << 30}, nil, Available, "/data (ext4, 5GiB free)", "", Available},
		{"tmpfs", Direct{FileSystem: "tmpfs"}, nil, Unavailable, "memory, not a disk", "--dir on a disk", Available},
		{"refused", Direct{FileSystem: "zfs", Refused: true}, nil, Unavailable, "page cache", "ext4 or xfs", Available},
		{"no folder", Direct{}, &fs.PathError{Op: "statfs", Path: "/data", Err: unix.ENOENT}, Unavailable, "no folder /data", "mkdir -p /data", Unavailable},
		{"not ours", Direct{}, &fs.PathError{Op: "open", Path: "/data", Err: unix.EACCES}, Unavailable, "cannot be written", "--dir", Unavailable},
		{"read-only", Direct{}, &fs.PathError{Op: "open", Path: "/data", Err: unix.EROFS}, Unavailable, "cannot be written", "--dir", Unavailable},
		{"full", Direct{}, &fs.PathError{Op: "write", Path: "/data", Err: unix.ENOSPC}, Unavailable, "no space", "free some", Unavailable},
		{"something else", Direct{}, &fs.PathError{Op: "open", Path: "/data", Err: unix.EIO}, Unknown, "input/output", "", Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host()
			h.Direct = func(string) (Direct, error) { return c.direct, c.err }
			check(t, DirectIO(h, "/data"), c.state, c.why, c.remedy)
			if e, _ := h.Doctor([]string{"/data"}, nil).Get("disk engine uring"); e.State != c.engine {
				t.Errorf("disk engine is %s, want %s", e.State, c.engine)
			}
		})
	}
}

func TestRDMANamesWhatIsMissing(t *testing.T) {
	const (
		dep    = "lib/modules/6.1.0/modules.dep"
		rxe    = "kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz\n"
		uverbs = "/dev/infiniband/uverbs0"
		device = "sys/devices/virtual/infiniband/rxe0/"
	)
	class := []string{"sys/class/infiniband/rxe0", "->../../devices/virtual/infiniband/rxe0", device + "node_type", "1: CA\n"}
	with := func(of []string, files ...string) []string { return append(slices.Clone(of), files...) }
	known := with(class, "sys/class/infiniband_verbs/uverbs0/ibdev", "rxe0\n", "sys/class/infiniband_verbs/uverbs1/ibdev", "rxe1\n")
	soft := with(known, "dev/infiniband/uverbs0", "")
	for _, c := range []struct {
		name        string
		access      error
		files       []string
		state       State
		why, remedy string
	}{
		{"kernel without modules", nil, []string{osrelease, "6.18.0\n"}, Unavailable, "no /lib/modules/6.18.0", "linux-image-amd64"},
		{"kernel without rxe", nil, []string{osrelease, "6.1.0\n", dep, "kernel/fs/ext4/ext4.ko:\n"}, Unavailable, "has no module rdma_rxe", "make vm, which runs it in a guest; or Ubuntu: apt install linux-modules-extra-6.1.0"},
		{"modules that cannot be listed", nil, []string{osrelease, "6.1.0\n", "lib/modules/6.1.0/kernel/x", ""}, Unavailable, "cannot be listed", "modprobe rdma_rxe"},
		{"rxe to be loaded", nil, []string{osrelease, "6.1.0\n", dep, rxe, "sys/class/net/lo/address", "", "sys/class/net/enp1s0/address", ""}, Unavailable, "can make one", "modprobe rdma_rxe && rdma link add rxe0 type rxe netdev enp1s0"},
		{"rxe loaded, no link", nil, []string{osrelease, "6.1.0\n", "sys/module/rdma_rxe/refcnt", "0\n"}, Unavailable, "though rdma_rxe is loaded", "root: rdma link add rxe0 type rxe netdev eth0"},
		{"being removed", nil, with(class, "sys/class/infiniband_verbs/abi_version", "6\n"), Unavailable, "rxe0 is being removed: a process that has it open", "rdma resource show qp"},
		{"being removed, beside one that stays", unix.EACCES, with(soft, "sys/class/infiniband/rxe9", "->../../devices/virtual/infiniband/rxe9", "sys/devices/virtual/infiniband/rxe9/node_type", "1: CA\n"), Unavailable, "no permission for " + uverbs, "chmod"},
		{"no uverbs module", nil, class, Unavailable, "ib_uverbs is not loaded", "modprobe ib_uverbs"},
		{"device file not in the container", nil, known, Unavailable, "no /dev/infiniband/uverbs*", "--device /dev/infiniband"},
		{"another device's file", nil, with(known, "dev/infiniband/uverbs1", ""), Unavailable, "no /dev/infiniband/uverbs*", "--device /dev/infiniband"},
		{"no permission", unix.EACCES, soft, Unavailable, "no permission for " + uverbs, "chmod a+rw " + uverbs},
		{"device rules of a container", unix.EPERM, soft, Unavailable, "no permission for " + uverbs, "--device " + uverbs},
		{"port down", nil, with(soft, device+"ports/1/state", "1: DOWN\n"), Unavailable, "rxe0: port 1 is 1: DOWN", "ip link set"},
		{"software device", nil, with(soft, device+"ports/1/state", "4: ACTIVE\n"), Available, "rxe0 is software", ""},
		{"hardware", nil, []string{"dev/infiniband/uverbs0", "", "sys/class/infiniband_verbs/uverbs0/ibdev", "mlx5_0\n",
			"sys/class/infiniband/mlx5_0", "->../../devices/pci0000:00/0000:05:00.0/infiniband/mlx5_0"}, Available, "mlx5_0 (/dev/infiniband/uverbs0)", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host(c.files...)
			h.Access = func(string) error { return c.access }
			f := RDMA(h)
			check(t, f, c.state, c.why, c.remedy)
			if (f.Err() == nil) != (f.State == Available) {
				t.Errorf("Err is %v for %s", f.Err(), f.State)
			}
			if c.name == "hardware" && strings.Contains(f.Why, "software") {
				t.Errorf("hardware is called software: %s", f.Why)
			}
		})
	}
}

func TestModuleLoadedBuiltInAndLoadable(t *testing.T) {
	const dir = "lib/modules/6.1.0/"
	check(t, Module(host("sys/module/ib_uverbs/refcnt", "0"), "ib_uverbs"), Available, "loaded", "")
	check(t, Module(host(osrelease, "6.1.0", dir+"modules.builtin", "kernel/drivers/infiniband/core/ib_uverbs.ko\n"), "ib_uverbs"), Available, "can be loaded", "")
	check(t, Module(host(osrelease, "6.1.0", dir+"modules.dep", "kernel/x/ib-uverbs.ko.zst:\n"), "ib_uverbs"), Available, "can be loaded", "")
	check(t, Module(host(osrelease, "6.1.0", dir+"modules.dep", "kernel/x/ib_uverbs_other.ko:\n"), "ib_uverbs"), Unavailable, "no module ib_uverbs", "linux-modules-extra")
	check(t, Module(host(), "ib_uverbs"), Unknown, "cannot be listed", "")
}

func TestNetNamespaceComparesOwnWithFirst(t *testing.T) {
	check(t, NetNamespace(host("proc/self/ns/net", "->net:[1]", "proc/1/ns/net", "->net:[1]")), Available, "that of process 1", "")
	check(t, NetNamespace(host("proc/self/ns/net", "->net:[2]", "proc/1/ns/net", "->net:[1]")), Available, "net:[2], process 1 has net:[1]", "--network host")
	check(t, NetNamespace(host("proc/self/ns/net", "->net:[2]")), Available, "cannot be read", "")
	check(t, NetNamespace(host()), Unknown, "cannot be read", "")
}

func TestDoctorShowsTheFindingsOfATransport(t *testing.T) {
	refusal := Finding{Name: "rdma", State: Unavailable, Why: "not in this version", Remedy: "wait"}.Err()
	r := host(osrelease, "6.1.0").Doctor([]string{"/data"}, map[string]error{"rdma": refusal, "tcp": errors.New("no sockets")})
	for _, c := range []struct {
		name        string
		state       State
		why, remedy string
	}{
		{"transport inproc", Available, "", ""},
		{"transport tcp", Unavailable, "no sockets", ""},
		{"transport uring", Available, "", ""},
		{"transport rdma", Unavailable, "not in this version", "wait"},
		{"disk engine uring", Available, "", ""},
	} {
		f, ok := r.Get(c.name)
		if !ok || f.State != c.state || !strings.Contains(f.Why, c.why) || f.Remedy != c.remedy {
			t.Errorf("%s: %+v (there: %v)", c.name, f, ok)
		}
	}
	if _, ok := r.Get("transport pigeon"); ok {
		t.Error("found a row that is not there")
	}
}

func TestReportPrintsAlignedTextAndJSON(t *testing.T) {
	r := Report{
		{Name: "io_uring", State: Available, Why: "kernel 6.1"},
		{Name: "RDMA device", State: Unavailable, Why: "none", Remedy: "modprobe rdma_rxe && x"},
		{Name: "limit", State: Unknown, Why: "cannot be read"},
	}
	var text, js bytes.Buffer
	if err := errors.Join(r.WriteText(&text), r.WriteJSON(&js)); err != nil {
		t.Fatal(err)
	}
	const want = `io_uring     available   kernel 6.1
RDMA device  no          none
                         -> modprobe rdma_rxe && x
limit        don't know  cannot be read
`
	if text.String() != want {
		t.Errorf("text:\n%s", text.String())
	}
	var back []map[string]string
	if err := json.Unmarshal(js.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if len(back) != 3 || back[1]["state"] != "unavailable" || back[1]["remedy"] != "modprobe rdma_rxe && x" || back[2]["state"] != "unknown" {
		t.Errorf("JSON: %s", js.String())
	}
}

// TestUringOnThisMachine is the one probe that a test run can require: KVWIRE_REQUIRE=uring.
func TestUringOnThisMachine(t *testing.T) { testenv.Need(t, "uring", Uring(Local()).Err()) }

func TestDirectLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	if f := DirectIO(Local(), dir); f.State == Unknown {
		t.Error(f.Err())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if f := DirectIO(Local(), filepath.Join(dir, "not there")); f.State != Unavailable || !strings.Contains(f.Why, "no folder") {
		t.Errorf("a folder that is not there: %+v", f)
	}
}

func TestDoctorAnswersOnThisMachine(t *testing.T) {
	r := Doctor([]string{t.TempDir()}, nil)
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	t.Logf("on this machine:\n%s", b.String())
	for _, f := range r {
		if f.Why == "" || f.State == Unavailable && f.Remedy == "" {
			t.Errorf("%s is %s without why or remedy", f.Name, f.State)
		}
	}
	if f, _ := r.Get("CPUs"); f.State != Available {
		t.Errorf("CPUs: %+v", f)
	}
}

func TestIOPollGivesAReason(t *testing.T) {
	const queue = "sys/devices/virtual/block/d/queue"
	for _, c := range []struct {
		name        string
		p           Polled
		err         error
		files       []string
		state       State
		why, remedy string
	}{
		{"works", Polled{Queue: queue}, nil, []string{queue + "/io_poll", "1\n"}, Available, "completes", ""},
		{"by interrupt", Polled{Queue: queue}, nil, []string{queue + "/io_poll", "0\n"}, Unavailable, "by an interrupt", "poll_queues"},
		{"not seen", Polled{}, nil, nil, Unknown, "cannot be seen", ""},
		{"no poll queues", Polled{unix.EOPNOTSUPP, queue}, nil, nil, Unavailable, "EOPNOTSUPP", "poll_queues"},
		{"tmpfs", Polled{unix.EINVAL, queue}, nil, nil, Unavailable, "EINVAL", "ext4"},
		{"broken", Polled{unix.EIO, queue}, nil, nil, Unknown, "input/output error", ""},
		{"no folder", Polled{}, fs.ErrNotExist, nil, Unknown, "failed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host(c.files...)
			h.IOPoll = func(string) (Polled, error) { return c.p, c.err }
			check(t, IOPoll(h, "/data"), c.state, c.why, c.remedy)
		})
	}
	h := host(osrelease, "4.19.0")
	h.OpenRing = func() ([]string, error) { return nil, unix.ENOSYS }
	check(t, IOPoll(h, "/data"), Unavailable, "io_uring: ", "5.19")
	check(t, SQPoll(h), Unavailable, "io_uring: ", "5.19")
}

func TestUnavailableEnginesGiveAReason(t *testing.T) {
	for _, c := range []struct {
		err         error
		state       State
		why, remedy string
	}{
		{nil, Available, "works", ""}, {unix.ENOSYS, Unavailable, "CONFIG_AIO", "pool"}, {unix.EPERM, Unavailable, "seccomp", "pool"},
		{unix.EAGAIN, Unavailable, "aio-max-nr", "sysctl"}, {unix.EIO, Unknown, "failed", ""},
	} {
		h := host()
		h.OpenAIO = func() error { return fmt.Errorf("io_setup: %w", c.err) }
		if c.err == nil {
			h.OpenAIO = func() error { return nil }
		}
		check(t, AIO(h), c.state, c.why, c.remedy)
	}
	h := host()
	h.OpenSQPoll = func() error { return fmt.Errorf("ring: %w", unix.EPERM) }
	check(t, SQPoll(h), Unavailable, "5.11", "5.11")
	check(t, SQPoll(host()), Available, "CPU", "")
}

func TestSocketsListsTheOptionsThatTheKernelLacks(t *testing.T) {
	h := host()
	for _, c := range []struct {
		missing []string
		err     error
		state   State
		why     string
	}{
		{nil, nil, Available, "multishot"},
		{[]string{"bundles (6.10)"}, nil, Available, "without bundles (6.10)"},
		{nil, unix.ENOMEM, Unknown, "cannot allocate"},
	} {
		h.Sockets = func() ([]string, error) { return c.missing, c.err }
		if f := Sockets(h); f.State != c.state || !strings.Contains(f.Why, c.why) {
			t.Errorf("%v, %v: %+v", c.missing, c.err, f)
		}
	}
}

func TestMemoryIsTheLeastOfTheMachineAndItsGroups(t *testing.T) {
	const total = "MemTotal:       1000 kB\nMemFree: 1 kB\n"
	for name, c := range map[string]struct {
		files map[string]string
		bytes int64
		by    string
	}{
		"no groups": {nil, 1000 << 10, "this machine"},
		"two": {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "5000\n"},
			5000, "/sys/fs/cgroup/a/memory.max"},
		"one": {map[string]string{"proc/self/cgroup": "9:name=systemd:/\n4:memory:/x\n0::/\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "7000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 7000, "/sys/fs/cgroup/memory/x/memory.limit_in_bytes"},
		"a path of the host's": {map[string]string{"proc/self/cgroup": "0::/docker/1\n", "sys/fs/cgroup/memory.max": "6000\n"}, 6000, "/sys/fs/cgroup/memory.max"},
		"nonsense":             {map[string]string{"proc/self/cgroup": "::\n0\n0::../..\n", "sys/fs/cgroup/memory.max": "-\n"}, 1000 << 10, "this machine"},
	} {
		root := fstest.MapFS{"proc/meminfo": {Data: []byte(total)}}
		for n, text := range c.files {
			root[n] = &fstest.MapFile{Data: []byte(text)}
		}
		if bytes, by, err := Memory(&Host{Root: root}); bytes != c.bytes || by != c.by || err != nil {
			t.Errorf("%s: %d by %s, %v", name, bytes, by, err)
		}
	}
	if _, _, err := Memory(&Host{Root: fstest.MapFS{}}); err == nil {
		t.Error("nothing is known, and no error")
	}
}

func TestQuotaCountsThrottledPeriods(t *testing.T) {
	const group = "proc/self/cgroup"
	check(t, Quota(host(group, "0::/a\n")), Available, "none", "")
	check(t, Quota(host(group, "0::/a\n", "sys/fs/cgroup/a/cpu.max", "50000 100000\n", "sys/fs/cgroup/a/cpu.stat", "nr_periods 45\nnr_throttled 36\n")),
		Available, "0.50 CPUs (/sys/fs/cgroup/a/cpu.max): when the quota is used up, all threads are throttled for the rest of the period of 100ms; so far in 36 of 45 periods", "without a quota")
}
