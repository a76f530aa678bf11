package socket

import (
	"github.com/kvwire/kvwire/transport"
	"golang.org/x/sys/unix"
)

// Holder is a client's connection that gives access to its socket.
type Holder interface {
	// Control calls f with the descriptor, which f may use until it returns, and reports whether it called f. Only the connection's loop may call it.
	Control(f func(fd int)) bool
}

// CongestionWindow returns the congestion window of a client's connection, as this side sends, in segments (tcpi_snd_cwnd of TCP_INFO, tcp(7)). ok is false if there is none,
// or it is not known: networks other than TCP, TLS sessions, connections that have ended. Only the connection's loop may call it.
func CongestionWindow(c transport.Conn) (segments int, ok bool) {
	h, is := c.(Holder)
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
