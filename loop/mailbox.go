package loop

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// mailbox is a stack of requests that any loop pushes onto and only its owner takes, whole
// (Treiber 1986; there is no pop of one, so no ABA). Requests are linked through their own
// Link field: it never allocates, and it is bounded by the number of requests there are.
type mailbox struct {
	head atomic.Pointer[kv.Request] // written by all loops
}

// boxClosed marks a mailbox that takes no more.
var boxClosed = new(kv.Request)

// push reports false when the box is closed; then the sender still owns r.
func (b *mailbox) push(r *kv.Request) bool {
	for {
		h := b.head.Load()
		if h == boxClosed {
			return false
		}
		r.Link = h
		if b.head.CompareAndSwap(h, r) {
			return true
		}
	}
}

func (b *mailbox) empty() bool { return b.head.Load() == nil }

// take empties the box and returns its requests linked oldest first. Only its loop may call it.
func (b *mailbox) take() *kv.Request {
	if b.head.Load() == nil {
		return nil
	}
	var oldest *kv.Request
	for r := b.head.Swap(nil); r != nil; {
		next := r.Link
		r.Link = oldest
		oldest, r = r, next
	}
	return oldest
}

func (b *mailbox) close() { b.head.Store(boxClosed) }

// Push hands a request to another loop: to its partition, or, when it is on its way back, to the
// owner that it has there. Any goroutine may call it; handing over is the sender's last use. It
// reports false when that loop has ended: then the sender still owns r.
func (l *Loop) Push(r *kv.Request) bool {
	if !l.box.push(r) {
		return false
	}
	l.wake()
	return true
}

// wake ends the loop's sleep, if it sleeps: a wake-up costs 22–34 µs, a look at a flag nothing.
func (l *Loop) wake() bool {
	if !l.sleeping.Load() {
		return false
	}
	l.wakers.Add(1)
	defer l.wakers.Add(-1)
	if !l.sleeping.CompareAndSwap(true, false) {
		return false
	}
	_, _ = unix.Write(l.wakefd, one) // cannot block or fail: the counter is 64 bits wide
	return true
}

// one is what is written to an eventfd. On the stack it would be allocated for each write under the race detector.
var one = binary.NativeEndian.AppendUint64(nil, 1)

// relay brings a request back to the loop that it came from.
type relay struct{ home *Loop }

// Complete runs on the loop of the partition that handled r.
func (y *relay) Complete(r *kv.Request) {
	r.Owner, r.Home = r.Home, nil
	r.Returning = true
	y.home.Push(r) // refused only when its home has ended, and then nobody waits for it
}

// mail gives what other loops handed over to the partition, or back to its owner.
func (l *Loop) mail() int {
	n := 0
	r := l.box.take()
	if r == nil {
		return 0
	}
	if l.batch != nil {
		l.batch.Begin()
		defer l.batch.End()
	}
	for ; r != nil; n++ {
		next := r.Link
		r.Link = nil
		if r.Returning {
			r.Returning = false
			l.Finish(r)
		} else {
			l.local.Submit(r)
		}
		r = next
	}
	l.Stats.Mail += uint64(n)
	return n
}
