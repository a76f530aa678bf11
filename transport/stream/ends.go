package stream

import (
	"errors"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/socket"
	"golang.org/x/sys/unix"
)

// ConnIO moves the bytes, or messages, of one connection: a socket, a pair of goroutines, or a queue pair. It belongs to its loop.
type ConnIO interface {
	Driver

	// Join has it move the bytes of a side from now on.
	Join(s Side)

	// Side is what it has joined; nil: nothing yet.
	Side() Side

	// Close ends the connection, now or as soon as nothing of it is under way. Once is enough.
	Close(err error)

	// Detach gives the socket away, which nobody closes here then. Nothing of it is under way.
	Detach() socket.Socket
}

// Engine moves the bytes of all connections of one member of a loop. It has what differs between networks when connections come and go. While bytes
// move, a network does not use it: its own calls are not dynamic.
type Engine interface {
	// Open takes in a connection, whose socket it owns, unless it fails. ended is called when the connection has ended or failed, or its side
	// says that it ends; gone, if it is not nil, when all of it is closed.
	Open(s socket.Socket, ended func(io ConnIO, err error), gone func()) (ConnIO, error)

	// Each calls f for each that is not closed; f may close it.
	Each(f func(io ConnIO))

	// Len is how many are not closed.
	Len() int

	// Flush goes on with the connections that were touched. It is called in Stage.
	Flush()

	// Busy names work that no side knows of: what was received and not looked at, or is in other threads' hands; "": there is none.
	Busy() string

	// End frees what they share. All are closed.
	End()
}

// Ends are the server's ends of connections on one loop: an endpoint, but for what its network has of its own. Connections come (Add), maybe move to
// another loop (end, Adopt), and go. An endpoint embeds it, and is the loop's member.
type Ends struct {
	Host   *Host
	peers  *Peers
	engine Engine
	ended  func(ConnIO, error)  // made once: a closure a turn would be an allocation a turn
	late   func(*Server, error) // likewise
}

// NewEnds makes the ends of an endpoint.
func NewEnds(h *Host, p *Peers, n Engine) *Ends {
	e := &Ends{Host: h, peers: p, engine: n, late: func(c *Server, err error) { c.Driver().(ConnIO).Close(err) }}
	e.ended = e.end
	return e
}

// Add takes in a socket: a new one, or with what another loop has received from it. It owns the socket, except where it returns an error: the system
// has no descriptor for a new one.
func (e *Ends) Add(s socket.Socket, name string, moved *Moved) error {
	io, err := e.engine.Open(s, e.ended, nil)
	if err != nil {
		if moved == nil && (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)) {
			return err
		}
		e.Host.TurnAway(s, name)
		return nil
	}
	var c *Server
	if moved == nil {
		c = e.Host.NewServer(io, name)
	} else {
		c = e.Host.Adopt(io, moved)
	}
	if c == nil {
		e.Host.TurnAway(io.Detach(), name)
		return nil
	}
	io.Join(c)
	return nil
}

// Adopt is Endpoint's: it takes over a connection that another loop accepted.
func (e *Ends) Adopt(m Moved) { _ = e.Add(m.Socket, m.Name, &m) }

// end is called when a connection has ended or failed, or its hello asks for another loop.
func (e *Ends) end(io ConnIO, err error) {
	if !errors.Is(err, ErrMove) {
		io.Close(err)
		return
	}
	// Its hello was just received, and nothing was sent: nothing is under way.
	c := io.Side().(*Server)
	moved := c.Moved(io.Detach())
	to := c.MoveTo
	c.Drop(err)
	e.peers.Move(to, moved)
}

// Stage is an endpoint's part of loop.Member's Stage.
func (e *Ends) Stage() {
	e.Host.Resume()
	e.engine.Flush()
	e.Host.Tick(e.late)
}

// Busy is loop.Busier's.
func (e *Ends) Busy() string {
	if s := e.engine.Busy(); s != "" {
		return s
	}
	return e.Host.Busy()
}

// Close is loop.Member's, after the endpoint has stopped to accept: connections end in good order.
func (e *Ends) Close() bool {
	e.Host.Wind()
	if !e.Host.Idle() || e.engine.Len() > 0 {
		return false
	}
	e.engine.End()
	return e.Host.Close()
}

// Hub is the clients' ends of connections on one loop: a member, but for what its network has of its own, which embeds it.
type Hub struct {
	loop   *loop.Loop
	engine Engine
}

// NewHub makes a hub of what moves the bytes on l.
func NewHub(l *loop.Loop, n Engine) Hub { return Hub{l, n} }

// Connect makes the client's end of what was dialed. It owns the socket, also where it fails.
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

// Stage is loop.Member's.
func (h *Hub) Stage() error {
	h.engine.Flush()
	return nil
}

// Busy is loop.Busier's.
func (h *Hub) Busy() string {
	s := h.engine.Busy()
	h.engine.Each(func(io ConnIO) {
		if c, ok := io.Side().(*Client); ok && s == "" {
			s = c.Busy()
		}
	})
	return s
}

// Close is loop.Member's.
func (h *Hub) Close() bool {
	h.engine.Each(func(io ConnIO) { io.Close(transport.ErrClosed) })
	if h.engine.Len() > 0 {
		return false
	}
	h.engine.End()
	return true
}

// conn is a client's end whose bytes a hub moves.
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

// Hangup is transport.Conn's.
func (c *conn) Hangup() {
	if c.loop.Do(func() { c.io.Close(transport.ErrClosed) }) {
		select {
		case <-c.gone:
		case <-c.loop.Done():
		}
	}
}

// Control is socket.Holder's.
func (c *conn) Control(f func(fd int)) bool {
	h, ok := c.io.(socket.Holder)
	return ok && h.Control(f)
}
