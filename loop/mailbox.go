package loop

import (
	"encoding/binary"
	"slices"
	"sync/atomic"

	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// mailbox is a stack of requests. Any loop pushes onto it; only its own loop detaches all requests at once
// (Treiber 1986; no single request is popped, so there is no ABA problem). Requests are linked through their
// Link field: it never allocates, and its length is bounded by the number of requests.
type mailbox struct {
	head atomic.Pointer[kv.Request] // written by all loops
}

// boxClosed is the head of a closed mailbox.
var boxClosed = new(kv.Request)

// push adds r. It returns false if the mailbox is closed: then the sender still owns r.
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

// detach empties the mailbox and returns its requests, linked oldest first. Only its loop may call it.
func (b *mailbox) detach() *kv.Request {
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

// Push passes a request to another loop: to its partition, or, if the request is completed (Returning), to its
// owner there. Any goroutine may call it; afterwards the sender must not use r. It
// returns false if that loop has ended: then the sender still owns r.
func (l *Loop) Push(r *kv.Request) bool {
	if !l.box.push(r) {
		return false
	}
	l.wake()
	return true
}

// wake ends the loop's sleep, if it sleeps, and reports whether it made a system call. A wake-up costs 22–34 µs, reading the flag nothing.
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

// one is the value written to an eventfd. As a local variable it would be allocated for each write under the race detector.
var one = binary.NativeEndian.AppendUint64(nil, 1)

// post is Push for the goroutine of loop l, which wakes the other loop later: by wakePosted, after the deliver step or at the end of the turn, or when postMax requests
// were posted. If each request woke it at once, it would often handle that one request and sleep again, while l passes on the next: a wake-up, and a sleep,
// for every few requests.
func (l *Loop) post(to *Loop, r *kv.Request) bool {
	if !to.box.push(r) {
		return false
	}
	if !to.sleeping.Load() { // it checks its mailbox before it sleeps
		return true
	}
	if !slices.Contains(l.toWake, to) {
		l.toWake = append(l.toWake, to)
	}
	if l.posted++; l.posted == postMax {
		l.wakePosted()
	}
	return true
}

// postMax is the most requests that sleeping loops get before they are woken, so that they work at the same time as a loop with a long turn.
const postMax = 32

// wakePosted wakes the loops that got requests while they slept.
func (l *Loop) wakePosted() {
	for i, to := range l.toWake {
		if to.wake() {
			l.Stats.Wakes++
			l.Stats.Syscalls++
		}
		l.toWake[i] = nil
	}
	l.toWake, l.posted = l.toWake[:0], 0
}

// relay is the owner of a request that another loop executes. It returns the completed request to its home loop.
type relay struct{ home, other *Loop }

// Complete implements kv.Completer. It runs on the other loop.
func (y *relay) Complete(r *kv.Request) {
	r.Owner, r.Home = r.Home, nil
	r.Returning = true
	y.other.post(y.home, r) // fails only if the home loop has ended, and then no one waits for r
}

// emptyMailbox passes the mailbox's new requests to the partition and its completed ones to their owners. It returns their number.
func (l *Loop) emptyMailbox() int {
	n := 0
	r := l.box.detach()
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
