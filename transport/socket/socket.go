// Package socket owns operating-system sockets, for all transports: their options, listening, accepting and dialling, the files of unix sockets, TLS sessions,
// and the congestion window. It has no code for requests, their memory or members of loops. It may import transport, loop, and the codecs wire and resp, because
// a client that sends plain text where TLS is expected gets a refusal in its own protocol. It does not import transport/stream.
package socket

import (
	"net"

	"golang.org/x/sys/unix"
)

// Socket is a connection's socket while it changes its owner: a descriptor, or a connection of Go's net package.
type Socket struct {
	Fd   int      // valid if Conn is nil
	Conn net.Conn // nil: the socket is Fd
}

// Close closes the socket without blocking.
func (s Socket) Close() {
	if s.Conn != nil {
		_ = s.Conn.Close()
	} else {
		_ = unix.Close(s.Fd)
	}
}

// CloseWith sends b, as far as the empty send buffer of a new socket has room, and closes the socket.
func (s Socket) CloseWith(b []byte) {
	switch c := s.Conn.(type) {
	case nil:
		_, _ = unix.Write(s.Fd, b)
	case *Session:
		c.sendRefusal(b)
	default:
		_, _ = c.Write(b)
	}
	s.Close()
}
