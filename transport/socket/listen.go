package socket

import (
	"context"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// ListenAll makes the listeners of so many loops: -1 for those that do not accept. The first one is bound and listens as an exclusive socket does, and shares its
// port (SO_REUSEPORT) from then on: a second server finds the port in use, whatever it asks for, and two that start at the same time cannot both have it,
// since the kernel looks again when a socket begins to listen.
//
// A unix socket has one listener, and a file, which the caller removes at the end.
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
		addr = bound // where port 0 has picked one
	}
	return fds, bound, nil, nil
}

// Listen binds a TCP socket for accept: non-blocking, never MPTCP (which Go would make since 1.24).
// The caller owns the descriptor. addr is host:port; for port 0 the kernel picks one, which is in bound.
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
