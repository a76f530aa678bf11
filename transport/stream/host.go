package stream

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/memory"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/wire"
)

// Host holds what the server's connections on one loop share: memory, limits, the handler, and the
// list of connections. It belongs to its loop.
type Host struct {
	L       *loop.Loop
	Handler *loop.Router
	O       transport.ServerOptions
	Pool    *memory.Pool   // keys and values under way
	Index   int            // of this loop among the network loops
	Loops   int            // network loops
	Shards  []uint16       // the shard map for the hello
	Sockets socket.Options // of its connections

	// Features are the optional features that the transport supports, of those that a client may request (wire.FeatureNoChecksum).
	Features uint32

	// ExtraConnBytes is the memory that the transport itself needs for each connection, in bytes. It counts against ConnBytes.
	ExtraConnBytes int

	// Grant, which only a message transport sets, is called before a hello is granted. It makes what the connection needs and
	// returns the parameters for the server's hello, or an error (a *transport.Refusal determines the code).
	Grant func(c *Server) (params []byte, err error)

	conns   *arena.Pool // memory that a connection holds while it is open; apart from Pool, so that idle connections cannot exhaust that
	servers []*Server   // all connections that are not removed, in no order
	closing bool        // no connection is accepted any more
	cut     bool        // all connections end in this turn

	counters
	ticks
	redis respHost
}

// counters holds counters that never fall.
type counters struct {
	count    transport.Stats
	net      *transport.Counters // of its loop
	numbered int64               // connections so far
	commands uint64              // requests and Redis commands begun
	rejected uint64              // connections for which there was no room
}

var _ socket.Host = (*Host)(nil)

// poolBytes is the size of the pool of keys and values: PoolBytes, but at least two messages and two answers of the largest kind.
func poolBytes(o transport.ServerOptions) int {
	return max(o.PoolBytes, 4*(wire.HeaderBytes+o.Limits.ScanRoom()))
}

// MemoryBytes returns the size of a host's Arenas together, in bytes. o must have its defaults (ServerOptions.Defaults).
func MemoryBytes(o transport.ServerOptions) int {
	return arena.PoolBytes(poolBytes(o)) + arena.PoolBytes(o.ConnBytes)
}

// NewHost makes a host for l. It maps all its memory at once, as address space: a page costs memory from its first use on.
func NewHost(l *loop.Loop, g *loop.Group, index int, o transport.ServerOptions) (*Host, error) {
	h := &Host{L: l, Handler: g.Router(index), O: o, Index: index, Loops: len(g.Net()), Shards: g.ShardLoops(), redis: respHost{random: rand.Uint64N}}
	var err error
	if h.Pool, err = memory.NewPool(poolBytes(o), l, h.watch); err != nil {
		return nil, err
	}
	if h.conns, err = arena.NewPool(o.ConnBytes); err != nil {
		_ = h.Pool.Close()
		return nil, err
	}
	h.net = transport.CountersOf(l)
	return h, nil
}

// Arenas returns the memory of messages and answers, for registration with a device. It stays mapped until Close.
func (h *Host) Arenas() []*arena.Arena { return []*arena.Arena{h.Pool.Arena(), h.conns.Arena()} }

// Resume continues connections that waited for memory. The stage step calls it.
func (h *Host) Resume() { h.Pool.Resume() }

// Shutdown ends all connections in order. The endpoint calls it in each turn while it closes.
func (h *Host) Shutdown() {
	h.closing = true
	for _, c := range h.servers {
		c.Shutdown()
	}
}

// Cut ends all connections in this turn. Unsent answers are lost. No connection is accepted any more.
func (h *Host) Cut() { h.closing, h.cut = true, true }

// Stats returns the counters of the loop's connections.
func (h *Host) Stats() transport.Stats {
	s := h.count
	s.Conns = len(h.servers)
	for _, c := range h.servers {
		if c.account.Paused() {
			s.Paused++
		}
	}
	if h.Pool != nil { // else it is closed
		s.ConnBytes, s.ConnBytesMax, s.PoolBytes, s.PoolBytesMax = h.conns.InUse(), h.conns.Largest(), h.Pool.InUse(), h.Pool.Largest()
	}
	return s
}

// Busy names a connection with a request under way or with bytes to send; "": there is none. Then the kernel uses none of the connections' memory except receive
// buffers. A connection that waits for its hello does not count. The member that moves the bytes calls Busy in its own (loop.Busier).
func (h *Host) Busy() string {
	for _, c := range h.servers {
		if c.underWay() {
			return "requests of " + c.name + " are under way"
		}
	}
	return ""
}

// Loop implements socket.Host.
func (h *Host) Loop() *loop.Loop { return h.L }

// SocketOptions implements socket.Host.
func (h *Host) SocketOptions() *socket.Options { return &h.Sockets }

// DescriptorWait implements socket.Host: half of the deadline of a hello.
func (h *Host) DescriptorWait() time.Duration { return h.O.HelloMax / 2 }

// AcceptFailed logs that a connection could not be accepted.
func (h *Host) AcceptFailed(err error) {
	h.O.Log.Error("accept failed", "reason", err, "remedy", "raise ulimit -n; open connections continue")
}

// logDenied counts and logs a rejected connection or password.
func (h *Host) logDenied(name string, why error) {
	h.net.Denied++
	h.O.Log.Warn("connection denied", "peer", name, "reason", why)
}

// logRefused counts and logs a connection that is ended with a code.
func (h *Host) logRefused(name string, code wire.Code, why any) {
	h.count.Refused++
	if code == wire.RefusedBusy {
		h.rejected++
	}
	h.O.Log.Warn("connection refused", "peer", name, "code", code.String(), "reason", why)
}

// Idle reports whether all connections are removed. Then nothing uses the memory of Arenas.
func (h *Host) Idle() bool { return len(h.servers) == 0 }

// Close frees the memory if all connections are removed, and reports whether they are. Shutdown must be called before.
func (h *Host) Close() bool {
	if len(h.servers) > 0 {
		return false
	}
	if h.Pool != nil {
		_ = h.Pool.Close()
		_ = h.conns.Close()
		h.Pool, h.conns = nil, nil
	}
	return true
}

// RefuseNew refuses a connection for which NewServer returned nil, with a code, and closes it. name is the peer's name in the log.
func (h *Host) RefuseNew(s socket.Socket, name string) {
	h.RefuseSocket(s, name, fmt.Sprintf("%d connections are open", len(h.servers)))
}

// RefuseSocket implements socket.Host. It refuses a connection that has no Server yet, as busy or closing, and closes it.
func (h *Host) RefuseSocket(s socket.Socket, name, why string) {
	code := wire.RefusedBusy
	if h.closing {
		code, why = wire.RefusedClosing, ""
	}
	hello := wire.ServerHello{Version: wire.Version, Code: code}
	if h.O.Access == nil { // else unauthenticated peers must not learn the number of connections
		hello.Reason = why
	}
	s.CloseWith(hello.Append(nil))
	if !h.closing {
		h.logRefused(name, code, why)
	}
}

// remove removes a connection whose requests have all been returned by the handler, and frees its memory.
func (h *Host) remove(c *Server) {
	last := len(h.servers) - 1
	h.servers[c.at] = h.servers[last]
	h.servers[c.at].at = c.at
	h.servers[last] = nil
	h.servers = h.servers[:last]
	c.returnTo(h.conns)
}
