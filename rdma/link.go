//go:build rdma && cgo && linux

package rdma

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// link is one end of a connection: a queue pair, the slots that it receives into, and the TCP connection
// that carried the hello and stays as a sign of life. It belongs to its member's loop.
//
// Flow control is by credits. Each message takes one of the receiver's slots, and carries, as immediate data, how
// many slots the sender of it has posted in all so far: so each side knows how many messages it may
// send. The last credit is kept for a message without bytes, which brings nothing but that count.
type link struct {
	d      *driver
	tag    uint64
	fd     int // the TCP connection
	side   stream.MessageSide
	ended  func(l *link, err error) // the side asked for the end, or the connection failed
	served bool                     // it is the server's end
	up     bool                     // hellos are done: messages go through the queue pair
	listed bool                     // in d.touched
	halved bool                     // our sending half of fd is shut
	closed bool

	qp     *verbs.QP
	mem    *arena.Arena  // slots, then the places that messages are copied to
	region *verbs.Region // of it what this side's work requests point to
	cm     *verbs.CMConn // what connected it, if that was rdma_cm
	choice device.Choice
	port   verbs.Port
	mine   params // what our hello says

	// Receiving. A writer puts message number i, of those with bytes, into slot i modulo their number.
	slots, slotBytes int
	arrived          fifo.Queue[arrival] // messages that the side has not taken whole
	arrivals         uint32              // of those with bytes, in all
	taking           bool                // the side has begun with the oldest of arrived
	spare            []uint32            // slots that are free and not posted yet
	posted           uint32              // receives in all
	told             uint32              // the count that the peer knows

	// With the verb write: where the peer writes, and what opens it; see keys.go.
	exposed *verbs.Region // the slots
	window  *verbs.Window // on all of them; nil: the device has none
	ours    keyState
	key     slotsKey // for our slots
	theirs  slotsKey // for the peer's
	known   bool     // theirs has come; or the verb needs none

	// Sending.
	peer    params
	most    int    // bytes of a message that we send
	allowed uint32 // messages in all, by the peer's last count
	sent    uint32 // messages in all
	written uint32 // of them those with bytes, with the verb write: which slot is next
	sq      []sending
	sqHead  uint32 // the oldest whose end is not known
	sqTold  uint32 // the oldest that side.Sent has not counted
	sqTail  uint32
	silent  int     // work requests since the last one that makes a completion
	reader  *reader // of a client with the verb read; else nil
	staged  int     // where in mem the places begin that messages are copied to
	sqBytes int     // of each of them
	owes    bool    // the peer asked for a sign of life

	// Of a client's end: see alive.go.
	stallMax int64 // ns; 0: it waits as long as it takes
	heardAt  int64 // when a message last came
	askedAt  int64 // when a sign of life was asked for, and none came since; 0: it was not
	ask      bool  // one is to be asked for
	reserved int   // places in the completion queue
}

type arrival struct{ slot, bytes uint32 }

// sending is a work request in the send queue.
type sending struct {
	bytes  uint32
	copied bool // when it was posted: the side's memory is free
	read   int  // the reader's slot + 1 of a READ; 0: a message
	bind   bool // of the window: no message
}

// WR ids: the link's tag, whether it is a receive, and the place in the queue.
const (
	wrIndexBits = 15
	wrRecv      = 1 << wrIndexBits
	wrTagShift  = wrIndexBits + 1
)

// Touch is stream.Driver's.
func (l *link) Touch() {
	if !l.closed {
		l.d.touched.Add(l.d.l, l, &l.listed)
	}
}

// Stamp is stream.Driver's. What a queue pair receives no kernel sees: until it is taken from the completion queue it is with
// the fabric.
func (l *link) Stamp() {}

// open makes the queue pair with its memory, and posts the receives. staging is the room in bytes that each message
// has to be copied to.
func (l *link) open(c device.Choice, depth, staging int) (err error) {
	d, n := l.d, l.d.nic
	defer func() {
		if err != nil {
			l.destroy()
		}
	}()
	if l.port, err = n.dev.Port(c.Port); err != nil {
		return err
	}
	if !l.port.Active {
		return fmt.Errorf("rdma: port %d of %s is down (ip link set %s up; see kvwire doctor)", c.Port, c.Device, c.Netdev)
	}
	l.choice = c
	l.slots, l.slotBytes, l.sqBytes = slotsFor(depth), d.o.SlotBytes, staging
	l.sq = make([]sending, l.slots)
	l.arrived = fifo.Make[arrival](l.slots)
	l.spare = make([]uint32, 0, l.slots/4)
	if err = n.reserve(2 * l.slots); err != nil {
		return err
	}
	l.reserved = 2 * l.slots
	if n.shared == nil { // which has slots of its own
		l.staged = l.slots * l.slotBytes
	}
	room, own := l.staged+l.slots*l.sqBytes, 0
	if d.o.Verb == Write {
		room, own = room+slotsKeyBytes, l.staged // the peer's slots are not our work requests'
	} else {
		l.ours, l.known = keyTold, true
	}
	if l.mem, err = arena.New(room); err != nil {
		return err
	}
	if d.o.HugePages {
		_ = l.mem.Huge() // what the kernel has of them
	}
	if l.region, err = n.dev.Register(l.mem.Bytes()[own:], verbs.Local); err != nil {
		return err
	}
	q := verbs.QPOptions{Access: l.offers(), SendWRs: l.slots, RecvWRs: l.slots, Inline: max(d.o.InlineBytes, 0), Port: c.Port, PKeyIndex: c.PKeyIndex}
	if n.shared != nil {
		q.SRQ = n.shared.srq
	}
	if l.qp, err = n.dev.NewQP(n.cq, q); err == nil && d.o.Verb == Write {
		err = l.expose()
	}
	if err != nil {
		return err
	}
	if n.shared != nil {
		l.posted = uint32(l.slots)
		err = n.shared.join(l, n.batch)
	} else {
		for i := 0; i < l.slots && err == nil; i++ {
			err = l.post(uint32(i))
		}
	}
	if err != nil {
		return err
	}
	if err = n.batch.PostRecvs(); err != nil {
		return err
	}
	l.told = l.posted
	l.mine = params{verb: d.o.Verb, mtu: min(l.port.MTU, d.o.MTU), responds: min(readsMax, n.dev.Limits.RdAtomic), initiates: min(readsMax, cmp.Or(n.dev.Limits.InitRdAtomic, n.dev.Limits.RdAtomic)), qp: l.qp.Num, psn: rand.Uint32() & (1<<24 - 1),
		lid: l.port.LID, slots: l.slots, gid: c.GID, slotBytes: l.slotBytes, connect: d.o.Connect}
	return nil
}

// readsMax bounds the READs in flight of a queue pair, where the device can do more.
const readsMax = 16

// offers is what the peer may do through the queue pair: write messages, or read the server's tables, and with the verb send nothing.
func (l *link) offers() verbs.Access {
	switch {
	case l.d.o.Verb == Write:
		return verbs.RemoteWrite
	case l.d.o.Verb == Read && l.served:
		return verbs.RemoteRead
	}
	return verbs.Local
}

// connect takes the queue pair to the peer's.
func (l *link) connect(peer params) error {
	if peer.verb != l.mine.verb {
		return &transport.Refusal{Code: refusedVerb, Reason: fmt.Sprintf("one side uses the verb %v, the other %v: give both the same --rdma-verb", l.mine.verb, peer.verb)}
	}
	if peer.connect != l.mine.connect {
		return &transport.Refusal{Code: refusedVerb, Reason: fmt.Sprintf("one side connects queue pairs by %v, the other by %v: give both the same --rdma-connect", l.mine.connect, peer.connect)}
	}
	if l.peer, l.most = peer, peer.slotBytes; !l.served {
		l.most = min(l.most, l.sqBytes) // frames are copied to places of that size
	}
	l.allowed = uint32(peer.slots)
	if l.mine.connect == ByCM {
		return nil // rdma_cm does the rest
	}
	gid := l.choice.GIDIndex
	if l.port.InfiniBand && peer.lid != 0 {
		gid = -1
	}
	p := l.path(&peer)
	p.QP, p.PSN, p.GID, p.LID, p.GIDIndex, p.Port, p.MyPSN = peer.qp, peer.psn, peer.gid, peer.lid, gid, l.choice.Port, l.mine.psn
	return l.qp.Connect(p)
}

// path is what both ends can, and what was asked for: all that rdma_cm needs to know beside what it finds out.
func (l *link) path(peer *params) verbs.Peer {
	p := verbs.Peer{MTU: min(peer.mtu, l.mine.mtu), Shared: l.d.o.SRQ, TrafficClass: uint8(l.d.o.TrafficClass), ServiceLevel: uint8(l.d.o.ServiceLevel)}
	p.Initiates, p.Responds = l.mine.reads(peer)
	return p
}

func (l *link) slot(i uint32) []byte {
	if s := l.d.nic.shared; s != nil {
		return s.slot(i)
	}
	at := int(i) * l.slotBytes
	return l.mem.Bytes()[at : at+l.slotBytes : at+l.slotBytes]
}

// post gives a slot to the device again, with others: a quarter of all at a time.
func (l *link) post(slot uint32) error {
	if s := l.d.nic.shared; s != nil {
		l.posted++
		return s.post(slot, l.d.nic.batch)
	}
	if l.spare = append(l.spare, slot); len(l.spare) < l.slots/4 {
		return nil
	}
	return l.postSpare()
}

func (l *link) postSpare() error {
	for _, slot := range l.spare {
		var b []byte
		switch {
		case l.d.o.Verb != Write:
			b = l.slot(slot)
		case l.posted == 0:
			b = l.keyRoom()
		}
		if err := l.d.nic.batch.Recv(l.qp, nil, l.tag<<wrTagShift|wrRecv|uint64(slot), b, l.region.LKey); err != nil {
			return err
		}
		l.posted++
	}
	l.spare = l.spare[:0]
	return nil
}

// received takes the completion of a receive.
func (l *link) received(c *verbs.Completion) error {
	before := l.allowed
	// The count is the peer's word: it never goes back, and is at most what its slots allow.
	if more := int32(c.Imm - l.allowed); more < 0 || int(int32(c.Imm-l.sent)) > l.peer.slots {
		l.giveBack(c)
		return fmt.Errorf("%w: it has posted %d receives, after %d", transport.ErrProtocol, c.Imm, l.allowed)
	} else if more > 0 {
		l.allowed = c.Imm
		l.Touch()
	}
	l.heardAt, l.askedAt, l.ask = l.d.l.Awake(), 0, false
	if l.served && c.Bytes == 0 && int(c.Imm-before) < l.peer.slots/2 {
		l.owes = true // its news alone are not worth a message
		l.Touch()
	}
	slot := uint32(c.WR) & (wrRecv - 1)
	if !l.known {
		return l.takeKey(slot, c.Bytes)
	}
	if c.Bytes == 0 {
		// Its place is free at once, also when messages before it wait for memory; and the peer's last credit may
		// have been this one, so that it can tell us nothing until it knows.
		if err := l.post(slot); err != nil {
			return err
		}
		if err := l.postSpare(); err != nil {
			return err
		}
		l.Touch()
		return nil
	}
	if l.arrived.Len() == l.arrived.Room() || int(c.Bytes) > l.slotBytes {
		l.giveBack(c)
		return fmt.Errorf("%w: a message of %d B, %d of %d slots are full", transport.ErrProtocol, c.Bytes, l.arrived.Len(), l.slots)
	}
	if l.d.o.Verb == Write {
		slot = l.arrivals % uint32(l.slots) // where the writer put it; which receive it took does not matter
	}
	l.arrived.Push(arrival{slot, c.Bytes})
	l.arrivals++
	return l.take()
}

// giveBack posts the slot of a message that ends the connection, where it is not the connection's own.
func (l *link) giveBack(c *verbs.Completion) {
	if s := l.d.nic.shared; s != nil {
		_ = s.post(slotOf(c), l.d.nic.batch)
	}
}

// take gives messages to the side, as far as it has memory for them.
func (l *link) take() error {
	for l.arrived.Len() > 0 {
		a := *l.arrived.Front()
		if !l.taking {
			l.taking = true
			if err := l.side.Take(l.slot(a.slot)[:a.bytes]); err != nil {
				return err
			}
		}
		if l.side.Unread() > 0 {
			return nil // paused: Touch comes when there is memory
		}
		l.taking = false
		l.arrived.Pop()
		if err := l.post(a.slot); err != nil {
			return err
		}
		l.Touch()
	}
	return nil
}

// credits are the messages that may be sent now, the last one of them without bytes.
func (l *link) credits() int {
	return min(int(int32(l.allowed-l.sent)), len(l.sq)-int(l.sqTail-l.sqHead))
}

// stage puts what there is to send into the batch.
func (l *link) stage() {
	if l.tellKey(); l.ours != keyTold {
		return
	}
	var last *verbs.Op
	n := l.d.nic
	if l.reader != nil {
		last = l.reader.stage(last)
	}
	for l.known && l.credits() > 1 {
		if n.batch.Full() {
			l.announce(last)
			last = nil
			l.d.post()
		}
		k, bytes := l.side.Next(l.d.iov[:], l.most)
		if k == 0 {
			break
		}
		last = l.put(l.d.iov[:k], bytes)
	}
	if l.credits() > 0 && (l.ask || l.owes || int(l.posted-l.told) >= l.slots/2) && !n.batch.Full() {
		last = l.put(nil, 0)
		l.ask = false
	}
	l.announce(last)
}

// put makes a work request of bytes that lie in v.
func (l *link) put(v []unix.Iovec, bytes int) *verbs.Op {
	n, place := l.d.nic, l.sqTail%uint32(len(l.sq))
	op := n.batch.Next(l.qp)
	l.d.owners = append(l.d.owners, l)
	op.WR = l.tag<<wrTagShift | uint64(place)
	op.Imm, l.told, l.owes = l.posted, l.posted, false
	l.expect()
	op.Kind, op.Remote, op.RKey, op.Flags, op.SGEs = verbs.OpSend, 0, 0, 0, uint32(len(v))
	if l.d.o.Verb == Write && bytes > 0 { // one without bytes takes a receive and no slot
		op.Kind, op.RKey = verbs.OpWrite, l.theirs.rkey
		op.Remote = l.theirs.addr + uint64(l.written%uint32(l.peer.slots))*uint64(l.peer.slotBytes)
		l.written++
	}
	small := bytes <= min(l.qp.Inline, l.d.o.InlineBytes)
	copied := small
	for i := range v {
		b := sys.IovecBytes(&v[i])
		key, ok := n.lkey(b)
		if !ok {
			copied = true
			to := l.staging(place)[:0]
			for j := range v {
				to = append(to, sys.IovecBytes(&v[j])...) // never grows: staging is as large as the message may be
			}
			l.d.l.Stats.Copied += uint64(len(to))
			op.SGE[0], op.SGEs = verbs.Piece(to, l.region.LKey), 1
			break
		}
		op.SGE[i] = verbs.Piece(b, key)
	}
	if small {
		op.Flags = verbs.Inline
	}
	l.sq[place] = sending{bytes: uint32(bytes), copied: copied || bytes == 0}
	l.sqTail++
	l.sent++
	l.sign(op)
	return op
}

// sign makes every so-many-th work request one that makes a completion.
func (l *link) sign(op *verbs.Op) {
	if l.silent++; l.silent >= min(l.d.o.SignalEvery, len(l.sq)/2) {
		op.Flags |= verbs.Signaled
		l.silent = 0
	}
}

// announce makes the last work request of a batch one that makes a completion, where something waits for it.
func (l *link) announce(last *verbs.Op) {
	if last == nil || l.silent == 0 {
		return
	}
	waits := l.side.Last()
	for i := l.sqTold; i != l.sqTail && !waits; i++ {
		waits = !l.sq[i%uint32(len(l.sq))].copied
	}
	if waits {
		last.Flags |= verbs.Signaled
		l.silent = 0
	}
}

// done takes the completion of the work request at a place, and with it of all before it.
func (l *link) done(place uint32) {
	n := (place-l.sqHead)%uint32(len(l.sq)) + 1
	if n > l.sqTail-l.sqHead {
		return
	}
	for range n {
		s := &l.sq[l.sqHead%uint32(len(l.sq))]
		l.sqHead++
		switch {
		case s.read != 0:
			l.reader.ended(s.read - 1)
		case s.bind:
			l.ours = keyBound
		}
	}
	l.tell()
	l.Touch()
}

// tell counts for the side what it need not keep any more.
func (l *link) tell() {
	bytes := 0
	for l.sqTold != l.sqTail {
		s := &l.sq[l.sqTold%uint32(len(l.sq))]
		if !s.copied && int32(l.sqHead-l.sqTold) <= 0 {
			break
		}
		bytes += int(s.bytes)
		l.sqTold++
	}
	if bytes > 0 {
		l.side.Sent(bytes)
	}
}

// working reports whether messages that came wait for their side, the device has memory of the side's, or READs are in flight.
func (l *link) working() bool {
	return l.arrived.Len() > 0 || l.sqTold != l.sqTail || l.reader != nil && (len(l.reader.free) < len(l.reader.slots) || !l.reader.waiting.Empty())
}

// drained says whether all that was sent has arrived.
func (l *link) drained() bool { return l.sqHead == l.sqTail }

// destroy frees the queue pair and its memory: when it returns the device touches none of it.
func (l *link) destroy() {
	if l.d.nic == nil {
		return // its member has closed, and it was destroyed then
	}
	var errs []error
	if l.window != nil { // nobody's key opens the slots any more
		errs = append(errs, l.window.Close())
	}
	if l.qp != nil {
		if s := l.d.nic.shared; s != nil {
			l.d.drain(l)
			errs = append(errs, s.leave(l, l.d.nic.batch))
		}
		l.d.post() // what the batch holds may be for this queue pair
		errs = append(errs, l.qp.Close())
	}
	if l.cm != nil {
		errs = append(errs, l.cm.Close())
		l.cm = nil
	}
	if l.reader != nil {
		errs = append(errs, l.reader.close())
		l.reader.drop()
		l.reader = nil
	}
	for _, r := range []*verbs.Region{l.exposed, l.region} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		l.d.failed = err
	}
	if l.mem != nil {
		_ = l.mem.Close()
	}
	l.d.nic.reserved -= l.reserved
	l.qp, l.window, l.exposed, l.region, l.mem, l.reserved = nil, nil, nil, nil, nil, 0
}
