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
	driver driver
}

var _ loop.Busier = (*hub)(nil)

// hubKey finds the hub of a loop: one for all connections with the same options.
type hubKey struct{ o Options }

// newConn owns fd, also where it fails.
func newConn(l *loop.Loop, fd int, d *stream.Dialed, o Options) (transport.Conn, error) {
	m, err := l.Shared(hubKey{o}, func() (loop.Member, error) {
		h := &hub{driver: driver{l: l, o: o}}
		h.Hub = stream.NewHub(l, &h.driver)
		return h, h.driver.begin(h)
	})
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return m.(*hub).Connect(netsock.Socket{Fd: fd}, d)
}

// OnEvent is loop.Member's.
func (h *hub) OnEvent(tag uint64, res int32, flags uint32) { h.driver.event(tag, res, flags) }

// Poll is loop.Member's.
func (h *hub) Poll() int { return 0 }
