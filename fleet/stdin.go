package fleet

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Stdin is standard input, for what a program writes to this process.
var Stdin = sync.OnceValue(func() *os.File { return polled(os.Stdin) })

// polled has Go's poller wait for a pipe, so that no thread does in the kernel: Go's monitor thread looks after one that does, and
// then interrupts the loops for some milliseconds whenever they begin to work (docs/adr/0039). The pipe is opened once more, since a flag
// of f's own would hold for all who share it. Anything but a pipe stays as it is. f stays open, and nobody may read from it any more.
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
