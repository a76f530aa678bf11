// Package uring is the network of TCP sockets under io_uring: accept, receive and send are entries on the
// loop's ring, which also carries the disk's, so that one enter per turn submits and waits for all of
// it. What a connection says is transport/stream's; here are the entries. It may not import store.
package uring

import (
	"context"
	"fmt"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// Transport implements transport.Transport. Its zero value is ready. Whether sockets share the disk's
// ring is the loop's matter (loop.Options.SocketRing).
type Transport struct{}

var _ transport.Transport = Transport{}

// Name is the value of the transport column.
func (Transport) Name() string { return "uring" }

// Sleep is the ring.
func (Transport) Sleep() loop.Sleep { return loop.SleepRing }

// Serve listens on addr, host:port.
func (Transport) Serve(addr string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	return stream.Serve(addr, g, o, stream.Sockets{}, newEndpoint)
}

// Dial connects to addr, host:port, and puts the connection onto l.
func (Transport) Dial(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions) (transport.Conn, error) {
	return stream.Connect(ctx, l, addr, o, stream.Sockets{}, func(fd int, d *stream.Dialed) (transport.Conn, error) { return newConn(l, fd, d) })
}

// gatherMax is the most pieces of one send. Each socket has room for them, since a send is in the
// kernel's hands until it completes.
const gatherMax = 64

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
	touched stream.Touched[*socket]
	window  [2][]byte // scratch of receive
}

// socket is one TCP socket, blocking in the kernel's eyes (a non-blocking one makes the ring answer
// EAGAIN instead of waiting), and its side of the conversation.
type socket struct {
	d        *driver
	fd       int
	tag      uint64
	side     stream.Side
	ended    func(s *socket, err error) // the side asked for the end, or the socket failed
	gone     func(s *socket)            // the descriptor is closed, nothing is in flight
	listed   bool                       // in d.touched
	recving  bool                       // a receive is in flight
	sending  bool                       // a send is in flight: one at a time, or bytes of two would mix
	nonempty bool                       // the last receive left bytes behind
	halved   bool                       // our sending half is shut
	closing  bool                       // shut both ways; closed when nothing is in flight
	why      error                      // of closing

	rmsg, smsg unix.Msghdr
	riov       [2]unix.Iovec
	siov       [gatherMax]unix.Iovec

	stamps  bool // the kernel says when it received
	control [sys.StampBytes]byte
}

func (d *driver) open(fd int, tag uint64, ended func(*socket, error), gone func(*socket)) *socket {
	_ = unix.SetNonblock(fd, false)
	return &socket{d: d, fd: fd, tag: tag, ended: ended, gone: gone}
}

// Touch is stream.Driver's.
func (s *socket) Touch() {
	s.d.touched.Add(s.d.l, s, &s.listed)
}

// Stamp is stream.Driver's. A receive that is in flight has none.
func (s *socket) Stamp() {
	s.stamps = sys.AskStamps(s.fd)
	s.d.l.Stats.Syscalls++
}

// event takes a completion.
func (s *socket) event(kind uint64, res int32, flags uint32) {
	if kind == kindSend {
		s.sending = false
	} else {
		s.recving = false
	}
	s.Touch()
	if s.closing {
		return
	}
	switch {
	case res == -int32(unix.EAGAIN), res == -int32(unix.EINTR):
	case res < 0:
		s.ended(s, fmt.Errorf("%w: %w", transport.ErrPeerGone, unix.Errno(-res)))
	case kind == kindSend:
		s.side.Sent(int(res))
	case res == 0:
		s.ended(s, transport.ErrPeerGone)
	default:
		s.nonempty = flags&ring.CQEFSockNonempty != 0
		stamp := int64(0)
		if s.rmsg.Control != nil {
			if wall := sys.Stamp(&s.rmsg); wall != 0 {
				stamp = loop.OfWall(wall)
			}
		}
		if err := s.side.Received(int(res), stamp); err != nil {
			s.ended(s, err)
		}
	}
}

// flush puts the turn's receives and sends onto the ring.
func (d *driver) flush() {
	list := d.touched.Take(d.l)
	for i, s := range list {
		list[i] = nil
		s.listed = false
		s.stage()
	}
}

func (s *socket) stage() {
	switch {
	case s.fd < 0:
	case s.closing:
		if !s.recving && !s.sending {
			s.bury()
		}
	case !s.send() || !s.receive():
		s.Touch() // the ring is full: next turn
	}
}

// send sends what there is in one entry; false when the ring is full.
func (s *socket) send() bool {
	if s.sending {
		return true
	}
	k := s.side.Gather(s.siov[:])
	if k == 0 {
		if s.side.Finished() && !s.halved {
			s.halved = true
			_ = unix.Shutdown(s.fd, unix.SHUT_WR)
			s.d.l.Stats.Syscalls++
		}
		return true
	}
	e := s.d.l.SocketSQE(s.d.id, kindSend<<kindShift|s.tag)
	if e == nil {
		return false
	}
	// WAITALL: the kernel goes on with a short send by itself. What it still leaves is sent again.
	const flags = unix.MSG_NOSIGNAL | unix.MSG_WAITALL
	if k == 1 {
		e.Send(s.fd, sys.IovecBytes(&s.siov[0]), flags)
	} else {
		s.smsg = unix.Msghdr{Iov: &s.siov[0]}
		s.smsg.SetIovlen(k)
		e.Sendmsg(s.fd, &s.smsg, flags)
	}
	s.sending = true
	s.d.l.Stats.Sends++
	return true
}

// receive asks for the next bytes; false when the ring is full.
func (s *socket) receive() bool {
	if s.recving {
		return true
	}
	w := &s.d.window
	k := s.side.Window(w)
	if k == 0 {
		return true // paused: Touch comes when reading may go on
	}
	e := s.d.l.SocketSQE(s.d.id, kindRecv<<kindShift|s.tag)
	if e == nil {
		return false
	}
	s.rmsg = unix.Msghdr{Iov: &s.riov[0]}
	switch {
	case k == 1 && !s.stamps:
		e.Recv(s.fd, w[0], 0)
	default:
		for i := range w[:k] {
			sys.SetIovec(&s.riov[i], w[i])
		}
		s.rmsg.SetIovlen(k)
		if s.stamps {
			s.rmsg.Control = &s.control[0]
			s.rmsg.SetControllen(len(s.control))
		}
		e.Recvmsg(s.fd, &s.rmsg, 0)
	}
	if !s.nonempty {
		e.IoPrio = ring.PollFirst // an attempt now would find nothing
	}
	s.recving = true
	s.d.l.Stats.Receives++
	return true
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

func (s *socket) bury() {
	_ = unix.Close(s.fd)
	s.d.l.Stats.Syscalls++
	s.fd = -1
	s.side.Drop(s.why)
	s.gone(s)
}
