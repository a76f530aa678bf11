package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Resolve returns the IP address of host:port; without a host, the unspecified address. For a unix socket it returns an error.
func Resolve(addr string) (netip.Addr, error) {
	if _, local := UnixPath(addr); local {
		return netip.Addr{}, fmt.Errorf("resolve %s: a unix socket has no IP address (use host:port)", addr)
	}
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("resolve %s: %w", addr, err)
	}
	if a.IP == nil {
		return netip.IPv4Unspecified(), nil
	}
	return a.AddrPort().Addr().Unmap(), nil
}

// NetConn is a connection of Go's net package whose sending half can be shut: *net.TCPConn or *net.UnixConn.
type NetConn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// Dial makes a connection to addr, host:port or unix:PATH.
func (o Options) Dial(ctx context.Context, addr string) (NetConn, error) {
	d := net.Dialer{KeepAlive: -1, Control: o.control}
	d.SetMultipathTCP(false)
	path, local := UnixPath(addr)
	if !local {
		nc, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return nc.(*net.TCPConn), nil
	}
	if err := CheckUnixPath(path); err != nil {
		return nil, err
	}
	for {
		nc, err := d.DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			return nc.(*net.UnixConn), nil
		case !errors.Is(err, unix.EAGAIN):
			return nil, err
		}
		select { // the listener's queue is full, and no event announces when it has room: unlike with TCP, the kernel does not try again
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Millisecond):
		}
	}
}

// Detach converts nc to a Socket for a loop: a prepared duplicate of its descriptor, or the TLS session. It calls stop, so that no timer sets a deadline on a
// session afterwards.
func (o Options) Detach(nc net.Conn, stop func() bool) (s Socket, err error) {
	if c, plain := nc.(NetConn); plain {
		if s.Fd, err = detachFd(c); err == nil {
			o.Prepare(s.Fd)
		}
		return s, err
	}
	if !stop() {
		return s, os.ErrDeadlineExceeded
	}
	return Socket{Conn: nc}, nil
}

// detachFd duplicates the descriptor of a socket of the net package and makes it non-blocking, for a loop.
func detachFd(c syscall.Conn) (int, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	if err := rc.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, err
	}
	if dupErr != nil {
		return -1, fmt.Errorf("duplicate a socket: %w (raise ulimit -n)", dupErr)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// UnixPeer is the beginning of the name of a unix socket's peer.
const UnixPeer = "unix socket"

// PeerName is the address of a socket's peer, for the log. For a unix socket it describes the peer's process.
func PeerName(fd int, sa unix.Sockaddr) string {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf("%d.%d.%d.%d:%d", a.Addr[0], a.Addr[1], a.Addr[2], a.Addr[3], a.Port)
	case *unix.SockaddrInet6:
		return fmt.Sprintf("[%s]:%d", net.IP(a.Addr[:]), a.Port)
	case *unix.SockaddrUnix:
		if who, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			return fmt.Sprintf("%s, pid %d, uid %d", UnixPeer, who.Pid, who.Uid)
		}
		return UnixPeer
	}
	return "a peer"
}
