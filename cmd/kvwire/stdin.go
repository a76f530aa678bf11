package main

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ordersIn is standard input, for what a program writes to this process.
var ordersIn = sync.OnceValue(func() *os.File { return polled(os.Stdin) })

// polled has Go's poller wait for a pipe or a socket, so that no thread does in the kernel: one that does is looked after by Go's monitor thread, which then
// interrupts the loops for some milliseconds whenever they begin to work (docs/adr/0039). A terminal stays as it is, since other processes read from it, too.
// f may not be used any more.
func polled(f *os.File) *os.File {
	conn, err := f.SyscallConn()
	if err != nil {
		return f
	}
	fd, polls := -1, false
	err = conn.Control(func(p uintptr) { // f.Fd would have it block
		var s unix.Stat_t
		if unix.Fstat(int(p), &s) != nil || s.Mode&unix.S_IFMT != unix.S_IFIFO && s.Mode&unix.S_IFMT != unix.S_IFSOCK {
			return
		}
		flags, err := unix.FcntlInt(p, unix.F_GETFL, 0)
		polls = err == nil && flags&unix.O_NONBLOCK != 0 // the poller has it already
		fd = int(p)
	})
	if err != nil || fd < 0 || polls || unix.SetNonblock(fd, true) != nil {
		return f
	}
	return os.NewFile(uintptr(fd), f.Name())
}
