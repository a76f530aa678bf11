package udp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/datagram"
	"golang.org/x/sys/unix"
)

const (
	batch       = 64      // packets of one system call
	batchesMax  = 4       // receives of one turn
	bufferBytes = 4 << 20 // of the socket, in each direction, as far as the system grants it
)

// core is the part of datagram.Client and datagram.Server that a socket calls.
type core interface {
	Receive(now int64, from *datagram.Address, b []byte)
	Transmit(now int64, out []datagram.Packet) int
	Release(out []datagram.Packet)
	Tick(now int64)
	NextTick() int64
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
	blocked  bool // the send buffer is full; an event will follow

	received, sent uint64 // bytes

	in      [batch]sys.Datagram
	inIov   [batch]unix.Iovec
	inFrom  [batch]datagram.Address
	out     [batch]datagram.Packet
	outMsg  [batch]sys.Datagram
	outIov  [batch][3]unix.Iovec
	first   int // out[first:n] are packets that the kernel has not taken yet
	n       int
	faults  *faults // nil: none
	failing int     // errors of sendmmsg for the packet first
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
	s := &carrier{l: l, id: id, count: transport.CountersOf(l), core: c, of: of, fd: fd, faults: newFaults(o, l.Name())}
	datagramBytes := o.core().DatagramBytes
	memory := make([]byte, batch*datagramBytes)
	for i := range s.in {
		sys.SetIovec(&s.inIov[i], memory[i*datagramBytes:(i+1)*datagramBytes])
		s.in[i].Hdr.Iov = &s.inIov[i]
		s.in[i].Hdr.SetIovlen(1)
	}
	return s, l.Watch(id, fd, unix.EPOLLIN|unix.EPOLLOUT, 0)
}

// event handles an epoll event.
func (s *carrier) event(events uint32) {
	s.readable = s.readable || events&(unix.EPOLLIN|unix.EPOLLERR) != 0
	if events&unix.EPOLLOUT != 0 {
		s.blocked = false
	}
}

// poll receives, at most batchesMax times. A rest is received in the next turn, so that other members get the loop.
func (s *carrier) poll(now int64) (found int) {
	for range batchesMax {
		if !s.readable {
			break
		}
		for i := range s.in {
			s.in[i].SetAddress(s.inFrom[i][:])
		}
		s.l.Stats.Syscalls++
		s.count.Receives++
		n, err := sys.Recvmmsg(s.fd, s.in[:])
		if err != nil {
			s.readable = !errors.Is(err, unix.EAGAIN) // else the error of a datagram that was sent, which is cleared now
			continue
		}
		for i := range n {
			b := sys.IovecBytes(&s.inIov[i])[:s.in[i].Len]
			s.received += uint64(len(b))
			switch {
			case s.in[i].Hdr.Flags&unix.MSG_TRUNC != 0:
			case s.faults != nil:
				s.faults.receive(now, &s.inFrom[i], b, s.core)
			default:
				s.core.Receive(now, &s.inFrom[i], b)
			}
		}
		found += n
		s.readable = n == batch
	}
	if s.readable {
		s.l.Again()
	}
	return found
}

// flush sends what the core has to send.
func (s *carrier) flush(now int64) {
	for !s.blocked {
		if s.first == s.n {
			s.first, s.n, s.failing = 0, s.core.Transmit(now, s.out[:]), 0
			if s.n == 0 {
				return
			}
			for i := range s.n {
				s.describe(i)
			}
		}
		s.l.Stats.Syscalls++
		s.count.Sends++
		k, err := sys.Sendmmsg(s.fd, s.outMsg[s.first:s.n])
		switch {
		case errors.Is(err, unix.EAGAIN):
			s.blocked = true
			return
		case err != nil: // perhaps the error of an earlier datagram: try once more, and then take this one as lost
			if s.failing++; s.failing < 2 {
				continue
			}
			k = 1
		}
		s.failing = 0
		s.core.Release(s.out[s.first : s.first+k])
		s.first += k
	}
}

// describe makes the message of a packet.
func (s *carrier) describe(i int) {
	p, v, n := &s.out[i], &s.outIov[i], 1
	sys.SetIovec(&v[0], p.Head[:p.HeadBytes])
	for _, b := range p.Body {
		if len(b) > 0 {
			sys.SetIovec(&v[n], b)
			n++
		}
	}
	m := &s.outMsg[i]
	m.SetAddress(p.To[:nameBytes(&p.To)])
	m.Hdr.Iov = &v[0]
	m.Hdr.SetIovlen(n)
	s.sent += uint64(p.Bytes())
}

// drop takes the packets that wait for room in the send buffer as lost: memory that they point to is about to be freed.
func (s *carrier) drop() {
	waiting := s.out[s.first:s.n]
	s.first = s.n
	s.core.Release(waiting)
}

// tick handles the deadlines that have passed, and makes the loop wake up for the next.
func (s *carrier) tick(now int64) {
	if !s.readable { // else an answer may wait in the socket
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
	if s.readable || s.first < s.n {
		return "a socket has packets that were not received or sent"
	}
	return ""
}

// close closes the socket.
func (s *carrier) close() {
	s.l.Unwatch(s.id, s.fd, 0)
	_ = unix.Close(s.fd)
}
