package sys

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// StampBytes is the room for a stamp in a message's control data: one SCM_TIMESTAMPING, a cmsghdr and three timespecs.
const StampBytes = unix.SizeofCmsghdr + 3*int(unsafe.Sizeof(unix.Timespec{}))

// AskStamps makes the kernel stamp received packets of a socket (SO_TIMESTAMPING, Documentation/networking/timestamping.rst), and
// reports whether it will. The first such socket of a machine turns stamping on, from a work queue (net_enable_timestamp in
// net/core/dev.c): earlier packets have no stamp. Stamps of sent packets cost too much: they come through the error queue.
func AskStamps(fd int) bool {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING,
		unix.SOF_TIMESTAMPING_RX_SOFTWARE|unix.SOF_TIMESTAMPING_SOFTWARE) == nil
}

// Stamp returns the time at which the last bytes of a received message arrived, by CLOCK_REALTIME, in ns; 0: m, with StampBytes of
// control data, has no stamp.
func Stamp(m *unix.Msghdr) int64 {
	n := int(m.Controllen)
	if m.Control == nil || n < StampBytes {
		return 0
	}
	b := unsafe.Slice((*byte)(m.Control), n)
	level, kind := binary.NativeEndian.Uint32(b[wordBytes:]), binary.NativeEndian.Uint32(b[wordBytes+4:])
	if level != unix.SOL_SOCKET || kind != unix.SCM_TIMESTAMPING {
		return 0
	}
	b = b[unix.SizeofCmsghdr:]
	return word(b)*1e9 + word(b[wordBytes:])
}

const wordBytes = int(unsafe.Sizeof(uintptr(0))) // of cmsg_len, and of a timespec's fields

func word(b []byte) int64 {
	if wordBytes == 4 {
		return int64(binary.NativeEndian.Uint32(b))
	}
	return int64(binary.NativeEndian.Uint64(b))
}
