package tcp

import (
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
)

// hub is the member that moves the bytes of all client connections of one loop.
type hub struct {
	stream.Hub
	engine engine
}

var (
	_ loop.Armer  = (*hub)(nil)
	_ loop.Busier = (*hub)(nil)
)

// hubKey finds the hub of a loop: one for all connections with the same options.
type hubKey struct{ o Options }

// newConn makes a client's connection on l's hub. It owns the socket, also if it fails.
func newConn(l *loop.Loop, s netsock.Socket, d *stream.Dialed, o Options) (transport.Conn, error) {
	m, err := l.Shared(hubKey{o}, func() (loop.Member, error) {
		h := &hub{}
		id, err := l.Add(h)
		h.engine = newEngine(l, id, o.ClientEngine, o.Sockets, o)
		h.Hub = stream.NewHub(l, h.engine)
		return h, err
	})
	if err != nil {
		s.Close()
		return nil, err
	}
	return m.(*hub).Connect(s, d)
}

// OnEvent implements loop.Member.
func (h *hub) OnEvent(tag uint64, res int32, _ uint32) { h.engine.event(tag, uint32(res)) }

// Poll implements loop.Member.
func (h *hub) Poll() int { return h.engine.Poll() }

// Arm implements loop.Armer.
func (h *hub) Arm() (bool, error) { return h.engine.Arm() }
