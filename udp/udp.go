// Package udp is the network of datagrams over UDP sockets, under epoll or io_uring: one socket for each network loop of a server, and one for all client connections of
// a loop. Package transport/datagram is the protocol; this package moves its packets, by sendmmsg and recvmmsg, and converts between requests and the
// native frame. It may not import store.
package udp

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"

	"github.com/kvwire/kvwire/internal/names"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/datagram"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// Engine is the way in which sockets are used.
type Engine uint8

const (
	Epoll Engine = iota // sendmmsg and recvmmsg, and epoll to sleep
	Uring               // entries of the loop's ring: a receive that goes on (multishot), and a send for each message
)

var engineNames = [...]string{"epoll", "uring"}

// String returns the engine's name in the column udp_engine.
func (e Engine) String() string { return engineNames[e] }

// ParseEngine parses an engine's name.
func ParseEngine(s string) (Engine, error) { return names.Parse[Engine](s, engineNames[:]) }

// Options are the options of the network. Zero values mean the defaults.
type Options struct {
	Engine        Engine              // of both sides
	DatagramBytes int                 // largest datagram (1472)
	Credits       int                 // most packets of a connection in flight to the server, as far as they fit the sockets' receive buffers (256)
	Congestion    datagram.Congestion // of clients
	Segments      bool                // several datagrams in one message, where the kernel has that (UDP_SEGMENT and UDP_GRO)

	// For tests, and for machines without netem: shares of the packets that each side drops on arrival, and delivers a second time.
	Loss, Duplicates float64
	Seed             uint64 // of the loss
}

// Credits is the default of Options.Credits. With 64 a value of 1 MiB would have a sleep of each side for every 23 KiB.
const Credits = 256

// DatagramBytes is the default of Options.DatagramBytes: Ethernet's MTU less the headers of IPv4 and UDP.
const DatagramBytes = 1472

// Transport implements transport.Transport. Its zero value is ready.
type Transport struct{ Options Options }

var _ transport.Transport = Transport{}

// Name returns the value of the column transport.
func (Transport) Name() string { return "udp" }

// Sleep returns how its loops wait. With epoll the disk's ring, if any, is one of the descriptors.
func (t Transport) Sleep() loop.Sleep {
	if t.Options.Engine == Uring {
		return loop.SleepRing
	}
	return loop.SleepEpoll
}

// Serve listens on addr, host:port.
func (t Transport) Serve(addr string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	return serve(addr, g, o, t.Options)
}

// Dial connects to addr, host:port, and puts the connection onto l.
func (t Transport) Dial(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions) (transport.Conn, error) {
	return dial(ctx, l, addr, o, t.Options)
}

// datagramBytes returns the largest datagram.
func (o Options) datagramBytes() int { return cmp.Or(o.DatagramBytes, DatagramBytes) }

// overhead is what a packet takes in the kernel's buffer besides its bytes, on a network card with buffers of 2 KiB.
const overhead = 2304 - 1472

// core returns the options of the protocol on a socket, whose receive buffer has room for the packets of one connection.
func (o Options) core(fd int) datagram.Options {
	c := datagram.Options{DatagramBytes: o.datagramBytes(), Credits: cmp.Or(o.Credits, Credits), Congestion: o.Congestion, Random: random}
	if room, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
		c.Credits = max(1, min(c.Credits, room/(c.DatagramBytes+overhead)))
	}
	return c
}

// random returns 64 bits that no peer can guess.
func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.NativeEndian.Uint64(b[:])
}

// smallBytes is the room of a slot's own memory for key and value, and again for an answer.
const smallBytes = 256

// headBytes is the longest beginning of a reply: the frame's header and the durations.
const headBytes = wire.HeaderBytes + wire.TimesBytes
