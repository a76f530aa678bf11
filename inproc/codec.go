package inproc

import (
	"context"
	"errors"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// Codec implements transport.Transport within one process, as Transport does, but with both ends of a connection between client
// and handler: messages are framed, copied, parsed and answered as over a socket, without the kernel.
// In the ladder it is between inproc and a network. Its zero value is ready.
type Codec struct{}

var _ transport.Transport = Codec{}

// Name returns the value of the column transport.
func (Codec) Name() string { return "codec" }

// Sleep returns the same as Transport.Sleep.
func (Codec) Sleep() loop.Sleep { return Transport{}.Sleep() }

// Serve makes g's loops available to Dial.
func (Codec) Serve(_ string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	o, err := o.Defaults()
	if err != nil {
		return nil, err
	}
	return register("codec", &server{g: g, o: o}), nil
}

// Dial puts both ends of a connection onto l, which must be one of the server's own network loops.
func (Codec) Dial(_ context.Context, l *loop.Loop, addr string, o transport.DialOptions) (transport.Conn, error) {
	o, err := o.Defaults()
	if err != nil {
		return nil, err
	}
	s, i, err := findServer("codec", l, addr)
	if err != nil {
		return nil, err
	}
	var c *codecConn
	if cerr := l.Call(func() { c, err = s.connectCodec(l, i, o) }); cerr != nil || err != nil {
		return nil, errors.Join(cerr, err)
	}
	return c, nil
}

// codecEngine is the member of a loop that moves the bytes of all codec connections to one server.
type codecEngine struct {
	l       *loop.Loop
	host    *stream.Host
	conns   []*codecConn
	touched stream.Touched[*end]
	late    func(*stream.Server, error)
	from    [gatherMax]unix.Iovec
	window  [2][]byte
}

const gatherMax = 64 // as for sockets

var _ loop.Busier = (*codecEngine)(nil)

// codecConn has both ends of a connection.
type codecConn struct {
	*stream.Client
	w      *codecEngine
	ends   [2]end // of the client, of the server
	closed bool
}

var _ transport.Conn = (*codecConn)(nil)

// end is one end of a connection, as a driver.
type end struct {
	c      *codecConn
	side   stream.Side // nil until both ends are made
	listed bool
}

func (s *server) connectCodec(l *loop.Loop, i int, o transport.DialOptions) (*codecConn, error) {
	m, err := l.Shared(s, func() (loop.Member, error) {
		h, err := stream.NewHost(l, s.g, i, s.o)
		if err != nil {
			return nil, err
		}
		w := &codecEngine{l: l, host: h}
		w.late = func(c *stream.Server, err error) { c.Driver().(*end).c.close(err) }
		if _, err = l.Add(w); err != nil {
			h.Close()
		}
		return w, err
	})
	if err != nil {
		return nil, err
	}
	c := &codecConn{w: m.(*codecEngine)}
	c.ends[0].c, c.ends[1].c = c, c
	request := wire.ClientHello{Version: wire.Version, Depth: uint16(o.Depth), Loop: uint16(i)}
	srv := c.w.host.Adopt(&c.ends[1], &stream.Moved{Name: "codec", Received: request.Append(nil)})
	if srv == nil {
		return nil, &transport.Refusal{Code: wire.RefusedBusy}
	}
	hello, err := c.readHello(srv)
	if err == nil {
		c.Client, err = stream.NewClient(l, &c.ends[0], hello, o.RecvBytes)
	}
	if err != nil {
		srv.Drop(transport.ErrPeerGone)
		return nil, err
	}
	c.ends[0].side, c.ends[1].side = c.Client, srv
	c.w.conns = append(c.w.conns, c)
	return c, nil
}

// readHello returns the server's answer to the hello.
func (c *codecConn) readHello(srv *stream.Server) (hello wire.ServerHello, err error) {
	var b []byte
	for i := range c.w.from[:srv.Gather(c.w.from[:], stream.GatherBytes)] {
		b = append(b, sys.IovecBytes(&c.w.from[i])...)
	}
	srv.Sent(len(b))
	if err = hello.Decode(b); err == nil && hello.Code != wire.Granted {
		err = &transport.Refusal{Code: hello.Code, Reason: hello.Reason}
	}
	return hello, err
}

// Touch implements stream.Driver.
func (e *end) Touch() {
	w := e.c.w
	w.touched.Add(w.l, e, &e.listed)
}

// Stamp implements stream.Driver. Without a kernel there are no receive times.
func (e *end) Stamp() {}

// Stage implements loop.Member. It moves the bytes of touched connections, in both directions, because Touch also means that reading may continue.
func (w *codecEngine) Stage() error {
	w.host.Resume()
	list := w.touched.Detach(w.l)
	for i, e := range list {
		list[i] = nil
		e.listed = false
		for from := range e.c.ends {
			if err := e.c.move(from); err != nil {
				e.c.close(err)
			}
		}
	}
	w.host.Tick(w.late)
	return nil
}

// move copies the queued bytes of one end to the receive buffers of the other, as far as these have room.
func (c *codecConn) move(from int) error {
	w, to := c.w, c.ends[1-from].side
	for !c.closed && c.ends[0].side != nil {
		k := c.ends[from].side.Gather(w.from[:], stream.GatherBytes)
		if k == 0 {
			return nil
		}
		n, places := 0, to.RecvBuffers(&w.window)
		window := w.window
		for i, at := 0, 0; i < k && at < places; {
			src := sys.IovecBytes(&w.from[i])
			m := copy(window[at], src)
			sys.SetIovec(&w.from[i], src[m:])
			window[at] = window[at][m:]
			n += m
			if m == len(src) {
				i++
			}
			if len(window[at]) == 0 {
				at++
			}
		}
		if n == 0 {
			return nil // paused: Touch is called when reading may continue
		}
		w.l.Stats.Copied += uint64(n)
		c.ends[from].side.Sent(n)
		if err := to.Received(n, 0); err != nil {
			return err
		}
	}
	return nil
}

// close ends both ends.
func (c *codecConn) close(err error) {
	if c.closed {
		return
	}
	c.closed = true
	for i, o := range c.w.conns {
		if o == c {
			c.w.conns = append(c.w.conns[:i], c.w.conns[i+1:]...)
			break
		}
	}
	for i := range c.ends {
		c.ends[i].side.Drop(err)
	}
}

// Hangup implements transport.Conn.
func (c *codecConn) Hangup() { _ = c.w.l.Call(func() { c.close(transport.ErrClosed) }) }

// OnEvent implements loop.Member. It is never called.
func (w *codecEngine) OnEvent(uint64, int32, uint32) {}

// Poll implements loop.Member. There are no events.
func (w *codecEngine) Poll() int { return 0 }

// Busy implements loop.Busier. A request in flight at a client's end is one at the server's end, too.
func (w *codecEngine) Busy() string { return w.host.Busy() }

// Close implements loop.Member.
func (w *codecEngine) Close() bool {
	for len(w.conns) > 0 {
		w.conns[0].close(transport.ErrClosed)
	}
	w.host.Shutdown()
	return w.host.Close()
}
