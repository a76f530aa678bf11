package loop

import (
	"fmt"
	"sync"

	"github.com/kvwire/kvwire/kv"
)

// Placement says which loops carry connections and which carry keys.
type Placement uint8

const (
	Colocated  Placement = iota // every loop has an endpoint and a partition
	Dispatched                  // KVell's arrangement: network loops and store loops, all requests cross a mailbox
)

var placementNames = [...]string{"colocated", "dispatched"}

// String is the placement as it stands in its column.
func (p Placement) String() string { return placementNames[p] }

// ParsePlacement reads a placement's name.
func ParsePlacement(s string) (Placement, error) {
	for i, n := range placementNames {
		if s == n {
			return Placement(i), nil
		}
	}
	return 0, fmt.Errorf("placement %q is unknown (colocated or dispatched)", s)
}

// Partition is a share of the keys, living on one loop.
type Partition interface {
	Member
	kv.Handler
}

// Plan says how a Group's loops are made.
type Plan struct {
	Placement  Placement
	NetLoops   int     // loops with connections; colocated: all loops
	StoreLoops int     // dispatched: loops with keys
	Net        Options // of loops with connections (Name gets a number)
	Store      Options // of loops that have keys only
	Shards     int     // partitions in all: one per loop that carries keys; filled in by NewGroup
}

// Keys is how many loops carry keys.
func (p Plan) Keys() int {
	if p.Placement == Colocated {
		return p.NetLoops
	}
	return p.StoreLoops
}

// Loops is how many loops there are.
func (p Plan) Loops() int {
	if p.Placement == Colocated {
		return p.NetLoops
	}
	return p.NetLoops + p.StoreLoops
}

// Group is a set of loops that together hold all keys: a server's, or an in-process store's.
type Group struct {
	plan   Plan
	net    []*Loop
	store  []*Loop // the loop of shard i; the same loops as net when colocated
	parts  []Partition
	router []*Router
}

// NewGroup starts the loops and puts a partition onto each that carries keys. open is called on
// that loop's goroutine, for all loops at the same time, and adds the partition to the loop itself.
func NewGroup(p Plan, open func(l *Loop, shard, shards int) (Partition, error)) (*Group, error) {
	keys := p.Keys()
	if p.NetLoops < 1 || keys < 1 {
		return nil, fmt.Errorf("loop: a group needs at least one network loop and one store loop, not %d and %d", p.NetLoops, keys)
	}
	p.Shards = keys
	g := &Group{plan: p, net: make([]*Loop, p.NetLoops), parts: make([]Partition, keys)}
	partition := func(shard int) func(l *Loop) error {
		return func(l *Loop) error {
			part, err := open(l, shard, keys)
			if err != nil {
				return err
			}
			l.SetLocal(part)
			g.parts[shard] = part
			return nil
		}
	}
	var wait sync.WaitGroup
	errs := make([]error, p.NetLoops+p.StoreLoops)
	start := func(n int, l **Loop, o Options, name string, i int, setup func(*Loop) error) {
		o.Name = fmt.Sprintf("%s%d", name, i)
		if len(o.CPUs) > 1 { // one CPU each, in turn
			o.CPUs = o.CPUs[i%len(o.CPUs) : i%len(o.CPUs)+1]
		}
		wait.Go(func() { *l, errs[n] = Start(o, setup) })
	}
	g.store = g.net
	if p.Placement == Dispatched {
		g.store = make([]*Loop, p.StoreLoops)
		for i := range g.store {
			start(p.NetLoops+i, &g.store[i], p.Store, "store", i, partition(i))
		}
	}
	for i := range g.net {
		var setup func(*Loop) error
		if p.Placement == Colocated {
			setup = partition(i)
		}
		start(i, &g.net[i], p.Net, "net", i, setup)
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			_ = g.Stop()
			return nil, err
		}
	}
	for _, l := range g.net {
		g.router = append(g.router, newRouter(l, g.store))
	}
	return g, nil
}

// Net are the loops that carry connections.
func (g *Group) Net() []*Loop { return g.net }

// Store are the loops that carry keys: that of each shard, in order.
func (g *Group) Store() []*Loop { return g.store }

// All are all loops of the group, each once.
func (g *Group) All() []*Loop {
	if g.plan.Placement == Colocated {
		return g.net
	}
	return append(append([]*Loop(nil), g.net...), g.store...)
}

// Shards is the number of partitions.
func (g *Group) Shards() int { return g.plan.Shards }

// Partitions are those of all shards, in order. What is asked of one, its loop is asked.
func (g *Group) Partitions() []Partition { return g.parts }

// ShardLoops gives, for each shard, the number of the network loop that owns it, for a hello's
// shard map; nil when no network loop owns keys.
func (g *Group) ShardLoops() []uint16 {
	if g.plan.Placement != Colocated {
		return nil
	}
	m := make([]uint16, len(g.store))
	for i := range m {
		m[i] = uint16(i)
	}
	return m
}

// Router is the handler for requests that arrive on network loop i: it finds each key's partition.
func (g *Group) Router(i int) *Router { return g.router[i] }

// Stop ends the loops, those with connections first. Endpoints must have been removed.
func (g *Group) Stop() error {
	var first error
	for _, loops := range [][]*Loop{g.net, g.store} {
		for _, l := range loops {
			if l == nil {
				continue // it never started
			}
			if err := l.Stop(); err != nil && first == nil {
				first = err
			}
		}
	}
	return first
}
