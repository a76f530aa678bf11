package verify

import (
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
	"golang.org/x/sys/unix"
)

// serverConfig is the configuration of a server.
type serverConfig struct {
	Placement  loop.Placement
	Backend    store.Backend
	Update     string
	Engine     string // "": the best one that works here
	Durability string
	Dir        string
}

// faults are the faults of a server's disk. The zero value has none.
type faults struct {
	SlowOneIn int // of the transfers, one in so many waits up to slowMax before it is done; 0: none
	EIOOneIn  int // of the transfers, one in so many fails, half of the writes after they were done; 0: none

	// The server kills itself with SIGKILL, before the write with this number, counted from now, or at the progress report of recovery with this
	// number. A kill from outside would not hit these moments. 0: it does not.
	KillAtWrite, KillInRecovery int
}

const slowMax = 20 * time.Millisecond

// counts are the reads of a server's disk, and the injected faults.
type counts struct{ Reads, Slow, EIO int64 }

// faultyDisk decides about the fault of each transfer, for all partitions.
type faultyDisk struct {
	slowOneIn, eioOneIn   atomic.Int64 // set by orders, read by the loops
	untilWrite, untilRead atomic.Int64 // until the kill; set by orders, counted down by the loops
	reads, slow, eio      atomic.Int64
}

func (d *faultyDisk) set(f faults) {
	d.slowOneIn.Store(int64(f.SlowOneIn))
	d.eioOneIn.Store(int64(f.EIOOneIn))
	d.untilWrite.Store(int64(f.KillAtWrite))
	d.untilRead.Store(int64(f.KillInRecovery))
}

// dieAt counts n down, and kills the process at 0.
func dieAt(n *atomic.Int64) {
	if n.Load() > 0 && n.Add(-1) == 0 {
		_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
		select {}
	}
}

// progress is for store.Options.Progress.
func (d *faultyDisk) progress(int, int64, int64) { dieAt(&d.untilRead) }

func (d *faultyDisk) counts() counts { return counts{d.reads.Load(), d.slow.Load(), d.eio.Load()} }

// fault is for store.Options.Fault, which loops call.
func (d *faultyDisk) fault(write bool) (f store.Fault) {
	if write {
		dieAt(&d.untilWrite)
	} else {
		d.reads.Add(1)
	}
	if n := d.slowOneIn.Load(); n > 0 && rand.Int64N(n) == 0 {
		d.slow.Add(1)
		f.Wait = time.Duration(rand.Int64N(int64(slowMax)))
	}
	if n := d.eioOneIn.Load(); n > 0 && rand.Int64N(n) == 0 {
		d.eio.Add(1)
		f.Errno, f.Done = syscall.EIO, rand.IntN(2) == 0
	}
	return f
}

// limits are the limits of servers and of requests.
var limits = kv.Limits{MaxKeyBytes: 64, MaxValueBytes: valueBytesMax}

// engine returns the disk engine.
func (s *serverConfig) engine() string {
	switch {
	case s.Engine != "":
		return s.Engine
	case ringWorks():
		return store.EngineUring
	}
	return store.EnginePool
}

// listening is a transport that keeps the server that it starts, for its counters.
type listening struct {
	transport.Transport
	server transport.Server
}

func (l *listening) Serve(addr string, g *loop.Group, o transport.ServerOptions) (s transport.Server, err error) {
	l.server, err = l.Transport.Serve(addr, g, o)
	return l.server, err
}

// serve starts a server. It returns the transport's part of it, too.
func (n *network) serve(s serverConfig, d *faultyDisk, so transport.ServerOptions) (*server.Server, transport.Server, error) {
	engine := s.engine()
	plan := loop.Plan{Placement: s.Placement, NetLoops: 2, Net: loop.Options{Sleep: n.impl.Sleep()}, Store: loop.Options{Sleep: loop.SleepEpoll}}
	if plan.Placement == loop.Dispatched {
		plan.NetLoops, plan.StoreLoops = 1, 2
	}
	if ringWorks() {
		plan.Net.Ring, plan.Store = engine == store.EngineUring, loop.Options{Sleep: loop.SleepRing}
	}
	o := store.Options{Backend: s.Backend, Dir: s.Dir, Limits: limits, CacheBytes: 256 << 10, DiskEngine: engine, Durability: s.Durability,
		Update: s.Update, Fault: d.fault, Progress: d.progress}
	if t, ok := n.impl.(rdma.Transport); ok && t.Verb == rdma.Read {
		o.ExportEntries, o.ExportItemBytes = 256, 4096
	}
	addr, err := n.listen()
	if err != nil {
		return nil, nil, err
	}
	so.Limits, so.InOrder = limits, s.Backend == store.Mem
	l := &listening{Transport: n.impl}
	running, err := server.Start(server.Config{Network: l, Listen: addr, Plan: plan, Options: so, Store: func(int) (store.Options, error) { return o, nil }})
	return running, l.server, err
}
