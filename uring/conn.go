package uring

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
	c.sock = c.open(fd, 0, (*socket).close, func(*socket) {})
	var err error
	if c.Client, err = d.Client(l, c.sock); err != nil {
		return nil, err
	}
	c.sock.side = c.Client
	if c.id, err = l.Add(c); err != nil {
		return nil, err
	}
	c.sock.Touch() // the first receive
	return c, nil
}

// Submit is kv.Handler's.
func (c *conn) Submit(r *kv.Request) { c.Client.Submit(r) }

// OnEvent is loop.Member's.
func (c *conn) OnEvent(tag uint64, res int32, flags uint32) {
	c.sock.event(tag>>kindShift, res, flags)
}

// Poll is loop.Member's.
func (c *conn) Poll() int { return 0 }

// Stage is loop.Member's.
func (c *conn) Stage() error {
	c.flush()
	return nil
}

// Close is loop.Member's.
func (c *conn) Close() bool {
	if c.sock.fd >= 0 {
		c.sock.close(transport.ErrClosed)
	}
	return c.sock.fd < 0
}

// Hangup is transport.Conn's.
func (c *conn) Hangup() { c.l.Remove(c.id) }
