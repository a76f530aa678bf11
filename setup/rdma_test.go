package setup_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
)

// run runs a command and returns what it prints, and whether its exit code is 0.
func run(t *testing.T, name string, args ...string) (string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err == nil
}

func must(t *testing.T, command string) {
	t.Helper()
	if out, ok := run(t, "bash", "-c", command); !ok {
		t.Fatalf("%s: %s", command, out)
	}
}

// expectLine runs rdma.sh and checks its exit code and its line of output.
func expectLine(t *testing.T, ok bool, want string, args ...string) {
	t.Helper()
	out, good := run(t, "./rdma.sh", args...)
	if last := strings.TrimSpace(out); good != ok || !strings.Contains(last, want) {
		t.Errorf("rdma.sh %s: ok %v: %q; want %v and %q", strings.Join(args, " "), good, out, ok, want)
	}
	if !ok && strings.Count(out, "\n") != 1 {
		t.Errorf("rdma.sh %s: not one line: %q", strings.Join(args, " "), out)
	}
}

func TestRDMASetupErrors(t *testing.T) {
	expectLine(t, false, "add or undo")
	if _, err := exec.LookPath("rdma"); err != nil {
		t.Skip(err)
	}
	expectLine(t, false, "no interface kvwire-none: make rdma-setup IF=NAME (here: ", "add", "kvwire-none")
	expectLine(t, false, "lo: RDMA does not work over the address of lo", "add", "lo")
}

// A device is set up and removed, with everything that was made for it. This changes the machine, so the test runs in the guest.
func TestRDMASetupAndUndo(t *testing.T) {
	var guest error
	if os.Getenv("KVWIRE_ACCEL") == "" {
		guest = errors.New("this test loads and unloads modules")
	}
	testenv.Need(t, "guest", guest)
	const state = "/run/kvwire/rdma"
	exists := func(path string) bool { _, err := os.Lstat(path); return err == nil }
	expect := func(there bool, paths ...string) {
		t.Helper()
		for _, p := range paths {
			if exists(p) != there {
				t.Errorf("%s: there is %v, want %v", p, !there, there)
			}
		}
	}
	must(t, "ip link add kv0 type veth peer name kv1 && ip link set kv1 up")
	t.Cleanup(func() { must(t, "ip link delete kv0") })
	expectLine(t, false, "kv0 is down: as root: ip link set kv0 up", "add", "kv0")
	must(t, "ip link set kv0 up")
	expectLine(t, false, "kv0 has no IPv4 address", "add", "kv0")
	must(t, "ip address add 10.79.0.1/24 dev kv0")
	if out, ok := run(t, "./rdma.sh", "add", "kv0"); ok || !strings.Contains(out, "YES=1") || exists(state) {
		t.Errorf("without an answer: %q", out)
	}

	// If a device exists already, the module is not removed.
	expectLine(t, true, "rxe1 is on kv0, by the address 10.79.0.1", "--yes", "add", "kv0")
	expect(true, "/sys/class/infiniband/rxe1", state)
	expectLine(t, true, "kv0 has the RDMA device rxe1 already", "--yes", "add", "kv0")
	expectLine(t, true, "undone", "--yes", "undo")
	expect(false, "/sys/class/infiniband/rxe1", state)
	expect(true, "/sys/class/infiniband/rxe0", "/sys/module/rdma_rxe")
	expectLine(t, true, "nothing to undo", "--yes", "undo")

	// If no device existed, everything is removed.
	netdev, err := os.ReadFile("/sys/class/infiniband/rxe0/ports/1/gid_attrs/ndevs/0")
	if err != nil {
		t.Fatal(err)
	}
	must(t, "rdma link delete rxe0 && modprobe -r rdma_ucm rdma_rxe ib_uverbs")
	t.Cleanup(func() {
		must(t, "modprobe -a rdma_rxe rdma_ucm && rdma link add rxe0 type rxe netdev "+strings.TrimSpace(string(netdev)))
	})
	before, _ := os.ReadFile("/proc/modules")
	expectLine(t, true, "rxe0 is on kv0", "--yes", "add", "kv0")
	expect(true, "/sys/class/infiniband/rxe0", "/sys/module/rdma_rxe", "/sys/module/ib_uverbs")
	expectLine(t, true, "undone", "--yes", "undo")
	expect(false, "/sys/module/rdma_rxe", "/sys/module/ib_uverbs", state)
	if after, _ := os.ReadFile("/proc/modules"); len(strings.Split(string(after), "\n")) != len(strings.Split(string(before), "\n")) {
		t.Errorf("modules before:\n%safter:\n%s", before, after)
	}
	if left, _ := filepath.Glob("/sys/class/infiniband/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
