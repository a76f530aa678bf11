package socket

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// Exchange sends a message and receives one into b. It reads no byte beyond that message, and blocks for as long as nc's deadline allows. whole returns the
// message's length, given its first bytes; while the length is unknown, it returns more than len(have). A server may refuse and close a connection before
// it reads the message: on a unix socket the write then fails, and Exchange reads the refusal.
func Exchange(nc net.Conn, message, b []byte, whole func(have []byte) (int, error)) ([]byte, error) {
	if _, err := nc.Write(message); err != nil {
		if errors.Is(err, unix.EPIPE) {
			if answer, herr := receiveWhole(nc, nil, b, whole); herr == nil {
				return answer, nil
			}
		}
		return nil, err
	}
	return receiveWhole(nc, nil, b, whole)
}

// receiveWhole is the receiving half of Exchange. first are bytes of the message that were received already.
func receiveWhole(nc net.Conn, first, b []byte, whole func(have []byte) (int, error)) ([]byte, error) {
	for have := copy(b, first); ; {
		need, err := whole(b[:have])
		switch {
		case err != nil:
			return nil, err
		case need <= have:
			return b[:need], nil
		case need > len(b):
			return nil, fmt.Errorf("%w: an answer of more than %d bytes", transport.ErrProtocol, len(b))
		}
		got, err := io.ReadFull(nc, b[have:need])
		if have += got; err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = transport.ErrPeerGone
			}
			return nil, err
		}
	}
}

// HelloBytes is Exchange's whole for a hello: one more byte until the length is known, and then the length.
func HelloBytes(have []byte) (int, error) {
	n, err := wire.HelloBytes(have)
	if err != nil {
		return 0, fmt.Errorf("%w (is this a kvwire server?)", err)
	}
	if n == 0 {
		n = len(have) + 1
	}
	return n, nil
}
