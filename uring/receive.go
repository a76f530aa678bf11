package uring

import (
	"errors"

	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// receiving is the state of a socket's receive. There is one entry at a time. It receives once into the side's window, or repeatedly (multishot)
// into the loop's buffers.
type receiving struct {
	armed     bool                   // an entry is in flight
	multishot bool                   // that entry is multishot
	cancelled bool                   // that entry was cancelled
	open      bool                   // the hello is done: the connection stays on this loop
	nonempty  bool                   // the last receive left bytes behind
	body      int                    // bytes of a body that the entry in flight receives; 0: its length is not known
	singles   int                    // number of next receives that are not multishot, because bodies come or no buffer was free
	held      fifo.Queue[heldBuffer] // received buffers that wait for the side, which has paused; most sockets never have any
	endErr    error                  // the error that ends the socket after held is delivered
	eof       bool                   // the peer has shut its sending half; answers are still to be sent

	msg     unix.Msghdr
	iov     [2]unix.Iovec
	stamps  bool // the kernel reports when it received
	control [sys.StampBytes]byte
}

// errFinished means that the peer has shut its sending half in order.
var errFinished = errors.New("uring: the peer has shut its sending half")

// singlesAfterBody is the number of receives without a body after which a socket's receives are multishot again, because ending a multishot receive costs an entry.
const singlesAfterBody = 16

// heldBuffer is a provided buffer with received bytes from off to end.
type heldBuffer struct{ id, off, end int }

// Stamp implements stream.Driver. A receive in flight has no stamp; a multishot receive is ended.
func (s *socket) Stamp() {
	s.in.stamps = sys.AskStamps(s.fd)
	s.d.l.Stats.Syscalls++
}

// receive adds the entry that receives the next bytes; false: the ring is full.
func (s *socket) receive() bool {
	in, d := &s.in, s.d
	if in.armed && !in.multishot || in.eof {
		return true
	}
	w := &d.window
	k := s.side.RecvBuffers(w)
	body := k == 2 && len(w[0]) >= d.o.BodyBytes
	if in.armed {
		if k == 0 || body || in.stamps {
			return s.cancel()
		}
		return true
	}
	if k == 0 || in.held.Len() > 0 {
		return true // paused: Touch is called when reading may continue
	}
	e := d.l.SocketSQE(d.id, kindRecv<<kindShift|s.tag)
	if e == nil {
		return false
	}
	in.armed, in.cancelled, in.body = true, false, 0
	d.count.Receives++
	if body {
		in.singles = singlesAfterBody
	} else if in.singles > 0 {
		in.singles--
	}
	in.multishot = d.bufs != nil && in.open && in.singles == 0 && !in.stamps
	if in.multishot {
		e.RecvMultishot(s.fd, d.bufs.Group(), d.o.Bundle)
		s.useFile(e)
		return true
	}
	flags := 0
	if k == 2 {
		in.body = len(w[0])
	}
	if body {
		if d.o.Large != Once {
			w[0] = w[0][:min(len(w[0]), stream.GatherBytes)] // so that the side often gets bytes and does not mistake the peer for stalled
		}
		if in.body = len(w[0]); d.o.waits() {
			flags, k = unix.MSG_WAITALL, 1
		} else if in.body == stream.GatherBytes {
			k = 1
		}
	}
	if k == 1 && !in.stamps {
		e.Recv(s.fd, w[0], flags)
	} else {
		in.msg = unix.Msghdr{Iov: &in.iov[0]}
		for i := range w[:k] {
			sys.SetIovec(&in.iov[i], w[i])
		}
		in.msg.SetIovlen(k)
		if in.stamps {
			in.msg.Control = &in.control[0]
			in.msg.SetControllen(len(in.control))
		}
		e.Recvmsg(s.fd, &in.msg, flags)
	}
	s.useFile(e)
	if !in.nonempty {
		e.IoPrio = ring.PollFirst // there are no bytes now
	}
	return true
}

// cancel adds the entry that ends a multishot receive; false: the ring is full.
func (s *socket) cancel() bool {
	if s.in.cancelled {
		return true
	}
	e := s.d.l.SocketSQE(s.d.id, kindCancel<<kindShift|s.tag)
	if e == nil {
		return false
	}
	e.Cancel(loop.UserData(s.d.id, kindRecv<<kindShift|s.tag))
	s.in.cancelled = true
	return true
}

// received handles the completion of a receive.
func (s *socket) received(res int32, flags uint32) {
	in, d := &s.in, s.d
	if flags&ring.CQEFMore == 0 {
		in.armed = false
	}
	if in.nonempty = flags&ring.CQEFSockNonempty != 0; in.multishot {
		s.receivedMultishot(res, flags)
		return
	}
	switch {
	case s.closing, retryable(res):
	case res < 0:
		s.onEnd(s, peerError(res))
	case res == 0:
		s.peerFinished()
	default:
		stamp := int64(0)
		if in.stamps && in.msg.Control != nil {
			if wall := sys.Stamp(&in.msg); wall != 0 {
				stamp = loop.FromWall(wall)
			}
		}
		if int(res) < in.body {
			d.count.Shorts++
			if c, ok := s.side.(truncationMarker); ok && d.o.Large == Once {
				c.MarkReceiveTruncated()
			}
		}
		if err := s.side.Received(int(res), stamp); err != nil {
			s.onEnd(s, err)
		}
	}
}

// receivedMultishot handles a completion of a multishot receive. It names the first of the buffers with the received bytes.
func (s *socket) receivedMultishot(res int32, flags uint32) {
	in, d := &s.in, s.d
	if flags&ring.CQEFBuffer != 0 {
		id := ring.BufferOf(flags)
		for left := int(res); ; {
			n := min(left, d.o.BufferBytes)
			left -= n
			next := d.bufs.Next(id) // before id is given back
			s.deliver(heldBuffer{id: id, end: n})
			if left <= 0 {
				break
			}
			id = next
		}
		if res > 0 {
			return
		}
	}
	var end error
	switch {
	case res == -int32(unix.ENOBUFS):
		d.count.NoBuffers++
		in.singles = 2 // the next one receives in place
		return
	case retryable(res), res == -int32(unix.ECANCELED):
		return
	case res < 0:
		end = peerError(res)
	default:
		end = errFinished
	}
	switch {
	case s.closing:
	case in.held.Len() > 0:
		in.endErr = end
	case res == 0:
		s.peerFinished()
	default:
		s.onEnd(s, end)
	}
}

// peerFinished ends the socket, unless answers are still to be sent to the peer.
func (s *socket) peerFinished() {
	if s.in.eof = s.side.PeerFinished(); !s.in.eof {
		s.onEnd(s, transport.ErrPeerGone)
	}
}

// deliver passes the bytes of a buffer to the side, or keeps the buffer while the side has paused.
func (s *socket) deliver(b heldBuffer) {
	if s.closing {
		s.returnBuffer(b.id)
		return
	}
	if s.in.held.Len() == 0 && s.copyOut(&b) {
		return
	}
	s.in.held.Append(b)
}

// copyOut copies a buffer to the side's window, and reports whether the window had room for all of it.
func (s *socket) copyOut(b *heldBuffer) (all bool) {
	d := s.d
	data := d.bufs.Bytes(b.id, b.end)
	for b.off < b.end && !s.closing {
		k := s.side.RecvBuffers(&d.window)
		if k == 0 {
			return false
		}
		n := copy(d.window[0], data[b.off:])
		if k == 2 {
			n += copy(d.window[1], data[b.off+n:])
		}
		b.off += n
		d.l.Stats.Copied += uint64(n)
		if err := s.side.Received(n, 0); err != nil {
			s.onEnd(s, err)
			break
		}
	}
	s.returnBuffer(b.id)
	return true
}

// resume delivers held buffers; false: the socket ends.
func (s *socket) resume() bool {
	h := &s.in.held
	for h.Len() > 0 && s.copyOut(h.Front()) {
		if h.Pop(); s.closing {
			return false
		}
	}
	if h.Len() == 0 && s.in.endErr != nil {
		if errors.Is(s.in.endErr, errFinished) {
			s.in.endErr = nil
			s.peerFinished()
			return s.in.eof
		}
		s.onEnd(s, s.in.endErr)
		return false
	}
	return true
}

func (s *socket) returnBuffer(id int) {
	s.d.bufs.Give(id)
	s.d.returned = true
}

// discard returns the held buffers to the ring.
func (s *socket) discard() {
	for h := &s.in.held; h.Len() > 0; h.Pop() {
		s.returnBuffer(h.Front().id)
	}
}
