// Package inproc is no network at all: a connection that hands requests to a handler on its own loop,
// by a call. It is the zero line of every comparison. It may not import store.
package inproc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// conn holds no request: what is in flight belongs to the handler, which completes it also after Hangup.
type conn struct {
	l      *loop.Loop
	h      kv.Handler
	limits kv.Limits
	hello  wire.ServerHello
	err    error
}

var _ transport.Conn = (*conn)(nil)

// Transport implements transport.Transport within one process. Its zero value is ready.
type Transport struct{}

var _ transport.Transport = Transport{}

// servers are those of this process, by address; for Serve, Dial and Close, never on the data path.
var servers struct {
	sync.Mutex
	last int
	by   map[string]*server
}

type server struct {
	kind string // the transport's name
	addr string
	g    *loop.Group
	o    transport.ServerOptions
}

// Name is the value of the transport column.
func (Transport) Name() string { return "inproc" }

// Sleep is the disk's: one enter submits and waits. Where there is no io_uring, epoll serves as well.
func (Transport) Sleep() loop.Sleep {
	if ring.Built {
		return loop.SleepRing
	}
	return loop.SleepEpoll
}

// Serve makes g's loops reachable by Dial; there are no endpoints, and addr is not looked at.
func (Transport) Serve(_ string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	o, err := o.Defaults()
	if err != nil {
		return nil, err
	}
	return register("inproc", &server{g: g, o: o}), nil
}

// Addr is transport.Server's.
func (s *server) Addr() string { return s.addr }

// Close is transport.Server's. Connections go on: they are calls.
func (s *server) Close() error {
	servers.Lock()
	defer servers.Unlock()
	delete(servers.by, s.addr)
	return nil
}

// Cut is transport.Server's.
func (s *server) Cut() {}

// Stats is transport.Server's: a call leaves nothing to count.
func (s *server) Stats() ([]transport.Stats, error) {
	return make([]transport.Stats, len(s.g.Net())), nil
}

// LoopStats is transport.Server's.
func (s *server) LoopStats(int) transport.Stats { return transport.Stats{} }

// Dial puts a connection onto l, which has to be one of the server's own network loops: on any other
// there would be a wake-up of 22–34 µs in what is to be the zero line.
func (Transport) Dial(_ context.Context, l *loop.Loop, addr string, _ transport.DialOptions) (transport.Conn, error) {
	s, i, err := findServer("inproc", l, addr)
	if err != nil {
		return nil, err
	}
	return s.connect(l, i), nil
}

// findServer finds a server of this process, and which of its loops l is.
func findServer(kind string, l *loop.Loop, addr string) (*server, int, error) {
	servers.Lock()
	s := servers.by[addr]
	servers.Unlock()
	if s == nil || s.kind != kind {
		return nil, 0, fmt.Errorf("inproc: no server %q in this process", addr)
	}
	for i, n := range s.g.Net() {
		if n == l {
			return s, i, nil
		}
	}
	return nil, 0, errors.New("inproc: the connection's loop is not one of the server's")
}

// register gives a server its address.
func register(kind string, s *server) *server {
	servers.Lock()
	defer servers.Unlock()
	servers.last++
	s.kind, s.addr = kind, fmt.Sprintf("%s:%d", kind, servers.last)
	if servers.by == nil {
		servers.by = map[string]*server{}
	}
	servers.by[s.addr] = s
	return s
}

func (s *server) connect(l *loop.Loop, i int) *conn {
	limits := s.o.Limits
	return &conn{l: l, h: s.g.Router(i), limits: limits, hello: wire.ServerHello{Version: wire.Version, Depth: transport.MaxDepth,
		MaxKeyBytes: uint16(limits.MaxKeyBytes), MaxValueBytes: uint32(limits.MaxValueBytes),
		Loop: uint16(i), Loops: uint16(len(s.g.Net())), Shards: s.g.ShardLoops()}}
}

// Submit is kv.Handler's.
func (c *conn) Submit(r *kv.Request) {
	loop.Mark(r, kv.StageClientQueue)
	s := c.limits.Check(r)
	if c.err != nil {
		s = kv.StatusClosed
	}
	if s != kv.StatusOK {
		r.Status = s
		c.l.Finish(r)
		return
	}
	c.h.Submit(r)
}

// Hello is what a server would have granted.
func (c *conn) Hello() wire.ServerHello { return c.hello }

// Err is transport.Conn's.
func (c *conn) Err() error { return c.err }

// Hangup is transport.Conn's.
func (c *conn) Hangup() { _ = c.l.Call(func() { c.err = transport.ErrClosed }) }
