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

// refusedVerb is the code for sides that would not understand each other.
const refusedVerb = wire.RefusedFeature

// Serve listens on addr, host:port, by TCP: the hello and the queue pairs' numbers travel there. The address
// says which device serves.
func (t Transport) Serve(addr string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	return t.serve(addr, g, o, func(*endpoint) {})
}

// serve is Serve, which shows each endpoint that it has made.
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
		e, err := newEndpoint(h, p, opts, c, g)
		if err == nil {
			made(e.(*endpoint))
		}
		return e, err
	})
}

// endpoint is the server's share of connections on one loop.
type endpoint struct {
	driver
	h        *stream.Host
	tables   []exported // for the verb read
	cm       *verbs.CMListener
	awaited  map[verbs.CMToken]*link // that rdma_cm will connect
	peers    *stream.Peers
	group    *loop.Group
	choice   device.Choice // of the address that the server listens on
	listener socket.Acceptor
	watching bool // the listener
	late     func(*stream.Server, error)
}

var _ loop.Busier = (*endpoint)(nil)

func newEndpoint(h *stream.Host, p *stream.Peers, o Options, c device.Choice, g *loop.Group) (stream.Endpoint, error) {
	e := &endpoint{driver: driver{l: h.L, o: o, number: h.Index}, h: h, choice: c, peers: p, group: g}
	e.note = func(kind int) {
		h.O.Log.Warn("the device reported an event", "device", e.choice.Device, "event", eventText(kind), "loop", h.Index)
	}
	e.listener = socket.Acceptor{H: h, Fd: -1, Take: func(fd int, name string) error {
		e.add(fd, name, nil)
		return nil
	}}
	id, err := h.L.Add(e)
	if err != nil {
		return nil, err
	}
	e.id = id
	e.late = func(c *stream.Server, err error) { e.ended(c.Driver().(*link), err) }
	h.Grant = e.grant
	if err := e.equip(c); err != nil {
		return e, err
	}
	if o.Verb == Write && e.nic.exposes == verbs.RemoteWrite && h.Index == 0 {
		h.O.Log.Warn("the device has no memory windows of type 2B: a client that was let in and guesses another's key and address can write into its slots",
			"device", c.Device, "remedy", "where clients do not trust each other: --rdma-verb send")
	}
	return e, nil
}

// equip opens the device, with all that connections share.
func (e *endpoint) equip(c device.Choice) (err error) {
	if err := e.open(c); err != nil {
		return err
	}
	for _, a := range e.h.Arenas() {
		if e.o.HugePages {
			_ = a.Huge() // what the kernel has of them
		}
		if _, err := e.nic.register(a, verbs.Local); err != nil {
			return err
		}
	}
	if e.o.Connect == ByCM {
		e.awaited = map[verbs.CMToken]*link{}
		if e.cm, err = verbs.ListenCM(c.Addr, e.request, e.removed); err != nil {
			return err
		}
	}
	if e.o.Verb == Read {
		e.tables, err = e.nic.export(e.group)
	}
	return err
}

// again opens a device that was lost, for the connection that is asked for.
func (e *endpoint) again() error {
	return e.revive(e.stopCM, func() error {
		c, err := pick(e.choice.Addr)
		if err == nil {
			err = e.equip(c)
		}
		if err != nil {
			if e.nic != nil {
				e.nic.dead = err
				e.bury(e.stopCM)
			}
			return fmt.Errorf("rdma: open the device again: %w", err)
		}
		e.choice = c
		e.h.O.Log.Info("the device is open again", "device", c.Device, "loop", e.h.Index)
		return nil
	})
}

// removed is called when rdma_cm tells that the device is about to go, on a goroutine of its own.
func (e *endpoint) removed() {
	e.l.Do(func() { e.happened(event{kind: verbs.EventDeviceFatal}) })
}

// stopCM ends the listener of rdma_cm; all connections that it made are closed.
func (e *endpoint) stopCM() {
	if e.cm != nil {
		e.cm.Close()
		e.cm = nil
	}
}

// Listen is stream.Endpoint's.
func (e *endpoint) Listen(fd int) error {
	e.listener.Listen(fd)
	err := e.l.WatchRarely(e.id, fd, unix.EPOLLIN, tagListener)
	e.watching = err == nil
	return err
}

// grant makes a connection's queue pair, for the hello that asks for it.
func (e *endpoint) grant(c *stream.Server) ([]byte, error) {
	l := c.Driver().(*link)
	var peer params
	if err := peer.decode(c.Hello().Params); err != nil {
		return nil, &transport.Refusal{Code: wire.RefusedFeature, Reason: err.Error()}
	}
	if err := e.again(); err != nil {
		return nil, err
	}
	sa, err := unix.Getsockname(l.fd)
	if err != nil {
		return nil, fmt.Errorf("rdma: getsockname: %w", err)
	}
	choice, err := pick(ipOf(sa))
	if err != nil && ipOf(sa) == e.choice.Addr {
		choice, err = e.choice, nil // without a descriptor to look again; if it is no more, connecting says so
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
		if refusal := new(*transport.Refusal); !errors.As(err, refusal) { // the device does not take what the peer says
			err = &transport.Refusal{Code: wire.RefusedFeature, Reason: err.Error()}
		}
		return nil, err
	}
	if l.mine.connect == ByCM {
		l.mine.port = e.cm.Port
		e.awaited[peer.token] = l
	} else if err := l.bind(); err != nil {
		l.destroy()
		return nil, err
	}
	return encodeTables(l.mine.encode(), e.tables), nil
}

// request takes a connection request by rdma_cm, on a goroutine of its own.
func (e *endpoint) request(token verbs.CMToken, r *verbs.CMRequest) {
	accept := func() {
		l := e.awaited[token]
		delete(e.awaited, token)
		if l == nil || l.closed {
			r.Reject()
			return
		}
		cm, err := r.Accept(l.qp, l.path(&l.peer))
		if err != nil {
			e.ended(l, err)
			return
		}
		l.cm = cm
		if err := l.bind(); err != nil {
			e.ended(l, err)
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

// OnEvent is loop.Member's.
func (e *endpoint) OnEvent(tag uint64, _ int32, _ uint32) {
	if tag == tagListener {
		e.listener.Ready()
		return
	}
	e.event(tag)
}

// Poll is loop.Member's.
func (e *endpoint) Poll() int {
	return e.driver.Poll() + e.listener.Poll()
}

// add takes a connection in: fresh, or with the hello that another loop has read.
func (e *endpoint) add(fd int, name string, moved *stream.Moved) {
	tag, row := e.links.Put()
	l := &link{d: &e.driver, tag: tag, fd: fd, ended: e.ended, served: true}
	*row = l
	if err := e.l.WatchRarely(e.id, fd, unix.EPOLLIN|unix.EPOLLRDHUP, tag); err != nil {
		e.links.Drop(tag)
		e.h.TurnAway(socket.Socket{Fd: fd}, name)
		return
	}
	var srv *stream.Server
	if moved == nil {
		srv = e.h.NewServer(l, name)
	} else {
		srv = e.h.Adopt(l, moved)
	}
	if srv == nil {
		l.release()
		e.h.TurnAway(socket.Socket{Fd: fd}, name)
		return
	}
	l.side = srv
	if moved != nil {
		l.Touch()
	}
}

// Adopt is stream.Endpoint's: it takes over a connection that another loop accepted.
func (e *endpoint) Adopt(m stream.Moved) { e.add(m.Fd, m.Name, &m) }

// ended is called when a connection has ended or failed, or its hello asks for another loop.
func (e *endpoint) ended(l *link, err error) {
	if l.closed {
		return
	}
	delete(e.awaited, l.peer.token)
	if errors.Is(err, stream.ErrMove) {
		srv := l.side.(*stream.Server)
		m := srv.Moved(socket.Socket{Fd: l.fd})
		to := srv.MoveTo
		l.release()
		l.side.Drop(err)
		e.peers.Move(to, m)
		return
	}
	l.close(err)
}

// Stage is loop.Member's.
func (e *endpoint) Stage() error {
	if e.h.Pool == nil {
		return nil // it is closed
	}
	e.bury(e.stopCM)
	e.h.Resume()
	e.flush()
	e.h.Tick(e.late)
	e.listener.Stage()
	return nil
}

// Busy is loop.Busier's.
func (e *endpoint) Busy() string {
	if s := e.busy(); s != "" {
		return s
	}
	return e.h.Busy()
}

// Close is loop.Member's: nothing more is accepted, connections end in good order.
func (e *endpoint) Close() bool {
	if e.listener.Fd >= 0 {
		if e.watching {
			e.l.UnwatchRarely(e.id, e.listener.Fd, tagListener)
		}
		e.listener.Close()
	}
	e.h.Wind()
	if !e.h.Idle() {
		return false
	}
	e.stopCM()
	if err := e.shut(); err != nil {
		e.h.O.Log.Error("device not freed", "device", e.choice.Device, "reason", err)
	}
	return e.h.Close()
}
