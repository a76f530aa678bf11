package probe

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/kvwire/kvwire/internal/ring"
	"golang.org/x/sys/unix"
)

// Host is the machine that the probes examine. Local is this one; tests have made-up ones.
type Host struct {
	Root       fs.FS                              // the root folder: proc, sys, dev, lib
	OpenRing   func() (missing []string, _ error) // makes a ring and closes it: the operations that the kernel lacks
	OpenAIO    func() error                       // makes a context and destroys it
	OpenSQPoll func() error                       // makes a ring with SQPOLL and closes it
	Sockets    func() (missing []string, _ error) // asks a ring for what sockets may use: the options that the kernel lacks
	IOPoll     func(dir string) (Polled, error)   // reads from a file in dir, from a ring with IOPOLL
	Access     func(path string) error            // nil when the absolute path can be opened for reading and writing
	Direct     func(dir string) (Direct, error)   // tries O_DIRECT on a file in dir
}

// Local is this machine, as this process sees it.
func Local() *Host {
	return &Host{
		Root:       os.DirFS("/"),
		OpenRing:   openRing,
		OpenAIO:    openAIO,
		OpenSQPoll: openSQPoll,
		Sockets:    socketOptions,
		IOPoll:     tryIOPoll,
		Access:     access,
		Direct:     tryDirect,
	}
}

// access opens a device file, since a container's device rules show only then.
func access(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// operations that the transport and the store submit, by their number in io_uring.h.
var operations = []struct {
	name   string
	opcode uint8
}{
	{"nop", 0}, {"fsync", 3}, {"read_fixed", 4}, {"write_fixed", 5}, {"poll_add", 6}, {"sendmsg", 9}, {"recvmsg", 10},
	{"accept", 13}, {"async_cancel", 14}, {"fallocate", 17}, {"read", 22}, {"write", 23}, {"send", 26}, {"recv", 27},
}

func openRing() (missing []string, err error) {
	runtime.LockOSThread() // a ring belongs to one thread
	defer runtime.UnlockOSThread()
	r, err := ring.Open(ring.Options{Entries: 8})
	if err != nil {
		return nil, err
	}
	for _, op := range operations {
		if !r.Supports(op.opcode) {
			missing = append(missing, op.name)
		}
	}
	return missing, r.Close()
}

// read is a file's text without its last newline; "" and false when it cannot be read.
func (h *Host) read(path string) (string, bool) {
	b, err := fs.ReadFile(h.Root, path)
	return strings.TrimSpace(string(b)), err == nil
}

func (h *Host) exists(path string) bool {
	_, err := fs.Stat(h.Root, path)
	return err == nil
}

// status is a field of /proc/self/status: "Seccomp", "CapEff", …
func (h *Host) status(field string) (string, bool) {
	s, _ := h.read("proc/self/status")
	for line := range strings.Lines(s) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == field {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

const (
	capIPCLock  = 14
	capSysAdmin = 21
)

// capable reports whether the process has a capability; a container's root may not.
func (h *Host) capable(bit uint) bool {
	s, _ := h.status("CapEff")
	caps, err := strconv.ParseUint(s, 16, 64)
	return err == nil && caps>>bit&1 == 1
}

// unlimited stands for no limit.
const unlimited = ^uint64(0)

// limit is the soft value of a line of /proc/self/limits.
func (h *Host) limit(name string) (uint64, bool) {
	s, _ := h.read("proc/self/limits")
	for line := range strings.Lines(s) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0, false
		}
		if fields[0] == "unlimited" {
			return unlimited, true
		}
		n, err := strconv.ParseUint(fields[0], 10, 64)
		return n, err == nil
	}
	return 0, false
}

// release is the kernel's version as uname -r has it, or "".
func (h *Host) release() string {
	s, _ := h.read("proc/sys/kernel/osrelease")
	return s
}

// version is major and minor of a release such as 6.1.0-37-amd64.
func version(release string) (major, minor int, ok bool) {
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return major, minor, n == 2
}

func before(release string, major, minor int) bool {
	a, b, ok := version(release)
	return ok && (a < major || a == major && b < minor)
}

// countCPUs counts a list as the kernel prints it: 0-3,8.
func countCPUs(list string) (int, bool) {
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		if err != nil {
			return 0, false
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(last); err != nil || b < a {
				return 0, false
			}
		}
		n += b - a + 1
	}
	return n, true
}

// size is bytes as people write them.
func size(n uint64) string {
	switch {
	case n == unlimited:
		return "unlimited"
	case n >= 1<<30:
		return fmt.Sprintf("%.4gGiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.4gMiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.4gKiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%dB", n)
}
