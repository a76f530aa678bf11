package socket

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A socket has the buffers that were asked for, or there is an error: the kernel would silently take its limit.
func TestBuffersAreAsLargeAsAskedForOrRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, bytes := range []int{64 << 10, 10 << 20} {
		o := Options{SendBytes: bytes, ReceiveBytes: bytes}
		d := net.Dialer{Control: o.control}
		c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			if bytes == 64<<10 || !strings.Contains(err.Error(), "mem_max") {
				t.Errorf("%d B: %v", bytes, err)
			}
			continue
		}
		raw, err := c.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			for name, option := range map[string]int{"SO_SNDBUF": unix.SO_SNDBUF, "SO_RCVBUF": unix.SO_RCVBUF} {
				if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option); err != nil || got/2 < bytes {
					t.Errorf("%s: %d of %d B, %v", name, got/2, bytes, err)
				}
			}
		}); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
}
