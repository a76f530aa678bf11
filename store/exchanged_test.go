package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// The folders of two shards that were exchanged: their items are whole, and no get would find them.
func TestExchangedShardsAreRefused(t *testing.T) {
	dir := t.TempDir()
	open := func(o Options) (*loop.Group, error) {
		o.Backend, o.Dir, o.DiskEngine, o.Limits, o.CacheBytes = Disk, dir, EnginePool, testLimits, cacheBytesMin
		return loop.NewGroup(loop.Plan{NetLoops: 2}, func(l *loop.Loop, shard, shards int) (loop.Partition, error) { return Open(l, shard, shards, o) })
	}
	do := func(g *loop.Group, op kv.Op) (found int) {
		t.Helper()
		back := completer(make(chan *kv.Request, 100))
		if err := g.Net()[0].Call(func() {
			for i := range 100 {
				g.Router(0).Submit(&kv.Request{Op: op, Key: fmt.Appendf(nil, "key%d", i), Value: fmt.Appendf(make([]byte, 0, 100), "value%d", i), Owner: back})
			}
		}); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if r := <-back; r.Status == kv.StatusOK {
				found++
			}
		}
		return found
	}
	exchange := func() {
		t.Helper()
		for _, move := range [][2]string{{"shard-000", "aside"}, {"shard-001", "shard-000"}, {"aside", "shard-001"}} {
			if err := os.Rename(filepath.Join(dir, move[0]), filepath.Join(dir, move[1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	g, err := open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	do(g, kv.OpPut)
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	exchange()
	if _, err := open(Options{}); err == nil || !strings.Contains(err.Error(), "belongs to shard") {
		t.Errorf("opened: %v", err)
	}
	if _, err := Inspect(dir, nil); err == nil || !strings.Contains(err.Error(), "belongs to shard") {
		t.Errorf("inspected: %v", err)
	}
	exchange() // back
	if g, err = open(Options{}); err != nil {
		t.Fatal(err)
	}
	if n := do(g, kv.OpGet); n != 100 {
		t.Errorf("%d of 100 items are there", n)
	}
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	exchange()
	if g, err = open(Options{AcceptLoss: true}); err != nil {
		t.Fatal(err)
	}
	if n := do(g, kv.OpGet); n != 0 {
		t.Errorf("%d items of other shards are there", n)
	}
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
}
