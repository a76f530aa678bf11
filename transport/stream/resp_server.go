package stream

import (
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport/memory"
	"github.com/kvwire/kvwire/wire"
)

// respServer is Redis's protocol (package resp) at the server's end. Each key of a command is one request, in its own slot.
// Commands are answered in the order in which they came: the slots are in a queue, and the oldest slot is answered
// when its request is done. A command stays in the memory in which it was received until all of its requests have begun.
//
// Commands of one connection may depend on each other, and the handler may execute requests in another order than that of
// their submission. So a request waits for earlier requests of the same key, if one of the two changes the key. Keys are
// compared by some bits of their hash.
type respServer struct {
	c         *Server
	session   resp.Session
	finalText string // the last bytes to send before the connection ends
	hint      int    // bytes of the last value read: the guess for the next answer
	stays     bool   // the connection does not move to another loop

	command
	replies
	conflicts
	keys  keysWalk   // KEYS under way
	draw  randomDraw // RANDOMKEY under way
	flush flushWalk  // FLUSHDB under way
}

// command is the command that is being received, or whose requests are being begun.
type command struct {
	cmd       resp.Command
	args      [][]byte // the first argsMax arguments
	ownArgs   [argsMax]resp.Span
	argsBlock []byte     // a block of the pool for cmd.Args, if few has no room for them; nil: few has
	cmdBlock  []byte     // a block of the pool with a command that does not fit into the receive buffer; nil: it fits, as far as its length is known
	spec      *resp.Spec // the command that has begun; nil: none
	previous  *resp.Spec // the command before it
	next      int        // index of the next argument whose request is to begin
	errText   string     // the error text for a command that cannot be executed
}

// replies holds the state of the replies to commands that have begun.
type replies struct {
	queue     fifo.Queue[int] // indexes of slots, in the order of their answers
	parts     []part          // by slot
	slotsUsed uint64          // number of slots used so far
	sum       int64           // sum over the answered parts of a command
	failed    string          // the first error of these parts
}

// conflicts counts the requests under way that others have to wait for.
type conflicts struct {
	readers   [hashes]int16 // by some bits of the key's hash; writers likewise
	writers   [hashes]int16
	exclusive bool // a command has begun that no other command may overtake
}

const hashes = 256

// part is the state of a slot that belongs to its command's reply.
type part struct {
	form    form
	begin   bool // it is the command's first part
	end     bool
	array   int // number of values of the array that begins with this part; 0: no array
	done    bool
	bucket  uint8
	reads   bool // it is counted in readers[bucket]
	writes  bool
	longKey bool   // the command has a key beyond the limit
	tmp     []byte // asText, asEcho: the answer, in the slot's own memory or block

	first, last int64  // asRange: the offsets; asExpiry: the answers if the key exists, and if not
	limit       uint32 // the request's Limit
}

// single makes the part of a command with one request.
func single(f form) part { return part{form: f, begin: true, end: true} }

// form is the form of a request's answer.
type form uint8

const (
	asText     form = iota // tmp
	asEcho                 // tmp, as a bulk string
	asBulk                 // the item
	asOK                   // OK, or null if a condition did not hold
	asCount                // number of keys that existed
	asBytes                // length of the item
	asSum                  // the item's new number
	asLength               // the item's new length
	asOld                  // the item's old value
	asKeys                 // the keys of a page of a walk
	asSize                 // number of items
	asVerbatim             // a text about the server, as a verbatim string
	asMatching             // the keys that match a pattern, from a whole walk
	asRandom               // a random key, or null
	asFlush                // OK, after a walk that deletes all keys
	asSet                  // 1, or 0 if a condition did not hold
	asRange                // a range of the item
	asDeleted              // the value of an item that was deleted
	asType                 // the item's type
	asExpiry               // the item's expiry: items have none
	asNone                 // no answer: a delete of FLUSHDB
)

// respDepth bounds the requests under way of one connection of this protocol. Further commands stay in the receive buffer.
const respDepth = 32

// handshake distributes new connections over the loops (ErrMove), makes the connection ready for commands, and parses those received.
func (rs *respServer) handshake(adopted bool) error {
	c := rs.c
	if !adopted && !rs.stays {
		if c.MoveTo = c.h.nextLoop(); c.MoveTo != c.h.Index {
			c.state = stateMoving
			return ErrMove
		}
	}
	c.depth = min(respDepth, c.h.O.Depth)
	if err := c.allocSlots(c.in.unread()); err != nil {
		c.h.logRefused(c.name, wire.RefusedBusy, err)
		rs.endWith("-ERR max number of clients reached\r\n")
		return nil
	}
	c.state = stateOpen
	c.h.count.Opened++
	c.account.SetOrder(rs)
	rs.queue, rs.parts = fifo.Make[int](len(c.slots)), make([]part, len(c.slots))
	rs.session = resp.Session{Proto: 2, ID: c.number, MaxValueBytes: c.h.O.Limits.MaxValueBytes, Describe: rs.c.describe}
	if c.h.O.Access != nil {
		rs.session.Authenticate = rs.authenticate
	}
	rs.cmd.Args, rs.cmd.Room = rs.ownArgs[:0], rs.roomForArgs
	rs.cmd.Reset()
	c.parse(false)
	return nil
}

// IsNext implements memory.Order.
func (rs *respServer) IsNext(cl *memory.Claim) bool {
	return rs.queue.Len() > 0 && *rs.queue.Front() == cl.Index
}

// Busy implements memory.Order.
func (rs *respServer) Busy() bool { return rs.c.busy > 0 }

// HoldsCommand implements memory.Order.
func (rs *respServer) HoldsCommand() bool { return rs.cmdBlock != nil }

// HoldsArguments implements memory.Order.
func (rs *respServer) HoldsArguments() bool { return rs.argsBlock != nil }

// authenticate checks a name and a secret, for resp.Session.Admit.
func (rs *respServer) authenticate(name, secret []byte) (readOnly, ok bool) {
	c := rs.c
	who := c.h.O.Access.CheckPassword(name, secret)
	if who == nil {
		c.h.logDenied(c.name, errors.New("AUTH with an unknown name or a wrong secret"))
		return false, false
	}
	c.who = who
	return who.ReadOnly, true
}

// nextLoop returns the loop for the next connection of this protocol: all loops in turn, unless the kernel has distributed the connections.
func (h *Host) nextLoop() int {
	if h.Sockets.ReusePort {
		return h.Index
	}
	h.redis.distributed++
	return (h.redis.distributed - 1) % h.Loops
}

// respHost holds what the connections of this protocol share on one loop.
type respHost struct {
	distributed int                 // connections that this loop has distributed over the loops
	cursors     resp.Cursors        // encodes SCAN's cursors, the same way on all loops
	pattern     resp.Pattern        // of the SCAN that is being answered
	scratch     []byte              // buffer for an answer whose length is not known yet
	random      func(uint64) uint64 // returns a random number below its argument
	direct      direct
}

// commandMax bounds a command's length, in bytes: the largest value and 64 KiB, or a sixteenth of the pool if that is more, for many keys and values.
func (rs *respServer) commandMax() int {
	return max(rs.c.h.O.Limits.ScanRoom()+64<<10, rs.c.h.Pool.Largest()/16)
}

// parse begins the requests of all completely received commands.
func (rs *respServer) parse(bool) {
	c := rs.c
	full := c.in.wr == len(c.in.buf)
	for n := 0; c.state == stateOpen && len(c.in.rest) == 0 && !c.account.Paused(); n++ {
		if n >= commandsMax {
			rs.yield()
			break
		}
		if rs.spec == nil {
			if k := rs.executeDirect(); k > 0 {
				n += k - 1
				continue
			}
			b := rs.cmdBlock
			if b == nil {
				b = c.in.unread()
			}
			need, err := rs.cmd.Read(b)
			if errors.Is(err, resp.ErrNoRoom) {
				if c.unauthenticated() { // as in Redis, whose bound is 10
					c.h.logDenied(c.name, fmt.Errorf("a command of more than %d arguments before AUTH", argsMax))
					rs.endWith("-ERR Protocol error: unauthenticated multibulk length\r\n")
					return
				}
				if _, least, _ := rs.cmd.Announced(); least > rs.commandMax() {
					rs.refuseTooLong(least)
					return
				}
				break // roomForArgs has paused it
			}
			if err != nil {
				rs.refuse(wire.RefusedGarbage, err)
				return
			}
			if need < 0 {
				rs.yield()
				break
			}
			if need > 0 {
				if !rs.gather(need) {
					break
				}
				continue
			}
			if len(rs.cmd.Args) == 0 {
				rs.endCommand()
				continue
			}
			if !rs.findCommand() {
				break
			}
		}
		if !rs.beginRequests() {
			break
		}
		rs.endCommand()
	}
	if rs.spec == nil { // else its arguments are in the receive buffer
		if full && len(c.in.rest) == 0 && c.in.partial() && !c.account.Paused() {
			c.enlargeBuffer()
		}
		c.in.compact()
	}
	if c.in.partial() {
		c.h.watch()
	}
}

// gather collects the need bytes of a command in a block of the pool. false: some were not received yet, or there is no memory now.
func (rs *respServer) gather(need int) bool {
	c := rs.c
	if rs.cmdBlock == nil && need <= len(c.in.buf) {
		return false
	}
	if c.unauthenticated() { // as in Redis, whose bound is 16 KiB
		c.h.logDenied(c.name, fmt.Errorf("a command of %d B before AUTH", need))
		rs.endWith("-ERR Protocol error: unauthenticated bulk length\r\n")
		return false
	}
	if need > rs.commandMax() {
		rs.refuseTooLong(need)
		return false
	}
	if cap(rs.cmdBlock) < need {
		_, _, about := rs.cmd.Announced()
		b := c.account.Message(min(max(need, 2*len(rs.cmdBlock), about), rs.commandMax()))
		if b == nil {
			return false
		}
		if rs.cmdBlock == nil {
			rs.cmdBlock = b[:copy(b, c.in.unread())]
			c.in.rd, c.in.wr = 0, 0
		} else {
			n := copy(b, rs.cmdBlock)
			c.account.Replace(rs.cmdBlock)
			rs.cmdBlock = b[:n]
		}
		c.h.L.Stats.Copied += uint64(len(rs.cmdBlock))
	}
	from := len(rs.cmdBlock)
	rs.cmdBlock = rs.cmdBlock[:need]
	copied, whole := c.in.receiveInto(rs.cmdBlock[from:])
	c.h.L.Stats.Copied += uint64(copied)
	return whole
}

// refuseTooLong ends the connection because of a command of need bytes or more.
func (rs *respServer) refuseTooLong(need int) {
	rs.c.h.logRefused(rs.c.name, wire.RefusedTooLarge, fmt.Errorf("a command of %d B, at most %d", need, rs.commandMax()))
	rs.endWith(fmt.Sprintf("-ERR a command of %d bytes or more: at most %d, a sixteenth of the server's --message-memory\r\n", need, rs.commandMax()))
}

// pause stops reading until a slot is released or a request returns.
func (rs *respServer) pause() { rs.c.account.Pause(0) }

// commandsMax bounds the commands parsed at once, so that a pipeline of tiny commands does not delay other connections.
const commandsMax = 256

// yield lets other members of the loop run. Parsing continues in the next turn.
func (rs *respServer) yield() {
	rs.c.account.Yield()
}

// endCommand frees what a command holds.
func (rs *respServer) endCommand() {
	rs.spec = nil
	if rs.cmdBlock != nil {
		rs.c.account.Free(rs.cmdBlock)
		rs.cmdBlock = nil
	} else {
		rs.c.in.consume(rs.cmd.Bytes)
	}
	rs.freeArgs()
	rs.cmd.Reset()
}

// freeArgs frees the block of a command's arguments.
func (rs *respServer) freeArgs() {
	if rs.argsBlock != nil {
		rs.c.account.Free(rs.argsBlock)
		rs.argsBlock = nil
	}
	rs.cmd.Args = rs.ownArgs[:0]
}

// roomForArgs allocates a block for all announced arguments, or for twice the present room if that is more. Without memory it changes nothing, and the account is
// paused. It requires that there is also room for the command itself: else connections that each hold one of the two could wait for each other for ever.
func (rs *respServer) roomForArgs() {
	c := rs.c
	announced, least, about := rs.cmd.Announced()
	if c.unauthenticated() || least > rs.commandMax() {
		return
	}
	n, rest := max(2*cap(rs.cmd.Args), announced)*resp.SpanBytes, 0
	if rs.cmdBlock == nil && about > len(c.in.buf) {
		rest = min(about, rs.commandMax())
	}
	b := c.account.MessageBefore(n, rest)
	if b == nil {
		return
	}
	args := append(arena.In[resp.Span](b), rs.cmd.Args...)
	if rs.argsBlock != nil {
		c.account.Replace(rs.argsBlock)
	}
	rs.argsBlock, rs.cmd.Args = b, args
}

// argsMax is the most arguments of a command whose number of arguments is limited. For other commands, the positions of more arguments are in a block of the pool.
const argsMax = 64

// arg returns an argument of the command that has begun, in the memory in which it was received.
func (rs *respServer) arg(i int) []byte {
	if rs.cmdBlock != nil {
		return rs.cmd.Args[i].Of(rs.cmdBlock)
	}
	return rs.cmd.Args[i].Of(rs.c.in.unread())
}

// findCommand finds the command by its name. false: the connection ends.
func (rs *respServer) findCommand() bool {
	c := rs.c
	n := len(rs.cmd.Args)
	rs.args = rs.args[:0]
	for i := range min(n, argsMax) {
		rs.args = append(rs.args, rs.arg(i))
	}
	spec, text := resp.Find(rs.args[0], n, rs.previous)
	if spec != nil && spec.Last != -1 && n > argsMax {
		spec, text = nil, resp.TooMany
	}
	if spec == nil {
		if text == "" {
			text = resp.Unknown(rs.args)
		}
		if resp.CrossProtocol(rs.args[0]) {
			c.h.logRefused(c.name, wire.RefusedGarbage, "the client speaks HTTP")
			rs.endWith("")
			return false
		}
		spec, rs.errText = resp.Invalid, text
	} else if text := rs.session.Denies(spec); text != "" {
		spec, rs.errText = resp.Invalid, text
	}
	rs.spec, rs.previous, rs.next = spec, spec, 1
	c.h.commands++
	return true
}

// endWith ends the connection in order: requests under way are answered, and text follows.
func (rs *respServer) endWith(text string) {
	rs.c.state = stateShuttingDown
	rs.finalText = text
	rs.sendLast()
}

// sendLast sends the last text as soon as the handler has no request of the connection.
func (rs *respServer) sendLast() {
	c := rs.c
	if c.state != stateShuttingDown || c.busy > 0 {
		return
	}
	c.state = stateRefusing
	c.inSince = c.h.L.AwakeNow()
	if rs.finalText == "" {
		rs.finalText = "\r\n" // not empty: a driver checks for the end only after it has sent something
	}
	c.send(message{piece: [3][]byte{[]byte(rs.finalText)}, slot: -1})
	c.h.watch()
}

// beginRequests begins the requests of a command, as far as there are free slots. false: it has to wait, or the connection ends.
func (rs *respServer) beginRequests() bool {
	a := rs.args
	if rs.exclusive {
		rs.pause()
		return false
	}
	switch rs.spec.Kind {
	case resp.Answer:
		return rs.answer()
	case resp.Quit:
		rs.endCommand()
		rs.endWith("+OK\r\n")
		return false
	case resp.Get:
		if text := resp.ReadGetEx(a[2:]); text != "" {
			return rs.reject(text)
		}
		return rs.begin(kv.OpGet, kv.Always, a[1], nil, single(asBulk))
	case resp.Range:
		p := single(asRange)
		var text string
		if p.first, p.last, text = resp.ReadRange(a[2:]); text != "" {
			return rs.reject(text)
		}
		return rs.begin(kv.OpGet, kv.Always, a[1], nil, p)
	case resp.Type:
		return rs.begin(kv.OpGet, kv.Always, a[1], nil, single(asType))
	case resp.Expiry:
		p := single(asExpiry)
		p.first, p.last = rs.spec.Expiry()
		return rs.begin(kv.OpGet, kv.Always, a[1], nil, p)
	case resp.Expire:
		return rs.reject(rs.spec.NoExpiry())
	case resp.GetDel:
		return rs.begin(kv.OpTake, kv.Always, a[1], nil, single(asDeleted))
	case resp.SetAbsent:
		if len(rs.cmd.Args) > 3 {
			return rs.reject(resp.OneKey)
		}
		return rs.begin(kv.OpPut, kv.IfAbsent, a[1], a[2], single(asSet))
	case resp.Patch:
		p := single(asLength)
		var text string
		if p.limit, text = resp.ReadOffset(a[2], len(a[3]), rs.c.h.O.Limits.MaxValueBytes); text != "" {
			return rs.reject(text)
		}
		if len(a[3]) == 0 { // changes nothing and creates no key
			return rs.begin(kv.OpGet, kv.Always, a[1], nil, single(asBytes))
		}
		return rs.begin(kv.OpPatch, kv.Always, a[1], a[3], p)
	case resp.Strlen:
		return rs.begin(kv.OpGet, kv.Always, a[1], nil, single(asBytes))
	case resp.MultiGet:
		return rs.eachKey(kv.OpGet, asBulk)
	case resp.Exists:
		return rs.eachKey(kv.OpGet, asCount)
	case resp.Delete:
		return rs.eachKey(kv.OpDelete, asCount)
	case resp.Set:
		o, text := resp.ReadSet(a[3:])
		if text != "" {
			return rs.reject(text)
		}
		if o.Get {
			return rs.begin(kv.OpSwap, o.If, a[1], a[2], single(asOld))
		}
		return rs.begin(kv.OpPut, o.If, a[1], a[2], single(asOK))
	case resp.GetSet:
		return rs.begin(kv.OpSwap, kv.Always, a[1], a[2], single(asOld))
	case resp.Append:
		return rs.begin(kv.OpAppend, kv.Always, a[1], a[2], single(asLength))
	case resp.Add:
		var by [8]byte
		if text := rs.spec.Add(a, &by); text != "" {
			return rs.reject(text)
		}
		return rs.begin(kv.OpAdd, kv.Always, a[1], by[:], single(asSum))
	case resp.MultiSet:
		for n := len(rs.cmd.Args); rs.next < n; rs.next += 2 {
			if !rs.begin(kv.OpPut, kv.Always, rs.arg(rs.next), rs.arg(rs.next+1), part{form: asOK, begin: rs.next == 1, end: rs.next+2 == n}) {
				return false
			}
		}
		return true
	case resp.Scan:
		return rs.beginScan()
	case resp.Size:
		return rs.beginExclusive(asSize, kv.OpStats, nil, kv.StatsBrief, nil)
	case resp.Info:
		var numbers [64]byte
		return rs.beginExclusive(asVerbatim, kv.OpStats, resp.ReadInfo(numbers[:0], a[1:]), kv.StatsInfo, nil)
	case resp.Client:
		switch lists, ids, text := rs.session.ReadClient(a); {
		case text != "":
			return rs.reject(text)
		case lists:
			return rs.beginExclusive(asVerbatim, kv.OpStats, ids, kv.StatsClients, nil)
		}
		return rs.answer()
	case resp.Keys:
		return rs.beginKeys(a[1])
	case resp.Random:
		return rs.beginRandom()
	case resp.Flush:
		if text := resp.ReadFlush(a[1:]); text != "" {
			return rs.reject(text)
		}
		var at [kv.PositionBytes]byte
		kv.PositionAt(0, kv.WalkStart).Put(at[:])
		return rs.beginExclusive(asFlush, kv.OpKeys, at[:], uint32(rs.c.depth), nil) // a page has as many keys as there are slots for the deletes
	}
	panic(fmt.Sprintf("stream: command %q of kind %d", rs.spec.Name, rs.spec.Kind))
}

// answer answers a command that needs no partition. Like any other answer it is in the slot's own memory or in a block of the pool until it is sent, so that
// it counts against the peer's share. If there is no memory, the connection waits.
func (rs *respServer) answer() bool {
	c := rs.c
	if len(c.free) == 0 {
		rs.pause()
		return false
	}
	if what, ok := resp.Echoed(rs.spec, rs.args); ok {
		return rs.echo(what)
	}
	b := c.h.redis.scratch[:0]
	switch {
	case rs.spec == resp.Invalid:
		b = resp.AppendError(b, rs.errText)
	case rs.spec.Kind == resp.Scan: // SCAN for a type that no item has
		b = resp.AppendScan(b, 0, 0)
	default: // a command with a long answer has changed nothing, and can be executed again
		b = rs.session.Answer(b, rs.spec, rs.args)
	}
	c.h.redis.scratch = b
	var block []byte
	if len(b) > ownBytes {
		if block = rs.alloc(len(b)); block == nil {
			return false
		}
	}
	s := rs.newSlot(single(asText))
	if s.reply = block; block == nil {
		block = s.small[:len(b)]
	} else {
		c.account.AddUnsent(&s.Claim, block)
	}
	c.h.L.Stats.Copied += uint64(copy(block, b))
	rs.answerWith(s, block)
	return true
}

// echo answers with a part of the command. If the command has a block of its own, that part is not copied.
func (rs *respServer) echo(what []byte) bool {
	c := rs.c
	if len(what) <= smallBytes {
		s := rs.newSlot(single(asText))
		c.h.L.Stats.Copied += uint64(len(what))
		rs.answerWith(s, resp.AppendBulk(s.small[:0], what))
		return true
	}
	if !c.account.MayBegin(nil, len(what)) { // waits until the peer has read some answers
		rs.pause()
		return false
	}
	block, ownBlock := rs.cmdBlock, rs.cmdBlock != nil
	if !ownBlock {
		if block = rs.alloc(len(what)); block == nil {
			return false
		}
		c.h.L.Stats.Copied += uint64(copy(block, what))
		what = block
	}
	s := rs.newSlot(single(asEcho))
	if s.block = block; ownBlock {
		rs.cmdBlock, rs.cmd.Bytes = nil, 0
	}
	c.account.AddUnsent(&s.Claim, block)
	rs.answerWith(s, what)
	return true
}

// answerWith answers with bytes in the slot's memory.
func (rs *respServer) answerWith(s *slot, what []byte) {
	m := &rs.parts[s.Index]
	m.tmp, m.done = what, true
	rs.sendReady()
}

// reject answers a command with an error.
func (rs *respServer) reject(why string) bool {
	rs.spec, rs.errText = resp.Invalid, why
	return rs.answer()
}

// newSlot appends a free slot to the queue. nil: there is none, and the connection waits for one.
func (rs *respServer) newSlot(p part) *slot {
	c := rs.c
	if len(c.free) == 0 {
		rs.pause()
		return nil
	}
	s := &c.slots[c.free[len(c.free)-1]]
	c.free = c.free[:len(c.free)-1]
	rs.slotsUsed++
	rs.parts[s.Index] = p
	s.Nth = rs.slotsUsed
	rs.queue.Push(s.Index)
	s.block, s.reply = nil, nil
	s.room = c.h.O.Limits.ScanRoom()
	r := &s.req
	r.Status, r.If, r.Limit, r.Need, r.Stages = 0, kv.Always, p.limit, 0, nil
	return s
}

// conflict reports whether a request for a key has to wait for an earlier one.
func (rs *respServer) conflict(op kv.Op, key []byte) (bucket uint8, clash bool) {
	bucket = uint8(kv.Hash(key))
	return bucket, rs.writers[bucket] > 0 || op.Changes() && rs.readers[bucket] > 0
}

// countKey counts a request that others may have to wait for. If the handler executes the requests of a key in order, these are only
// the requests that may be submitted twice because their answer has too little room.
func (rs *respServer) countKey(m *part, op kv.Op, bucket uint8) {
	m.bucket = bucket
	switch {
	case op == kv.OpGet:
		m.reads = true
		rs.readers[bucket]++
	case !rs.c.h.O.InOrder || op.Updates() && op != kv.OpAdd:
		m.writes = true
		rs.writers[bucket]++
	}
}

// eachKey begins a request for each of a command's keys.
func (rs *respServer) eachKey(op kv.Op, f form) bool {
	for n := len(rs.cmd.Args); rs.next < n; rs.next++ {
		p := part{form: f, begin: rs.next == 1, end: rs.next == n-1}
		if p.begin && f == asBulk {
			p.array = n - 1
		}
		if !rs.begin(op, kv.Always, rs.arg(rs.next), nil, p) {
			return false
		}
	}
	return true
}

// alloc returns a block of n bytes for received bytes. nil: there is no memory now, and the connection waits.
func (rs *respServer) alloc(n int) []byte {
	b := rs.c.account.Message(n)
	if b == nil {
		return nil
	}
	return b[:n]
}

// begin begins the request for one of a command's keys. value is a put's or an update's. false: the connection has to wait.
func (rs *respServer) begin(op kv.Op, cond kv.If, key, value []byte, p part) bool {
	c := rs.c
	l := rs.c.h.O.Limits
	bucket, clash := rs.conflict(op, key)
	if clash || len(c.free) == 0 {
		rs.pause()
		return false
	}
	if len(key) > l.MaxKeyBytes || len(value) > l.MaxValueBytes {
		p.longKey = len(key) > l.MaxKeyBytes
		s := rs.newSlot(p)
		s.req.Status, s.req.Key, rs.parts[s.Index].done = kv.StatusTooLarge, nil, true
		rs.sendReady()
		return true
	}
	n := len(key) + len(value)
	want := n
	if op == kv.OpAdd {
		want = len(key) + kv.AddBytes
	}
	var block []byte
	ownBlock := want > smallBytes && rs.cmdBlock != nil && rs.spec.Kind == resp.Set && op == kv.OpPut // it is not copied
	if want > smallBytes && !ownBlock {
		if block = rs.alloc(want); block == nil {
			return false
		}
	}
	s := rs.newSlot(p)
	r := &s.req
	r.Op, r.If = op, cond
	s.key = len(key)
	switch {
	case ownBlock:
		s.block = rs.cmdBlock
		r.Key, r.Value = key, value
		rs.cmdBlock, rs.cmd.Bytes = nil, 0
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
	rs.countKey(&rs.parts[s.Index], op, bucket)
	if op == kv.OpGet || op == kv.OpDelete {
		rs.submit(s)
		return true
	}
	s.reply = s.small[replyAt:ownBytes:ownBytes]
	c.countRequest()
	c.h.Handler.Submit(r)
	return true
}

// submit submits a request that has its key, with room for an answer of a guessed length.
func (rs *respServer) submit(s *slot) {
	c := rs.c
	r := &s.req
	r.Key = s.block[:s.key]
	s.reply = s.small[replyAt : ownBytes-2 : ownBytes]
	c.countRequest()
	want := 0
	switch rs.parts[s.Index].form {
	case asBulk, asRange:
		want = min(rs.hint, c.h.O.Limits.MaxValueBytes)
	case asSize:
		want = max(min(64<<10, s.room), smallBytes+1) // the answer is made in the slot's block, which also holds the page
	case asVerbatim:
		want, s.room = textBytes, rs.commandMax()
	case asMatching:
		want = pageBytes(c.h.O.Limits)
		s.room = roomForPage(want)
	case asRandom:
		want = kv.ItemHeaderBytes + c.h.O.Limits.MaxKeyBytes
	case asKeys, asFlush:
		want = pageBytes(c.h.O.Limits)
		s.room = want*16/17 - scanHeadMax // see scanAnswer
	}
	c.submitWithRoom(s, want)
}

// beginExclusive begins a command that waits for all earlier ones, and for which all later ones wait. pattern, for asKeys and asMatching, is stored after key until
// the answer is complete.
func (rs *respServer) beginExclusive(f form, op kv.Op, key []byte, limit uint32, pattern []byte) bool {
	c := rs.c
	if c.busy > 0 || f == asFlush && len(c.free) < len(c.slots) { // a flush needs slots for its deletes
		rs.pause()
		return false
	}
	var block []byte
	n := len(key) + len(pattern)
	if n > smallBytes {
		if block = rs.alloc(n); block == nil {
			return false
		}
	}
	s := rs.newSlot(single(f))
	if s == nil {
		if block != nil {
			c.account.Free(block)
		}
		return false
	}
	rs.exclusive = true
	if block == nil {
		block = s.small[:n]
	}
	s.block, s.key = block, copy(block, key)
	copy(block[s.key:], pattern)
	s.req.Op, s.req.Limit = op, limit
	rs.submit(s)
	return true
}

// complete answers a request, or continues a walk.
func (rs *respServer) complete(s *slot) {
	r := &s.req
	m := &rs.parts[s.Index]
	rs.c.busy--
	if m.reads {
		rs.readers[m.bucket]--
	}
	if m.writes {
		rs.writers[m.bucket]--
	}
	switch m.form {
	case asNone:
		rs.deleted(s)
		return
	case asFlush:
		rs.deletePage(s)
		return
	case asMatching:
		rs.addKeys(s)
		return
	case asRandom:
		rs.pickKey(s)
		return
	}
	if r.Op == kv.OpPut { // its answer may have to wait, and needs no memory
		rs.c.releaseBlock(s)
		r.Value = nil
	}
	rs.done(m)
}

// done marks a request whose answer can be sent, and sends what is ready.
func (rs *respServer) done(m *part) {
	m.done = true
	rs.sendReady()
	rs.c.account.RetryIfPaused()
	rs.sendLast()
}

// drop frees what an ended connection holds for unanswered commands. The handler returns requests under way by itself.
func (rs *respServer) drop() {
	c := rs.c
	for ; rs.queue.Len() > 0; rs.queue.Pop() {
		if i := *rs.queue.Front(); rs.parts[i].done {
			c.release(&c.slots[i])
		}
	}
	if rs.cmdBlock != nil {
		c.account.Free(rs.cmdBlock)
		rs.cmdBlock = nil
	}
	rs.freeArgs()
	rs.spec = nil
	if c.busy == 0 && rs.flush.slot != nil { // its deletes have used the keys in its page
		c.release(rs.flush.slot)
		rs.flush.slot = nil
	}
}

// refuse ends the connection with an error.
func (rs *respServer) refuse(code wire.Code, why error) {
	rs.c.h.logRefused(rs.c.name, code, why)
	rs.endWith("-ERR " + why.Error() + "\r\n")
}

// shutdown ends the connection after the last answer.
func (rs *respServer) shutdown() {
	if c := rs.c; (c.state == stateOpen || c.state == stateHello) && !c.account.Paused() { // if it is paused, complete commands still wait for memory
		rs.endWith("-ERR kvwire is shutting down\r\n")
	}
	rs.sendLast()
}

// client implements protocol.
func (rs *respServer) client() clientInfo {
	l := clientInfo{name: rs.session.Name, user: rs.session.User(), command: "NULL", version: rs.session.Proto}
	if rs.previous != nil {
		l.command = rs.previous.Name
	}
	return l
}

// receiving reports whether memory is held for an incomplete command. Such connections may wait for each other's memory.
func (rs *respServer) receiving() bool {
	return rs.spec == nil && (rs.cmdBlock != nil || rs.argsBlock != nil)
}

// handed has nothing to count.
func (rs *respServer) handed(*slot) {}

// allocAnswer allocates the memory for an answer of r.Need bytes and an end of line; for an update, the memory of its value.
func (rs *respServer) allocAnswer(s *slot) bool {
	if s.req.Op.Updates() {
		return rs.enlarge(s)
	}
	b := rs.c.account.Answer(&s.Claim, wire.HeaderBytes+int(s.req.Need)+len(crlf))
	if b == nil {
		return false
	}
	s.reply = b[:cap(b)-len(crlf)]
	return true
}

// retries reports whether a request that had too little room shall be submitted again.
func (rs *respServer) retries(s *slot) bool {
	switch rs.parts[s.Index].form {
	case asCount, asBytes, asType, asExpiry:
		return false
	case asVerbatim:
		return int(s.req.Need) <= rs.commandMax()
	}
	return s.req.Op.Updates() || int(s.req.Need) <= rs.c.answerMax(s)
}

// enlarge moves an update's value to a block with the room that it needs; false: there is no memory now.
func (rs *respServer) enlarge(s *slot) bool {
	c := rs.c
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
