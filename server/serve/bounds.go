package serve

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
	"github.com/spf13/pflag"
)

// Bounds are the bounds of clients: how much memory they may use, and how long they may take. The zero value has the defaults of transport.ServerOptions.
type Bounds struct {
	conns, depth         int
	keyBytes, valueBytes factor.Bytes
	connBytes, poolBytes factor.Bytes
	hello, stall, idle   time.Duration
}

// BoundSpans are the ranges of the flags of Bounds.
var BoundSpans = map[string]factor.Span{
	"max-conns": {Least: "1", Most: "1048576"}, "max-depth": {Least: "1", Most: "1024"}, "max-key-bytes": {Least: "1", Most: "1KiB"}, "max-value-bytes": {Least: "0", Most: "16MiB"},
	"connection-memory": {Least: "0", Most: "1TiB"}, "message-memory": {Least: "0", Most: "1TiB"},
	"hello-deadline": {Least: "1ms", Most: "24h"}, "stall-deadline": {Least: "1ms", Most: "24h"}, "idle-deadline": {Least: "0s", Most: "8760h"},
}

// Bind adds the flags of the bounds.
func (b *Bounds) Bind(s *pflag.FlagSet) {
	o, err := transport.ServerOptions{}.Defaults()
	pinned, perr := rdma.ServerDefaults(transport.ServerOptions{})
	if err = cmp.Or(err, perr); err != nil {
		panic(err)
	}
	size := func(bytes int) string { b := factor.Bytes(bytes); return b.String() }
	*b = Bounds{keyBytes: factor.Bytes(o.Limits.MaxKeyBytes)}
	s.IntVar(&b.conns, "max-conns", o.MaxConns, "most connections of each loop; further ones are refused")
	s.IntVar(&b.depth, "max-depth", o.Depth, "most requests in flight on a connection; a client that asks for more gets this number")
	s.Var(&b.keyBytes, "max-key-bytes", "largest key; 1KiB at most")
	s.Var(&b.valueBytes, "max-value-bytes", "largest value; at least 16KiB, because the server's counters are sent as a value; 0: 1MiB, or --value-bytes if that is larger")
	s.Var(&b.connBytes, "connection-memory", fmt.Sprintf("memory of each loop for open connections; a connection is refused when none is left; 0: %s, over rdma (pinned) %s", size(o.ConnBytes), size(pinned.ConnBytes)))
	s.Var(&b.poolBytes, "message-memory", fmt.Sprintf("memory of each loop for keys and values of requests in flight; all connections share it, and wait if none is left; 0: %s, over rdma (pinned) %s", size(o.PoolBytes), size(pinned.PoolBytes)))
	s.DurationVar(&b.hello, "hello-deadline", o.HelloMax, "longest time from connecting to a complete hello")
	s.DurationVar(&b.stall, "stall-deadline", o.StallMax, "longest pause in the middle of a message, or of a client that receives nothing of an answer; while others wait for its memory, a whole message or answer may take twice this time")
	s.DurationVar(&b.idle, "idle-deadline", 0, "longest time of a connection without requests, such as the one over which bench requests counters while it measures; 0: without limit, and a dead peer is detected in 30s")
	factor.Group(s, "Limits of connections", "max-conns", "max-depth", "max-key-bytes", "max-value-bytes", "connection-memory", "message-memory", "hello-deadline", "stall-deadline", "idle-deadline")
}

// Check returns an error for values that the ranges of the flags allow because 0 has a special meaning.
func (b *Bounds) Check() error {
	switch {
	case b.valueBytes != 0 && b.valueBytes < 16<<10:
		return exit.Usagef("--max-value-bytes %s: must be 0, or from 16KiB to 16MiB", &b.valueBytes)
	case b.connBytes != 0 && b.connBytes < 1<<20:
		return exit.Usagef("--connection-memory %s: must be 0, or at least 1MiB", &b.connBytes)
	case b.idle != 0 && b.idle < time.Millisecond:
		return exit.Usagef("--idle-deadline %v: must be 0, or at least 1ms", b.idle)
	}
	return nil
}

// pins returns the memory in bytes that a server with that many network loops pins: least with its first connection, most with all connections. Networks other than rdma pin none.
func (s *Settings) pins(netLoops int) (p rdma.Pinned, least, most uint64, err error) {
	if s.Server.Transport != "rdma" {
		return p, 0, 0, nil
	}
	if p, err = (rdma.Transport{Options: s.RDMA.Options()}).Pinned(s.options()); err != nil {
		return p, 0, 0, err
	}
	tables := uint64(0)
	if s.ReadsItems() {
		tables = uint64(s.RDMA.ExportBytes)
	}
	return p, uint64(netLoops)*p.Loop + p.Conn + tables, uint64(netLoops)*p.LoopMax() + tables, nil
}

// DefaultPins returns the memory that one loop of a server over rdma with the default flags pins: see pins.
func DefaultPins() (least, most uint64, err error) {
	v := factor.NewValues()
	s := Settings{Values: &v}
	s.Server.Transport = "rdma"
	s.Bounds.Bind(pflag.NewFlagSet("", pflag.ContinueOnError))
	_, least, most, err = s.pins(1)
	return least, most, err
}

// pinned describes the memory that the server will pin; an error means that it cannot pin it.
func (s *Settings) pinned(h *probe.Host, p *loop.Plan) (text string, err error) {
	of, least, most, err := s.pins(p.NetLoops)
	if err != nil {
		return "", err
	}
	found := probe.Pinnable(h, least, most)
	if err := found.Err(); found.State == probe.Unavailable {
		return "", exit.With(exit.Missing, err)
	}
	text = fmt.Sprintf("%d MiB for each loop and %.4g MiB for each of its connections (at most %d): %d MiB with the first connection, %d MiB with all; %s",
		of.Loop>>20, float64(of.Conn)/(1<<20), of.Conns, least>>20, most>>20, found.Why)
	if found.Remedy != "" {
		text += ": " + found.Remedy
	}
	return text, nil
}

// memory describes how much memory the server may use besides its index and the mem backend, and whether the machine has as much. The pages of pools and cache are
// taken when they are used.
func (s *Settings) memory(p *loop.Plan) (text string, enough bool) {
	o, err := s.options().Defaults()
	if err != nil {
		return err.Error(), false
	}
	need := int64(p.NetLoops) * int64(o.ConnBytes+o.PoolBytes)
	if s.Server.Transport == "rdma" {
		_, _, most, err := s.pins(p.NetLoops)
		if err != nil {
			return err.Error(), false
		}
		need = int64(most)
	}
	if s.OnDisk() {
		need += int64(s.Store.CacheBytes)
	}
	have, by, err := probe.Memory(probe.Local())
	if err != nil {
		return err.Error(), true
	}
	text = fmt.Sprintf("up to %d MiB for connections, requests and cache, and the index beside them, of %d MiB (%s)", need>>20, have>>20, by)
	if need > have {
		return text + ": lower --cache-bytes, --message-memory or --connection-memory, or the kernel may end the server under load", false
	}
	return text, true
}
