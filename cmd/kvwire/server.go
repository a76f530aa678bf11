package main

import (
	"cmp"
	"fmt"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
	"golang.org/x/sys/unix"
)

// startServer starts the server that the flags describe, in this process. The caller closes it.
func startServer(f *factors) (*server.Server, error) {
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
	c := server.Config{Network: n.impl(f), Plan: plan, Listen: cmp.Or(f.listen, "127.0.0.1:0"), Options: f.serverOptions(), Flags: f.ServerTexts(), Log: f.log}
	if said, enough := f.memory(&plan); !enough {
		c.Log.Warn("memory", "found", said)
	}
	if n.name == "rdma" {
		if _, err := f.pinned(probe.Local(), &plan); err != nil {
			return nil, err
		}
	}
	loop.SetGOMAXPROCS(plan.NetLoops + plan.StoreLoops + f.engineThreads())
	if f.OnDisk() && f.Store.Dir == "" {
		if c.Temporary, err = temporary(); err != nil {
			return nil, err
		}
		f.Store.Dir = c.Temporary
	}
	recovered := newRecovery("opening")
	defer recovered.Clear()
	c.Store = func(shards int) (store.Options, error) {
		o := f.store(shards)
		o.Progress = func(shard int, done, total int64) { recovered.show(shard, shards, done, total) }
		return o, nil
	}
	return server.Start(c)
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
		return exit.With(exit.Missing, fmt.Errorf("ulimit -v allows %d MiB of address space: a server of %d loops reserves up to %d, and touches little of it (ulimit -v unlimited; a cgroup bounds what is used)",
			limit.Cur>>20, loops, need>>20))
	}
	return nil
}
