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
	listener int   // below 0: another loop accepts
	accept   bool  // there may be connections that no event will announce
	acceptAt int64 // not before: the system had no descriptor or memory
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
	e := &endpoint{driver: driver{l: h.L}, h: h, listener: listener, peers: peers}
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
		e.accept = true
		return
	}
	if c := e.conns.Get(tag); c != nil {
		c.sock.event(uint32(res))
	}
}

// Poll is loop.Member's.
func (e *endpoint) Poll() int {
	n := e.driver.Poll()
	if e.accept && e.l.Now() >= e.acceptAt {
		n += e.acceptSome()
	}
	return n
}

// acceptBatch bounds the accepts of one turn, so that a flood of connections does not hold up the others.
const acceptBatch = 64

func (e *endpoint) acceptSome() int {
	for i := range acceptBatch {
		e.l.Stats.Syscalls++
		fd, sa, err := unix.Accept4(e.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			e.accept = false
			return i
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil: // out of descriptors or memory: those that are open go on
			e.h.AcceptFailed(err)
			e.acceptAt = e.l.Now() + stream.AcceptAgain
			return i
		}
		stream.Prepare(fd)
		e.add(fd, stream.PeerName(sa), nil)
	}
	return acceptBatch
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
	if e.accept {
		e.l.WakeAt(e.acceptAt) // in the past when it is only the batch that was full
	}
	return nil
}

// Close is loop.Member's: nothing more is accepted, connections end in good order.
func (e *endpoint) Close() bool {
	if e.listener >= 0 {
		e.l.Unwatch(e.id, e.listener, tagListener)
		_ = unix.Close(e.listener)
		e.listener, e.accept = -1, false
	}
	e.h.Wind()
	return e.h.Close()
}
