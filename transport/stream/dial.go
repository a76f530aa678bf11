package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// Listen binds a TCP socket for accept: non-blocking, never MPTCP (which Go would make since 1.24).
// The caller owns the descriptor. addr is host:port; port 0 picks one, and bound says which.
func Listen(addr string, sockets Sockets) (fd int, bound string, err error) {
	lc := net.ListenConfig{Control: sockets.control}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return -1, "", fmt.Errorf("listen on %s: %w (is the port free, and the address one of this machine?)", addr, err)
	}
	defer ln.Close()
	bound = ln.Addr().String()
	fd, err = TakeFd(ln.(*net.TCPListener))
	return fd, bound, err
}

// Resolve gives the IP address of host:port; without a host the unspecified one.
func Resolve(addr string) (netip.Addr, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("resolve %s: %w", addr, err)
	}
	if a.IP == nil {
		return netip.IPv4Unspecified(), nil
	}
	return a.AddrPort().Addr().Unmap(), nil
}

// Dial connects and agrees on a hello. The descriptor is the caller's: non-blocking, no delay. params, where
// it is not nil, gives the transport's own parameters for the hello, when the addresses of the connection
// are known.
func Dial(ctx context.Context, addr string, o transport.DialOptions, sockets Sockets, params func(local, remote netip.Addr) ([]byte, error)) (fd int, hello wire.ServerHello, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.DialMax)
	defer cancel()
	d := net.Dialer{KeepAlive: -1, Control: sockets.control}
	d.SetMultipathTCP(false)
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return -1, hello, fmt.Errorf("connect to %s: %w (is the server running there?)", addr, err)
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if o.Redis {
		if err := ping(nc); err != nil {
			return -1, hello, fmt.Errorf("PING to %s: %w", addr, err)
		}
		fd, err = sockets.take(nc.(*net.TCPConn))
		return fd, redisHello(o.Depth), err
	}
	want := wire.ClientHello{Version: wire.Version, Depth: uint16(o.Depth), Loop: wire.AnyLoop}
	if params != nil {
		local, remote := nc.LocalAddr().(*net.TCPAddr), nc.RemoteAddr().(*net.TCPAddr)
		if want.Params, err = params(local.AddrPort().Addr().Unmap(), remote.AddrPort().Addr().Unmap()); err != nil {
			return -1, hello, fmt.Errorf("connect to %s: %w", addr, err)
		}
	}
	if hello, err = greet(nc, o, want); err != nil {
		return -1, hello, fmt.Errorf("hello with %s: %w", addr, err)
	}
	fd, err = sockets.take(nc.(*net.TCPConn))
	return fd, hello, err
}

// ping wants a Redis's answer to PING.
func ping(nc net.Conn) error {
	if _, err := io.WriteString(nc, "*1\r\n$4\r\nPING\r\n"); err != nil {
		return err
	}
	var b [512]byte
	for have := 0; have < len(b); have++ { // byte by byte: no byte of what follows is read
		if _, err := io.ReadFull(nc, b[have:have+1]); err != nil {
			return fmt.Errorf("no whole answer: %w (is this a Redis?)", err)
		}
		if b[have] == '\n' {
			if said := strings.TrimSpace(string(b[:have])); said != "+PONG" {
				return fmt.Errorf("the server says %q (is this a Redis, and does it let anybody in?)", said)
			}
			return nil
		}
	}
	return errors.New("the answer has no end (is this a Redis?)")
}

func greet(nc net.Conn, o transport.DialOptions, want wire.ClientHello) (hello wire.ServerHello, err error) {
	if o.Loop >= 0 {
		want.Loop = uint16(o.Loop)
	}
	if _, err := nc.Write(want.Append(nil)); err != nil {
		return hello, err
	}
	var b [wire.MaxHelloBytes]byte
	have := 0
	for {
		n, err := wire.HelloBytes(b[:have])
		if err != nil {
			return hello, fmt.Errorf("%w (is this a kvwire server?)", err)
		}
		if n > 0 && have == n {
			break
		}
		need := n
		if n == 0 {
			need = min(have+1, 6) // byte by byte to the length: no byte of what follows the hello is read
		}
		got, err := io.ReadFull(nc, b[have:need])
		if have += got; err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = transport.ErrPeerGone
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = fmt.Errorf("no answer within %v", o.DialMax)
			}
			return hello, err
		}
	}
	if err := hello.Decode(b[:have]); err != nil {
		return hello, err
	}
	if hello.Code != wire.Granted {
		return hello, &transport.Refusal{Code: hello.Code, Reason: hello.Reason}
	}
	if int(hello.Depth) > o.Depth {
		return hello, fmt.Errorf("%w: depth %d was granted, %d asked for", transport.ErrProtocol, hello.Depth, o.Depth)
	}
	return hello, nil
}

// take is TakeFd for a connection, which it prepares.
func (o Sockets) take(c syscall.Conn) (int, error) {
	fd, err := TakeFd(c)
	if err == nil {
		o.Prepare(fd)
	}
	return fd, err
}

// TakeFd duplicates a socket's descriptor out of the net package's hands, and makes it fit for a loop: non-blocking.
func TakeFd(c syscall.Conn) (int, error) {
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

// PeerName is the address of a socket's peer, for the log.
func PeerName(sa unix.Sockaddr) string {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf("%d.%d.%d.%d:%d", a.Addr[0], a.Addr[1], a.Addr[2], a.Addr[3], a.Port)
	case *unix.SockaddrInet6:
		return fmt.Sprintf("[%s]:%d", net.IP(a.Addr[:]), a.Port)
	}
	return "a peer"
}
