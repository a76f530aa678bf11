package uring

import (
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
)

// hub is the member that moves the bytes of all client connections of one loop.
type hub struct {
	driver
	conns stream.Table[*conn]
}

type hubKey struct{}

// conn is the client's end.
type conn struct {
	*stream.Client
	hub  *hub
	sock *socket
	gone chan struct{} // closed when the socket is
}

var _ transport.Conn = (*conn)(nil)

func newConn(l *loop.Loop, fd int, d *stream.Dialed) (transport.Conn, error) {
	m, err := l.Shared(hubKey{}, func() (loop.Member, error) {
		h := &hub{driver: driver{l: l}}
		var err error
		h.id, err = l.Add(h)
		return h, err
	})
	if err != nil {
		return nil, err
	}
	c := &conn{hub: m.(*hub), gone: make(chan struct{})}
	tag, row := c.hub.conns.Put()
	*row = c
	c.sock = c.hub.open(fd, tag, (*socket).close, func(s *socket) {
		c.hub.conns.Drop(s.tag)
		close(c.gone)
	})
	if c.Client, err = d.Client(l, c.sock); err != nil {
		c.hub.conns.Drop(tag)
		return nil, err
	}
	c.sock.side = c.Client
	c.sock.Touch() // the first receive
	return c, nil
}

// Hangup is transport.Conn's.
func (c *conn) Hangup() {
	if c.hub.l.Do(func() {
		if c.sock.fd >= 0 {
			c.sock.close(transport.ErrClosed)
		}
	}) {
		select {
		case <-c.gone:
		case <-c.hub.l.Done():
		}
	}
}

// OnEvent is loop.Member's.
func (h *hub) OnEvent(tag uint64, res int32, flags uint32) {
	if c := h.conns.Get(tag & rowMask); c != nil {
		(*c).sock.event(tag>>kindShift, res, flags)
	}
}

// Poll is loop.Member's.
func (h *hub) Poll() int { return 0 }

// Stage is loop.Member's.
func (h *hub) Stage() error {
	h.flush()
	return nil
}

// Close is loop.Member's: sockets close when nothing of theirs is in flight.
func (h *hub) Close() bool {
	h.conns.Each(func(_ uint64, c **conn) { (*c).sock.close(transport.ErrClosed) })
	return h.conns.Len() == 0
}
