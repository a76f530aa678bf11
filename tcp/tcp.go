// Package tcp is the network of TCP sockets under epoll: non-blocking, edge-triggered, one gathered
// write per connection and turn. What a connection says is transport/stream's; here are the system
// calls. It may not import store.
package tcp

import (
	"context"
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// Transport implements transport.Transport. Its zero value is ready.
type Transport struct{}

var _ transport.Transport = Transport{}

// Name is the value of the transport column.
func (Transport) Name() string { return "tcp" }

// Sleep is epoll: the disk's ring, if any, is one of its descriptors.
func (Transport) Sleep() loop.Sleep { return loop.SleepEpoll }

// Serve listens on addr, host:port.
func (Transport) Serve(addr string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	return stream.Serve(addr, g, o, newEndpoint)
}

// Dial connects to addr, host:port, and puts the connection onto l.
func (Transport) Dial(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions) (transport.Conn, error) {
	return stream.Connect(ctx, l, addr, o, func(fd int, d *stream.Dialed) (transport.Conn, error) { return newConn(l, fd, d) })
}

// gatherMax is the most pieces of one write: beyond it the gain is below the noise, and 1 KiB of iovecs
// stays in the first-level cache.
const gatherMax = 64

// driver moves the bytes of all sockets of one member. It is that member's part that endpoint and
// connection share.
type driver struct {
	l       *loop.Loop
	id      loop.MemberID
	touched []*socket // to be looked at in Stage
	spare   []*socket // the list of the last Stage, for the next one
	staged  uint64    // the turn of the last Stage
	ready   []*socket // to be read in Poll: the kernel has more and will not say so again
	spareRd []*socket
	window  [2][]byte // scratch of read; here, since what an interface method sees would be allocated
	iov     [gatherMax]unix.Iovec
	msg     unix.Msghdr
}

// socket is one non-blocking TCP socket and its side of the conversation.
type socket struct {
	d       *driver
	fd      int
	tag     uint64
	side    stream.Side
	ended   func(s *socket, err error) // the side asked for the end, or the socket failed
	listed  bool                       // in d.touched
	queued  bool                       // in d.ready
	more    bool                       // the kernel may have bytes, or the end, that no event will announce
	ending  bool                       // the peer has shut its half, or the socket failed
	blocked bool                       // the send buffer is full; an event will come
	halved  bool                       // our sending half is shut
	closed  bool
}

// open makes a socket whose events come to the member with tag. Its side is set by the caller.
func (d *driver) open(fd int, tag uint64, ended func(*socket, error)) (*socket, error) {
	s := &socket{d: d, fd: fd, tag: tag, ended: ended}
	if err := d.l.Watch(d.id, fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP, tag); err != nil {
		return nil, err
	}
	return s, nil
}

// Touch is stream.Driver's.
func (s *socket) Touch() {
	if !s.listed && !s.closed {
		s.listed = true
		s.d.touched = append(s.d.touched, s)
		if s.d.staged == s.d.l.Stats.Turns {
			s.d.l.Again() // Stage is over for this turn
		}
	}
}

// event takes a socket's readiness.
func (s *socket) event(events uint32) {
	if events&unix.EPOLLOUT != 0 && s.blocked {
		s.blocked = false
		s.Touch()
	}
	const end = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	s.ending = s.ending || events&end != 0
	if events&(unix.EPOLLIN|end) != 0 {
		s.more = true
		s.read()
	}
}

// read receives once. A read that fills its window leaves more for the next turn, so that one busy
// connection does not hold up the others.
func (s *socket) read() {
	if s.closed || !s.more {
		return
	}
	d := s.d
	w := &d.window
	k := s.side.Window(w)
	if k == 0 {
		return // paused: Touch comes when reading may go on
	}
	var n int
	var err error
	d.l.Stats.Syscalls++
	if k == 1 {
		n, err = sys.Recv(s.fd, w[0])
	} else {
		sys.SetIovec(&d.iov[0], w[0])
		sys.SetIovec(&d.iov[1], w[1])
		d.msg = unix.Msghdr{Iov: &d.iov[0]}
		d.msg.SetIovlen(2)
		n, err = sys.Recvmsg(s.fd, &d.msg)
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		s.more = false
		return
	case errors.Is(err, unix.EINTR):
	case err != nil:
		s.ended(s, fmt.Errorf("%w: receive: %w", transport.ErrPeerGone, err))
		return
	case n == 0:
		s.ended(s, transport.ErrPeerGone)
		return
	default:
		// A short read has emptied the socket: what comes later is a new edge. Only the end may have come
		// with the bytes, on their edge.
		s.more = s.ending || n == len(w[0])+len(w[1])*(k-1)
		if err := s.side.Received(n); err != nil {
			s.ended(s, err)
			return
		}
	}
	if s.more && !s.queued {
		s.queued = true
		d.ready = append(d.ready, s)
		d.l.Again()
	}
}

// Poll reads what was left over from the last turn.
func (d *driver) Poll() int {
	if len(d.ready) == 0 {
		return 0
	}
	list := d.ready
	d.ready, d.spareRd = d.spareRd[:0], list
	for i, s := range list {
		list[i] = nil
		s.queued = false
		s.read()
	}
	return len(list)
}

// flush writes for every touched socket, and goes on reading where that was paused.
func (d *driver) flush() {
	d.staged = d.l.Stats.Turns
	list := d.touched
	d.touched, d.spare = d.spare[:0], list
	for i, s := range list {
		list[i] = nil
		s.listed = false
		if s.closed {
			continue
		}
		s.write()
		if !s.closed && s.more && !s.queued {
			s.read()
		}
	}
}

// write sends what there is in one gathered write; what did not fit waits for the next turn, or for the
// socket to take more.
func (s *socket) write() {
	if s.blocked {
		return
	}
	d := s.d
	k := s.side.Gather(d.iov[:])
	if k == 0 {
		return
	}
	want := 0
	for i := range d.iov[:k] {
		want += int(d.iov[i].Len)
	}
	d.msg = unix.Msghdr{Iov: &d.iov[0]}
	d.msg.SetIovlen(k)
	d.l.Stats.Syscalls++
	n, err := sys.Sendmsg(s.fd, &d.msg)
	switch {
	case errors.Is(err, unix.EAGAIN):
		s.blocked = true
		return
	case errors.Is(err, unix.EINTR):
		s.Touch()
		return
	case err != nil:
		s.ended(s, fmt.Errorf("%w: send: %w", transport.ErrPeerGone, err))
		return
	}
	s.side.Sent(n)
	if n < want {
		s.blocked = true // the buffer is full, and its next room is a new edge
	} else if k == gatherMax || n >= stream.GatherBytes {
		s.Touch() // there may be more
	}
	if s.side.Finished() && !s.halved {
		s.halved = true
		_ = unix.Shutdown(s.fd, unix.SHUT_WR)
		d.l.Stats.Syscalls++
	}
}

// close ends the socket's life; err is told to its side.
func (s *socket) close(err error) {
	s.release()
	_ = unix.Close(s.fd)
	s.d.l.Stats.Syscalls++
	s.side.Drop(err)
}

// release takes the socket off the loop and leaves the descriptor open.
func (s *socket) release() {
	s.closed = true
	s.d.l.Unwatch(s.d.id, s.fd, s.tag)
}
