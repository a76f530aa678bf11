package stream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// walked is a partition whose keys have descending positions: the first key has the highest. It supports only walks.
type walked struct {
	l     *loop.Loop
	keys  []string
	hold  int // a page that is kept back, from 1 on; 0: none
	held  *kv.Request
	turns []uint64 // in which a page was requested
}

func (w *walked) OnEvent(uint64, int32, uint32) {}
func (w *walked) Poll() int                     { return 0 }
func (w *walked) Close() bool                   { return true }
func (w *walked) Stage() error                  { return nil }
func (w *walked) Submit(r *kv.Request) {
	if r.Op != kv.OpKeys {
		r.Status = kv.StatusNotFound
		w.l.Finish(r)
		return
	}
	if w.turns = append(w.turns, w.l.Stats.Turns); len(w.turns) == w.hold {
		w.held = r
		return
	}
	w.page(r)
}

func (w *walked) page(r *kv.Request) {
	left := int(min(kv.PositionIn(r.Key).Record(), uint32(len(w.keys))))
	r.Status, r.Value = kv.StatusOK, r.Value[:0]
	for n := uint32(0); left > 0 && n < r.Limit; n++ {
		key := w.keys[len(w.keys)-left]
		out, ok := kv.AppendItem(r.Value, []byte(key), nil)
		if !ok {
			break
		}
		r.Value = out
		left--
	}
	r.Record = uint32(left)
	w.l.Finish(r)
}

// newWalked makes a connection to a server whose pool has 8 MiB, and so 458,720 bytes at most for the keys of a KEYS.
func newWalked(t *testing.T, keys []string) (*peer, *walked) {
	w := &walked{keys: keys}
	p := acceptPeerOf(t, func(l *loop.Loop) loop.Partition {
		w.l = l
		return w
	}, transport.ServerOptions{Limits: kv.Limits{MaxKeyBytes: 1024, MaxValueBytes: 100_000}, PoolBytes: 8 << 20, StallMax: time.Hour, HelloMax: time.Hour})
	p.receive([]byte("PING\r\n"))
	p.drain()
	return p, w
}

// answerTo returns the answer to a command, after turns of the loop.
func (p *peer) answerTo(command string, whole func(b []byte) bool) []byte {
	p.t.Helper()
	p.receive([]byte(command))
	var got []byte
	for range 100_000 {
		if n := p.unaccounted(); n > 0 {
			p.t.Fatalf("%d bytes of answers lie in memory that nobody counts", n)
		}
		if got = append(got, p.drain()...); whole(got) {
			return got
		}
	}
	p.t.Fatalf("%.100q is no whole answer", got)
	return nil
}

func oneLine(b []byte) bool { return bytes.HasSuffix(b, []byte("\r\n")) }

// inUse returns the used bytes of the pool.
func (p *peer) inUse() (n int) {
	p.turn(func() { n = p.h.Pool.InUse() })
	return n
}

func TestKeysAreGatheredInCountedMemory(t *testing.T) {
	for name, c := range map[string]struct {
		n, bytes int
		pattern  string
	}{
		"none":                     {0, 10, "*"},
		"one":                      {1, 10, "*"},
		"those of a page":          {1000, 10, "*"},
		"many short ones":          {40_000, 5, "*"},
		"many long ones":           {400, 1024, "*"},
		"few of many":              {2000, 1000, "*77*"},
		"as many as there may be":  {458_720 / 1033, 1024, "*"},
		"none of more than may be": {5000, 1000, "none*"},
	} {
		t.Run(name, func(t *testing.T) {
			keys := make([]string, c.n)
			for i := range keys {
				keys[i] = fmt.Sprintf("%0*d", c.bytes, i)
			}
			var match resp.Pattern
			match.Compile([]byte(c.pattern))
			n, want := 0, []byte(nil)
			for _, k := range keys {
				if match.Match([]byte(k)) {
					n++
					want = resp.AppendBulk(want, k)
				}
			}
			want = append(resp.AppendArray(nil, n), want...)
			p, w := newWalked(t, keys)
			got := p.answerTo(text("KEYS", c.pattern), func(b []byte) bool { return len(b) >= len(want) })
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes: %.100q, want %d: %.100q", len(got), got, len(want), want)
			}
			for i := 2; i < len(w.turns); i++ { // the second one follows the first in the turn in which the command came
				if w.turns[i] == w.turns[i-1] {
					t.Fatal("two pages are looked at in one turn")
				}
			}
			if n := p.inUse(); n > 0 {
				t.Errorf("%d bytes of the pool are in use when all is sent", n)
			}
			if again := p.answerTo(text("PING"), oneLine); string(again) != "+PONG\r\n" {
				t.Errorf("then %q", again)
			}
		})
	}
}

func TestKeysEndWhereThereIsNoMemory(t *testing.T) {
	keys := make([]string, 3000)
	for i := range keys {
		keys[i] = fmt.Sprintf("%01024d", i)
	}
	p, w := newWalked(t, keys)
	if got, want := string(p.answerTo(text("KEYS", "*"), oneLine)), "-ERR KEYS has more than 458720 bytes of keys: use SCAN\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if n := len(w.turns); n > 50 {
		t.Errorf("it goes on for %d pages", n)
	}
	if n := p.inUse(); n > 0 {
		t.Errorf("%d bytes of the pool are in use", n)
	}
	p.leaveFree(2 << 20) // for a first block; a second one would leave too little to others
	left := p.inUse()
	got := string(p.answerTo(text("KEYS", "*")+text("PING"), func(b []byte) bool { return bytes.HasSuffix(b, []byte("+PONG\r\n")) }))
	if want := "-OOM command not allowed: no memory for the keys of KEYS now: use SCAN\r\n+PONG\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if n := p.inUse() - left; n != 0 {
		t.Errorf("%d bytes of the pool are in use", n)
	}
}

// A connection that dies in the middle of a KEYS frees its memory when the page has returned.
func TestKeysOfADeadConnectionHaveNoMemory(t *testing.T) {
	for hold := 1; hold <= 4; hold++ {
		p, w := newWalked(t, strings.Fields(strings.Repeat(strings.Repeat("k", 1000)+" ", 300)))
		w.hold = hold
		p.receive([]byte(text("KEYS", strings.Repeat("*", 300)) + text("PING")))
		for held := false; !held; {
			p.turn(func() { held = w.held != nil })
		}
		p.turn(func() {
			p.srv.Drop(transport.ErrPeerGone)
			w.page(w.held)
		})
		p.turn(func() {})
		if n := p.inUse(); n > 0 {
			t.Errorf("at page %d: %d bytes of the pool are in use", hold, n)
		}
	}
}

// RANDOMKEY returns each key at some time, with any gaps between the keys.
func TestARandomKeyIsAnyKey(t *testing.T) {
	const n = 100
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprint("key", i)
	}
	p, _ := newWalked(t, keys)
	p.turn(func() { p.h.redis.random = rand.New(rand.NewPCG(1, 2)).Uint64N })
	found := map[string]int{}
	for range 30 * n {
		found[string(p.answerTo(text("RANDOMKEY"), oneLine))]++
	}
	for _, k := range keys {
		if times := found[string(resp.AppendBulk(nil, k))]; times < 5 || times > 100 {
			t.Errorf("%s comes %d times of %d", k, times, 30*n)
		}
	}
	if len(found) != n {
		t.Errorf("%d answers of %d keys: %v", len(found), n, found)
	}
}

// A list has each connection that exists from its beginning to its end once, while others open and close.
func TestAListHasEachConnectionOnce(t *testing.T) {
	p, _ := newWalked(t, nil)
	rng := rand.New(rand.NewPCG(3, 4))
	room := make([]byte, 0, 1<<20)
	p.turn(func() {
		var all []*Server
		come := func() { all = append(all, p.h.NewServer(p, fmt.Sprintf("127.0.0.1:%d", len(all)))) }
		for range 5*listPart + 3 {
			come()
		}
		for nth := uint64(1); nth <= 5; nth++ {
			stays := map[*Server]bool{p.srv: true}
			for _, c := range all {
				stays[c] = c.state != stateDead
			}
			q := clientList{nth: nth, text: room, at: 1 << 30}
			for q.at > 0 {
				if !p.h.listClients(&q) {
					t.Fatal("there is no room")
				}
				for range 20 {
					if c := all[rng.IntN(len(all))]; c.state != stateDead {
						c.Drop(transport.ErrPeerGone)
						stays[c] = false
					}
					come()
				}
			}
			listed := map[string]int{}
			for line := range strings.SplitSeq(string(q.text), "\n") {
				id, _, _ := strings.Cut(line, " ")
				listed[id]++
			}
			for c, stays := range stays {
				if n := listed[fmt.Sprint("id=", c.number)]; stays && n != 1 || n > 1 {
					t.Errorf("list %d: a connection is there %d times", nth, n)
				}
			}
		}
		for _, c := range all {
			c.Drop(transport.ErrPeerGone)
		}
	})
}

// The native frame can request only the first kinds of statistics, which have no addresses of other clients.
func TestNativeClientsGetNoListOfConnections(t *testing.T) {
	p := newPeer(t, nil, 4)
	p.turn(func() {
		for what := range kv.StatsKinds {
			p.h.Handler.OnStats(what, func(r *kv.Request) { r.SetAnswer([]byte("what there is to say")) })
		}
	})
	for what := kv.StatsInfo; what <= kv.StatsKinds; what++ {
		b := make([]byte, wire.HeaderBytes)
		(&wire.Header{Op: kv.OpStats, ID: 1, Arg: what, ValueBytes: 1 << 20}).Encode(b)
		p.receive(b)
		var h wire.Header
		if err := h.Decode(p.drain()); err != nil || h.Status != kv.StatusBadRequest || h.ValueBytes > 0 {
			t.Errorf("of kind %d: %v with %d B (%v)", what, h.Status, h.ValueBytes, err)
		}
	}
}

// A text of the server's own lies in counted memory, of which it gets as much as it needs, to a bound.
func TestTextsOfTheServerAreCounted(t *testing.T) {
	p, _ := newWalked(t, nil)
	long := strings.Repeat("x", 300_000)
	p.turn(func() {
		p.h.Handler.OnStats(kv.StatsInfo, func(r *kv.Request) { r.SetAnswer([]byte(long)) })
		p.h.Handler.OnStats(kv.StatsClients, func(r *kv.Request) { r.Status, r.Need = kv.StatusTooSmall, uint32(2*cap(r.Value)) })
	})
	for command, want := range map[string]string{
		"INFO":        string(resp.AppendBulk(nil, long)),
		"CLIENT LIST": "-ERR CLIENT LIST has more than 523230 bytes of connections: name some by CLIENT LIST ID\r\n",
	} {
		got := p.answerTo(command+"\r\n", func(b []byte) bool { return bytes.Count(b, crlf) > 0 && len(b) >= len(want) })
		if string(got) != want {
			t.Errorf("%s: %d bytes, %.200q, want %d", command, len(got), got, len(want))
		}
		if n := p.inUse(); n > 0 {
			t.Errorf("%s: %d bytes of the pool are in use", command, n)
		}
	}
}
