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
