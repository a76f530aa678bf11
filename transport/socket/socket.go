// Package socket owns operating-system sockets, of whatever transport: their options, listening, accepting and dialling, the files of unix sockets, sessions
// of TLS, and the congestion window. It knows nothing of connections' requests, memory or loops' members. It may import transport, loop, and the codecs wire
// and resp, because a peer that speaks in the clear where TLS is expected gets its refusal in its own protocol. It does not import transport/stream.
package socket

import (
	"net"

	"golang.org/x/sys/unix"
)

// Socket is the socket of a connection on its way to its next owner: a descriptor, or a connection of Go's net package.
type Socket struct {
	Fd   int      // where Conn is nil
	Conn net.Conn // of Go's net package; nil: none
}

// Close closes it, and does not block.
func (s Socket) Close() {
	if s.Conn != nil {
		_ = s.Conn.Close()
	} else {
		_ = unix.Close(s.Fd)
	}
}

// CloseWith writes what a new socket's buffer has room for, and closes.
func (s Socket) CloseWith(b []byte) {
	switch c := s.Conn.(type) {
	case nil:
		_, _ = unix.Write(s.Fd, b)
	case *Session:
		c.last(b)
	default:
		_, _ = c.Write(b)
	}
	s.Close()
}
