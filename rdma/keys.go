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

// With the verbs write and write-poll the peer needs a key for our slots. It is the key of a memory window, which is bound to this connection's queue pair and
// valid for no other (docs/adr/0019-per-connection-protection.md). If the device has no windows, it is the region's key, which is valid for
// every queue pair of the loop. A window can be bound only after its queue pair is connected, so the keys are sent through the queue pair:
// each side's first message is its key, sent after the bind has completed. The client's key goes first, because the server may be connected
// before the client is.

// slotsKey is the content of the first message, little-endian: address of the slots u64 | rkey u32.
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

// keyState is the state of our key.
type keyState uint8

const (
	keyUnbound keyState = iota // it grants no access yet
	keyBound                   // it grants access to our slots, and must be sent
	keySent                    // its message is in the send queue
)

// keys holds the keys by which each side may write to the other's slots. If the verb needs no keys, known is true and state is keySent from the start.
type keys struct {
	exposed *verbs.Region       // our slots
	window  *verbs.MemoryWindow // of all our slots; nil: the device has no windows
	state   keyState            // of our key
	own     slotsKey
	peer    slotsKey
	known   bool // the peer's key was received
}

// expose registers the slots for the peer. If the device has windows, this grants no access yet. The queue pair exists already.
func (l *link) expose() (err error) {
	n := l.d.nic
	if l.keys.exposed, err = n.dev.Register(l.mem.arena.Bytes()[:l.mem.staged], n.slotAccess); err == nil && n.slotAccess != verbs.RemoteWrite {
		l.keys.window, err = n.dev.NewMemoryWindow()
	}
	return err
}

// bind posts the bind of the window, after the queue pair was connected.
func (l *link) bind() error {
	if l.keys.state != keyUnbound {
		return nil
	}
	l.keys.own = slotsKey{verbs.Address(l.mem.arena.Bytes()), l.keys.exposed.RKey}
	if l.keys.window == nil {
		l.keys.state = keyBound
		l.Touch()
		return nil
	}
	if err := l.keys.window.Bind(l.pair.qp, l.keys.exposed, l.mem.arena.Bytes()[:l.mem.staged], l.tag<<wrTagShift|uint64(l.out.place())); err != nil {
		return err
	}
	l.keys.own.rkey = l.keys.window.RKey
	l.out.push(sending{copied: true, bind: true})
	return nil
}

// refuseHello sends a refusal instead of the hello that was held back for the window.
func (l *link) refuseHello(why error) {
	if l.served && l.state != linkUp {
		_, _ = unix.Write(l.tcp.fd, (&wire.ServerHello{Version: wire.Version, Code: wire.RefusedBusy, Reason: why.Error()}).Append(nil))
		l.d.l.Stats.Syscalls++
	}
}

// sendKey adds our first message to the batch, if the key is bound and it is our turn.
func (l *link) sendKey() {
	if l.keys.state != keyBound || l.served && !l.keys.known {
		return
	}
	n := l.d.nic
	if n.batch.Full() {
		l.d.post()
	}
	to := l.staging(l.out.place())[:slotsKeyBytes]
	l.keys.own.encode(to)
	op := l.addMessage(nil, 0)
	op.SGE[0], op.SGEs = verbs.Piece(to, l.mem.region.LKey), 1
	op.Flags = verbs.Signaled
	l.out.unsignaled = 0
	l.keys.state = keySent
}

// receiveKey handles the peer's first message.
func (l *link) receiveKey(slot, bytes uint32) error {
	if bytes != slotsKeyBytes {
		return fmt.Errorf("%w: the first message has %d B, and is not the key of the peer's slots", transport.ErrProtocol, bytes)
	}
	l.keys.peer.decode(l.keyRoom())
	l.keys.known = true
	l.Touch()
	return l.post(slot)
}

// keyRoom is the memory for the peer's first message, with the verbs write and write-poll: it lies behind the places for copied messages.
func (l *link) keyRoom() []byte {
	b := l.mem.arena.Bytes()[l.mem.staged+l.in.slots*l.mem.placeBytes:]
	return b[:slotsKeyBytes:slotsKeyBytes]
}

// staging returns the memory to which the message at a place of the send queue is copied.
func (l *link) staging(place uint32) []byte {
	at := l.mem.staged + int(place)*l.mem.placeBytes
	return l.mem.arena.Bytes()[at : at+l.mem.placeBytes : at+l.mem.placeBytes]
}
