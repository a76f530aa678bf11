//go:build rdma && cgo && linux

package rdma

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// hub is the member that moves the messages of all client connections of one loop over one device.
type hub struct {
	stream.Hub
	rdmaEngine
}

var _ loop.Busier = (*hub)(nil)

// hubs counts the hubs, so that their completion queues are spread over all of a device's interrupts.
var hubs atomic.Uint32

type hubKey struct {
	device string
	o      Options
}

// conn is the client's end of a connection.
type conn struct {
	*stream.Client
	link   *link
	limits kv.Limits
}

var _ transport.Conn = (*conn)(nil)

// Dial connects to addr, host:port, by TCP, exchanges the hellos, connects the queue pairs, and puts the connection onto
// l. The route to addr determines the device.
func (t Transport) Dial(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions) (transport.Conn, error) {
	opts, err := t.Options.Defaults()
	if err != nil {
		return nil, err
	}
	if o, err = o.Defaults(); err != nil {
		return nil, err
	}
	if !o.Redis {
		openEarly(ctx, l, addr, o.DialMax, opts)
	}
	ctx, cancel := context.WithTimeout(ctx, o.DialMax)
	defer cancel()
	if o.Redis {
		return dialRESP(ctx, l, addr, o, opts)
	}
	var k *link
	var from, to netip.Addr
	s, hello, err := stream.Dial(ctx, addr, o, socket.Options{}, func(request *wire.ClientHello, local, remote netip.Addr) error {
		from, to = local, remote
		c, err := pick(local)
		if err == nil {
			err = device.CheckReach(device.Local(), c, remote)
		}
		if err != nil {
			return err
		}
		return l.Try(func() error {
			if k, err = prepare(l, c, opts, o.Depth); err == nil {
				if opts.Connect == ByCM {
					_, _ = rand.Read(k.pair.own.token[:])
				}
				request.Params, request.Optional = k.pair.own.encode(), opts.Verb.features()
			}
			return err
		})
	})
	var c *conn
	if err == nil {
		if opts.Connect == ByCM {
			err = k.connectCM(ctx, from, to, hello)
		}
		if err == nil {
			err = l.Try(func() (err error) {
				c, err = k.begin(s.Fd, hello)
				return err
			})
		}
		if err != nil {
			s.Close()
			err = fmt.Errorf("connect to %s: %w", addr, err)
		}
	}
	if err != nil {
		if k != nil {
			_ = l.Do(k.abandon)
		}
		return nil, err
	}
	return c, nil
}

// openEarly opens the device to addr and registers the memory, which may take seconds, before a server begins to wait for the hello. Dial does what fails here
// again, and returns the error.
func openEarly(ctx context.Context, l *loop.Loop, addr string, max time.Duration, o Options) {
	ctx, cancel := context.WithTimeout(ctx, max)
	defer cancel()
	from, to, err := route(ctx, addr)
	if err != nil {
		return
	}
	if c, err := pick(from); err == nil && device.CheckReach(device.Local(), c, to.Addr()) == nil {
		_ = l.Try(func() error {
			_, err := hubFor(l, c, o)
			return err
		})
	}
}

// hubFor returns the loop's hub for a device, and opens the device. Only the loop's goroutine may call it.
func hubFor(l *loop.Loop, c device.Choice, o Options) (*hub, error) {
	if err := o.Verb.CheckWait(l.WaitPolicy()); err != nil {
		return nil, err
	}
	m, err := l.Shared(hubKey{c.Device, o}, func() (loop.Member, error) {
		h := &hub{rdmaEngine: rdmaEngine{l: l, count: transport.CountersOf(l), o: o, number: int(hubs.Add(1) - 1), log: slog.New(slog.DiscardHandler)}}
		h.Hub = stream.NewHub(l, &h.rdmaEngine)
		var err error
		if h.id, err = l.Add(h.member()); err != nil {
			return nil, err
		}
		return h, nil
	})
	if err != nil {
		return nil, err
	}
	h := m.(*hub)
	return h, h.ensureOpen(func() error { return h.openDevice(c) })
}

// prepare makes the queue pair of a connection before it is dialed. Only the loop's goroutine may call it.
func prepare(l *loop.Loop, c device.Choice, o Options, depth int) (*link, error) {
	h, err := hubFor(l, c, o)
	if err != nil {
		return nil, err
	}
	tag, row := h.links.Put()
	k := &link{d: &h.rdmaEngine, tag: tag, tcp: control{fd: -1}, onEnd: stream.ConnIO.Close}
	*row = k
	if err := k.open(c, depth, o.SlotBytes); err != nil {
		h.links.Drop(tag)
		return nil, err
	}
	return k, nil
}

// connectCM connects the queue pair by rdma_cm. No other goroutine uses the queue pair yet.
func (k *link) connectCM(ctx context.Context, from, to netip.Addr, hello wire.ServerHello) (err error) {
	var peer params
	if err = peer.decode(hello.Params); err == nil {
		if k.pair.cm, err = k.pair.qp.ConnectCM(ctx, from, to, peer.port, k.pair.own.token, k.path(&peer)); errors.Is(err, unix.ECONNRESET) {
			err = fmt.Errorf("%w: %w", transport.ErrPeerGone, err)
		}
	}
	return err
}

// begin connects the queue pair to the one in the server's hello, and makes the client's side.
func (k *link) begin(fd int, hello wire.ServerHello) (*conn, error) {
	if k.state == linkClosed {
		return nil, transport.ErrClosed
	}
	if n := k.d.nic; n.failure != nil {
		return nil, n.failure
	}
	var peer params
	if err := peer.decode(hello.Params); err != nil {
		return nil, err
	}
	if err := k.connect(peer); err != nil {
		return nil, err
	}
	side, err := stream.NewClient(k.d.l, k, hello, 0)
	if err != nil {
		return nil, err
	}
	k.side, k.tcp.fd = side, fd
	if err := k.d.l.WatchRarely(k.d.id, fd, unix.EPOLLIN|unix.EPOLLRDHUP, k.tag); err != nil {
		side.Drop(err)
		return nil, err
	}
	switch k.d.o.Verb {
	case Read:
		var tables []exported
		if tables, err = decodeTables(hello.Params[paramsBytes:]); err == nil && len(tables) > 0 {
			k.reader, err = newReader(k, tables, int(hello.Depth), side)
		}
	case Write, WritePoll:
		err = k.bind()
	}
	if err != nil {
		k.d.l.UnwatchRarely(k.d.id, fd, k.tag)
		side.Drop(err)
		return nil, err
	}
	k.state, k.alive.receivedAt = linkUp, k.d.l.AwakeNow()
	if hello.StallMillis > 0 {
		k.alive.stallMax = int64(max(time.Duration(hello.StallMillis)*time.Millisecond, stallMin))
	}
	return &conn{side, k, kv.Limits{MaxKeyBytes: int(hello.MaxKeyBytes), MaxValueBytes: int(hello.MaxValueBytes)}}, nil
}

// Submit implements kv.Handler.
func (c *conn) Submit(r *kv.Request) {
	if l := c.link; l.d.o.Verb == Read && r.Op == kv.OpGet && c.limits.Check(r) == kv.StatusOK {
		if l.reader != nil && l.reader.get(r) {
			return
		}
		l.d.count.ReadSkips++
	}
	c.Client.Submit(r)
}

// Hangup implements transport.Conn.
func (c *conn) Hangup() {
	_ = c.link.d.l.Call(func() { c.link.Close(transport.ErrClosed) })
}

// OnEvent implements loop.Member.
func (h *hub) OnEvent(tag uint64, _ int32, _ uint32) { h.event(tag) }

// Stage implements loop.Member.
func (h *hub) Stage() error {
	h.closeLost()
	if h.nic != nil {
		h.Flush()
		h.checkAlive()
	}
	return nil
}

// Busy implements loop.Busier.
func (h *hub) Busy() string { return h.Hub.Busy() }
