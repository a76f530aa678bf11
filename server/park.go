package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
)

// parking is the state of a server whose loops can be parked.
type parking struct {
	mu      sync.Mutex               // held by Park, Resume and snapshot
	counted atomic.Pointer[snapshot] // counters of the parked loops; nil: the loops are awake. Park and Resume write it under mu; unpark clears it without mu, which Park may hold for quietMax
	ending  atomic.Bool              // the server ends: its loops stay awake
}

// snapshot holds the counters of all loops.
type snapshot struct {
	loops  []transport.LoopCounters
	conns  []transport.Stats // by network loop
	stores []store.Stats     // by shard
}

// Park waits until the server is quiet, parks all its loops and returns their counters. It waits until ctx's deadline, at most quietMax. After an error
// the loops are awake.
func (s *Server) Park(ctx context.Context) (p Parked, err error) {
	s.parking.mu.Lock()
	defer s.parking.mu.Unlock()
	if s.parking.counted.Load() != nil {
		return p, errors.New("the server is parked already")
	}
	wait := quietMax
	if by, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(by))
	}
	n := s.newSnapshot()
	all := s.group.All()
	place := make(map[*loop.Loop]int, len(all))
	for i, l := range all {
		place[l] = i
	}
	if err := s.group.Park(wait, func(l *loop.Loop) { s.look(n, l, place[l]) }); err != nil {
		return p, err
	}
	cpu := bench.ProcessCPU()
	s.parking.counted.Store(n)
	if s.parking.ending.Load() { // read after counted was set: else unpark could clear counted before, and it would stay set
		s.parking.counted.Store(nil)
		s.group.Resume()
		return p, errors.New("the server is shutting down")
	}
	p = Parked{Counters: s.sum(n.loops, n.stores), CPU: cpu.Nanoseconds()}
	for _, c := range n.conns {
		p.Conns += c.Conns
	}
	return p, nil
}

func (s *Server) newSnapshot() *snapshot {
	return &snapshot{make([]transport.LoopCounters, len(s.group.All())), make([]transport.Stats, len(s.group.Net())), make([]store.Stats, s.group.Shards())}
}

// look records the counters of a loop, on that loop's goroutine. i is its index in the group, in which network loops come first.
func (s *Server) look(n *snapshot, l *loop.Loop, i int) {
	n.loops[i] = transport.Snapshot(l)
	if i < len(n.conns) {
		n.conns[i] = s.net.LoopStats(i)
	}
	for shard, of := range s.group.Store() {
		if of == l {
			n.stores[shard], _ = store.StatsOf(s.group.Partitions()[shard])
		}
	}
}

// Resume wakes the parked loops. It returns the CPU time of the process since its start, in ns, read before they woke.
func (s *Server) Resume(context.Context) (cpuNs int64, err error) {
	s.parking.mu.Lock()
	defer s.parking.mu.Unlock()
	if s.parking.counted.Load() == nil {
		return 0, errors.New("the server is not parked")
	}
	loop.WaitForMonitor()
	cpuNs = bench.ProcessCPU().Nanoseconds()
	s.parking.counted.Store(nil)
	s.group.Resume()
	return cpuNs, nil
}

// unpark resumes the loops at the server's end and prevents further parking. It does not wait for a Park that is under way, which
// finds ending set.
func (s *Server) unpark() {
	s.parking.ending.Store(true)
	s.parking.counted.Store(nil)
	if s.group != nil {
		s.group.Resume()
	}
}

// snapshot returns the loops' counters; of parked loops those of the moment of parking.
func (s *Server) snapshot() (n *snapshot, err error) {
	s.parking.mu.Lock()
	defer s.parking.mu.Unlock()
	if n := s.parking.counted.Load(); n != nil {
		return n, nil
	}
	n = &snapshot{}
	if n.loops, err = s.loops(); err == nil {
		n.conns, err = s.net.Stats()
	}
	if err == nil {
		n.stores, err = s.stores()
	}
	return n, err
}
