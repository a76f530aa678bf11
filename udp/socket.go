package udp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/datagram"
	"golang.org/x/sys/unix"
)

const (
	batch       = 64      // packets of one system call; with segments: packets to send, and messages to receive
	segmentsMax = 65507   // most bytes of a message of several packets
	segmentsIn  = 16      // messages of one receive that may have several packets each
	smallMax    = 256     // packets of at most so many bytes are copied together: the kernel takes one piece of memory in less time than a piece for each slice
	bufferBytes = 4 << 20 // of the socket, in each direction, as far as the system grants it

	// A turn handles a quarter of the packets that were received at once. So the peer has something to do while this side handles the rest, and neither sleeps.
	// A turn with fewer than shareMin costs more than its packets; with more than shareMax other members of the loop wait too long.
	sharesOf = 4
	shareMin = 16
	shareMax = 256
)

// core is the part of datagram.Client and datagram.Server that a socket calls.
type core interface {
	Receive(now int64, from *datagram.Address, b []byte)
	Transmit(now int64, out []datagram.Packet) int
	Release(out []datagram.Packet)
	Tick(now int64)
	NextTick() int64
}

// message is a received message: a packet, or several of one sender and one size, but for the last, which may be shorter.
type message struct {
	from   datagram.Address
	b      []byte // what was not passed to the core
	size   int
	buffer int // in a ring
}

// carrier moves the packets of a core through one socket. It belongs to its loop.
type carrier struct {
	l     *loop.Loop
	id    loop.MemberID
	count *transport.Counters // of its loop
	core  core
	of    *datagram.Counters // of the core
	was   datagram.Counters  // what of them is in count
	fd    int

	readable bool // the socket may have packets for which no event will come
	blocked  bool // the send buffer is full; an event will follow (see block)

	received, sent uint64 // bytes

	segments bool    // several packets of one size, to one address, are sent as one message
	faults   *faults // nil: none

	ring *ringSocket // nil: the engine epoll

	// Receiving.
	got    fifo.Queue[message] // messages whose packets were not all passed to the core
	fresh  int                 // packets of messages that came since share was computed
	share  int                 // most packets of a turn
	in     [batch]sys.Datagram
	inIov  [batch]unix.Iovec
	inFrom [batch]datagram.Address
	inRoom [batch]sys.SegmentRoom

	// Sending: out[packet:packets] are packets that the kernel has not taken yet, and outMsg[first:n] their messages.
	out      [batch]datagram.Packet
	packet   int
	packets  int
	outMsg   [batch]sys.Datagram
	outIov   [batch * 3]unix.Iovec
	outRoom  [batch]sys.SegmentRoom
	outSmall [batch * smallMax]byte
	outOf    [batch]int // packets of each message
	first    int
	n        int
	failing  int // errors of sendmmsg for the message first
}

// nameBytes returns the length of a socket address.
func nameBytes(a *datagram.Address) int {
	if binary.NativeEndian.Uint16(a[:]) == unix.AF_INET6 {
		return unix.SizeofSockaddrInet6
	}
	return unix.SizeofSockaddrInet4
}

// addressOf converts an address to its form in the kernel. An IPv4 address has the form of IPv6 for a socket of that family.
func addressOf(ap netip.AddrPort, family uint16) (a datagram.Address) {
	binary.NativeEndian.PutUint16(a[:], family)
	binary.BigEndian.PutUint16(a[2:], ap.Port())
	if family == unix.AF_INET {
		ip := ap.Addr().Unmap().As4()
		copy(a[4:], ip[:])
		return a
	}
	ip := ap.Addr().As16()
	copy(a[8:], ip[:])
	return a
}

// addrPort is the inverse of addressOf.
func addrPort(a *datagram.Address) netip.AddrPort {
	port := binary.BigEndian.Uint16(a[2:])
	if binary.NativeEndian.Uint16(a[:]) == unix.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[8:24])).Unmap(), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), port)
}

// withPort returns the address with another port.
func withPort(a datagram.Address, port uint16) datagram.Address {
	binary.BigEndian.PutUint16(a[2:], port)
	return a
}

// bind makes a socket that is bound to addr, host:port, on the network udp, udp4 or udp6. The caller owns the descriptor.
func bind(network, addr string) (fd int, bound netip.AddrPort, err error) {
	var lc net.ListenConfig
	c, err := lc.ListenPacket(context.Background(), network, addr)
	if err != nil {
		return -1, bound, fmt.Errorf("listen on %s: %w (is the port free, and the address one of this machine?)", addr, err)
	}
	defer c.Close()
	u := c.(*net.UDPConn)
	bound = u.LocalAddr().(*net.UDPAddr).AddrPort()
	rc, err := u.SyscallConn()
	if err != nil {
		return -1, bound, err
	}
	var dupErr error
	if err := rc.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, bound, err
	}
	if dupErr != nil {
		return -1, bound, fmt.Errorf("duplicate a socket: %w (raise ulimit -n)", dupErr)
	}
	for _, o := range [...][2]int{{unix.SO_RCVBUF, unix.SO_RCVBUFFORCE}, {unix.SO_SNDBUF, unix.SO_SNDBUFFORCE}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[1], bufferBytes) != nil { // only root may exceed the system's limit
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], bufferBytes)
		}
	}
	return fd, bound, nil
}

// newCarrier puts a socket onto a loop. It owns the descriptor, unless it returns an error. of are the core's counters.
func newCarrier(l *loop.Loop, id loop.MemberID, fd int, c core, of *datagram.Counters, o *Options) (*carrier, error) {
	s := &carrier{l: l, id: id, count: transport.CountersOf(l), core: c, of: of, fd: fd, share: shareMin, got: fifo.Make[message](batch), faults: newFaults(o, l.Name())}
	room := o.datagramBytes()
	if o.Segments && sys.AskSegments(fd) {
		s.segments, room = true, segmentsMax
	}
	if o.Engine == Uring {
		if err := s.openRing(room); err != nil {
			return nil, err
		}
		l.Again() // the first receive
		return s, nil
	}
	memory := make([]byte, batch*room)
	for i := range s.in {
		sys.SetIovec(&s.inIov[i], memory[i*room:(i+1)*room])
		s.in[i].Hdr.Iov = &s.inIov[i]
		s.in[i].Hdr.SetIovlen(1)
	}
	return s, l.Watch(id, fd, unix.EPOLLIN, 0)
}

// event handles an event or a completion, and reports whether a datagram that was sent may have had an error.
func (s *carrier) event(tag uint64, res int32, flags uint32) (failed bool) {
	if s.ring != nil {
		return s.completed(tag, res, flags)
	}
	events := uint32(res)
	s.readable = s.readable || events&(unix.EPOLLIN|unix.EPOLLERR) != 0
	if events&unix.EPOLLOUT != 0 && s.blocked {
		s.blocked = false
		_ = s.l.ChangeWatch(s.id, s.fd, unix.EPOLLIN, 0) // else only further wake-ups follow
	}
	return events&unix.EPOLLERR != 0
}

// block waits for room in the send buffer. Nothing else asks for EPOLLOUT: a socket of UDP reports it for each packet that the receiver has taken.
func (s *carrier) block() {
	if s.l.ChangeWatch(s.id, s.fd, unix.EPOLLIN|unix.EPOLLOUT, 0) != nil {
		s.l.Again() // it tries again in the next turn
		return
	}
	s.blocked = true
}

// poll receives, and passes packets to the core: no more than share, so that other members get the loop, and what these packets have caused is sent
// before the rest of them is handled. The rest follows in the next turn.
func (s *carrier) poll(now int64) (found int) {
	for s.got.Len() > 0 || s.receive() {
		if s.fresh > 0 {
			s.share, s.fresh = min(max(s.fresh/sharesOf, shareMin), shareMax), 0
		}
		if found >= s.share {
			break
		}
		found += s.pass(now, s.share-found)
	}
	if s.unread() {
		s.l.Again()
	}
	return found
}

// unread reports whether there are packets for which no event will come.
func (s *carrier) unread() bool { return s.readable || s.got.Len() > 0 }

// receive receives messages by a system call, and reports whether there are any.
func (s *carrier) receive() bool {
	if !s.readable {
		return false
	}
	in := s.in[:]
	if s.segments {
		in = s.in[:segmentsIn]
	}
	for i := range in {
		s.in[i].SetAddress(s.inFrom[i][:])
		s.in[i].SetSegmentRoom(&s.inRoom[i])
	}
	s.l.Stats.Syscalls++
	s.count.Receives++
	n, err := sys.Recvmmsg(s.fd, in)
	if err != nil {
		s.readable = !errors.Is(err, unix.EAGAIN) // else the error of a datagram that was sent, which is cleared now
		return false
	}
	s.readable = n == len(in)
	for i := range in[:n] {
		m := &in[i]
		s.arrived(message{from: s.inFrom[i], b: sys.IovecBytes(&s.inIov[i])[:m.Len], size: m.Segment()}, int(m.Hdr.Flags))
	}
	return true
}

// arrived takes a message with these flags of recvmsg(2).
func (s *carrier) arrived(m message, flags int) {
	s.received += uint64(len(m.b))
	if flags&unix.MSG_TRUNC != 0 {
		m.b = nil // longer than any datagram of ours; what is empty counts as garbage
	}
	s.fresh += (len(m.b) + m.size - 1) / max(1, m.size)
	s.got.Append(m)
}

// pass passes up to most packets of the first message to the core, and returns how many, 1 at least.
func (s *carrier) pass(now int64, most int) (n int) {
	m := s.got.Front()
	for n == 0 || len(m.b) > 0 && n < most {
		p := m.b[:min(m.size, len(m.b))]
		m.b = m.b[len(p):]
		if s.faults != nil {
			s.faults.receive(now, &m.from, p, s.core)
		} else {
			s.core.Receive(now, &m.from, p)
		}
		n++
	}
	if len(m.b) == 0 {
		if s.ring != nil {
			s.give(m.buffer)
		}
		s.got.Pop()
	}
	return n
}

// flush sends what the core has to send.
func (s *carrier) flush(now int64) {
	if s.ring != nil {
		s.stage(now)
		return
	}
	for !s.blocked {
		if s.packet == s.packets {
			s.packet, s.packets, s.failing = 0, s.core.Transmit(now, s.out[:]), 0
			if s.packets == 0 {
				return
			}
			s.describe()
		}
		s.l.Stats.Syscalls++
		s.count.Sends++
		k, err := sys.Sendmmsg(s.fd, s.outMsg[s.first:s.n])
		switch {
		case errors.Is(err, unix.EAGAIN):
			s.block()
			return
		case s.segments && notSegments(err):
			s.segments = false // packets beyond the path's MTU, which IP fragments one by one, or a device that cannot
			s.describe()
			continue
		case err != nil: // perhaps the error of an earlier datagram: try once more, and then take this one as lost
			if s.failing++; s.failing < 2 {
				continue
			}
			k = 1
		}
		s.failing = 0
		s.taken(k)
	}
}

// taken returns the packets of the next k messages to the core.
func (s *carrier) taken(k int) {
	of := 0
	for _, n := range s.outOf[s.first : s.first+k] {
		of += n
	}
	packets := s.out[s.packet : s.packet+of]
	s.first, s.packet = s.first+k, s.packet+of
	s.release(packets)
}

// release returns packets that the kernel has sent, or that are lost, to the core.
func (s *carrier) release(packets []datagram.Packet) {
	for i := range packets {
		s.sent += uint64(packets[i].Bytes())
	}
	s.core.Release(packets)
}

// notSegments reports whether an error may mean that a message of several packets cannot be sent: they are beyond the path's MTU, or the device cannot split them.
func notSegments(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.EIO)
}

// describe makes the messages of the packets that the kernel has not taken yet.
func (s *carrier) describe() {
	s.first, s.n = 0, 0
	iov, small := s.outIov[:], s.outSmall[:0]
	for i := s.packet; i < s.packets; s.n++ {
		of := s.together(s.out[i:s.packets])
		parts, start := 0, -1 // start: where the last piece begins in small, if it lies there
		for j := range of {
			p := &s.out[i+j]
			if p.Bytes() <= smallMax {
				if start < 0 {
					start = len(small)
					parts++
				}
				small = p.Append(small)
				sys.SetIovec(&iov[parts-1], small[start:])
				continue
			}
			start = -1
			sys.SetIovec(&iov[parts], p.Head[:p.HeadBytes])
			parts++
			for _, b := range p.Body {
				if len(b) > 0 {
					sys.SetIovec(&iov[parts], b)
					parts++
				}
			}
		}
		m, p := &s.outMsg[s.n], &s.out[i]
		m.SetAddress(p.To[:nameBytes(&p.To)])
		m.Hdr.Iov = &iov[0]
		m.Hdr.SetIovlen(parts)
		size := 0
		if of > 1 {
			size = p.Bytes()
		}
		m.SetSegments(&s.outRoom[s.n], size)
		s.outOf[s.n] = of
		iov = iov[parts:]
		i += of
	}
	s.l.Stats.Copied += uint64(len(small))
}

// together returns how many of the first packets are one message: they have one address and one size, but for the last one, which may be shorter.
func (s *carrier) together(packets []datagram.Packet) int {
	if !s.segments {
		return 1
	}
	first := &packets[0]
	size := first.Bytes()
	for i, total := 1, size; i < len(packets); i++ {
		p := &packets[i]
		n := p.Bytes()
		if total += n; n > size || total > segmentsMax || p.To != first.To {
			return i
		}
		if n < size {
			return i + 1
		}
	}
	return len(packets)
}

// drop takes the packets that wait for room in the send buffer as lost: memory that they point to is about to be freed.
func (s *carrier) drop() {
	if s.ring != nil {
		s.dropStaged()
	}
	waiting := s.out[s.packet:s.packets]
	s.packet, s.first = s.packets, s.n
	s.core.Release(waiting)
}

// tick handles the deadlines that have passed, and makes the loop wake up for the next.
func (s *carrier) tick(now int64) {
	if s.ring != nil {
		s.rearm()
	}
	if !s.unread() { // else an answer may wait
		s.core.Tick(now)
	}
	s.flush(now)
	s.counted()
	if at := s.core.NextTick(); at != math.MaxInt64 {
		s.l.WakeAtAwake(at)
	}
}

// counted adds what the core has counted to the counters of the loop.
func (s *carrier) counted() {
	c, now, was := s.count, s.of, &s.was
	c.Packets += now.Out - was.Out
	c.Retransmits += now.Retransmits - was.Retransmits
	c.Timeouts += now.Timeouts - was.Timeouts
	c.Stalls += now.Stalls - was.Stalls
	c.RoundTrips += now.RoundTrips - was.RoundTrips
	c.RoundTripNs += now.RoundTripNs - was.RoundTripNs
	c.Duplicates += now.Duplicates - was.Duplicates
	c.Garbage += now.Garbage - was.Garbage
	s.was = *now
}

// busy names work that no connection counts; "": there is none.
func (s *carrier) busy() string {
	if s.unread() || s.packet < s.packets {
		return "a socket has packets that were not received or sent"
	}
	return ""
}

// close closes the socket; false: the kernel still uses it, and close must be called again in the next turn.
func (s *carrier) close() bool {
	if s.ring != nil {
		if !s.closeRing() {
			return false
		}
	} else {
		s.l.Unwatch(s.id, s.fd, 0)
	}
	_ = unix.Close(s.fd)
	return true
}
