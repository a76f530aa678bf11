package uring

import (
	"errors"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/loop"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// endpoint is the server's share of connections on one loop.
type endpoint struct {
	driver
	h         *stream.Host
	peers     *stream.Peers
	listener  int   // below 0: another loop accepts
	accepting bool  // a multishot accept is in flight
	cancelled bool  // and was asked to end
	acceptAt  int64 // not before: the system had no descriptor or memory
	spare     netsock.Spare
	conns     stream.Table[conned]
	late      func(*stream.Server, error) // made once: a closure a turn would be an allocation a turn
	gone      func(*socket)               // likewise
}

var _ loop.Busier = (*endpoint)(nil)

// conned is one accepted connection.
type conned struct {
	sock *socket
	srv  *stream.Server
}

func newEndpoint(h *stream.Host, peers *stream.Peers, o Options) (stream.Endpoint, error) {
	e := &endpoint{driver: driver{l: h.L, o: o}, h: h, listener: -1, peers: peers}
	if err := e.equip(); err != nil {
		return nil, err
	}
	e.gone = func(s *socket) { e.conns.Drop(s.tag) }
	e.late = func(c *stream.Server, err error) { e.ended(c.Driver().(*socket), err) }
	id, err := h.L.Add(e)
	if err != nil {
		e.unequip()
		return nil, err
	}
	e.id = id
	return e, nil
}

// Listen is stream.Endpoint's. The ring waits for connections only where the socket blocks.
func (e *endpoint) Listen(fd int) error {
	e.listener = fd
	e.spare.Keep()
	return unix.SetNonblock(fd, false)
}

// OnEvent is loop.Member's.
func (e *endpoint) OnEvent(tag uint64, res int32, flags uint32) {
	kind := tag >> kindShift
	if kind == kindAccept {
		e.accepted(res, flags)
		return
	}
	if c := e.conns.Get(tag & rowMask); c != nil {
		s := c.sock
		s.event(kind, res, flags)
		if !s.in.open && s.fd >= 0 {
			s.in.open = c.srv.Depth() > 0
		}
	}
}

func (e *endpoint) accepted(res int32, flags uint32) {
	if flags&ring.CQEFMore == 0 {
		e.accepting = false
	}
	switch {
	case res >= 0:
		e.spare.Found()
		e.h.Sockets.Prepare(int(res))
		name := "a peer"
		if sa, err := unix.Getpeername(int(res)); err == nil {
			name = netsock.PeerName(int(res), sa)
		}
		e.l.Stats.Syscalls++
		e.add(int(res), name, nil)
	case res != -int32(unix.ECANCELED) && res != -int32(unix.EINTR) && res != -int32(unix.ECONNABORTED):
		e.spare.Short(e.h, e.listener, unix.Errno(-res)) // out of descriptors or memory: those that are open go on
		e.acceptAt = e.l.Now() + netsock.AcceptAgain
	}
}

// acceptAgain keeps the multishot accept going.
func (e *endpoint) acceptAgain() {
	if e.accepting || e.listener < 0 || e.cancelled {
		return
	}
	if e.l.Now() < e.acceptAt {
		e.l.WakeAt(e.acceptAt)
		return
	}
	s := e.l.SocketSQE(e.id, kindAccept<<kindShift)
	if s == nil {
		e.l.Again()
		return
	}
	s.AcceptMultishot(e.listener, unix.SOCK_CLOEXEC)
	e.accepting = true
}

// add takes a socket in: fresh, or with the hello that another loop has read.
func (e *endpoint) add(fd int, name string, moved *stream.Moved) {
	tag, c := e.conns.Put()
	s, err := e.open(fd, tag, e.ended, e.gone)
	if err != nil {
		e.conns.Drop(tag)
		e.h.TurnAway(netsock.Socket{Fd: fd}, name)
		return
	}
	c.sock = s
	if moved == nil {
		c.srv = e.h.NewServer(s, name)
	} else {
		c.srv = e.h.Adopt(s, moved)
	}
	if c.srv == nil {
		fd = s.take()
		e.conns.Drop(tag)
		e.h.TurnAway(netsock.Socket{Fd: fd}, name)
		return
	}
	s.side, s.in.open = c.srv, c.srv.Depth() > 0
	s.Touch() // the first receive
}

// Adopt is stream.Endpoint's: it takes over a connection that another loop accepted.
func (e *endpoint) Adopt(m stream.Moved) { e.add(m.Fd, m.Name, &m) }

// ended is called when a connection's socket has ended or failed, or its hello asks for another loop.
func (e *endpoint) ended(s *socket, err error) {
	if !errors.Is(err, stream.ErrMove) {
		s.close(err)
		return
	}
	// Its hello was just received and nothing was sent: nothing is in flight.
	c := e.conns.Get(s.tag)
	m := c.srv.Moved(netsock.Socket{Fd: s.take()})
	to := c.srv.MoveTo
	s.side.Drop(err)
	e.conns.Drop(s.tag)
	e.peers.Move(to, m)
}

// Poll is loop.Member's.
func (e *endpoint) Poll() int { return 0 }

// Stage is loop.Member's.
func (e *endpoint) Stage() error {
	e.acceptAgain()
	e.h.Resume()
	e.flush()
	e.h.Tick(e.late)
	return nil
}

// Busy is loop.Busier's. Bytes are counted as sent when all completions and notifications of their send are there, so that their side is busy till then.
func (e *endpoint) Busy() string { return e.h.Busy() }

// Close is loop.Member's: nothing more is accepted, connections end in good order.
func (e *endpoint) Close() bool {
	if e.accepting && !e.cancelled {
		if s := e.l.SocketSQE(e.id, kindCancel<<kindShift); s != nil {
			s.Cancel(loop.UserData(e.id, kindAccept<<kindShift))
			e.cancelled = true
		}
		e.l.Again()
	}
	if e.listener >= 0 && !e.accepting {
		_ = unix.Close(e.listener)
		e.listener = -1
		e.spare.Drop()
	}
	e.h.Wind()
	if e.listener >= 0 || !e.h.Close() || e.conns.Len() > 0 {
		return false
	}
	e.unequip()
	return true
}
