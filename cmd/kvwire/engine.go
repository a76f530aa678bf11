package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/store"
)

// settleEngine chooses the disk engine where the user did not: the default, or, where there is no io_uring, pool, and says so.
func (f *factors) settleEngine() {
	if !f.OnDisk() || f.sets("disk-engine") || f.Store.Engine != store.EngineUring {
		return
	}
	if err := probe.Uring(probe.Local()).Err(); err != nil {
		f.Store.Engine = store.EnginePool
		f.log.Warn("the disk engine is pool", "reason", err)
	}
}

// engines names what moves bytes of sockets and of files, where there is a choice: "epoll, uring".
func (f *factors) engines() string {
	var e []string
	if f.Server.Transport == "tcp" {
		e = append(e, f.TCP.Engine)
	}
	if f.OnDisk() {
		e = append(e, f.Store.Engine)
	}
	return strings.Join(e, ", ")
}

// engineThreads is how many threads the disk engine keeps busy besides the loops'.
func (f *factors) engineThreads() int {
	if f.OnDisk() && (f.Store.Engine == store.EngineUringShared || f.Store.Engine == store.EngineUringSQ) {
		return 1
	}
	return 0
}

// engineWorks is nil where the disk engine works with its options, and else says why not, with the exit code.
func (f *factors) engineWorks() error {
	if !f.OnDisk() {
		return nil
	}
	h := probe.Local()
	var needs []probe.Finding
	switch {
	case strings.HasPrefix(f.Store.Engine, store.EngineUring):
		needs = append(needs, probe.Uring(h))
	case f.Store.Engine == store.EngineAIO:
		needs = append(needs, probe.AIO(h))
	}
	if f.Store.SQPoll {
		needs = append(needs, probe.SQPoll(h))
	}
	if f.Store.IOPoll {
		needs = append(needs, probe.IOPoll(h, cmp.Or(store.Home(f.Store.Dir), temporaryParent())))
	}
	for _, n := range needs {
		if err := n.Err(); err != nil {
			return exit.With(exit.Missing, fmt.Errorf("disk engine %s: %w", f.Store.Engine, err))
		}
	}
	return nil
}
