package stream

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// Endpoint is a transport's share of the server's connections on one loop.
type Endpoint interface {
	loop.Member
	Adopt(m Moved)       // adds a connection that another loop accepted; called on its loop
	Listen(fd int) error // begins to accept from a listening socket, and owns it from then on; called on its loop
}

// Moved is a connection on its way from the loop that accepted it to the loop that it belongs to.
type Moved struct {
	socket.Socket
	Name     string
	Received []byte // the bytes received so far: a hello, or commands
}

// Peers are the endpoints of one server, by the number of their loop.
type Peers struct {
	loops []*loop.Loop
	hosts []*Host // nil, as in ends: not made yet
	ends  []Endpoint
}

// Move passes a connection to another loop. Only the loop that has it may call it.
func (p *Peers) Move(to int, m Moved) {
	if !p.loops[to].Do(func() { p.ends[to].Adopt(m) }) {
		m.Close()
	}
}

// Do calls f with the endpoint of a loop, on that loop. It reports false if the loop has stopped: f is not called. Any goroutine may call it.
func (p *Peers) Do(to int, f func(e Endpoint)) bool {
	return p.loops[to].Do(func() { f(p.ends[to]) })
}

// Serve listens on addr, host:port or unix:PATH, and puts an endpoint onto each network loop of g. The first loop accepts all connections, so that the client
// can choose its loop; with sockets.ReusePort each loop accepts, and the kernel chooses. newEndpoint is called on each loop. If it returns an endpoint together
// with an error, the endpoint is already on the loop, and Serve closes it there.
func Serve(addr string, g *loop.Group, o transport.ServerOptions, sockets socket.Options, newEndpoint func(h *Host, p *Peers) (Endpoint, error)) (transport.Server, error) {
	o, err := o.Defaults()
	if err != nil {
		return nil, err
	}
	if n := len(g.Net()); n > wire.MaxShards || g.Shards() > wire.MaxShards {
		return nil, fmt.Errorf("transport: %d network loops, %d partitions: at most %d of each", n, g.Shards(), wire.MaxShards)
	}
	listeners, bound, file, err := socket.ListenAll(addr, len(g.Net()), sockets)
	if err != nil {
		return nil, err
	}
	s := &server{addr: bound, file: file, since: time.Now(), p: &Peers{loops: g.Net(), hosts: make([]*Host, len(g.Net())), ends: make([]Endpoint, len(g.Net()))}}
	for i := range g.Net() {
		t := g.Router(i)
		t.OnStats(kv.StatsInfo, func(r *kv.Request) { s.answerInfo(t, r) })
		t.OnStats(kv.StatsClients, s.answerClients)
	}
	cursors := resp.NewCursors()
	err = loop.TryEach(s.p.loops, func(i int, l *loop.Loop) error {
		h, err := NewHost(l, g, i, o)
		if err != nil {
			return err
		}
		h.redis.cursors, h.Sockets = cursors, sockets
		if s.p.ends[i], err = newEndpoint(h, s.p); s.p.ends[i] == nil {
			h.Close()
			return err
		}
		s.p.hosts[i] = h
		return err
	})
	if err == nil { // no loop accepts before all endpoints are made
		err = loop.TryEach(s.p.loops, func(i int, _ *loop.Loop) error {
			fd := listeners[i]
			if fd < 0 {
				return nil
			}
			listeners[i] = -1
			return s.p.ends[i].Listen(fd)
		})
	}
	if err != nil {
		_ = s.Close()
		for _, fd := range listeners {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
		return nil, err
	}
	return s, nil
}

type server struct {
	addr  string
	since time.Time
	file  *socket.File // the file of a unix socket; nil: none
	p     *Peers
	close sync.Once

	listing sync.Mutex // one CLIENT LIST at a time
	lists   uint64     // number of lists begun
}

// Addr implements transport.Server.
func (s *server) Addr() string { return s.addr }

// Close implements transport.Server. All endpoints close at the same time.
func (s *server) Close() (err error) {
	s.close.Do(func() {
		if s.file != nil {
			err = s.file.Remove()
		}
		var wg sync.WaitGroup
		for i, e := range s.p.ends {
			if e != nil { // nil: Serve failed before it was made
				wg.Go(func() { s.p.loops[i].Remove(e) })
			}
		}
		wg.Wait()
	})
	return err
}

// Cut implements transport.Server.
func (s *server) Cut() {
	for i, h := range s.p.hosts {
		if h != nil {
			s.p.loops[i].Do(h.Cut)
		}
	}
}

// Stats implements transport.Server.
func (s *server) Stats() ([]transport.Stats, error) {
	all := make([]transport.Stats, len(s.p.hosts))
	err := loop.TryEach(s.p.loops, func(i int, _ *loop.Loop) error {
		all[i] = s.p.hosts[i].Stats()
		return nil
	})
	return all, err
}

// LoopStats implements transport.Server.
func (s *server) LoopStats(i int) transport.Stats { return s.p.hosts[i].Stats() }

// Dialed holds what Dial has learned of a connection, without its socket.
type Dialed struct {
	hello     wire.ServerHello
	recvBytes int
	redis     bool
}

// DialedRedis authenticates on a connection that a transport has made itself, and checks that the server uses Redis's protocol. o must have its defaults.
func DialedRedis(nc net.Conn, o transport.DialOptions) (*Dialed, error) {
	if err := ping(nc, o.Access); err != nil {
		return nil, err
	}
	return &Dialed{redisHello(o.Depth), o.RecvBytes, true}, nil
}

// Client makes the client's end. Only l's goroutine may call it.
func (d *Dialed) Client(l *loop.Loop, driver Driver) (*Client, error) {
	if d.redis {
		return newRedisClient(l, driver, d.hello, d.recvBytes)
	}
	return NewClient(l, driver, d.hello, d.recvBytes)
}

// Connect dials addr and calls make on l's goroutine, which puts the connection onto l. make owns the socket, also if it fails.
func Connect(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions, sockets socket.Options, make func(s socket.Socket, d *Dialed) (transport.Conn, error)) (transport.Conn, error) {
	o, err := o.Defaults()
	if err != nil {
		return nil, err
	}
	s, hello, err := Dial(ctx, addr, o, sockets, nil)
	if err != nil {
		return nil, err
	}
	var c transport.Conn
	var mkErr error
	if err := l.Call(func() { c, mkErr = make(s, &Dialed{hello, o.RecvBytes, o.Redis}) }); err != nil {
		s.Close()
		return nil, err
	}
	return c, mkErr
}

// Table finds connections by tag. A tag is a row and the number of times that the row was used, so an event
// for a closed connection finds nothing. It belongs to one loop.
type Table[T any] struct {
	rows []*row[T]
	free []int
}

type row[T any] struct {
	gen  uint32
	live bool
	v    T
}

const (
	rowBits = 24
	genMask = 1<<24 - 1
)

// Put makes a new row and its tag, which fits into 48 bits. The row does not move.
func (t *Table[T]) Put() (tag uint64, v *T) {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		r := t.rows[i]
		r.live = true
		return uint64(r.gen)<<rowBits | uint64(i), &r.v
	}
	r := &row[T]{live: true}
	t.rows = append(t.rows, r)
	return uint64(len(t.rows) - 1), &r.v
}

// Get returns the row of a tag; nil if it was dropped.
func (t *Table[T]) Get(tag uint64) *T {
	i := int(tag & (1<<rowBits - 1))
	if i >= len(t.rows) || !t.rows[i].live || t.rows[i].gen != uint32(tag>>rowBits)&genMask {
		return nil
	}
	return &t.rows[i].v
}

// Each calls f for each row; f may drop that row.
func (t *Table[T]) Each(f func(tag uint64, v *T)) {
	for i, r := range t.rows {
		if r.live {
			f(uint64(r.gen)<<rowBits|uint64(i), &r.v)
		}
	}
}

// Len is the number of rows.
func (t *Table[T]) Len() int { return len(t.rows) - len(t.free) }

// Drop frees a row.
func (t *Table[T]) Drop(tag uint64) {
	i := int(tag & (1<<rowBits - 1))
	r := t.rows[i]
	var zero T
	r.v, r.live = zero, false
	r.gen = (r.gen + 1) & genMask
	t.free = append(t.free, i)
}
