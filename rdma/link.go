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
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// link is one end of a connection: a queue pair, the slots for its received messages, and the TCP connection that carried the hello.
// It belongs to its member's loop.
type link struct {
	d      *rdmaEngine
	tag    uint64
	side   stream.MessageSide
	onEnd  func(l stream.ConnIO, err error) // called when the side returns an error, or the connection has failed
	served bool                             // it is the server's end
	listed bool                             // in d.touched
	state  linkState

	tcp     control   // the TCP connection
	pair    pair      // the queue pair, and how it is connected
	mem     memory    // what its work requests point to
	credits credits   // how many messages each side may send
	in      receiving // received messages
	out     sendQueue // posted work requests
	keys    keys      // with the verbs write and write-poll: the keys for the slots of each side
	ring    *ring     // with the verb write-poll: the messages that polling has found; else nil
	alive   liveness  // of a client's end: the check that the server is alive
	reader  *reader   // of a client's end with the verb read; else nil
	resp    *respLink // of a connection with Valkey's protocol; else nil
}

// linkState is the state of a link. It only moves down this list.
type linkState uint8

const (
	linkHello  linkState = iota // hellos, or a refusal, travel by TCP; there may be no queue pair yet
	linkUp                      // messages travel through the queue pair
	linkClosed                  // nothing moves, and the engine has removed it
)

// control is the TCP connection that carried the hello. It stays open: when it ends, the connection ends.
type control struct {
	fd       int
	sendShut bool // our sending half is shut
}

// pair is the queue pair, and the parameters from each side's hello.
type pair struct {
	qp       *verbs.QP
	cm       *verbs.CMConn // the connection of rdma_cm; nil: connected without it
	choice   device.Choice
	port     verbs.Port
	own      params
	peer     params
	reserved int // places reserved in the completion queue
}

// memory is one arena. It holds, in this order: the slots, unless the receive queue is shared; with the verb write-poll, their flags; for each message a
// place to which messages in unregistered memory are copied; with the verbs write and write-poll, the room for the peer's key; and, with write-poll, a
// place for the flag of each message.
type memory struct {
	arena      *arena.Arena
	region     *verbs.Region // the part of the arena that this side's work requests use
	staged     int           // offset of the first place
	placeBytes int           // size of a place
}

// A work request's ID: the link's tag, a bit for a receive, and the place in the queue. Receives of a connection with Valkey's protocol also have wrRESP: with a
// shared receive queue they are the only ones that belong to a link.
const (
	wrIndexBits = 15
	wrRecv      = 1 << wrIndexBits
	wrRESP      = 1 << (wrIndexBits - 1)
	wrTagShift  = wrIndexBits + 1
)

var _ stream.ConnIO = (*link)(nil)

// Touch implements stream.Driver.
func (l *link) Touch() {
	if l.state != linkClosed {
		l.d.touched.Add(l.d.l, l, &l.listed)
	}
}

// Join implements stream.ConnIO.
func (l *link) Join(s stream.Side) {
	l.side = s.(stream.MessageSide)
	l.Touch()
}

// Side implements stream.ConnIO.
func (l *link) Side() stream.Side { return l.side }

// Stamp implements stream.Driver. The kernel does not see what a queue pair receives, so there are no times: a message belongs to the fabric
// until its completion is polled.
func (l *link) Stamp() {}

// usePort makes the port of a choice the link's. A port that is down is an error.
func (l *link) usePort(c device.Choice) (err error) {
	if l.pair.port, err = l.d.nic.dev.Port(c.Port); err != nil {
		return err
	}
	if !l.pair.port.Active {
		return fmt.Errorf("rdma: port %d of %s is down (ip link set %s up; see kvwire doctor)", c.Port, c.Device, c.Netdev)
	}
	l.pair.choice = c
	return nil
}

// open makes the queue pair with its memory, and posts the receives. staging is the size of a place for a copied message,
// in bytes.
func (l *link) open(c device.Choice, depth, staging int) (err error) {
	d, n := l.d, l.d.nic
	defer func() {
		if err != nil {
			l.destroy()
		}
	}()
	if err = l.usePort(c); err != nil {
		return err
	}
	l.in.slots, l.in.slotBytes, l.mem.placeBytes = slotsFor(depth), d.o.SlotBytes, staging
	l.out.wrs = fifo.Make[sending](l.in.slots)
	if d.o.Verb == WritePoll {
		l.ring = &ring{arrived: fifo.Make[arrival](l.in.slots)} // and no room in l.in.arrived: a completion brings no message
	} else {
		l.in.arrived = fifo.Make[arrival](l.in.slots)
	}
	l.in.spare = make([]uint32, 0, l.in.slots/4)
	completions := d.o.Verb.completionsFor(l.in.slots)
	if err = n.reserve(completions); err != nil {
		return err
	}
	l.pair.reserved = completions
	if n.shared == nil { // a shared receive queue has its own slots
		l.mem.staged = l.in.slots * l.in.slotBytes
	}
	if l.ring != nil {
		l.mem.staged += l.in.slots * flagBytes
	}
	room, own := l.mem.staged+l.in.slots*l.mem.placeBytes, 0
	if d.o.Verb.writes() {
		room, own = room+flagsAt+l.in.slots*flagBytes, l.mem.staged // our work requests do not use the slots that the peer writes to
	} else {
		l.keys.state, l.keys.known = keySent, true
	}
	if l.mem.arena, err = arena.NewShared(room); err != nil {
		return err
	}
	if d.o.HugePages {
		_ = l.mem.arena.Huge() // as many huge pages as the kernel has
	}
	if l.mem.region, err = n.dev.Register(l.mem.arena.Bytes()[own:], verbs.Local); err != nil {
		return err
	}
	q := verbs.QPOptions{Access: l.peerAccess(), SendWRs: completions - l.in.slots, RecvWRs: l.in.slots, Inline: max(d.o.InlineBytes, 0), Port: c.Port, PKeyIndex: c.PKeyIndex}
	if n.shared != nil {
		q.SRQ = n.shared.srq
	}
	if l.pair.qp, err = n.dev.NewQP(n.cq, q); err == nil && d.o.Verb.writes() {
		err = l.expose()
	}
	if err != nil {
		return err
	}
	l.out.inlineMax = min(l.pair.qp.Inline, d.o.InlineBytes)
	if n.shared != nil {
		l.credits.posted = uint32(l.in.slots)
		err = n.shared.join(l, n.batch)
	} else {
		for i := 0; i < l.in.slots && err == nil; i++ {
			err = l.post(uint32(i))
		}
	}
	if err != nil {
		return err
	}
	if err = n.batch.PostRecvs(); err != nil {
		return err
	}
	l.credits.advertised = l.credits.posted
	l.pair.own = params{verb: d.o.Verb, mtu: min(l.pair.port.MTU, d.o.MTU), responds: min(readsMax, n.dev.Limits.RdAtomic), initiates: min(readsMax, cmp.Or(n.dev.Limits.InitRdAtomic, n.dev.Limits.RdAtomic)), qp: l.pair.qp.Num, psn: rand.Uint32() & (1<<24 - 1),
		lid: l.pair.port.LID, slots: l.in.slots, gid: c.GID, slotBytes: l.in.slotBytes, connect: d.o.Connect}
	return nil
}

// readsMax bounds the READs in flight of a queue pair, if the device allows more.
const readsMax = 16

// peerAccess returns the peer's rights through the queue pair: to write messages, or to read the server's tables; none with the verb send.
func (l *link) peerAccess() verbs.Access {
	switch {
	case l.d.o.Verb.writes():
		return verbs.RemoteWrite
	case l.d.o.Verb == Read && l.served:
		return verbs.RemoteRead
	}
	return verbs.Local
}

// features returns the features of a connection with this verb. Each packet of a reliable connection has a checksum (ICRC), and a completion means that all bytes of a
// message are there, so headers need no checksum of their own. With write-poll there is no such completion: there the checksum detects a header of which only a part is visible.
func (v Verb) features() uint32 {
	if v == WritePoll {
		return 0
	}
	return wire.FeatureNoChecksum
}

// connect connects the queue pair to the peer's.
func (l *link) connect(peer params) error {
	if peer.verb != l.pair.own.verb {
		return &transport.Refusal{Code: refusedVerb, Reason: fmt.Sprintf("one side uses the verb %v, the other %v: give both the same --rdma-verb", l.pair.own.verb, peer.verb)}
	}
	if peer.connect != l.pair.own.connect {
		return &transport.Refusal{Code: refusedVerb, Reason: fmt.Sprintf("one side connects queue pairs by %v, the other by %v: give both the same --rdma-connect", l.pair.own.connect, peer.connect)}
	}
	if l.pair.peer, l.out.maxBytes = peer, peer.slotBytes; !l.served {
		l.out.maxBytes = min(l.out.maxBytes, l.mem.placeBytes) // frames are copied to places of this size
	}
	if l.credits.allowed = uint32(peer.slots); l.ring != nil {
		l.ring.count = l.credits.allowed
	}
	if l.pair.own.connect == ByCM {
		return nil // rdma_cm does the rest
	}
	gid := l.pair.choice.GIDIndex
	if l.pair.port.InfiniBand && peer.lid != 0 {
		gid = -1
	}
	p := l.path(&peer)
	p.QP, p.PSN, p.GID, p.LID, p.GIDIndex, p.Port, p.MyPSN = peer.qp, peer.psn, peer.gid, peer.lid, gid, l.pair.choice.Port, l.pair.own.psn
	return l.pair.qp.Connect(p)
}

// path returns the parameters of the connection that both ends support and the options allow. rdma_cm finds all others by itself.
func (l *link) path(peer *params) verbs.Peer {
	p := verbs.Peer{MTU: min(peer.mtu, l.pair.own.mtu), Shared: l.d.o.SRQ, TrafficClass: uint8(l.d.o.TrafficClass), ServiceLevel: uint8(l.d.o.ServiceLevel)}
	p.Initiates, p.Responds = l.pair.own.reads(peer)
	return p
}

// working reports whether received messages wait for the side, the device uses memory of the side, or READs are in flight.
func (l *link) working() bool {
	return l.in.arrived.Len() > 0 || l.out.uncounted() || l.reader != nil && l.reader.busy() || l.ring != nil && l.ring.arrived.Len() > 0 || l.resp != nil && l.resp.conn.Busy()
}

// drained reports whether all that was sent has arrived.
func (l *link) drained() bool { return l.out.wrs.Len() == 0 }

// abandon frees a link whose dial has failed. A second call does nothing.
func (l *link) abandon() {
	if l.state == linkClosed {
		return
	}
	l.state = linkClosed
	l.d.links.Drop(l.tag)
	l.destroy()
}

// destroy frees the queue pair and its memory. When it returns, the device uses none of it.
func (l *link) destroy() {
	if l.d.nic == nil {
		return // it was destroyed when its member closed
	}
	var errs []error
	if l.keys.window != nil { // from here on no key grants access to the slots
		errs = append(errs, l.keys.window.Close())
	}
	if l.pair.qp != nil {
		if s := l.d.nic.shared; s != nil && l.resp == nil {
			l.d.drain(l)
			errs = append(errs, s.leave(l, l.d.nic.batch))
		}
		l.d.post() // the batch may hold work requests of this queue pair
		errs = append(errs, l.pair.qp.Close())
	}
	if l.pair.cm != nil {
		errs = append(errs, l.pair.cm.Close())
		l.pair.cm = nil
	}
	if l.reader != nil {
		errs = append(errs, l.reader.close())
		l.reader.drop()
		l.reader = nil
	}
	for _, r := range []*verbs.Region{l.keys.exposed, l.mem.region} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		l.d.failed = err
	}
	if l.mem.arena != nil && !errors.Is(err, unix.EBUSY) { // else the device may still write to it
		_ = l.mem.arena.Close()
	}
	l.d.nic.reserved -= l.pair.reserved
	l.pair.qp, l.keys.window, l.keys.exposed, l.mem.region, l.mem.arena, l.pair.reserved = nil, nil, nil, nil, nil, 0
}
