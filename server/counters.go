package server

import (
	"encoding/json"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
)

// Counters are the server's answer to kv.OpStats: its flags, and what it has counted since its start.
type Counters struct {
	Loops   loop.Stats        `json:"loops"`
	Process bench.Usage       `json:"process"`
	Stores  []store.Stats     `json:"stores"`
	Flags   map[string]string `json:"flags"` // of the server, by name
	GCPause time.Duration     `json:"gc_pause_ns"`
	Allocs  uint64            `json:"allocs"`
	Host    bench.HostTimes   `json:"host"` // of its machine; zero: not known
}

// Disk returns the reads and writes of all partitions.
func (c *Counters) Disk() (reads, writes uint64) {
	for _, s := range c.Stores {
		reads += s.DiskReads
		writes += s.DiskWrites
	}
	return reads, writes
}

// DiskEngines returns the sum of the partitions' disk engines.
func (c *Counters) DiskEngines() (d store.DiskStats) {
	for _, s := range c.Stores {
		d.Syscalls += s.Disk.Syscalls
		d.Batches += s.Disk.Batches
		d.Transfers += s.Disk.Transfers
		d.DepthSum += s.Disk.DepthSum
		d.DepthMax = max(d.DepthMax, s.Disk.DepthMax)
	}
	return d
}

// every reports whether a condition holds for all partitions.
func (c *Counters) every(holds func(s *store.Stats) bool) bool {
	for i := range c.Stores {
		if !holds(&c.Stores[i]) {
			return false
		}
	}
	return true
}

// DirectIO reports whether all partitions have their files open with O_DIRECT, FixedBuffers and FixedFiles whether memory and files are registered
// with the ring.
func (c *Counters) DirectIO() bool { return c.every(func(s *store.Stats) bool { return s.DirectIO }) }

// FixedBuffers: see DirectIO.
func (c *Counters) FixedBuffers() bool {
	return c.every(func(s *store.Stats) bool { return s.FixedBuffers })
}

// FixedFiles: see DirectIO.
func (c *Counters) FixedFiles() bool {
	return c.every(func(s *store.Stats) bool { return s.Disk.FixedFiles })
}

// HasDisk reports whether there are partitions, and all of them have a disk engine.
func (c *Counters) HasDisk() bool {
	return len(c.Stores) > 0 && c.every(func(s *store.Stats) bool { return s.Disk.Engine != "" })
}

// Counters asks all loops. Of parked loops it returns the counters of the moment at which they were parked.
func (s *Server) Counters() (c Counters, err error) {
	if n := s.parking.counted.Load(); n != nil {
		return s.sum(n.loops, n.stores), nil
	}
	loops, err := s.loops()
	if err != nil {
		return c, err
	}
	stores, err := s.stores()
	if err != nil {
		return c, err
	}
	return s.sum(loops, stores), nil
}

// sum makes counters of what loops and partitions have counted.
func (s *Server) sum(loops []loop.Stats, stores []store.Stats) (c Counters) {
	for _, l := range loops {
		c.Loops.Add(l)
	}
	c.Stores = stores
	c.Flags = s.flags
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	c.GCPause = gc.PauseTotal
	allocs := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	if metrics.Read(allocs); allocs[0].Value.Kind() == metrics.KindUint64 {
		c.Allocs = allocs[0].Value.Uint64()
	}
	c.Process = bench.ProcessUsage()
	c.Host, _ = bench.ReadHostTimes() // not known is zero
	return c
}

// loops asks all loops for their counters, in the order of the group. Any goroutine but a loop's.
func (s *Server) loops() (all []loop.Stats, err error) {
	for _, l := range s.group.All() {
		st, err := l.Counters()
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}

// stores asks all partitions for theirs.
func (s *Server) stores() (all []store.Stats, err error) {
	for shard, p := range s.group.Partitions() {
		if err := s.group.Store()[shard].Call(func() {
			st, _ := store.StatsOf(p)
			all = append(all, st)
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// briefCounters are those of counters that Redis's DBSIZE and INFO have: the items of all partitions are told as one's.
type briefCounters struct {
	Process bench.Usage     `json:"process"`
	Stores  [1]briefCounter `json:"stores"`
}

type briefCounter struct {
	Items uint64 `json:"items"`
}

// brief is counters for those alone: a loop reads the answer, in one turn.
func (s *Server) brief() (c briefCounters, err error) {
	all, err := s.stores()
	for i := range all {
		c.Stores[0].Items += all[i].Items
	}
	c.Process = bench.ProcessUsage()
	return c, err
}

// onStats has a router answer with the counters; the transport knows the rest.
func (s *Server) onStats(t *loop.Router) {
	t.OnStats(kv.StatsAll, answerJSON(s.Counters))
	t.OnStats(kv.StatsBrief, answerJSON(s.brief))
}

// answerJSON answers a request with what f gives.
func answerJSON[T any](f func() (T, error)) func(r *kv.Request) {
	return func(r *kv.Request) {
		c, err := f()
		if err != nil { // a loop has ended
			r.Status = kv.StatusClosed
			return
		}
		b, err := json.Marshal(c)
		if err != nil {
			panic(err) // they are numbers and names
		}
		r.Answer(b)
	}
}

// ConnStats returns the counters of the connections of each network loop.
func (s *Server) ConnStats() ([]transport.Stats, error) { return s.net.Stats() }
