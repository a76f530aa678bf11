package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"golang.org/x/sys/unix"
)

// AIO reports whether Linux' native asynchronous IO works.
func AIO(h *Host) Finding {
	f := Finding{Name: "libaio"}
	err := h.OpenAIO()
	switch {
	case err == nil:
		f.State, f.Why = Available, "io_setup works"
	case errors.Is(err, unix.ENOSYS):
		f.State, f.Why = Unavailable, "this kernel has none (CONFIG_AIO), or a seccomp filter hides it"
		f.Remedy = "--disk-engine pool"
	case errors.Is(err, unix.EPERM):
		f.State, f.Why, f.Remedy = Unavailable, "forbidden by a seccomp filter", "docker run --security-opt seccomp=unconfined, or --disk-engine pool"
	case errors.Is(err, unix.EAGAIN):
		f.State, f.Why, f.Remedy = Unavailable, "all of fs.aio-max-nr is taken", "as root: sysctl fs.aio-max-nr=1048576"
	default:
		f.Why = "io_setup failed: " + err.Error()
	}
	return f
}

// SQPoll reports whether a ring can have a thread of the kernel that submits.
func SQPoll(h *Host) Finding {
	f := Finding{Name: "SQPOLL"}
	if u := Uring(h); u.State != Available {
		return as(f.Name, u)
	}
	err := h.OpenSQPoll()
	switch {
	case err == nil:
		f.State, f.Why = Available, "the kernel's thread takes a CPU while there is load"
	case errors.Is(err, unix.EPERM):
		f.State, f.Why, f.Remedy = Unavailable, "EPERM: before Linux 5.11 it is for root only", "Linux 5.11 or later"
	default:
		f.Why = "making such a ring failed: " + err.Error()
	}
	return f
}

// Sockets reports which options of io_uring's sockets the kernel has.
func Sockets(h *Host) Finding {
	f := Finding{Name: "io_uring sockets"}
	if u := Uring(h); u.State != Available {
		return as(f.Name, u)
	}
	missing, err := h.Sockets()
	switch {
	case err != nil:
		f.Why = "asking failed: " + err.Error()
	case len(missing) > 0:
		f.State, f.Why, f.Remedy = Available, "without "+strings.Join(missing, ", "), "a newer kernel, for those options"
	default:
		f.State, f.Why = Available, "multishot receives, bundles, sends without copy, NAPI"
	}
	return f
}

// socketOptions tries each of them on a ring.
func socketOptions() (missing []string, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := ring.Open(ring.Options{Entries: 8})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	no := func(ok bool, what string) {
		if !ok {
			missing = append(missing, what)
		}
	}
	bufs, err := r.Provide(1, 64)
	if err == nil {
		bufs.Close()
	}
	no(err == nil && r.Multishot(), "multishot receives (Linux 6.0)")
	no(r.Bundles(), "bundles (6.10)")
	no(r.Supports(ring.OpSendmsgZC), "sends without copy (6.1)")
	no(r.NAPI(0) == nil, "NAPI busy polling (6.9)")
	return missing, nil
}

// Polled is the result of a read from a ring with IOPOLL.
type Polled struct {
	Err   error  // of the read; nil: it completed
	Queue string // the device's sysfs folder, below /: sys/devices/…/vda/queue
}

// tryIOPoll writes a page to a temporary file in dir, or in the folder where dir would be made, removes it, and reads it from a
// ring with IOPOLL.
func tryIOPoll(dir string) (p Polled, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := ring.Open(ring.Options{Entries: 8, IOPoll: true})
	if err != nil {
		return p, err
	}
	for _, err := os.Stat(dir); err != nil && dir != filepath.Dir(dir); _, err = os.Stat(dir) {
		dir = filepath.Dir(dir)
	}
	f, err := os.CreateTemp(dir, ".kvwire-probe-*")
	if err != nil {
		return p, errors.Join(err, r.Close())
	}
	defer os.Remove(f.Name())
	defer f.Close()
	mem, err := arena.New(arena.PageBytes)
	if err != nil {
		return p, errors.Join(err, r.Close())
	}
	defer mem.Close()
	defer r.Close() // before the memory is freed
	page := mem.Bytes()[:arena.PageBytes]
	if _, err := f.Write(page); err != nil {
		return p, err
	}
	if err := f.Sync(); err != nil {
		return p, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return p, err
	}
	if dev, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))); err == nil {
		if _, err := os.Stat(dev + "/partition"); err == nil {
			dev = filepath.Dir(dev) // a partition uses the queue of its disk
		}
		p.Queue = dev[1:] + "/queue"
	}
	fd, err := unix.Open(f.Name(), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return p, err
	}
	defer unix.Close(fd)
	e := r.Next(1)
	if e == nil {
		return p, ring.ErrFull
	}
	e.Read(fd, page, 0)
	var c [1]ring.CQE
	for begun := time.Now(); r.Reap(c[:]) == 0; {
		if err := r.Enter(0, 0); err != nil {
			return p, err
		}
		if time.Since(begun) > time.Second {
			return p, errors.New("a read did not complete within a second")
		}
	}
	switch res := c[0].Res; {
	case res < 0:
		p.Err = unix.Errno(-res)
	case int(res) < len(page):
		p.Err = unix.EIO
	}
	return p, nil
}

// IOPoll reports whether the device under dir can be polled for completions.
func IOPoll(h *Host, dir string) Finding {
	f := Finding{Name: "IOPOLL"}
	if u := Uring(h); u.State != Available {
		return as(f.Name, u)
	}
	const remedy = "nvme.poll_queues=2 or virtio_blk.poll_queues=1 on the kernel's command line, and --dir on such a disk"
	p, err := h.IOPoll(dir)
	polls, seen := h.read(p.Queue + "/io_poll")
	switch {
	case err != nil:
		f.Why = "trying it in " + dir + " failed: " + err.Error()
	case errors.Is(p.Err, unix.EOPNOTSUPP):
		f.State, f.Remedy = Unavailable, remedy
		f.Why = fmt.Sprintf("%s: a polled read ends as EOPNOTSUPP: the device has no poll queues, or the file system cannot", dir)
	case errors.Is(p.Err, unix.EINVAL):
		f.State, f.Why, f.Remedy = Unavailable, fmt.Sprintf("%s: a polled read ends as EINVAL: the file system cannot", dir), "--dir on ext4 or xfs"
	case p.Err != nil:
		f.Why = fmt.Sprintf("%s: a polled read ended as %v", dir, p.Err)
	case seen && polls == "0":
		f.State, f.Remedy = Unavailable, remedy
		f.Why = fmt.Sprintf("%s: the read completed by an interrupt: %s/io_poll is 0", dir, p.Queue)
	case seen:
		f.State, f.Why = Available, fmt.Sprintf("%s: a polled read completes", dir)
	default:
		f.Why = fmt.Sprintf("%s: a read completes, but whether it was polled for cannot be seen (the device has no queue/io_poll in sysfs)", dir)
	}
	return f
}

func openAIO() error {
	a, err := sys.OpenAIO(8)
	if err == nil {
		err = a.Close()
	}
	return err
}

func openSQPoll() error {
	r, err := ring.Open(ring.Options{Entries: 8, SQPoll: true})
	if err == nil {
		err = r.Close()
	}
	return err
}
