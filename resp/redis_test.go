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

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/redis/go-redis/v9"
)

var limits = kv.Limits{MaxKeyBytes: 1024, MaxValueBytes: 1 << 20}

// serve starts a server with two loops, and returns its address.
func serve(t *testing.T, o store.Options) string {
	t.Helper()
	return serveTo(t, o, nil)
}

// serveTo is serve for some.
func serveTo(t *testing.T, o store.Options, who *access.List) string {
	t.Helper()
	return serveFrom(t, o, who, func(_ *loop.Loop, _ int, p loop.Partition) loop.Partition { return p })
}

// serveFrom is serveTo with partitions that before stands in front of.
func serveFrom(t *testing.T, o store.Options, who *access.List, before func(l *loop.Loop, shard int, p loop.Partition) loop.Partition) string {
	t.Helper()
	var stores [2]loop.Partition
	o.Limits = limits
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	n := tcp.Transport{}
	g, err := loop.NewGroup(loop.Plan{NetLoops: 2, Net: loop.Options{Sleep: n.Sleep()}}, func(l *loop.Loop, shard, shards int) (loop.Partition, error) {
		p, err := store.Open(l, shard, shards, o)
		if err != nil {
			return nil, err
		}
		stores[shard] = p
		return before(l, shard, p), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	items := func(r *kv.Request) {
		var all struct {
			Stores []store.Stats `json:"stores"`
		}
		for i, l := range g.All() {
			_ = l.Call(func() {
				if s, ok := store.StatsOf(stores[i]); ok {
					all.Stores = append(all.Stores, s)
				}
			})
		}
		b, _ := json.Marshal(all)
		r.SetAnswer(b)
	}
	for i := range g.Net() {
		g.Router(i).OnStats(kv.StatsBrief, items)
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
				if (proto == 2) == (o.Backend == store.Disk) {
					testenv.NotShort(t, "each version of the protocol, and each store, once")
				}
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

func TestScanGivesAllKeysOnce(t *testing.T) {
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
			if slices.Sort(got); it.Err() != nil || !slices.Equal(got, want) {
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

// walk is one that a client does page by page: how often each key was given, and which of them it has to give.
type walk struct {
	cursor uint64
	given  map[string]int
	stays  map[string]bool
}

// Several simultaneous walks, of a client that sends each command over any of its connections, return every key that exists all the time, while other keys are added
// and deleted, and other clients send thousands of SCANs. Keys have all lengths, up to the largest, and any bytes.
func TestScansGiveEveryKeyThatStays(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, c *redis.Client) {
		rng := rand.New(rand.NewPCG(11, 11))
		key := func() string {
			b := []byte(strings.Repeat("\xff", []int{1, 8, 300, 1024}[rng.IntN(4)]))
			switch rng.IntN(3) {
			case 0:
				b = b[:1+rng.IntN(len(b))]
			case 1:
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
			}
			b[rng.IntN(len(b))] = byte(rng.IntN(256))
			return string(b)
		}
		there := map[string]bool{}
		put := func(n int) {
			p := c.Pipeline()
			for range n {
				k := key()
				there[k] = true
				p.Set(ctx, k, "v", 0)
			}
			if _, err := p.Exec(ctx); err != nil {
				t.Fatal(err)
			}
		}
		put(500)
		must(t, "OK")(c.Set(ctx, strings.Repeat("\xff", 1024), "the last key that there can be", 0).Result())
		there[strings.Repeat("\xff", 1024)] = true
		walks := make([]walk, 5)
		for i := range walks {
			walks[i] = walk{given: map[string]int{}, stays: maps.Clone(there)}
		}
		others := redis.NewClient(&redis.Options{Addr: c.Options().Addr, ReadTimeout: 30 * time.Second})
		defer others.Close()
		for open := len(walks); open > 0; {
			put(5)
			for k := range there { // any
				must(t, int64(1))(c.Del(ctx, k).Result())
				delete(there, k)
				for _, w := range walks {
					delete(w.stays, k)
				}
				break
			}
			p := others.Pipeline()
			for range 250 {
				p.Scan(ctx, 0, "", 1)
			}
			if _, err := p.Exec(ctx); err != nil {
				t.Fatal(err)
			}
			w := &walks[rng.IntN(len(walks))]
			for w.stays == nil {
				w = &walks[rng.IntN(len(walks))]
			}
			keys, cursor, err := c.Scan(ctx, w.cursor, "", int64(1+rng.IntN(250))).Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keys {
				w.given[k]++
			}
			if w.cursor = cursor; cursor != 0 {
				continue
			}
			for k := range w.stays {
				if w.given[k] != 1 {
					t.Fatalf("a key of %d bytes that was there all the time was given %d times", len(k), w.given[k])
				}
			}
			open, w.stays = open-1, nil
		}
		if _, _, err := c.Scan(ctx, 12345, "", 10).Result(); err == nil || !strings.HasPrefix(err.Error(), "ERR invalid cursor") {
			t.Errorf("a cursor that nobody has given: %v", err)
		}
	})
}

// A SCAN with the largest COUNT returns a page that fits into its answer, filtered by the pattern.
func TestScansOfManyLargeKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, c *redis.Client) {
		p := c.Pipeline()
		want := []string{}
		for i := range 700 {
			k := fmt.Sprintf("%04d", i) + strings.Repeat("k", []int{0, 5, 6, 95, 96, 995, 996, 1020}[i%8])
			if want = append(want, k); len(k) == 4 {
				want[i] = strings.Repeat(string(rune('a'+i%26)), 1+i/26)
			}
			p.Set(ctx, want[i], "v", 0)
		}
		if _, err := p.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		slices.Sort(want)
		for _, pattern := range []string{"", "*", "0*k", "*[0-46-9]kkk*"} {
			var got []string
			for it := c.Scan(ctx, 0, pattern, 1<<40).Iterator(); it.Next(ctx); {
				got = append(got, it.Val())
			}
			fit := slices.DeleteFunc(slices.Clone(want), func(k string) bool {
				switch pattern {
				case "0*k":
					return k[0] != '0' || !strings.HasSuffix(k, "k")
				case "*[0-46-9]kkk*":
					i := strings.Index(k, "kkk")
					return i < 1 || k[i-1] == '5' || k[i-1] > '9'
				}
				return false
			})
			if slices.Sort(got); !slices.Equal(got, fit) || len(fit) < 100 {
				t.Errorf("MATCH %q: %d keys, want %d", pattern, len(got), len(fit))
			}
		}
	})
}

// rival is in front of a partition, and writes two new keys whenever one is deleted: one sorts before all others, and one after.
type rival struct {
	loop.Partition
	l       *loop.Loop
	shard   int
	deletes int
	most    int // deletes after which it writes no more
	fail    kv.Status
}

func (v *rival) Submit(r *kv.Request) {
	if r.Op == kv.OpDelete {
		v.deletes++
		if v.fail != kv.StatusOK && v.deletes > 40 {
			r.Status = v.fail
			v.l.Finish(r)
			return
		}
		for _, where := range []string{"a", "z"} {
			if v.deletes <= v.most {
				v.Partition.Submit(&kv.Request{Op: kv.OpPut, Key: v.key(where), Value: []byte("v"), Owner: v})
			}
		}
	}
	v.Partition.Submit(r)
}

func (v *rival) Complete(*kv.Request) {}

// key is one of this partition's that begins so.
func (v *rival) key(where string) []byte {
	for i := 0; ; i++ {
		if k := fmt.Appendf(nil, "%s%09d-%d", where, v.deletes, i); kv.Shard(k, 2) == v.shard {
			return k
		}
	}
}

// FLUSHDB ends although others write faster than it deletes. It walks through the keys once, and deletes those that existed when it began, and at most as many others as fit
// between them.
func TestFlushEndsWhileOthersWrite(t *testing.T) {
	for name, o := range map[string]store.Options{
		"mem":  {Backend: store.Mem},
		"disk": {Backend: store.Disk, DiskEngine: store.EnginePool, CacheBytes: 64 << 12},
	} {
		t.Run(name, func(t *testing.T) {
			if o.Backend == store.Disk {
				o.Dir = t.TempDir()
			}
			const keys = 500
			var rivals []*rival
			var mu sync.Mutex
			addr := serveFrom(t, o, nil, func(l *loop.Loop, shard int, p loop.Partition) loop.Partition {
				mu.Lock()
				defer mu.Unlock()
				rivals = append(rivals, &rival{Partition: p, l: l, shard: shard, most: 4 * keys})
				return rivals[len(rivals)-1]
			})
			c := redis.NewClient(&redis.Options{Addr: addr, ReadTimeout: 30 * time.Second, MaxRetries: -1})
			defer c.Close()
			ctx := t.Context()
			for i := range keys {
				must(t, "OK")(c.Set(ctx, fmt.Sprint("key", i), "v", 0).Result())
			}
			must(t, "OK")(c.FlushDB(ctx).Result())
			for i := range keys {
				must(t, int64(0))(c.Exists(ctx, fmt.Sprint("key", i)).Result())
			}
			if deletes := rivals[0].deletes + rivals[1].deletes; deletes < keys || deletes > 2*keys {
				t.Errorf("%d deletes, for %d keys", deletes, keys)
			}
		})
	}
}

// FLUSHDB that cannot delete a key ends with an error.
func TestAFailedFlushReturnsItsError(t *testing.T) {
	addr := serveFrom(t, store.Options{Backend: store.Mem}, nil, func(l *loop.Loop, _ int, p loop.Partition) loop.Partition {
		return &rival{Partition: p, l: l, fail: kv.StatusNoSpace}
	})
	c := redis.NewClient(&redis.Options{Addr: addr, ReadTimeout: 30 * time.Second, MaxRetries: -1})
	defer c.Close()
	ctx := t.Context()
	const keys = 500
	for i := range keys {
		must(t, "OK")(c.Set(ctx, fmt.Sprint("key", i), "v", 0).Result())
	}
	if err := c.FlushDB(ctx).Err(); err == nil || err.Error() != "OOM command not allowed: no space" {
		t.Errorf("FLUSHDB: %v", err)
	}
	if n, err := c.DBSize(ctx).Result(); err != nil || n == 0 || n == keys {
		t.Errorf("%d keys are left, %v", n, err)
	}
}

// Updates are one step in the key's partition: no other change comes between the read and the write of INCR, APPEND or SETNX.
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
		for range 20 { // GETs alone, which follow each other: of present keys and others, with small and large values
			p := c.Pipeline()
			var want []string
			for range 1 + rng.IntN(60) {
				k := fmt.Sprint("k", rng.IntN(25))
				p.Get(ctx, k)
				want = append(want, model[k])
			}
			all, err := p.Exec(ctx)
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			for i, cmd := range all {
				if got := cmd.(*redis.StringCmd).Val(); got != want[i] {
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

func TestGoRedisAuthenticates(t *testing.T) {
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
