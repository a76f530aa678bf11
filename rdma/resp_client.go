//go:build rdma && cgo && linux

package rdma

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// respConn is the client's end of a connection with Valkey's protocol.
type respConn struct {
	*stream.Client
	link *link
}

var _ transport.Conn = (*respConn)(nil)

// Hangup implements transport.Conn.
func (c *respConn) Hangup() {
	_ = c.link.d.l.Call(func() { c.link.Close(transport.ErrClosed) })
}

// dialRESP connects to a server with Valkey's protocol by rdma_cm, authenticates, and puts the connection onto l. ctx and o have their bounds.
func dialRESP(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions, opts Options) (_ transport.Conn, err error) {
	b, err := connectRESP(ctx, l, addr, opts)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	var side *stream.Client
	d, err := stream.DialedRedis(b, o)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", o.DialMax)
	}
	if err == nil {
		err = b.l.Try(func() (err error) {
			if side, err = d.Client(l, b.k); err == nil {
				b.k.side = side
				b.k.resp.conn.SetSide(side)
			}
			return err
		})
	}
	if err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return &respConn{side, b.k}, nil
}

// connectRESP makes a connection, before its first command. ctx has a deadline.
func connectRESP(ctx context.Context, l *loop.Loop, addr string, o Options) (b *blocking, err error) {
	if Modelled() != nil {
		return nil, errors.New("rdma: Valkey's clients connect by rdma_cm, which needs a device of the kernel's: leave out --rdma-device model")
	}
	from, to, err := route(ctx, addr)
	if err != nil {
		return nil, err
	}
	c, err := pick(from)
	if err == nil {
		err = device.CheckReach(device.Local(), c, to.Addr())
	}
	if err != nil {
		return nil, err
	}
	b = &blocking{l: l, came: make(chan struct{}, 1), sent: make(chan struct{}, 1)}
	b.deadline, _ = ctx.Deadline()
	if err := b.l.Try(func() error { return b.prepare(c, o) }); err != nil {
		return nil, err
	}
	k := b.k
	if k.pair.cm, err = k.pair.qp.ConnectCM(ctx, from, to.Addr(), to.Port(), verbs.CMToken{}, k.respPath()); err == nil {
		err = b.l.Try(b.begin)
	}
	if err != nil {
		_ = l.Do(k.abandon)
		return nil, err
	}
	return b, nil
}

// route resolves addr, host:port, and returns the source address to it.
func route(ctx context.Context, addr string) (from netip.Addr, to netip.AddrPort, err error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", addr) // which sends nothing
	if err != nil {
		return from, to, err
	}
	defer c.Close()
	local, remote := c.LocalAddr().(*net.UDPAddr).AddrPort(), c.RemoteAddr().(*net.UDPAddr).AddrPort()
	return local.Addr().Unmap(), netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()), nil
}

// blocking is the side of a connection that other goroutines than the loop's read and write, until it has another side. It implements net.Conn except for the
// addresses. Unread bytes beyond its buffer stop the peer.
type blocking struct {
	net.Conn           // nil
	stream.MessageSide // nil: the link of such a connection calls no method of messages
	l                  *loop.Loop
	k                  *link
	came, sent         chan struct{} // bytes were received or sent, or it has ended
	deadline           time.Time

	// The loop's.
	in     [16 << 10]byte
	rd, wr int
	out    []byte // to be sent
	err    error  // it has ended
}

var (
	_ net.Conn           = (*blocking)(nil)
	_ stream.MessageSide = (*blocking)(nil)
)

// prepare makes the queue pair.
func (b *blocking) prepare(c device.Choice, o Options) error {
	h, err := hubFor(b.l, c, o)
	if err != nil {
		return err
	}
	tag, row := h.links.Put()
	k := &link{d: &h.rdmaEngine, tag: tag, tcp: control{fd: -1}, onEnd: stream.ConnIO.Close}
	*row, b.k = k, k
	if err = k.openRESP(c, b, 0); err != nil {
		h.links.Drop(tag)
	}
	return err
}

// begin is called when rdma_cm has connected the queue pair.
func (b *blocking) begin() error {
	k := b.k
	if k.state == linkClosed {
		return transport.ErrClosed
	}
	if n := k.d.nic; n.failure != nil {
		return n.failure
	}
	if err := k.d.l.WatchRarely(k.d.id, k.pair.cm.Fd(), unix.EPOLLIN, k.tag); err != nil {
		return err
	}
	k.tcp.fd, k.side, k.state = k.pair.cm.Fd(), b, linkUp
	if err := k.bind(); err != nil {
		k.Close(err)
		return err
	}
	k.resp.connected()
	return nil
}

func notify(news chan struct{}) {
	select {
	case news <- struct{}{}:
	default:
	}
}

// wait calls f on the loop, and again after news, until it returns true, the connection has ended, or the deadline has passed.
func (b *blocking) wait(news chan struct{}, f func() bool) error {
	timer := time.NewTimer(time.Until(b.deadline))
	defer timer.Stop()
	for {
		ok := false
		var ended error
		if err := b.l.Try(func() error { ok, ended = f(), b.err; return nil }); err != nil || ok {
			return err
		}
		if ended != nil {
			return ended
		}
		select {
		case <-news:
		case <-timer.C:
			return os.ErrDeadlineExceeded
		}
	}
}

// Read implements net.Conn.
func (b *blocking) Read(to []byte) (n int, err error) {
	err = b.wait(b.came, func() bool {
		n = copy(to, b.in[b.rd:b.wr])
		if b.rd += n; b.rd == b.wr {
			b.rd, b.wr = 0, 0
		}
		if n > 0 && b.err == nil {
			b.k.Touch()
		}
		return n > 0
	})
	if errors.Is(err, transport.ErrPeerGone) || errors.Is(err, transport.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Write implements net.Conn. It blocks until the peer's transfer buffer has room.
func (b *blocking) Write(from []byte) (int, error) {
	begun := false
	err := b.wait(b.sent, func() bool {
		if !begun {
			begun, b.out = true, from
			b.k.Touch()
		}
		return len(b.out) == 0 && b.err == nil
	})
	if err != nil {
		return 0, err
	}
	return len(from), nil
}

// SetDeadline implements net.Conn.
func (b *blocking) SetDeadline(t time.Time) error {
	b.deadline = t
	return nil
}

// Close implements net.Conn.
func (b *blocking) Close() error {
	return b.l.Try(func() error { b.k.Close(transport.ErrClosed); return nil })
}

// RecvBuffers implements stream.Side.
func (b *blocking) RecvBuffers(w *[2][]byte) int {
	w[0] = b.in[b.wr:]
	return 1
}

// Received implements stream.Side.
func (b *blocking) Received(n int, _ int64) error {
	b.wr += n
	notify(b.came)
	return nil
}

// Gather implements stream.Side.
func (b *blocking) Gather(v []unix.Iovec, most int) int {
	if len(b.out) == 0 {
		return 0
	}
	sys.SetIovec(&v[0], b.out[:min(most, len(b.out))])
	return 1
}

// Sent implements stream.Side.
func (b *blocking) Sent(n int) {
	if b.out = b.out[n:]; len(b.out) == 0 {
		notify(b.sent)
	}
}

// Finished implements stream.Side.
func (b *blocking) Finished() bool { return false }

// Drop implements stream.Side.
func (b *blocking) Drop(err error) {
	b.err = err
	notify(b.came)
	notify(b.sent)
}
