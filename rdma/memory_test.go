package rdma

import (
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
)

func TestPinnedIsWhatIsRegistered(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		s    transport.ServerOptions
		want Pinned
	}{
		{"the transport's own memory", Options{}, transport.ServerOptions{}, Pinned{48 << 20, 256 * (8192 + 64), 64}},
		{"less depth", Options{}, transport.ServerOptions{Depth: 16}, Pinned{48 << 20, 32 * (8192 + 64), 512}},
		{"what was asked for, in powers of two", Options{}, transport.ServerOptions{ConnBytes: 5 << 20, PoolBytes: 200 << 20, MaxConns: 3}, Pinned{264 << 20, 256 * (8192 + 64), 3}},
		{"large values need room", Options{}, transport.ServerOptions{PoolBytes: 1, Limits: kv.Limits{MaxValueBytes: 16 << 20}}, Pinned{144 << 20, 256 * (8192 + 64), 64}},
		{"flags", Options{Verb: WritePoll}, transport.ServerOptions{Depth: 16}, Pinned{48 << 20, 32 * (8192 + 64 + 16), 341}},
		{"a shared receive queue", Options{SRQ: true}, transport.ServerOptions{Depth: 16}, Pinned{64 << 20, 32 * 64, 64}},
		{"transfer buffers of Valkey's clients", Options{Connect: ByCM}, transport.ServerOptions{}, Pinned{48 << 20, 1<<20 + 256<<10 + 192*32, 169}},
		{"few connections, whose slots are larger", Options{Connect: ByCM}, transport.ServerOptions{MaxConns: 3}, Pinned{48 << 20, 256 * (8192 + 64), 3}},
	} {
		if c.o.Connect == ByCM && Modelled() != nil {
			continue // the model has no rdma_cm
		}
		got, err := Transport{Options: c.o}.Pinned(c.s)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
	if _, err := (Transport{Options: Options{SlotBytes: 1}}).Pinned(transport.ServerOptions{}); err == nil {
		t.Error("options that cannot be have an answer")
	}
}
