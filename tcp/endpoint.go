package tcp

import (
	"errors"

	"github.com/kvwire/kvwire/loop"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// mover moves the bytes of one connection: a socket under epoll, or a pair of goroutines.
type mover interface {
	stream.Driver
	event(ready uint32)          // epoll's
	close(err error)             // ends the connection, now or as soon as nothing of it is under way; once is enough
	control(f func(fd int)) bool // calls f with a descriptor whose bytes are the side's, if there is one, and says so
	take() netsock.Socket        // gives the socket away; nothing is under way, and nobody closes it
}

// movers are those of one loop.
type movers interface {
	// open makes a connection's mover. It owns the socket, unless it fails. ended is called when the socket has ended or failed, or when
	// the side says that it ends, and gone when it is closed.
	open(s netsock.Socket, tag uint64, ended func(error), gone func()) (mover, error)
	join(m mover, s stream.Side) // m moves the bytes of s from now on
	Poll() int                   // loop.Member's
	Arm() (bool, error)          // loop.Armer's
	flush()                      // in Stage
	busy() string                // what is received and not yet looked at, or is in other threads' hands; "": nothing
	end()                        // all are gone
}

func newMovers(l *loop.Loop, id loop.MemberID, by Engine, sockets netsock.Options, o Options) movers {
	if by == Goroutines {
		return &crew{l: l, sockets: sockets}
	}
	return &driver{l: l, id: id, o: o}
}

// endpoint is the server's share of connections on one loop.
type endpoint struct {
	movers
	l        *loop.Loop
	id       loop.MemberID
	h        *stream.Host
	peers    *stream.Peers
	listener netsock.Acceptor
	conns    stream.Table[conned]
	late     func(*stream.Server, error) // made once: a closure a turn would be an allocation a turn
}

// conned is one accepted connection.
type conned struct {
	m   mover
	srv *stream.Server
}

var _ loop.Armer = (*endpoint)(nil)
var _ loop.Busier = (*endpoint)(nil)

const tagListener = 1 << 55

func newEndpoint(h *stream.Host, peers *stream.Peers, o Options) (stream.Endpoint, error) {
	e := &endpoint{l: h.L, h: h, peers: peers}
	e.listener = netsock.Acceptor{H: h, Fd: -1, Take: func(fd int, name string) error { return e.add(netsock.Socket{Fd: fd}, name, nil) }}
	id, err := h.L.Add(e)
	if err != nil {
		return nil, err
	}
	e.id = id
	e.movers = newMovers(h.L, id, o.Engine, h.Sockets, o)
	if h.Sockets.TLS != nil {
		h.Beside = netsock.SessionBytes
	}
	e.late = func(c *stream.Server, err error) { c.Driver().(mover).close(err) }
	return e, nil
}

// Listen is stream.Endpoint's.
func (e *endpoint) Listen(fd int) error {
	e.listener.Listen(fd)
	return e.l.Watch(e.id, fd, unix.EPOLLIN, tagListener)
}

// OnEvent is loop.Member's.
func (e *endpoint) OnEvent(tag uint64, res int32, _ uint32) {
	if tag == tagListener {
		e.listener.Ready()
		return
	}
	if c := e.conns.Get(tag); c != nil {
		c.m.event(uint32(res))
	}
}

// Poll is loop.Member's.
func (e *endpoint) Poll() int {
	return e.movers.Poll() + e.listener.Poll()
}

// add takes a socket in: fresh, or with the hello that another loop has read. A fresh one stays the caller's when there is no descriptor for it.
func (e *endpoint) add(s netsock.Socket, name string, moved *stream.Moved) error {
	tag, c := e.conns.Put()
	m, err := e.open(s, tag, func(err error) { e.ended(tag, err) }, func() { e.conns.Drop(tag) })
	if err != nil {
		e.conns.Drop(tag)
		if moved == nil && (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)) {
			return err
		}
		e.h.TurnAway(s, name)
		return nil
	}
	c.m = m
	if moved == nil {
		c.srv = e.h.NewServer(m, name)
	} else {
		c.srv = e.h.Adopt(m, moved)
	}
	if c.srv == nil {
		s = m.take()
		e.conns.Drop(tag)
		e.h.TurnAway(s, name)
		return nil
	}
	e.join(m, c.srv)
	return nil
}

// Adopt is stream.Endpoint's: it takes over a connection that another loop accepted.
func (e *endpoint) Adopt(m stream.Moved) { _ = e.add(m.Socket, m.Name, &m) }

// ended is called when a connection's socket has ended or failed, or its hello asks for another loop.
func (e *endpoint) ended(tag uint64, err error) {
	c := e.conns.Get(tag)
	if !errors.Is(err, stream.ErrMove) {
		c.m.close(err)
		return
	}
	// Its hello was just received, and nothing was sent.
	m := c.srv.Moved(c.m.take())
	to := c.srv.MoveTo
	c.srv.Drop(err)
	e.conns.Drop(tag)
	e.peers.Move(to, m)
}

// Stage is loop.Member's.
func (e *endpoint) Stage() error {
	e.h.Resume()
	e.flush()
	e.h.Tick(e.late)
	e.listener.Stage()
	return nil
}

// Busy is loop.Busier's.
func (e *endpoint) Busy() string {
	if s := e.busy(); s != "" {
		return s
	}
	return e.h.Busy()
}

// Close is loop.Member's: nothing more is accepted, connections end in good order.
func (e *endpoint) Close() bool {
	if e.listener.Fd >= 0 {
		e.l.Unwatch(e.id, e.listener.Fd, tagListener)
		e.listener.Close()
	}
	e.h.Wind()
	if !e.h.Close() || e.conns.Len() > 0 {
		return false
	}
	e.end()
	return true
}
