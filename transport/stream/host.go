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

// Host is what the server's connections on one loop share: memory, limits, the handler, and the lists
// of those that wait for memory. It belongs to its loop.
type Host struct {
	L       *loop.Loop
	Handler *loop.Router
	O       transport.ServerOptions
	Pool    *memory.Pool   // keys and values under way
	Index   int            // of this loop among the network loops
	Loops   int            // network loops
	Shards  []uint16       // the shard map for the hello
	Sockets socket.Options // of its connections

	// Beside is what the transport itself needs of memory for each connection, in bytes. ConnBytes bounds it, too.
	Beside int

	// Grant, of a message transport, is called before a hello is granted: it makes what the connection needs and
	// returns the parameters for the answer, or why not (with a *transport.Refusal's code).
	Grant func(c *Server) (params []byte, err error)

	conns   *arena.Pool // what a connection holds while it lives: idle ones cannot use up Pool
	servers []*Server   // live, in no order
	closing bool        // no connection comes in any more
	cut     bool        // connections end now, whatever they do

	tally
	looks
	redis respHost
}

// tally counts what was, and not what is now.
type tally struct {
	count    transport.Stats
	numbered int64  // connections that were made
	commands uint64 // that were begun, and requests
	rejected uint64 // connections for which there was no room
}

var _ socket.Host = (*Host)(nil)

// poolBytes is what the pool of keys and values is made for: what was asked for, and at least two messages and two answers of the largest kind.
func poolBytes(o transport.ServerOptions) int {
	return max(o.PoolBytes, 4*(wire.HeaderBytes+o.Limits.ScanRoom()))
}

// MemoryBytes is the size of a host's Arenas together. The options have their defaults.
func MemoryBytes(o transport.ServerOptions) int {
	return arena.PoolBytes(poolBytes(o)) + arena.PoolBytes(o.ConnBytes)
}

// NewHost makes a host for l. It maps all its memory at once, as address space.
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
	return h, nil
}

// Arenas are the memory that messages and answers lie in, for registration. It stays until Close.
func (h *Host) Arenas() []*arena.Arena { return []*arena.Arena{h.Pool.Arena(), h.conns.Arena()} }

// Resume lets those go on that waited for memory. The driver calls it when it is staged.
func (h *Host) Resume() { h.Pool.Resume() }

// Wind ends all connections in good order. The driver calls it in each turn while it closes.
func (h *Host) Wind() {
	h.closing = true
	for _, c := range h.servers {
		c.Wind()
	}
}

// Cut ends all connections in this turn: answers that are not out are lost. None is taken in any more.
func (h *Host) Cut() { h.closing, h.cut = true, true }

// Stats is what there is and was of connections.
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

// Busy is loop.Busier's for the member that moves the bytes: it names a connection with a request under way, or with something to send. The kernel has none of
// its memory when there is none. A peer that has connected and has not sent its hello is not waited for.
func (h *Host) Busy() string {
	for _, c := range h.servers {
		if c.underWay() {
			return "requests of " + c.name + " are under way"
		}
	}
	return ""
}

// Loop is socket.Host's.
func (h *Host) Loop() *loop.Loop { return h.L }

// SocketOptions is socket.Host's.
func (h *Host) SocketOptions() *socket.Options { return &h.Sockets }

// DescriptorWait is socket.Host's: half of the deadline of a hello.
func (h *Host) DescriptorWait() time.Duration { return h.O.HelloMax / 2 }

// AcceptFailed logs that a connection could not be accepted.
func (h *Host) AcceptFailed(err error) {
	h.O.Log.Error("accept failed", "reason", err, "remedy", "raise ulimit -n; connections that are open go on")
}

// deny counts and logs that somebody was not let in.
func (h *Host) deny(name string, why error) {
	h.L.Stats.Denied++
	h.O.Log.Warn("connection denied", "peer", name, "reason", why)
}

// refused counts and logs that a connection is ended with a code, whether its peer understands it or not.
func (h *Host) refused(name string, code wire.Code, why any) {
	h.count.Refused++
	if code == wire.RefusedBusy {
		h.rejected++
	}
	h.O.Log.Warn("connection refused", "peer", name, "code", code.String(), "reason", why)
}

// Idle reports whether all connections are gone: nothing uses the memory of Arenas any more.
func (h *Host) Idle() bool { return len(h.servers) == 0 }

// Close frees the memory if all connections are gone after Wind, and reports whether they are.
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

// TurnAway refuses a connection that NewServer could not take, with a code, and closes it; name is the peer's, for the log.
func (h *Host) TurnAway(s socket.Socket, name string) {
	h.RefuseSocket(s, name, fmt.Sprintf("%d connections are open", len(h.servers)))
}

// RefuseSocket is socket.Host's: it refuses a connection that is no Server yet, as busy or closing, and closes it.
func (h *Host) RefuseSocket(s socket.Socket, name, why string) {
	code := wire.RefusedBusy
	if h.closing {
		code, why = wire.RefusedClosing, ""
	}
	hello := wire.ServerHello{Version: wire.Version, Code: code}
	if h.O.Access == nil { // else how many there are is nobody's affair
		hello.Reason = why
	}
	s.CloseWith(hello.Append(nil))
	if !h.closing {
		h.refused(name, code, why)
	}
}

// remove forgets a connection whose requests have all come back, and frees its memory.
func (h *Host) remove(c *Server) {
	last := len(h.servers) - 1
	h.servers[c.at] = h.servers[last]
	h.servers[c.at].at = c.at
	h.servers[last] = nil
	h.servers = h.servers[:last]
	c.returnTo(h.conns)
}
