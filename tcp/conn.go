package tcp

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

// hubKey finds the hub of a loop: one for all connections with the same options.
type hubKey struct{ o Options }

// conn is the client's end.
type conn struct {
	*stream.Client
	hub  *hub
	sock *socket
}

var _ transport.Conn = (*conn)(nil)

func newConn(l *loop.Loop, fd int, d *stream.Dialed, o Options) (transport.Conn, error) {
	m, err := l.Shared(hubKey{o}, func() (loop.Member, error) {
		h := &hub{driver: driver{l: l, o: o}}
		var err error
		h.id, err = l.Add(h)
		return h, err
	})
	if err != nil {
		return nil, err
	}
	c := &conn{hub: m.(*hub)}
	tag, row := c.hub.conns.Put()
	*row = c
	sock, err := c.hub.open(fd, tag, func(err error) { c.sock.close(err) }, func() {})
	if err == nil {
		c.sock = sock.(*socket)
		if c.Client, err = d.Client(l, c.sock); err == nil {
			c.sock.side = c.Client
			return c, nil
		}
		c.sock.release()
	}
	c.hub.conns.Drop(tag)
	return nil, err
}

// Hangup is transport.Conn's.
func (c *conn) Hangup() {
	_ = c.hub.l.Call(func() {
		if c.hub.conns.Get(c.sock.tag) == nil {
			return // hung up already, or its loop has ended
		}
		c.hub.conns.Drop(c.sock.tag)
		if !c.sock.closed {
			c.sock.close(transport.ErrClosed)
		}
	})
}

// OnEvent is loop.Member's.
func (h *hub) OnEvent(tag uint64, res int32, _ uint32) {
	if c := h.conns.Get(tag); c != nil {
		(*c).sock.event(uint32(res))
	}
}

// Stage is loop.Member's.
func (h *hub) Stage() error {
	h.flush()
	return nil
}

// Close is loop.Member's.
func (h *hub) Close() bool {
	h.conns.Each(func(tag uint64, c **conn) {
		if s := (*c).sock; !s.closed {
			s.close(transport.ErrClosed)
		}
		h.conns.Drop(tag)
	})
	return true
}
