package datagram

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// The simulation: a server, clients, and a network between them that loses, doubles, delays and reorders packets, in virtual time, from a seed. Each slot of a session has a
// worker, which puts, reads, deletes, adds and appends under a key of its own, one operation after the other. So each answer has one right value, and the server can check that it
// executes a worker's operations in order and once each.

var (
	simPackets = flag.Int("sim.packets", 0, "packets of each simulation; 0: few with -short, 10^8 in all with KVWIRE_LONG")
	simSeed    = flag.Uint64("sim.seed", 0, "seed of the simulations; 0: the same few each time")
)

// simNet are the properties of a simulated network and server.
type simNet struct {
	name                string
	loss, dup           float64 // of each packet, in each direction
	delay, jitter       int64   // ns
	far                 float64 // packets that are delayed by 100 times the jitter
	clients             int
	sessions            int // of each client
	slots, credits      int
	refuse              float64 // requests for which the server has no memory
	work                int64   // longest time of an operation, in ns
	large               int     // most bytes of a value
	ends                float64 // operations after which a session ends and another is opened, by either side
	congestion          Congestion
	datagram            int   // bytes; 0: the default
	held                int64 // ns, at most: the carrier reads a packet's bytes, and returns the packet, so late
	turn                int64 // ns, at most, from a packet's arrival until its answer is sent: other packets that arrive meanwhile are answered in the same batch; 0: each alone
	loseEverythingAfter int64 // ns; 0: never
}

const simServer = 1 // address of the server; clients follow

func simAddress(i int) (a Address) {
	binary.LittleEndian.PutUint32(a[:], uint32(i))
	return a
}

type simEvent struct {
	at    int64
	seq   uint64
	node  int
	what  uint8 // eventPacket …
	b     []byte
	from  int
	reply *simReply
	held  *Packet
}

const (
	eventPacket uint8 = iota
	eventTick
	eventReply
	eventRelease
	eventFlush
)

type simEvents []simEvent

func (q simEvents) Len() int { return len(q) }
func (q simEvents) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q simEvents) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simEvents) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simEvents) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = simEvent{}
	*q = old[:len(old)-1]
	return e
}

// simReply is an operation that is being executed.
type simReply struct {
	s    *ServerSession
	slot int
	b    []byte
}

type sim struct {
	t       *testing.T
	net     simNet
	rng     *rand.Rand
	now     int64
	seq     uint64
	events  simEvents
	free    [][]byte
	server  *Server
	clients []*simClient
	ticks   []int64 // earliest planned tick of each node
	turns   []bool  // of each node: a flush is planned
	out     [64]Packet
	packets int
	ops     int
	digest  uint64
	stop    bool // workers begin nothing more

	store    map[uint64][]byte // by worker
	executed map[uint64]uint32 // the last operation of each worker
	slots    map[*ServerSession][]simSlot
	workers  uint64
	failed   bool
}

// simSlot is the server's application's memory of one slot.
type simSlot struct {
	begun, complete, replied bool
	request                  []byte
	got                      int
}

type simClient struct {
	s     *sim
	at    int // its address
	c     *Client
	hosts []*simSession
}

type simSession struct {
	c       *simClient
	s       *Session
	workers []simWorker
	ended   bool
}

// simWorker makes the operations of one slot.
type simWorker struct {
	id      uint64
	seq     uint32
	busy    bool
	op      byte
	request []byte
	reply   []byte
	got     int
	value   []byte // what the server must have
	counter uint64
	want    []byte
}

const (
	simPut byte = iota
	simGet
	simDelete
	simAdd
	simAppend
	simOps
)

func newSim(t *testing.T, n simNet, seed uint64) *sim {
	s := &sim{t: t, net: n, rng: rand.New(rand.NewPCG(seed, 1)), store: map[uint64][]byte{}, executed: map[uint64]uint32{}, slots: map[*ServerSession][]simSlot{}}
	o := s.options()
	var err error
	if s.server, err = NewServer(o, [32]byte{byte(seed)}, simServerHost{s}); err != nil {
		t.Fatal(err)
	}
	s.ticks, s.turns = make([]int64, simServer+1+n.clients), make([]bool, simServer+1+n.clients)
	for i := range n.clients {
		c := &simClient{s: s, at: simServer + 1 + i}
		if c.c, err = NewClient(o, c); err != nil {
			t.Fatal(err)
		}
		s.clients = append(s.clients, c)
		for range n.sessions {
			c.open()
		}
		s.flushClient(c)
	}
	return s
}

func (s *sim) options() Options {
	return Options{DatagramBytes: s.net.datagram, Credits: s.net.credits, Slots: s.net.slots, Congestion: s.net.congestion,
		HelloMax: 20e9, SilentMax: 20e9, Random: s.rng.Uint64}
}

func (s *sim) fail(format string, args ...any) {
	s.t.Helper()
	if !s.failed {
		s.t.Errorf("at %d ns, packet %d: %s", s.now, s.packets, fmt.Sprintf(format, args...))
	}
	s.failed = true
}

func (c *simClient) open() {
	h := &simSession{c: c}
	var err error
	if h.s, err = c.c.Open(c.s.now, simAddress(simServer), c.s.net.slots, []byte("hello"), h); err != nil {
		c.s.fail("open: %v", err)
	}
	c.hosts = append(c.hosts, h)
}

// buffer returns memory for a packet.
func (s *sim) buffer() []byte {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b[:0]
	}
	return make([]byte, 0, 2048)
}

func (s *sim) plan(e simEvent) {
	s.seq++
	e.seq = s.seq
	heap.Push(&s.events, e)
}

// transmit passes packets to the carrier.
func (s *sim) transmit(from int, out []Packet) {
	if s.net.held == 0 {
		for i := range out {
			s.send(from, &out[i])
		}
		s.release(from, out)
		return
	}
	for i := range out {
		p := out[i]
		s.plan(simEvent{at: s.now + 1 + s.rng.Int64N(s.net.held), node: from, what: eventRelease, held: &p})
	}
}

func (s *sim) release(from int, out []Packet) {
	if from == simServer {
		s.server.Release(out)
	} else {
		s.clients[from-simServer-1].c.Release(out)
	}
}

// send moves a packet into the network.
func (s *sim) send(from int, p *Packet) {
	s.packets++
	to := int(binary.LittleEndian.Uint32(p.To[:]))
	copies := 1
	if s.rng.Float64() < s.net.loss || s.net.loseEverythingAfter > 0 && s.now > s.net.loseEverythingAfter {
		copies = 0
	}
	if s.rng.Float64() < s.net.dup {
		copies++
	}
	for range copies {
		at := s.now + s.net.delay
		if s.net.jitter > 0 {
			at += s.rng.Int64N(s.net.jitter)
		}
		if s.rng.Float64() < s.net.far {
			at += s.rng.Int64N(100 * s.net.jitter)
		}
		s.plan(simEvent{at: at, node: to, what: eventPacket, from: from, b: p.Append(s.buffer())})
	}
}

func (s *sim) planTick(node int, at int64) {
	if at < 1<<62 && (s.ticks[node] == 0 || at < s.ticks[node]) {
		s.ticks[node] = at
		s.plan(simEvent{at: max(at, s.now+1), node: node, what: eventTick})
	}
}

func (s *sim) flushServer() {
	for {
		n := s.server.Transmit(s.now, s.out[:])
		s.transmit(simServer, s.out[:n])
		if n < len(s.out) {
			break
		}
	}
	s.planTick(simServer, s.server.NextTick())
}

func (s *sim) flushClient(c *simClient) {
	for {
		n := c.c.Transmit(s.now, s.out[:])
		s.transmit(c.at, s.out[:n])
		if n < len(s.out) {
			break
		}
	}
	s.planTick(c.at, c.c.NextTick())
}

// run runs until so many packets were sent, and then until all operations under way have ended.
func (s *sim) run(packets int) {
	drainBy := int64(0)
	for len(s.events) > 0 && !s.failed {
		if !s.stop && s.packets >= packets {
			s.stop = true
			drainBy = s.now + 120e9
		}
		if s.stop && s.idle() {
			break
		}
		if s.stop && s.now > drainBy {
			s.fail("operations do not end: %s", s.underWay())
			break
		}
		e := heap.Pop(&s.events).(simEvent)
		s.now = e.at
		s.digest = (s.digest ^ uint64(e.at) ^ uint64(e.node)<<56 ^ uint64(len(e.b))<<40) * 1099511628211
		switch e.what {
		case eventPacket:
			from := simAddress(e.from)
			if e.node == simServer {
				s.server.Receive(s.now, &from, e.b)
			} else {
				s.clients[e.node-simServer-1].c.Receive(s.now, &from, e.b)
			}
			clear(e.b) // who keeps a part of it reads zeros
			s.free = append(s.free, e.b)
		case eventTick:
			if s.ticks[e.node] > s.now {
				continue
			}
			s.ticks[e.node] = 0
			if e.node == simServer {
				s.server.Tick(s.now)
			} else {
				s.clients[e.node-simServer-1].c.Tick(s.now)
			}
		case eventReply:
			s.reply(e.reply)
		case eventRelease:
			s.send(e.node, e.held)
			s.release(e.node, []Packet{*e.held})
		case eventFlush:
			s.turns[e.node] = false
		}
		s.endTurn(e.node, e.what)
	}
}

// endTurn sends what a node has to send: at once after its deadlines, as the endpoints do, and else at the end of its turn.
func (s *sim) endTurn(node int, what uint8) {
	switch {
	case s.net.turn > 0 && what != eventFlush && what != eventTick:
		if !s.turns[node] {
			s.turns[node] = true
			s.plan(simEvent{at: s.now + 1 + s.rng.Int64N(s.net.turn), node: node, what: eventFlush})
		}
	case node == simServer:
		s.flushServer()
	default:
		c := s.clients[node-simServer-1]
		c.churn()
		s.flushClient(c)
	}
}

func (s *sim) idle() bool { return s.underWay() == "" }

func (s *sim) underWay() string {
	for _, c := range s.clients {
		for _, h := range c.hosts {
			for i := range h.workers {
				if w := &h.workers[i]; !h.ended && w.busy {
					k := h.s.calls[i]
					k.head, k.body = nil, nil // thousands of numbers
					return fmt.Sprintf("worker %d, operation %d, slot %d: %+v, %d credits of %d", w.id, w.seq, i, k, h.s.credits, h.s.creditsMax)
				}
			}
		}
	}
	return ""
}

// churn replaces ended sessions.
func (c *simClient) churn() {
	for i, h := range c.hosts {
		if h.ended && !c.s.stop {
			c.hosts = slices.Delete(c.hosts, i, i+1)
			c.open()
			return
		}
	}
}

// Prove implements ClientHost.
func (c *simClient) Prove(*Session, []byte) []byte { return []byte("proof") }

// Elsewhere implements ClientHost.
func (c *simClient) Elsewhere(*Session, []byte) (a Address, ok bool) { return a, false }

// Opened implements ClientHost.
func (c *simClient) Opened(s *Session, answer []byte) error {
	if string(answer) != "welcome" {
		return errors.New("another answer")
	}
	h := s.User.(*simSession)
	h.workers = make([]simWorker, s.Slots())
	for i := range h.workers {
		c.s.workers++
		h.workers[i].id = c.s.workers
	}
	for range h.workers {
		h.begin()
	}
	return nil
}

// begin begins the next operation of the slot that the session gives.
func (h *simSession) begin() {
	s := h.c.s
	if s.stop {
		return
	}
	slot, _ := h.s.Next()
	w := &h.workers[slot]
	w.make(s)
	cut := s.rng.IntN(len(w.request) + 1)
	got, ok := h.s.Call(s.now, w.request[:cut], w.request[cut:])
	if !ok || got != slot {
		s.fail("slot %d, %v, want %d", got, ok, slot)
	}
}

// make makes the worker's next request, and the reply that it must get.
func (w *simWorker) make(s *sim) {
	w.seq++
	w.busy, w.got = true, 0
	w.op = byte(s.rng.IntN(int(simOps)))
	if len(w.value) > s.net.large {
		w.op = simDelete
	}
	w.request = append(w.request[:0], w.op)
	w.request = binary.LittleEndian.AppendUint64(w.request, w.id)
	w.request = binary.LittleEndian.AppendUint32(w.request, w.seq)
	n := s.rng.IntN(200)
	if s.rng.IntN(8) == 0 {
		n = s.rng.IntN(s.net.large)
	}
	if w.op == simPut || w.op == simAppend {
		at := s.rng.IntN(len(simBytes) - n)
		w.request = append(w.request, simBytes[at:at+n]...)
	}
	arg := w.request[simHead:]
	w.want = w.want[:0]
	switch w.op {
	case simPut:
		w.value = append(w.value[:0], arg...)
	case simAppend:
		w.value = append(w.value, arg...)
		w.want = binary.LittleEndian.AppendUint32(w.want, uint32(len(w.value)))
	case simDelete:
		w.value = w.value[:0]
	case simAdd:
		w.counter++
		w.want = binary.LittleEndian.AppendUint64(w.want, w.counter)
	case simGet:
		w.want = append(w.want, w.value...)
	}
}

const simHead = 13

// simBytes is what values are cut from.
var simBytes = func() []byte {
	b := make([]byte, 1<<17)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}()

// Part implements ClientHost.
func (c *simClient) Part(s *Session, slot, total, at int, b []byte) error {
	w := &s.User.(*simSession).workers[slot]
	switch {
	case !w.busy || at != w.got || at+len(b) > total:
		c.s.fail("a part of %d B at %d of %d, after %d", len(b), at, total, w.got)
	case at == 0:
		w.reply = w.reply[:0]
	}
	w.reply = append(w.reply, b...)
	w.got += len(b)
	return nil
}

// Sent implements ClientHost.
func (c *simClient) Sent(s *Session, slot int) {
	if w := &s.User.(*simSession).workers[slot]; !w.busy || s.Sent(slot) {
		c.s.fail("a request is sent for the first time that is not")
	}
}

// Done implements ClientHost.
func (c *simClient) Done(s *Session, slot int) {
	h := s.User.(*simSession)
	w := &h.workers[slot]
	if !w.busy || !bytes.Equal(w.reply, w.want) {
		c.s.fail("worker %d, operation %d (%d): the answer has %d B, want %d", w.id, w.seq, w.op, len(w.reply), len(w.want))
	}
	if c.s.executed[w.id] != w.seq {
		c.s.fail("worker %d: operation %d is answered, and %d was executed", w.id, w.seq, c.s.executed[w.id])
	}
	w.busy = false
	w.reply = w.reply[:0]
	c.s.ops++
	if c.s.rng.Float64() < 0.95 || s.Slots() < 3 { // else the slot is idle until another's operation has ended
		h.begin()
	} else if c.s.rng.Float64() < 0.5 {
		for len(s.free) > 0 && !c.s.stop {
			h.begin()
		}
	}
	idle := true
	s.Each(func(int) { idle = false })
	if idle {
		h.begin()
	}
}

// Ended implements ClientHost.
func (c *simClient) Ended(s *Session, err error) {
	h := s.User.(*simSession)
	h.ended = true
	if c.s.net.ends == 0 && c.s.net.loseEverythingAfter == 0 {
		c.s.fail("a session has ended: %v", err)
	}
}

type simServerHost struct{ *sim }

// Elsewhere implements ServerHost.
func (s simServerHost) Elsewhere(*Address, []byte) []byte { return nil }

// Admit implements ServerHost.
func (s simServerHost) Admit(c *ServerSession, a *Admission) ([]byte, int, error) {
	if string(a.Hello) != "hello" || string(a.Proof) != "proof" {
		s.fail("hello %q, proof %q", a.Hello, a.Proof)
	}
	s.slots[c] = make([]simSlot, a.Slots)
	return []byte("welcome"), a.Slots, nil
}

// Begin implements ServerHost.
func (s simServerHost) Begin(c *ServerSession, slot, n int) bool {
	k := &s.slots[c][slot]
	if k.begun || k.replied {
		s.fail("a request begins in a slot that is in use")
	}
	if s.rng.Float64() < s.net.refuse {
		return false
	}
	*k = simSlot{begun: true, request: slices.Grow(k.request[:0], n)[:n]}
	return true
}

// Part implements ServerHost.
func (s simServerHost) Part(c *ServerSession, slot, at int, b []byte) {
	k := &s.slots[c][slot]
	if !k.begun || k.complete || at != k.got {
		s.fail("a part at %d, after %d", at, k.got)
	}
	k.got += copy(k.request[at:], b)
}

// Request implements ServerHost.
func (s simServerHost) Request(c *ServerSession, slot int) {
	k := &s.slots[c][slot]
	if !k.begun || k.complete || k.got != len(k.request) {
		s.fail("a request of %d B with %d B", len(k.request), k.got)
		return
	}
	k.complete = true
	r := &simReply{c, slot, s.execute(k.request)}
	if s.net.work == 0 || s.rng.IntN(4) == 0 {
		s.reply(r)
		return
	}
	s.plan(simEvent{at: s.now + s.rng.Int64N(s.net.work), node: simServer, what: eventReply, reply: r})
}

// execute executes a request, and checks that it is its worker's next.
func (s *sim) execute(request []byte) []byte {
	op, worker, seq, arg := request[0], binary.LittleEndian.Uint64(request[1:]), binary.LittleEndian.Uint32(request[9:]), request[simHead:]
	if last := s.executed[worker]; seq != last+1 {
		s.fail("worker %d: operation %d is executed after %d", worker, seq, last)
	}
	s.executed[worker] = seq
	v := s.store[worker]
	if v == nil {
		v = make([]byte, 8, 64) // the counter, and the value
	}
	var answer []byte
	switch op {
	case simPut:
		v = append(v[:8], arg...)
	case simAppend:
		v = append(v, arg...)
		answer = binary.LittleEndian.AppendUint32(nil, uint32(len(v)-8))
	case simDelete:
		v = v[:8]
	case simAdd:
		binary.LittleEndian.PutUint64(v, binary.LittleEndian.Uint64(v)+1)
		answer = bytes.Clone(v[:8])
	case simGet:
		answer = bytes.Clone(v[8:])
	}
	s.store[worker] = v
	return answer
}

func (s *sim) reply(r *simReply) {
	cut := s.rng.IntN(len(r.b) + 1)
	if !r.s.Reply(r.slot, r.b[:cut], r.b[cut:]) {
		return
	}
	k := &s.slots[r.s][r.slot]
	k.begun, k.replied = false, true
	if s.rng.Float64() < s.net.ends {
		r.s.End(errors.New("by lot"), []byte("by lot"))
	}
}

// Free implements ServerHost.
func (s simServerHost) Free(c *ServerSession, slot int) {
	k := &s.slots[c][slot]
	if !k.replied {
		s.fail("a reply is freed that is none")
	}
	k.replied = false
}

// Ended implements ServerHost.
func (s simServerHost) Ended(c *ServerSession, err error) { delete(s.slots, c) }

// check checks what holds when no operation is under way.
func (s *sim) check() {
	for _, c := range s.clients {
		for _, h := range c.hosts {
			if h.ended || h.s.state != sessionOpen {
				continue
			}
			if h.s.credits != h.s.creditsMax || len(h.s.free) != len(h.s.calls) {
				s.fail("an idle session has %d credits of %d, and %d free slots of %d", h.s.credits, h.s.creditsMax, len(h.s.free), len(h.s.calls))
			}
			for i := range h.workers {
				w := &h.workers[i]
				if v := s.store[w.id]; s.executed[w.id] != w.seq || w.seq > 0 && (!bytes.Equal(v[8:], w.value) || binary.LittleEndian.Uint64(v) != w.counter) {
					s.fail("worker %d: the store has %d operations, %x; want %d, %d, %x", w.id, s.executed[w.id], v, w.seq, w.counter, w.value)
				}
			}
		}
	}
}

// counts describes the run.
func (s *sim) counts() string {
	var c Counters
	for _, k := range s.clients {
		c.Retransmits += k.c.Count.Retransmits
		c.Timeouts += k.c.Count.Timeouts
		c.Gaps += k.c.Count.Gaps
		c.Stalls += k.c.Count.Stalls
		c.Paced += k.c.Count.Paced
		c.Duplicates += k.c.Count.Duplicates
		c.Garbage += k.c.Count.Garbage
		c.Opened += k.c.Count.Opened
	}
	return fmt.Sprintf("%d packets, %d operations, %.3g s; %d sessions; clients: %d retransmissions, %d time-outs, %d gaps, %d duplicates, %d stalls, %d paced, %d garbage; server: %d duplicates, %d waits, %d garbage",
		s.packets, s.ops, float64(s.now)/1e9, c.Opened, c.Retransmits, c.Timeouts, c.Gaps, c.Duplicates, c.Stalls, c.Paced, c.Garbage,
		s.server.Count.Duplicates, s.server.Count.Waits, s.server.Count.Garbage)
}

var simNets = []simNet{
	{name: "perfect", delay: 5e3, clients: 2, sessions: 2, slots: 4, credits: 32, large: 20000},
	{name: "loss 0.1 %", loss: 0.001, delay: 20e3, jitter: 1e3, clients: 2, sessions: 4, slots: 16, credits: 32, work: 50e3, large: 20000, turn: 30e3},
	{name: "loss 1 %, doubled 1 %", loss: 0.01, dup: 0.01, delay: 10e3, jitter: 10e3, clients: 3, sessions: 3, slots: 8, credits: 16, work: 200e3, large: 20000, refuse: 0.01, turn: 50e3},
	{name: "reordered", delay: 5e3, jitter: 100e3, far: 0.01, dup: 0.02, clients: 2, sessions: 2, slots: 8, credits: 32, work: 20e3, large: 10000, turn: 100e3},
	{name: "loss 20 %, doubled 10 %, reordered", loss: 0.2, dup: 0.1, delay: 20e3, jitter: 50e3, far: 0.01, clients: 2, sessions: 3, slots: 8, credits: 8, work: 10e6, large: 5000, refuse: 0.1, turn: 100e3},
	{name: "loss 20 %, each packet answered alone", loss: 0.2, dup: 0.1, delay: 20e3, jitter: 50e3, far: 0.01, clients: 2, sessions: 3, slots: 8, credits: 8, work: 1e6, large: 5000, refuse: 0.1},
	{name: "batches longer than time-outs", loss: 0.05, dup: 0.3, delay: 10e3, jitter: 2e6, clients: 2, sessions: 4, slots: 4, credits: 16, work: 50e3, large: 2000, turn: 8e6, refuse: 0.05},
	{name: "one credit", loss: 0.05, dup: 0.05, delay: 10e3, jitter: 10e3, clients: 1, sessions: 4, slots: 1, credits: 1, work: 1e6, large: 5000},
	{name: "sessions end", loss: 0.05, dup: 0.05, delay: 10e3, jitter: 30e3, clients: 2, sessions: 3, slots: 4, credits: 8, work: 1e6, large: 5000, ends: 0.002, turn: 20e3},
	{name: "the carrier holds packets", loss: 0.02, dup: 0.02, delay: 10e3, jitter: 20e3, clients: 2, sessions: 3, slots: 8, credits: 16, work: 100e3, large: 10000, held: 50e3, turn: 30e3},
	{name: "the carrier holds packets for longer than time-outs", loss: 0.1, dup: 0.05, delay: 10e3, jitter: 20e3, clients: 2, sessions: 2, slots: 4, credits: 16, work: 100e3, large: 10000, held: 20e6, ends: 0.001},
	{name: "timely", loss: 0.01, delay: 200e3, jitter: 800e3, clients: 2, sessions: 2, slots: 16, credits: 64, large: 20000, congestion: CongestionTimely, turn: 50e3},
}

func TestSimulation(t *testing.T) {
	packets := 200_000
	switch {
	case *simPackets > 0:
		packets = *simPackets
	case os.Getenv("KVWIRE_LONG") != "":
		packets = 100_000_000/len(simNets) + 1
	case testing.Short():
		packets = 20_000
	}
	for i, n := range simNets {
		t.Run(n.name, func(t *testing.T) {
			seed := uint64(i) + 1
			if *simSeed != 0 {
				seed = *simSeed
			}
			s := newSim(t, n, seed)
			s.run(packets)
			s.check()
			t.Logf("seed %d: %s", seed, s.counts())
			if s.ops == 0 {
				t.Error("no operation has ended")
			}
			if n.loss == 0 && n.jitter == 0 && s.clients[0].c.Count.Retransmits > 0 {
				t.Error("packets are sent again on a network that loses and delays nothing")
			}
		})
	}
}

func TestTheSameSeedGivesTheSameRun(t *testing.T) {
	for _, n := range simNets[2:] {
		one, two, other := newSim(t, n, 7), newSim(t, n, 7), newSim(t, n, 8)
		for _, s := range []*sim{one, two, other} {
			s.run(5000)
		}
		if one.digest != two.digest || one.counts() != two.counts() {
			t.Errorf("%s: %x and %x: %s; %s", n.name, one.digest, two.digest, one.counts(), two.counts())
		}
		if one.digest == other.digest {
			t.Errorf("%s: another seed gives the same run", n.name)
		}
	}
}

// A session whose peer is not there any more ends, at both ends, within SilentMax.
func TestSilenceEndsSessions(t *testing.T) {
	s := newSim(t, simNet{loseEverythingAfter: 1e9, delay: 100e3, jitter: 10e3, clients: 1, sessions: 3, slots: 4, credits: 8, large: 5000, work: 10e6}, 3)
	for len(s.events) > 0 && s.now < 60e9 {
		s.stop = s.now > 2e9
		s.run(0)
		if s.stop {
			break
		}
	}
	for len(s.events) > 0 && s.now < 60e9 && s.server.Sessions()+s.clients[0].c.Sessions() > 0 {
		e := heap.Pop(&s.events).(simEvent)
		if s.now = e.at; e.what == eventTick {
			s.ticks[e.node] = 0
			s.server.Tick(s.now)
			s.clients[0].c.Tick(s.now)
			s.flushServer()
			s.flushClient(s.clients[0])
		}
	}
	if s.server.Sessions() != 0 || s.clients[0].c.Sessions() != 0 || len(s.server.timers.heap)+len(s.clients[0].c.timers.heap) != 0 || len(s.server.hellos)+len(s.clients[0].c.peers) != 0 {
		t.Errorf("after %d ns the server has %d sessions, the client %d", s.now, s.server.Sessions(), s.clients[0].c.Sessions())
	}
	if s.now > 25e9 {
		t.Errorf("they ended after %d ns", s.now)
	}
}
