package stream

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
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

// Resolve gives the IP address of host:port; without a host the unspecified one. A unix socket has none.
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

// Dial connects to addr, host:port or unix:PATH, and agrees on a hello. The socket is the caller's: a descriptor, non-blocking, no delay. params, where
// it is not nil, gives the transport's own parameters for the hello, when the IP addresses of the connection
// are known.
func Dial(ctx context.Context, addr string, o transport.DialOptions, sockets Sockets, params func(local, remote netip.Addr) ([]byte, error)) (s Socket, hello wire.ServerHello, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.DialMax)
	defer cancel()
	if _, local := UnixPath(addr); local && (params != nil || sockets.TLS != nil) {
		return s, hello, fmt.Errorf("connect to %s: neither RDMA nor TLS works over a unix socket (use host:port)", addr)
	}
	plain, err := sockets.connect(ctx, addr)
	if err != nil {
		return s, hello, fmt.Errorf("connect to %s: %w (is the server running there?)", addr, err)
	}
	nc := net.Conn(plain)
	defer func() {
		if s.Conn == nil {
			_ = plain.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = plain.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if sockets.TLS != nil {
		session, err := enter(plain, addr, sockets.TLS)
		if err != nil {
			return Socket{}, hello, fmt.Errorf("TLS with %s: %w", addr, late(err, o))
		}
		nc = session
	}
	if o.Redis {
		if err := ping(nc, o.Access); err != nil {
			return s, hello, fmt.Errorf("%s: %w", addr, err)
		}
		s, err = sockets.take(nc, stop)
		return s, redisHello(o.Depth), late(err, o)
	}
	want := wire.ClientHello{Version: wire.Version, Depth: uint16(o.Depth), Loop: wire.AnyLoop}
	if params != nil {
		local, remote := nc.LocalAddr().(*net.TCPAddr), nc.RemoteAddr().(*net.TCPAddr)
		if want.Params, err = params(local.AddrPort().Addr().Unmap(), remote.AddrPort().Addr().Unmap()); err != nil {
			return s, hello, fmt.Errorf("connect to %s: %w", addr, err)
		}
	}
	if hello, err = greet(nc, o, want); err != nil {
		return s, hello, fmt.Errorf("hello with %s: %w", addr, late(err, o))
	}
	s, err = sockets.take(nc, stop)
	return s, hello, late(err, o)
}

// connect makes the connection.
func (o Sockets) connect(ctx context.Context, addr string) (NetConn, error) {
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
		select { // the listener's queue is full, and nobody announces when it is not: unlike TCP, the kernel does not try again
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Millisecond):
		}
	}
}

// late says a missed deadline in words.
func late(err error, o transport.DialOptions) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no answer within %v", o.DialMax)
	}
	return err
}

// ping wants a Redis's answer to PING, after it was told who we are.
func ping(nc net.Conn, who *access.Entry) error {
	if who != nil {
		words := []string{"AUTH", who.Name, who.Secret}
		if who.Name == "" {
			words = []string{"AUTH", who.Secret}
		}
		if err := say(nc, "OK", words...); err != nil {
			return fmt.Errorf("AUTH: %w", err)
		}
	}
	if err := say(nc, "PONG", "PING"); err != nil {
		return fmt.Errorf("PING: %w", err)
	}
	return nil
}

// say sends a command to a Redis and wants that answer.
func say(nc net.Conn, want string, words ...string) error {
	b := resp.AppendArray(nil, len(words))
	for _, w := range words {
		b = resp.AppendBulk(b, w)
	}
	line, err := ask(nc, b, make([]byte, 512), func(have []byte) (int, error) {
		if n := len(have); n == 0 || have[n-1] != '\n' {
			return n + 1, nil
		}
		return len(have), nil
	})
	if err != nil {
		return fmt.Errorf("no whole answer: %w (is this a Redis?)", err)
	}
	if said := strings.TrimSpace(string(line)); said != "+"+want {
		return fmt.Errorf("the server answered %.200q (check that it is a Redis, and check the user and the password)", unrepeated(said, words[1:]))
	}
	return nil
}

// unrepeated is what a server says, less what it repeats of words, which are a name and a secret: a Redis that knows no AUTH repeats what it was sent, cut off
// somewhere.
func unrepeated(said string, words []string) string {
	const repeats = "with args beginning with:"
	if before, _, ok := strings.Cut(said, repeats); ok {
		said = before + repeats + " …"
	}
	for _, word := range slices.Backward(words) {
		if word != "" {
			said = strings.ReplaceAll(said, word, "…")
		}
	}
	return said
}

// ask sends a message and receives one into b, and no byte of what follows it. whole says, of what there is, how many bytes there have to be.
// A server that refuses a connection when it is made may have closed it before the message: on a unix socket that is an error of the
// write, and the refusal is there to be read.
func ask(nc net.Conn, message, b []byte, whole func(have []byte) (int, error)) ([]byte, error) {
	if _, err := nc.Write(message); err != nil {
		if errors.Is(err, unix.EPIPE) {
			if answer, herr := hear(nc, nil, b, whole); herr == nil {
				return answer, nil
			}
		}
		return nil, err
	}
	return hear(nc, nil, b, whole)
}

// hear is ask's second half. The first bytes may have come.
func hear(nc net.Conn, first, b []byte, whole func(have []byte) (int, error)) ([]byte, error) {
	for have := copy(b, first); ; {
		need, err := whole(b[:have])
		switch {
		case err != nil:
			return nil, err
		case need <= have:
			return b[:need], nil
		case need > len(b):
			return nil, fmt.Errorf("%w: an answer of more than %d bytes", transport.ErrProtocol, len(b))
		}
		got, err := io.ReadFull(nc, b[have:need])
		if have += got; err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = transport.ErrPeerGone
			}
			return nil, err
		}
	}
}

// helloBytes is ask's whole: byte by byte to the length of a hello, and then all of it.
func helloBytes(have []byte) (int, error) {
	n, err := wire.HelloBytes(have)
	if err != nil {
		return 0, fmt.Errorf("%w (is this a kvwire server?)", err)
	}
	if n == 0 {
		n = len(have) + 1
	}
	return n, nil
}

func greet(nc net.Conn, o transport.DialOptions, want wire.ClientHello) (hello wire.ServerHello, err error) {
	if o.Loop >= 0 {
		want.Loop = uint16(o.Loop)
	}
	if o.Access != nil {
		want.Required, want.Name = wire.FeatureAccess, o.Access.Name
		_, _ = rand.Read(want.Nonce[:])
	}
	said := want.Append(nil)
	b, err := ask(nc, said, make([]byte, wire.MaxHelloBytes), helloBytes)
	if err != nil {
		return hello, err
	}
	if err := hello.Decode(b); err != nil {
		return hello, err
	}
	var t access.Transcript
	challenged := o.Access != nil && hello.Code == wire.Challenged
	if challenged {
		t = access.NewTranscript(said, b)
		proof := o.Access.ClientProof(t)
		if b, err = ask(nc, proof.Append(nil), make([]byte, wire.MaxHelloBytes), helloBytes); err != nil {
			return hello, err
		}
		if err := hello.Decode(b); err != nil {
			return hello, err
		}
	}
	switch {
	case hello.Code != wire.Granted:
		return hello, &transport.Refusal{Code: hello.Code, Reason: hello.Reason}
	case o.Access != nil && !(challenged && sealed(b, o.Access, t)):
		return hello, transport.ErrImpostor
	case int(hello.Depth) > o.Depth:
		return hello, fmt.Errorf("%w: depth %d was granted, %d asked for", transport.ErrProtocol, hello.Depth, o.Depth)
	}
	return hello, nil
}

// sealed says whether a grant ends with the proof of one who knows the secret.
func sealed(b []byte, who *access.Entry, t access.Transcript) bool {
	said, proof, err := wire.Unseal(b)
	want := who.ServerProof(t, said)
	return err == nil && hmac.Equal(want[:], proof[:])
}

// take is a connection for a loop: a descriptor of its own, prepared, or the session. stop ends what would set deadlines on it.
func (o Sockets) take(nc net.Conn, stop func() bool) (s Socket, err error) {
	if c, plain := nc.(NetConn); plain {
		if s.Fd, err = TakeFd(c); err == nil {
			o.Prepare(s.Fd)
		}
		return s, err
	}
	if !stop() {
		return s, os.ErrDeadlineExceeded
	}
	return Socket{Conn: nc}, nil
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

// unixPeer begins the name of a peer at a unix socket.
const unixPeer = "unix socket"

// PeerName is the address of a socket's peer, for the log; of a unix socket the process at the other end.
func PeerName(fd int, sa unix.Sockaddr) string {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf("%d.%d.%d.%d:%d", a.Addr[0], a.Addr[1], a.Addr[2], a.Addr[3], a.Port)
	case *unix.SockaddrInet6:
		return fmt.Sprintf("[%s]:%d", net.IP(a.Addr[:]), a.Port)
	case *unix.SockaddrUnix:
		if who, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			return fmt.Sprintf("%s, pid %d, uid %d", unixPeer, who.Pid, who.Uid)
		}
		return unixPeer
	}
	return "a peer"
}
