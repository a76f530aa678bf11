package tcp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/transporttest"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// tlsEnv is the environment variable with the certificate and key of a child's server.
const tlsEnv = "KVWIRE_TCP_TEST_TLS"

// secured is the network with TLS, by that certificate.
func secured(certificate, key []byte) (transporttest.Network, error) {
	n := network
	server, err := access.ServerTLS(certificate, key)
	if err != nil {
		return n, err
	}
	n.ServerTLS = server
	if n.ClientTLS, err = access.ClientTLS(certificate, access.RunName); err != nil {
		return n, err
	}
	n.Transport = Transport{Options{Engine: Goroutines, ClientEngine: Goroutines, ServerTLS: n.ServerTLS, ClientTLS: n.ClientTLS}}
	// crypto/tls makes a small reader when it asks for a record that was not received with the one before.
	n.Allocates = func(size int) float64 { return 1 + float64(size)/(16<<10) }
	n.Env = []string{tlsEnv + "=" + string(certificate) + string(key)}
	return n, nil
}

// inherited is the network of a child process.
func inherited() transporttest.Network {
	text, ok := os.LookupEnv(tlsEnv)
	if !ok {
		n := network
		n.Host = os.Getenv(listenEnv)
		return n
	}
	n, err := secured([]byte(text), []byte(text))
	if err != nil {
		panic(err)
	}
	return n
}

func newSecured(t *testing.T) transporttest.Network {
	t.Helper()
	certificate, key, err := access.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	n, err := secured(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTLS(t *testing.T) {
	if testing.Short() { // the race detector, to which it is TestGoroutines with much arithmetic
		transporttest.RunBrief(t, newSecured(t))
		return
	}
	transporttest.Run(t, newSecured(t))
}

// server makes a rig whose server has TLS, and a client that must not be affected by other connections.
func server(t *testing.T, n transporttest.Network, o transport.ServerOptions) (r *transporttest.Rig, well func()) {
	t.Helper()
	r = transporttest.NewRig(t, n, 2, o)
	c := transporttest.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Loop: 1}))
	return r, func() {
		t.Helper()
		c.Expect(transporttest.Put("by", []byte("stander")), kv.StatusOK)
		if g := c.Expect(transporttest.Get("by", 20), kv.StatusOK); string(g.Value) != "stander" {
			t.Fatalf("another connection reads %q", g.Value)
		}
	}
}

// tcpClient is a TCP connection to the server.
func tcpClient(t *testing.T, r *transporttest.Rig) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", r.Server.Addr(), transporttest.WaitMax)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(transporttest.WaitMax))
	return c.(*net.TCPConn)
}

// all returns the bytes that a server sends until it ends the connection.
func all(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the server keeps the connection open (%q)", b)
	}
	return string(b)
}

// clientHello is the first flight of a client of crypto/tls.
func clientHello(t *testing.T, c *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(far, c).Handshake()
	}()
	b := make([]byte, 16<<10)
	n, err := near.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	<-done
	return b[:n]
}

func TestTLSWhoDoesNotShakeHandsIsRefused(t *testing.T) {
	n := newSecured(t)
	r, well := server(t, n, transport.ServerOptions{})
	hello := clientHello(t, n.ClientTLS)
	old := n.ClientTLS.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	changed := bytes.Clone(hello)
	changed[len(changed)/2] ^= 0xFF // within an extension, which may be optional, so its length is wrong
	changed[43]++                   // the session id's
	long := []byte{0x16, 3, 1, 0x40, 0, 1, 0, 0xF0, 0}
	long = append(long, make([]byte, 16<<10-4)...) // a whole record, in which the handshake message does not end
	cases := []struct {
		name string
		send []byte
		want string
	}{
		{"random bytes", transporttest.Fill(2000, 7), ""},
		{"zeros", make([]byte, 2000), ""},
		{"an alert", []byte{0x15, 3, 3, 0, 2, 2, 40}, ""},
		{"application data", append([]byte{0x17, 3, 3, 0, 100}, make([]byte, 100)...), ""},
		{"SSL 2", append([]byte{0x80, 100, 1, 3, 1}, make([]byte, 100)...), "\x15\x03\x01\x00\x02\x02\x46"},
		{"a record that is too long", append([]byte{0x16, 3, 1, 0xFF, 0xFF}, make([]byte, 100)...), "\x15\x03\x01\x00\x02\x02\x16"},
		{"a hello that is none", append([]byte{0x16, 3, 1, 0, 100, 1, 0, 0, 96}, make([]byte, 96)...), "\x15\x03\x01\x00\x02\x02"},
		{"a hello that is not whole", changed, "\x15\x03\x01\x00\x02\x02"},
		{"a hello without end", long, ""},
		{"TLS 1.2", clientHello(t, old), "\x15\x03\x01\x00\x02\x02\x46"},
		{"a Finished in the hello's place", append([]byte{0x16, 3, 1, 0, 36, 20, 0, 0, 32}, make([]byte, 32)...), "\x15\x03\x01\x00\x02\x02"},
		{"a hello twice", append(bytes.Clone(hello), hello...), ""},
		{"a client of Redis", []byte("*1\r\n$4\r\nPING\r\n"), "-ERR this server speaks TLS only\r\n"},
		{"who types", []byte("PING\r\n"), "-ERR this server speaks TLS only\r\n"},
	}
	for i, c := range cases {
		k := tcpClient(t, r)
		go func() { _, _ = k.Write(c.send) }() // the server may have gone before all is sent
		if got := all(t, k); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: the server says %q, want %q", c.name, got, c.want)
		}
		transporttest.Until(t, c.name+" to be counted", func() bool { return r.Denied(t) == uint64(i+1) })
		well()
	}
	// In the clear, by the native protocol: in words.
	plain := Transport{}
	_, err := plain.Dial(t.Context(), r.Loop, r.Server.Addr(), transport.DialOptions{DialMax: transporttest.WaitMax})
	var refusal *transport.Refusal
	if !errors.As(err, &refusal) || refusal.Code != wire.RefusedFeature || !strings.Contains(err.Error(), "TLS only (--tls-ca") {
		t.Errorf("a client without TLS gets: %v", err)
	}
	transporttest.Until(t, "it to be counted", func() bool { return r.Denied(t) == uint64(len(cases)+1) })
	r.Logged(1, "reason=\"no TLS session: ")
	well()
}

func TestTLSServersThatAreNotMeant(t *testing.T) {
	now := time.Now()
	good := x509.Certificate{Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{access.RunName, "localhost"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	cases := map[string]struct {
		says    func(c *x509.Certificate)
		name    string // that the client requires
		foreign bool   // it trusts another signer
		want    string // "": it connects
	}{
		"the right one":         {name: access.RunName},
		"by another name of it": {name: "localhost"},
		"another signer":        {name: access.RunName, foreign: true, want: "--tls-ca must have"},
		"expired":               {says: func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }, name: access.RunName, want: "expired"},
		"not valid yet":         {says: func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }, name: access.RunName, want: "not yet valid"},
		"another name":          {name: "db.example.org", want: "set --tls-name"},
		"its address":           {want: "set --tls-name"},
		"its address, named":    {says: func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }},
		"not for servers":       {says: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, name: access.RunName, want: "incompatible key usage"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			says := good
			if c.says != nil {
				c.says(&says)
			}
			certificate, key, err := access.Certificate(&says)
			if err != nil {
				t.Fatal(err)
			}
			n, err := secured(certificate, key)
			if err != nil {
				t.Fatal(err)
			}
			r := transporttest.NewRig(t, n, 1, transport.ServerOptions{})
			trusted := certificate
			if c.foreign {
				if trusted, _, err = access.Certificate(&good); err != nil {
					t.Fatal(err)
				}
			}
			side, err := access.ClientTLS(trusted, c.name)
			if err != nil {
				t.Fatal(err)
			}
			k, err := Transport{Options{ClientEngine: Goroutines, ClientTLS: side}}.Dial(t.Context(), r.Loop, r.Server.Addr(), transport.DialOptions{DialMax: transporttest.WaitMax})
			if err == nil {
				k.Hangup()
			}
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("%v, want %q", err, c.want)
			case c.want != "":
				transporttest.Until(t, "it to be counted", func() bool { return r.Denied(t) == 1 })
				r.Logged(1, "no TLS session: remote error: tls: ")
			}
		})
	}
}

func TestTLSServersWithoutTLS(t *testing.T) {
	n := newSecured(t)
	for _, by := range []Engine{Epoll, Goroutines} {
		plain := network
		plain.Transport = Transport{Options{Engine: by}}
		r, well := server(t, plain, transport.ServerOptions{})
		_, err := n.Dial(t.Context(), r.Loop, r.Server.Addr(), transport.DialOptions{DialMax: transporttest.WaitMax})
		var refusal *transport.Refusal
		if !errors.As(err, &refusal) || refusal.Code != wire.RefusedFeature || !strings.Contains(err.Error(), "no certificate (serve --tls-cert)") {
			t.Errorf("%v: %v", by, err)
		}
		well()
		r.Logged(1, "no certificate")
	}
	// And those that are no kvwire at all.
	for _, says := range []string{"", "HTTP/1.1 400 Bad Request\r\n\r\n", "\xCBkvw", "\xCBkvw\xFF\xFF", "\x15\x03\x03\x00\x02\x02\x28"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, says)
			_ = c.Close()
		}()
		r := transporttest.NewRig(t, network, 1, transport.ServerOptions{}) // for its client's loop
		if _, err := n.Dial(t.Context(), r.Loop, l.Addr().String(), transport.DialOptions{DialMax: transporttest.WaitMax}); err == nil || !strings.Contains(err.Error(), "TLS with 127.0.0.1:") {
			t.Errorf("a server that says %q: %v", says, err)
		}
		_ = l.Close()
		<-done
	}
}

// mute discards all bytes that are written after so many.
type mute struct {
	net.Conn
	left int
}

// Write implements net.Conn.
func (m *mute) Write(b []byte) (int, error) {
	n := min(len(b), m.left)
	m.left -= n
	if n == 0 {
		return len(b), nil
	}
	_, err := m.Conn.Write(b[:n])
	return len(b), err
}

func TestTLSAHandshakeThatStallsMeetsTheDeadline(t *testing.T) {
	n := newSecured(t)
	r, well := server(t, n, transport.ServerOptions{HelloMax: transporttest.Stall})
	hello := clientHello(t, n.ClientTLS)
	var ks []*net.TCPConn
	quiet := tcpClient(t, r) // in the session, and sends nothing; first, because its handshake has the same deadline
	if err := tls.Client(quiet, n.ClientTLS).Handshake(); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 1, 4, 5, 6, len(hello) / 2, len(hello) - 1, len(hello)} {
		k := tcpClient(t, r)
		if _, err := k.Write(hello[:cut]); err != nil {
			t.Fatal(err)
		}
		ks = append(ks, k)
	}
	drips := tcpClient(t, r)
	go func() { // each byte in time, and never all
		tick := time.NewTicker(transporttest.Stall / 10)
		defer tick.Stop()
		for _, b := range hello {
			if _, err := drips.Write([]byte{b}); err != nil {
				return
			}
			<-tick.C
		}
	}()
	unfinished := tcpClient(t, r) // all but the client's Finished
	go func() { _ = tls.Client(&mute{unfinished, len(hello)}, n.ClientTLS).Handshake() }()
	well()
	r.Logged(len(ks)+3, "no hello within")
	for _, k := range append(ks, drips, quiet) {
		all(t, k)
	}
	well()
}

func TestTLSCutAnywhereLeavesNothing(t *testing.T) {
	n := newSecured(t)
	r, well := server(t, n, transport.ServerOptions{})
	hello := clientHello(t, n.ClientTLS)
	well()
	fds := func() int {
		n, err := testenv.OpenFiles()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before, routines := fds(), runtime.NumGoroutine()
	for cut := 0; cut <= len(hello); cut += 1 + len(hello)/40 {
		k := tcpClient(t, r)
		if _, err := k.Write(hello[:cut]); err != nil {
			t.Fatal(err)
		}
		if cut%2 == 0 {
			_ = k.SetLinger(0)
		}
		_ = k.Close()
	}
	said := (&wire.ClientHello{Version: wire.Version, Depth: 1, Loop: 1}).Append(nil)
	for left := len(hello); left < len(hello)+400; left += 7 { // through the Finished, the hello on its way to another loop, and beyond
		k := tcpClient(t, r)
		c := tls.Client(&mute{k, left}, n.ClientTLS)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(said)
		_ = k.Close()
	}
	well()
	transporttest.Until(t, "all descriptors to be closed", func() bool { return fds() <= before })
	transporttest.Until(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= routines })
	if d := r.Denied(t); d != 0 {
		t.Errorf("%d who left were counted as refused", d)
	}
}

// between passes bytes on, and changes the one at a place of each direction that is beyond the handshake.
func between(t *testing.T, to string, change bool) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	pass := func(dst, src net.Conn, at int) {
		defer dst.Close()
		b := make([]byte, 4096)
		for seen := 0; ; {
			n, err := src.Read(b)
			if seen <= at && at < seen+n {
				b[at-seen] ^= 1
			}
			seen += n
			if _, werr := dst.Write(b[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			at := -1
			if change {
				at = 200_000
			}
			go pass(s, c, at)
			go pass(c, s, -1)
		}
	}()
	return l.Addr().String()
}

func TestTLSAChangedByteEndsTheConnection(t *testing.T) {
	n := newSecured(t)
	r, well := server(t, n, transport.ServerOptions{})
	for _, change := range []bool{false, true} {
		conn, err := n.Dial(t.Context(), r.Loop, between(t, r.Server.Addr(), change), transport.DialOptions{Depth: 1, DialMax: transporttest.WaitMax})
		if err != nil {
			t.Fatal(err)
		}
		c := transporttest.NewCaller(t, r.Loop, conn)
		v := transporttest.Fill(1<<20, 1)
		if change {
			c.Expect(transporttest.Put("k", v), kv.StatusUnknown)
			c.Expect(transporttest.Put("k", v), kv.StatusClosed)
		} else {
			c.Expect(transporttest.Put("k", v), kv.StatusOK)
		}
		conn.Hangup()
		well()
	}
	c := transporttest.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	if g := c.Expect(transporttest.Get("k", 1<<20), kv.StatusOK); !bytes.Equal(g.Value, transporttest.Fill(1<<20, 1)) {
		t.Error("what was put before is not there any more")
	}
}

// Clients that make the server wait for the rest of a message: of a record of the greatest length that there is, and, in a session, of a
// handshake message.
func TestTLSStrangersTakeLittleMemory(t *testing.T) {
	if testenv.Race {
		t.Skip("the race detector's memory is not the server's")
	}
	const strangers = 300
	if !transporttest.Files(3 * strangers) {
		t.Skip("no descriptors for it (ulimit -n)")
	}
	n := newSecured(t)
	for name, connect := range map[string]func(t *testing.T, r *transporttest.Rig) (c *net.TCPConn, says []byte){
		"in the handshake": func(t *testing.T, r *transporttest.Rig) (*net.TCPConn, []byte) {
			says := make([]byte, 15<<10)
			copy(says, []byte{0x16, 3, 1, 0x48, 0, 1, 0, 0xF0, 0}) // as long as a record may be, with a message that does not end in it
			return tcpClient(t, r), says
		},
		"in a session": func(t *testing.T, r *transporttest.Rig) (*net.TCPConn, []byte) {
			s := seal(t, r, n.ClientTLS)
			return s.c, s.long([]byte{11, 3, 0xD0, 0x90})[:39<<10]
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, well := server(t, n, transport.ServerOptions{HelloMax: time.Hour})
			well()
			memory := func() uint64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				return m.HeapAlloc + m.StackInuse
			}
			before := memory()
			var ks []*net.TCPConn
			for range strangers {
				k, says := connect(t, r)
				if _, err := k.Write(says); err != nil {
					t.Fatal(err)
				}
				ks = append(ks, k)
			}
			transporttest.Until(t, "all to be received", func() bool {
				for _, k := range ks {
					if unacknowledged(t, k) > 0 {
						return false
					}
				}
				return true
			})
			well()
			each := (memory() - before) / strangers
			t.Logf("%d B for each stranger", each)
			if each > netsock.SessionBytes {
				t.Errorf("a stranger takes %d B, and is counted as %d", each, netsock.SessionBytes)
			}
			for _, k := range ks { // none was closed meanwhile
				_ = k.SetReadDeadline(time.Unix(1, 0))
				if _, err := k.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("a stranger was closed: %v", err)
				}
			}
		})
	}
}

// unacknowledged is the number of written bytes that the peer's kernel does not have yet.
func unacknowledged(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var asked error
	if err := rc.Control(func(fd uintptr) { n, asked = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || asked != nil {
		t.Fatal(err, asked)
	}
	return n
}

// sealed makes a client's records by hand, with content that no client sends. RFC 8446, 5.2 and 7.
type sealed struct {
	t      *testing.T
	c      *net.TCPConn
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// seal performs the handshake, and then makes the client's records instead of crypto/tls.
func seal(t *testing.T, r *transporttest.Rig, config *tls.Config) *sealed {
	t.Helper()
	s := &sealed{t: t, c: tcpClient(t, r)}
	var log bytes.Buffer
	config = config.Clone()
	config.KeyLogWriter = &log
	c := tls.Client(s.c, config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if suite := c.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("the session is by %s, and this test knows AES-128-GCM only, which Go takes where the CPU has AES", tls.CipherSuiteName(suite))
	}
	for line := range strings.Lines(log.String()) {
		if words := strings.Fields(line); words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(words[2])
			if err != nil {
				t.Fatal(err)
			}
			s.use(secret)
		}
	}
	if s.aead == nil {
		t.Fatal("no secret in the key log")
	}
	return s
}

func (s *sealed) expand(label string, n int) []byte {
	s.t.Helper()
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	b, err := hkdf.Expand(sha256.New, s.secret, string(append(info, 0)), n)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *sealed) use(secret []byte) {
	s.t.Helper()
	s.secret, s.seq = secret, 0
	block, err := aes.NewCipher(s.expand("key", 16))
	if err == nil {
		s.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.iv = s.expand("iv", 12)
}

// record is one of that type.
func (s *sealed) record(kind byte, text []byte) []byte {
	nonce := bytes.Clone(s.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(s.seq >> (56 - 8*i))
	}
	s.seq++
	n := len(text) + 1 + s.aead.Overhead()
	head := []byte{0x17, 3, 3, byte(n >> 8), byte(n)}
	return s.aead.Seal(bytes.Clone(head), nonce, append(bytes.Clone(text), kind), head)
}

// update is a KeyUpdate, after which the next key is used.
func (s *sealed) update(wanted byte) []byte {
	b := s.record(22, []byte{24, 0, 0, 1, wanted})
	s.use(s.expand("traffic upd", 32))
	return b
}

func TestTLSWhatNoClientSaysInASession(t *testing.T) {
	n := newSecured(t)
	r, well := server(t, n, transport.ServerOptions{})
	said := (&wire.ClientHello{Version: wire.Version, Depth: 1, Loop: 1}).Append(nil)
	message := func(kind byte, announced, there int) []byte {
		return append([]byte{kind, byte(announced >> 16), byte(announced >> 8), byte(announced)}, make([]byte, there)...)
	}
	for name, says := range map[string]func(s *sealed) []byte{
		"another ClientHello":       func(s *sealed) []byte { return s.record(22, message(1, 200, 200)) },
		"a certificate":             func(s *sealed) []byte { return s.record(22, message(11, 200, 200)) },
		"a Finished":                func(s *sealed) []byte { return s.record(22, message(20, 32, 32)) },
		"a message of 16 MiB":       func(s *sealed) []byte { return s.record(22, message(1, 1<<24-1, 100)) },
		"a message without end":     func(s *sealed) []byte { return s.long(message(1, 60_000, 0)) },
		"a certificate without end": func(s *sealed) []byte { return s.long(message(11, 250_000, 0)) },
		"a record of no type":       func(s *sealed) []byte { return s.record(0, nil) },
		"a record of another type":  func(s *sealed) []byte { return s.record(99, said) },
		"an alert of no length":     func(s *sealed) []byte { return s.record(21, []byte{2}) },
		"a record twice": func(s *sealed) []byte {
			b := s.record(23, said[:4])
			return append(b, b...)
		},
		"a record that was changed": func(s *sealed) []byte {
			b := s.record(23, said)
			b[20] ^= 1
			return b
		},
		"records of nothing": func(s *sealed) (b []byte) {
			for range 100 {
				b = append(b, s.record(23, nil)...)
			}
			return b
		},
		"keys and nothing else": func(s *sealed) (b []byte) {
			for range 100 {
				b = append(b, s.update(1)...)
			}
			return b
		},
		"half a message among data": func(s *sealed) []byte {
			return append(s.record(22, message(24, 1, 0)), s.record(23, said)...)
		},
	} {
		s := seal(t, r, n.ClientTLS)
		go func() { _, _ = s.c.Write(says(s)) }() // it is not read to its end
		all(t, s.c)
		well()
		if t.Failed() {
			t.Fatalf("%s", name)
		}
	}
	r.Logged(2, "reason=\"protocol violation: TLS: a handshake message is too long")
	r.Logged(14, "reason=\"protocol violation: TLS: ")
	// A client may send some key updates, also in the middle of its data.
	s := seal(t, r, n.ClientTLS)
	b := s.record(23, said[:3])
	for range 5 {
		b = append(b, s.update(1)...)
	}
	if _, err := s.c.Write(append(b, s.record(23, said[3:])...)); err != nil {
		t.Fatal(err)
	}
	h := make([]byte, 5)
	if _, err := io.ReadFull(s.c, h); err != nil || h[0] != 0x17 {
		t.Fatalf("the server answers %x (%v)", h, err)
	}
	well()
}

// long is as much of a handshake message as crypto/tls reads without our bounds, in full records.
func (s *sealed) long(begins []byte) (b []byte) {
	b = s.record(22, append(begins, make([]byte, 16_000)...))
	for range 15 {
		b = append(b, s.record(22, make([]byte, 16_000))...)
	}
	return b
}
