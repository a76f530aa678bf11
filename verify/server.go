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

// serving says what a server is.
type serving struct {
	Placement  loop.Placement
	Backend    store.Backend
	Update     string
	Engine     string // "": the best that is here
	Durability string
	Dir        string
}

// faults are what a server's disk does wrong. The zero value is a disk that works.
type faults struct {
	SlowOneIn int // of the transfers, one in so many waits up to slowMax before it is done; 0: none
	EIOOneIn  int // … fails, a half of the writes after they were done; 0: none

	// The server kills itself, with SIGKILL, before the so-manieth write from now on, or when recovery has told so many times how far it is: moments
	// that nobody outside would hit. 0: it does not.
	KillAtWrite, KillInRecovery int
}

const slowMax = 20 * time.Millisecond

// counts are of a server's disk: what it read, and the faults that were injected.
type counts struct{ Reads, Slow, EIO int64 }

// faultyDisk decides for each transfer of all partitions.
type faultyDisk struct {
	slowOneIn, eioOneIn   atomic.Int64 // set by orders, read by the loops
	untilWrite, untilRead atomic.Int64 // the kill; set by orders, counted down by the loops
	reads, slow, eio      atomic.Int64
}

func (d *faultyDisk) set(f faults) {
	d.slowOneIn.Store(int64(f.SlowOneIn))
	d.eioOneIn.Store(int64(f.EIOOneIn))
	d.untilWrite.Store(int64(f.KillAtWrite))
	d.untilRead.Store(int64(f.KillInRecovery))
}

// dieAt ends the process when n has been counted down to 0. It does not return then.
func dieAt(n *atomic.Int64) {
	if n.Load() > 0 && n.Add(-1) == 0 {
		_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
		select {}
	}
}

// progress is store.Options.Progress.
func (d *faultyDisk) progress(int, int64, int64) { dieAt(&d.untilRead) }

func (d *faultyDisk) counts() counts { return counts{d.reads.Load(), d.slow.Load(), d.eio.Load()} }

// fault is store.Options.Fault, which loops call.
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

// limits of servers and of what clients ask for.
var limits = kv.Limits{MaxKeyBytes: 64, MaxValueBytes: valueBytesMax}

// engine is the disk's.
func (s *serving) engine() string {
	switch {
	case s.Engine != "":
		return s.Engine
	case ringHere():
		return store.EngineUring
	}
	return store.EnginePool
}

// serve starts a server.
func (n *network) serve(s serving, d *faultyDisk, so transport.ServerOptions) (*server.Server, error) {
	engine := s.engine()
	plan := loop.Plan{Placement: s.Placement, NetLoops: 2, Net: loop.Options{Sleep: n.impl.Sleep()}, Store: loop.Options{Sleep: loop.SleepEpoll}}
	if plan.Placement == loop.Dispatched {
		plan.NetLoops, plan.StoreLoops = 1, 2
	}
	if ringHere() {
		plan.Net.Ring, plan.Store = store.NeedsLoopRing(engine), loop.Options{Sleep: loop.SleepRing}
	}
	o := store.Options{Backend: s.Backend, Dir: s.Dir, Limits: limits, CacheBytes: 256 << 10, DiskEngine: engine, Durability: s.Durability,
		Update: s.Update, Fault: d.fault, Progress: d.progress}
	if t, ok := n.impl.(rdma.Transport); ok && t.Verb == rdma.Read {
		o.ExportEntries, o.ExportItemBytes = 256, 4096
	}
	addr, err := n.listen()
	if err != nil {
		return nil, err
	}
	so.Limits, so.InOrder = limits, s.Backend == store.Mem
	return server.Start(server.Config{Network: n.impl, Listen: addr, Plan: plan, Options: so, Store: func(int) (store.Options, error) { return o, nil }})
}
