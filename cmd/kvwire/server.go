package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
	"golang.org/x/sys/unix"
)

// served is a server in this process: loops, partitions, and a listening transport.
type served struct {
	f       *factors
	log     *slog.Logger
	group   *loop.Group
	server  transport.Server
	engines store.Engines
	dir     string // to be removed at the end; "": the user's own, or none
	flags   map[string]string
	parking parking
}

// counters are what a server tells of itself (kv.OpStats): its flags, and what has grown from its start on.
type counters struct {
	Loops   loop.Stats        `json:"loops"`
	Process bench.Usage       `json:"process"`
	Stores  []store.Stats     `json:"stores"`
	Flags   map[string]string `json:"flags"` // of the server, by name
	GCPause time.Duration     `json:"gc_pause_ns"`
	Allocs  uint64            `json:"allocs"`
	Host    bench.HostTimes   `json:"host"` // of its machine; zero: not known
}

// disk sums what the partitions did to the disk.
func (c *counters) disk() (reads, writes uint64) {
	for _, s := range c.Stores {
		reads += s.DiskReads
		writes += s.DiskWrites
	}
	return reads, writes
}

// engines sums what the disk engines did.
func (c *counters) engines() (d store.DiskStats) {
	for _, s := range c.Stores {
		d.Syscalls += s.Disk.Syscalls
		d.Batches += s.Disk.Batches
		d.Transfers += s.Disk.Transfers
		d.DepthSum += s.Disk.DepthSum
		d.DepthMax = max(d.DepthMax, s.Disk.DepthMax)
	}
	return d
}

// every says whether something holds for all partitions.
func (c *counters) every(holds func(s *store.Stats) bool) bool {
	for i := range c.Stores {
		if !holds(&c.Stores[i]) {
			return false
		}
	}
	return true
}

func (c *counters) directIO() bool { return c.every(func(s *store.Stats) bool { return s.DirectIO }) }
func (c *counters) fixedBuffers() bool {
	return c.every(func(s *store.Stats) bool { return s.FixedBuffers })
}

func (c *counters) fixedFiles() bool {
	return c.every(func(s *store.Stats) bool { return s.Disk.FixedFiles })
}

// startServer makes the loops and the store and listens. The caller closes it.
func startServer(f *factors) (*served, error) {
	n, err := find(f.Server.Transport)
	if err != nil {
		return nil, err
	}
	f.settleEngine()
	plan, err := f.plan()
	if err != nil {
		return nil, err
	}
	if err := n.works(); err != nil {
		return nil, err
	}
	if err := f.engineWorks(); err != nil {
		return nil, err
	}
	if err := f.checkServerAmounts(&plan); err != nil {
		return nil, err
	}
	if err := addressSpace(&plan, int64(f.Store.CacheBytes)); err != nil {
		return nil, err
	}
	s := &served{f: f, log: f.logger(), flags: f.serverTexts()}
	if said, enough := f.memory(&plan); !enough {
		s.log.Warn("memory", "found", said)
	}
	if n.name == "rdma" {
		if _, err := f.pinned(probe.Local(), &plan); err != nil {
			return nil, err
		}
	}
	roomFor(plan.NetLoops + plan.StoreLoops + f.engineThreads())
	if f.OnDisk() && f.Store.Dir == "" {
		if s.dir, err = temporary(); err != nil {
			return nil, err
		}
		f.Store.Dir = s.dir
	}
	if err := s.open(n, plan); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// addressSpace refuses a limit under which there would be no server, or Go's runtime would abort it later: where a thread finds no room for its stack,
// the runtime has no error to give. What is reserved is measured (a server of one loop 2.7 GiB, of two 3.7), most of it never touched.
func addressSpace(p *loop.Plan, cacheBytes int64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &limit); err != nil || limit.Cur == unix.RLIM_INFINITY {
		return nil
	}
	loops := p.NetLoops
	if p.Placement == loop.Dispatched {
		loops += p.StoreLoops
	}
	if need := uint64(2<<30 + int64(loops)<<30 + cacheBytes); limit.Cur < need {
		return &exitError{exitMissing, fmt.Errorf("ulimit -v allows %d MiB of address space: a server of %d loops reserves up to %d, and touches little of it (ulimit -v unlimited; a cgroup bounds what is used)",
			limit.Cur>>20, loops, need>>20)}
	}
	return nil
}

func (s *served) open(n *network, plan loop.Plan) (err error) {
	recovered := newRecovery("opening")
	defer recovered.clear()
	s.group, err = loop.NewGroup(plan, func(l *loop.Loop, shard, shards int) (loop.Partition, error) {
		o := s.f.store(shards)
		o.Progress = func(shard int, done, total int64) { recovered.show(shard, shards, done, total) }
		o.Engines = &s.engines
		return store.Open(l, shard, shards, o)
	})
	if err != nil {
		return err
	}
	for i := range s.group.Net() {
		s.onStats(s.group.Router(i))
	}
	listen := s.f.listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	o := s.f.serverOptions()
	o.Log = s.log
	s.server, err = n.impl(s.f).Serve(listen, s.group, o)
	return err
}

// counters asks all loops, or gives what they had counted when they were parked. Any goroutine but a loop's.
func (s *served) counters() (c counters, err error) {
	if n := s.parking.seen.Load(); n != nil {
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
func (s *served) sum(loops []loop.Stats, stores []store.Stats) (c counters) {
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
func (s *served) loops() (all []loop.Stats, err error) {
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
func (s *served) stores() (all []store.Stats, err error) {
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
func (s *served) brief() (c briefCounters, err error) {
	all, err := s.stores()
	for i := range all {
		c.Stores[0].Items += all[i].Items
	}
	c.Process = bench.ProcessUsage()
	return c, err
}

// onStats has a router answer with the counters; the transport knows the rest.
func (s *served) onStats(t *loop.Router) {
	t.OnStats(kv.StatsAll, answerJSON(s.counters))
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

// close ends connections, partitions and loops, and removes a temporary store.
func (s *served) close() error {
	s.unpark()
	var errs []error
	if s.server != nil {
		errs = append(errs, s.server.Close())
	}
	if s.group != nil {
		errs = append(errs, s.group.Stop())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}
