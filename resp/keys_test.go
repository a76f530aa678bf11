package resp_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestKeysAreAllThatFit(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, c *redis.Client) {
		const n = 20_000
		pairs, want, odd := []any{}, []string{}, []string{}
		for i := range n {
			k := fmt.Sprintf("key%05d", i)
			pairs = append(pairs, k, i)
			want = append(want, k)
			if strings.Contains(k, "7") {
				odd = append(odd, k)
			}
			if len(pairs) == 2000 {
				must(t, "OK")(c.MSet(ctx, pairs...).Result())
				pairs = pairs[:0]
			}
		}
		for pattern, want := range map[string][]string{"*": want, "*7*": odd, "key0012[3-5]": want[123:126], "key": {}} {
			got, err := c.Keys(ctx, pattern).Result()
			if slices.Sort(got); err != nil || !slices.Equal(got, want) {
				t.Errorf("KEYS %s has %d keys, want %d (%v)", pattern, len(got), len(want), err)
			}
		}
	})
}

// RANDOMKEY returns every key at some time, also if only a few of many keys are left.
func TestRandomKeysAreAllThatThereAre(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, c *redis.Client) {
		if _, err := c.RandomKey(ctx).Result(); err != redis.Nil {
			t.Fatalf("of no keys: %v", err)
		}
		const n, times = 100, 10_000
		there := map[string]bool{}
		for i := range 2 * n {
			k := fmt.Sprint("key", i)
			if must(t, "OK")(c.Set(ctx, k, "v", 0).Result()); i%2 > 0 {
				there[k] = true
			}
		}
		for i := 0; i < 2*n; i += 2 {
			must(t, int64(1))(c.Del(ctx, fmt.Sprint("key", i)).Result())
		}
		found := map[string]int{}
		for range times / 1000 {
			all, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				for range 1000 {
					p.RandomKey(ctx)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range all {
				k := r.(*redis.StringCmd).Val()
				if found[k]++; !there[k] {
					t.Fatalf("%q is not there", k)
				}
			}
		}
		if len(found) != n {
			t.Errorf("%d tries find %d keys of %d", times, len(found), n)
		}
	})
}

func TestInfoHasTheCounters(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, c *redis.Client) {
		info := func(sections ...string) map[string]string {
			text, err := c.Info(ctx, sections...).Result()
			if err != nil {
				t.Fatal(err)
			}
			of := map[string]string{}
			for line := range strings.SplitSeq(text, "\r\n") {
				name, value, _ := strings.Cut(line, ":")
				of[name] = value
			}
			return of
		}
		number := func(of map[string]string, name string) int {
			n, err := strconv.Atoi(of[name])
			if err != nil {
				t.Fatalf("%s is %q, no number", name, of[name])
			}
			return n
		}
		must(t, "OK")(c.MSet(ctx, "a", 1, "b", 2, "c", 3).Result())
		before := info()
		for range 50 {
			must(t, "1")(c.Get(ctx, "a").Result())
			must(t, "PONG")(c.Ping(ctx).Result())
		}
		after := info()
		if n := number(after, "total_commands_processed") - number(before, "total_commands_processed"); n != 101 {
			t.Errorf("%d commands are counted, want 101", n)
		}
		if n := number(after, "total_net_input_bytes") - number(before, "total_net_input_bytes"); n < 100*len("*1\r\n$4\r\nPING\r\n") {
			t.Errorf("%d bytes are counted", n)
		}
		for _, name := range []string{"process_id", "tcp_port", "connected_clients", "maxclients", "used_memory", "total_connections_received"} {
			if number(after, name) < 1 {
				t.Errorf("%s is %s", name, after[name])
			}
		}
		for name, want := range map[string]string{"redis_mode": "standalone", "server_name": "kvwire", "role": "master", "rejected_connections": "0", "db0": "keys=3,expires=0,avg_ttl=0", "arch_bits": "64"} {
			if after[name] != want {
				t.Errorf("%s is %q, want %q", name, after[name], want)
			}
		}
		if _, ok := info("keyspace", "cpu")["role"]; ok {
			t.Error("a section comes that was not asked for")
		}
	})
}

// A list that is longer than the first room for it is whole, and a client library reads its lines.
func TestClientsAreListedHoweverManyThereAre(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, c *redis.Client) {
		const n = 100
		o := *c.Options()
		o.PoolSize = n
		many := redis.NewClient(&o)
		t.Cleanup(func() { _ = many.Close() })
		for i := range n {
			k := many.Conn()
			t.Cleanup(func() { _ = k.Close() })
			name := fmt.Sprintf("%0120d", i)
			if err := k.ClientSetName(ctx, name).Err(); err != nil {
				t.Fatal(err)
			}
			if who, err := k.ClientInfo(ctx).Result(); err != nil || who.Name != name || who.ID == 0 || who.LastCmd != "client" {
				t.Fatalf("%+v (%v)", who, err)
			}
		}
		text, err := c.ClientList(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if strings.Count(text, fmt.Sprintf(" name=%0120d ", i)) != 1 {
				t.Errorf("the %d. connection is not there once: %.1000s", i, text)
			}
		}
	})
}
