package memory

import "container/heap"

// Owner is the connection that an account belongs to. An account calls it from the loop, in its own methods and in Pool's.
type Owner interface {
	// Unsent reports whether there are answers that the peer has yet to take.
	Unsent() bool

	// Feed asks once more for the memory of the answer that waits first, by Answer, and reports whether it got it. It does not go on with the request.
	Feed(c *Claim) bool

	// Begin goes on with the request of a claim that got its memory.
	Begin(c *Claim)

	// Read goes on with what was received, after a pause.
	Read()
}

// Order is what an account has to know of a connection that sends answers in the order of its requests: a message may have to wait, with its memory, for the
// answers before it.
type Order interface {
	Next(c *Claim) bool   // the claim's answer is the next one to be sent
	Busy() bool           // requests are under way
	HoldsCommand() bool   // a command that is being received, or waits to begin, has a block
	HoldsArguments() bool // its arguments have one; there was room for the command, too, when they got it
}

// State is what an account waits for. Account.move alone changes it.
type State uint8

const (
	Idle          State = iota // for nothing
	AwaitsPeer                 // an answer waits until the peer has taken others: Pool.Ahead
	AwaitsAnswer               // an answer waits for memory; messages may, too, and wait behind it
	AwaitsMessage              // what comes waits for memory, or for what its owner has said by Pause(0): nothing is read
	Closed                     // the connection has ended; blocks may still come back
)

// Account is the memory that one connection has of a pool, and waits for. It is part of its connection, and stays in place.
type Account struct {
	pool  *Pool
	owner Owner
	order Order // nil: answers go out as they come

	state  State
	paused bool   // nothing is read until it was tried again
	queue  claims // answers that wait, for memory or for the peer

	// Byte counts.
	held  int // blocks that the connection has now, of messages and answers
	owed  int // of these, blocks of answers that are being made or that the peer has yet to take: at most Pool.Ahead, or one answer
	needs int // the message that it was paused for; 0: it waits for something else, and is tried whenever something comes back
	free  int // what has to be free before it is tried again: the place in the heap

	place int // in the heap of its state, from 1 on; 0: it is in none

	// Times by Loop.Awake, for the owner's deadlines.
	HeldSince int64 // when it got its first block, or last gave one back
	FedAt     int64 // when its first answer began to wait for memory, or one last got its memory
}

// Claim is one answer's part of its connection's account.
type Claim struct {
	Index int    // of the owner's: the slot
	Nth   uint64 // answers that wait get their memory in this order; equal ones as they came

	next  *Claim // that waits
	needs int    // bytes, while it waits
	owed  int    // bytes of the block that the answer has
}

// Open makes an account that has nothing.
func (p *Pool) Open(owner Owner) Account { return Account{pool: p, owner: owner} }

// SetOrder must be called before the first message of a connection whose answers go out in order.
func (a *Account) SetOrder(o Order) { a.order = o }

// Held returns the bytes that the connection has.
func (a *Account) Held() int { return a.held }

// Owed returns the bytes of answers that are being made, or that the peer has yet to take.
func (a *Account) Owed() int { return a.owed }

// Paused reports whether nothing is read from the peer.
func (a *Account) Paused() bool { return a.paused }

// Starves reports whether an answer waits for memory, and not for the peer.
func (a *Account) Starves() bool { return a.queue.n > 0 && a.state == AwaitsAnswer }

// OthersWait reports whether other connections wait for memory.
func (a *Account) OthersWait() bool {
	others := a.pool.Waiting()
	if a.place > 0 {
		others--
	}
	return others > 0
}

// Message returns a block of n bytes at least for what comes. nil: there is none now, and the account is paused.
func (a *Account) Message(n int) []byte { return a.MessageBefore(n, 0) }

// MessageBefore is Message for n bytes that so many more will follow, for which there has to be room, too. Messages wait for answers that wait for memory: else
// all of it could be with those that need more of it.
func (a *Account) MessageBefore(n, more int) []byte {
	if !a.Starves() {
		if b := a.alloc(n, a.messageShare(n+more)); b != nil {
			return b
		}
	}
	a.Pause(n + more)
	return nil
}

// Pause has nothing read until the owner is tried again: when n bytes are there for it; 0: whenever something came back.
func (a *Account) Pause(n int) {
	a.paused, a.needs = true, n
	a.move()
	a.pool.waiting()
}

// Yield pauses for one turn, so that others have the loop.
func (a *Account) Yield() {
	a.Pause(0)
	a.pool.freed = true
	a.pool.loop.Again()
}

// Answer returns a block of n bytes at least for the claim's answer. nil: the connection may not begin it yet, or there is no memory; the owner calls Wait, unless
// the claim waits already.
func (a *Account) Answer(c *Claim, n int) []byte {
	c.needs = n
	if !a.MayOwe(c, n) {
		return nil
	}
	b := a.alloc(n, a.answerShare(n))
	if b != nil {
		a.Owe(c, b)
	}
	return b
}

// MayOwe reports whether the connection may begin an answer of n bytes now: if it has no unsent answers, or stays within the bound. A connection that answers in
// order may always begin its next answer once the peer has taken all answers that were ready: later answers wait for it. c is nil for an answer without a slot.
func (a *Account) MayOwe(c *Claim, n int) bool {
	if n <= SmallBytes || a.owed == 0 || a.owed+n <= a.pool.Ahead() {
		return true
	}
	return c != nil && a.order != nil && !a.owner.Unsent() && a.order.Next(c)
}

// Wait lets a claim wait for the memory that it was last refused by Answer. In order, or one answer could wait for another that is behind it.
func (a *Account) Wait(c *Claim) {
	a.queue.insert(c)
	a.move()
	a.pool.waiting()
}

// Owe counts a block of the account's as the claim's answer.
func (a *Account) Owe(c *Claim, b []byte) {
	a.Settle(c)
	c.owed = cap(b)
	a.owed += c.owed
}

// Settle ends the count of a claim's answer.
func (a *Account) Settle(c *Claim) {
	a.owed -= c.owed
	c.owed = 0
}

// Ease must be called when the peer took answers: those that wait for it are tried again.
func (a *Account) Ease() {
	if a.queue.n == 0 || a.Starves() {
		return
	}
	if a.move(); a.Starves() {
		a.pool.CameBack()
	}
}

// Widen returns a block of n bytes at least for an answer that has one already; nil: there is none now, and it does not wait: two that did could wait for each
// other.
func (a *Account) Widen(n int) []byte { return a.alloc(n, a.share(n)) }

// Free gives a block back.
func (a *Account) Free(b []byte) {
	a.HeldSince, a.pool.gave = a.pool.loop.Awake(), true
	a.Replace(b)
}

// Replace is Free for a block whose content lies in a larger one now: nothing has ended by that, so it is no progress, neither of the peer's nor of those that wait.
func (a *Account) Replace(b []byte) {
	a.held -= cap(b)
	a.pool.Pool.Free(b)
	if a.place > 0 {
		a.move()
	}
	a.pool.CameBack()
}

// CameBack must be called when something that Pause(0) waits for came back, such as a slot: an account in order is tried again.
func (a *Account) CameBack() {
	if a.order != nil && a.paused {
		a.pool.CameBack()
	}
}

// Close ends waiting. It calls end for each claim that waited. Blocks that the connection has are still given back by Free.
func (a *Account) Close(end func(c *Claim)) {
	a.leave()
	a.state = Closed
	for a.queue.n > 0 {
		end(a.queue.pop())
	}
}

// alloc returns a block if so many bytes are free; nil when they are not now.
func (a *Account) alloc(n, free int) []byte {
	p := a.pool
	if free > p.Unused() {
		return nil
	}
	b := p.Alloc(n)
	if b == nil {
		p.full = true
		return nil
	}
	if a.held == 0 {
		a.HeldSince = p.loop.Awake()
	}
	p.lenient = false
	a.held += cap(b)
	return b
}

// share is what has to be free for the connection to get n bytes: as much as it would have then, as the dynamic thresholds of
// Choudhury and Hahne (1998) share a switch's buffer, where k greedy ones leave 1/(k+1) of it to the others; and 16 times as much as it gets, unless that is more
// than a quarter of the pool: a thousand that need 64 KiB leave 1 MiB to those that need less.
func (a *Account) share(n int) int {
	if n == 0 || a.pool.lenient {
		return n
	}
	return max(a.held+n, min(16*n, a.pool.Largest()/4))
}

// answerShare is share for an answer. A connection in order may hold a command that has to wait for the answer before it: it can give nothing back without that,
// and gets it whatever its share is, unless there is one that its peer has not taken.
func (a *Account) answerShare(n int) int {
	if a.order != nil && a.order.HoldsCommand() && !a.owner.Unsent() {
		return n
	}
	return a.share(n)
}

// messageShare is share for a message. One in order leaves as much behind while answers of its own may be about to wait: the message may have to wait for these,
// with its memory. It may have to wait for a peer that takes no answers, too: such messages have a quarter of the pool in all, as long as nobody else needs it.
func (a *Account) messageShare(n int) int {
	switch {
	case a.order != nil && a.order.HoldsArguments() && a.queue.n == 0: // there was room for this, too, when its arguments got theirs
		return n
	case n == 0 || a.order == nil || !a.order.Busy():
		return a.share(n)
	case a.queue.n > 0:
		return max(a.share(n), a.pool.Largest()*3/4+2*n)
	case a.pool.lenient:
		return n
	}
	return a.share(n) + n
}

// move changes the account's state to what it waits for now, and its place among those that wait. While it is being tried it keeps its state: its place is known
// afterwards.
func (a *Account) move() {
	p := a.pool
	if p.trying == a || a.state == Closed {
		return
	}
	to := Idle
	var among *waiters
	switch first := a.queue.head; {
	case first != nil && a.MayOwe(first, first.needs):
		to, among, a.free = AwaitsAnswer, &p.answers, a.answerShare(first.needs)
		if a.state != AwaitsAnswer {
			a.FedAt = p.loop.Awake()
		}
	case a.paused:
		to, among, a.free = AwaitsMessage, &p.messages, a.messageShare(a.needs)
	case first != nil:
		to = AwaitsPeer
	}
	if a.place > 0 && a.state == to {
		heap.Fix(among, a.place-1)
		return
	}
	a.leave()
	if a.state = to; among != nil {
		heap.Push(among, a)
	}
}

// leave takes the account out of the heap, if it is in one. Its state stays as it is.
func (a *Account) leave() {
	switch {
	case a.place == 0:
	case a.state == AwaitsAnswer:
		heap.Remove(&a.pool.answers, a.place-1)
	default:
		heap.Remove(&a.pool.messages, a.place-1)
	}
}

// goOn lets the owner try what waits for memory once more.
func (a *Account) goOn() {
	for a.queue.n > 0 && a.owner.Feed(a.queue.head) {
		c := a.queue.pop()
		a.FedAt = a.pool.loop.Awake()
		a.owner.Begin(c)
	}
	if a.paused {
		a.paused = false
		a.owner.Read()
	}
}

// claims is a queue of claims, linked through themselves.
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
