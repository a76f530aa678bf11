package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// Endpoint is a transport's share of the server's connections on one loop.
type Endpoint interface {
	loop.Member
	Adopt(m Moved) // on its loop: takes over a connection that another loop accepted
}

// Moved is a connection on its way from the loop that accepted it to the one that it asked for.
type Moved struct {
	Fd    int
	Name  string
	Hello wire.ClientHello
}

// AcceptAgain is how long, in ns, accepting rests after the system had no descriptor or memory.
const AcceptAgain = 100e6

// Peers are the endpoints of one server, by the number of their loop.
type Peers struct {
	loops []*loop.Loop
	ends  []Endpoint
}

// Move hands a connection over. From the loop that has it.
func (p *Peers) Move(to int, m Moved) {
	if !p.loops[to].Do(func() { p.ends[to].Adopt(m) }) {
		_ = unix.Close(m.Fd)
	}
}

// Serve listens on addr and puts an endpoint onto each network loop of g. The first loop accepts, since the
// kernel's choice among several listeners would not be the client's. newEndpoint is called on each loop,
// with the listening descriptor, or -1; the endpoint owns it. An endpoint that it returns beside an error
// is on the loop, and is closed there.
func Serve(addr string, g *loop.Group, o transport.ServerOptions, newEndpoint func(h *Host, listener int, p *Peers) (Endpoint, error)) (transport.Server, error) {
	o, err := o.Defaults()
	if err != nil {
		return nil, err
	}
	if n := len(g.Net()); n > wire.MaxShards || g.Shards() > wire.MaxShards {
		return nil, fmt.Errorf("transport: %d network loops, %d partitions: at most %d of each", n, g.Shards(), wire.MaxShards)
	}
	fd, bound, err := Listen(addr)
	if err != nil {
		return nil, err
	}
	p := &Peers{loops: g.Net(), ends: make([]Endpoint, len(g.Net()))}
	s := &server{addr: bound, p: p}
	for i := len(g.Net()) - 1; i >= 0; i-- { // the accepting loop last: no connection comes before all are there
		listener := -1
		if i == 0 {
			listener = fd
		}
		var mkErr error
		err := g.Net()[i].Call(func() {
			h, err := NewHost(g.Net()[i], g, i, o)
			if err != nil {
				mkErr = err
				return
			}
			if p.ends[i], mkErr = newEndpoint(h, listener, p); p.ends[i] == nil {
				h.Close()
			}
		})
		if err == nil {
			err = mkErr
		}
		if err != nil {
			_ = s.Close()
			if p.ends[0] == nil {
				_ = unix.Close(fd)
			}
			return nil, err
		}
	}
	return s, nil
}

type server struct {
	addr  string
	p     *Peers
	close sync.Once
}

// Addr is transport.Server's.
func (s *server) Addr() string { return s.addr }

// Close is transport.Server's. All endpoints close side by side.
func (s *server) Close() error {
	s.close.Do(func() {
		var wg sync.WaitGroup
		for i, e := range s.p.ends {
			if e != nil { // nil: Serve failed before it was made
				wg.Go(func() { s.p.loops[i].Remove(e) })
			}
		}
		wg.Wait()
	})
	return nil
}

// Dialed is what a client's connection is made of, beside its descriptor.
type Dialed struct {
	hello     wire.ServerHello
	recvBytes int
}

// Client makes the client's side. On the loop.
func (d *Dialed) Client(l *loop.Loop, driver Driver) (*Client, error) {
	return NewClient(l, driver, d.hello, d.recvBytes)
}

// Connect dials addr and has make put the connection onto l, on l's goroutine. make owns the descriptor, unless it returns an error.
func Connect(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions, make func(fd int, d *Dialed) (transport.Conn, error)) (transport.Conn, error) {
	o, err := o.Defaults()
	if err != nil {
		return nil, err
	}
	fd, hello, err := Dial(ctx, addr, o, nil)
	if err != nil {
		return nil, err
	}
	var c transport.Conn
	var mkErr error
	if err := l.Call(func() { c, mkErr = make(fd, &Dialed{hello, o.RecvBytes}) }); err != nil || mkErr != nil {
		_ = unix.Close(fd)
		return nil, errors.Join(err, mkErr)
	}
	return c, nil
}

// Table finds connections by their tag: a place and how often it was used, so that an event for a
// connection that is gone finds nothing. It belongs to one loop.
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
	placeBits = 24
	genMask   = 1<<24 - 1
)

// Put makes a new row and its tag, which fits 48 bits. The row stays in place.
func (t *Table[T]) Put() (tag uint64, v *T) {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		r := t.rows[i]
		r.live = true
		return uint64(r.gen)<<placeBits | uint64(i), &r.v
	}
	r := &row[T]{live: true}
	t.rows = append(t.rows, r)
	return uint64(len(t.rows) - 1), &r.v
}

// Get finds a row; nil when it is gone.
func (t *Table[T]) Get(tag uint64) *T {
	i := int(tag & (1<<placeBits - 1))
	if i >= len(t.rows) || !t.rows[i].live || t.rows[i].gen != uint32(tag>>placeBits)&genMask {
		return nil
	}
	return &t.rows[i].v
}

// Each calls f for each row; f may drop it.
func (t *Table[T]) Each(f func(tag uint64, v *T)) {
	for i, r := range t.rows {
		if r.live {
			f(uint64(r.gen)<<placeBits|uint64(i), &r.v)
		}
	}
}

// Len is the number of rows.
func (t *Table[T]) Len() int { return len(t.rows) - len(t.free) }

// Drop forgets a row.
func (t *Table[T]) Drop(tag uint64) {
	i := int(tag & (1<<placeBits - 1))
	r := t.rows[i]
	var zero T
	r.v, r.live = zero, false
	r.gen = (r.gen + 1) & genMask
	t.free = append(t.free, i)
}
