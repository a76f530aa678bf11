// Package inproc has two transports without a network. With inproc a connection passes requests to a handler on its
// own loop, by a call: the baseline of comparisons. With codec it also encodes and parses them. It may not import
// store.
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

// conn is a client's connection. Its requests in flight belong to the handler, which completes them even after Hangup.
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

// servers are the servers of this process, by address. The data path does not use them.
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

// Name returns the value of the column transport.
func (Transport) Name() string { return "inproc" }

// Sleep returns the ring, for the disk: one io_uring_enter submits and waits. A build without io_uring uses epoll.
func (Transport) Sleep() loop.Sleep {
	if ring.Built {
		return loop.SleepRing
	}
	return loop.SleepEpoll
}

// Serve makes g's loops available to Dial. There are no endpoints, and addr is ignored.
func (Transport) Serve(_ string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	o, err := o.Defaults()
	if err != nil {
		return nil, err
	}
	return register("inproc", &server{g: g, o: o}), nil
}

// Addr implements transport.Server.
func (s *server) Addr() string { return s.addr }

// Close implements transport.Server. Connections stay usable: they are only calls.
func (s *server) Close() error {
	servers.Lock()
	defer servers.Unlock()
	delete(servers.by, s.addr)
	return nil
}

// Cut implements transport.Server.
func (s *server) Cut() {}

// Stats implements transport.Server. Calls are not counted.
func (s *server) Stats() ([]transport.Stats, error) {
	return make([]transport.Stats, len(s.g.Net())), nil
}

// LoopStats implements transport.Server.
func (s *server) LoopStats(int) transport.Stats { return transport.Stats{} }

// Dial puts a connection onto l, which must be one of the server's own network loops: any other loop
// would add a wake-up of 22–34 µs to the zero line.
func (Transport) Dial(_ context.Context, l *loop.Loop, addr string, _ transport.DialOptions) (transport.Conn, error) {
	s, i, err := findServer("inproc", l, addr)
	if err != nil {
		return nil, err
	}
	return s.connect(l, i), nil
}

// findServer returns the server of this process at addr, and the number of its network loop l.
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

// register sets a server's address, under which Dial finds it.
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

// Submit implements kv.Handler.
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

// Hello returns the hello that a server with these options would send.
func (c *conn) Hello() wire.ServerHello { return c.hello }

// Err implements transport.Conn.
func (c *conn) Err() error { return c.err }

// Hangup implements transport.Conn.
func (c *conn) Hangup() { _ = c.l.Call(func() { c.err = transport.ErrClosed }) }
