package disk

import (
	"sync"

	"github.com/kvwire/kvwire/loop"
)

// poolWorkersMax bounds the goroutines. Each holds a thread while it waits for the disk. More would not help: the scheduler runs
// GOMAXPROCS of them at a time until it detects that one blocks (20 µs and more).
const poolWorkersMax = 64

// pool does transfers in goroutines.
type pool struct {
	engineBase
	jobs    chan poolJob // room for all transfers, so sending never blocks
	workers sync.WaitGroup
}

type poolJob struct {
	tag uint64
	t   Transfer // a copy
}

var _ Engine = (*pool)(nil)
var _ loop.Armer = (*pool)(nil)

func newPool(b engineBase) *pool { return &pool{engineBase: b, jobs: make(chan poolJob, b.o.DepthMax)} }

func (p *pool) Open(id loop.MemberID, fds []int, _ [][]byte) error {
	p.id, p.fds = id, fds
	for range min(p.o.DepthMax, poolWorkersMax) {
		p.workers.Add(1)
		go p.work()
	}
	return nil
}

func (p *pool) work() {
	defer p.workers.Done()
	var c [1]Completion
	for j := range p.jobs {
		c[0] = Completion{j.tag, j.t.execute(p.fds[j.t.File], p.write)}
		p.in.put(c[:])
		p.in.wake()
	}
}

func (p *pool) Submit(tag uint64, t *Transfer) bool {
	p.jobs <- poolJob{tag, *t}
	p.calls++
	return true
}

func (p *pool) Flush() error { return nil }

// Poll implements loop.Member. It finds nothing: the partition reaps.
func (p *pool) Poll() int {
	p.reportCalls(p.Calls())
	return 0
}

// Arm implements loop.Armer: it checks for completions again.
func (p *pool) Arm() (bool, error) { return p.in.nonEmpty.Load(), nil }

// Close ends the goroutines. No transfer is in flight.
func (p *pool) Close() bool {
	if p.jobs != nil {
		close(p.jobs)
		p.workers.Wait()
		p.jobs = nil
	}
	return true
}
