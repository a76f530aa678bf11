package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pread reads once at off: bytes, or -errno. It waits for the disk, and lets the scheduler know.
func Pread(fd int, b []byte, off int64) int32 {
	n, _, e := syscall.Syscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(off), 0, 0)
	return bytesOr(n, e)
}

// Pwrite writes once at off, with flags as pwritev2(2): bytes, or -errno. It waits for the disk, and lets the scheduler know.
func Pwrite(fd int, b []byte, off int64, flags int) int32 {
	if flags == 0 {
		n, _, e := syscall.Syscall6(unix.SYS_PWRITE64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(off), 0, 0)
		return bytesOr(n, e)
	}
	var v unix.Iovec
	SetIovec(&v, b)
	// The offset is in two halves, of which a 64-bit kernel ignores the second.
	n, _, e := syscall.Syscall6(unix.SYS_PWRITEV2, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1, uintptr(off), 0, uintptr(flags))
	return bytesOr(n, e)
}

// Fallocate reserves length bytes from off: 0, or -errno.
func Fallocate(fd int, off, length int64) int32 {
	_, _, e := syscall.Syscall6(unix.SYS_FALLOCATE, uintptr(fd), 0, uintptr(off), uintptr(length), 0, 0)
	return bytesOr(0, e)
}

func bytesOr(n uintptr, e syscall.Errno) int32 {
	if e != 0 {
		return -int32(e)
	}
	return int32(n)
}
