package socket

import (
	"github.com/kvwire/kvwire/transport"
	"golang.org/x/sys/unix"
)

// socketHolder is a client's connection whose bytes go through a socket that can be asked.
type socketHolder interface {
	// Control calls f with the descriptor, which it may use until it returns, and reports whether it did. On the connection's loop.
	Control(f func(fd int)) bool
}

// CongestionWindow returns the congestion window of a client's connection, as this side sends, in segments (tcpi_snd_cwnd of TCP_INFO, tcp(7)). ok is false where there is none
// or it is not known: other networks than TCP, a session of TLS, a connection that has ended. On the connection's loop.
func CongestionWindow(c transport.Conn) (segments int, ok bool) {
	h, is := c.(socketHolder)
	if !is {
		return 0, false
	}
	h.Control(func(fd int) {
		if IsUnix(fd) {
			return
		}
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			segments, ok = int(info.Snd_cwnd), true
		}
	})
	return segments, ok
}
