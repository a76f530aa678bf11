package tcp

import (
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
)

// engine moves the bytes of the connections of one member: under epoll, or in goroutines.
type engine interface {
	stream.Engine
	event(tag uint64, ready uint32) // handles an epoll event
	Poll() int                      // see loop.Member
	Arm() (bool, error)             // see loop.Armer
}

func newEngine(l *loop.Loop, id loop.MemberID, by Engine, sockets netsock.Options, o Options) engine {
	if by == Goroutines {
		return &goroutineEngine{l: l, count: transport.CountersOf(l), sockets: sockets}
	}
	return &epollEngine{l: l, count: transport.CountersOf(l), id: id, o: o}
}

// endpoint holds the server's connections on one loop.
type endpoint struct {
	*stream.Ends
	engine   engine
	listener *netsock.Acceptor
}

var (
	_ stream.Endpoint = (*endpoint)(nil)
	_ loop.Armer      = (*endpoint)(nil)
	_ loop.Busier     = (*endpoint)(nil)
)

func newEndpoint(h *stream.Host, peers *stream.Peers, o Options) (stream.Endpoint, error) {
	e := &endpoint{}
	id, err := h.L.Add(e)
	if err != nil {
		return nil, err
	}
	e.engine = newEngine(h.L, id, o.Engine, h.Sockets, o)
	e.Ends = stream.NewEnds(h, peers, e.engine)
	e.listener = netsock.NewAcceptor(h, id, func(fd int, name string) error { return e.Add(netsock.Socket{Fd: fd}, name, nil) })
	if h.Sockets.TLS != nil {
		h.ExtraConnBytes = netsock.SessionBytes
	}
	return e, nil
}

// Listen implements stream.Endpoint.
func (e *endpoint) Listen(fd int) error { return e.listener.Listen(fd) }

// OnEvent implements loop.Member.
func (e *endpoint) OnEvent(tag uint64, res int32, _ uint32) {
	if tag == netsock.TagListener {
		e.listener.Ready()
		return
	}
	e.engine.event(tag, uint32(res))
}

// Poll implements loop.Member.
func (e *endpoint) Poll() int { return e.engine.Poll() + e.listener.Poll() }

// Arm implements loop.Armer.
func (e *endpoint) Arm() (bool, error) { return e.engine.Arm() }

// Stage implements loop.Member.
func (e *endpoint) Stage() error {
	e.Ends.Stage()
	e.listener.Stage()
	return nil
}

// Close implements loop.Member. It stops accepting, and ends the connections in order.
func (e *endpoint) Close() bool {
	e.listener.Close()
	return e.Ends.Close()
}
