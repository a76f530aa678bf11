package transporttest

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// ConnLoad describes idle and slow connections, and the memory that the server may use for them.
type ConnLoad struct {
	Idle, Slow int // connections that send nothing, and connections that read 4 KiB a second of values of 60 or 256 KiB
	MaxBytes   int // largest resident memory of the server
}

// ManyIdleAndSlow is more than a server usually has. Its memory is the pool's 256 MiB, which 1,000 slow connections fill, and the connections' own.
// 1,000 slow connections fill 1.5 GB of send buffers, which on a machine with 24 GB of memory puts all its TCP sockets under memory pressure:
// connections of other tests then stop for 15 s and more. So only long tests, which run alone, have so many.
var ManyIdleAndSlow = ConnLoad{Idle: 10_000, Slow: map[bool]int{false: 150, true: 1_000}[Long], MaxBytes: 512 << 20}

// window is the duration of one measurement of the active connections' throughput. They must keep four fifths of it; only long tests check that.
var window = map[bool]time.Duration{false: 200 * time.Millisecond, true: time.Second}[Long]

const (
	windows   = 5
	keepLeast = 0.8
	slowDepth = 16
)

// holdRounds is the number of rounds: a single one is sometimes off by a fifth on shared CPUs.
var holdRounds = map[bool]int{false: 1, true: 3}[Long]

var slowBytes = [2]int{60 << 10, 256 << 10}

// HoldConns: a server in a process of its own has idle and slowly reading connections, and active ones. No connection ends, and memory is bounded. It logs the
// active connections' throughput with and without the others, in alternation.
func HoldConns(t *testing.T, n Network, load ConnLoad) {
	if testenv.Race {
		t.Skip("the race detector takes more memory than the server")
	}
	if files := load.Idle + load.Slow + 300; !Files(files) {
		t.Skipf("no %d descriptors here: raise ulimit -n", files)
	}
	s := StartChild(t, n, Plan{Answers: true, Stall: 2 * WaitMax})
	l, err := loop.Start(loop.Options{Name: "others", Sleep: n.Sleep()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &Rig{t: t, n: n, Loop: l, Server: otherAddr{addr: s.Addr}}
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
	owner := NewCaller(t, l, r.Dial(transport.DialOptions{}))
	for i, n := range slowBytes {
		owner.Expect(Put(fmt.Sprint("large", i), Fill(n, 1)), kv.StatusOK)
	}
	work := r.activeConns(8)
	var kept []float64
	for range holdRounds {
		kept = append(kept, r.holdConns(s, work, load))
	}
	work.end(t)
	slices.Sort(kept)
	if k := kept[len(kept)/2]; Long && !Emulated && k < keepLeast {
		t.Errorf("others keep %.2f of their throughput, the median of %.2f, want %.2f", k, kept, keepLeast)
	}
}

// holdConns holds the connections once, and returns the share of their throughput that the active connections keep.
func (r *Rig) holdConns(s *Child, work *activeConns, load ConnLoad) float64 {
	t, empty := r.t, s.Resident()
	without := work.measure(t)
	began := time.Now()
	held := make([]*raw, 0, load.Idle+load.Slow)
	for range load.Idle {
		held = append(held, r.connected(4))
	}
	for k := range load.Slow {
		c := r.connected(slowDepth)
		if tc, ok := c.Conn.(*net.TCPConn); ok {
			_ = tc.SetReadBuffer(4 << 10)
		}
		for i := range slowDepth {
			c.send(frame(wire.Header{Op: kv.OpGet, ID: uint64(i), KeyBytes: 6, ValueBytes: uint32(slowBytes[k%2])}, fmt.Sprint("large", k%2)))
		}
		_ = c.SetDeadline(time.Time{}) // stop ends its reads
		held = append(held, c)
	}
	took := time.Since(began)
	stop, stopped := context.WithCancel(t.Context())
	ends := make(chan error, load.Slow)
	for _, c := range held[load.Idle:] {
		go func() { ends <- c.trickle(stop) }()
	}
	with := work.measure(t)
	full := s.Resident()
	stopped()
	for _, c := range held[load.Idle:] {
		_ = c.SetDeadline(time.Unix(1, 0))
	}
	for range load.Slow {
		if err := <-ends; err != nil {
			t.Errorf("a connection that reads slowly was closed: %v", err)
		}
	}
	for i, c := range held[:load.Idle] { // they live
		if i%(1+load.Idle/50) == 0 {
			_ = c.SetDeadline(time.Now().Add(WaitMax))
			c.send(putFrame(1, "key", "value"))
			if _, err := io.ReadFull(c, make([]byte, wire.HeaderBytes)); err != nil {
				t.Fatalf("idle connection %d was closed: %v", i, err)
			}
		}
	}
	for _, c := range held {
		_ = c.Close()
	}
	after := work.measure(t)
	bare := median(append(without, after...))
	kept := float64(median(with)) / float64(bare)
	t.Logf("%d idle and %d slow connections, made in %.1f s: others do %.0f operations/s beside them, %.0f without (%.2f); the server has %d MiB, %d before",
		load.Idle, load.Slow, took.Seconds(), float64(median(with))/window.Seconds(), float64(bare)/window.Seconds(), kept, full>>20, empty>>20)
	if full > load.MaxBytes {
		t.Errorf("the server takes %d MiB, at most %d are allowed", full>>20, load.MaxBytes>>20)
	}
	return kept
}

// trickle reads 4 KiB a second, until stop, after which reads end.
func (c *raw) trickle(stop context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for b := make([]byte, 4<<10); ; {
		if _, err := c.Read(b); stop.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		select {
		case <-stop.Done():
			return nil
		case <-tick.C:
		}
	}
}

// activeConns are connections that always have requests under way, with values that fit into a slot and values that need the pool.
type activeConns struct {
	r     *Rig
	done  atomic.Int64
	wrong atomic.Int64 // requests with a wrong outcome
	left  atomic.Int64 // requests under way
	ended atomic.Bool
	conns []transport.Conn
}

const othersDepth = 8

func (r *Rig) activeConns(conns int) *activeConns {
	o := &activeConns{r: r}
	o.left.Store(int64(conns * othersDepth))
	for i := range conns {
		c := r.Dial(transport.DialOptions{Depth: othersDepth})
		o.conns = append(o.conns, c)
		if err := r.Loop.Call(func() {
			for k := range othersDepth {
				q := Put(fmt.Sprint("other", i, k), Fill([]int{100, 8 << 10}[k%2], uint64(k)))
				q.Owner = &activeConn{o, c}
				c.Submit(q)
			}
		}); err != nil {
			r.t.Fatal(err)
		}
	}
	return o
}

// activeConn submits its request again and again, alternately as a get and a put.
type activeConn struct {
	all *activeConns
	c   kv.Handler
}

// Complete implements kv.Completer.
func (o *activeConn) Complete(q *kv.Request) {
	o.all.done.Add(1)
	if q.Status != kv.StatusOK {
		o.all.wrong.Add(1)
	}
	if o.all.ended.Load() || q.Status != kv.StatusOK {
		o.all.left.Add(-1)
		return
	}
	if q.Op == kv.OpPut {
		q.Op = kv.OpGet
	} else {
		q.Op = kv.OpPut
	}
	o.c.Submit(q)
}

// measure returns the number of operations that ended in each of some windows.
func (o *activeConns) measure(t *testing.T) (all []int64) {
	t.Helper()
	for range windows {
		before := o.done.Load()
		time.Sleep(window) // it is what is measured
		all = append(all, o.done.Load()-before)
	}
	if n := o.wrong.Load(); n > 0 {
		t.Fatalf("%d of the others' requests failed", n)
	}
	return all
}

func (o *activeConns) end(t *testing.T) {
	o.ended.Store(true)
	Until(t, "the others to end", func() bool { return o.left.Load() == 0 })
	for _, c := range o.conns {
		c.Hangup()
	}
}

func median(v []int64) int64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
