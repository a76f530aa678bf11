package uring

import (
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// hub is the member that moves the bytes of all client connections of one loop.
type hub struct {
	driver
	conns stream.Table[*conn]
}

var _ loop.Busier = (*hub)(nil)

// hubKey finds the hub of a loop: one for all connections with the same options.
type hubKey struct{ o Options }

// conn is the client's end.
type conn struct {
	*stream.Client
	hub  *hub
	sock *socket
	gone chan struct{} // closed when the socket is
}

var _ transport.Conn = (*conn)(nil)

// newConn owns fd, also where it fails.
func newConn(l *loop.Loop, fd int, d *stream.Dialed, o Options) (_ transport.Conn, err error) {
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	m, err := l.Shared(hubKey{o}, func() (loop.Member, error) {
		h := &hub{driver: driver{l: l, o: o}}
		err := h.equip()
		if err == nil {
			if h.id, err = l.Add(h); err != nil {
				h.unequip()
			}
		}
		return h, err
	})
	if err != nil {
		return nil, err
	}
	c := &conn{hub: m.(*hub), gone: make(chan struct{})}
	tag, row := c.hub.conns.Put()
	*row = c
	c.sock, err = c.hub.open(fd, tag, (*socket).close, func(s *socket) {
		c.hub.conns.Drop(s.tag)
		close(c.gone)
	})
	if err == nil {
		if c.Client, err = d.Client(l, c.sock); err != nil {
			c.sock.take()
		}
	}
	if err != nil {
		c.hub.conns.Drop(tag)
		return nil, err
	}
	c.sock.side, c.sock.in.open = c.Client, true
	c.sock.Touch() // the first receive
	return c, nil
}

// Hangup is transport.Conn's.
func (c *conn) Hangup() {
	if c.hub.l.Do(func() {
		c.sock.close(transport.ErrClosed)
	}) {
		select {
		case <-c.gone:
		case <-c.hub.l.Done():
		}
	}
}

// Control is for socket.CongestionWindow.
func (c *conn) Control(f func(fd int)) bool {
	if c.sock.fd < 0 {
		return false
	}
	f(c.sock.fd)
	return true
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

// Busy is loop.Busier's: see endpoint.Busy.
func (h *hub) Busy() string {
	s := ""
	h.conns.Each(func(_ uint64, c **conn) {
		if s == "" {
			s = (*c).Busy()
		}
	})
	return s
}

// Close is loop.Member's: sockets close when nothing of theirs is in flight.
func (h *hub) Close() bool {
	h.conns.Each(func(_ uint64, c **conn) { (*c).sock.close(transport.ErrClosed) })
	if h.conns.Len() > 0 {
		return false
	}
	h.unequip()
	return true
}
