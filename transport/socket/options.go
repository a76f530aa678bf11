package socket

import (
	"crypto/tls"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options are the options of a server's or a client's sockets. The zero value is the default: no Nagle delay, buffers sized by the
// kernel, one listener.
type Options struct {
	Nagle        bool          // small segments wait for the acknowledgement of earlier ones
	SendBytes    int           // SO_SNDBUF, without the system's limit where we may; 0: the kernel sizes it
	ReceiveBytes int           // SO_RCVBUF, likewise; 0: the kernel sizes it
	BusyPoll     time.Duration // SO_BUSY_POLL: how long a read polls the device's queue; whole µs
	ReusePort    bool          // each of a server's loops has its own listener (SO_REUSEPORT), and the kernel chooses one for each connection
	TLS          *tls.Config   // this side's configuration; nil: no TLS. Only for a transport that can move the bytes of a Session
}

// control sets the options that must be set before a socket listens or connects: the TCP window scale depends on the buffers. Accepted
// TCP sockets inherit them. On a unix socket it sets nothing; Prepare does.
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
	// The kernel silently takes its limit for a larger size, and reports twice what it took.
	granted := func(fd uintptr, what, limit string, option, value int) {
		if got, e := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option); e == nil && got/2 < value && err == nil {
			err = fmt.Errorf("set %s to %d: the kernel allows %d (run as root, or raise the limit: sysctl -w %s=%d)", what, value, got/2, limit, value)
		}
	}
	if e := c.Control(func(fd uintptr) {
		if o.SendBytes > 0 && unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, o.SendBytes) != nil {
			set(fd, "SO_SNDBUF", unix.SO_SNDBUF, o.SendBytes)
			granted(fd, "SO_SNDBUF", "net.core.wmem_max", unix.SO_SNDBUF, o.SendBytes)
		}
		if o.ReceiveBytes > 0 && unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, o.ReceiveBytes) != nil {
			set(fd, "SO_RCVBUF", unix.SO_RCVBUF, o.ReceiveBytes)
			granted(fd, "SO_RCVBUF", "net.core.rmem_max", unix.SO_RCVBUF, o.ReceiveBytes)
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

// Prepare sets the options of a connection's socket, on both ends: a dead peer is detected within about 30 s (keep-alive when idle,
// the user timeout when bytes are in flight), and there is no Nagle delay, unless Nagle is set. An option that the kernel refuses
// keeps its default: none is needed for correctness. On a unix socket it sets the send buffer only: a dead peer is detected at once.
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
