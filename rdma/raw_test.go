//go:build rdma && cgo && linux

package rdma

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"github.com/kvwire/kvwire/transport/transporttest"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// rawConn is a client's end that sends what the test writes: each Write is a message, several if it is too long for
// one. Like a socket, it buffers rawRoom unread bytes; after that its slots stay full.
type rawConn struct {
	net.Conn // for the addresses
	l        *loop.Loop
	k        *link
	news     chan struct{} // something came, or it has ended
	deadline time.Time

	// The loop's.
	out  [][]byte // messages to be sent; what is left of the first
	in   []byte   // received and not read
	left []byte   // of the message that is being received
	err  error    // it has ended
}

const rawRoom = 64 << 10

var _ stream.MessageSide = (*rawConn)(nil)

// rawDial makes a transporttest.Network's Raw.
func rawDial(o Options) func(testing.TB, *loop.Loop, net.Conn, int) (net.Conn, wire.ServerHello) {
	return func(t testing.TB, l *loop.Loop, c net.Conn, depth int) (net.Conn, wire.ServerHello) {
		t.Helper()
		r, h := newRaw(t, o, l, c, depth, nil, nil)
		if r == nil {
			return nil, h
		}
		return r, h
	}
}

// newRaw exchanges hellos on c and owns it. change may falsify this side's hello, and began the messages after it.
func newRaw(t testing.TB, o Options, l *loop.Loop, c net.Conn, depth int, change func(p *params), began func(k *link)) (*rawConn, wire.ServerHello) {
	t.Helper()
	opts, err := o.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	choice, err := pick(c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
	if err != nil {
		t.Fatal(err)
	}
	r := &rawConn{Conn: c, l: l, news: make(chan struct{}, 1)}
	call := func(f func() error) (err error) {
		if e := l.Call(func() { err = f() }); e != nil {
			t.Fatal(e)
		}
		return err
	}
	if err := call(func() (err error) { r.k, err = prepare(l, choice, opts, depth); return err }); err != nil {
		return nil, wire.ServerHello{Code: wire.RefusedBusy, Reason: err.Error()} // this side has no room for one more
	}
	drop := func() error {
		r.k.abandon()
		return nil
	}
	if opts.Connect == ByCM {
		_, _ = rand.Read(r.k.pair.own.token[:])
	}
	p := r.k.pair.own
	if change != nil {
		change(&p)
	}
	h, err := exchange(c, depth, p.encode())
	if err != nil || h.Code != wire.Granted {
		_ = call(drop)
		if err != nil {
			t.Fatal(err)
		}
		return nil, h
	}
	if opts.Connect == ByCM {
		ctx, cancel := context.WithTimeout(t.Context(), transporttest.WaitMax)
		defer cancel()
		at := func(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap() }
		if err := r.k.connectCM(ctx, at(c.LocalAddr()), at(c.RemoteAddr()), h); err != nil {
			_ = call(drop)
			t.Fatal(err)
		}
	}
	err = call(func() error {
		var peer params
		if err := peer.decode(h.Params); err != nil {
			return err
		}
		if err := r.k.connect(peer); err != nil {
			return err
		}
		if err := r.k.bind(); err != nil {
			return err
		}
		if began != nil {
			began(r.k)
		}
		fd, err := duplicate(c.(*net.TCPConn))
		if err != nil {
			return err
		}
		r.k.side, r.k.tcp.fd, r.k.state = r, fd, linkUp
		return l.WatchRarely(r.k.d.id, fd, unix.EPOLLIN|unix.EPOLLRDHUP, r.k.tag)
	})
	if err != nil {
		_ = call(drop)
		t.Fatal(err)
	}
	_ = c.Close() // the duplicate lives on
	return r, h
}

// exchange sends a hello with these parameters and reads the answer.
func exchange(c net.Conn, depth int, params []byte) (h wire.ServerHello, err error) {
	if _, err := c.Write((&wire.ClientHello{Version: wire.Version, Depth: uint16(depth), Loop: wire.AnyLoop, Params: params}).Append(nil)); err != nil {
		return h, err
	}
	return transporttest.ReadHello(c)
}

func duplicate(c *net.TCPConn) (fd int, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := rc.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, syscall.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, err
}

func (r *rawConn) notify() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// RecvBuffers implements stream.Side.
func (r *rawConn) RecvBuffers(*[2][]byte) int { return 0 }

// Received implements stream.Side.
func (r *rawConn) Received(int, int64) error { return nil }

// Gather implements stream.Side.
func (r *rawConn) Gather([]unix.Iovec, int) int { return 0 }

// Sent implements stream.Side.
func (r *rawConn) Sent(int) {}

// Finished implements stream.Side.
func (r *rawConn) Finished() bool     { return false }
func (c *rawConn) PeerFinished() bool { return false }

// Drop implements stream.Side.
func (r *rawConn) Drop(err error) {
	r.err = err
	r.notify()
}

// ReceivedMessage implements stream.MessageSide.
func (r *rawConn) ReceivedMessage(b []byte) error {
	r.left = b
	r.fill()
	r.notify()
	return nil
}

func (r *rawConn) fill() {
	n := min(len(r.left), rawRoom-len(r.in))
	r.in = append(r.in, r.left[:n]...)
	r.left = r.left[n:]
}

// Unread implements stream.MessageSide.
func (r *rawConn) Unread() int { return len(r.left) }

// Next implements stream.MessageSide.
func (r *rawConn) Next(v []unix.Iovec, most int) (pieces, bytes int, more bool) {
	if len(r.out) == 0 {
		return 0, 0, false
	}
	b := r.out[0]
	n := min(len(b), most)
	sys.SetIovec(&v[0], b[:n])
	if r.out[0] = b[n:]; n == len(b) {
		r.out = r.out[1:]
	}
	return 1, n, len(r.out) > 0
}

// NextCopied implements stream.MessageSide. It leaves all messages to Next.
func (r *rawConn) NextCopied(int) (b []byte, more bool) { return nil, len(r.out) > 0 }

// Last implements stream.MessageSide. It is true, so that each message makes a completion.
func (r *rawConn) Last() bool { return true }

// SetDeadline implements net.Conn.
func (r *rawConn) SetDeadline(t time.Time) error {
	r.deadline = t
	return nil
}

// wait calls f on the loop until it returns true, the connection has ended, or the deadline has passed.
func (r *rawConn) wait(f func() bool) error {
	timer := time.NewTimer(time.Until(r.deadline))
	defer timer.Stop()
	tick := time.NewTicker(5 * time.Millisecond) // what was sent arrives without news
	defer tick.Stop()
	for {
		ok := false
		var err error
		if e := r.l.Call(func() { ok, err = f(), r.err }); e != nil {
			return e
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-r.news:
		case <-tick.C:
		case <-timer.C:
			return os.ErrDeadlineExceeded
		}
	}
}

// Read implements net.Conn.
func (r *rawConn) Read(b []byte) (n int, err error) {
	err = r.wait(func() bool {
		n = copy(b, r.in)
		r.in = r.in[:copy(r.in, r.in[n:])]
		if r.fill(); r.err == nil {
			r.k.Touch()
		}
		return n > 0
	})
	switch {
	case n > 0:
		return n, nil
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return 0, io.EOF
	}
	return 0, err
}

// Write implements net.Conn. It does not wait.
func (r *rawConn) Write(b []byte) (n int, err error) {
	e := r.l.Call(func() {
		if err = r.err; err == nil {
			r.out = append(r.out, append([]byte(nil), b...))
			r.k.Touch()
		}
	})
	if err = errors.Join(err, e); err != nil {
		return 0, err
	}
	return len(b), nil
}

// flush waits until all that was written has arrived.
func (r *rawConn) flush() error {
	return r.wait(func() bool { return len(r.out) == 0 && r.k.drained() })
}

// CloseWrite ends the sending half.
func (r *rawConn) CloseWrite() error {
	if err := r.flush(); err != nil {
		return err
	}
	return r.on(func() error { return unix.Shutdown(r.k.tcp.fd, unix.SHUT_WR) })
}

// Close implements net.Conn. All written bytes arrive before.
func (r *rawConn) Close() error {
	_ = r.flush()
	return r.on(func() error { r.k.Close(transport.ErrClosed); return nil })
}

// on runs f on the loop, as long as the connection lives.
func (r *rawConn) on(f func() error) (err error) {
	e := r.l.Call(func() {
		if err = r.err; err == nil {
			err = f()
		}
	})
	return errors.Join(err, e)
}
