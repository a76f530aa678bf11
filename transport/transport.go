// Package transport is the interface that each network implements, with limits, deadlines, and the reasons for which
// a connection ends. It may import kv, loop, wire and access, and no network.
package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/wire"
)

// Transport is one network. Its two halves are Serve and Dial.
type Transport interface {
	// Name is its value in the transport column.
	Name() string

	// Sleep is the kind of loop that its endpoints and connections live on.
	Sleep() loop.Sleep

	// Serve listens on addr and puts an endpoint onto each network loop of g, whose requests go to
	// that loop's router. It blocks until connections can be made. Any goroutine except a loop's may call it.
	Serve(addr string, g *loop.Group, o ServerOptions) (Server, error)

	// Dial connects, exchanges the hellos, and puts the connection onto l. It blocks until then, or until
	// ctx is done. Any goroutine except a loop's may call it. Only l may use the connection.
	Dial(ctx context.Context, l *loop.Loop, addr string, o DialOptions) (Conn, error)
}

// Server is a listening transport. Any goroutine except a loop's may call its methods, unless their comment says otherwise.
type Server interface {
	Addr() string // the address for Dial

	// Close accepts no more connections and ends the open ones in order: received requests are executed and answered, then a refusal follows.
	// It blocks until all connections are closed, however long their peers and the handler need.
	Close() error

	// Cut ends all connections at once, so that a Close that runs at the same time can end. Close still waits for requests that the
	// handler has.
	Cut()

	// Stats returns the counters of connections, one element per network loop.
	Stats() ([]Stats, error)

	// LoopStats returns the element of network loop i. Only that loop's goroutine may call it.
	LoopStats(i int) Stats
}

// Stats are the counters of a server's connections on one network loop, since it began to listen.
type Stats struct {
	Conns      int    // open now
	Paused     int    // of these, those that wait for memory: nothing is read from them
	Opened     uint64 // connections that were accepted and granted
	Refused    uint64 // connections that the server ended with a code, except at its own end
	Requests   uint64 // requests begun; a command of Redis for several keys is several
	Unanswered uint64 // of these, those whose answer was not sent when this side ended the connection
	BytesIn    uint64 // received
	BytesOut   uint64 // sent

	ConnBytes, ConnBytesMax int // memory that connections hold, and may hold
	PoolBytes, PoolBytesMax int // likewise: memory of keys and values under way
}

// Conn is the client's end of a connection: a handler on a loop. Requests beyond the granted
// depth wait in it, in order. When it ends, requests that may have been applied end as StatusUnknown
// and all others as StatusClosed.
type Conn interface {
	kv.Handler

	// Hello is what the server granted.
	Hello() wire.ServerHello

	// Err is nil while the connection is open, and then the reason why it ended. Only its loop may call it.
	Err() error

	// Hangup closes the connection from any goroutine but its loop's, and waits until it is closed.
	Hangup()
}

// ServerOptions are a server's limits. Zero values mean the defaults of Defaults.
type ServerOptions struct {
	Limits    kv.Limits
	Depth     int           // most requests in flight on a connection; the hello grants no more
	MaxConns  int           // connections per network loop
	HelloMax  time.Duration // longest time from accept to a complete hello
	StallMax  time.Duration // longest time in which an incomplete message, or a reply that is being sent, makes no progress
	IdleMax   time.Duration // longest time without a request under way; 0: no bound
	RecvBytes int           // receive buffer of a connection
	ConnBytes int           // memory of a network loop for its connections, in all
	PoolBytes int           // and for the keys and values under way, in all
	InOrder   bool          // the handler executes requests for the same key in the order in which a loop submits them
	Access    *access.List  // the clients that may connect; nil: all
	Log       *slog.Logger  // receives a message for each connection that is refused or ends in an error; nil: nothing is logged
}

// DialOptions are the options of a client's connection. Zero values mean the defaults.
type DialOptions struct {
	Depth     int           // requests in flight; the server may grant fewer
	Loop      int           // the server's loop to be served by, 0-based; below 0: any
	DialMax   time.Duration // for connecting and the hello together
	Access    *access.Entry // the client's name and secret. The server must prove that it has the secret, too. nil: no authentication
	Redis     bool          // the server is a Redis: gets, puts, deletes and INFO only; Access's secret goes in plain text, and the server proves nothing. Over rdma by Valkey's protocol
	RecvBytes int
}

// AnyLoop in DialOptions.Loop leaves the choice to the server.
const AnyLoop = -1

// Defaults replaces zero values by the defaults, and checks the others.
func (o ServerOptions) Defaults() (ServerOptions, error) {
	setInt(&o.Limits.MaxKeyBytes, 1024)
	setInt(&o.Limits.MaxValueBytes, 1<<20)
	setInt(&o.Depth, 256)
	setInt(&o.MaxConns, 16384)
	setInt(&o.RecvBytes, 16<<10)
	setInt(&o.ConnBytes, 512<<20) // address space: a page costs memory from its first use on
	setInt(&o.PoolBytes, 256<<20)
	setDuration(&o.HelloMax, 5*time.Second)
	setDuration(&o.StallMax, 30*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Depth < 1 || o.MaxConns < 1 || o.PoolBytes < 1 || o.ConnBytes < 1:
		return o, fmt.Errorf("transport: depth %d, %d connections, %d B for them and %d B for what is under way: each must be 1 at least", o.Depth, o.MaxConns, o.ConnBytes, o.PoolBytes)
	case o.HelloMax < time.Millisecond || o.StallMax < time.Millisecond || o.IdleMax < 0 || o.IdleMax > 0 && o.IdleMax < time.Millisecond:
		return o, fmt.Errorf("transport: deadlines of %v for a hello, %v for a peer that stops, %v for one that is idle: at least 1ms each", o.HelloMax, o.StallMax, o.IdleMax)
	case o.Limits.MaxKeyBytes > 1024:
		return o, fmt.Errorf("transport: largest key %d B: at most 1024", o.Limits.MaxKeyBytes)
	case o.Limits.MaxValueBytes > 16<<20:
		return o, fmt.Errorf("transport: largest value %d B: at most 16 MiB", o.Limits.MaxValueBytes)
	case o.Depth > MaxDepth:
		return o, fmt.Errorf("transport: depth %d: at most %d", o.Depth, MaxDepth)
	case o.RecvBytes < wire.MaxHelloBytes:
		return o, fmt.Errorf("transport: receive buffer %d B: at least %d", o.RecvBytes, wire.MaxHelloBytes)
	}
	return o, nil
}

// Defaults replaces zero values by the defaults, and checks the others.
func (o DialOptions) Defaults() (DialOptions, error) {
	setInt(&o.Depth, 16)
	setInt(&o.RecvBytes, 64<<10)
	setDuration(&o.DialMax, 5*time.Second)
	if o.Depth < 1 || o.Depth > MaxDepth {
		return o, fmt.Errorf("transport: depth %d: 1 to %d", o.Depth, MaxDepth)
	}
	return o, nil
}

// MaxDepth is the most requests in flight on one connection.
const MaxDepth = 1024

func setInt(p *int, v int) {
	if *p == 0 {
		*p = v
	}
}

func setDuration(p *time.Duration, v time.Duration) {
	if *p == 0 {
		*p = v
	}
}

// Refusal is the error of a connection that the server refused or ended with a code.
type Refusal struct {
	Code   wire.Code
	Reason string // text from the server; may be empty
}

// Error returns one line.
func (r *Refusal) Error() string {
	if r.Reason == "" {
		return "refused by the server: " + r.Code.String()
	}
	return "refused by the server: " + r.Code.String() + ": " + quote.Text(r.Reason)
}

// Errors for errors.Is.
var (
	// ErrPeerGone means that the peer closed or reset the connection.
	ErrPeerGone = errors.New("the peer closed the connection")
	// ErrClosed means that this side closed the connection.
	ErrClosed = errors.New("the connection was closed")
	// ErrProtocol means that the peer violated the protocol.
	ErrProtocol = errors.New("protocol violation")
	// ErrImpostor means that the server granted the connection without a valid proof that it has the client's secret.
	ErrImpostor = errors.New("the server has not proved that it has the secret")
	// ErrCut means that this side ended the connection before it had answered all requests.
	ErrCut = errors.New("cut off, because the server shuts down")
	// ErrStalled means that the peer stopped to read or write in the middle of a message.
	ErrStalled = errors.New("the peer stopped in the middle of a message")
)
