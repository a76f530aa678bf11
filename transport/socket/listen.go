package socket

import (
	"context"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// ListenAll makes one listener per loop; -1 for a loop that does not accept. The first listener is bound, and begins to listen, as an exclusive socket; only then
// it shares its port (SO_REUSEPORT). So a second server always finds the port in use. Two servers that start at the same time cannot both get it, because the
// kernel checks again when a socket begins to listen.
//
// A unix socket has one listener and a file. The caller removes the file at the end.
func ListenAll(addr string, loops int, o Options) (fds []int, bound string, file *File, err error) {
	fds = slices.Repeat([]int{-1}, loops)
	if path, local := UnixPath(addr); local {
		if o.ReusePort || o.TLS != nil {
			return nil, "", nil, fmt.Errorf("listen on %s: a unix socket has one listener and no TLS (use host:port)", addr)
		}
		fds[0], file, err = listenUnix(path)
		return fds, addr, file, err
	}
	for i := range fds {
		if i > 0 && !o.ReusePort {
			break
		}
		this := o
		this.ReusePort = i > 0
		fds[i], bound, err = Listen(addr, this)
		if err == nil && i == 0 && o.ReusePort {
			if err = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				err = fmt.Errorf("listen on %s: share the port between loops (SO_REUSEPORT): %w", addr, err)
			}
		}
		if err != nil {
			for _, fd := range fds[:i+1] {
				if fd >= 0 {
					_ = unix.Close(fd)
				}
			}
			return nil, "", nil, err
		}
		addr = bound // the port that the kernel chose for port 0
	}
	return fds, bound, nil, nil
}

// Listen binds a TCP socket for accept: non-blocking, never MPTCP (which Go would make since 1.24).
// The caller owns the descriptor. addr is host:port; for port 0 the kernel chooses one. bound is the address with that port.
func Listen(addr string, o Options) (fd int, bound string, err error) {
	lc := net.ListenConfig{Control: o.control}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return -1, "", fmt.Errorf("listen on %s: %w (is the port free, and the address one of this machine?)", addr, err)
	}
	defer ln.Close()
	bound = ln.Addr().String()
	fd, err = detachFd(ln.(*net.TCPListener))
	return fd, bound, err
}
