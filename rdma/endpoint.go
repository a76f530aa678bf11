//go:build rdma && cgo && linux

package rdma

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// refusedVerb is the code for sides with different --rdma-verb or --rdma-connect.
const refusedVerb = wire.RefusedFeature

// Serve listens on addr, host:port, by TCP, for the hellos with the queue pairs' numbers. The address determines
// the device.
func (t Transport) Serve(addr string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	return t.serve(addr, g, o, func(*endpoint) {})
}

// serve is Serve, and calls made for each endpoint.
func (t Transport) serve(addr string, g *loop.Group, o transport.ServerOptions, made func(*endpoint)) (transport.Server, error) {
	opts, err := t.Options.Defaults()
	if err != nil {
		return nil, err
	}
	if o, err = ServerDefaults(o); err != nil {
		return nil, err
	}
	at, err := socket.Resolve(addr)
	if err != nil {
		return nil, err
	}
	c, err := pick(at)
	if err != nil {
		return nil, err
	}
	return stream.Serve(addr, g, o, socket.Options{}, func(h *stream.Host, p *stream.Peers) (stream.Endpoint, error) {
		if err := opts.Verb.CheckWait(h.L.WaitPolicy()); err != nil {
			return nil, err
		}
		e, err := newEndpoint(h, p, opts, c, g)
		if e == nil {
			return nil, err
		}
		if err == nil {
			made(e)
		}
		return e.member(), err
	})
}

// endpoint is the server's share of connections on one loop.
type endpoint struct {
	*stream.Ends
	rdmaEngine
	tables   []exported // for the verb read
	cm       *verbs.CMListener
	group    *loop.Group
	choice   device.Choice // the device of the address that the server listens on
	listener *socket.Acceptor
	resp     respServer // connections with Valkey's protocol
}

var (
	_ stream.Endpoint = (*endpoint)(nil)
	_ loop.Busier     = (*endpoint)(nil)
)

func newEndpoint(h *stream.Host, p *stream.Peers, o Options, c device.Choice, g *loop.Group) (*endpoint, error) {
	e := &endpoint{rdmaEngine: rdmaEngine{l: h.L, count: transport.CountersOf(h.L), o: o, number: h.Index, log: h.O.Log}, choice: c, group: g, resp: respServer{links: map[uint64]*link{}, peers: p}}
	id, err := h.L.Add(e.member())
	if err != nil {
		return nil, err
	}
	e.id, e.beforeClose = id, e.stopCM
	e.Ends = stream.NewEnds(h, p, &e.rdmaEngine)
	e.listener = socket.NewAcceptor(h, id, func(fd int, name string) error { return e.Add(socket.Socket{Fd: fd}, name, nil) })
	h.Grant, h.Features = e.grant, o.Verb.features()
	if err := e.setUp(c); err != nil {
		return e, err
	}
	if o.Verb.writes() && e.nic.slotAccess == verbs.RemoteWrite && h.Index == 0 {
		h.O.Log.Warn("the device has no memory windows of type 2B: a connected client that guesses the key and address of another connection can write into its slots",
			"device", c.Device, "remedy", "where clients do not trust each other: --rdma-verb send")
	}
	return e, nil
}

// setUp opens the device, with all that connections share.
func (e *endpoint) setUp(c device.Choice) (err error) {
	if err := e.openDevice(c); err != nil {
		return err
	}
	for _, a := range e.Host.Arenas() {
		if e.o.HugePages {
			_ = a.Huge() // as many huge pages as the kernel has
		}
		if _, err := e.nic.register(a, verbs.Local); err != nil {
			return err
		}
	}
	if e.o.Connect == ByCM {
		e.awaited = map[verbs.CMToken]*link{}
		if e.cm, err = verbs.ListenCM(c.Addr, 0, verbs.CMEvents{Request: e.request, Removed: e.removed}); err != nil {
			return err
		}
	}
	if e.o.Verb == Read {
		e.tables, err = e.nic.export(e.group)
	}
	return err
}

// reopen opens a lost device for a new connection.
func (e *endpoint) reopen() error {
	return e.ensureOpen(func() error {
		c, err := pick(e.choice.Addr)
		if err == nil {
			err = e.setUp(c)
		}
		if err != nil {
			if e.nic != nil {
				e.nic.failure = err
				e.closeLost()
			}
			return fmt.Errorf("rdma: open the device again: %w", err)
		}
		e.choice = c
		e.Host.O.Log.Info("the device is open again", "device", c.Device, "loop", e.Host.Index)
		return nil
	})
}

// removed is called when rdma_cm reports that the device will be removed, on its own goroutine.
func (e *endpoint) removed() {
	e.l.Do(func() { e.handleEvent(event{kind: verbs.EventDeviceFatal}) })
}

// stopCM ends the listener of rdma_cm. All its connections are closed.
func (e *endpoint) stopCM() {
	if e.cm != nil {
		e.cm.Close()
		e.cm = nil
	}
}

// Listen implements stream.Endpoint.
func (e *endpoint) Listen(fd int) error {
	if e.o.Connect == ByCM && e.Host.Index == 0 {
		e.listenRESP(fd)
	}
	return e.listener.Listen(fd)
}

// grant makes a connection's queue pair, for a received hello.
func (e *endpoint) grant(c *stream.Server) ([]byte, error) {
	l := c.Driver().(*link)
	var peer params
	if err := peer.decode(c.Hello().Params); err != nil {
		return nil, &transport.Refusal{Code: wire.RefusedFeature, Reason: err.Error()}
	}
	if err := e.reopen(); err != nil {
		return nil, err
	}
	sa, err := unix.Getsockname(l.tcp.fd)
	if err != nil {
		return nil, fmt.Errorf("rdma: getsockname: %w", err)
	}
	choice, err := pick(ipOf(sa))
	if err != nil && ipOf(sa) == e.choice.Addr {
		choice, err = e.choice, nil // no free descriptor to choose again; if the choice is out of date, connecting fails
	}
	if err != nil {
		return nil, err
	}
	if choice.Device != e.nic.name {
		return nil, fmt.Errorf("rdma: %v has the device %s, and this server uses %s (listen on one address)", ipOf(sa), choice.Device, e.nic.name)
	}
	if err := l.open(choice, c.Depth(), stagingBytes); err != nil {
		return nil, err
	}
	if err := l.connect(peer); err != nil {
		l.destroy()
		if refusal := new(*transport.Refusal); !errors.As(err, refusal) { // the device does not accept the peer's parameters
			err = &transport.Refusal{Code: wire.RefusedFeature, Reason: err.Error()}
		}
		return nil, err
	}
	if l.pair.own.connect == ByCM {
		l.pair.own.port = e.cm.Port
		e.awaited[peer.token] = l
	} else if err := l.bind(); err != nil {
		l.destroy()
		return nil, err
	}
	return encodeTables(l.pair.own.encode(), e.tables), nil
}

// request handles a connection request of rdma_cm, on its own goroutine.
func (e *endpoint) request(token verbs.CMToken, r *verbs.CMRequest) {
	accept := func() {
		l := e.awaited[token]
		delete(e.awaited, token)
		if l == nil || l.state == linkClosed {
			r.Reject()
			return
		}
		cm, err := r.Accept(l.pair.qp, l.path(&l.pair.peer))
		if err != nil {
			l.onEnd(l, err)
			return
		}
		l.pair.cm = cm
		if err := l.bind(); err != nil {
			l.onEnd(l, err)
		}
	}
	if !e.l.Do(accept) {
		r.Reject()
	}
}

func ipOf(sa unix.Sockaddr) netip.Addr {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr).Unmap()
	}
	return netip.Addr{}
}

// OnEvent implements loop.Member.
func (e *endpoint) OnEvent(tag uint64, _ int32, _ uint32) {
	if tag == socket.TagListener {
		e.listener.Ready()
		return
	}
	e.event(tag)
}

// Poll implements loop.Member.
func (e *endpoint) Poll() int { return e.rdmaEngine.Poll() + e.listener.Poll() }

// Stage implements loop.Member.
func (e *endpoint) Stage() error {
	e.closeLost()
	e.tickRESP()
	e.Ends.Stage()
	e.listener.Stage()
	return nil
}

// Busy implements loop.Busier.
func (e *endpoint) Busy() string { return e.Ends.Busy() }

// Close implements loop.Member. It stops accepting, and ends the connections in order.
func (e *endpoint) Close() bool {
	e.listener.Close()
	return e.closeRESP() && e.Ends.Close()
}
