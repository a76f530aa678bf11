package memory

import "container/heap"

// Owner is the connection that an account belongs to. Account and Pool call its methods, on the loop.
type Owner interface {
	// Unsent reports whether there are answers that are not sent to the peer yet.
	Unsent() bool

	// AllocAnswer calls Answer again for c, the claim at the head of the queue, and reports whether it got a block. It does not continue the request.
	AllocAnswer(c *Claim) bool

	// ContinueRequest continues the request of a claim that got its memory.
	ContinueRequest(c *Claim)

	// ContinueReading continues with the received bytes after a pause.
	ContinueReading()
}

// Order describes the state of a connection that sends answers in the order of its requests. On such a connection a message may hold memory while it waits for
// the answers before it.
type Order interface {
	IsNext(c *Claim) bool // reports whether the claim's answer is the next one to be sent
	Busy() bool           // reports whether requests are under way
	HoldsCommand() bool   // reports whether a command that is being received, or waits to begin, has a block
	HoldsArguments() bool // reports whether its arguments have a block. When they got it, there was room for the command, too
}

// State is what an account waits for. Account.updateState alone changes it, and Close.
type State uint8

const (
	Idle          State = iota // nothing
	AwaitsPeer                 // an answer waits until earlier answers are sent, because of the bound Pool.UnsentMax
	AwaitsAnswer               // an answer waits for memory; a message may wait behind it
	AwaitsMessage              // a message waits for memory, or the owner has called Pause(0): nothing is read
	Closed                     // the connection has ended; blocks may still be freed
)

// Account counts the memory that one connection holds of a pool, and records what it waits for. It is a field of its connection and must not be copied.
type Account struct {
	pool  *Pool
	owner Owner
	order Order // nil: answers are sent as they complete

	state  State
	paused bool   // nothing is read until Pool.Resume tries the account again
	queue  claims // claims of answers that wait for memory or for the peer

	// Byte counts.
	held        int // blocks of messages and answers that the connection holds
	unsentBytes int // of these, blocks of answers that are not sent yet: at most Pool.UnsentMax, or one answer
	needs       int // the message that the pause waits for; 0: it waits for something else, and is tried whenever memory is freed
	freeNeeded  int // bytes that must be free before it is tried again; orders the heap

	heapIndex int // index in the heap of its state, from 1; 0: in no heap

	// Times by Loop.AwakeNow, for the owner's deadlines.
	HeldSince       int64 // when it got its first block, or last freed one
	AnswerWaitSince int64 // when its first answer began to wait for memory, or an answer last got memory
}

// Claim is the part of an account that belongs to one answer.
type Claim struct {
	Index int    // index of the owner's slot
	Nth   uint64 // waiting answers get memory in this order, equal ones in order of arrival

	next        *Claim // in the queue
	needs       int    // bytes that it waits for
	unsentBytes int    // bytes of the answer's block
}

// Open makes an account without memory.
func (p *Pool) Open(owner Owner) Account { return Account{pool: p, owner: owner} }

// SetOrder must be called before the first message of a connection that sends its answers in order.
func (a *Account) SetOrder(o Order) { a.order = o }

// Held returns the bytes that the connection holds.
func (a *Account) Held() int { return a.held }

// UnsentBytes returns the bytes of answers that are not sent yet: being made, or waiting to be sent.
func (a *Account) UnsentBytes() int { return a.unsentBytes }

// Paused reports whether nothing is read from the peer.
func (a *Account) Paused() bool { return a.paused }

// AnswerWaits reports whether an answer waits for memory (AwaitsAnswer), not for the peer.
func (a *Account) AnswerWaits() bool { return a.queue.n > 0 && a.state == AwaitsAnswer }

// Waits reports whether an answer waits for memory or for the peer, or nothing is read.
func (a *Account) Waits() bool { return a.queue.n > 0 || a.paused }

// OthersWait reports whether other connections wait for memory.
func (a *Account) OthersWait() bool {
	others := a.pool.Waiting()
	if a.heapIndex > 0 {
		others--
	}
	return others > 0
}

// Message returns a block of at least n bytes for a received message. nil: there is no memory now, and the account is paused.
func (a *Account) Message(n int) []byte { return a.MessageBefore(n, 0) }

// MessageBefore is Message for n bytes, and requires that more further bytes be free, for a block that follows. While an answer waits for memory, it returns
// nil: otherwise messages could hold all memory, and no answer could get any.
func (a *Account) MessageBefore(n, more int) []byte {
	if !a.AnswerWaits() {
		if b := a.alloc(n, a.messageShare(n+more)); b != nil {
			return b
		}
	}
	a.Pause(n + more)
	return nil
}

// Pause stops reading until Pool.Resume tries the owner again: when it can have n bytes; with n = 0 whenever memory is freed.
func (a *Account) Pause(n int) {
	a.paused, a.needs = true, n
	a.updateState()
	a.pool.onWait()
}

// Yield pauses for one turn, so that other connections get the loop.
func (a *Account) Yield() {
	a.Pause(0)
	a.pool.freed = true
	a.pool.loop.Again()
}

// Answer returns a block of at least n bytes for the claim's answer. nil: the connection may not begin the answer yet (MayBegin), or there is no memory. The owner
// then calls Wait, unless the claim waits already.
func (a *Account) Answer(c *Claim, n int) []byte {
	c.needs = n
	if !a.MayBegin(c, n) {
		return nil
	}
	b := a.alloc(n, a.answerShare(n))
	if b != nil {
		a.AddUnsent(c, b)
	}
	return b
}

// MayBegin reports whether the connection may begin an answer of n bytes now: it has no unsent bytes, or stays within the bound Pool.UnsentMax. A connection that answers in
// order may always begin its next answer once all ready answers are sent, because later answers wait for it. c is nil for an answer without a slot.
func (a *Account) MayBegin(c *Claim, n int) bool {
	if n <= SmallBytes || a.unsentBytes == 0 || a.unsentBytes+n <= a.pool.UnsentMax() {
		return true
	}
	return c != nil && a.order != nil && !a.owner.Unsent() && a.order.IsNext(c)
}

// Wait queues a claim for the memory that Answer last refused it. The queue is ordered by Nth: otherwise an answer could wait for one that is sent after it.
func (a *Account) Wait(c *Claim) {
	a.queue.insert(c)
	a.updateState()
	a.pool.onWait()
}

// AddUnsent counts b, a block of the account, as the claim's answer.
func (a *Account) AddUnsent(c *Claim, b []byte) {
	a.RemoveUnsent(c)
	c.unsentBytes = cap(b)
	a.unsentBytes += c.unsentBytes
}

// RemoveUnsent stops counting the claim's answer: it was sent, or is given up.
func (a *Account) RemoveUnsent(c *Claim) {
	a.unsentBytes -= c.unsentBytes
	c.unsentBytes = 0
}

// AnswersSent must be called when answers were sent to the peer: answers that wait for the bound Pool.UnsentMax are tried again.
func (a *Account) AnswersSent() {
	if a.queue.n == 0 || a.AnswerWaits() {
		return
	}
	if a.updateState(); a.AnswerWaits() {
		a.pool.RetryWaiters()
	}
}

// AllocLarger returns a block of at least n bytes for an answer that already has a smaller one. nil: there is no memory now. The answer does not wait for it, because
// two answers that did could wait for each other.
func (a *Account) AllocLarger(n int) []byte { return a.alloc(n, a.share(n)) }

// Free gives a block back.
func (a *Account) Free(b []byte) {
	a.HeldSince, a.pool.ownerFreed = a.pool.loop.AwakeNow(), true
	a.Replace(b)
}

// Replace frees a block whose content was copied to a larger one. Unlike Free it does not count as progress, neither of the peer nor for Pool.Unblock.
func (a *Account) Replace(b []byte) {
	a.held -= cap(b)
	a.pool.Pool.Free(b)
	if a.heapIndex > 0 {
		a.updateState()
	}
	a.pool.RetryWaiters()
}

// RetryIfPaused must be called when something that Pause(0) waits for is free again, such as a slot. An account with an Order is tried again.
func (a *Account) RetryIfPaused() {
	if a.order != nil && a.paused {
		a.pool.RetryWaiters()
	}
}

// Close ends all waiting and calls end for each claim in the queue. The owner still frees the connection's blocks by Free.
func (a *Account) Close(end func(c *Claim)) {
	a.leaveHeap()
	a.state = Closed
	for a.queue.n > 0 {
		end(a.queue.pop())
	}
}

// alloc returns a block of at least n bytes if free bytes of the pool are unused; else nil.
func (a *Account) alloc(n, free int) []byte {
	p := a.pool
	if free > p.Unused() {
		return nil
	}
	b := p.Alloc(n)
	if b == nil {
		p.allocFailed = true
		return nil
	}
	if a.held == 0 {
		a.HeldSince = p.loop.AwakeNow()
	}
	p.ignoreShare = false
	a.held += cap(b)
	return b
}

// share returns the bytes that must be free for the connection to get n more. This is the larger of two numbers:
//   - what the connection would then hold: the dynamic threshold of Choudhury and Hahne (1998) for the buffer of a switch, by which k greedy connections
//     leave 1/(k+1) of the pool to the others;
//   - 16n, but at most a quarter of the pool: a thousand connections that need 64 KiB each leave 1 MiB to those that need less.
func (a *Account) share(n int) int {
	if n == 0 || a.pool.ignoreShare {
		return n
	}
	return max(a.held+n, min(16*n, a.pool.Largest()/4))
}

// answerShare is share for an answer. A connection with an Order may hold a command that waits for this answer, and can free nothing before. So it gets the
// answer's memory whatever its share is, unless it has unsent answers.
func (a *Account) answerShare(n int) int {
	if a.order != nil && a.order.HoldsCommand() && !a.owner.Unsent() {
		return n
	}
	return a.share(n)
}

// messageShare is share for a message. On a connection with an Order, a message may have to wait, with its memory, for the answers of earlier requests. So n
// more bytes must be free while requests are under way. While answers wait, perhaps for a peer that does not read, three quarters of the pool must be free: such
// messages can hold at most a quarter of the pool in all.
func (a *Account) messageShare(n int) int {
	switch {
	case a.order != nil && a.order.HoldsArguments() && a.queue.n == 0: // room for this was checked when its arguments got their block
		return n
	case n == 0 || a.order == nil || !a.order.Busy():
		return a.share(n)
	case a.queue.n > 0:
		return max(a.share(n), a.pool.Largest()*3/4+2*n)
	case a.pool.ignoreShare:
		return n
	}
	return a.share(n) + n
}

// updateState sets the account's state to what it waits for now, and moves it to the heap of that state. While the pool tries the account (Pool.retrying), its state stays
// as it is; requeue then calls updateState.
func (a *Account) updateState() {
	p := a.pool
	if p.retrying == a || a.state == Closed {
		return
	}
	to := Idle
	var among *waiters
	switch first := a.queue.head; {
	case first != nil && a.MayBegin(first, first.needs):
		to, among, a.freeNeeded = AwaitsAnswer, &p.answers, a.answerShare(first.needs)
		if a.state != AwaitsAnswer {
			a.AnswerWaitSince = p.loop.AwakeNow()
		}
	case a.paused:
		to, among, a.freeNeeded = AwaitsMessage, &p.messages, a.messageShare(a.needs)
	case first != nil:
		to = AwaitsPeer
	}
	if a.heapIndex > 0 && a.state == to {
		heap.Fix(among, a.heapIndex-1)
		return
	}
	a.leaveHeap()
	if a.state = to; among != nil {
		heap.Push(among, a)
	}
}

// leaveHeap removes the account from its heap, if it is in one. Its state stays as it is.
func (a *Account) leaveHeap() {
	switch {
	case a.heapIndex == 0:
	case a.state == AwaitsAnswer:
		heap.Remove(&a.pool.answers, a.heapIndex-1)
	default:
		heap.Remove(&a.pool.messages, a.heapIndex-1)
	}
}

// retry makes the owner try again what waits for memory: first its answers, then reading.
func (a *Account) retry() {
	for a.queue.n > 0 && a.owner.AllocAnswer(a.queue.head) {
		c := a.queue.pop()
		a.AnswerWaitSince = a.pool.loop.AwakeNow()
		a.owner.ContinueRequest(c)
	}
	if a.paused {
		a.paused = false
		a.owner.ContinueReading()
	}
}

// claims is a linked list of claims, ordered by Nth.
type claims struct {
	head, tail *Claim
	n          int
}

// insert puts a claim before the first one that has a higher Nth.
func (q *claims) insert(c *Claim) {
	q.n++
	c.next = nil
	switch {
	case q.tail == nil:
		q.head, q.tail = c, c
		return
	case q.tail.Nth <= c.Nth:
		q.tail.next, q.tail = c, c
		return
	}
	at := &q.head
	for (*at).Nth <= c.Nth {
		at = &(*at).next
	}
	c.next, *at = *at, c
}

func (q *claims) pop() *Claim {
	c := q.head
	if q.head = c.next; q.head == nil {
		q.tail = nil
	}
	c.next = nil
	q.n--
	return c
}
