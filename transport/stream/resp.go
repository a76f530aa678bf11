package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport/memory"
	"github.com/kvwire/kvwire/wire"
)

// guest is what a connection has besides when its client speaks Redis's protocol. Each key of a command is a request, in a slot of its own;
// commands are answered in the order in which they came, so each slot stands in a line, and the first of it is answered when
// it has been done. A command stays where it was received until all of its requests have begun.
//
// Commands of one connection may depend on each other, and the handler need not do requests in the order in which they were
// submitted: so one waits for those before it that have its key, and change it or are changed by it. Keys are told apart by
// some bits of their hash.
type guest struct {
	c       *Server
	cmd     resp.Command
	args    [][]byte // the first of them
	few     [argsMax]resp.Span
	many    []byte     // what cmd.Args lie in where they are more than few: of the pool; nil: they are not
	spec    *resp.Spec // of the command that has begun; nil: none
	before  *resp.Spec // of the one before it
	next    int        // the argument that goes on, and before it
	big     []byte     // a command that does not fit into the receive buffer, as far as its length is known; nil: it does
	session resp.Session

	line     line          // slots, in the order of their answers
	more     []part        // by slot
	asked    uint64        // slots that were taken
	readers  [hashes]int16 // requests under way
	writers  [hashes]int16
	alone    bool   // a command has begun that none may overtake
	sum      int64  // of the parts of a command that were answered
	failed   string // the first error of them
	wrong    string // what is the matter with a command that cannot be done
	last     string // what the client is told before the connection ends
	flushing *slot  // a flush whose deletes are under way; their keys lie in its page
	deletes  int    // of these, that have not come back
	keys     keys   // of KEYS
	draw     draw   // of RANDOMKEY
}

const hashes = 256

// part is what a slot has to know of its command.
type part struct {
	form   form
	begin  bool // of its command
	end    bool
	array  int // values of the array that begins with it; 0: none
	done   bool
	bucket uint8
	reads  bool // it is counted among bucket's readers
	writes bool
	tmp    []byte // asText, asEcho: what is told, in the slot's memory

	first, last int64  // asRange: the places; asExpiry: the answer where the key is there, and where not
	limit       uint32 // the request's
}

// single is for a command of one request.
func single(f form) part { return part{form: f, begin: true, end: true} }

// form is how a request's outcome is told.
type form uint8

const (
	asText     form = iota // tmp
	asEcho                 // tmp, as a bulk string
	asBulk                 // the item
	asOK                   // OK, or nothing where a condition did not hold
	asCount                // how many were there
	asBytes                // how long the item is
	asSum                  // the number that it has become
	asLength               // how long it has become
	asOld                  // what was there
	asKeys                 // what a page of a walk has
	asSize                 // how many items there are
	asVerbatim             // a text that the server has of itself
	asMatching             // a walk that gathers the keys that fit a pattern
	asRandom               // a key, or nothing
	asFlush                // a walk that deletes what it finds
	asSet                  // 1, or 0 where a condition did not hold
	asRange                // some of the item
	asTaken                // what was there, and is not any more
	asType                 // of what type the item is
	asExpiry               // what there is of a time at which the item expires: nothing
	asNone                 // a delete of a flush
)

// respDepth bounds the requests of such a connection that are under way: more stay where they were received.
const respDepth = 32

// invite makes a connection one that speaks RESP, and takes the commands that it has sent.
func (c *Server) invite() {
	g := &guest{c: c}
	c.guest, c.depth = g, min(respDepth, c.h.O.Depth)
	if err := c.equip(); err != nil {
		c.h.refused(c.name, wire.RefusedBusy, err)
		c.dismiss("-ERR max number of clients reached\r\n")
		return
	}
	c.state = stateOpen
	c.h.count.Opened++
	c.account.SetOrder(g)
	g.line.q, g.more = make([]int, len(c.slots)), make([]part, len(c.slots))
	g.session = resp.Session{Proto: 2, ID: c.number, MaxValueBytes: c.h.O.Limits.MaxValueBytes, Describe: c.describe}
	if c.h.O.Access != nil {
		g.session.Admit = c.admit
	}
	g.cmd.Args, g.cmd.Room = g.few[:0], c.roomForArgs
	g.cmd.Reset()
	c.parse()
}

// Next is memory.Order's.
func (g *guest) Next(cl *memory.Claim) bool { return g.line.n > 0 && g.line.first() == cl.Index }

// Busy is memory.Order's.
func (g *guest) Busy() bool { return g.c.busy > 0 }

// HoldsCommand is memory.Order's.
func (g *guest) HoldsCommand() bool { return g.big != nil }

// HoldsArguments is memory.Order's.
func (g *guest) HoldsArguments() bool { return g.many != nil }

// admit lets in who tells a secret: resp.Session's.
func (c *Server) admit(name, secret []byte) (readOnly, ok bool) {
	who := c.h.O.Access.Password(name, secret)
	if who == nil {
		c.h.deny(c.name, errors.New("AUTH with an unknown name, or another secret"))
		return false, false
	}
	c.who = who
	return who.ReadOnly, true
}

// nextLoop shares such connections out among the loops, where the kernel has not done so.
func (h *Host) nextLoop() int {
	if h.Sockets.ReusePort {
		return h.Index
	}
	h.shared++
	return (h.shared - 1) % h.Loops
}

// commandMax bounds a command's bytes: a value of the largest kind and 64 KiB, or, for one of many keys and values, a sixteenth of the pool.
func (c *Server) commandMax() int { return max(c.h.O.Limits.ScanRoom()+64<<10, c.h.Pool.Largest()/16) }

// parseCommands takes all whole commands from what was received.
func (c *Server) parseCommands() {
	g := c.guest
	for n := 0; c.state == stateOpen && len(c.in.rest) == 0 && !c.account.Paused(); n++ {
		if n == commandsMax {
			c.yield()
			break
		}
		if g.spec == nil {
			b := g.big
			if b == nil {
				b = c.in.unread()
			}
			need, err := g.cmd.Read(b)
			if errors.Is(err, resp.ErrNoRoom) {
				if c.unknown() { // as Redis does, whose bound is 10
					c.h.deny(c.name, fmt.Errorf("a command of more than %d arguments before AUTH", argsMax))
					c.dismiss("-ERR Protocol error: unauthenticated multibulk length\r\n")
					return
				}
				if _, least, _ := g.cmd.Announced(); least > c.commandMax() {
					c.tooLong(least)
					return
				}
				break // roomForArgs has paused it
			}
			if err != nil {
				c.h.refused(c.name, wire.RefusedGarbage, err)
				c.dismiss("-ERR " + err.Error() + "\r\n")
				return
			}
			if need < 0 {
				c.yield()
				break
			}
			if need > 0 {
				if !c.gather(need) {
					break
				}
				continue
			}
			if len(g.cmd.Args) == 0 {
				c.commandEnds()
				continue
			}
			if !c.begins() {
				break
			}
		}
		if !c.goesOn() {
			break
		}
		c.commandEnds()
	}
	if g.spec == nil { // else its arguments lie there
		c.in.compact()
	}
	if c.in.partial() {
		c.h.watch()
	}
}

// gather sees to it that need bytes of a command will lie together; false: they have to come, or memory has.
func (c *Server) gather(need int) bool {
	g := c.guest
	if g.big == nil && need <= len(c.in.buf) {
		return false
	}
	if c.unknown() { // as Redis does, whose bound is 16 KiB
		c.h.deny(c.name, fmt.Errorf("a command of %d B before AUTH", need))
		c.dismiss("-ERR Protocol error: unauthenticated bulk length\r\n")
		return false
	}
	if need > c.commandMax() {
		c.tooLong(need)
		return false
	}
	if cap(g.big) < need {
		_, _, about := g.cmd.Announced()
		b := c.account.Message(min(max(need, 2*len(g.big), about), c.commandMax()))
		if b == nil {
			return false
		}
		if g.big == nil {
			g.big = b[:copy(b, c.in.unread())]
			c.in.rd, c.in.wr = 0, 0
		} else {
			n := copy(b, g.big)
			c.account.Replace(g.big)
			g.big = b[:n]
		}
		c.h.L.Stats.Copied += uint64(len(g.big))
	}
	from := len(g.big)
	g.big = g.big[:need]
	copied, whole := c.in.take(g.big[from:])
	c.h.L.Stats.Copied += uint64(copied)
	return whole
}

// tooLong ends the connection because of a command of so many bytes or more.
func (c *Server) tooLong(need int) {
	c.h.refused(c.name, wire.RefusedTooLarge, fmt.Errorf("a command of %d B, at most %d", need, c.commandMax()))
	c.dismiss(fmt.Sprintf("-ERR a command of %d bytes or more: at most %d, a sixteenth of the server's --message-memory\r\n", need, c.commandMax()))
}

// wait stops until a slot or a request comes back.
func (c *Server) wait() { c.account.Pause(0) }

// commandsMax bounds the commands that are taken at once from what was received, so that a pipeline of tiny ones does not hold up other connections.
const commandsMax = 256

// yield lets others have the loop: what was received is gone on with when the host is next staged.
func (c *Server) yield() {
	c.account.Yield()
}

// commandEnds forgets a command.
func (c *Server) commandEnds() {
	g := c.guest
	g.spec = nil
	if g.big != nil {
		c.account.Free(g.big)
		g.big = nil
	} else {
		c.in.consume(g.cmd.Bytes)
	}
	c.forgetArgs()
	g.cmd.Reset()
}

// forgetArgs gives back what a command's arguments lie in.
func (c *Server) forgetArgs() {
	g := c.guest
	if g.many != nil {
		c.account.Free(g.many)
		g.many = nil
	}
	g.cmd.Args = g.few[:0]
}

// roomForArgs makes room in counted memory for all arguments that were announced, or for twice as many; it leaves them as they are where there is none
// now. It waits until there is also room for the command itself: many connections that each had one of the two and waited for the other would wait for ever.
func (c *Server) roomForArgs() {
	g := c.guest
	announced, least, about := g.cmd.Announced()
	if c.unknown() || least > c.commandMax() {
		return
	}
	n, rest := max(2*cap(g.cmd.Args), announced)*resp.SpanBytes, 0
	if g.big == nil && about > len(c.in.buf) {
		rest = min(about, c.commandMax())
	}
	b := c.account.MessageBefore(n, rest)
	if b == nil {
		return
	}
	args := append(arena.In[resp.Span](b), g.cmd.Args...)
	if g.many != nil {
		c.account.Replace(g.many)
	}
	g.many, g.cmd.Args = b, args
}

// argsMax bounds the arguments of commands that do not take as many as one likes. More than these lie in memory of the pool.
const argsMax = 64

// arg is an argument of the command that has begun, where it was received.
func (c *Server) arg(i int) []byte {
	g := c.guest
	if g.big != nil {
		return g.cmd.Args[i].Of(g.big)
	}
	return g.cmd.Args[i].Of(c.in.unread())
}

// begins looks at a command's name. false: the connection ends.
func (c *Server) begins() bool {
	g := c.guest
	n := len(g.cmd.Args)
	g.args = g.args[:0]
	for i := range min(n, argsMax) {
		g.args = append(g.args, c.arg(i))
	}
	spec, text := resp.Find(g.args[0], n, g.before)
	if spec != nil && spec.Last != -1 && n > argsMax {
		spec, text = nil, resp.TooMany
	}
	if spec == nil {
		if text == "" {
			text = resp.Unknown(g.args)
		}
		if resp.CrossProtocol(g.args[0]) {
			c.h.refused(c.name, wire.RefusedGarbage, "it speaks HTTP")
			c.dismiss("")
			return false
		}
		spec, g.wrong = resp.Wrong, text
	} else if text := g.session.Denies(spec); text != "" {
		spec, g.wrong = resp.Wrong, text
	}
	g.spec, g.before, g.next = spec, spec, 1
	c.h.commands++
	return true
}

// dismiss ends the connection in good order: what is under way is answered, and then the client is told this.
func (c *Server) dismiss(text string) {
	c.state = stateWinding
	c.guest.last = text
	c.farewell()
}

// farewell says the last word, when all answers are out of the handler's hands.
func (c *Server) farewell() {
	if c.state != stateWinding || c.busy > 0 {
		return
	}
	c.state = stateRefusing
	c.inSince = c.h.L.Awake()
	if c.guest.last == "" {
		c.guest.last = "\r\n" // a driver looks whether it is the end when it has sent something
	}
	c.send(message{piece: [3][]byte{[]byte(c.guest.last)}, slot: -1})
	c.h.watch()
}

// goesOn begins the requests of a command, as far as there are slots. false: it has to wait, or the connection ends.
func (c *Server) goesOn() bool {
	g, a := c.guest, c.guest.args
	if g.alone {
		c.wait()
		return false
	}
	switch g.spec.Kind {
	case resp.Answer:
		return c.answer()
	case resp.Quit:
		c.commandEnds()
		c.dismiss("+OK\r\n")
		return false
	case resp.Get:
		if text := resp.ReadGetEx(a[2:]); text != "" {
			return c.cannot(text)
		}
		return c.begin(kv.OpGet, kv.Always, a[1], nil, single(asBulk))
	case resp.Range:
		p := single(asRange)
		var text string
		if p.first, p.last, text = resp.ReadRange(a[2:]); text != "" {
			return c.cannot(text)
		}
		return c.begin(kv.OpGet, kv.Always, a[1], nil, p)
	case resp.Type:
		return c.begin(kv.OpGet, kv.Always, a[1], nil, single(asType))
	case resp.Expiry:
		p := single(asExpiry)
		p.first, p.last = g.spec.Expiry()
		return c.begin(kv.OpGet, kv.Always, a[1], nil, p)
	case resp.Expire:
		return c.cannot(g.spec.NoExpiry())
	case resp.Take:
		return c.begin(kv.OpTake, kv.Always, a[1], nil, single(asTaken))
	case resp.SetAbsent:
		if len(g.cmd.Args) > 3 {
			return c.cannot(resp.OneKey)
		}
		return c.begin(kv.OpPut, kv.IfAbsent, a[1], a[2], single(asSet))
	case resp.Patch:
		p := single(asLength)
		var text string
		if p.limit, text = resp.ReadOffset(a[2], len(a[3]), c.h.O.Limits.MaxValueBytes); text != "" {
			return c.cannot(text)
		}
		if len(a[3]) == 0 { // changes nothing, and makes no key
			return c.begin(kv.OpGet, kv.Always, a[1], nil, single(asBytes))
		}
		return c.begin(kv.OpPatch, kv.Always, a[1], a[3], p)
	case resp.Strlen:
		return c.begin(kv.OpGet, kv.Always, a[1], nil, single(asBytes))
	case resp.MultiGet:
		return c.keys(kv.OpGet, asBulk)
	case resp.Exists:
		return c.keys(kv.OpGet, asCount)
	case resp.Delete:
		return c.keys(kv.OpDelete, asCount)
	case resp.Set:
		o, text := resp.ReadSet(a[3:])
		if text != "" {
			return c.cannot(text)
		}
		if o.Get {
			return c.begin(kv.OpSwap, o.If, a[1], a[2], single(asOld))
		}
		return c.begin(kv.OpPut, o.If, a[1], a[2], single(asOK))
	case resp.GetSet:
		return c.begin(kv.OpSwap, kv.Always, a[1], a[2], single(asOld))
	case resp.Append:
		return c.begin(kv.OpAppend, kv.Always, a[1], a[2], single(asLength))
	case resp.Add:
		var by [8]byte
		if text := g.spec.Add(a, &by); text != "" {
			return c.cannot(text)
		}
		return c.begin(kv.OpAdd, kv.Always, a[1], by[:], single(asSum))
	case resp.MultiSet:
		for n := len(g.cmd.Args); g.next < n; g.next += 2 {
			if !c.begin(kv.OpPut, kv.Always, c.arg(g.next), c.arg(g.next+1), part{form: asOK, begin: g.next == 1, end: g.next+2 == n}) {
				return false
			}
		}
		return true
	case resp.Scan:
		return c.scan()
	case resp.Size:
		return c.aside(asSize, kv.OpStats, nil, kv.StatsBrief, nil)
	case resp.Info:
		var numbers [64]byte
		return c.aside(asVerbatim, kv.OpStats, resp.ReadInfo(numbers[:0], a[1:]), kv.StatsInfo, nil)
	case resp.Client:
		switch lists, ids, text := g.session.ReadClient(a); {
		case text != "":
			return c.cannot(text)
		case lists:
			return c.aside(asVerbatim, kv.OpStats, ids, kv.StatsClients, nil)
		}
		return c.answer()
	case resp.Keys:
		return c.keysOf(a[1])
	case resp.Random:
		return c.random()
	case resp.Flush:
		if text := resp.ReadFlush(a[1:]); text != "" {
			return c.cannot(text)
		}
		var at [kv.PositionBytes]byte
		kv.PositionAt(0, kv.MarkFirst).Put(at[:])
		return c.aside(asFlush, kv.OpKeys, at[:], uint32(c.depth), nil) // for the deletes there are as many slots
	}
	panic(fmt.Sprintf("stream: command %q of kind %d", g.spec.Name, g.spec.Kind))
}

// answer answers what the connection itself knows. Like any other answer it lies in the slot's own memory or in a block of the pool until it is sent: what a
// peer has us say is bounded by what it may hold. The connection waits where there is neither.
func (c *Server) answer() bool {
	g := c.guest
	if len(c.free) == 0 {
		c.wait()
		return false
	}
	if what, ok := resp.Echoed(g.spec, g.args); ok {
		return c.echo(what)
	}
	b := c.h.scratch[:0]
	switch {
	case g.spec == resp.Wrong:
		b = resp.AppendError(b, g.wrong)
	case g.spec.Kind == resp.Scan: // for a type that no item has
		b = resp.AppendScan(b, 0, 0)
	default: // what is long has changed nothing, and may be asked for again
		b = g.session.Answer(b, g.spec, g.args)
	}
	c.h.scratch = b
	var block []byte
	if len(b) > ownBytes {
		if block = c.room(len(b)); block == nil {
			return false
		}
	}
	s := c.slot(single(asText))
	if s.reply = block; block == nil {
		block = s.small[:len(b)]
	} else {
		c.account.Owe(&s.Claim, block)
	}
	c.h.L.Stats.Copied += uint64(copy(block, b))
	c.toldBy(s, block)
	return true
}

// echo answers with a part of the command, which stays where it was received if that is a block of its own.
func (c *Server) echo(what []byte) bool {
	g := c.guest
	if len(what) <= smallBytes {
		s := c.slot(single(asText))
		c.h.L.Stats.Copied += uint64(len(what))
		c.toldBy(s, resp.AppendBulk(s.small[:0], what))
		return true
	}
	if !c.account.MayOwe(nil, len(what)) { // until the peer has taken some
		c.wait()
		return false
	}
	block, mine := g.big, g.big != nil
	if !mine {
		if block = c.room(len(what)); block == nil {
			return false
		}
		c.h.L.Stats.Copied += uint64(copy(block, what))
		what = block
	}
	s := c.slot(single(asEcho))
	if s.block = block; mine {
		g.big, g.cmd.Bytes = nil, 0
	}
	c.account.Owe(&s.Claim, block)
	c.toldBy(s, what)
	return true
}

// toldBy answers with what lies in the slot's memory.
func (c *Server) toldBy(s *slot, what []byte) {
	m := &c.guest.more[s.Index]
	m.tmp, m.done = what, true
	c.tell()
}

// cannot answers a command that cannot be done.
func (c *Server) cannot(why string) bool {
	c.guest.spec, c.guest.wrong = resp.Wrong, why
	return c.answer()
}

// slot takes one, at the end of the line; nil: the connection has to wait for one.
func (c *Server) slot(p part) *slot {
	if len(c.free) == 0 {
		c.wait()
		return nil
	}
	g := c.guest
	s := &c.slots[c.free[len(c.free)-1]]
	c.free = c.free[:len(c.free)-1]
	g.asked++
	g.more[s.Index] = p
	s.Nth = g.asked
	g.line.push(s.Index)
	s.block, s.reply = nil, nil
	s.room = c.h.O.Limits.ScanRoom()
	r := &s.req
	r.Status, r.If, r.Limit, r.Need, r.Stages = 0, kv.Always, p.limit, 0, nil
	return s
}

// clashes says whether a request for a key has to wait for one before it.
func (c *Server) clashes(op kv.Op, key []byte) (bucket uint8, clash bool) {
	g := c.guest
	bucket = uint8(kv.Hash(key))
	return bucket, g.writers[bucket] > 0 || op.Changes() && g.readers[bucket] > 0
}

// counts notes a request that others may have to wait for. Where the handler does the requests of a key in their order, these are only
// those that may be submitted twice, for want of room.
func (c *Server) counts(m *part, op kv.Op, bucket uint8) {
	m.bucket = bucket
	switch {
	case op == kv.OpGet:
		m.reads = true
		c.guest.readers[bucket]++
	case !c.h.O.InOrder || op.Updates() && op != kv.OpAdd:
		m.writes = true
		c.guest.writers[bucket]++
	}
}

// keys begins a request for each of a command's keys.
func (c *Server) keys(op kv.Op, f form) bool {
	g := c.guest
	for n := len(g.cmd.Args); g.next < n; g.next++ {
		p := part{form: f, begin: g.next == 1, end: g.next == n-1}
		if p.begin && f == asBulk {
			p.array = n - 1
		}
		if !c.begin(op, kv.Always, c.arg(g.next), nil, p) {
			return false
		}
	}
	return true
}

// room is take, and waits where there is none.
func (c *Server) room(n int) []byte {
	b := c.account.Message(n)
	if b == nil {
		return nil
	}
	return b[:n]
}

// begin begins the request for one of a command's keys. value is a put's or an update's. false: the connection has to wait.
func (c *Server) begin(op kv.Op, cond kv.If, key, value []byte, p part) bool {
	g, l := c.guest, c.h.O.Limits
	bucket, clash := c.clashes(op, key)
	if clash || len(c.free) == 0 {
		c.wait()
		return false
	}
	if len(key) > l.MaxKeyBytes || len(value) > l.MaxValueBytes {
		s := c.slot(p)
		s.req.Status, s.req.Key, g.more[s.Index].done = kv.StatusTooLarge, nil, true
		c.tell()
		return true
	}
	n := len(key) + len(value)
	want := n
	if op == kv.OpAdd {
		want = len(key) + kv.AddBytes
	}
	var block []byte
	mine := want > smallBytes && g.big != nil && g.spec.Kind == resp.Set && op == kv.OpPut // it stays where it was received
	if want > smallBytes && !mine {
		if block = c.room(want); block == nil {
			return false
		}
	}
	s := c.slot(p)
	r := &s.req
	r.Op, r.If = op, cond
	s.key = len(key)
	switch {
	case mine:
		s.block = g.big
		r.Key, r.Value = key, value
		g.big, g.cmd.Bytes = nil, 0
	default:
		if block == nil {
			block = s.small[:smallBytes:smallBytes]
		}
		s.block = block
		copy(block, key)
		copy(block[s.key:], value)
		r.Key, r.Value = block[:s.key], block[s.key:n:cap(block)]
		c.h.L.Stats.Copied += uint64(n)
	}
	c.counts(&g.more[s.Index], op, bucket)
	if op == kv.OpGet || op == kv.OpDelete {
		c.submitPart(s)
		return true
	}
	s.reply = s.small[replyAt:ownBytes:ownBytes]
	c.begun()
	c.h.Handler.Submit(r)
	return true
}

// submitPart submits a request that has its key, with a first guess at the room for its answer.
func (c *Server) submitPart(s *slot) {
	r := &s.req
	r.Key = s.block[:s.key]
	s.reply = s.small[replyAt : ownBytes-2 : ownBytes]
	c.begun()
	want := 0
	switch c.guest.more[s.Index].form {
	case asBulk, asRange:
		want = min(c.hint, c.h.O.Limits.MaxValueBytes)
	case asSize:
		want = max(min(64<<10, s.room), smallBytes+1) // the answer is put together in the slot, beside what was found
	case asVerbatim:
		want, s.room = textBytes, c.commandMax()
	case asMatching:
		want = pageBytes(c.h.O.Limits)
		s.room = roomForPage(want)
	case asRandom:
		want = kv.ItemHeaderBytes + c.h.O.Limits.MaxKeyBytes
	case asKeys, asFlush:
		want = pageBytes(c.h.O.Limits)
		s.room = want*16/17 - scanHeadMax // see scanned
	}
	c.ask(s, want)
}

// aside begins a command that waits for all before it, and that all others wait for. pattern, for asKeys and asMatching, lies behind key until the answer is there.
func (c *Server) aside(f form, op kv.Op, key []byte, limit uint32, pattern []byte) bool {
	if c.busy > 0 || f == asFlush && len(c.free) < len(c.slots) { // a flush takes slots for its deletes
		c.wait()
		return false
	}
	var block []byte
	n := len(key) + len(pattern)
	if n > smallBytes {
		if block = c.room(n); block == nil {
			return false
		}
	}
	s := c.slot(single(f))
	if s == nil {
		if block != nil {
			c.account.Free(block)
		}
		return false
	}
	c.guest.alone = true
	if block == nil {
		block = s.small[:n]
	}
	s.block, s.key = block, copy(block, key)
	copy(block[s.key:], pattern)
	s.req.Op, s.req.Limit = op, limit
	c.submitPart(s)
	return true
}

// scan begins a SCAN.
func (c *Server) scan() bool {
	o, text := resp.ReadScan(c.guest.args)
	if text != "" {
		return c.cannot(text)
	}
	at, ok := c.h.cursors.Position(o.Cursor, c.h.Handler.Shards())
	switch {
	case !ok:
		return c.cannot(resp.ErrCursor)
	case o.None:
		return c.answer()
	}
	if o.Match == nil {
		o.Match = all
	}
	var key [kv.PositionBytes]byte
	at.Put(key[:])
	return c.aside(asKeys, kv.OpKeys, key[:], o.Count, o.Match)
}

// completePart takes a request back whose room was enough.
func (c *Server) completePart(s *slot) {
	g, r := c.guest, &s.req
	m := &g.more[s.Index]
	c.busy--
	if m.reads {
		g.readers[m.bucket]--
	}
	if m.writes {
		g.writers[m.bucket]--
	}
	switch m.form {
	case asNone:
		c.deleted(s)
		return
	case asFlush:
		c.flush(s)
		return
	case asMatching:
		c.collect(s)
		return
	case asRandom:
		c.pick(s)
		return
	}
	if r.Op == kv.OpPut { // its answer may have to wait, and needs no memory
		c.releaseBlock(s)
		r.Value = nil
	}
	c.done(m)
}

// done answers a request that has all that its answer needs.
func (c *Server) done(m *part) {
	m.done = true
	c.tell()
	if c.account.Paused() {
		c.h.Pool.CameBack()
	}
	c.farewell()
}

// forget gives back what a dead connection has of commands that were not answered; requests that are under way come back by themselves.
func (c *Server) forget() {
	g := c.guest
	for ; g.line.n > 0; g.line.pop() {
		if i := g.line.first(); g.more[i].done {
			c.release(&c.slots[i])
		}
	}
	if g.big != nil {
		c.account.Free(g.big)
		g.big = nil
	}
	c.forgetArgs()
	g.spec = nil
}

// retriable says whether a request that had too little room is to be submitted again.
func (c *Server) retriable(s *slot) bool {
	switch c.guest.more[s.Index].form {
	case asCount, asBytes, asType, asExpiry:
		return false
	case asVerbatim:
		return int(s.req.Need) <= c.commandMax()
	}
	return s.req.Op.Updates() || int(s.req.Need) <= s.mayAnswer()
}

// enlarge gives an update the room that it needs, in a block of its own; false when there is none now.
func (c *Server) enlarge(s *slot) bool {
	r := &s.req
	b := c.account.Answer(&s.Claim, s.key+int(r.Need))
	if b == nil {
		return false
	}
	copy(b, r.Key)
	n := copy(b[s.key:], r.Value)
	c.h.L.Stats.Copied += uint64(s.key + n)
	c.releaseBlock(s)
	s.block = b
	r.Key, r.Value = b[:s.key], b[s.key:s.key+n:cap(b)]
	return true
}

// tell answers what is at the head of the line and done.
func (c *Server) tell() {
	g := c.guest
	for g.line.n > 0 {
		i := g.line.first()
		m := &g.more[i]
		if !m.done {
			return
		}
		g.line.pop()
		s := &c.slots[i]
		if m.begin {
			g.sum, g.failed = 0, ""
		}
		c.tellPart(s, m)
	}
	c.account.Ease()
}

var crlf = []byte("\r\n")

// tellPart sends a slot's part of an answer, or gives the slot back if that is nothing.
func (c *Server) tellPart(s *slot, m *part) {
	g, r := c.guest, &s.req
	proto := g.session.Proto
	var pieces [3][]byte
	var head [64]byte
	b := head[:0]
	if m.array > 0 {
		b = resp.AppendArray(b, m.array)
	}
	failed := ""
	switch m.form {
	case asText:
		pieces[0] = m.tmp
	case asEcho:
		b = resp.AppendBulkHead(b, len(m.tmp))
		pieces = [3][]byte{nil, m.tmp, crlf}
	case asBulk, asRange:
		switch r.Status {
		case kv.StatusOK:
			c.hint = len(r.Value)
			value, at := r.Value, wire.HeaderBytes
			if m.form == asRange {
				value = resp.Cut(value, m.first, m.last)
				at += cap(r.Value) - cap(value)
			}
			if len(value) == 0 { // it may lie anywhere
				at = wire.HeaderBytes
			}
			b = resp.AppendBulkHead(b, len(value))
			pieces[0] = s.framed(b, at, len(value))
		case kv.StatusNotFound:
			if b = resp.AppendNull(b, proto); m.form == asRange {
				b = resp.AppendBulkHead(b[:0], 0)
				b = append(b, crlf...)
			}
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asOK:
		switch r.Status {
		case kv.StatusOK:
			b = append(b, "+OK\r\n"...)
		case kv.StatusExists, kv.StatusNotFound:
			b = resp.AppendNull(b, proto)
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asCount:
		switch r.Status {
		case kv.StatusOK, kv.StatusTooSmall:
			g.sum++
		case kv.StatusNotFound:
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
		if m.end {
			b = resp.AppendInt(b, g.sum)
		}
	case asBytes:
		switch r.Status {
		case kv.StatusOK:
			b = resp.AppendInt(b, int64(len(r.Value)))
		case kv.StatusNotFound:
			b = resp.AppendInt(b, 0)
		case kv.StatusTooSmall:
			b = resp.AppendInt(b, int64(r.Need))
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asSum:
		if failed = textUnlessOK(r); failed == "" {
			b = append(append(append(b, ':'), r.Value...), crlf...)
		}
	case asSet:
		switch r.Status {
		case kv.StatusOK:
			b = resp.AppendInt(b, 1)
		case kv.StatusExists:
			b = resp.AppendInt(b, 0)
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asType, asExpiry:
		switch r.Status {
		case kv.StatusOK, kv.StatusTooSmall:
			if m.form == asType {
				b = resp.AppendStatus(b, "string")
			} else {
				b = resp.AppendInt(b, m.first)
			}
		case kv.StatusNotFound:
			if m.form == asType {
				b = resp.AppendStatus(b, "none")
			} else {
				b = resp.AppendInt(b, m.last)
			}
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asTaken:
		switch r.Status {
		case kv.StatusOK:
			pieces = [3][]byte{nil, r.Value, crlf}
			b = resp.AppendBulkHead(b, len(r.Value))
		case kv.StatusNotFound:
			b = resp.AppendNull(b, proto)
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asLength:
		if failed = textUnlessOK(r); failed == "" {
			b = resp.AppendInt(b, int64(len(r.Value)))
		}
	case asOld:
		switch {
		case r.Status == kv.StatusNotFound, r.Status == kv.StatusOK && r.Limit == 0:
			b = resp.AppendNull(b, proto)
		case r.Status == kv.StatusOK, r.Status == kv.StatusExists:
			n := len(r.Value)
			old := r.Value[n : n+int(r.Limit)-1]
			pieces = [3][]byte{nil, old, crlf}
			b = resp.AppendBulkHead(b, len(old))
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asKeys:
		if failed = textUnlessOK(r); failed == "" {
			pieces[0] = c.scanned(s)
		}
	case asMatching:
		switch r.Status {
		case kv.StatusOK:
			b = resp.AppendArray(b, g.keys.n)
			at := wire.HeaderBytes - len(b)
			copy(s.reply[at:], b)
			pieces[0] = s.reply[at : wire.HeaderBytes+g.keys.bytes]
		case kv.StatusTooLarge:
			failed = fmt.Sprintf("ERR KEYS has more than %d bytes of keys: use SCAN", c.keysMax())
		case kv.StatusBusy:
			failed = "OOM command not allowed: no memory for the keys of KEYS now: use SCAN"
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asRandom:
		if failed = textUnlessOK(r); failed == "" {
			if k, _, _, ok := kv.NextItem(r.Value); ok {
				pieces = [3][]byte{nil, k, crlf}
				b = resp.AppendBulkHead(b, len(k))
			} else {
				b = resp.AppendNull(b, proto)
			}
		}
	case asVerbatim:
		switch r.Status {
		case kv.StatusOK:
			b = resp.AppendVerbatimHead(b, len(r.Value), proto)
			pieces[0] = s.framed(b, wire.HeaderBytes, len(r.Value))
		case kv.StatusTooSmall: // only a list may be so long
			failed = fmt.Sprintf("ERR CLIENT LIST has more than %d bytes of connections: name some by CLIENT LIST ID", int(r.Need)/2-lineMax)
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asSize:
		if failed = textUnlessOK(r); failed == "" {
			pieces[0], failed = summed(s)
		}
	case asFlush:
		if failed = textUnlessOK(r); failed == "" {
			b = append(b, "+OK\r\n"...)
		}
	}
	switch m.form {
	case asKeys, asSize, asVerbatim, asFlush, asMatching, asRandom:
		g.alone = false
	}
	m.tmp = nil
	if failed != "" && g.failed == "" {
		g.failed = failed
	}
	c.sendPart(s, m, b, pieces, failed)
}

// framed puts a head in front of n bytes of the slot's answer, from place at on, and an end of line behind them, and returns it all. There is room for both.
func (s *slot) framed(head []byte, at, n int) []byte {
	from := at - len(head)
	copy(s.reply[from:], head)
	s.reply = append(s.reply[:at+n], crlf...)
	return s.reply[from:]
}

func textUnlessOK(r *kv.Request) string {
	if r.Status == kv.StatusOK {
		return ""
	}
	return resp.StatusText(r.Status, r.Key)
}

// sendPart sends what tellPart has put together: pieces, which lie in the slot's memory, with b as the first if there is only a second, or b alone.
func (c *Server) sendPart(s *slot, m *part, b []byte, pieces [3][]byte, failed string) {
	g := c.guest
	whole := m.begin && m.end
	switch {
	case m.form == asBulk && !whole: // each value of an array may be an error
		if failed != "" {
			b = resp.AppendError(b, failed)
		}
		g.failed = ""
	case !m.end: // a part that says nothing for itself
		c.release(s)
		return
	case g.failed != "":
		b, pieces = resp.AppendError(b[:0], g.failed), [3][]byte{}
		g.failed = ""
	}
	if pieces[1] != nil {
		pieces[0] = append(s.small[replyAt:replyAt:ownBytes], b...)
		c.send(message{piece: pieces, slot: s.Index})
		return
	}
	if pieces[0] != nil {
		b = pieces[0]
	}
	if c.out.add(b) {
		c.h.L.Stats.Copied += uint64(len(b))
		c.release(s)
		return
	}
	c.releaseBlock(s)
	if pieces[0] == nil { // b is on the stack
		c.releaseReply(s)
		pieces[0] = append(s.small[:0], b...)
	}
	c.send(message{piece: pieces, slot: s.Index})
}

// all is the pattern that all keys fit.
var all = []byte("*")

// pageBytes is the room for a page of a walk, and for SCAN's answer, which is made of it in place: with the head, a block of 64 KiB.
func pageBytes(l kv.Limits) int {
	return min(64<<10, max(l.ScanRoom(), 2*(l.MaxKeyBytes+scanHeadMax))) - wire.HeaderBytes - len(crlf)
}

// scanHeadMax bounds what stands before the keys in SCAN's answer.
const scanHeadMax = 64

// scanned makes the answer to a SCAN of the page that its request has brought, in the same memory: the keys that fit go to its end, and from there one
// by one into the answer at its beginning. That does not overtake them: a key of 10 bytes and more takes 1 to 3 bytes more in the answer than in
// the page, where it takes 16 at least.
func (c *Server) scanned(s *slot) []byte {
	r := &s.req
	rest, n := c.h.fitting(s.block[s.key:], r.Value, s.reply)
	cursor := uint64(0)
	if next, ok := kv.PositionIn(r.Key).Next(r.Need, c.h.Handler.Shards()); ok {
		cursor = c.h.cursors.Of(next)
	}
	b := appendKeys(resp.AppendScan(s.reply[:0], cursor, n), rest)
	c.h.L.Stats.Copied += uint64(len(b))
	return b
}

// fitting leaves n keys of a page, those that fit a pattern, and moves them to the end of room, in which the page lies.
func (h *Host) fitting(pattern, page, room []byte) (rest []byte, n int) {
	match, fit := &h.pattern, page[:0]
	match.Compile(pattern)
	for rest := page; ; {
		k, _, after, ok := kv.NextItem(rest)
		if !ok {
			break
		}
		if bytes.Equal(pattern, all) || match.Match(k) {
			fit = append(fit, rest[:len(rest)-len(after)]...)
			n++
		}
		rest = after
	}
	rest = room[len(room)-len(fit):]
	copy(rest, fit)
	h.L.Stats.Copied += uint64(2 * len(fit))
	return rest, n
}

// appendKeys appends a page's keys to an answer.
func appendKeys(b, page []byte) []byte {
	for {
		k, _, after, ok := kv.NextItem(page)
		if !ok {
			return b
		}
		b = resp.AppendBulk(b, k)
		page = after
	}
}

// keys is a KEYS under way. The keys that were found lie in its slot's answer as they will be sent, behind the room of a header, in which the head of the
// array comes to lie; the pages of the walk are put behind them. When the answer's block has no room for a page, it gets one of twice the size. It never waits
// for that while it has one: two that did could wait for each other.
type keys struct {
	n     int
	bytes int
}

// keysMax bounds the keys of a KEYS, as they are sent: a block of the size of the largest command has room for a page behind them.
func (c *Server) keysMax() int { return c.commandMax() - 64<<10 - wire.HeaderBytes }

// roomForPage is the largest page whose keys fit into n bytes of an answer: see scanned.
func roomForPage(n int) int { return min(n, 64<<10) * 16 / 17 }

// keysOf begins a KEYS, when the peer has taken all answers before it: its memory is then all that the connection owes.
func (c *Server) keysOf(pattern []byte) bool {
	if len(pattern) > resp.PatternMax {
		return c.cannot(resp.ErrPattern)
	}
	if c.account.Owed() > 0 {
		c.wait()
		return false
	}
	c.guest.keys = keys{}
	var at [kv.PositionBytes]byte
	kv.PositionAt(0, kv.MarkFirst).Put(at[:])
	return c.aside(asMatching, kv.OpKeys, at[:], resp.CountMax, pattern)
}

// collect keeps what a page of KEYS's walk has, and goes on with the next one.
func (c *Server) collect(s *slot) {
	g, r := c.guest, &s.req
	var next kv.Position
	more := false
	if r.Status == kv.StatusOK {
		room := s.reply[wire.HeaderBytes+g.keys.bytes:]
		rest, n := c.h.fitting(s.block[s.key:], r.Value, room)
		b := appendKeys(room[:0], rest)
		c.h.L.Stats.Copied += uint64(len(b))
		g.keys.n += n
		g.keys.bytes += len(b)
		next, more = kv.PositionIn(r.Key).Next(r.Need, c.h.Handler.Shards())
		switch room = room[len(b):]; {
		case g.keys.bytes > c.keysMax():
			r.Status = kv.StatusTooLarge
		case more && len(room) < 2*(c.h.O.Limits.MaxKeyBytes+scanHeadMax) && !c.widen(s):
			r.Status = kv.StatusBusy
		}
	}
	if !more || r.Status != kv.StatusOK {
		c.done(&g.more[s.Index])
		return
	}
	room := s.reply[wire.HeaderBytes+g.keys.bytes:]
	next.Put(s.block)
	r.Value = room[:0:roomForPage(len(room))]
	c.goesOnFrom(s)
}

// goesOnFrom submits the request for the next page of a walk, whose position and room were set.
func (c *Server) goesOnFrom(s *slot) {
	s.req.Status, s.req.Need = 0, 0
	c.begun()
	c.h.Handler.Submit(&s.req)
}

// widen gives KEYS's answer a block of twice the size; false where there is none now.
func (c *Server) widen(s *slot) bool {
	n := min(2*cap(s.reply), c.commandMax())
	b := c.account.Widen(n)
	if b == nil {
		return false
	}
	c.h.L.Stats.Copied += uint64(copy(b, s.reply[:wire.HeaderBytes+c.guest.keys.bytes]))
	c.releaseReply(s)
	s.reply = b[:cap(b)]
	c.account.Owe(&s.Claim, b)
	return true
}

// draw is a RANDOMKEY under way. It takes a partition by chance, each with the same chance, and in it a mark by chance, up to that of the first key of a walk; the key
// that a walk finds below it is the one. Keys are spread over the partitions by their hash, so each has about the same chance as far as that goes; within a
// partition of the store it is a key's in proportion to its length and to what of the memory for keys is free behind it, where keys were deleted; and the first
// key of the walk has the least chance. A partition that has no keys leaves its chance to the next one.
type draw struct {
	left  int // partitions that may have a key
	state drawState
}

type drawState uint8

const (
	drawFirst drawState = iota // the walk's first key is looked for
	drawBelow                  // a key below a mark by chance
	drawAny                    // there was none: the walk's first key is taken
)

// random begins a RANDOMKEY.
func (c *Server) random() bool {
	shards := c.h.Handler.Shards()
	var at [kv.PositionBytes]byte
	kv.PositionAt(int(c.h.random(uint64(shards))), kv.MarkFirst).Put(at[:])
	c.guest.draw = draw{left: shards}
	return c.aside(asRandom, kv.OpKeys, at[:], 1, nil)
}

// pick looks at what a RANDOMKEY has found. It ends: each look but for the first three in a partition leaves a part of it behind, or the partition.
func (c *Server) pick(s *slot) {
	d, r := &c.guest.draw, &s.req
	at, found := kv.PositionIn(r.Key), len(r.Value) > 0
	switch {
	case r.Status != kv.StatusOK, found && d.state != drawFirst:
		c.done(&c.guest.more[s.Index])
		return
	case found:
		d.state = drawBelow
		at = kv.PositionAt(at.Shard(), 1+uint32(c.h.random(uint64(r.Need)+1)))
	case r.Need != kv.MarkEnd: // where there is much without keys
		at = kv.PositionAt(at.Shard(), r.Need)
	case d.state == drawBelow:
		d.state = drawAny
		at = kv.PositionAt(at.Shard(), kv.MarkFirst)
	default:
		if d.left--; d.left == 0 {
			c.done(&c.guest.more[s.Index])
			return
		}
		d.state = drawFirst
		at = kv.PositionAt((at.Shard()+1)%c.h.Handler.Shards(), kv.MarkFirst)
	}
	at.Put(s.block)
	r.Value = r.Value[:0]
	c.goesOnFrom(s)
}

// textBytes is the room that a text of the server's own has at first.
const textBytes = 4<<10 - wire.HeaderBytes - len("\r\n")

// summed is the answer to DBSIZE, from the server's counters.
func summed(slot *slot) (b []byte, failed string) {
	c, err := readBrief(slot.req.Value)
	if err != nil {
		return nil, "ERR kvwire: its counters cannot be read: " + err.Error()
	}
	return resp.AppendInt(slot.small[:0:ownBytes], int64(c.items())), ""
}

// brief is what a kv.StatsBrief has.
type brief struct {
	Stores []struct {
		Items uint64 `json:"items"`
	} `json:"stores"`
	Process struct{ User, Sys time.Duration } `json:"process"`
}

func readBrief(b []byte) (c brief, err error) {
	err = json.Unmarshal(b, &c)
	return c, err
}

func (c *brief) items() (n uint64) {
	for _, of := range c.Stores {
		n += of.Items
	}
	return n
}

// flush deletes what a page of its walk has, and goes on with the next one. Each key is deleted when the walk comes to it, and the walk ends, whatever
// others write meanwhile.
func (c *Server) flush(s *slot) {
	g, q := c.guest, &s.req
	if q.Status != kv.StatusOK {
		c.done(&g.more[s.Index])
		return
	}
	for rest := q.Value; ; {
		k, _, after, ok := kv.NextItem(rest)
		if !ok {
			break
		}
		rest = after
		d := &c.slots[c.free[len(c.free)-1]]
		c.free = c.free[:len(c.free)-1]
		g.more[d.Index] = part{form: asNone}
		d.block, d.reply = nil, nil
		r := &d.req
		r.Op, r.Status, r.If, r.Key, r.Value, r.Stages = kv.OpDelete, 0, kv.Always, k, nil, nil // the keys stay in the page
		g.deletes++
		c.begun()
		c.h.Handler.Submit(r)
	}
	if g.flushing = s; g.deletes == 0 {
		c.flushOn()
	}
}

// deleted is told of a delete of a flush. The first that fails is its last: those that are under way are waited for.
func (c *Server) deleted(d *slot) {
	g := c.guest
	if q := &g.flushing.req; q.Status == kv.StatusOK && d.req.Status != kv.StatusNotFound {
		q.Status = d.req.Status
	}
	c.release(d)
	if g.deletes--; g.deletes == 0 {
		c.flushOn()
	}
}

// flushOn asks for the next page of a flush, of whose page all is deleted, or ends it.
func (c *Server) flushOn() {
	g := c.guest
	s := g.flushing
	g.flushing = nil
	next, ok := kv.PositionIn(s.req.Key).Next(s.req.Need, c.h.Handler.Shards())
	if !ok || s.req.Status != kv.StatusOK {
		c.done(&g.more[s.Index])
		return
	}
	next.Put(s.block)
	c.releaseReply(s)
	s.req.Limit = uint32(c.depth)
	c.submitPart(s)
}
