package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/transport"
)

// serverBounds are what clients may have of a server that is not a run's, and how long they may take. Zero is the default of transport.ServerOptions.
type serverBounds struct {
	conns, depth         int
	keyBytes, valueBytes factor.Bytes
	connBytes, poolBytes factor.Bytes
	hello, stall, idle   time.Duration
}

func (f *factors) boundFlags() {
	o, err := transport.ServerOptions{}.Defaults()
	pinned, perr := rdma.ServerDefaults(transport.ServerOptions{})
	if err = cmp.Or(err, perr); err != nil {
		panic(err)
	}
	b, s := &f.bounds, f.set
	size := func(bytes int) string { b := factor.Bytes(bytes); return b.String() }
	*b = serverBounds{keyBytes: factor.Bytes(o.Limits.MaxKeyBytes)}
	s.IntVar(&b.conns, "max-conns", o.MaxConns, "connections of each loop; one more is refused")
	s.IntVar(&b.depth, "max-depth", o.Depth, "requests in flight on a connection; no more are granted")
	s.Var(&b.keyBytes, "max-key-bytes", "largest key; 1KiB at most")
	s.Var(&b.valueBytes, "max-value-bytes", "largest value, 16KiB at least, which is for the server's counters; 0: 1MiB, or --value-bytes where that is more")
	s.Var(&b.connBytes, "connection-memory", fmt.Sprintf("memory of each loop for open connections; a connection is refused when none is left; 0: %s, over rdma (pinned) %s", size(o.ConnBytes), size(pinned.ConnBytes)))
	s.Var(&b.poolBytes, "message-memory", fmt.Sprintf("memory of each loop for keys and values under way; all connections share it, and wait when none is left; 0: %s, over rdma (pinned) %s", size(o.PoolBytes), size(pinned.PoolBytes)))
	s.DurationVar(&b.hello, "hello-deadline", o.HelloMax, "from connecting to a whole hello")
	s.DurationVar(&b.stall, "stall-deadline", o.StallMax, "a message half received, or an answer of which the client takes nothing; twice that for a whole one while others wait for its memory")
	s.DurationVar(&b.idle, "idle-deadline", 0, "a connection of which nothing is under way, such as that by which bench asks for counters while it measures; 0: it may stay, and a peer that is dead is noticed in 30s")
	factor.Group(s, "Limits of connections", "max-conns", "max-depth", "max-key-bytes", "max-value-bytes", "connection-memory", "message-memory", "hello-deadline", "stall-deadline", "idle-deadline")
}

// checkBounds refuses values that the ranges of the flags allow because 0 has a special meaning.
func (f *factors) checkBounds() error {
	b := &f.bounds
	switch {
	case b.valueBytes != 0 && b.valueBytes < 16<<10:
		return usagef("--max-value-bytes %s: must be 0, or from 16KiB to 16MiB", &b.valueBytes)
	case b.connBytes != 0 && b.connBytes < 1<<20:
		return usagef("--connection-memory %s: must be 0, or at least 1MiB", &b.connBytes)
	case b.idle != 0 && b.idle < time.Millisecond:
		return usagef("--idle-deadline %v: must be 0, or at least 1ms", b.idle)
	}
	return nil
}

// serverOptions are those of a server's connections, without its log.
func (f *factors) serverOptions() transport.ServerOptions {
	b := &f.bounds
	return transport.ServerOptions{Limits: f.limits(), Depth: cmp.Or(b.depth, max(f.Load.Depth, 256)), MaxConns: b.conns, HelloMax: b.hello, StallMax: b.stall, IdleMax: b.idle,
		ConnBytes: int(b.connBytes), PoolBytes: int(b.poolBytes), InOrder: !f.OnDisk(), Access: f.guard.list}
}

// pins returns the memory in bytes that a server with that many network loops pins: least with its first connection, most with all connections. Networks other than rdma pin none.
func (f *factors) pins(netLoops int) (p rdma.Pinned, least, most uint64, err error) {
	if f.Server.Transport != "rdma" {
		return p, 0, 0, nil
	}
	if p, err = (rdma.Transport{Options: f.RDMA.Options()}).Pinned(f.serverOptions()); err != nil {
		return p, 0, 0, err
	}
	tables := uint64(0)
	if f.ReadsItems() {
		tables = uint64(f.RDMA.ExportBytes)
	}
	return p, uint64(netLoops)*p.Loop + p.Conn + tables, uint64(netLoops)*p.LoopMax() + tables, nil
}

// defaultPins returns the memory that one loop of a server with the default flags pins.
func defaultPins() (least, most uint64, err error) {
	f := newFactors("serve", "")
	f.serverFlags()
	f.boundFlags()
	f.Server.Transport = "rdma"
	_, least, most, err = f.pins(1)
	return least, most, err
}

// pinned describes the memory that the server will pin; an error means that it cannot pin it.
func (f *factors) pinned(h *probe.Host, p *loop.Plan) (said string, err error) {
	of, least, most, err := f.pins(p.NetLoops)
	if err != nil {
		return "", err
	}
	found := probe.Pinnable(h, least, most)
	if err := found.Err(); found.State == probe.Unavailable {
		return "", exit.With(exit.Missing, err)
	}
	said = fmt.Sprintf("%d MiB for each loop and %.4g MiB for each of its connections (at most %d): %d MiB with the first connection, %d MiB with all; %s",
		of.Loop>>20, float64(of.Conn)/(1<<20), of.Conns, least>>20, most>>20, found.Why)
	if found.Remedy != "" {
		said += ": " + found.Remedy
	}
	return said, nil
}

// memory says how much a server may take beside its index and what it keeps in memory, and whether there is as much: the pages of pools and cache are taken by their use.
func (f *factors) memory(p *loop.Plan) (said string, enough bool) {
	o, err := f.serverOptions().Defaults()
	if err != nil {
		return err.Error(), false
	}
	need := int64(p.NetLoops) * int64(o.ConnBytes+o.PoolBytes)
	if f.Server.Transport == "rdma" {
		_, _, most, err := f.pins(p.NetLoops)
		if err != nil {
			return err.Error(), false
		}
		need = int64(most)
	}
	if f.OnDisk() {
		need += int64(f.Store.CacheBytes)
	}
	have, by, err := probe.Memory(probe.Local())
	if err != nil {
		return err.Error(), true
	}
	said = fmt.Sprintf("up to %d MiB for connections, requests and cache, and the index beside them, of %d MiB (%s)", need>>20, have>>20, by)
	if need > have {
		return said + ": lower --cache-bytes, --message-memory or --connection-memory, or the kernel may end the server under load", false
	}
	return said, true
}
