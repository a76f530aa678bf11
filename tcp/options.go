package tcp

import (
	"crypto/tls"
	"errors"

	"github.com/kvwire/kvwire/internal/names"
	netsock "github.com/kvwire/kvwire/transport/socket"
)

// Engine is the way in which the bytes of connections are moved.
type Engine uint8

const (
	Epoll      Engine = iota // their loop, under epoll
	Goroutines               // two goroutines for each connection, which pass bytes to and from its loop
)

var engineNames = [...]string{"epoll", "goroutine"}

// String returns the engine's name in the column tcp_engine.
func (e Engine) String() string { return engineNames[e] }

// ParseEngine parses an engine's name.
func ParseEngine(s string) (Engine, error) { return names.Parse[Engine](s, engineNames[:]) }

// Options are the options of both ends. The zero value is the default; docs/results has the measured cost of the others.
type Options struct {
	Engine       Engine // of a server
	ClientEngine Engine // of a client
	Sockets      netsock.Options

	// ServerTLS and ClientTLS make each connection of that side begin with a TLS handshake; nil: plain text. Engine Goroutines only.
	ServerTLS, ClientTLS *tls.Config

	// Cork holds back the last segment of a write that is not the turn's last (MSG_MORE). Engine Epoll.
	Cork bool

	// QuickAck acknowledges each receive at once (TCP_QUICKACK), with a system call. Engine Epoll.
	QuickAck bool

	// ZeroCopyBytes is the smallest write that is not copied (MSG_ZEROCOPY): its memory is held until the peer has acknowledged
	// it; 0: all writes are copied. Engine Epoll only.
	ZeroCopyBytes int
}

// check returns an error for options of one side that its engine by does not support.
func (o Options) check(by Engine, tls *tls.Config) error {
	if by != Goroutines && tls != nil {
		return errors.New("tcp: TLS needs the engine goroutine: crypto/tls reads and writes on a blocking connection")
	}
	if by == Goroutines && (o.Cork || o.QuickAck || o.ZeroCopyBytes > 0) {
		return errors.New("tcp: Go's net package cannot cork, acknowledge at once or send without a copy (use engine epoll)")
	}
	return nil
}
