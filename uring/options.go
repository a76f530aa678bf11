package uring

import (
	"fmt"
	"time"

	"github.com/kvwire/kvwire/internal/names"
	"github.com/kvwire/kvwire/internal/ring"
	netsock "github.com/kvwire/kvwire/transport/socket"
)

// Large is the way of moving a transfer that the kernel may end short: a send, or the receive of the rest of a body of known length.
type Large uint8

const (
	WaitAll  Large = iota // MSG_WAITALL: the kernel continues by itself
	Step                  // as with sockets and writev: the next turn continues with the rest
	Linked                // a send is a chain of entries of Options.ChunkBytes each, with MSG_WAITALL; receives as with WaitAll
	ZeroCopy              // WaitAll, and sends of Options.ZeroCopyBytes and more are without copy (SENDMSG_ZC, Linux 6.1)
	Once                  // Step, but a short transfer ends a client's request as kv.StatusTruncated
)

var largeNames = [...]string{"waitall", "step", "linked", "zerocopy", "once"}

// Larges returns the names of all values.
func Larges() []string { return largeNames[:] }

// String returns the way's name in the column uring_large.
func (l Large) String() string { return largeNames[l] }

// ParseLarge parses a way's name.
func ParseLarge(s string) (Large, error) { return names.Parse[Large](s, largeNames[:]) }

// Receive is the method of receives. Larger bodies than Options.BodyBytes are received in place by all of them.
type Receive uint8

const (
	Auto      Receive = iota // Multishot for requests, which come in bursts to a small buffer; Single for answers, and where the kernel has no multishot receives
	Single                   // one entry receives once, into the side's own memory
	Multishot                // one entry receives repeatedly into the loop's buffers, from which bytes are copied (IORING_RECV_MULTISHOT, Linux 6.0)
)

var receiveNames = [...]string{"auto", "single", "multishot"}

// Receives returns the names of all methods.
func Receives() []string { return receiveNames[:] }

// String returns the method's name in the column uring_receive.
func (r Receive) String() string { return receiveNames[r] }

// ParseReceive parses a method's name.
func ParseReceive(s string) (Receive, error) { return names.Parse[Receive](s, receiveNames[:]) }

// chunkLeast is the least that an entry of a chain may send: a chain must fit into the ring.
const chunkLeast = 4 << 10

// Options are the options of either end. The zero value is the default; docs/adr/0015 has the measured cost of the others.
type Options struct {
	Large Large

	Receive     Receive
	Buffers     int // Multishot: of each end and loop, a power of two; 0: 256
	BufferBytes int // of each of them; 0: 4 KiB

	BodyBytes  int // smallest rest of a body that is received in place, by a separate receive; 0: 32 KiB
	ChunkBytes int // Linked: the most bytes that an entry of a chain sends; 0: 256 KiB

	Bundle        bool          // Multishot: one completion for as many buffers as there are bytes for. Sends: pieces as provided buffers (Linux 6.10)
	FixedFiles    bool          // sockets are registered with the ring
	ZeroCopyBytes int           // ZeroCopy: smallest send that is not copied; 0: 16 KiB
	NAPI          time.Duration // time that a wait polls the device's queue (Linux 6.9); whole µs

	SendBytes    int // SO_SNDBUF; 0: the kernel sizes it
	ReceiveBytes int // SO_RCVBUF; 0: the kernel sizes it
}

// sockets are the options of the sockets themselves.
func (o *Options) sockets() netsock.Options {
	return netsock.Options{SendBytes: o.SendBytes, ReceiveBytes: o.ReceiveBytes}
}

// Defaults replaces zero values by the defaults, and checks the others.
func (o Options) Defaults() (Options, error) {
	if o.Buffers == 0 {
		o.Buffers = 256
	}
	if o.BufferBytes == 0 {
		o.BufferBytes = 4 << 10
	}
	if o.ZeroCopyBytes == 0 {
		o.ZeroCopyBytes = 16 << 10
	}
	if o.BodyBytes == 0 {
		o.BodyBytes = 32 << 10
	}
	if o.ChunkBytes == 0 {
		o.ChunkBytes = 256 << 10
	}
	switch {
	case o.ChunkBytes < chunkLeast:
		return o, fmt.Errorf("chunks of %d B: %d B or more", o.ChunkBytes, chunkLeast)
	case o.SendBytes < 0 || o.ReceiveBytes < 0:
		return o, fmt.Errorf("socket buffers of %d and %d B: 0 or more", o.SendBytes, o.ReceiveBytes)
	case o.BodyBytes < 1:
		return o, fmt.Errorf("bodies of %d B: 1 B or more", o.BodyBytes)
	case o.Buffers < 1 || o.Buffers > 1<<15 || o.Buffers&(o.Buffers-1) != 0:
		return o, fmt.Errorf("%d buffers: a power of two up to %d", o.Buffers, 1<<15)
	case o.BufferBytes < 64 || o.BufferBytes > 1<<20:
		return o, fmt.Errorf("buffers of %d B: 64 B to 1 MiB", o.BufferBytes)
	case o.ZeroCopyBytes < 1:
		return o, fmt.Errorf("sends of %d B without copy: 1 B or more", o.ZeroCopyBytes)
	case o.Bundle && (o.Large == Linked || o.Large == ZeroCopy):
		return o, fmt.Errorf("a bundle cannot be %s", o.Large)
	case o.NAPI < 0 || o.NAPI > time.Second:
		return o, fmt.Errorf("NAPI busy polling for %v: up to 1s", o.NAPI)
	}
	return o, nil
}

// waits reports whether the kernel continues a short transfer by itself.
func (o *Options) waits() bool { return o.Large != Step && o.Large != Once }

// Check returns an error for options of o that the kernel of ring r does not support.
func (o Options) Check(r *ring.Ring) error {
	switch {
	case o.Receive == Multishot && !r.Multishot():
		return fmt.Errorf("uring: this kernel has no multishot receives (Linux 6.0)")
	case o.Large == ZeroCopy && !r.Supports(ring.OpSendmsgZC):
		return fmt.Errorf("uring: this kernel has no sends without copy (SENDMSG_ZC: Linux 6.1)")
	case o.Bundle && !r.Bundles():
		return fmt.Errorf("uring: this kernel has no bundles (IORING_RECVSEND_BUNDLE: Linux 6.10)")
	}
	return nil
}
