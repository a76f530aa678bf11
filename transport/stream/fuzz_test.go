package stream

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// grantedHello opens a connection of depth 4.
var grantedHello = (&wire.ClientHello{Version: wire.Version, Depth: 4, Loop: wire.AnyLoop}).Append(nil)

// frames are requests one after another.
func frames(all ...wire.Header) (b []byte) {
	for _, hd := range all {
		h := make([]byte, wire.HeaderBytes)
		hd.Encode(h)
		b = append(b, h...)
		b = append(b, bytes.Repeat([]byte{'k'}, int(hd.KeyBytes))...)
		if hd.Op == kv.OpPut {
			b = append(b, bytes.Repeat([]byte{'v'}, int(hd.ValueBytes))...)
		}
	}
	return b
}

// FuzzServer is a client that sends anything, in pieces of any size, and receives its answers in pieces: hello, frames, or Redis's commands. The server holds no
// more to send than its depth allows, and nothing once the connection has ended.
func FuzzServer(f *testing.F) {
	put := wire.Header{Op: kv.OpPut, KeyBytes: 3, ValueBytes: 2000, ID: 1}
	get := wire.Header{Op: kv.OpGet, KeyBytes: 3, ValueBytes: 1 << 20, ID: 2}
	scan := wire.Header{Op: kv.OpScan, KeyBytes: 1, ValueBytes: 4096, Arg: 5, ID: 3}
	f.Add(grantedHello, uint64(0))
	f.Add(append(bytes.Clone(grantedHello), frames(put, get, scan, wire.Header{Op: kv.OpDelete, KeyBytes: 3, ID: 4})...), uint64(1))
	f.Add(append(bytes.Clone(grantedHello), frames(get, get, get, get, get, get)...), uint64(2))
	f.Add(append(bytes.Clone(grantedHello), frames(put)[:100]...), uint64(3))
	bare := bytes.Clone(frames(get))
	get.EncodeAs(bare, true)
	f.Add(append((&wire.ClientHello{Version: wire.Version, Optional: wire.FeatureNoChecksum, Depth: 4, Loop: wire.AnyLoop}).Append(nil), bare...), uint64(7))
	f.Add([]byte("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nabc\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\nMGET a b c\r\nQUIT\r\n"), uint64(4))
	f.Add([]byte("HELLO 3\r\nSCAN 0 COUNT 10\r\nMULTI\r\nINCR a\r\nEXEC\r\n"), uint64(5))
	f.Add([]byte("KEYS *\r\nSET a 1\r\nRANDOMKEY\r\nKEYS [a-z]?\r\nCLIENT LIST\r\nCLIENT INFO\r\nINFO cpu\r\nKEYS a\r\nPING\r\n"), uint64(6))
	l, g := answering(f)
	o, err := transport.ServerOptions{Limits: kv.Limits{MaxKeyBytes: 64, MaxValueBytes: 64 << 10}, Depth: 4, PoolBytes: 1, ConnBytes: 1 << 20}.Defaults()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, said []byte, seed uint64) {
		p := &peer{t: t, l: l}
		rng := rand.New(rand.NewPCG(seed, 1))
		p.turn(func() {
			var err error
			if p.h, err = NewHost(l, g, 0, o); err != nil {
				t.Error(err)
				return
			}
			p.h.Features = wire.FeatureNoChecksum
			p.srv = p.h.NewServer(p, "peer")
		})
		ended := false
		for idle := 0; idle < 3 && !ended; idle++ {
			p.turn(func() {
				p.h.Resume()
				var v [64]unix.Iovec
				out := 0
				for i := range v[:p.srv.Gather(v[:], GatherBytes)] {
					out += len(sys.IovecBytes(&v[i]))
				}
				if most := 4*(wire.HeaderBytes+o.Limits.ScanRoom()) + wire.MaxHelloBytes + 64<<10; out > most {
					t.Errorf("%d bytes to send", out)
				}
				if out > 0 {
					p.srv.Sent(1 + rng.IntN(out))
					idle = -1
				}
				if ended = p.srv.Finished(); ended {
					return
				}
				var w [2][]byte
				if len(said) == 0 || p.srv.RecvBuffers(&w) == 0 {
					return
				}
				n := copy(w[0], said[:min(len(said), 1+rng.IntN(1+len(said)))])
				said, idle = said[n:], -1
				err := p.srv.Received(n, 0)
				if ended = err != nil; ended && !errors.Is(err, transport.ErrProtocol) && !errors.Is(err, ErrMove) {
					t.Errorf("%T %v", err, err)
				}
			})
		}
		p.turn(func() { p.srv.Drop(transport.ErrPeerGone) })
		p.turn(func() {
			if n := p.h.Pool.InUse(); n != 0 {
				t.Errorf("%d bytes of the pool are in use after the end", n)
			}
			if !p.h.Close() {
				t.Error("the connection holds requests after its end")
			}
		})
	})
}

// answering is a group of one loop, whose partition answers.
func answering(f *testing.F) (*loop.Loop, *loop.Group) {
	g, err := loop.NewGroup(loop.Plan{NetLoops: 1, Net: loop.Options{Sleep: loop.SleepEpoll}, Store: loop.Options{Sleep: loop.SleepEpoll}},
		func(l *loop.Loop, _, _ int) (loop.Partition, error) {
			a := &answers{l: l, v: []byte("an answer")}
			_, err := l.Add(a)
			return a, err
		})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = g.Stop() })
	return g.Net()[0], g
}

// ended counts requests that end.
type ended struct{ done map[*kv.Request]int }

func (b *ended) Complete(r *kv.Request) { b.done[r]++ }

// FuzzClient is a server that answers anything, in pieces of any size: native, or as a Redis. Each request ends once, with a status, and an answer lies within its room.
func FuzzClient(f *testing.F) {
	reply := func(slot int, status kv.Status, value int) []byte {
		h := make([]byte, wire.HeaderBytes)
		(&wire.Header{Op: kv.OpGet, Flags: wire.FlagReply, Status: status, ID: 1<<32 | uint64(slot), ValueBytes: uint32(value)}).Encode(h)
		return append(h, make([]byte, value)...)
	}
	f.Add(append(reply(3, kv.StatusOK, 50), append(reply(2, kv.StatusNotFound, 0), reply(1, kv.StatusOK, 0)...)...), uint64(0), false)
	f.Add(reply(3, kv.StatusOK, 101), uint64(1), false)
	f.Add([]byte("$3\r\nabc\r\n+OK\r\n:1\r\n$-1\r\n"), uint64(2), true)
	f.Add([]byte("-ERR no\r\n_\r\n"), uint64(3), true)
	bare := make([]byte, wire.HeaderBytes)
	(&wire.Header{Op: kv.OpGet, Flags: wire.FlagReply, ID: 1<<32 | 3, ValueBytes: 50}).EncodeAs(bare, true)
	f.Add(append(bare, make([]byte, 50)...), uint64(wire.FeatureNoChecksum), false)
	l, _ := answering(f)
	f.Fuzz(func(t *testing.T, said []byte, seed uint64, redis bool) {
		p := &peer{t: t, l: l}
		rng := rand.New(rand.NewPCG(seed, 1))
		b := &ended{done: map[*kv.Request]int{}}
		var all []*kv.Request
		for i, op := range []kv.Op{kv.OpGet, kv.OpPut, kv.OpDelete, kv.OpGet, kv.OpScan, kv.OpGet} {
			r := &kv.Request{Op: op, Key: []byte{'k', byte(i)}, Value: make([]byte, 0, 100), Owner: b, Limit: 3}
			if op == kv.OpPut {
				r.Value = r.Value[:50]
			}
			all = append(all, r)
		}
		var c *Client
		p.turn(func() {
			hello := wire.ServerHello{Version: wire.Version, Features: uint32(seed) & wire.FeatureNoChecksum, Depth: 4, MaxKeyBytes: 64, MaxValueBytes: 64 << 10}
			var err error
			if redis {
				c, err = newRedisClient(l, p, redisHello(4), 4096)
			} else {
				c, err = NewClient(l, p, hello, 4096)
			}
			if err != nil {
				t.Error(err)
				return
			}
			for _, r := range all {
				c.Submit(r)
			}
			var v [64]unix.Iovec
			n := 0
			for i := range v[:c.Gather(v[:], GatherBytes)] {
				n += len(sys.IovecBytes(&v[i]))
			}
			if n > 0 {
				c.Sent(1 + rng.IntN(n))
			}
		})
		p.turn(func() {
			for len(said) > 0 {
				var w [2][]byte
				if c.RecvBuffers(&w) == 0 {
					t.Error("a client that does not read")
					return
				}
				n := copy(w[0], said[:min(len(said), 1+rng.IntN(1+len(said)))])
				said = said[n:]
				if err := c.Received(n, 0); err != nil {
					c.Drop(err)
					return
				}
			}
			c.Drop(transport.ErrPeerGone)
		})
		p.turn(func() {})
		for i, r := range all {
			if b.done[r] != 1 {
				t.Errorf("request %d has ended %d times", i, b.done[r])
			}
			if cap(r.Value) != 100 && len(r.Value) != 0 {
				t.Errorf("request %d: an answer of %d bytes in other memory", i, len(r.Value))
			}
		}
	})
}
