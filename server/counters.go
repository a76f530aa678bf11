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

// Counters are the server's reply to kv.OpStats: its flags, and its counters since its start.
type Counters struct {
	Loops    transport.LoopCounters `json:"loops"`
	Process  bench.Usage            `json:"process"`
	Stores   []store.Stats          `json:"stores"`
	Flags    map[string]string      `json:"flags"` // of the server, by name
	GCPause  time.Duration          `json:"gc_pause_ns"`
	Allocs   uint64                 `json:"allocs"`
	Resident uint64                 `json:"resident_bytes"` // of the process, in RAM; 0: not known
	Host     bench.HostTimes        `json:"host"`           // CPU times of its machine; zero: not known
}

// Disk returns the reads and writes of all partitions.
func (c *Counters) Disk() (reads, writes uint64) {
	for _, s := range c.Stores {
		reads += s.DiskReads
		writes += s.DiskWrites
	}
	return reads, writes
}

// DiskEngines returns the counters of all partitions' disk engines: their sums, and the largest DepthMax.
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

// DirectIO reports whether all partitions opened their files with O_DIRECT.
func (c *Counters) DirectIO() bool { return c.every(func(s *store.Stats) bool { return s.DirectIO }) }

// FixedBuffers reports whether all partitions registered their memory with the ring.
func (c *Counters) FixedBuffers() bool {
	return c.every(func(s *store.Stats) bool { return s.FixedBuffers })
}

// FixedFiles reports whether all partitions registered their files with the ring.
func (c *Counters) FixedFiles() bool {
	return c.every(func(s *store.Stats) bool { return s.Disk.FixedFiles })
}

// Index is the memory of all indexes, and the number of their keys.
func (c *Counters) Index() (bytes, keys uint64) {
	for i := range c.Stores {
		bytes, keys = bytes+c.Stores[i].IndexBytes, keys+c.Stores[i].Items
	}
	return bytes, keys
}

// HasDisk reports whether there are partitions, and all of them have a disk engine.
func (c *Counters) HasDisk() bool {
	return len(c.Stores) > 0 && c.every(func(s *store.Stats) bool { return s.Disk.Engine != "" })
}

// Counters reads the counters of all loops, each on its loop, and blocks until all have answered. If the loops are parked, it returns their counters from
// the moment of parking.
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

// sum adds the counters of loops and partitions, and reads those of the process and the machine.
func (s *Server) sum(loops []transport.LoopCounters, stores []store.Stats) (c Counters) {
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
	c.Process, c.Resident = bench.ProcessUsage(), bench.ProcessResident()
	c.Host, _ = bench.ReadHostTimes() // an error leaves zeros: not known
	return c
}

// loops reads the counters of all loops, in the order of the group. Any goroutine except a loop's may call it.
func (s *Server) loops() (all []transport.LoopCounters, err error) {
	for _, l := range s.group.All() {
		st, err := transport.ReadCounters(l)
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}

// stores reads the counters of all partitions, by shard. Any goroutine except a loop's may call it.
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

// briefCounters has the counters that Redis's DBSIZE and INFO show. Stores has one element: the items of all partitions together.
type briefCounters struct {
	Process bench.Usage     `json:"process"`
	Stores  [1]briefCounter `json:"stores"`
}

type briefCounter struct {
	Items uint64 `json:"items"`
}

// brief returns only these counters, because a loop has to parse the reply within one turn.
func (s *Server) brief() (c briefCounters, err error) {
	all, err := s.stores()
	for i := range all {
		c.Stores[0].Items += all[i].Items
	}
	c.Process = bench.ProcessUsage()
	return c, err
}

// onStats registers the replies to StatsAll and StatsBrief with a router. The transport registers the other kinds.
func (s *Server) onStats(t *loop.Router) {
	t.OnStats(kv.StatsAll, answerJSON(s.Counters))
	t.OnStats(kv.StatsBrief, answerJSON(s.brief))
}

// answerJSON returns a handler that answers a request with f's result as JSON.
func answerJSON[T any](f func() (T, error)) func(r *kv.Request) {
	return func(r *kv.Request) {
		c, err := f()
		if err != nil { // a loop has ended
			r.Status = kv.StatusClosed
			return
		}
		b, err := json.Marshal(c)
		if err != nil {
			panic(err) // only numbers and names, which can always be encoded
		}
		r.SetAnswer(b)
	}
}
