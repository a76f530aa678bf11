package stream

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/wire"
)

// Dial connects to addr, host:port or unix:PATH, and exchanges the hellos. It blocks for at most o.DialMax. The caller owns the socket, a prepared non-blocking
// descriptor or a TLS session. If own is not nil, Dial calls it as soon as the connection's IP addresses are known: it sets the transport's own
// parameters and optional features in the hello.
func Dial(ctx context.Context, addr string, o transport.DialOptions, sockets socket.Options, own func(hello *wire.ClientHello, local, remote netip.Addr) error) (s socket.Socket, hello wire.ServerHello, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.DialMax)
	defer cancel()
	if _, local := socket.UnixPath(addr); local && (own != nil || sockets.TLS != nil) {
		return s, hello, fmt.Errorf("connect to %s: neither RDMA nor TLS works over a unix socket (use host:port)", addr)
	}
	plain, err := sockets.Dial(ctx, addr)
	if err != nil {
		return s, hello, fmt.Errorf("connect to %s: %w (is the server running there?)", addr, err)
	}
	nc := net.Conn(plain)
	defer func() {
		if s.Conn == nil {
			_ = plain.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = plain.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if sockets.TLS != nil {
		session, err := socket.ClientSession(plain, addr, sockets.TLS)
		if err != nil {
			return socket.Socket{}, hello, fmt.Errorf("TLS with %s: %w", addr, timeoutError(err, o))
		}
		nc = session
	}
	if o.Redis {
		if err := ping(nc, o.Access); err != nil {
			return s, hello, fmt.Errorf("%s: %w", addr, err)
		}
		s, err = sockets.Detach(nc, stop)
		return s, redisHello(o.Depth), timeoutError(err, o)
	}
	request := wire.ClientHello{Version: wire.Version, Depth: uint16(o.Depth), Loop: wire.AnyLoop}
	if own != nil {
		local, remote := nc.LocalAddr().(*net.TCPAddr), nc.RemoteAddr().(*net.TCPAddr)
		if err = own(&request, local.AddrPort().Addr().Unmap(), remote.AddrPort().Addr().Unmap()); err != nil {
			return s, hello, fmt.Errorf("connect to %s: %w", addr, err)
		}
	}
	if hello, err = exchangeHellos(nc, o, request); err != nil {
		return s, hello, fmt.Errorf("hello with %s: %w", addr, timeoutError(err, o))
	}
	s, err = sockets.Detach(nc, stop)
	return s, hello, timeoutError(err, o)
}

// timeoutError replaces err by a text about the missed deadline, if there is one.
func timeoutError(err error, o transport.DialOptions) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no answer within %v", o.DialMax)
	}
	return err
}

// ping authenticates with a Redis server, and checks by the reply to PING that it is one.
func ping(nc net.Conn, who *access.Entry) error {
	if who != nil {
		words := []string{"AUTH", who.Name, who.Secret}
		if who.Name == "" {
			words = []string{"AUTH", who.Secret}
		}
		if err := sendCommand(nc, "OK", words...); err != nil {
			return fmt.Errorf("AUTH: %w", err)
		}
	}
	if err := sendCommand(nc, "PONG", "PING"); err != nil {
		return fmt.Errorf("PING: %w", err)
	}
	return nil
}

// sendCommand sends a command to a Redis server, and checks that the reply is the status want.
func sendCommand(nc net.Conn, want string, words ...string) error {
	b := resp.AppendArray(nil, len(words))
	for _, w := range words {
		b = resp.AppendBulk(b, w)
	}
	line, err := socket.Exchange(nc, b, make([]byte, 512), func(have []byte) (int, error) {
		if n := len(have); n == 0 || have[n-1] != '\n' {
			return n + 1, nil
		}
		return len(have), nil
	})
	if err != nil {
		return fmt.Errorf("incomplete answer: %w (is this a Redis?)", err)
	}
	if reply := strings.TrimSpace(string(line)); reply != "+"+want {
		return fmt.Errorf("the server answered %.200q (check that it is a Redis, and check the user and the password)", redacted(reply, words[1:]))
	}
	return nil
}

// redacted removes words, a name and a secret, from an error message: a Redis without AUTH repeats the command that it received, or its beginning.
func redacted(text string, words []string) string {
	const repeats = "with args beginning with:"
	if before, _, ok := strings.Cut(text, repeats); ok {
		text = before + repeats + " …"
	}
	for _, word := range slices.Backward(words) {
		if word != "" {
			text = strings.ReplaceAll(text, word, "…")
		}
	}
	return text
}

// exchangeHellos exchanges the hellos. With a secret, both sides prove that they have it.
func exchangeHellos(nc net.Conn, o transport.DialOptions, request wire.ClientHello) (hello wire.ServerHello, err error) {
	if o.Loop >= 0 {
		request.Loop = uint16(o.Loop)
	}
	if o.Access != nil {
		request.Required, request.Name = wire.FeatureAccess, o.Access.Name
		_, _ = rand.Read(request.Nonce[:])
	}
	clientHello := request.Append(nil)
	b, err := socket.Exchange(nc, clientHello, make([]byte, wire.MaxHelloBytes), socket.HelloBytes)
	if err != nil {
		return hello, err
	}
	if err := hello.Decode(b); err != nil {
		return hello, err
	}
	var t access.Transcript
	challenged := o.Access != nil && hello.Code == wire.Challenged
	if challenged {
		t = access.NewTranscript(clientHello, b)
		proof := o.Access.ClientProof(t)
		if b, err = socket.Exchange(nc, proof.Append(nil), make([]byte, wire.MaxHelloBytes), socket.HelloBytes); err != nil {
			return hello, err
		}
		if err := hello.Decode(b); err != nil {
			return hello, err
		}
	}
	switch {
	case hello.Code != wire.Granted:
		return hello, &transport.Refusal{Code: hello.Code, Reason: hello.Reason}
	case o.Access != nil && !(challenged && provesSecret(b, o.Access, t)):
		return hello, transport.ErrImpostor
	case int(hello.Depth) > o.Depth:
		return hello, fmt.Errorf("%w: depth %d was granted, %d requested", transport.ErrProtocol, hello.Depth, o.Depth)
	case hello.Features&^(request.Required|request.Optional) != 0:
		return hello, fmt.Errorf("%w: features %#x were granted, %#x requested", transport.ErrProtocol, hello.Features, request.Required|request.Optional)
	}
	return hello, nil
}

// provesSecret reports whether a grant ends with a valid proof that the server has the secret.
func provesSecret(b []byte, who *access.Entry, t access.Transcript) bool {
	covered, proof, err := wire.Unseal(b)
	want := who.ServerProof(t, covered)
	return err == nil && hmac.Equal(want[:], proof[:])
}
