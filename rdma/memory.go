package rdma

import (
	"fmt"

	"github.com/kvwire/kvwire/rdma/valkey"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
)

// Defaults of a network loop's memory. All of it is pinned from the start.
const (
	connBytes = 16 << 20
	poolBytes = 32 << 20
)

// cqEntries is the size of a loop's completion queue, if the device supports it: enough for 200 to 500 connections.
const cqEntries = 32 << 10

// sharedSlots bounds a loop's shared receive queue: 16 MiB with slots of 8 KiB.
const sharedSlots = 2048

// respEntries is the number of completions that a connection with Valkey's protocol may have in the completion queue: those of all work requests, and of the bind
// of its memory window.
var respEntries = valkey.Sizes.Receives + valkey.Sizes.Sends + 1

// stagingBytes is the memory of a server's connection for each message outside registered memory, such as a refusal.
const stagingBytes = 64

// ServerDefaults replaces zero options by defaults: those of transport.ServerOptions, except for memory, where the defaults are lower because it is pinned.
func ServerDefaults(o transport.ServerOptions) (transport.ServerOptions, error) {
	if o.ConnBytes == 0 {
		o.ConnBytes = connBytes
	}
	if o.PoolBytes == 0 {
		o.PoolBytes = poolBytes
	}
	return o.Defaults()
}

// Pinned is the memory that a server registers with its device, in bytes, without the tables of the verb read.
type Pinned struct {
	Loop  uint64 // for each network loop, from the start: its pools and the shared receive queue
	Conn  uint64 // for each connection of the largest depth
	Conns int    // the most such connections of a loop
}

// LoopMax returns the most memory that a network loop can pin.
func (p Pinned) LoopMax() uint64 { return p.Loop + uint64(p.Conns)*p.Conn }

// Pinned returns the memory that a server with these options pins.
func (t Transport) Pinned(o transport.ServerOptions) (p Pinned, err error) {
	opts, err := t.Options.Defaults()
	if err != nil {
		return p, err
	}
	if o, err = ServerDefaults(o); err != nil {
		return p, fmt.Errorf("rdma: pinned memory: %w", err)
	}
	slots := slotsFor(o.Depth)
	p.Loop = uint64(stream.MemoryBytes(o))
	p.Conn, p.Conns = uint64(slots*(opts.SlotBytes+stagingBytes)), min(o.MaxConns, cqEntries/opts.Verb.completionsFor(slots))
	if opts.Verb == WritePoll {
		p.Conn += uint64(slots * 2 * flagBytes)
	}
	if opts.SRQ {
		p.Loop += uint64(sharedSlots * opts.SlotBytes)
		p.Conn, p.Conns = uint64(slots*stagingBytes), min(p.Conns, sharedSlots/slots)
	}
	if opts.Connect == ByCM { // then also clients of Valkey connect
		v := Pinned{p.Loop, uint64(valkey.Sizes.MemoryBytes()), min(o.MaxConns, cqEntries/respEntries)}
		if v.LoopMax() > p.LoopMax() {
			p = v
		}
	}
	return p, nil
}
