package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/store"
)

// settleEngine chooses the disk engine where the user did not: the default, or, where there is no io_uring, pool, and says so.
func (f *factors) settleEngine() {
	if !f.onDisk() || f.sets("disk-engine") || f.diskEngine != store.EngineUring {
		return
	}
	if err := probe.Uring(probe.Local()).Err(); err != nil {
		f.diskEngine = store.EnginePool
		f.logger().Warn("the disk engine is pool", "reason", err)
	}
}

// engines names what moves bytes of sockets and of files, where there is a choice: "epoll, uring".
func (f *factors) engines() string {
	var e []string
	if f.transport == "tcp" {
		e = append(e, f.tcp.engine)
	}
	if f.onDisk() {
		e = append(e, f.diskEngine)
	}
	return strings.Join(e, ", ")
}

// engineThreads is how many threads the disk engine keeps busy besides the loops'.
func (f *factors) engineThreads() int {
	if f.onDisk() && (f.diskEngine == store.EngineUringShared || f.diskEngine == store.EngineUringSQ) {
		return 1
	}
	return 0
}

// engineWorks is nil where the disk engine works with its options, and else says why not, with the exit code.
func (f *factors) engineWorks() error {
	if !f.onDisk() {
		return nil
	}
	h := probe.Local()
	var needs []probe.Finding
	switch {
	case strings.HasPrefix(f.diskEngine, store.EngineUring):
		needs = append(needs, probe.Uring(h))
	case f.diskEngine == store.EngineAIO:
		needs = append(needs, probe.AIO(h))
	}
	if f.sqPoll {
		needs = append(needs, probe.SQPoll(h))
	}
	if f.ioPoll {
		needs = append(needs, probe.IOPoll(h, cmp.Or(f.dir, temporaryParent())))
	}
	for _, n := range needs {
		if err := n.Err(); err != nil {
			return &exitError{exitMissing, fmt.Errorf("disk engine %s: %w", f.diskEngine, err)}
		}
	}
	return nil
}
