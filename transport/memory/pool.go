// Package memory shares a loop's memory for messages and answers among its connections. It decides how much one connection may hold, which connections wait, and
// which is next when memory is freed. It depends on no protocol, request or socket. It may import internal/arena only.
//
// The rules, with their reasons, are in docs/adr/0020 (shares of the pool) and docs/adr/0021 (the bound on answers that the peer has not received).
package memory

import (
	"cmp"
	"container/heap"

	"github.com/kvwire/kvwire/internal/arena"
)

// SmallBytes is the largest size of a message or answer that lies in its slot's own memory. It needs no block of the pool, so no bound applies to it.
const SmallBytes = 256

// Loop is the part of a loop that a pool calls.
type Loop interface {
	AwakeNow() int64 // returns the loop's clock, in ns, without the time parked
	Again()          // requests another turn, whose stage step calls Resume
}

// Pool is the memory for messages and answers of one loop's connections. It belongs to that loop. Waiting accounts are in two heaps, ordered by the bytes that
// must be free: so thousands of accounts that need more than there is cost no work.
type Pool struct {
	*arena.Pool

	loop   Loop
	onWait func() // called when an account begins to wait, so that deadlines are checked

	answers  waiters // accounts in state AwaitsAnswer
	messages waiters // accounts in state AwaitsMessage

	retried     []*Account // accounts tried by this Resume or Unblock; requeue puts them back
	retrying    *Account   // account whose owner is running; its state does not change meanwhile
	ignoreShare bool       // the next block is granted whatever the share is
	allocFailed bool       // the last request failed although its share allowed it: no block is large enough

	freed      bool // memory was freed since the last Resume
	ownerFreed bool // an owner freed memory since the last Unblock
}

// NewPool reserves address space for a pool of at least that many bytes. Physical memory is used from the first use on. waiting is called whenever an account
// begins to wait.
func NewPool(bytes int, l Loop, waiting func()) (*Pool, error) {
	p, err := arena.NewPool(bytes)
	if err != nil {
		return nil, err
	}
	return &Pool{Pool: p, loop: l, onWait: waiting}, nil
}

// Unused returns the free bytes, in blocks of any size.
func (p *Pool) Unused() int { return p.Largest() - p.InUse() }

// Waiting returns the number of accounts that wait for memory.
func (p *Pool) Waiting() int { return len(p.answers) + len(p.messages) }

// UnsentMax returns the bound on the bytes of unsent answers of one connection: 4 MiB, or an eighth of the pool if that is less. 4 MiB are enough for two answers of
// 1 MiB, in blocks of powers of two.
func (p *Pool) UnsentMax() int { return min(4<<20, p.Largest()/8) }

// RetryWaiters must be called when memory was freed, or something else that an account waits for. Resume then tries the waiting accounts, in this turn or, if its
// stage step is over, in the next.
func (p *Pool) RetryWaiters() {
	p.freed = true
	if unused := p.Unused(); p.answers.mayServe(unused) || p.messages.mayServe(unused) {
		p.loop.Again()
	}
}

// Resume gives free memory to waiting accounts: answers before messages, the smallest need first, as far as the memory goes. The stage step calls it.
func (p *Pool) Resume() {
	if !p.freed {
		return
	}
	p.freed, p.allocFailed = false, false
	for _, w := range [...]*waiters{&p.answers, &p.messages} {
		for !p.allocFailed && w.mayServe(p.Unused()) {
			p.retryAccount((*w)[0])
		}
	}
	p.requeue()
}

// Unblock ends a deadlock of connections that wait for each other: if no memory was freed since its last call, it gives one of them a block whatever its share.
// It never chooses a connection with unsent answers: that one waits for its peer, and its block may be the last one for connections whose peers do read.
func (p *Pool) Unblock() {
	if !p.ownerFreed {
		if a := cmp.Or(p.answers.leastBlocked(), p.messages.leastBlocked()); a != nil {
			p.ignoreShare = true
			p.retryAccount(a)
			p.ignoreShare = false
			p.requeue()
		}
	}
	p.ownerFreed = false
}

// retryAccount makes a waiting account try again. If that fails, requeue puts it back.
func (p *Pool) retryAccount(a *Account) {
	a.leaveHeap()
	p.retried, p.retrying = append(p.retried, a), a
	a.retry()
	p.retrying = nil
}

// requeue puts the tried accounts back into the heaps, if they still wait.
func (p *Pool) requeue() {
	for i, a := range p.retried {
		p.retried[i] = nil
		a.updateState()
	}
	p.retried = p.retried[:0]
}

// waiters are accounts that wait for memory, as a heap: the first has the smallest need.
type waiters []*Account

var _ heap.Interface = (*waiters)(nil)

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].freeNeeded < w[j].freeNeeded }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].heapIndex, w[j].heapIndex = i+1, j+1
}

func (w *waiters) Push(x any) {
	a := x.(*Account)
	*w = append(*w, a)
	a.heapIndex = len(*w)
}

func (w *waiters) Pop() any {
	last := len(*w) - 1
	a := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	a.heapIndex = 0
	return a
}

// mayServe reports whether unused bytes may be enough for a waiting account.
func (w waiters) mayServe(unused int) bool { return len(w) > 0 && w[0].freeNeeded <= unused }

// leastBlocked returns the account with the smallest need of those without unsent answers; nil: there is none.
func (w waiters) leastBlocked() (least *Account) {
	for _, a := range w {
		if !a.owner.Unsent() && (least == nil || a.freeNeeded < least.freeNeeded) {
			least = a
		}
	}
	return least
}
