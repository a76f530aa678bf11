//go:build rdma && cgo && linux

package rdma

import (
	"encoding/binary"
	"fmt"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// With the verb write the peer needs a key for our slots. It is that of a memory window, which is bound to this connection's queue pair and
// good through no other (docs/adr/0019-per-connection-protection.md); where the device has none it is the region's, which is good
// through every queue pair of the loop. A window is bound when its queue pair is connected, so keys go through the queue pair: each side's
// first message is the key, and goes when the completion of the bind has come. The client's goes first, since the server may be connected
// before the client is.

// slotsKey is what the first message says, little-endian: address of the slots u64 | rkey u32.
type slotsKey struct {
	addr uint64
	rkey uint32
}

const slotsKeyBytes = 12

func (k slotsKey) encode(b []byte) {
	binary.LittleEndian.PutUint64(b, k.addr)
	binary.LittleEndian.PutUint32(b[8:], k.rkey)
}

func (k *slotsKey) decode(b []byte) {
	k.addr, k.rkey = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
}

// keyState is how far our key is.
type keyState uint8

const (
	keyUnbound keyState = iota // it opens nothing yet
	keyBound                   // it opens our slots, and is to be told
	keyTold                    // its message is in the send queue; or the verb needs none
)

// expose registers the slots for the peer, in a way that gives nobody a right yet where the device has windows. The queue pair is made.
func (l *link) expose() (err error) {
	n := l.d.nic
	if l.exposed, err = n.dev.Register(l.mem.Bytes()[:l.staged], n.exposes); err == nil && n.exposes != verbs.RemoteWrite {
		l.window, err = n.dev.NewWindow()
	}
	return err
}

// bind has the window opened, after the queue pair was connected.
func (l *link) bind() error {
	if l.ours != keyUnbound {
		return nil
	}
	l.key = slotsKey{verbs.Address(l.mem.Bytes()), l.exposed.RKey}
	if l.window == nil {
		l.ours = keyBound
		l.Touch()
		return nil
	}
	place := l.sqTail % uint32(len(l.sq))
	if err := l.window.Bind(l.qp, l.exposed, l.mem.Bytes()[:l.staged], l.tag<<wrTagShift|uint64(place)); err != nil {
		return err
	}
	l.key.rkey = l.window.RKey
	l.sq[place] = sending{copied: true, bind: true}
	l.sqTail++
	return nil
}

// refuse says, in place of a hello that was held back for the window, why there is no connection.
func (l *link) refuse(why error) {
	if l.served && !l.up {
		_, _ = unix.Write(l.fd, (&wire.ServerHello{Version: wire.Version, Code: wire.RefusedBusy, Reason: why.Error()}).Append(nil))
		l.d.l.Stats.Syscalls++
	}
}

// tellKey puts our first message into the batch, if it is time.
func (l *link) tellKey() {
	if l.ours != keyBound || l.served && !l.known {
		return
	}
	n := l.d.nic
	if n.batch.Full() {
		l.d.post()
	}
	to := l.staging(l.sqTail % uint32(len(l.sq)))[:slotsKeyBytes]
	l.key.encode(to)
	op := l.put(nil, 0)
	op.SGE[0], op.SGEs = verbs.Piece(to, l.region.LKey), 1
	op.Flags = verbs.Signaled
	l.silent = 0
	l.ours = keyTold
}

// takeKey takes the peer's first message.
func (l *link) takeKey(slot, bytes uint32) error {
	if bytes != slotsKeyBytes {
		return fmt.Errorf("%w: the first message has %d B, and is not the key of the peer's slots", transport.ErrProtocol, bytes)
	}
	l.theirs.decode(l.keyRoom())
	l.known = true
	l.Touch()
	return l.post(slot)
}

// keyRoom is where the peer's first message lands, with the verb write: behind all else.
func (l *link) keyRoom() []byte {
	b := l.mem.Bytes()[l.staged+l.slots*l.sqBytes:]
	return b[:slotsKeyBytes:slotsKeyBytes]
}

// staging is the place that the message at a place of the send queue is copied to.
func (l *link) staging(place uint32) []byte {
	at := l.staged + int(place)*l.sqBytes
	return l.mem.Bytes()[at : at+l.sqBytes : at+l.sqBytes]
}
