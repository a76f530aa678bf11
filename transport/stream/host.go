package stream

import (
	"fmt"
	"math"

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
	hungry   waitList    // gets that wait for room for their answers
	paused   []*Server   // connections that wait for memory for their next message; bounded by servers
	resumed  []*Server   // scratch of Resume
	freed    bool        // memory came back since the last look
	died     bool        // a connection did, some of whose requests may be hungry
	full     bool        // the pool had nothing for the last one that asked, whatever its share
	nextTick int64       // when deadlines are looked at next; 0: no connection has one
	failed   seldom      // accepts that failed
	denied   seldom      // connections of those who may not connect
	closing  bool

	guests  int64         // connections that spoke RESP
	shared  int           // of these, those that this loop, which accepts, has shared out
	cursors *resp.Cursors // of all loops' SCANs
}

// NewHost makes a host for l. It takes its memory at once, as address space.
func NewHost(l *loop.Loop, g *loop.Group, index int, o transport.ServerOptions) (*Host, error) {
	need := 4 * (wire.HeaderBytes + o.Limits.ScanRoom()) // two messages and two answers of the largest kind
	pool, err := arena.NewPool(max(o.PoolBytes, need))
	if err != nil {
		return nil, err
	}
	conns, err := arena.NewPool(o.ConnBytes)
	if err != nil {
		_ = pool.Close()
		return nil, err
	}
	return &Host{L: l, Handler: g.Router(index), O: o, Pool: pool, conns: conns, Index: index, Loops: len(g.Net()), Shards: g.ShardLoops()}, nil
}

func (h *Host) log(format string, args ...any) { h.O.Log(fmt.Sprintf(format, args...)) }

// Arenas are the memory that messages and answers lie in, for registration. It stays until Close.
func (h *Host) Arenas() []*arena.Arena { return []*arena.Arena{h.Pool.Arena(), h.conns.Arena()} }

// waitList is a queue of slots, linked through themselves.
type waitList struct{ head, tail *slot }

func (w *waitList) push(s *slot) {
	s.next = nil
	if w.tail == nil {
		w.head = s
	} else {
		w.tail.next = s
	}
	w.tail = s
}

// join puts the rest of another list behind.
func (w *waitList) join(rest waitList) {
	if w.tail == nil {
		*w = rest
		return
	}
	w.tail.next = rest.head
	w.tail = rest.tail
}

func (w *waitList) pop() *slot {
	s := w.head
	if w.head = s.next; w.head == nil {
		w.tail = nil
	}
	s.next = nil
	return s
}

// come says that memory came back: whoever waits for some is looked at in Resume, in this turn or, if
// that is over, the next.
func (h *Host) come() {
	h.freed = true
	if h.hungry.head != nil || len(h.paused) > 0 {
		h.L.Again()
	}
}

// Resume lets those go on that waited for memory, oldest first, as far as it reaches; one whose
// connection has its share holds up nobody behind it. The driver calls it when it is staged.
func (h *Host) Resume() {
	if !h.freed {
		return
	}
	h.freed = false
	list, full := h.hungry, false
	h.hungry = waitList{}
	for list.head != nil {
		if full && !h.died {
			h.hungry.join(list)
			break
		}
		s := list.pop()
		c := s.of
		switch {
		case c.state == stateDead:
			c.abandon(s)
		case full:
			h.hungry.push(s)
		case c.feed(s):
			c.fed()
			c.resubmit(s)
		default:
			full = h.full
			h.hungry.push(s)
		}
	}
	h.died = false
	paused := h.paused
	h.paused = h.resumed[:0]
	for i, c := range paused {
		paused[i] = nil
		if full && c.state == stateOpen {
			h.paused = append(h.paused, c)
			continue
		}
		if c.paused = false; c.state != stateOpen {
			continue
		}
		c.inSince = h.L.Now() // it was not the peer who waited
		c.parse()
		if c.paused {
			full = h.full
		} else {
			c.driver.Touch()
		}
	}
	h.resumed = paused[:0]
}

// tickEvery is how often deadlines are looked at while some connection has one.
func (h *Host) tickEvery() int64 {
	return max(int64(min(h.O.HelloMax, h.O.StallMax))/4, 1e6)
}

// Tick calls late for each connection that has missed a deadline, and asks the loop to be woken for the
// next look. The driver calls it when it is staged.
func (h *Host) Tick(late func(c *Server, err error)) {
	now := h.L.Now()
	if h.nextTick == 0 {
		return
	}
	if now >= h.nextTick {
		h.nextTick = 0
		for i := len(h.servers) - 1; i >= 0; i-- { // late may remove the one it is called for
			c := h.servers[i]
			by := c.deadline()
			if by == math.MaxInt64 {
				continue
			}
			if now >= by {
				late(c, c.lateness())
				continue
			}
			h.watch()
		}
	}
	if h.nextTick != 0 {
		h.L.WakeAt(h.nextTick)
	}
}

// watch makes sure that deadlines are looked at soon.
func (h *Host) watch() {
	if h.nextTick == 0 {
		h.nextTick = h.L.Now() + h.tickEvery()
	}
}

// Wind ends all connections in good order. The driver calls it in each turn while it closes.
func (h *Host) Wind() {
	h.closing = true
	for _, c := range h.servers {
		c.Wind()
	}
}

// seldom is what is logged at most once a second, however often it happens.
type seldom struct {
	at     int64 // when it was last logged; 0: never
	silent int   // times since then
}

// due counts, and says whether it is to be logged now, and how often it was not.
func (s *seldom) due(now int64) (silent int, ok bool) {
	if s.at != 0 && now-s.at <= 1e9 {
		s.silent++
		return 0, false
	}
	silent = s.silent
	*s = seldom{at: now}
	return silent, true
}

// AcceptFailed logs that a connection could not be accepted.
func (h *Host) AcceptFailed(err error) {
	if _, ok := h.failed.due(h.L.Now()); ok {
		h.log("accept: %v (raise ulimit -n; connections that are open go on)", err)
	}
}

// deny counts and logs that somebody was not let in.
func (h *Host) deny(name string, why error) {
	h.L.Stats.Denied++
	if silent, ok := h.denied.due(h.L.Now()); ok {
		h.log("%s: refused (%s): %v (%d more since the last such line)", name, wire.RefusedAccess, why, silent)
	}
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

// TurnAway refuses a connection that NewServer could not take, with a code, and closes it.
func (h *Host) TurnAway(s Socket) {
	code, why := wire.RefusedBusy, fmt.Sprintf("%d connections are open", len(h.servers))
	if h.closing {
		code, why = wire.RefusedClosing, ""
	}
	hello := wire.ServerHello{Version: wire.Version, Code: code}
	if h.O.Access == nil { // else how many there are is nobody's affair
		hello.Reason = why
	}
	s.last(hello.Append(nil))
	h.log("a connection was refused (%s): %s", code, why)
}

// remove forgets a connection whose requests have all come back, and frees its memory.
func (h *Host) remove(c *Server) {
	last := len(h.servers) - 1
	h.servers[c.at] = h.servers[last]
	h.servers[c.at].at = c.at
	h.servers[last] = nil
	h.servers = h.servers[:last]
	for i, p := range h.paused {
		if p == c {
			h.paused = append(h.paused[:i], h.paused[i+1:]...)
			break
		}
	}
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
