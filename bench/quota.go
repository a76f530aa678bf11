package bench

import (
	"sync/atomic"
	"time"
)

// quota counts down the operations after which a window ends. The generators of a run share it.
type quota struct {
	left atomic.Int64 // written by the clients' loops, once for each answer in the window
	gens []*generator
	done chan struct{} // closed by the loop that counts the last operation

	seen  int64     // left when stalled last saw it change
	since time.Time // when that was
}

func newQuota(operations uint64, gens []*generator) *quota {
	q := &quota{gens: gens, done: make(chan struct{})}
	q.left.Store(int64(operations))
	for _, g := range gens {
		g.quota = q
	}
	return q
}

// count records an operation that is answered at now. It reports false for one after the last. With the last one the window of all generators ends.
// A generator that is late waits until its window has ended, since the loop that counted the last operation may have lost its CPU in between: it would
// send requests beyond the number asked for.
func (q *quota) count(now int64) bool {
	left := q.left.Add(-1)
	if left == 0 {
		for _, g := range q.gens {
			g.end.Store(now + 1)
		}
		close(q.done)
	}
	if left < 0 {
		<-q.done
	}
	return left >= 0
}

// over returns a channel that is closed when the last operation is counted; nil without a quota.
func (q *quota) over() <-chan struct{} {
	if q == nil {
		return nil
	}
	return q.done
}

// stalled reports whether no operation was counted for so long. Run's goroutine calls it again and again.
func (q *quota) stalled(long time.Duration) bool {
	if q == nil {
		return false
	}
	if left := q.left.Load(); left != q.seen {
		q.seen, q.since = left, time.Now()
	}
	return time.Since(q.since) > long
}
