package socket

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// Session is one end of a TLS session over a TCP connection. It carries what a connection without TLS carries: the hello and frames, or Redis's commands.
// It is for one goroutine that receives and one that sends. They block, in Go's netpoller; Close, from anywhere, ends that.
type Session struct {
	*tls.Conn
	under *under
	open  bool   // the handshake is done; the receiver's
	out   []byte // small pieces on their way into one record; the sender's
}

// under is the connection beneath a session.
type under struct {
	NetConn
	calls atomic.Int64 // system calls, by whoever of the two made them
	left  int          // bytes that may still come before the handshake is done, or a byte is decrypted; below 0: any number
	first []byte       // the first bytes of all, as far as it has room
}

// Bounds of a session. crypto/tls has buffers of its own: a record each way, and handshake messages of up to 256 KiB, which a peer may
// begin at any time.
const (
	// SessionBytes is the most memory of a server's end, with its goroutines: 35 KiB during the handshake, and what a peer may
	// send before a record is whole, in buffers that grow by doubling.
	SessionBytes = 128 << 10

	strangerBytes = 16 << 10 // a client's part of a handshake; one of today's has some 2 KiB
	serverBytes   = 80 << 10 // a server's, with a chain of certificates
	recordBytes   = 16 << 10 // of a record, at most (RFC 8446)
	readBytes     = recordBytes + 512
	gatheredBytes = 40 << 10 // that a client may send before a byte is decrypted: a record that is not whole, and a read more
	bodyBytes     = 64 << 10 // of a body that are received before the loop is notified
)

// BeginsTLS is the first byte of a TLS handshake.
const BeginsTLS = 0x16

// ErrNoSession means that the handshake of a client failed: it uses no TLS, or another version, or does not trust the server.
var ErrNoSession = errors.New("no TLS session")

var errLong = errors.New("a handshake message is too long")

// NewSession is the server's end, on a connection on which no byte has come yet. The handshake is in its first Receive.
func NewSession(nc NetConn, c *tls.Config) *Session {
	u := &under{NetConn: nc, left: strangerBytes}
	return &Session{Conn: tls.Server(u, c), under: u}
}

// ClientSession is the client's end, after the handshake with the server at addr, for which nc's deadline holds.
func ClientSession(nc NetConn, addr string, c *tls.Config) (*Session, error) {
	if c.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		c = c.Clone()
		c.ServerName = host
	}
	u := &under{NetConn: nc, left: serverBytes, first: make([]byte, 0, wire.MaxHelloBytes)}
	s := &Session{Conn: tls.Client(u, c), under: u, open: true}
	if err := s.Handshake(); err != nil {
		return nil, u.explain(err)
	}
	u.left, u.first = -1, nil
	return s, nil
}

// explain returns why there is no session with a server: its refusal, where it answered in the clear.
func (u *under) explain(err error) error {
	var record tls.RecordHeaderError
	var name x509.HostnameError
	var signer x509.UnknownAuthorityError
	err = quote.Error(err) // a certificate has names in it
	switch {
	case errors.As(err, &record):
		var hello wire.ServerHello
		if b, err := receiveWhole(u.NetConn, u.first, make([]byte, wire.MaxHelloBytes), HelloBytes); err == nil && hello.Decode(b) == nil && hello.Code != wire.Granted {
			return &transport.Refusal{Code: hello.Code, Reason: hello.Reason}
		}
		return fmt.Errorf("%w (is it a server with a certificate, kvwire serve --tls-cert?)", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w (--tls-name says what the certificate calls it)", err)
	case errors.As(err, &signer):
		return fmt.Errorf("%w (--tls-ca is to hold the certificate of who signed the server's)", err)
	case errors.Is(err, io.EOF):
		return transport.ErrPeerGone
	}
	return err
}

// Read is net.Conn's.
func (u *under) Read(b []byte) (int, error) {
	switch {
	case u.left == 0:
		return 0, errLong
	case u.left > 0:
		b = b[:min(len(b), u.left, readBytes)]
	}
	n, err := u.NetConn.Read(b)
	u.calls.Add(1)
	if u.left > 0 {
		u.left -= n
	}
	u.first = append(u.first, b[:min(n, cap(u.first)-len(u.first))]...)
	return n, err
}

// Write is net.Conn's.
func (u *under) Write(b []byte) (int, error) {
	u.calls.Add(1)
	return u.NetConn.Write(b)
}

// Plain is the connection beneath.
func (s *Session) Plain() NetConn { return s.under.NetConn }

// Calls is how many system calls were made since it was last asked, by both goroutines.
func (s *Session) Calls() int { return int(s.under.calls.Swap(0)) }

// Receive fills the places of w in order, as far as bytes come, and shakes hands before that; an error of that is ErrNoSession, unless the
// peer just left. Of two places the first is a body's: of a long one as much is waited for as is worth telling the loop. What it returns, if
// anything, comes without an error. A peer that breaks TLS's rules is transport.ErrProtocol.
func (s *Session) Receive(w [][]byte) (n int, err error) {
	if !s.open {
		if err := s.handshake(); err != nil {
			return 0, err
		}
		s.open = true
	}
	switch {
	case len(w) == 1:
		n, err = s.read(w[0])
	case len(w[0]) >= recordBytes:
		for body := w[0][:min(len(w[0]), bodyBytes)]; n < len(body) && err == nil; {
			var more int
			more, err = s.read(body[n:])
			n += more
		}
	default: // what is behind a body is in its record: it goes to w[1], and what is the body's from there
		n, err = s.read(w[1])
		body := copy(w[0], w[1][:n])
		copy(w[1], w[1][body:n])
	}
	switch {
	case n > 0:
		return n, nil // an error comes again
	case departed(err):
		return 0, err
	}
	return 0, fmt.Errorf("%w: TLS: %w", transport.ErrProtocol, err)
}

func (s *Session) read(b []byte) (int, error) {
	n, err := s.Read(b)
	if n > 0 && s.under.left >= 0 {
		s.under.left = gatheredBytes
	}
	return n, err
}

// departed reports whether an error means that the peer, or this side, just left.
func departed(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &errno)
}

func (s *Session) handshake() error {
	err := s.Handshake()
	s.under.left = gatheredBytes
	if err == nil || departed(err) {
		return err
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil {
		s.under.rejectPlaintext(record.RecordHeader[0])
	}
	return fmt.Errorf("%w: %w", ErrNoSession, err)
}

// rejectPlaintext refuses a client that begins without TLS, in its own protocol, which its first byte shows.
func (u *under) rejectPlaintext(first byte) {
	const why = "this server speaks TLS only"
	var b []byte
	switch {
	case first == wire.Magic[0]:
		hello := wire.ServerHello{Version: wire.Version, Code: wire.RefusedFeature, Reason: why + " (--tls-ca FILE says whose certificate it has)"}
		b = hello.Append(nil)
	case resp.Begins(first):
		b = resp.AppendError(nil, "ERR "+why)
	default:
		return
	}
	_ = u.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = u.NetConn.Write(b)
	_ = u.NetConn.CloseWrite()
}

// Send writes all pieces. Each write is a record at least, and a system call, so small ones go together.
func (s *Session) Send(pieces [][]byte) (sent int, err error) {
	if s.out == nil {
		s.out = make([]byte, 0, recordBytes)
	}
	out := s.out[:0]
	for _, p := range pieces {
		sent += len(p)
		for len(p) > 0 && err == nil {
			if len(out) == 0 && len(p) >= recordBytes {
				whole := len(p) - len(p)%recordBytes
				_, err = s.Write(p[:whole])
				p = p[whole:]
				continue
			}
			n := min(len(p), recordBytes-len(out))
			out, p = append(out, p[:n]...), p[n:]
			if len(out) == recordBytes {
				_, err = s.Write(out)
				out = out[:0]
			}
		}
	}
	if len(out) > 0 && err == nil {
		_, err = s.Write(out)
	}
	return sent, err
}

// Finish shuts the sending half, after the last Send. It may block for a peer that does not read, as Send.
func (s *Session) Finish() {
	_ = s.CloseWrite()
	_ = s.under.NetConn.CloseWrite()
}

// Close ends the connection, and blocks for nobody: without a last word, which no message needs to be known to be whole.
func (s *Session) Close() error { return s.under.NetConn.Close() }

// last writes in the clear where there is no session yet, since no handshake is worth a refusal.
func (s *Session) last(b []byte) {
	if s.open {
		_, _ = s.Write(b)
	} else {
		_, _ = s.under.NetConn.Write(b)
	}
}
