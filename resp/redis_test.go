package resp_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"encoding/json"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/redis/go-redis/v9"
)

var limits = kv.Limits{MaxKeyBytes: 1024, MaxValueBytes: 1 << 20}

// serve starts a server with two loops, and gives its address.
func serve(t *testing.T, o store.Options) string {
	t.Helper()
	return serveTo(t, o, nil)
}

// serveTo is serve for some.
func serveTo(t *testing.T, o store.Options, who *access.List) string {
	t.Helper()
	o.Limits = limits
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	n := tcp.Transport{}
	g, err := loop.NewGroup(loop.Plan{NetLoops: 2, Net: loop.Options{Sleep: n.Sleep()}}, func(l *loop.Loop, shard, shards int) (loop.Partition, error) {
		return store.Open(l, shard, shards, o)
	})
	if err != nil {
		t.Fatal(err)
	}
	items := func() []byte {
		var all struct {
			Stores []store.Stats `json:"stores"`
		}
		for i, l := range g.All() {
			_ = l.Call(func() {
				if s, ok := store.StatsOf(g.Partitions()[i]); ok {
					all.Stores = append(all.Stores, s)
				}
			})
		}
		b, _ := json.Marshal(all)
		return b
	}
	for i := range g.Net() {
		g.Router(i).OnStats(items)
	}
	s, err := n.Serve("127.0.0.1:0", g, transport.ServerOptions{Limits: limits, InOrder: o.Backend == store.Mem, Access: who, Log: o.Log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), g.Stop()); err != nil {
			t.Error(err)
		}
	})
	return s.Addr()
}

// onBoth runs a test with items in memory, and with items on disk behind a cache that holds a few pages.
func onBoth(t *testing.T, f func(t *testing.T, ctx context.Context, c *redis.Client)) {
	for _, proto := range []int{2, 3} {
		for name, o := range map[string]store.Options{
			"mem":  {Backend: store.Mem},
			"disk": {Backend: store.Disk, DiskEngine: store.EnginePool, CacheBytes: 64 << 12},
		} {
			t.Run(fmt.Sprintf("%s RESP%d", name, proto), func(t *testing.T) {
				if o.Backend == store.Disk {
					o.Dir = t.TempDir()
				}
				c := redis.NewClient(&redis.Options{Addr: serve(t, o), Protocol: proto, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, MaxRetries: -1})
				t.Cleanup(func() { _ = c.Close() })
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
				t.Cleanup(cancel)
				f(t, ctx, c)
			})
		}
	}
}

// must fails where a command does, or answers otherwise.
func must[T comparable](t *testing.T, want T) func(got T, err error) {
	t.Helper()
	return func(got T, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Fatalf("%v (%v), want %v", got, err, want)
		}
	}
}

func TestGoRedisCommands(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, c *redis.Client) {
		must(t, "PONG")(c.Ping(ctx).Result())
		must(t, "OK")(c.Set(ctx, "a", "1", 0).Result())
		must(t, "1")(c.Get(ctx, "a").Result())
		if _, err := c.Get(ctx, "none").Result(); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		must(t, int64(5))(c.IncrBy(ctx, "a", 4).Result())
		must(t, int64(4))(c.Decr(ctx, "a").Result())
		must(t, int64(-1))(c.Decr(ctx, "new").Result())
		must(t, int64(3))(c.Append(ctx, "a", "bc").Result())
		must(t, "4bc")(c.Get(ctx, "a").Result())
		if err := c.Incr(ctx, "a").Err(); err == nil || err.Error() != "ERR value is not an integer or out of range" {
			t.Fatal(err)
		}
		must(t, "OK")(c.Set(ctx, "max", "9223372036854775807", 0).Result())
		if err := c.Incr(ctx, "max").Err(); err == nil || err.Error() != "ERR increment or decrement would overflow" {
			t.Fatal(err)
		}
		must(t, "4bc")(c.Do(ctx, "GETSET", "a", "x").Text())
		if err := c.Do(ctx, "GETSET", "fresh", "y").Err(); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		if _, err := c.SetArgs(ctx, "a", "z", redis.SetArgs{Mode: "NX"}).Result(); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		must(t, "OK")(c.SetArgs(ctx, "a", "z", redis.SetArgs{Mode: "XX"}).Result())
		must(t, "z")(c.SetArgs(ctx, "a", "w", redis.SetArgs{Mode: "XX", Get: true}).Result())
		must(t, "w")(c.SetArgs(ctx, "a", "v", redis.SetArgs{Mode: "NX", Get: true}).Result()) // as redis 7.0: it is there, and stays
		must(t, "w")(c.Get(ctx, "a").Result())
		if _, err := c.SetArgs(ctx, "none", "v", redis.SetArgs{Mode: "XX", Get: true}).Result(); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		must(t, int64(1))(c.StrLen(ctx, "a").Result())
		must(t, int64(2))(c.Exists(ctx, "a", "none", "a").Result())
		must(t, "OK")(c.MSet(ctx, "m1", "1", "m2", "2").Result())
		if v, err := c.MGet(ctx, "m1", "none", "m2").Result(); err != nil || !slices.Equal(v, []any{"1", nil, "2"}) {
			t.Fatal(v, err)
		}
		must(t, int64(2))(c.Unlink(ctx, "m1", "m2", "none").Result())
		must(t, int64(4))(c.DBSize(ctx).Result()) // a, new, max, fresh
		if info, err := c.Info(ctx).Result(); err != nil || !strings.Contains(info, "keys=4,") {
			t.Fatal(info, err)
		}
		if m, err := c.Command(ctx).Result(); err != nil || m["mset"] == nil || m["mset"].StepCount != 2 {
			t.Fatal(m, err)
		}
		must(t, "OK")(c.FlushDB(ctx).Result())
		must(t, int64(0))(c.DBSize(ctx).Result())
	})
}

func TestScanGivesAllKeysInOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, c *redis.Client) {
		var want []string
		p := c.Pipeline()
		for i := range 1000 {
			k := fmt.Sprintf("user%04d", i)
			want = append(want, k)
			p.Set(ctx, k, strings.Repeat("v", i), 0)
		}
		if _, err := p.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		for _, count := range []int64{0, 1, 7, 5000} {
			var got []string
			it := c.Scan(ctx, 0, "", count).Iterator()
			for it.Next(ctx) {
				got = append(got, it.Val())
			}
			if it.Err() != nil || !slices.Equal(got, want) {
				t.Fatalf("COUNT %d: %d keys, %v", count, len(got), it.Err())
			}
		}
		it := c.Scan(ctx, 0, "user0?9[0-1]", 100).Iterator()
		n := 0
		for it.Next(ctx) {
			n++
		}
		if n != 20 {
			t.Fatalf("%d keys fit", n)
		}
		must(t, "OK")(c.FlushDB(ctx).Result())
		must(t, int64(0))(c.DBSize(ctx).Result())
	})
}

// Updates are done in one step where the key lives: whoever counts, appends or comes first, does so alone.
func TestUpdatesAreAtomic(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, c *redis.Client) {
		const workers, each = 8, 200
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := map[string]int{}
		for w := range workers {
			wg.Go(func() {
				for i := range each {
					p := c.Pipeline()
					p.Incr(ctx, "count")
					p.Append(ctx, "text", string(rune('a'+w)))
					first := p.SetArgs(ctx, fmt.Sprint("first", i), w, redis.SetArgs{Mode: "NX"})
					if _, err := p.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
						t.Error(err)
						return
					}
					if first.Err() == nil {
						mu.Lock()
						won[fmt.Sprint("first", i)]++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		must(t, fmt.Sprint(workers*each))(c.Get(ctx, "count").Result())
		text, err := c.Get(ctx, "text").Result()
		if err != nil || len(text) != workers*each || strings.Count(text, "c") != each {
			t.Fatalf("%d bytes, %v", len(text), err)
		}
		for i := range each {
			if n := won[fmt.Sprint("first", i)]; n != 1 {
				t.Fatalf("%d were first", n)
			}
		}
	})
}

// A pipeline does what its commands do one after the other.
func TestPipelinesDoWhatAMapDoes(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, c *redis.Client) {
		rng := rand.New(rand.NewPCG(5, 5))
		model := map[string]string{}
		for range 30 {
			p := c.Pipeline()
			var want []string
			for range 200 {
				k := fmt.Sprint("k", rng.IntN(20))
				v, there := model[k]
				switch rng.IntN(6) {
				case 0:
					model[k] = fmt.Sprint(len(want)) + strings.Repeat("x", rng.IntN(2)*rng.IntN(20_000))
					p.Set(ctx, k, model[k], 0)
					want = append(want, "OK")
				case 1:
					delete(model, k)
					p.Del(ctx, k)
					want = append(want, map[bool]string{true: "1", false: "0"}[there])
				case 2:
					p.Append(ctx, k, "more")
					model[k] = v + "more"
					want = append(want, fmt.Sprint(len(v)+4))
				case 3:
					p.SetArgs(ctx, k, "swapped", redis.SetArgs{Get: true})
					model[k] = "swapped"
					want = append(want, v)
				default:
					p.Get(ctx, k)
					want = append(want, v)
				}
			}
			all, err := p.Exec(ctx)
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			for i, cmd := range all {
				got := ""
				switch x := cmd.(type) {
				case *redis.StatusCmd:
					got = x.Val()
				case *redis.IntCmd:
					got = fmt.Sprint(x.Val())
				case *redis.StringCmd:
					got = x.Val()
				}
				if got != want[i] {
					t.Fatalf("%.60s: %.60q, want %.60q", cmd, got, want[i])
				}
			}
		}
		must(t, int64(len(model)))(c.DBSize(ctx).Result())
		for _, k := range slices.Sorted(maps.Keys(model)) {
			must(t, model[k])(c.Get(ctx, k).Result())
		}
	})
}

func TestGoRedisComesInByItsSecret(t *testing.T) {
	ann, bob := access.Entry{Name: "ann", Secret: "the secret of ann"}, access.Entry{Name: "bob", Secret: "the secret of bob", ReadOnly: true}
	addr := serveTo(t, store.Options{Backend: store.Mem}, access.NewList(ann, bob))
	for _, proto := range []int{2, 3} {
		for _, c := range []struct {
			name, secret string
			set, get     string // the start of the error
		}{
			{"ann", ann.Secret, "", ""},
			{"", ann.Secret, "", ""}, // HELLO … AUTH default
			{"bob", bob.Secret, "NOPERM", ""},
			{"ann", bob.Secret, "WRONGPASS", "WRONGPASS"},
			{"", "", "NOAUTH", "NOAUTH"},
		} {
			k := redis.NewClient(&redis.Options{Addr: addr, Protocol: proto, Username: c.name, Password: c.secret, MaxRetries: -1})
			set, get := k.Set(t.Context(), "k", "v", 0).Err(), k.Get(t.Context(), "k").Err()
			for _, e := range []struct {
				err  error
				want string
			}{{set, c.set}, {get, c.get}} {
				if (e.err == nil) != (e.want == "") || e.err != nil && !strings.HasPrefix(e.err.Error(), e.want) {
					t.Errorf("RESP%d, %q: %v, want %q", proto, c.name, e.err, e.want)
				}
			}
			_ = k.Close()
		}
	}
}
