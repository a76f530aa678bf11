package tcp

import (
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
)

// conn is the client's end.
type conn struct {
	driver
	*stream.Client
	sock *socket
}

var _ transport.Conn = (*conn)(nil)

func newConn(l *loop.Loop, fd int, d *stream.Dialed) (transport.Conn, error) {
	c := &conn{driver: driver{l: l}}
	id, err := l.Add(c)
	if err != nil {
		return nil, err
	}
	c.id = id
	if c.sock, err = c.open(fd, 0, func(s *socket, err error) { s.close(err) }); err != nil {
		return nil, err
	}
	if c.Client, err = d.Client(l, c.sock); err != nil {
		return nil, err
	}
	c.sock.side = c.Client
	return c, nil
}

// Submit is kv.Handler's.
func (c *conn) Submit(r *kv.Request) { c.Client.Submit(r) }

// OnEvent is loop.Member's.
func (c *conn) OnEvent(_ uint64, res int32, _ uint32) {
	if !c.sock.closed {
		c.sock.event(uint32(res))
	}
}

// Stage is loop.Member's.
func (c *conn) Stage() error {
	c.flush()
	return nil
}

// Close is loop.Member's.
func (c *conn) Close() bool {
	if !c.sock.closed {
		c.sock.close(transport.ErrClosed)
	}
	return true
}

// Hangup is transport.Conn's.
func (c *conn) Hangup() { c.l.Remove(c.id) }
