// Package rdma is the network of RDMA reliable connected queue pairs, with the same interface as tcp and uring.
// Package transport/stream makes and parses a connection's bytes; this package sends them as messages, each into a
// slot of memory that the receiver has posted for it. It may import transport, loop, wire, cgo/verbs and internal
// packages, and never the store. Without the build tag rdma, each function returns an error with the reason.
package rdma

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/names"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
)

// Verb is the way in which messages travel.
type Verb uint8

const (
	Send      Verb = iota // SEND both ways: the receiver's queue determines the place of a message (channel semantics)
	Write                 // RDMA WRITE with immediate data both ways: the sender determines the place (memory semantics)
	Read                  // gets by RDMA READ of a table that the server exports; other requests, and gets of keys not in the table, as Send
	WritePoll             // RDMA WRITE without immediate data both ways: the receiver polls its memory for messages (memory semantics without a notification)
)

var verbNames = [...]string{"send", "write", "read", "write-poll"}

// String returns the verb's name in its column.
func (v Verb) String() string { return verbNames[v] }

// writes reports whether messages are written into slots of the receiver that the sender chooses.
func (v Verb) writes() bool { return v == Write || v == WritePoll }

var errNoCM = errors.New("rdma: rdma_cm connects queue pairs of the kernel's devices only, and the model is none: --rdma-connect tcp")

// CheckWait returns an error if loops with this wait policy cannot use the verb.
func (v Verb) CheckWait(w loop.Wait) error {
	if v == WritePoll && w != loop.WaitSpin {
		return fmt.Errorf("rdma: the verb write-poll needs --wait spin, not %v: its messages make no event, so they cannot wake a loop that sleeps", w)
	}
	return nil
}

// ParseVerb parses a verb's name.
func ParseVerb(s string) (Verb, error) {
	v, err := names.Parse[Verb](s, verbNames[:])
	if err != nil {
		return 0, fmt.Errorf("verb %w", err)
	}
	return v, nil
}

// Connect is the way in which queue pairs are connected. The hello travels by TCP in both cases.
type Connect uint8

const (
	ByTCP Connect = iota // the hellos carry all parameters
	ByCM                 // rdma_cm connects them; its request carries the hello's token
)

var connectNames = [...]string{"tcp", "cm"}

// String returns the way's name in its column.
func (c Connect) String() string { return connectNames[c] }

// ParseConnect parses a way's name.
func ParseConnect(s string) (Connect, error) {
	for i, n := range connectNames {
		if s == n {
			return Connect(i), nil
		}
	}
	return 0, fmt.Errorf("connection by %q is unknown (tcp or cm)", s)
}

// Options are the options of both ends. Zero values mean the defaults of Defaults.
type Options struct {
	Verb         Verb
	Connect      Connect
	SlotBytes    int  // size of the largest message that this side receives; a larger frame travels in fragments
	InlineBytes  int  // most bytes that are copied into the work request; below 0: none
	SignalEvery  int  // work requests per completion, unless memory waits for a completion
	PostBatch    int  // most work requests per doorbell
	SRQ          bool // the connections of a loop share one receive queue
	MTU          int  // of the path, bytes; the port's and the peer's limit it
	TrafficClass int  // of the packets: on Ethernet DSCP and ECN, which choose their priority; 0: rdma_cm's, or none
	ServiceLevel int  // on InfiniBand, where it chooses the virtual lane; 0: the path record's with rdma_cm, or 0
	HugePages    bool // slots in huge pages, where the kernel has some
}

// Defaults replaces zero values by the defaults, and checks the others.
func (o Options) Defaults() (Options, error) {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.SlotBytes, 8<<10)
	set(&o.InlineBytes, 220)
	set(&o.SignalEvery, 16)
	set(&o.PostBatch, 64)
	set(&o.MTU, 4096)
	switch {
	case o.Connect == ByCM && Modelled() != nil:
		return o, errNoCM
	case o.SlotBytes < 256 || o.SlotBytes > 1<<20 || o.SlotBytes%64 != 0:
		return o, fmt.Errorf("rdma: slots of %d B: 256 B to 1 MiB, a multiple of 64", o.SlotBytes)
	case o.InlineBytes > 1024:
		return o, fmt.Errorf("rdma: inline data of %d B: at most 1024", o.InlineBytes)
	case o.SignalEvery < 1 || o.SignalEvery > 64:
		return o, fmt.Errorf("rdma: a completion for every %d work requests: 1 to 64", o.SignalEvery)
	case o.PostBatch < 1 || o.PostBatch > 64:
		return o, fmt.Errorf("rdma: %d work requests for a doorbell: 1 to 64", o.PostBatch)
	case o.SRQ && o.Verb.writes():
		return o, fmt.Errorf("rdma: a shared receive queue has no use with the verb %v, whose messages carry the address of a slot", o.Verb)
	case o.MTU < 256 || o.MTU > 4096 || o.MTU&(o.MTU-1) != 0:
		return o, fmt.Errorf("rdma: path MTU %d: 256, 512, 1024, 2048 or 4096", o.MTU)
	case o.TrafficClass < 0 || o.TrafficClass > 255:
		return o, fmt.Errorf("rdma: traffic class %d: 0 to 255", o.TrafficClass)
	case o.ServiceLevel < 0 || o.ServiceLevel > 15:
		return o, fmt.Errorf("rdma: service level %d: 0 to 15", o.ServiceLevel)
	}
	return o, nil
}

// Transport implements transport.Transport. Its zero value is ready.
type Transport struct{ Options }

var _ transport.Transport = Transport{}

// Name returns the value of the column transport.
func (Transport) Name() string { return "rdma" }

// Sleep returns epoll: the completion channel, and the disk's ring, if any, are among its descriptors.
func (Transport) Sleep() loop.Sleep { return loop.SleepEpoll }

// Unavailable returns the reason why this transport cannot run here, as one line with the remedy: a
// *probe.Refusal; nil if it can.
func Unavailable() error { return verbs.Unavailable() }

// Here returns the default address of servers: that of the first device that has one. The error is the reason why RDMA does not work here: the
// build, the library, or that there is no such device.
func Here() (netip.Addr, error) {
	if err := Unavailable(); err != nil {
		return netip.Addr{}, err
	}
	c, err := device.Pick(device.Local(), netip.Addr{})
	return c.Addr, err
}

// slotsFor returns the number of a side's slots for a depth: twice the depth, because new credits need time to
// reach the peer. It is a power of two, so that a message's number maps to its slot even after 2^32 messages.
func slotsFor(depth int) int { return min(max(1<<bits.Len(uint(2*depth-1)), 16), 256) }

// completionsFor returns the most completions of a connection that the device may hold: one for each receive, and one for each work request of
// the send queue, which all make one when the queue pair fails. With write-poll a message is two work requests.
func (v Verb) completionsFor(slots int) int {
	if v == WritePoll {
		return 3 * slots
	}
	return 2 * slots
}
