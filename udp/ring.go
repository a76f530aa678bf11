package udp

import (
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// ringSocket is what the engine uring adds to a carrier: one receive that goes on (multishot), into buffers that the kernel chooses, and an entry for each message that
// is sent.
type ringSocket struct {
	bufs     *ring.Buffers
	n        int         // number of buffers
	shape    unix.Msghdr // the room for addresses and control data in each buffer
	returned bool        // buffers were given back, and the kernel does not see them yet

	entries   int  // in flight, of all kinds
	receiving bool // the receive is in flight
	full      bool // the kernel had no room for a message
	polling   bool // the poll for room is in flight
	closing   bool // no more receives
	cancelled bool // receive and poll are being cancelled

	sends    int          // entries in flight that send
	staged   int          // messages, from carrier.first on, of which sends are those in flight
	dropped  bool         // their packets are lost, and were returned to the core
	results  [batch]int32 // by message
	repeated bool         // messages were sent again because of an error that may be an earlier datagram's
}

// Kinds of entries, in the tag's low byte. A send's message is above.
const (
	tagReceive = iota
	tagSend
	tagPoll
	tagCancel

	tagShift = 8
)

const (
	nameRoom    = 32 // of an address, so that control data is aligned
	controlRoom = len(sys.SegmentRoom{}) * 8
)

// openRing makes the socket one of the loop's ring. room is the length of the longest message.
func (s *carrier) openRing(room int) error {
	r := s.l.Sockets()
	switch {
	case s.l.Sleep() != loop.SleepRing:
		return errors.New("udp: the engine uring needs loops that sleep in their ring")
	case !r.Multishot():
		return errors.New("udp: the engine uring needs Linux 6.0 or later (use the engine epoll)")
	case r.SQPoll():
		return errors.New("udp: the engine uring cannot leave sends to a thread of the kernel (SQPOLL), because their memory must be free when a turn has ended")
	}
	if err := unix.SetNonblock(s.fd, false); err != nil { // else the receive ends when there is nothing
		return fmt.Errorf("udp: make a socket blocking: %w", err)
	}
	q := &ringSocket{n: batch}
	if s.segments {
		q.n = segmentsIn
	}
	q.shape.Namelen = nameRoom
	q.shape.SetControllen(controlRoom)
	var err error
	if q.bufs, err = r.Provide(q.n, (ring.MessageBytes(&q.shape)+room+63)&^63); err != nil {
		return fmt.Errorf("udp: buffers for receives: %w", err)
	}
	s.ring = q
	return nil
}

// completed handles a completion, and reports whether a datagram that was sent may have had an error.
func (s *carrier) completed(tag uint64, res int32, flags uint32) (failed bool) {
	q := s.ring
	over := flags&ring.CQEFMore == 0
	if over {
		q.entries--
	}
	switch tag & (1<<tagShift - 1) {
	case tagReceive:
		q.receiving = q.receiving && !over
		if flags&ring.CQEFBuffer != 0 {
			s.fill(ring.BufferOf(flags), int(res))
			return false
		}
		switch unix.Errno(-res) {
		case unix.ENOBUFS:
			s.count.NoBuffers++
		case unix.ECANCELED:
		default:
			return true
		}
	case tagSend:
		q.results[tag>>tagShift] = res
		if q.sends--; q.sends == 0 {
			s.settle()
		}
		return res < 0 && unix.Errno(-res) != unix.EAGAIN
	case tagPoll:
		q.polling, s.blocked = false, false
	}
	return false
}

// fill takes a message of res bytes in a buffer.
func (s *carrier) fill(id, res int) {
	b := s.ring.bufs.Bytes(id, max(res, 0))
	in, ok := ring.MessageOf(b, &s.ring.shape)
	if !ok || s.ring.closing {
		s.give(id)
		return
	}
	m := message{b: in.Data, size: len(in.Data), buffer: id}
	copy(m.from[:], in.Name)
	if n, ok := sys.SegmentOf(in.Control); ok {
		m.size = n
	}
	s.arrived(m, in.Flags)
}

// give returns a buffer to the kernel.
func (s *carrier) give(id int) {
	s.ring.bufs.Give(id)
	s.ring.returned = true
}

// rearm continues to receive, if there are buffers.
func (s *carrier) rearm() {
	q := s.ring
	if q.returned {
		q.returned = false
		q.bufs.Publish()
	}
	if q.receiving || q.closing || s.got.Len() == q.n {
		return
	}
	e := s.l.SocketSQE(s.id, tagReceive)
	if e == nil {
		s.l.Again()
		return
	}
	e.RecvmsgMultishot(s.fd, &q.shape, q.bufs.Group())
	q.receiving = true
	q.entries++
	s.count.Receives++
}

// stage puts messages onto the ring, all of one Transmit, and the next ones when the kernel has taken these. A send does not wait: so the kernel has sent or refused all of them, and uses none of
// their memory, when the entries of this turn are submitted.
func (s *carrier) stage(now int64) {
	q := s.ring
	if q.sends > 0 || s.blocked {
		return
	}
	if q.full {
		if e := s.l.SocketSQE(s.id, tagPoll); e != nil {
			e.Poll(s.fd, unix.EPOLLOUT)
			q.entries++
			q.full, q.polling, s.blocked = false, true, true
		} else {
			s.l.Again()
		}
		return
	}
	if s.packet == s.packets {
		s.packet, s.packets, q.repeated = 0, s.core.Transmit(now, s.out[:]), false
		if s.packets == 0 {
			return
		}
		s.describe()
	}
	for q.staged = 0; s.first+q.staged < s.n; q.staged++ {
		i := s.first + q.staged
		e := s.l.SocketSQE(s.id, uint64(i)<<tagShift|tagSend)
		if e == nil {
			s.l.Again()
			break
		}
		e.Sendmsg(s.fd, &s.outMsg[i].Hdr, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		q.entries++
		q.sends++
		s.count.Sends++
	}
}

// settle handles the results of all sends of stage: packets that were not sent are sent again, or are lost.
func (s *carrier) settle() {
	q := s.ring
	if q.dropped {
		q.dropped = false
		return
	}
	was, kept, at := q.repeated, 0, s.packet
	for i := s.first; i < s.n; i++ {
		packets := s.out[at : at+s.outOf[i]]
		at += len(packets)
		if i < s.first+q.staged && !s.sendAgain(q.results[i], len(packets), was) {
			s.release(packets)
			continue
		}
		kept += copy(s.out[kept:], packets)
	}
	s.packet, s.packets = 0, kept
	if kept > 0 {
		s.describe()
	}
}

// sendAgain reports whether a message of so many packets must be sent again, after a result. repeated: it was.
func (s *carrier) sendAgain(res int32, packets int, repeated bool) bool {
	e := unix.Errno(-res)
	switch {
	case res >= 0:
		return false
	case e == unix.EAGAIN:
		s.ring.full = true
	case e == unix.EINTR:
	case packets > 1 && notSegments(e):
		s.segments = false
	case repeated:
		return false
	default:
		s.ring.repeated = true
	}
	return true
}

// dropStaged makes sure that the kernel uses no memory of the sends in flight, whose packets are lost.
func (s *carrier) dropStaged() {
	q := s.ring
	if q.sends == 0 {
		return
	}
	q.dropped = true
	if r := s.l.Sockets(); r.Pending() > 0 {
		_ = r.Enter(0, 0) // the loop meets an error again at the end of the turn
	}
	for i := range s.outMsg[s.first:s.n] { // of an entry that the kernel has not accepted
		s.outMsg[s.first+i].Hdr.SetIovlen(0)
	}
}

// closeRing ends what is in flight, and reports whether it has ended.
func (s *carrier) closeRing() bool {
	q := s.ring
	q.closing = true
	if !q.cancelled {
		q.cancelled = true
		for tag, inFlight := range map[uint64]bool{tagReceive: q.receiving, tagPoll: q.polling} {
			if !inFlight {
				continue
			}
			e := s.l.SocketSQE(s.id, tagCancel)
			if e == nil {
				q.cancelled = false
				s.l.Again()
				return false
			}
			e.Cancel(loop.UserData(s.id, tag))
			q.entries++
		}
	}
	if q.entries > 0 {
		return false
	}
	q.bufs.Close()
	return true
}
