package serve

import (
	"cmp"
	"fmt"
	"strings"
	"sync"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/store"
)

// poolLogged makes ChooseEngine log once for all cells of an experiment.
var poolLogged sync.Once

// ChooseEngine replaces the default disk engine by pool, and logs that once, on a machine without io_uring. An engine that the user gave stays.
func (s *Settings) ChooseEngine() {
	if !s.OnDisk() || s.Given("disk-engine") || s.Store.Engine != store.EngineUring {
		return
	}
	if err := probe.Uring(probe.Local()).Err(); err != nil {
		s.Store.Engine = store.EnginePool
		poolLogged.Do(func() { s.log().Warn("io_uring does not work here: the disk engine is pool", "reason", err) })
	}
}

// engines are the names of the socket engine and of the disk engine, where there is a choice: "epoll, uring".
func (s *Settings) engines() string {
	var e []string
	if s.Server.Transport == "tcp" {
		e = append(e, s.TCP.Engine)
	}
	if s.OnDisk() {
		e = append(e, s.Store.Engine)
	}
	return strings.Join(e, ", ")
}

// engineThreads is the number of threads that the disk engine keeps busy besides those of the loops.
func (s *Settings) engineThreads() int {
	if s.OnDisk() && (s.Store.Engine == store.EngineUringShared || s.Store.Engine == store.EngineUringSQ) {
		return 1
	}
	return 0
}

// EngineWorks returns the reason, with an exit code, why the disk engine does not work with its options on this machine.
func (s *Settings) EngineWorks() error {
	if !s.OnDisk() {
		return nil
	}
	h := probe.Local()
	var needs []probe.Finding
	switch {
	case strings.HasPrefix(s.Store.Engine, store.EngineUring):
		needs = append(needs, probe.Uring(h))
	case s.Store.Engine == store.EngineAIO:
		needs = append(needs, probe.AIO(h))
	}
	if s.Store.SQPoll {
		needs = append(needs, probe.SQPoll(h))
	}
	if s.Store.IOPoll {
		needs = append(needs, probe.IOPoll(h, cmp.Or(store.Home(s.Store.Dir), TemporaryParent())))
	}
	for _, n := range needs {
		if err := n.Err(); err != nil {
			return exit.With(exit.Missing, fmt.Errorf("disk engine %s: %w", s.Store.Engine, err))
		}
	}
	return nil
}
