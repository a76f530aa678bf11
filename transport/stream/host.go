package stream

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// Host is what the server's connections on one loop share: memory, limits, the handler, and the lists
// of those that wait for memory. It belongs to its loop.
type Host struct {
	L       *loop.Loop
	Handler *loop.Router
	O       transport.ServerOptions
	Pool    *arena.Pool // keys and values under way
	Index   int         // of this loop among the network loops
	Loops   int         // network loops
	Shards  []uint16    // the shard map for the hello
	Sockets Sockets     // of its connections

	// Beside is what the transport itself needs of memory for each connection, in bytes. ConnBytes bounds it, too.
	Beside int

	// Grant, of a message transport, is called before a hello is granted: it makes what the connection needs and
	// gives the parameters for the answer, or says why not (with a *transport.Refusal's code).
	Grant func(c *Server) (params []byte, err error)

	conns    *arena.Pool // what a connection holds while it lives: idle ones cannot use up Pool
	servers  []*Server   // live, in no order
	answers  waiters     // connections that wait for memory for an answer
	messages waiters     // … for what comes
	tried    []*Server   // scratch of Resume
	trying   *Server     // by Resume
	lenient  bool        // it is not looked at shares
	gave     bool        // memory came back since the last look at who waits for each other
	freed    bool        // memory came back since the last look
	full     bool        // the pool had nothing for the last one that asked, whatever its share
	nextTick int64       // when deadlines are looked at next; 0: no connection has one
	judgeAt  int64       // not before: the next look at who waits for each other
	closing  bool
	cut      bool                // connections end now, whatever they do
	count    transport.Stats     // what has been, and not what is now
	net      *transport.Counters // of its loop

	numbered int64               // connections that were made
	commands uint64              // that were begun, and requests
	rejected uint64              // connections for which there was no room
	random   func(uint64) uint64 // below a number

	shared  int          // of these, those that this loop, which accepts, has shared out
	cursors resp.Cursors // of SCANs: the same on all loops
	pattern resp.Pattern // of the SCAN that is answered
	scratch []byte       // what an answer is put together in, before it is known how long it is
}

// poolBytes is what the pool of keys and values is made for: what was asked for, and at least two messages and two answers of the largest kind.
func poolBytes(o transport.ServerOptions) int {
	return max(o.PoolBytes, 4*(wire.HeaderBytes+o.Limits.ScanRoom()))
}

// MemoryBytes is the size of a host's Arenas together. The options have their defaults.
func MemoryBytes(o transport.ServerOptions) int {
	return arena.PoolBytes(poolBytes(o)) + arena.PoolBytes(o.ConnBytes)
}

// NewHost makes a host for l. It takes its memory at once, as address space.
func NewHost(l *loop.Loop, g *loop.Group, index int, o transport.ServerOptions) (*Host, error) {
	pool, err := arena.NewPool(poolBytes(o))
	if err != nil {
		return nil, err
	}
	conns, err := arena.NewPool(o.ConnBytes)
	if err != nil {
		_ = pool.Close()
		return nil, err
	}
	return &Host{L: l, net: transport.CountersOf(l), Handler: g.Router(index), O: o, Pool: pool, conns: conns, Index: index, Loops: len(g.Net()), Shards: g.ShardLoops(), random: rand.Uint64N}, nil
}

// Arenas are the memory that messages and answers lie in, for registration. It stays until Close.
func (h *Host) Arenas() []*arena.Arena { return []*arena.Arena{h.Pool.Arena(), h.conns.Arena()} }

// refusingMax is how long a refusal may take to arrive.
const refusingMax = time.Second

// tickEvery is the longest time between two looks at the deadlines, in ns, while some connection has one. It is less than the shortest deadline,
// so one that begins after a look is known before it passes, and the look after that is when it passes.
func (h *Host) tickEvery() int64 { return min(h.judgeEvery(), int64(refusingMax)/4) }

// tickLeast is the shortest time between two looks: a connection may outlive its deadline by that, 1/16 of the shortest at most. Without it, connections that
// each have a deadline of their own could have the loop do nothing but look.
func (h *Host) tickLeast() int64 { return h.tickEvery() / 4 }

// judgeEvery is how long nobody gets memory back before one of the connections that may wait for each other gets a block.
func (h *Host) judgeEvery() int64 {
	return int64(min(h.O.HelloMax, h.O.StallMax, cmp.Or(h.O.IdleMax, h.O.StallMax))) / 4
}

// Tick calls late for each connection that has missed a deadline, or is cut off, and asks the loop to be woken for the
// next look. The driver calls it when it is staged.
func (h *Host) Tick(late func(c *Server, err error)) {
	now := h.L.Awake()
	if h.cut {
		h.cut = false
		for i := len(h.servers) - 1; i >= 0; i-- { // late may remove the one it is called for
			if c := h.servers[i]; c.state != stateDead {
				late(c, transport.ErrCut)
			}
		}
	}
	if h.nextTick == 0 {
		return
	}
	if now >= h.nextTick {
		h.nextTick = 0
		if now >= h.judgeAt {
			h.unblock()
			h.judgeAt = now + h.judgeEvery()
		}
		next := int64(math.MaxInt64)
		for i := len(h.servers) - 1; i >= 0; i-- { // late may remove the one it is called for
			c := h.servers[i]
			by := c.deadline()
			if by == math.MaxInt64 {
				continue
			}
			if now >= c.idleUntil() {
				c.rest()
				by = c.deadline()
			} else if now >= by {
				late(c, c.lateness())
				continue
			}
			next = min(next, by)
		}
		if next != math.MaxInt64 || len(h.answers)+len(h.messages) > 0 {
			h.nextTick = now + min(h.tickEvery(), max(next-now, h.tickLeast()))
		}
	}
	if h.nextTick != 0 {
		h.L.WakeAwake(h.nextTick)
	}
}

// watch makes sure that deadlines are looked at soon.
func (h *Host) watch() {
	if h.nextTick == 0 {
		h.nextTick = h.L.Awake() + h.tickEvery()
		h.judgeAt = h.L.Awake() + h.judgeEvery()
	}
}

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
		if c.paused {
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

// AcceptFailed logs that a connection could not be accepted.
func (h *Host) AcceptFailed(err error) {
	h.O.Log.Error("accept failed", "reason", err, "remedy", "raise ulimit -n; connections that are open go on")
}

// deny counts and logs that somebody was not let in.
func (h *Host) deny(name string, why error) {
	h.net.Denied++
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

// Idle says whether all connections are gone: nothing uses the memory of Arenas any more.
func (h *Host) Idle() bool { return len(h.servers) == 0 }

// Close says whether all connections are gone after Wind, and then frees the memory.
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
func (h *Host) TurnAway(s Socket, name string) {
	h.turnAway(s, name, fmt.Sprintf("%d connections are open", len(h.servers)))
}

func (h *Host) turnAway(s Socket, name, why string) {
	code := wire.RefusedBusy
	if h.closing {
		code, why = wire.RefusedClosing, ""
	}
	hello := wire.ServerHello{Version: wire.Version, Code: code}
	if h.O.Access == nil { // else how many there are is nobody's affair
		hello.Reason = why
	}
	s.last(hello.Append(nil))
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
	c.leave()
	if c.beside != nil {
		h.conns.Free(c.beside)
		c.beside = nil
	}
	if c.recv != nil {
		h.conns.Free(c.recv)
		c.recv = nil
	}
	if c.mem != nil {
		h.conns.Free(c.mem)
		c.mem = nil
	}
}
