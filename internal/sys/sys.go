// Package sys has the raw system calls that golang.org/x/sys does not have, or only with an allocation or a call of
// the scheduler each time, and the memory of a process. It imports nothing of ours.
package sys

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// EPOLLET is edge-triggering; x/sys has it as a negative int on some platforms.
const EPOLLET = 1 << 31

// EpollEvent makes an event whose 64 bits of data are tag.
func EpollEvent(events uint32, tag uint64) unix.EpollEvent {
	return unix.EpollEvent{Events: events, Fd: int32(uint32(tag)), Pad: int32(uint32(tag >> 32))}
}

// EpollTag reads the 64 bits of data back.
func EpollTag(e *unix.EpollEvent) uint64 {
	return uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32
}

var noPwait2 atomic.Bool // set once, by the first call that fails with ENOSYS: a kernel before 5.11

// EpollWait waits for events with a timeout in ns: 0 only checks, below 0 waits without limit. A wait of 0
// cannot block, so it does not enter the scheduler; the others do.
func EpollWait(epfd int, events []unix.EpollEvent, timeoutNs int64) (int, error) {
	p := uintptr(unsafe.Pointer(unsafe.SliceData(events)))
	if timeoutNs == 0 {
		n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), p, uintptr(len(events)), 0, 0, 0)
		return result(n, e)
	}
	if timeoutNs < 0 {
		n, _, e := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), ^uintptr(0), 0, 0)
		return result(n, e)
	}
	if !noPwait2.Load() {
		ts := unix.NsecToTimespec(timeoutNs)
		n, _, e := syscall.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
		if e != unix.ENOSYS && e != unix.EPERM {
			return result(n, e)
		}
		noPwait2.Store(true)
	}
	ms := (timeoutNs + int64(time.Millisecond) - 1) / int64(time.Millisecond)
	n, _, e := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0)
	return result(n, e)
}

// Sleep makes the thread sleep for so many ns, or until a signal arrives. It does not enter the scheduler: the goroutine keeps its P.
func Sleep(ns int64) {
	ts := unix.NsecToTimespec(ns)
	_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

func result(n uintptr, e syscall.Errno) (int, error) {
	if e != 0 {
		return 0, errno(e)
	}
	return int(n), nil
}

// errno boxes the common errors once: an error made of a fresh Errno would allocate.
func errno(e syscall.Errno) error {
	switch e {
	case unix.EAGAIN:
		return errEAGAIN
	case unix.EINTR:
		return errEINTR
	}
	return e
}

var (
	errEAGAIN error = unix.EAGAIN
	errEINTR  error = unix.EINTR
)

// Recv reads once from a non-blocking socket. 0 without an error is the end of the stream.
func Recv(fd int, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return result(n, e)
}

// Send writes b once to a non-blocking socket. flags are as Sendmsg's.
func Send(fd int, b []byte, flags uintptr) (int, error) {
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL|flags, 0, 0)
	return result(n, e)
}

// Recvmsg reads once from a non-blocking socket into what m describes.
func Recvmsg(fd int, m *unix.Msghdr) (int, error) {
	n, _, e := syscall.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), unix.MSG_DONTWAIT)
	return result(n, e)
}

// Sendmsg writes once to a non-blocking socket what m describes, as one gathered write. flags are MSG_MORE, MSG_ZEROCOPY.
func Sendmsg(fd int, m *unix.Msghdr, flags uintptr) (int, error) {
	n, _, e := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL|flags)
	return result(n, e)
}

// Sent reads one message of a non-blocking socket's error queue. free: it is the notification that memory sent with MSG_ZEROCOPY
// is free again (Documentation/networking/msg_zerocopy.rst). copied: the kernel has copied it nevertheless.
func Sent(fd int) (free, copied bool) {
	var control errorControl
	n, ok := queuedError(fd, nil, &control)
	const origin = unix.SizeofCmsghdr + 4 // behind ee_errno
	const code = origin + 2
	free = ok && n > code && control[origin] == unix.SO_EE_ORIGIN_ZEROCOPY
	return free, free && control[code] == unix.SO_EE_CODE_ZEROCOPY_COPIED
}

// errorControl is control data of an error queue's message: a sock_extended_err of 16 bytes, and the address of its cause.
type errorControl [unix.SizeofCmsghdr + 64]byte

// queuedError reads one message of a non-blocking socket's error queue: the address to which it was sent, in to, and its control data, of n bytes. false: the queue is empty.
func queuedError(fd int, to []byte, control *errorControl) (n int, ok bool) {
	m := unix.Msghdr{Name: unsafe.SliceData(to), Namelen: uint32(len(to)), Control: &control[0]}
	m.SetControllen(len(control))
	_, _, e := syscall.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), unix.MSG_DONTWAIT|unix.MSG_ERRQUEUE)
	return int(m.Controllen), e == 0
}

// SetIovec points v at b.
func SetIovec(v *unix.Iovec, b []byte) {
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
}

// IovecBytes are the bytes that v points at.
func IovecBytes(v *unix.Iovec) []byte { return unsafe.Slice(v.Base, int(v.Len)) }

// Resident returns the memory that a process has in RAM, in bytes (VmRSS; proc_pid_statm(5)). pid 0 is this process.
func Resident(pid int) (uint64, error) {
	of := "self"
	if pid != 0 {
		of = strconv.Itoa(pid)
	}
	b, err := os.ReadFile("/proc/" + of + "/statm")
	if err != nil {
		return 0, err
	}
	var size, pages uint64
	_, err = fmt.Sscan(string(b), &size, &pages)
	return pages * uint64(os.Getpagesize()), err
}
