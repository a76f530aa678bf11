package tcp

import (
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
)

// hub is the member that moves the bytes of all client connections of one loop.
type hub struct {
	movers
	l     *loop.Loop
	conns stream.Table[*conn]
}

var _ loop.Armer = (*hub)(nil)
var _ loop.Busier = (*hub)(nil)

// hubKey finds the hub of a loop: one for all connections with the same options.
type hubKey struct{ o Options }

// conn is the client's end.
type conn struct {
	*stream.Client
	hub  *hub
	m    mover
	gone chan struct{} // closed when the socket is
}

var _ transport.Conn = (*conn)(nil)

// newConn owns the socket, also where it fails.
func newConn(l *loop.Loop, s netsock.Socket, d *stream.Dialed, o Options) (transport.Conn, error) {
	m, err := l.Shared(hubKey{o}, func() (loop.Member, error) {
		h := &hub{l: l}
		id, err := l.Add(h)
		h.movers = newMovers(l, id, o.ClientEngine, o.Sockets, o)
		return h, err
	})
	if err != nil {
		s.Close()
		return nil, err
	}
	h := m.(*hub)
	c := &conn{hub: h, gone: make(chan struct{})}
	tag, row := h.conns.Put()
	*row = c
	c.m, err = h.open(s, tag, func(err error) { c.m.close(err) }, func() {
		h.conns.Drop(tag)
		close(c.gone)
	})
	if err == nil {
		if c.Client, err = d.Client(l, c.m); err == nil {
			h.join(c.m, c.Client)
			return c, nil
		}
		s = c.m.take()
	}
	h.conns.Drop(tag)
	s.Close()
	return nil, err
}

// Hangup is transport.Conn's.
func (c *conn) Hangup() {
	if c.hub.l.Do(func() { c.m.close(transport.ErrClosed) }) {
		select {
		case <-c.gone:
		case <-c.hub.l.Done():
		}
	}
}

// Control is for socket.CongestionWindow.
func (c *conn) Control(f func(fd int)) bool { return c.m.control(f) }

// OnEvent is loop.Member's.
func (h *hub) OnEvent(tag uint64, res int32, _ uint32) {
	if c := h.conns.Get(tag); c != nil {
		(*c).m.event(uint32(res))
	}
}

// Stage is loop.Member's.
func (h *hub) Stage() error {
	h.flush()
	return nil
}

// Busy is loop.Busier's.
func (h *hub) Busy() string {
	s := h.busy()
	h.conns.Each(func(_ uint64, c **conn) {
		if s == "" {
			s = (*c).Busy()
		}
	})
	return s
}

// Close is loop.Member's.
func (h *hub) Close() bool {
	h.conns.Each(func(_ uint64, c **conn) { (*c).m.close(transport.ErrClosed) })
	if h.conns.Len() > 0 {
		return false
	}
	h.end()
	return true
}
