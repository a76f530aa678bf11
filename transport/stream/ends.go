package stream

import (
	"errors"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/socket"
	"golang.org/x/sys/unix"
)

// ConnIO moves the bytes or messages of one connection: a socket, a pair of goroutines, or a queue pair. It belongs to its loop.
type ConnIO interface {
	Driver

	// Join sets the side whose bytes it moves from now on.
	Join(s Side)

	// Side returns the side that Join has set; nil: none yet.
	Side() Side

	// Close ends the connection, now or as soon as no transfer is under way. A second call does nothing.
	Close(err error)

	// Detach returns the socket; the caller owns it from then on. No transfer may be under way.
	Detach() socket.Socket
}

// Engine moves the bytes of all connections of one member of a loop. Ends and Hub call it when connections come and go, and once a turn. A network handles
// events and transfers by its own methods, so the data path has no dynamic call for them.
type Engine interface {
	// Open adds a connection. It owns the socket, unless it returns an error. It calls ended when the connection has ended or failed, or its
	// side returns an error; it calls gone, if that is not nil, when the connection is closed completely.
	Open(s socket.Socket, ended func(io ConnIO, err error), gone func()) (ConnIO, error)

	// Each calls f for each connection that is not closed; f may close it.
	Each(f func(io ConnIO))

	// Len returns the number of connections that are not closed.
	Len() int

	// Flush moves the bytes of the touched connections. The stage step calls it.
	Flush()

	// Busy names work that no side counts: bytes received but not parsed, or transfers in other threads; "": there is none.
	Busy() string

	// End frees what the connections share. All of them are closed.
	End()
}

// Ends holds the server's ends of the connections on one loop: the part of an endpoint that is the same for all networks. Connections are added (Add), may
// move to another loop (end, Adopt), and end. A network's endpoint embeds it and is the loop's member.
type Ends struct {
	Host      *Host
	peers     *Peers
	engine    Engine
	ended     func(ConnIO, error)  // made once: a new closure in each turn would be an allocation in each turn
	closeLate func(*Server, error) // likewise
}

// NewEnds makes the Ends of an endpoint.
func NewEnds(h *Host, p *Peers, n Engine) *Ends {
	e := &Ends{Host: h, peers: p, engine: n, closeLate: func(c *Server, err error) { c.Driver().(ConnIO).Close(err) }}
	e.ended = e.connEnded
	return e
}

// Add adds a connection: a new one, or with moved one from another loop, with the bytes that were received there. It owns the socket, unless it returns an
// error: then the system has no descriptor for a new connection.
func (e *Ends) Add(s socket.Socket, name string, moved *Moved) error {
	io, err := e.engine.Open(s, e.ended, nil)
	if err != nil {
		if moved == nil && (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)) {
			return err
		}
		e.Host.RefuseNew(s, name)
		return nil
	}
	var c *Server
	if moved == nil {
		c = e.Host.NewServer(io, name)
	} else {
		c = e.Host.Adopt(io, moved)
	}
	if c == nil {
		e.Host.RefuseNew(io.Detach(), name)
		return nil
	}
	io.Join(c)
	return nil
}

// Adopt implements Endpoint. It adds a connection that another loop accepted.
func (e *Ends) Adopt(m Moved) { _ = e.Add(m.Socket, m.Name, &m) }

// connEnded is called when a connection has ended or failed, or its hello requests another loop.
func (e *Ends) connEnded(io ConnIO, err error) {
	if !errors.Is(err, ErrMove) {
		io.Close(err)
		return
	}
	// Its hello was just received, and nothing was sent: no transfer is under way.
	c := io.Side().(*Server)
	moved := c.Moved(io.Detach())
	to := c.MoveTo
	c.Drop(err)
	e.peers.Move(to, moved)
}

// Stage is the common part of the endpoints' Stage (loop.Member).
func (e *Ends) Stage() {
	e.Host.Resume()
	e.engine.Flush()
	e.Host.Tick(e.closeLate)
}

// Busy implements loop.Busier.
func (e *Ends) Busy() string {
	if s := e.engine.Busy(); s != "" {
		return s
	}
	return e.Host.Busy()
}

// Close implements loop.Member: it ends the connections in order. The endpoint has stopped accepting before.
func (e *Ends) Close() bool {
	e.Host.Shutdown()
	if !e.Host.Idle() || e.engine.Len() > 0 {
		return false
	}
	e.engine.End()
	return e.Host.Close()
}

// Hub holds the clients' ends of the connections on one loop: the part of a loop's member that is the same for all networks. A network's hub embeds it.
type Hub struct {
	loop   *loop.Loop
	engine Engine
}

// NewHub makes a Hub on l whose bytes n moves.
func NewHub(l *loop.Loop, n Engine) Hub { return Hub{l, n} }

// Connect makes the client's end of a dialed connection. It owns the socket, also if it fails.
func (h *Hub) Connect(s socket.Socket, d *Dialed) (transport.Conn, error) {
	c := &conn{loop: h.loop, gone: make(chan struct{})}
	io, err := h.engine.Open(s, ConnIO.Close, func() { close(c.gone) })
	if err != nil {
		s.Close()
		return nil, err
	}
	if c.Client, err = d.Client(h.loop, io); err != nil {
		io.Detach().Close()
		return nil, err
	}
	c.io = io
	io.Join(c.Client)
	return c, nil
}

// Stage implements loop.Member.
func (h *Hub) Stage() error {
	h.engine.Flush()
	return nil
}

// Busy implements loop.Busier.
func (h *Hub) Busy() string {
	s := h.engine.Busy()
	h.engine.Each(func(io ConnIO) {
		if c, ok := io.Side().(*Client); ok && s == "" {
			s = c.Busy()
		}
	})
	return s
}

// Close implements loop.Member.
func (h *Hub) Close() bool {
	h.engine.Each(func(io ConnIO) { io.Close(transport.ErrClosed) })
	if h.engine.Len() > 0 {
		return false
	}
	h.engine.End()
	return true
}

// conn is a client's end in a Hub.
type conn struct {
	*Client
	loop *loop.Loop
	io   ConnIO
	gone chan struct{} // closed when the socket is
}

var (
	_ transport.Conn = (*conn)(nil)
	_ socket.Holder  = (*conn)(nil)
)

// Hangup implements transport.Conn.
func (c *conn) Hangup() {
	if c.loop.Do(func() { c.io.Close(transport.ErrClosed) }) {
		select {
		case <-c.gone:
		case <-c.loop.Done():
		}
	}
}

// Control implements socket.Holder.
func (c *conn) Control(f func(fd int)) bool {
	h, ok := c.io.(socket.Holder)
	return ok && h.Control(f)
}
