package transporttest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// manyConnTests are tests with many connections, or with many that end.
var manyConnTests = []test{
	{"AThousandConnectionsAtOnce", thousandConns},
	{"DisconnectsUnderLoadLeakNothing", disconnects},
}

// thousandConns has a thousand connections with requests at the same time, more than the length of any queue or ring of buffers.
func thousandConns(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{Depth: 4, MaxConns: 2000})
	ManyConns(t, r, 1000)
}

// ManyConns sends requests on conns connections to a rig's server at the same time, in rounds of puts and of gets.
func ManyConns(t *testing.T, r *Rig, conns int) {
	var cs []*Caller
	for range conns {
		cs = append(cs, NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 2, RecvBytes: 8 << 10})))
	}
	size := func(i int) int { return []int{10, 700, 3000, 60_000}[i%4] }
	for round := range 2 {
		_ = r.Loop.Call(func() { // all in one turn
			for i, c := range cs {
				q := Put(fmt.Sprint(i), Fill(size(i+round), uint64(i+round)))
				q.Owner = c
				c.c.Submit(q)
			}
		})
		for i, c := range cs {
			if q := c.Next(); q.Status != kv.StatusOK {
				t.Fatalf("put %d: %v", i, q.Status)
			}
		}
		_ = r.Loop.Call(func() {
			for i, c := range cs {
				q := Get(fmt.Sprint(i), 60_000)
				q.Owner = c
				c.c.Submit(q)
			}
		})
		for i, c := range cs {
			if q := c.Next(); q.Status != kv.StatusOK || !bytes.Equal(q.Value, Fill(size(i+round), uint64(i+round))) {
				t.Fatalf("get %d: %v, %d B, or other bytes than were put", i, q.Status, len(q.Value))
			}
		}
	}
	for _, c := range cs {
		r.Hangup(c)
	}
}

// testConn is a connection of the test disconnects: a client's, or a raw one.
type testConn struct {
	conn  transport.Conn
	c     *Caller
	raw   *raw
	asked int
}

// freedMemory is the memory of a request that ended without an answer: it must not be written any more.
type freedMemory struct{ b []byte }

const givenByte = 0xEE

func (g freedMemory) check(t *testing.T) {
	for i, v := range g.b {
		if v != givenByte {
			t.Fatalf("byte %d of %d of a request that has ended was written to", i, len(g.b))
		}
	}
}

// disconnects opens connections, and ends them at any moment: with requests in flight, in the middle of a message in either
// direction, in order or by a reset. Memory that the server frees is overwritten, so that its use by the kernel
// changes a value or causes a panic. The server has little memory and few connections, so a leak would soon show.
func disconnects(t *testing.T, n Network) {
	arena.Poison.Store(true)
	defer arena.Poison.Store(false)
	r := NewRig(t, n, 2, transport.ServerOptions{Depth: 8, MaxConns: 24, PoolBytes: 6 << 20, StallMax: 2 * time.Second})
	well := r.bystander()
	well()
	before, routines := descriptors(t), runtime.NumGoroutine()
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	steps := Effort(map[bool]int{false: 400, true: 20_000}[Long])
	size := func(key int) int { return []int{0, 90, 5000, 40_000, 300_000, 1 << 20}[key%6] }
	var open []testConn
	var back []freedMemory
	leave := func(i int) {
		p := open[i]
		open[i] = open[len(open)-1]
		open = open[:len(open)-1]
		if p.raw != nil {
			if rng.IntN(2) == 0 {
				p.raw.reset()
			}
			_ = p.raw.Close()
			return
		}
		for range rng.IntN(p.asked + 1) {
			p.asked--
			checkAnswer(t, p.c.Next(), size)
		}
		p.conn.Hangup()
		for range p.asked {
			q := p.c.Next()
			if q.Status == kv.StatusClosed || q.Status == kv.StatusUnknown {
				b := q.Value[:cap(q.Value)]
				for i := range b {
					b[i] = givenByte
				}
				back = append(back, freedMemory{b})
				continue
			}
			checkAnswer(t, q, size)
		}
		if len(back) > 64 {
			for _, g := range back {
				g.check(t)
			}
			back = back[:0]
		}
	}
	for range steps {
		if len(open) >= 16 || len(open) > 0 && rng.IntN(3) == 0 {
			leave(rng.IntN(len(open)))
			continue
		}
		if rng.IntN(3) == 0 {
			c := r.raw()
			open = append(open, testConn{raw: c})
			if h, err := tryHellos(c, 8); err != nil || h.Code != wire.Granted {
				continue // the most connections are open: those that were reset are not removed yet
			}
			var b []byte
			for i := range rng.IntN(8) {
				k := rng.IntN(24)
				key := fmt.Sprint(k)
				if rng.IntN(2) == 0 {
					b = append(b, putFrame(uint64(i), key, string(Fill(size(k), uint64(k))))...)
				} else {
					b = append(b, frame(wire.Header{Op: kv.OpGet, ID: uint64(i), KeyBytes: uint16(len(key)), ValueBytes: 1 << 20}, key)...)
				}
			}
			if len(b) > 0 {
				_ = c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)) // the server may not receive all, because no answers are read
				_, _ = c.Write(b[:rng.IntN(len(b)+1)])
			}
			continue
		}
		conn, err := r.TryDial(transport.DialOptions{Depth: 8, Loop: rng.IntN(2)})
		if err != nil {
			continue // likewise
		}
		p := testConn{conn: conn, c: NewCaller(t, r.Loop, conn), asked: rng.IntN(9)}
		open = append(open, p)
		for range p.asked {
			k := rng.IntN(24)
			if rng.IntN(2) == 0 {
				p.c.Submit(Put(fmt.Sprint(k), Fill(size(k), uint64(k))))
			} else {
				q := Get(fmt.Sprint(k), 1<<20)
				q.Slot = uint64(k)
				p.c.Submit(q)
			}
		}
	}
	t.Logf("%d steps, seed %d", steps, seed)
	for len(open) > 0 {
		leave(0)
	}
	for _, g := range back {
		g.check(t)
	}
	well()
	Until(t, "all descriptors to be closed", func() bool { return descriptors(t) <= before })
	Until(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= routines })
	// The most connections that may be open, and all memory that they may use.
	var cs []*Caller
	for i := range 23 {
		cs = append(cs, NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 2, Loop: i % 2})))
	}
	for _, c := range cs {
		c.Submit(Put("5", Fill(1<<20, 5)), Put("5", Fill(1<<20, 5)))
	}
	for _, c := range cs {
		for range 2 {
			if q := c.Next(); q.Status != kv.StatusOK {
				t.Fatalf("after %d steps a put ends as %v (seed %d)", steps, q.Status, seed)
			}
		}
		r.Hangup(c)
	}
}

// checkAnswer requires that a get returned the value that belongs to its key.
func checkAnswer(t *testing.T, q *kv.Request, size func(int) int) {
	t.Helper()
	switch {
	case q.Op == kv.OpGet && q.Status == kv.StatusNotFound:
	case q.Status != kv.StatusOK:
		t.Fatalf("%v: %v", q.Op, q.Status)
	case q.Op == kv.OpGet && !bytes.Equal(q.Value, Fill(size(int(q.Slot)), q.Slot)):
		t.Fatalf("get %s: %d B that are not those that were put", q.Key, len(q.Value))
	}
}

// tryHellos is exchangeHellos with a server that may refuse, or may not answer.
func tryHellos(c *raw, depth int) (h wire.ServerHello, err error) {
	if _, err := c.Write((&wire.ClientHello{Version: wire.Version, Depth: uint16(depth), Loop: wire.AnyLoop}).Append(nil)); err != nil {
		return h, err
	}
	return ReadHello(c.Conn)
}

// Files reports whether the process may have n open descriptors. It raises the limit if it can.
func Files(n int) bool {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur >= uint64(n) {
		return true
	}
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(n), Max: max(uint64(n), lim.Max)}) == nil
}

// Hangup ends a caller's connection.
func (r *Rig) Hangup(c *Caller) { c.c.Hangup() }
