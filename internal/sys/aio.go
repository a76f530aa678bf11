package sys

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// IOCB is the kernel's struct iocb (include/uapi/linux/aio_abi.h, little-endian), 64 bytes. The kernel copies it
// when it is submitted; the buffer must stay alive and in place until the completion: arena memory.
type IOCB struct {
	Data   uint64 // comes back in the completion
	_      uint32 // the kernel's own
	flags  int32  // RWF_…
	opcode uint16
	_      int16
	fd     uint32
	buf    uint64
	bytes  uint64
	off    int64
	_      uint64
	flags2 uint32 // IOCB_FLAG_RESFD
	resfd  uint32
}

// AIOEvent is struct io_event: Res is bytes, or -errno.
type AIOEvent struct {
	Data uint64
	_    uint64
	Res  int64
	_    int64
}

const (
	iocbPread  = 0
	iocbPwrite = 1
	iocbResfd  = 1 << 0

	aioMagic = 0xa10a10a1
)

// Read makes the entry a read of len(b) bytes of fd at off; eventfd is written when it completes.
func (c *IOCB) Read(data uint64, fd int, b []byte, off int64, eventfd int) {
	*c = IOCB{Data: data, opcode: iocbPread, fd: uint32(fd), buf: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))),
		bytes: uint64(len(b)), off: off, flags2: iocbResfd, resfd: uint32(eventfd)}
}

// Write makes the entry a write of b to fd at off, with flags as pwritev2(2).
func (c *IOCB) Write(data uint64, fd int, b []byte, off int64, flags, eventfd int) {
	c.Read(data, fd, b, off, eventfd)
	c.opcode, c.flags = iocbPwrite, int32(flags)
}

// aioRing is struct aio_ring of fs/aio.c, which the kernel maps into the process: the context's number is its address. Its
// layout is not guaranteed, but libaio, fio and KVell read it, and magic and features identify another layout.
type aioRing struct {
	_, nr            uint32
	head, tail       uint32 // the reader's, and the kernel's
	magic            uint32
	compat, incompat uint32
	headerBytes      uint32
}

// AIO is one context of Linux' native asynchronous IO. It belongs to one goroutine.
type AIO struct {
	ctx    uintptr
	ring   *aioRing   // nil when its form is unknown
	events []AIOEvent // of the ring
}

// OpenAIO makes a context for so many transfers in flight.
func OpenAIO(depth int) (*AIO, error) {
	a := new(AIO)
	if _, _, e := syscall.Syscall(unix.SYS_IO_SETUP, uintptr(depth), uintptr(unsafe.Pointer(&a.ctx)), 0); e != 0 {
		return nil, fmt.Errorf("io_setup for %d transfers: %w (%s)", depth, e, aioRemedy(e))
	}
	r := *(**aioRing)(unsafe.Pointer(&a.ctx))
	if r.magic == aioMagic && r.incompat == 0 && r.headerBytes == uint32(unsafe.Sizeof(*r)) {
		a.ring = r
		a.events = unsafe.Slice((*AIOEvent)(unsafe.Add(unsafe.Pointer(r), r.headerBytes)), r.nr)
	}
	return a, nil
}

func aioRemedy(e syscall.Errno) string {
	switch e {
	case unix.EAGAIN:
		return "sysctl fs.aio-max-nr, or a smaller --disk-depth"
	case unix.ENOSYS:
		return "a kernel with CONFIG_AIO=y, and no seccomp filter that hides it"
	case unix.EPERM:
		return "a seccomp filter forbids it: in a container --security-opt seccomp=unconfined"
	}
	return "see kvwire doctor"
}

// Submit passes entries to the kernel, oldest first, and returns how many it has accepted. An errno is about the first
// rejected one. It may block where the file system or the device does.
func (a *AIO) Submit(list []*IOCB) (int, syscall.Errno) {
	n, _, e := syscall.Syscall(unix.SYS_IO_SUBMIT, a.ctx, uintptr(len(list)), uintptr(unsafe.Pointer(unsafe.SliceData(list))))
	runtime.KeepAlive(list)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// Mapped reports whether Reap and Ready need no system call.
func (a *AIO) Mapped() bool { return a.ring != nil }

// Ready reports whether Reap would find a completion. It returns true if only a system call can find out.
func (a *AIO) Ready() bool {
	return a.ring == nil || atomic.LoadUint32(&a.ring.tail) != atomic.LoadUint32(&a.ring.head)
}

// Reap copies completions into dst, oldest first, and does not wait.
func (a *AIO) Reap(dst []AIOEvent) int {
	if len(dst) == 0 {
		return 0
	}
	if a.ring == nil {
		var now unix.Timespec
		n, _, e := syscall.RawSyscall6(unix.SYS_IO_GETEVENTS, a.ctx, 0, uintptr(len(dst)), uintptr(unsafe.Pointer(unsafe.SliceData(dst))), uintptr(unsafe.Pointer(&now)), 0)
		if e != 0 {
			return 0
		}
		return int(n)
	}
	head, tail, n := atomic.LoadUint32(&a.ring.head), atomic.LoadUint32(&a.ring.tail), 0
	for ; n < len(dst) && head != tail; n++ {
		dst[n] = a.events[head]
		if head++; head == uint32(len(a.events)) {
			head = 0
		}
	}
	if n > 0 {
		atomic.StoreUint32(&a.ring.head, head) // after the copies: the kernel may write there from now on
	}
	return n
}

// Close ends the context, and waits for what is in flight.
func (a *AIO) Close() error {
	if _, _, e := syscall.Syscall(unix.SYS_IO_DESTROY, a.ctx, 0, 0); e != 0 {
		return fmt.Errorf("io_destroy: %w", e)
	}
	return nil
}
