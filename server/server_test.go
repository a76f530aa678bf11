package server

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
)

type ended chan *kv.Request

func (e ended) Complete(r *kv.Request) { e <- r }

// What a loop reads for DBSIZE or INFO is as long with many partitions as with one, and counts the items of all.
func TestBriefCountersAreAsShortForManyPartitions(t *testing.T) {
	const items = 200
	for _, loops := range []int{1, 8} {
		g, err := loop.NewGroup(loop.Plan{NetLoops: loops, Net: loop.Options{Sleep: loop.SleepEpoll}}, func(l *loop.Loop, shard, shards int) (loop.Partition, error) {
			return store.Open(l, shard, shards, store.Options{Backend: store.Mem, Limits: kv.Limits{MaxKeyBytes: 100, MaxValueBytes: 100}})
		})
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{group: g}
		for i := range loops {
			s.onStats(g.Router(i))
		}
		back := make(ended, 1)
		do := func(r *kv.Request) *kv.Request {
			r.Owner = back
			g.Net()[0].Do(func() { g.Router(0).Submit(r) })
			return <-back
		}
		for i := range items {
			do(&kv.Request{Op: kv.OpPut, Key: fmt.Append(nil, "key", i), Value: []byte("v")})
		}
		r := do(&kv.Request{Op: kv.OpStats, Limit: kv.StatsBrief, Value: make([]byte, 0, 300)})
		var c Counters
		if err := json.Unmarshal(r.Value, &c); r.Status != kv.StatusOK || err != nil || len(c.Stores) != 1 || c.Stores[0].Items != items || c.Process.User+c.Process.Sys == 0 {
			t.Errorf("%d loops: %v, %d bytes of at most 300: %s (%v)", loops, r.Status, r.Need, r.Value, err)
		}
		r = do(&kv.Request{Op: kv.OpStats, Value: make([]byte, 0, 1<<20)})
		if err := json.Unmarshal(r.Value, &c); err != nil || len(c.Stores) != loops {
			t.Errorf("%d loops have %d partitions (%v)", loops, len(c.Stores), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
