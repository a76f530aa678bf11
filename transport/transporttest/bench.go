package transporttest

import (
	"context"
	"fmt"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
)

// null is a partition that answers without a lookup.
type null struct{ Held }

// Submit implements kv.Handler.
func (n *null) Submit(r *kv.Request) {
	r.Status, r.Value = kv.StatusOK, r.Value[:min(cap(r.Value), 64)]
	n.l.Finish(r)
}

// BenchmarkNull measures 64-byte gets over one connection against a null store, at depth 1 and 16, with
// both sides blocking.
func BenchmarkNull(b *testing.B, n Network) {
	for _, depth := range []int{1, 16} {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) { benchmarkNull(b, n, depth) })
	}
}

func benchmarkNull(b *testing.B, n Network, depth int) {
	g, err := loop.NewGroup(loop.Plan{NetLoops: 1, Net: loop.Options{Sleep: n.Sleep(), Wait: n.Wait}}, func(l *loop.Loop, _, _ int) (loop.Partition, error) {
		p := &null{Held{l: l}}
		_, err := l.Add(p)
		return p, err
	})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Stop()
	s, err := n.Serve(n.listen(), g, transport.ServerOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, stop, err := n.clientLoop(g)
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), WaitMax)
	defer cancel()
	c, err := n.Dial(ctx, l, s.Addr(), transport.DialOptions{Depth: depth})
	if err != nil {
		b.Fatal(err)
	}
	p := &ping{h: c, left: b.N, done: make(chan struct{}, 1)}
	b.ReportAllocs()
	b.ResetTimer()
	if err := l.Call(func() {
		for range min(depth, b.N) {
			r := Get("a key of twenty-four byte", 64)
			r.Owner = p
			c.Submit(r)
		}
	}); err != nil {
		b.Fatal(err)
	}
	<-p.done
}
