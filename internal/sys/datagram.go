package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Datagram is one message of Recvmmsg or Sendmmsg (struct mmsghdr).
type Datagram struct {
	Hdr unix.Msghdr
	Len uint32 // bytes that were received or sent
}

// SetAddress makes the message's address lie in b.
func (d *Datagram) SetAddress(b []byte) {
	d.Hdr.Name = unsafe.SliceData(b)
	d.Hdr.Namelen = uint32(len(b))
}

// SegmentRoom is the control data of a message of several datagrams: one cmsghdr and one number, aligned.
type SegmentRoom [(unix.SizeofCmsghdr + 8) / 8]uint64

// SetSegments makes the message's bytes datagrams of size bytes each, the last one perhaps shorter (UDP_SEGMENT, udp(7)); 0: one datagram.
func (d *Datagram) SetSegments(room *SegmentRoom, size int) {
	if size == 0 {
		d.Hdr.Control, d.Hdr.Controllen = nil, 0
		return
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(room))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Add(unsafe.Pointer(room), unix.SizeofCmsghdr)) = uint16(size)
	d.Hdr.Control = (*byte)(unsafe.Pointer(room))
	d.Hdr.SetControllen(unix.CmsgSpace(2))
}

// AskSegments makes the kernel give several datagrams of one sender as one message (UDP_GRO, udp(7)), and reports whether it will, and whether it splits messages
// that are sent.
func AskSegments(fd int) bool {
	return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, 0) == nil && unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil
}

// SetSegmentRoom prepares the message for a receive of several datagrams.
func (d *Datagram) SetSegmentRoom(room *SegmentRoom) {
	d.Hdr.Control = (*byte)(unsafe.Pointer(room))
	d.Hdr.SetControllen(len(room) * 8)
}

// Segment returns the size of the datagrams of a received message, of which the last one may be shorter: of the only one, if there is one.
func (d *Datagram) Segment() int {
	if d.Hdr.Control != nil {
		if n, ok := SegmentOf(unsafe.Slice(d.Hdr.Control, d.Hdr.Controllen)); ok {
			return n
		}
	}
	return int(d.Len)
}

// SegmentOf returns the size of the datagrams of a received message with this control data; false: it is one datagram.
func SegmentOf(control []byte) (int, bool) {
	if len(control) < unix.CmsgLen(4) {
		return 0, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(control)))
	if h.Level != unix.SOL_UDP || h.Type != unix.UDP_GRO {
		return 0, false
	}
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(h), unix.SizeofCmsghdr))), true
}

// Recvmmsg receives up to len(m) datagrams from a non-blocking socket, and returns how many.
func Recvmmsg(fd int, m []Datagram) (int, error) {
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(m))), uintptr(len(m)), unix.MSG_DONTWAIT, 0, 0)
	return result(n, e)
}

// Sendmmsg sends up to len(m) datagrams to a non-blocking socket, and returns how many. An error is the first one's.
func Sendmmsg(fd int, m []Datagram) (int, error) {
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(m))), uintptr(len(m)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return result(n, e)
}

// Undelivered reads one message of a socket's error queue (IP_RECVERR, ip(7)): the address to which a datagram was sent, in to, and the error. false: the queue is empty.
func Undelivered(fd int, to []byte) (e syscall.Errno, ok bool) {
	var control errorControl
	n, ok := queuedError(fd, to, &control)
	if !ok || n < unix.SizeofCmsghdr+4 {
		return 0, ok
	}
	return syscall.Errno(*(*uint32)(unsafe.Pointer(&control[unix.SizeofCmsghdr]))), true
}
