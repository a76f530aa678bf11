package uring

import (
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// hub is the member that moves the bytes of all client connections of one loop.
type hub struct {
	stream.Hub
	engine ringEngine
}

var _ loop.Busier = (*hub)(nil)

// hubKey finds the hub of a loop: one for all connections with the same options.
type hubKey struct{ o Options }

// newConn makes a client's connection on l's hub. It owns fd, also if it fails.
func newConn(l *loop.Loop, fd int, d *stream.Dialed, o Options) (transport.Conn, error) {
	m, err := l.Shared(hubKey{o}, func() (loop.Member, error) {
		h := &hub{engine: ringEngine{l: l, o: o}}
		h.Hub = stream.NewHub(l, &h.engine)
		return h, h.engine.start(h)
	})
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return m.(*hub).Connect(netsock.Socket{Fd: fd}, d)
}

// OnEvent implements loop.Member.
func (h *hub) OnEvent(tag uint64, res int32, flags uint32) { h.engine.event(tag, res, flags) }

// Poll implements loop.Member.
func (h *hub) Poll() int {
	h.engine.settle()
	return 0
}
