// Package uring is the network of TCP sockets, and of unix sockets, under io_uring: accept, receive and send are
// entries on the loop's ring, which also carries the disk's, so that one enter per turn submits and waits for all of
// them. Package transport/stream makes and parses a connection's bytes; this package makes the entries. It may not
// import store.
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

// Transport implements transport.Transport. Its zero value is ready. The loop's options determine whether
// sockets share the disk's ring (loop.Options.SocketRing).
type Transport struct{ Options }

var _ transport.Transport = Transport{}

// Name returns the value of the column transport.
func (Transport) Name() string { return "uring" }

// Sleep returns the ring.
func (Transport) Sleep() loop.Sleep { return loop.SleepRing }

// Serve listens on addr, host:port or unix:PATH.
func (t Transport) Serve(addr string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	own, err := t.Defaults()
	if err != nil {
		return nil, err
	}
	return stream.Serve(addr, g, o, own.sockets(), func(h *stream.Host, p *stream.Peers) (stream.Endpoint, error) {
		return newEndpoint(h, p, own)
	})
}

// Dial connects to addr, host:port or unix:PATH, and puts the connection onto l.
func (t Transport) Dial(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions) (transport.Conn, error) {
	own, err := t.Defaults()
	if err != nil {
		return nil, err
	}
	return stream.Connect(ctx, l, addr, o, own.sockets(), func(s netsock.Socket, d *stream.Dialed) (transport.Conn, error) {
		return newConn(l, s.Fd, d, own)
	})
}

// The kind of an entry, in the upper bits of its tag. The lower bits are the tag of the connection's row.
const (
	kindRecv   = 0
	kindSend   = 1
	kindAccept = 2
	kindCancel = 3 // its completion is ignored
	kindShift  = 48
	rowMask    = 1<<kindShift - 1
)

// ringEngine moves the bytes of all sockets of one member: the common part of endpoint and hub.
type ringEngine struct {
	l        *loop.Loop
	count    *transport.Counters // of its loop
	id       loop.MemberID
	o        Options
	server   bool          // it receives requests, not answers
	bufs     *ring.Buffers // the buffers of multishot receives; nil: all receives are single
	returned bool          // buffers were returned since they were last published
	skips    bool          // sends may be silent
	silent   []*socket     // those with a silent send in flight, and some whose silent send has failed
	silentTo uint32        // Ring.Mark behind the last silent send
	sockets  stream.Table[*socket]
	touched  stream.Touched[*socket]
	window   [2][]byte // scratch of receive
	chains   []*chain  // Linked: unused chains
}

var _ stream.Engine = (*ringEngine)(nil)

// start adds the engine's member to the loop, and registers on the ring what the options require.
func (d *ringEngine) start(m loop.Member) (err error) {
	if err = d.setUp(); err != nil {
		return err
	}
	if d.id, err = d.l.Add(m); err != nil {
		d.End()
	}
	return err
}

func (d *ringEngine) setUp() (err error) {
	d.count = transport.CountersOf(d.l)
	r := d.l.Sockets()
	if err := d.o.Check(r); err != nil {
		return err
	}
	d.skips = d.o.waits() && !d.o.Bundle && r.SkipsSuccess()
	if d.o.NAPI > 0 {
		if err := r.NAPI(d.o.NAPI); err != nil {
			return fmt.Errorf("uring: %w", err)
		}
	}
	if d.o.Receive == Multishot || d.o.Receive == Auto && d.server && r.Multishot() {
		if d.bufs, err = r.Provide(d.o.Buffers, d.o.BufferBytes); err != nil {
			return fmt.Errorf("uring: buffers for multishot receives: %w", err)
		}
	}
	return nil
}

// End implements stream.Engine. It frees what start registered on the ring.
func (d *ringEngine) End() {
	if d.bufs != nil {
		d.bufs.Close()
		d.bufs = nil
	}
}

// socket is one socket and its side. The socket is blocking: on a non-blocking one the ring completes
// with EAGAIN instead of waiting.
type socket struct {
	d        *ringEngine
	fd       int
	file     int // index among the ring's registered files; below 0: not registered
	tag      uint64
	side     stream.Side
	onEnd    func(s stream.ConnIO, err error) // called when the side returns an error, or the socket has failed
	onClosed func()                           // called when the descriptor is closed and nothing is in flight; may be nil
	listed   bool                             // in d.touched
	sendShut bool                             // our sending half is shut
	closing  bool                             // shut both ways; closed when nothing is in flight
	why      error                            // reason for closing
	dead     bool                             // the side was dropped

	in  receiving
	out sending
}

// truncationMarker is a side whose requests may end with a short transfer (Once).
type truncationMarker interface {
	MarkSendTruncated()
	MarkReceiveTruncated()
}

// Open implements stream.Engine.
func (d *ringEngine) Open(from netsock.Socket, ended func(stream.ConnIO, error), gone func()) (stream.ConnIO, error) {
	fd := from.Fd
	s := &socket{d: d, fd: fd, file: -1, onEnd: ended, onClosed: gone}
	if d.o.FixedFiles {
		var err error
		if s.file, err = d.l.Sockets().AddFile(fd); err != nil {
			return nil, fmt.Errorf("uring: %w", err)
		}
		d.l.Stats.Syscalls++
	}
	s.out.copies = d.o.Large == ZeroCopy && netsock.IsUnix(fd) // the kernel refuses sends without copy there
	_ = unix.SetNonblock(fd, false)
	tag, row := d.sockets.Put()
	s.tag, *row = tag, s
	return s, nil
}

// Each implements stream.Engine.
func (d *ringEngine) Each(f func(stream.ConnIO)) {
	d.sockets.Each(func(_ uint64, s **socket) { f(*s) })
}

// Len implements stream.Engine.
func (d *ringEngine) Len() int { return d.sockets.Len() }

// Busy implements stream.Engine. Bytes are counted as sent when all completions and notifications of their send have come, so their side is busy until then.
func (d *ringEngine) Busy() string { return "" }

// Join implements stream.ConnIO.
func (s *socket) Join(side stream.Side) {
	s.side = side
	s.in.open = s.granted()
	s.Touch() // the first receive
}

// Side implements stream.ConnIO.
func (s *socket) Side() stream.Side { return s.side }

// granted reports whether the connection's hello is done.
func (s *socket) granted() bool {
	c, accepted := s.side.(*stream.Server)
	return !accepted || c.Depth() > 0
}

// Control implements netsock.Holder.
func (s *socket) Control(f func(fd int)) bool {
	if s.fd < 0 {
		return false
	}
	f(s.fd)
	return true
}

// Detach implements stream.ConnIO.
func (s *socket) Detach() netsock.Socket {
	s.d.sockets.Drop(s.tag)
	return netsock.Socket{Fd: s.detachFd()}
}

// detachFd removes the socket and returns its descriptor; nothing may be in flight.
func (s *socket) detachFd() int {
	fd := s.fd
	s.unregister()
	s.fd = -1 // it may still be in the list of touched sockets
	return fd
}

func (s *socket) unregister() {
	if s.file >= 0 {
		s.d.l.Sockets().DropFile(s.file)
		s.d.l.Stats.Syscalls++
		s.file = -1
	}
}

// useFile makes an entry use the registered file, if there is one.
func (s *socket) useFile(e *ring.SQE) {
	if s.file >= 0 {
		e.Fd = int32(s.file)
		e.FixedFile()
	}
}

// Touch implements stream.Driver.
func (s *socket) Touch() {
	s.d.touched.Add(s.d.l, s, &s.listed)
}

// event handles the completion of a socket's entry.
func (d *ringEngine) event(tag uint64, res int32, flags uint32) {
	row := d.sockets.Get(tag & rowMask)
	if row == nil {
		return
	}
	s := *row
	s.event(tag>>kindShift, res, flags)
	if !s.in.open && s.fd >= 0 {
		s.in.open = s.granted()
	}
}

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

// retryable reports whether an entry must only be tried again.
func retryable(res int32) bool { return res == -int32(unix.EAGAIN) || res == -int32(unix.EINTR) }

func peerError(res int32) error { return fmt.Errorf("%w: %w", transport.ErrPeerGone, unix.Errno(-res)) }

// Flush implements stream.Engine. It puts the turn's receives and sends onto the ring.
func (d *ringEngine) Flush() {
	list := d.touched.Detach(d.l)
	for i, s := range list {
		list[i] = nil
		s.listed = false
		s.stage()
	}
	if d.returned {
		d.returned = false
		d.bufs.Publish()
	}
	for _, s := range d.silent { // another socket may have begun to wait since
		if s.out.silent && !s.sentCanWait() {
			d.l.Again()
			break
		}
	}
}

func (s *socket) stage() {
	switch {
	case s.dead, s.fd < 0 && !s.closing:
	case s.closing:
		if !s.in.armed && s.out.entries == 0 {
			s.closeIdle()
		}
	default:
		if s.in.held.Len() > 0 && !s.resume() {
			return // held bytes have ended it
		}
		if !s.send() || !s.receive() {
			s.Touch() // the ring is full: next turn
		}
	}
}

// Close implements stream.ConnIO. It shuts the socket, so that entries in flight complete at once; then the side is dropped.
func (s *socket) Close(err error) {
	if s.closing {
		return
	}
	s.closing, s.why = true, err
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	s.d.l.Stats.Syscalls++
	s.Touch()
}

// closeIdle closes the descriptor, which no entry uses any more. The kernel may still use memory of zero-copy sends; closing resets the connection,
// and the notifications that follow end the socket.
func (s *socket) closeIdle() {
	if s.fd >= 0 {
		s.discard()
		s.out.closePieces()
		if s.out.notifications > 0 {
			_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			s.d.l.Stats.Syscalls++
		}
		fd := s.detachFd()
		_ = unix.Close(fd)
		s.d.l.Stats.Syscalls++
	}
	if s.out.notifications == 0 {
		s.dead = true
		s.d.sockets.Drop(s.tag)
		s.side.Drop(s.why)
		if s.onClosed != nil {
			s.onClosed()
		}
	}
}
