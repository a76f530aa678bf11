package loop

import (
	"fmt"
	"sync"

	"github.com/kvwire/kvwire/kv"
)

// Placement determines which loops have connections and which have keys.
type Placement uint8

const (
	Colocated  Placement = iota // every loop has an endpoint and a partition
	Dispatched                  // KVell's arrangement: network loops and store loops, all requests cross a mailbox
)

var placementNames = [...]string{"colocated", "dispatched"}

// String returns the placement's name in its column.
func (p Placement) String() string { return placementNames[p] }

// ParsePlacement parses a placement's name.
func ParsePlacement(s string) (Placement, error) {
	for i, n := range placementNames {
		if s == n {
			return Placement(i), nil
		}
	}
	return 0, fmt.Errorf("placement %q is unknown (colocated or dispatched)", s)
}

// Partition is a share of the keys, on one loop.
type Partition interface {
	Member
	kv.Handler
}

// Plan describes the loops of a Group.
type Plan struct {
	Placement  Placement
	NetLoops   int     // loops with connections; colocated: all loops
	StoreLoops int     // dispatched: loops with keys
	Net        Options // of loops with connections (Name gets a number)
	Store      Options // of loops that have keys only
	Shards     int     // number of partitions: one per loop with keys; set by NewGroup
}

// Keys returns the number of loops with keys.
func (p Plan) Keys() int {
	if p.Placement == Colocated {
		return p.NetLoops
	}
	return p.StoreLoops
}

// Loops returns the number of loops.
func (p Plan) Loops() int {
	if p.Placement == Colocated {
		return p.NetLoops
	}
	return p.NetLoops + p.StoreLoops
}

// Group is the set of loops that together have all keys of a server.
type Group struct {
	plan   Plan
	net    []*Loop
	store  []*Loop // the loop of shard i; the same loops as net when colocated
	parts  []Partition
	router []*Router
}

// NewGroup starts the loops and puts a partition onto each loop with keys. open is called on
// that loop's goroutine, for all loops at the same time, and adds the partition to the loop.
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
		if len(o.CPUs) > 1 { // one CPU each, round robin
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

// Net returns the loops with connections.
func (g *Group) Net() []*Loop { return g.net }

// Store returns the loops with keys, by shard.
func (g *Group) Store() []*Loop { return g.store }

// All returns all loops of the group, each once.
func (g *Group) All() []*Loop {
	if g.plan.Placement == Colocated {
		return g.net
	}
	return append(append([]*Loop(nil), g.net...), g.store...)
}

// Shards returns the number of partitions.
func (g *Group) Shards() int { return g.plan.Shards }

// Partitions returns the partitions, by shard. Only a partition's loop may call its methods.
func (g *Group) Partitions() []Partition { return g.parts }

// ShardLoops returns, for each shard, the number of the network loop that owns it: the shard map of
// a hello. nil: no network loop owns keys.
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

// Router returns the handler for requests that arrive on network loop i.
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
