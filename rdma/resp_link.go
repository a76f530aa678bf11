//go:build rdma && cgo && linux

package rdma

import (
	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/rdma/valkey"
	"github.com/kvwire/kvwire/transport"
)

// respLink is the part of a link that carries RESP by Valkey's protocol, which package valkey has. Such a link has no TCP connection, hello, slots or credits. Its
// arena begins with the transfer buffer, into which the peer writes with the key of a memory window, as with the verb write (keys).
type respLink struct {
	l           *link
	conn        *valkey.Conn
	established bool   // rdma_cm has connected both sides
	onClosed    func() // called when the connection of rdma_cm is closed; may be nil
}

var _ valkey.QueuePair = (*respLink)(nil)

// openRESP makes the queue pair with its memory, and posts the receives. stallMax is in ns.
func (l *link) openRESP(c device.Choice, side valkey.Side, stallMax int64) (err error) {
	d, n := l.d, l.d.nic
	defer func() {
		if err != nil {
			l.destroy()
		}
	}()
	if err = l.usePort(c); err != nil {
		return err
	}
	o := valkey.Sizes
	o.Server, o.StallMax, o.Copied = l.served, stallMax, &d.l.Stats.Copied
	if err = n.reserve(respEntries); err != nil {
		return err
	}
	l.pair.reserved = respEntries
	if l.mem.arena, err = arena.New(o.MemoryBytes()); err != nil {
		return err
	}
	if d.o.HugePages {
		_ = l.mem.arena.Huge() // as many huge pages as the kernel has
	}
	l.mem.staged = o.TransferBytes
	if l.mem.region, err = n.dev.Register(l.mem.arena.Bytes()[l.mem.staged:], verbs.Local); err != nil {
		return err
	}
	if l.pair.qp, err = n.dev.NewQP(n.cq, verbs.QPOptions{Access: verbs.RemoteWrite, SendWRs: o.Sends + 1, RecvWRs: o.Receives,
		Inline: max(d.o.InlineBytes, 0), Port: c.Port, PKeyIndex: c.PKeyIndex}); err != nil {
		return err
	}
	if err = l.expose(); err != nil {
		return err
	}
	l.out.wrs = fifo.Make[sending](1) // the bind of the window
	r := &respLink{l: l}
	if r.conn, err = valkey.New(o, r, l.mem.arena.Bytes(), side); err != nil {
		return err
	}
	l.resp = r
	return n.batch.PostRecvs()
}

// respPath returns the parameters for connecting the queue pair. The peer's writes are not bounded by credits, so messages wait for receives.
func (l *link) respPath() verbs.Peer {
	return verbs.Peer{MTU: min(l.pair.port.MTU, l.d.o.MTU), Initiates: 1, Responds: 1, TrafficClass: uint8(l.d.o.TrafficClass), ServiceLevel: uint8(l.d.o.ServiceLevel), WaitForReceives: true}
}

// openIfReady begins to send, when both sides are connected and the key of the transfer buffer is valid.
func (r *respLink) openIfReady() {
	if l := r.l; r.established && l.keys.state == keyBound {
		l.keys.state = keySent
		r.conn.Open(l.keys.own.addr, l.keys.own.rkey, l.d.l.AwakeNow())
		l.Touch()
	}
}

// PostReceive implements valkey.QueuePair.
func (r *respLink) PostReceive(place int, b []byte) error {
	l := r.l
	batch, mixed := l.d.nic.batch, l.d.nic.shared != nil // a batch has receives of the shared queue, or of others
	if mixed {
		if err := batch.PostRecvs(); err != nil {
			return err
		}
	}
	err := batch.Recv(l.pair.qp, nil, l.tag<<wrTagShift|wrRecv|wrRESP|uint64(place), b, l.mem.region.LKey)
	if err == nil && mixed {
		err = batch.PostRecvs()
	}
	return err
}

// PostSend implements valkey.QueuePair.
func (r *respLink) PostSend(place int, b []byte, signaled bool) {
	r.post(place, b, signaled).Kind = verbs.OpPlain
}

// PostWrite implements valkey.QueuePair.
func (r *respLink) PostWrite(place int, b []byte, addr uint64, key, imm uint32, signaled bool) {
	op := r.post(place, b, signaled)
	op.Kind, op.Remote, op.RKey, op.Imm = verbs.OpWrite, addr, key, imm // in network order on the wire
}

// post adds a work request to the batch. The caller sets its kind.
func (r *respLink) post(place int, b []byte, signaled bool) *verbs.Op {
	l := r.l
	n := l.d.nic
	if n.batch.Full() {
		l.d.post()
	}
	op := n.batch.Next(l.pair.qp)
	l.d.owners = append(l.d.owners, l)
	op.WR, op.Remote, op.RKey, op.Imm, op.Flags = l.tag<<wrTagShift|uint64(place), 0, 0, 0, 0
	op.SGE[0], op.SGEs = verbs.Piece(b, l.mem.region.LKey), 1
	if len(b) <= min(l.pair.qp.Inline, l.d.o.InlineBytes) {
		op.Flags |= verbs.Inline
	}
	if signaled {
		op.Flags |= verbs.Signaled
	}
	return op
}

// completed handles the completion of a work request.
func (r *respLink) completed(c *verbs.Completion) error {
	l := r.l
	l.Touch()
	place := int(c.WR) & (wrRESP - 1)
	switch {
	case c.WR&wrRecv != 0:
		if err := r.conn.Received(place, c.Bytes, c.Recv == 2, c.Imm); err != nil {
			return err
		}
		return r.conn.Deliver()
	case l.keys.state == keyUnbound: // the bind; nothing is sent before
		l.sendCompleted(0)
		r.openIfReady()
	default:
		r.conn.SendDone(place)
	}
	return nil
}

// stage adds the messages to send to the batch.
func (r *respLink) stage() {
	l := r.l
	if err := r.conn.Deliver(); err != nil {
		l.onEnd(l, err)
		return
	}
	r.openIfReady() // without memory windows there is no bind
	r.conn.Stage(l.d.l.AwakeNow())
}

// endIfFinished ends the connection when the side has finished and the peer's device has all bytes.
func (r *respLink) endIfFinished() {
	if l := r.l; l.side.Finished() && r.conn.Drained() {
		l.onEnd(l, transport.ErrClosed)
	}
}

// readCM handles the events of a client's connection of rdma_cm.
func (r *respLink) readCM() {
	l := r.l
	l.d.l.Stats.Syscalls++
	if l.pair.cm.Ended() {
		r.peerEnded()
	}
}

// peerEnded ends the connection after the peer did. What it sent before has arrived.
func (r *respLink) peerEnded() {
	l := r.l
	l.d.Poll()
	if l.state != linkClosed {
		l.onEnd(l, l.d.endReason(l, transport.ErrPeerGone))
	}
}

// closed is called when the queue pair and the connection of rdma_cm are destroyed. It returns the reason for the side.
func (r *respLink) closed(err error) error {
	if r.onClosed != nil {
		r.onClosed()
	}
	return r.conn.Explain(err)
}
