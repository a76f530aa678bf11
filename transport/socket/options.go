package socket

import (
	"crypto/tls"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options are those of sockets, of a server or of a client. The zero value is the default: no Nagle delay, buffers that the
// kernel sizes, one listener.
type Options struct {
	Nagle        bool          // small segments wait for the answer to those before them
	SendBytes    int           // SO_SNDBUF; 0: the kernel sizes it
	ReceiveBytes int           // SO_RCVBUF; 0: the kernel sizes it
	BusyPoll     time.Duration // SO_BUSY_POLL: how long a read looks at the device's queue; in µs
	ReusePort    bool          // each of a server's loops has a listener of its own (SO_REUSEPORT), and the kernel chooses
	TLS          *tls.Config   // of this side; nil: no TLS. Only for a transport that moves the bytes of a Session
}

// control sets what has to be set before a socket listens or connects, since the window scale follows from the buffers. What is
// accepted by TCP inherits it. A unix socket has nothing of it before Prepare.
func (o Options) control(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	set := func(fd uintptr, what string, option, value int) {
		if e := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, value); e != nil && err == nil {
			err = fmt.Errorf("set %s to %d: %w%s", what, value, e, socketRemedy(e))
		}
	}
	if e := c.Control(func(fd uintptr) {
		if o.SendBytes > 0 {
			set(fd, "SO_SNDBUF", unix.SO_SNDBUF, o.SendBytes)
		}
		if o.ReceiveBytes > 0 {
			set(fd, "SO_RCVBUF", unix.SO_RCVBUF, o.ReceiveBytes)
		}
		if o.BusyPoll > 0 {
			set(fd, "SO_BUSY_POLL", unix.SO_BUSY_POLL, int(o.BusyPoll.Microseconds()))
		}
		if o.ReusePort {
			set(fd, "SO_REUSEPORT", unix.SO_REUSEPORT, 1)
		}
	}); e != nil {
		return e
	}
	return err
}

func socketRemedy(e error) string {
	if e == unix.EPERM {
		return " (run as root, or give it CAP_NET_ADMIN)"
	}
	return ""
}

// Prepare sets what every connection's socket has, on both ends: a dead peer is noticed within about 30 s (keep-alive when idle,
// the user timeout when bytes are on their way), and no Nagle delay, unless it is wanted. What the kernel refuses stays as it
// is: none of it is needed for correctness. A unix socket has a send buffer only: its peer's death is known at once.
func (o Options) Prepare(fd int) {
	if IsUnix(fd) {
		if o.SendBytes > 0 {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, o.SendBytes)
		}
		return
	}
	noDelay := 1
	if o.Nagle {
		noDelay = 0
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, noDelay)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 10)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 5)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000)
}
