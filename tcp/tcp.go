// Package tcp is the network of TCP sockets, and of unix sockets, which carry the same bytes: under epoll,
// non-blocking, edge-triggered, with one gathered write per connection and turn; or with goroutines on Go's net
// package, as in most Go servers. Package transport/stream makes and parses the bytes; this package makes the system
// calls. It may not import store.
package tcp

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// Transport implements transport.Transport. Its zero value is ready.
type Transport struct{ Options Options }

var _ transport.Transport = Transport{}

// Name returns the value of the column transport.
func (Transport) Name() string { return "tcp" }

// Sleep returns epoll: the disk's ring, if any, is one of its descriptors.
func (Transport) Sleep() loop.Sleep { return loop.SleepEpoll }

// Serve listens on addr, host:port or unix:PATH.
func (t Transport) Serve(addr string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	if err := t.Options.check(t.Options.Engine, t.Options.ServerTLS); err != nil {
		return nil, err
	}
	sockets := t.Options.Sockets
	sockets.TLS = t.Options.ServerTLS
	return stream.Serve(addr, g, o, sockets, func(h *stream.Host, p *stream.Peers) (stream.Endpoint, error) {
		return newEndpoint(h, p, t.Options)
	})
}

// Dial connects to addr, host:port or unix:PATH, and puts the connection onto l.
func (t Transport) Dial(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions) (transport.Conn, error) {
	if err := t.Options.check(t.Options.ClientEngine, t.Options.ClientTLS); err != nil {
		return nil, err
	}
	sockets := t.Options.Sockets
	sockets.ReusePort, sockets.TLS = false, t.Options.ClientTLS
	return stream.Connect(ctx, l, addr, o, sockets, func(s netsock.Socket, d *stream.Dialed) (transport.Conn, error) {
		return newConn(l, s, d, t.Options)
	})
}

// gatherMax is the most pieces of one write: more have no measurable gain, and 1 KiB of iovecs
// fits into the first-level cache.
const gatherMax = 64

// epollEngine moves the bytes of all sockets of one member: the common part of endpoint and hub.
type epollEngine struct {
	l       *loop.Loop
	count   *transport.Counters // of its loop
	id      loop.MemberID
	o       Options
	sockets stream.Table[*socket]
	touched stream.Touched[*socket]
	ready   []*socket // sockets to read in Poll: the kernel has more bytes and sends no further event
	closed  bool      // a socket was closed since the last Poll: there may be few enough to poll them
	polled  []*socket // sockets of a spinning loop that are not in its epoll set: Poll tries to receive from them
	spareRd []*socket
	window  [2][]byte // scratch of read; a local variable that is passed to an interface method would be allocated
	iov     [gatherMax]unix.Iovec
	msg     unix.Msghdr
	control [sys.StampBytes]byte
}

// socket is one non-blocking socket and its side.
type socket struct {
	d             *epollEngine
	fd            int
	tag           uint64
	side          stream.Side
	onEnd         func(stream.ConnIO, error)
	onClosed      func() // called when the socket is closed; may be nil
	listed        bool   // in d.touched
	queued        bool   // in d.ready
	readable      bool   // the kernel may have bytes, or the end, for which no event will come
	ending        bool   // the peer has shut its sending half, or the socket has failed
	eof           bool   // the peer has shut its sending half; answers are still to be sent
	blocked       bool   // the send buffer is full; an event will follow
	sendShut      bool   // our sending half is shut
	closed        bool
	polled        bool  // in d.polled
	watched       bool  // in the loop's epoll set
	idle          int   // polls in a row that found nothing
	polledAt      int64 // the turn of the last poll, by loop.Now
	local         bool  // a unix socket
	watchesRoom   bool  // a unix socket that is also watched for room in its send buffer
	stamps        bool  // the kernel reports when it received
	corked        bool  // the last write was sent with MSG_MORE
	zeroCopyBytes int   // bytes of a zero-copy write under way: nothing else is sent until the kernel has released them
	zeroCopy      bool  // zero-copy writes are possible
}

var _ engine = (*epollEngine)(nil)

// allEvents are the events for which a TCP socket is watched.
const allEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP

// Open implements stream.Engine.
func (d *epollEngine) Open(from netsock.Socket, ended func(stream.ConnIO, error), gone func()) (stream.ConnIO, error) {
	fd := from.Fd
	tag, row := d.sockets.Put()
	s := &socket{d: d, fd: fd, tag: tag, onEnd: ended, onClosed: gone}
	*row = s
	s.local = netsock.IsUnix(fd)
	if d.o.ZeroCopyBytes > 0 && !s.local {
		s.zeroCopy = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1) == nil
	}
	if d.mayPoll() && s.pollable() {
		s.startPolling()
		return s, nil
	}
	if err := s.watch(); err != nil {
		d.sockets.Drop(tag)
		return nil, err
	}
	if !d.mayPoll() {
		d.watchAll()
	}
	return s, nil
}

// polledMax is the most sockets of an engine that are polled.
const polledMax = 4

// mayPoll reports whether sockets are polled: a loop that never sleeps receives from its sockets in each turn, without epoll, if there are at most polledMax. For a socket in an epoll set each
// packet makes its sender add the socket to the list of ready ones, whose lock epoll_wait on the other CPU takes again and again; and the loop makes two system calls (docs/adr/0051).
func (d *epollEngine) mayPoll() bool {
	return d.l.WaitPolicy() == loop.WaitSpin && d.sockets.Len() <= polledMax
}

// pollable reports whether receiving finds all that an event would announce.
func (s *socket) pollable() bool { return !s.blocked && !s.eof && !s.zeroCopy }

// startPolling makes Poll receive from the socket, and removes it from the epoll set.
func (s *socket) startPolling() {
	if s.polled || s.closed || !s.pollable() {
		return
	}
	s.unwatch()
	s.polled, s.idle = true, 0
	s.d.polled = append(s.d.polled, s)
}

// watch puts the socket into the epoll set. What has arrived already makes an event.
func (s *socket) watch() error {
	s.stopPolling()
	if s.watched {
		return nil
	}
	events := uint32(allEvents)
	if s.watchesRoom = s.local && s.blocked; s.local && !s.blocked {
		events &^= unix.EPOLLOUT // see markFull
	}
	err := s.d.l.Watch(s.d.id, s.fd, events, s.tag)
	s.watched = err == nil
	return err
}

func (s *socket) stopPolling() {
	if s.polled {
		s.polled = false
		s.d.polled = slices.DeleteFunc(s.d.polled, func(t *socket) bool { return t == s })
	}
}

func (s *socket) unwatch() {
	if s.watched {
		s.watched = false
		s.d.l.Unwatch(s.d.id, s.fd, s.tag)
	}
}

// watchOrEnd is watch for a socket that is open for longer: a failure ends it.
func (s *socket) watchOrEnd() {
	if err := s.watch(); err != nil {
		s.ended(err)
	}
}

// watchAll watches the sockets that were polled: there are too many.
func (d *epollEngine) watchAll() {
	for len(d.polled) > 0 {
		d.polled[0].watchOrEnd()
	}
}

// Each implements stream.Engine.
func (d *epollEngine) Each(f func(stream.ConnIO)) {
	d.sockets.Each(func(_ uint64, s **socket) { f(*s) })
}

// Len implements stream.Engine.
func (d *epollEngine) Len() int { return d.sockets.Len() }

// event implements engine.
func (d *epollEngine) event(tag uint64, ready uint32) {
	if s := d.sockets.Get(tag); s != nil {
		(*s).event(ready)
	}
}

// Arm implements loop.Armer. There is nothing to arm: epoll wakes the loop.
func (d *epollEngine) Arm() (bool, error) { return false, nil }

// End implements stream.Engine. There is nothing to free.
func (d *epollEngine) End() {}

// Busy implements stream.Engine. Bytes of a zero-copy write are counted as sent when the kernel has released them, so their side is busy until then.
func (d *epollEngine) Busy() string {
	if len(d.ready) > 0 {
		return "a socket has bytes that were not received"
	}
	return ""
}

// Touch implements stream.Driver.
func (s *socket) Touch() {
	if !s.closed {
		s.d.touched.Add(s.d.l, s, &s.listed)
	}
}

// Stamp implements stream.Driver. On a unix socket it does nothing: the kernel has no receive times there, and without room for control data a peer
// cannot pass descriptors to this process.
func (s *socket) Stamp() {
	if s.local {
		return
	}
	s.stamps = sys.AskStamps(s.fd)
	s.d.l.Stats.Syscalls++
}

// Join implements stream.ConnIO. An event announces what there is to read.
func (s *socket) Join(side stream.Side) { s.side = side }

// Side implements stream.ConnIO.
func (s *socket) Side() stream.Side { return s.side }

// ended is called when the side returns an error, or the socket has failed.
func (s *socket) ended(err error) { s.onEnd(s, err) }

func (s *socket) event(events uint32) {
	if s.closed {
		return
	}
	if events&unix.EPOLLOUT != 0 && s.blocked {
		s.blocked = false
		s.Touch()
		if s.d.mayPoll() {
			s.startPolling()
		}
	}
	if events&unix.EPOLLERR != 0 && s.zeroCopyBytes > 0 {
		d := s.d
		d.l.Stats.Syscalls++
		if free, copied := sys.Sent(s.fd); free {
			d.count.ZeroCopies++
			if copied {
				d.count.ZeroCopied++
			}
			events &^= unix.EPOLLERR
			n := s.zeroCopyBytes
			s.zeroCopyBytes = 0
			s.side.Sent(n)
			s.shutIfFinished()
			s.Touch()
		}
	}
	const end = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	if s.closed { // by Sent: it was the last answer
		return
	}
	if s.eof {
		if events&unix.EPOLLHUP != 0 { // now it does not read either
			s.ended(transport.ErrPeerGone)
		}
		return
	}
	s.ending = s.ending || events&end != 0
	if events&(unix.EPOLLIN|end) != 0 {
		s.readable = true
		s.read()
	}
}

// read receives once, and reports whether there was something. If it fills its buffers, the rest is received in the next turn, so that one busy
// connection does not delay the others.
func (s *socket) read() (found bool) {
	if s.closed || !s.readable || s.eof {
		return false
	}
	d := s.d
	w := &d.window
	k := s.side.RecvBuffers(w)
	if k == 0 {
		return false // paused: Touch is called when reading may continue
	}
	var n int
	var err error
	d.l.Stats.Syscalls++
	d.count.Receives++
	stamp := int64(0)
	if k == 1 && !s.stamps {
		n, err = sys.Recv(s.fd, w[0])
	} else {
		n, stamp, err = s.recvmsg(w[:k])
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		if s.readable = false; s.polled {
			s.idle++
			d.count.Receives-- // it was no receive
		}
		return false
	case errors.Is(err, unix.EINTR):
	case err != nil:
		s.ended(fmt.Errorf("%w: receive: %w", transport.ErrPeerGone, err))
		return true
	case n == 0:
		if s.readable, s.eof = false, s.side.PeerFinished(); !s.eof {
			s.ended(transport.ErrPeerGone)
		} else if s.polled { // until it does not read either
			s.watchOrEnd()
		}
		s.Touch()
		return true
	default:
		s.idle = 0
		// A short read has emptied the socket: later bytes make a new edge. Only the end may share
		// the edge of these bytes.
		s.readable = s.ending || n == len(w[0])+len(w[1])*(k-1)
		if d.o.QuickAck && !s.local {
			_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
			d.l.Stats.Syscalls++
		}
		if err := s.side.Received(n, stamp); err != nil {
			s.ended(err)
			return true
		}
	}
	if s.readable && !s.queued && !s.polled {
		s.queued = true
		d.ready = append(d.ready, s)
		d.l.Again()
	}
	return true
}

// recvmsg receives into several buffers, or with the kernel's receive time.
func (s *socket) recvmsg(w [][]byte) (n int, stamp int64, err error) {
	d := s.d
	for i := range w {
		sys.SetIovec(&d.iov[i], w[i])
	}
	d.msg = unix.Msghdr{Iov: &d.iov[0]}
	d.msg.SetIovlen(len(w))
	if s.stamps {
		d.msg.Control = &d.control[0]
		d.msg.SetControllen(len(d.control))
	}
	n, err = sys.Recvmsg(s.fd, &d.msg)
	if wall := int64(0); err == nil && s.stamps {
		if wall = sys.Stamp(&d.msg); wall != 0 {
			stamp = loop.FromWall(wall)
		}
	}
	return n, stamp, err
}

// Poll reads the rest of the last turn, and receives from the polled sockets.
func (d *epollEngine) Poll() int {
	if d.closed {
		d.closed = false
		if d.mayPoll() {
			d.Each(func(s stream.ConnIO) { s.(*socket).startPolling() })
		}
	}
	found := len(d.ready)
	if found > 0 {
		list := d.ready
		d.ready, d.spareRd = d.spareRd[:0], list
		for i, s := range list {
			list[i] = nil
			s.queued = false
			s.read()
		}
	}
	for i := 0; i < len(d.polled); {
		s := d.polled[i]
		if s.tryRead() {
			found++
		}
		if i < len(d.polled) && d.polled[i] == s { // it has not ended, and is not watched now
			i++
		}
	}
	return found
}

// After idlePolls polls in a row that found nothing, a socket is polled every idleNs only: a connection that is seldom used costs the others little.
const (
	idlePolls = 1000
	idleNs    = 4000
)

// due reports whether the socket is to be polled in the turn that began at now.
func (s *socket) due(now int64) bool { return s.idle <= idlePolls || now-s.polledAt >= idleNs }

// tryRead receives once from a polled socket, and reports whether there was something.
func (s *socket) tryRead() bool {
	d := s.d
	now := d.l.Now()
	if !s.due(now) {
		return false
	}
	s.polledAt = now
	s.readable = true
	found := s.read()
	if s.polled && s.readable { // the next turn receives the rest, or continues when the side has resumed
		s.readable = false
		if found {
			d.l.Again()
		}
	}
	return found
}

// Flush implements stream.Engine. It writes for each touched socket, and continues paused reads.
func (d *epollEngine) Flush() {
	list := d.touched.Detach(d.l)
	for i, s := range list {
		list[i] = nil
		s.listed = false
		if s.closed {
			continue
		}
		s.write()
		if !s.closed && s.readable && !s.queued {
			s.read()
		}
	}
}

// write sends the queued bytes with one gathered write. A rest waits for the next turn, or for room in the
// send buffer.
func (s *socket) write() {
	if s.blocked || s.zeroCopyBytes > 0 {
		return
	}
	d := s.d
	k := s.side.Gather(d.iov[:], stream.GatherBytes)
	if k == 0 {
		s.uncork()
		s.shutIfFinished()
		return
	}
	want := 0
	for i := range d.iov[:k] {
		want += int(d.iov[i].Len)
	}
	more := k == gatherMax || want >= stream.GatherBytes // more bytes may be queued
	flags := uintptr(0)
	zero := s.zeroCopy && want >= d.o.ZeroCopyBytes
	if zero {
		flags = unix.MSG_ZEROCOPY
	} else if s.corked = d.o.Cork && more && !s.local; s.corked {
		flags = unix.MSG_MORE
	}
	d.l.Stats.Syscalls++
	d.count.Sends++
	var n int
	var err error
	if k == 1 {
		n, err = sys.Send(s.fd, sys.IovecBytes(&d.iov[0]), flags)
	} else {
		d.msg = unix.Msghdr{Iov: &d.iov[0]}
		d.msg.SetIovlen(k)
		n, err = sys.Sendmsg(s.fd, &d.msg, flags)
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		s.markFull()
		return
	case errors.Is(err, unix.EINTR):
		s.Touch()
		return
	case zero && errors.Is(err, unix.ENOBUFS): // the limit of pinned memory is reached: copy
		s.zeroCopy = false
		s.Touch()
		return
	case err != nil:
		s.ended(fmt.Errorf("%w: send: %w", transport.ErrPeerGone, err))
		return
	}
	if zero {
		s.zeroCopyBytes = n
		return
	}
	s.side.Sent(n)
	if n < want {
		d.count.Shorts++
		if s.markFull(); s.closed {
			return
		}
	} else if more {
		s.Touch()
	}
	s.shutIfFinished()
}

// markFull records that the send buffer is full: new room makes an edge. A unix socket is watched for these edges only from here on, because
// each read of its peer makes one (unix_write_space in net/unix/af_unix.c), which would wake the
// loop for each message. TCP has them only after a full buffer.
func (s *socket) markFull() {
	s.blocked = true
	if s.polled {
		s.watchOrEnd()
		return
	}
	if !s.local || s.watchesRoom {
		return
	}
	s.watchesRoom = true
	if err := s.d.l.ChangeWatch(s.d.id, s.fd, allEvents, s.tag); err != nil {
		s.ended(err)
	}
}

// uncork sends the segment that the last write held back, if nothing has followed: clearing TCP_CORK sends it, tcp(7).
func (s *socket) uncork() {
	if s.corked {
		s.corked = false
		_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_CORK, 0)
		s.d.l.Stats.Syscalls++
	}
}

// shutIfFinished shuts the sending half after the last answer. If the peer has shut its own, it ends the socket.
func (s *socket) shutIfFinished() {
	switch {
	case s.sendShut || !s.side.Finished():
	case s.eof:
		s.ended(transport.ErrPeerGone)
	default:
		s.sendShut = true
		_ = unix.Shutdown(s.fd, unix.SHUT_WR)
		s.d.l.Stats.Syscalls++
	}
}

// Close implements stream.ConnIO.
func (s *socket) Close(err error) {
	if s.closed {
		return
	}
	s.release()
	if s.zeroCopyBytes > 0 { // the kernel still uses our memory, and must not send it: reset the connection
		_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(s.fd)
	s.d.l.Stats.Syscalls++
	s.side.Drop(err)
	if s.onClosed != nil {
		s.onClosed()
	}
}

// Control implements netsock.Holder.
func (s *socket) Control(f func(fd int)) bool {
	if s.closed {
		return false
	}
	f(s.fd)
	return true
}

// Detach implements stream.ConnIO.
func (s *socket) Detach() netsock.Socket {
	s.release()
	return netsock.Socket{Fd: s.fd}
}

// release removes the socket from the loop and leaves the descriptor open.
func (s *socket) release() {
	s.closed = true
	s.stopPolling()
	s.unwatch()
	s.d.sockets.Drop(s.tag)
	s.d.closed = true
}
