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

// Exchange sends a message and receives one into b, and no byte of what follows it. whole returns how many bytes the message has, by those that have come; more than have come, if it is not known yet.
// A server that refuses a connection when it is made may have closed it before the message: on a unix socket that is an error of the
// write, and the refusal is there to be read.
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

// receiveWhole is the second half of Exchange. The first bytes may have come.
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

// HelloBytes is whole for Exchange: byte by byte to the length of a hello, and then all of it.
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
