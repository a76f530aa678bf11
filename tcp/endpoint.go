package tcp

import (
	"errors"

	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// endpoint is the server's share of connections on one loop.
type endpoint struct {
	driver
	h        *stream.Host
	peers    *stream.Peers
	listener stream.Acceptor
	conns    stream.Table[conned]
	late     func(*stream.Server, error) // made once: a closure a turn would be an allocation a turn
}

// conned is one accepted connection.
type conned struct {
	sock *socket
	srv  *stream.Server
}

const tagListener = 1 << 55

func newEndpoint(h *stream.Host, listener int, peers *stream.Peers) (stream.Endpoint, error) {
	e := &endpoint{driver: driver{l: h.L}, h: h, peers: peers}
	e.listener = stream.Acceptor{H: h, Fd: listener, Take: func(fd int, name string) { e.add(fd, name, nil) }}
	id, err := h.L.Add(e)
	if err != nil {
		return nil, err
	}
	e.id = id
	e.late = func(c *stream.Server, err error) { e.ended(c.Driver().(*socket), err) }
	if listener >= 0 {
		return e, h.L.Watch(id, listener, unix.EPOLLIN, tagListener)
	}
	return e, nil
}

// OnEvent is loop.Member's.
func (e *endpoint) OnEvent(tag uint64, res int32, _ uint32) {
	if tag == tagListener {
		e.listener.Ready()
		return
	}
	if c := e.conns.Get(tag); c != nil {
		c.sock.event(uint32(res))
	}
}

// Poll is loop.Member's.
func (e *endpoint) Poll() int {
	return e.driver.Poll() + e.listener.Poll()
}

// add takes a socket in: fresh, or with the hello that another loop has read.
func (e *endpoint) add(fd int, name string, moved *stream.Moved) {
	tag, c := e.conns.Put()
	s, err := e.open(fd, tag, e.ended)
	if err != nil {
		e.conns.Drop(tag)
		e.h.TurnAway(fd)
		return
	}
	c.sock = s
	if moved == nil {
		c.srv = e.h.NewServer(s, name)
	} else {
		c.srv = e.h.Adopt(s, name, moved.Hello)
	}
	if c.srv == nil {
		s.release()
		e.conns.Drop(tag)
		e.h.TurnAway(fd)
		return
	}
	s.side = c.srv
}

// Adopt is stream.Endpoint's: it takes over a connection that another loop accepted.
func (e *endpoint) Adopt(m stream.Moved) { e.add(m.Fd, m.Name, &m) }

// ended is called when a connection's socket has ended or failed, or its hello asks for another loop.
func (e *endpoint) ended(s *socket, err error) {
	c := e.conns.Get(s.tag)
	if errors.Is(err, stream.ErrMove) {
		s.release()
		m := stream.Moved{Fd: s.fd, Name: c.srv.Name(), Hello: c.srv.Hello()}
		to := c.srv.MoveTo
		s.side.Drop(err)
		e.conns.Drop(s.tag)
		e.peers.Move(to, m)
		return
	}
	s.close(err)
	e.conns.Drop(s.tag)
}

// Stage is loop.Member's.
func (e *endpoint) Stage() error {
	e.h.Resume()
	e.flush()
	e.h.Tick(e.late)
	e.listener.Stage()
	return nil
}

// Close is loop.Member's: nothing more is accepted, connections end in good order.
func (e *endpoint) Close() bool {
	if e.listener.Fd >= 0 {
		e.l.Unwatch(e.id, e.listener.Fd, tagListener)
		e.listener.Close()
	}
	e.h.Wind()
	return e.h.Close()
}
