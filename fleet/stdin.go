package fleet

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Stdin is standard input, for what a program writes to this process.
var Stdin = sync.OnceValue(func() *os.File { return polled(os.Stdin) })

// polled returns a file for the same pipe that Go's poller waits for, so that no thread waits in the kernel. A waiting thread keeps Go's monitor
// thread awake, which then interrupts the loops for some milliseconds whenever they begin to work (docs/adr/0039). The pipe is opened again, because
// a flag of f would apply to all who share it. Other files are returned as they are. f stays open, and must not be read any more.
func polled(f *os.File) *os.File {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return f
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return f
	}
	fd := -1
	err = conn.Control(func(p uintptr) { // f.Fd would change whether it blocks
		fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", p), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil || fd < 0 {
		return f
	}
	return os.NewFile(uintptr(fd), f.Name())
}
