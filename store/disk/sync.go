package disk

import "github.com/kvwire/kvwire/loop"

// syncDisk does each transfer in Flush, on the loop's thread, and blocks: depth 1, whatever DepthMax is. It is the baseline.
type syncDisk struct {
	engineBase
	queue []queuedIO
}

// queuedIO is a transfer between Submit and Flush.
type queuedIO struct {
	tag uint64
	t   *Transfer
}

var _ Engine = (*syncDisk)(nil)

func newSync(b engineBase) *syncDisk {
	return &syncDisk{engineBase: b, queue: make([]queuedIO, 0, b.o.DepthMax)}
}

func (s *syncDisk) Open(id loop.MemberID, fds []int, _ [][]byte) error {
	s.id, s.fds = id, fds
	return nil
}

func (s *syncDisk) Submit(tag uint64, t *Transfer) bool {
	s.queue = append(s.queue, queuedIO{tag, t})
	return true
}

func (s *syncDisk) Flush() error {
	for _, q := range s.queue {
		s.done.Push(Completion{q.tag, q.t.execute(s.fds[q.t.File], s.write)})
		s.calls++
	}
	if len(s.queue) > 0 {
		s.queue = s.queue[:0]
		s.l.Again()
		s.reportCalls(s.calls)
	}
	return nil
}

// Poll implements loop.Member. It finds nothing: the partition reaps.
func (s *syncDisk) Poll() int { return 0 }

// Close has nothing to free.
func (s *syncDisk) Close() bool { return true }
