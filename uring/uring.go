// Package uring is the network of TCP sockets, and of unix sockets, under io_uring: accept, receive and send are entries on the
// loop's ring, which also carries the disk's, so that one enter per turn submits and waits for all of
// it. What a connection says is transport/stream's; here are the entries. It may not import store.
package uring

import (
	"context"
	"fmt"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// Transport implements transport.Transport. Its zero value is ready. Whether sockets share the disk's
// ring is the loop's matter (loop.Options.SocketRing).
type Transport struct{ Options }

var _ transport.Transport = Transport{}

// Name is the value of the transport column.
func (Transport) Name() string { return "uring" }

// Sleep is the ring.
func (Transport) Sleep() loop.Sleep { return loop.SleepRing }

// Serve listens on addr, host:port or unix:PATH.
func (t Transport) Serve(addr string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	own, err := t.Defaults()
	if err != nil {
		return nil, err
	}
	return stream.Serve(addr, g, o, netsock.Options{}, func(h *stream.Host, p *stream.Peers) (stream.Endpoint, error) {
		return newEndpoint(h, p, own)
	})
}

// Dial connects to addr, host:port or unix:PATH, and puts the connection onto l.
func (t Transport) Dial(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions) (transport.Conn, error) {
	own, err := t.Defaults()
	if err != nil {
		return nil, err
	}
	return stream.Connect(ctx, l, addr, o, netsock.Options{}, func(s netsock.Socket, d *stream.Dialed) (transport.Conn, error) {
		return newConn(l, s.Fd, d, own)
	})
}

// What a tag says beside the connection's row.
const (
	kindRecv   = 0
	kindSend   = 1
	kindAccept = 2
	kindCancel = 3 // of no interest
	kindShift  = 48
	rowMask    = 1<<kindShift - 1
)

// driver moves the bytes of all sockets of one member. It is that member's part that endpoint and
// connection share.
type driver struct {
	l       *loop.Loop
	id      loop.MemberID
	o       Options
	bufs    *ring.Buffers // Multishot: what sockets receive into
	given   bool          // buffers came back since they were last published
	touched stream.Touched[*socket]
	window  [2][]byte // scratch of receive
	chains  []*chain  // Linked: those that no socket uses
}

// equip asks the ring for what the options need.
func (d *driver) equip() (err error) {
	r := d.l.Sockets()
	if err := d.o.Check(r); err != nil {
		return err
	}
	if d.o.NAPI > 0 {
		if err := r.NAPI(d.o.NAPI); err != nil {
			return fmt.Errorf("uring: %w", err)
		}
	}
	if d.o.Multishot {
		if d.bufs, err = r.Provide(d.o.Buffers, d.o.BufferBytes); err != nil {
			return fmt.Errorf("uring: buffers for multishot receives: %w", err)
		}
	}
	return nil
}

// unequip gives it back; no socket is left.
func (d *driver) unequip() {
	if d.bufs != nil {
		d.bufs.Close()
		d.bufs = nil
	}
}

// socket is one socket, blocking in the kernel's eyes (a non-blocking one makes the ring answer
// EAGAIN instead of waiting), and its side of the conversation.
type socket struct {
	d       *driver
	fd      int
	file    int // its place among the ring's registered files; below 0: it is not registered
	tag     uint64
	side    stream.Side
	ended   func(s *socket, err error) // the side asked for the end, or the socket failed
	gone    func(s *socket)            // the descriptor is closed, nothing is in flight
	listed  bool                       // in d.touched
	halved  bool                       // our sending half is shut
	closing bool                       // shut both ways; closed when nothing is in flight
	why     error                      // of closing
	dead    bool                       // the side is told

	in  receiving
	out sending
}

// cutter is a side whose requests may end with a short transfer (Once).
type cutter interface {
	CutSend()
	CutReceive()
}

// open takes a socket in. The caller owns fd where it fails.
func (d *driver) open(fd int, tag uint64, ended func(*socket, error), gone func(*socket)) (*socket, error) {
	s := &socket{d: d, fd: fd, file: -1, tag: tag, ended: ended, gone: gone}
	if d.o.FixedFiles {
		var err error
		if s.file, err = d.l.Sockets().AddFile(fd); err != nil {
			return nil, fmt.Errorf("uring: %w", err)
		}
		d.l.Stats.Syscalls++
	}
	s.out.copies = d.o.Large == ZeroCopy && netsock.IsUnix(fd) // the kernel refuses sends without copy there
	_ = unix.SetNonblock(fd, false)
	return s, nil
}

// take gives the descriptor away; nothing is in flight.
func (s *socket) take() int {
	fd := s.fd
	s.unregister()
	s.fd = -1 // it is in no list but, maybe, that of the touched
	return fd
}

func (s *socket) unregister() {
	if s.file >= 0 {
		s.d.l.Sockets().DropFile(s.file)
		s.d.l.Stats.Syscalls++
		s.file = -1
	}
}

// on makes an entry's descriptor the registered one, where there is one.
func (s *socket) on(e *ring.SQE) {
	if s.file >= 0 {
		e.Fd = int32(s.file)
		e.FixedFile()
	}
}

// Touch is stream.Driver's.
func (s *socket) Touch() {
	s.d.touched.Add(s.d.l, s, &s.listed)
}

// event takes a completion.
func (s *socket) event(kind uint64, res int32, flags uint32) {
	switch kind {
	case kindSend:
		s.sent(res, flags)
	case kindRecv:
		s.received(res, flags)
	default:
		return
	}
	s.Touch()
}

// again says that an entry found nothing to do and is simply tried again.
func again(res int32) bool { return res == -int32(unix.EAGAIN) || res == -int32(unix.EINTR) }

func failed(res int32) error { return fmt.Errorf("%w: %w", transport.ErrPeerGone, unix.Errno(-res)) }

// flush puts the turn's receives and sends onto the ring.
func (d *driver) flush() {
	list := d.touched.Take(d.l)
	for i, s := range list {
		list[i] = nil
		s.listed = false
		s.stage()
	}
	if d.given {
		d.given = false
		d.bufs.Publish()
	}
}

func (s *socket) stage() {
	switch {
	case s.dead, s.fd < 0 && !s.closing:
	case s.closing:
		if !s.in.armed && s.out.entries == 0 {
			s.bury()
		}
	default:
		if s.in.held.n > 0 && !s.resume() {
			return // it ended with what had waited
		}
		if !s.send() || !s.receive() {
			s.Touch() // the ring is full: next turn
		}
	}
}

// close begins to end the socket: what is in flight comes back at once, and then the side is told.
func (s *socket) close(err error) {
	if s.closing {
		return
	}
	s.closing, s.why = true, err
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	s.d.l.Stats.Syscalls++
	s.Touch()
}

// bury closes the descriptor, which no entry uses any more. What the kernel still holds of our memory goes nowhere then: the connection
// is reset, and the news of it ends the socket.
func (s *socket) bury() {
	if s.fd >= 0 {
		s.discard()
		s.out.leave()
		if s.out.notes > 0 {
			_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			s.d.l.Stats.Syscalls++
		}
		fd := s.take()
		_ = unix.Close(fd)
		s.d.l.Stats.Syscalls++
	}
	if s.out.notes == 0 {
		s.dead = true
		s.side.Drop(s.why)
		s.gone(s)
	}
}
