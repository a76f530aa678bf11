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

// Session is one end of a TLS session over a TCP connection. It carries the same bytes as a connection without TLS: the hello and frames, or Redis's commands.
// One goroutine may receive while another one sends. Both block in Go's netpoller; Close, from any goroutine, ends that.
type Session struct {
	*tls.Conn
	tcp  *tcpConn
	open bool   // the handshake is done; only the receiving goroutine uses it
	out  []byte // small pieces that are joined to one record; only the sending goroutine uses it
}

// tcpConn is the connection beneath a session.
type tcpConn struct {
	NetConn
	calls      atomic.Int64 // system calls of both goroutines, since Session.Calls last read them
	limit      int          // bytes that may still come before the handshake is done, or before a byte is decrypted; below 0: no limit
	firstBytes []byte       // the connection's first bytes, as many as it has room for
}

// Bounds of a session. crypto/tls has buffers of its own: a record each way, and handshake messages of up to 256 KiB, which a peer may
// begin at any time.
const (
	// SessionBytes bounds the memory of a server's end with its goroutines: 35 KiB during the handshake, and the bytes that a peer may
	// send before a record is complete, in buffers that grow by doubling.
	SessionBytes = 128 << 10

	clientHandshakeBytes = 16 << 10 // a client's part of a handshake; today's clients send some 2 KiB
	serverHandshakeBytes = 80 << 10 // a server's, with a chain of certificates
	recordBytes          = 16 << 10 // of a record, at most (RFC 8446)
	readBytes            = recordBytes + 512
	gatheredBytes        = 40 << 10 // bytes that a client may send before a byte is decrypted: an incomplete record, and one more read
	bodyBytes            = 64 << 10 // bytes of a body that are received before the loop is notified
)

// BeginsTLS is the first byte of a TLS handshake.
const BeginsTLS = 0x16

// ErrNoSession means that the handshake of a client failed: it uses no TLS, or another version, or does not trust the server.
var ErrNoSession = errors.New("no TLS session")

var errLong = errors.New("a handshake message is too long")

// NewSession makes the server's end, on a connection that has received no byte yet. The first Receive performs the handshake.
func NewSession(nc NetConn, c *tls.Config) *Session {
	u := &tcpConn{NetConn: nc, limit: clientHandshakeBytes}
	return &Session{Conn: tls.Server(u, c), tcp: u}
}

// ClientSession performs the handshake with the server at addr and returns the client's end. It blocks for as long as nc's deadline allows.
func ClientSession(nc NetConn, addr string, c *tls.Config) (*Session, error) {
	if c.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		c = c.Clone()
		c.ServerName = host
	}
	u := &tcpConn{NetConn: nc, limit: serverHandshakeBytes, firstBytes: make([]byte, 0, wire.MaxHelloBytes)}
	s := &Session{Conn: tls.Client(u, c), tcp: u, open: true}
	if err := s.Handshake(); err != nil {
		return nil, u.explain(err)
	}
	u.limit, u.firstBytes = -1, nil
	return s, nil
}

// explain returns the reason why there is no session with a server: its refusal, if it answered in plain text.
func (u *tcpConn) explain(err error) error {
	var record tls.RecordHeaderError
	var name x509.HostnameError
	var signer x509.UnknownAuthorityError
	err = quote.Error(err) // a certificate has names in it
	switch {
	case errors.As(err, &record):
		var hello wire.ServerHello
		if b, err := receiveWhole(u.NetConn, u.firstBytes, make([]byte, wire.MaxHelloBytes), HelloBytes); err == nil && hello.Decode(b) == nil && hello.Code != wire.Granted {
			return &transport.Refusal{Code: hello.Code, Reason: hello.Reason}
		}
		return fmt.Errorf("%w (is it a server with a certificate, kvwire serve --tls-cert?)", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w (set --tls-name to the name in the certificate)", err)
	case errors.As(err, &signer):
		return fmt.Errorf("%w (--tls-ca must have the certificate of the server's signer)", err)
	case errors.Is(err, io.EOF):
		return transport.ErrPeerGone
	}
	return err
}

// Read implements net.Conn.
func (u *tcpConn) Read(b []byte) (int, error) {
	switch {
	case u.limit == 0:
		return 0, errLong
	case u.limit > 0:
		b = b[:min(len(b), u.limit, readBytes)]
	}
	n, err := u.NetConn.Read(b)
	u.calls.Add(1)
	if u.limit > 0 {
		u.limit -= n
	}
	u.firstBytes = append(u.firstBytes, b[:min(n, cap(u.firstBytes)-len(u.firstBytes))]...)
	return n, err
}

// Write implements net.Conn.
func (u *tcpConn) Write(b []byte) (int, error) {
	u.calls.Add(1)
	return u.NetConn.Write(b)
}

// Plain returns the TCP connection under the session.
func (s *Session) Plain() NetConn { return s.tcp.NetConn }

// Calls returns the number of system calls of both goroutines since its last call.
func (s *Session) Calls() int { return int(s.tcp.calls.Swap(0)) }

// Receive blocks until bytes come and fills the slices of w in order. The first call also performs the handshake; if that fails, the error is ErrNoSession,
// unless the peer just closed the connection. With two slices the first is the rest of a body: Receive then waits for bodyBytes or all of it, so that the loop is
// notified less often. Either n is above 0 or err is not nil. If the peer violates the TLS protocol, the error is transport.ErrProtocol.
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
	default: // a record can hold the body's end and what follows: read it into w[1], and copy the body's part from there
		n, err = s.read(w[1])
		body := copy(w[0], w[1][:n])
		copy(w[1], w[1][body:n])
	}
	switch {
	case n > 0:
		return n, nil // the next call returns the error again
	case departed(err):
		return 0, err
	}
	return 0, fmt.Errorf("%w: TLS: %w", transport.ErrProtocol, err)
}

func (s *Session) read(b []byte) (int, error) {
	n, err := s.Read(b)
	if n > 0 && s.tcp.limit >= 0 {
		s.tcp.limit = gatheredBytes
	}
	return n, err
}

// departed reports whether an error only means that the peer, or this side, closed the connection.
func departed(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &errno)
}

func (s *Session) handshake() error {
	err := s.Handshake()
	s.tcp.limit = gatheredBytes
	if err == nil || departed(err) {
		return err
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil {
		s.tcp.rejectPlaintext(record.RecordHeader[0])
	}
	return fmt.Errorf("%w: %w", ErrNoSession, err)
}

// rejectPlaintext refuses a client that begins without TLS, in its own protocol, which its first byte shows.
func (u *tcpConn) rejectPlaintext(first byte) {
	const why = "this server speaks TLS only"
	var b []byte
	switch {
	case first == wire.Magic[0]:
		hello := wire.ServerHello{Version: wire.Version, Code: wire.RefusedFeature, Reason: why + " (--tls-ca FILE, with the certificate of its signer)"}
		b = hello.Append(nil)
	case resp.IsFirstByte(first):
		b = resp.AppendError(nil, "ERR "+why)
	default:
		return
	}
	_ = u.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = u.NetConn.Write(b)
	_ = u.NetConn.CloseWrite()
}

// Send writes all pieces, and blocks until the kernel has accepted them. Small pieces are joined, because each write is a record and a system call.
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

// Finish shuts the sending half, after the last Send. Like Send it may block while the peer does not read.
func (s *Session) Finish() {
	_ = s.CloseWrite()
	_ = s.tcp.NetConn.CloseWrite()
}

// Close closes the connection without blocking. It sends no close_notify: every message carries its length, so a truncated one is detected without it.
func (s *Session) Close() error { return s.tcp.NetConn.Close() }

// sendRefusal sends a refusal in plain text if there is no session yet: it makes no handshake only for a refusal.
func (s *Session) sendRefusal(b []byte) {
	if s.open {
		_, _ = s.Write(b)
	} else {
		_, _ = s.tcp.NetConn.Write(b)
	}
}
