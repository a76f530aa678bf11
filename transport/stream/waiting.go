package stream

import (
	"cmp"
	"container/heap"
)

// slotQueue is a queue of slots, linked through themselves.
type slotQueue struct {
	head, tail *slot
	n          int
}

func (w *slotQueue) push(s *slot) {
	if s.next = nil; w.tail == nil {
		w.head = s
	} else {
		w.tail.next = s
	}
	w.tail = s
	w.n++
}

// insert puts a slot before the first one that is behind it.
func (w *slotQueue) insert(s *slot, behind func(than *slot) bool) {
	at := &w.head
	for *at != nil && !behind(*at) {
		at = &(*at).next
	}
	if *at == nil {
		w.push(s)
		return
	}
	s.next, *at = *at, s
	w.n++
}

func (w *slotQueue) pop() *slot {
	s := w.head
	if w.head = s.next; w.head == nil {
		w.tail = nil
	}
	s.next = nil
	w.n--
	return s
}

// waiters are connections that wait for memory, as a heap: the one that wants least is first, so that nobody looks at thousands that
// want more than there is.
type waiters []*Server

var _ heap.Interface = (*waiters)(nil)

// Len, Less, Swap, Push and Pop are heap.Interface's.
func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].want < w[j].want }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].place, w[j].place = i+1, j+1
}

func (w *waiters) Push(c any) {
	s := c.(*Server)
	*w = append(*w, s)
	s.place = len(*w)
}

func (w *waiters) Pop() any {
	last := len(*w) - 1
	c := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	c.place = 0
	return c
}

// leave has a connection wait no more, if it does.
func (c *Server) leave() {
	if c.place > 0 {
		heap.Remove(c.among, c.place-1)
	}
}

// unused is what the pool has, in blocks of whatever size.
func (h *Host) unused() int { return h.Pool.Largest() - h.Pool.InUse() }

// come says that memory came back: whoever waits for some is looked at in Resume, in this turn or, if
// that is over, the next.
func (h *Host) come() {
	h.freed = true
	if h.helps() {
		h.L.Again()
	}
}

// helps says whether what there is may do for one of those that wait.
func (h *Host) helps() bool { return h.answers.helps(h.unused()) || h.messages.helps(h.unused()) }

func (w waiters) helps(unused int) bool { return len(w) > 0 && w[0].want <= unused }

// Resume lets those go on that waited for memory, answers before messages, the one that wants least first, as far as it reaches. The driver calls it when it
// is staged.
func (h *Host) Resume() {
	if !h.freed {
		return
	}
	h.freed, h.full = false, false
	for _, w := range []*waiters{&h.answers, &h.messages} {
		for !h.full && w.helps(h.unused()) {
			h.try((*w)[0])
		}
	}
	h.wait()
}

// try lets one of those that wait go on. It waits again, if it has to, after the next wait.
func (h *Host) try(c *Server) {
	c.leave()
	h.tried, h.trying = append(h.tried, c), c
	c.goOn()
	h.trying = nil
}

// unblock is for connections that wait for each other: when no memory has come back since it was last called, one gets a block, whatever its share. Not one
// whose peer has answers to read: it waits for its peer, and a block for it may be the last for those whose peers do read.
func (h *Host) unblock() {
	if len(h.answers)+len(h.messages) > 0 {
		if c := h.stuck(); c != nil {
			h.lenient = true
			h.try(c)
			h.lenient = false
			h.wait()
		}
	}
	h.gave = false
}

// stuck is the connection that gets a block; nil: there is none, or memory has come back.
func (h *Host) stuck() *Server {
	if h.gave {
		return nil
	}
	return cmp.Or(h.answers.stuck(), h.messages.stuck())
}

// stuck is who wants least of those whose peers can do nothing; nil: there is none.
func (w waiters) stuck() (least *Server) {
	for _, c := range w {
		if c.out.n == 0 && (least == nil || c.want < least.want) {
			least = c
		}
	}
	return least
}

// wait puts those that were tried where they belong.
func (h *Host) wait() {
	for i, c := range h.tried {
		h.tried[i] = nil
		c.await()
	}
	h.tried = h.tried[:0]
}

// goOn tries what waits for memory once more.
func (c *Server) goOn() {
	for c.hungry.n > 0 && c.feed(c.hungry.head) {
		s := c.hungry.pop()
		c.fedAt = c.h.L.Awake()
		c.resubmit(s)
	}
	if c.hungry.n > 0 {
		c.hungry.head.needs = c.asked
	}
	if !c.paused {
		return
	}
	if c.paused = false; c.state != stateOpen {
		return
	}
	c.inSince = c.h.L.Awake() // it was not the peer who waited
	c.parse()
	if !c.paused {
		c.driver.Touch()
	}
}

// await puts the connection among those that wait, or where it now belongs there, if it does. One that is being tried has its place afterwards.
func (c *Server) await() {
	var among *waiters
	switch {
	case c.h.trying == c:
		return
	case c.state == stateDead:
	case c.hungry.n > 0 && c.mayOwe(c.hungry.head, c.hungry.head.needs): // else for its peer: see ease
		if among, c.want = &c.h.answers, c.answerShare(c.hungry.head.needs); c.among != among {
			c.fedAt = c.h.L.Awake()
		}
	case c.paused:
		among, c.want = &c.h.messages, c.messageShare(c.needs)
	}
	if c.place > 0 && c.among == among {
		heap.Fix(among, c.place-1)
		return
	}
	c.leave()
	if c.among = among; among != nil {
		heap.Push(among, c)
	}
}

// pause has nothing read until it is tried again: when n bytes are there for it; 0: whenever something came back.
func (c *Server) pause(n int) {
	c.paused, c.needs = true, n
	c.await()
	c.h.watch()
}

// starve lets a request wait for the room for its answer, which was asked for last.
func (c *Server) starve(s *slot) {
	s.needs = c.asked
	if g := c.guest; g != nil && c.hungry.n > 0 { // its answers wait in their order, or one could wait for another that is behind it
		c.hungry.insert(s, func(than *slot) bool { return g.more[than.index].nth > g.more[s.index].nth })
	} else {
		c.hungry.push(s)
	}
	c.await()
	c.h.watch()
}

// aheadMax bounds the memory of a connection's unsent answers, both under way and waiting for the peer (docs/adr/0021). It is enough for two answers of 1 MiB, in
// blocks of powers of two.
const aheadMax = 4 << 20

// ahead returns aheadMax, or an eighth of the pool if that is less.
func (h *Host) ahead() int { return min(aheadMax, h.Pool.Largest()/8) }

// mayOwe reports whether the connection may begin an answer of n bytes now: if it has no unsent answers, or stays within the bound. A Redis connection sends answers in
// order, so its next answer may always begin once the peer has taken all answers that were ready: later answers wait for it.
func (c *Server) mayOwe(s *slot, n int) bool {
	if n <= smallBytes || c.owed == 0 || c.owed+n <= c.h.ahead() {
		return true
	}
	return c.guest != nil && c.out.n == 0 && c.guest.line.n > 0 && c.guest.line.first() == s.index
}

// takeAnswer is take for the answer to a slot's request. It returns nil if the connection may not begin the answer yet, or if there is no memory.
func (c *Server) takeAnswer(s *slot, n int) []byte {
	if !c.mayOwe(s, n) {
		c.asked = n
		return nil
	}
	b := c.take(n, c.answerShare(n))
	if b != nil {
		c.owes(s, b)
	}
	return b
}

// owes counts the block of the answer to a slot's request.
func (c *Server) owes(s *slot, b []byte) {
	c.settle(s)
	s.owed = cap(b)
	c.owed += s.owed
}

// settle ends the count of a slot's answer.
func (c *Server) settle(s *slot) {
	c.owed -= s.owed
	s.owed = 0
}

// ease retries answers that wait for the peer, after the peer has taken enough.
func (c *Server) ease() {
	if c.hungry.n == 0 || c.starves() {
		return
	}
	if c.await(); c.starves() {
		c.h.come()
	}
}

// starves reports whether the connection waits for memory for an answer, and not for its peer.
func (c *Server) starves() bool { return c.hungry.n > 0 && c.among == &c.h.answers }

// share is what has to be free for the connection to get n bytes: as much as it would have then, as the dynamic thresholds of
// Choudhury and Hahne (1998) share a switch's buffer, where k greedy ones leave 1/(k+1) of it to the others; and 16 times as much as it gets, unless that is more than a
// quarter of the pool: a thousand that want 64 KiB leave 1 MiB to those that want less.
func (c *Server) share(n int) int {
	if n == 0 || c.h.lenient {
		return n
	}
	return max(c.held+n, min(16*n, c.h.Pool.Largest()/4))
}

// answerShare is share for an answer. A guest may hold a command that has to wait for the answer before it: it can give nothing back without that, and gets it
// whatever its share is, unless there is one that its peer has not taken.
func (c *Server) answerShare(n int) int {
	if c.guest != nil && c.guest.big != nil && c.out.n == 0 {
		return n
	}
	return c.share(n)
}

// take gets n bytes of the pool for a message or an answer, when so many are free; nil when they are not now.
func (c *Server) take(n, free int) []byte {
	h := c.h
	if c.asked = n; free > h.unused() {
		return nil
	}
	b := h.Pool.Alloc(n)
	if b == nil {
		h.full = true
		return nil
	}
	if c.held == 0 {
		c.heldAt = h.L.Awake()
	}
	h.lenient = false
	c.held += cap(b)
	return b
}

// takeMessage is take for what comes, which waits for answers that wait for memory: else all of it could be with those that need more of it.
func (c *Server) takeMessage(n int) []byte { return c.takeMessageBefore(n, 0) }

// takeMessageBefore is takeMessage for n bytes that so many more will follow, for which there has to be room, too.
func (c *Server) takeMessageBefore(n, more int) (b []byte) {
	if !c.starves() {
		b = c.take(n, c.messageShare(n+more))
	}
	if b == nil {
		c.asked = n + more
	}
	return b
}

// messageShare is share for a message. A guest's leaves as much behind while answers of its own may be about to wait: the message may have to wait for these, with its
// memory. It may have to wait for a peer that takes no answers, too: such messages have a quarter of the pool in all, as long as nobody else needs it.
func (c *Server) messageShare(n int) int {
	switch {
	case c.guest != nil && c.guest.many != nil && c.hungry.n == 0: // there was room for this, too, when its arguments got theirs: roomForArgs
		return n
	case n == 0 || c.guest == nil || c.busy == 0:
		return c.share(n)
	case c.hungry.n > 0:
		return max(c.share(n), c.h.Pool.Largest()*3/4+2*n)
	case c.h.lenient:
		return n
	}
	return c.share(n) + n
}

// give is take's opposite.
func (c *Server) give(b []byte) {
	c.heldAt, c.h.gave = c.h.L.Awake(), true
	c.replace(b)
}

// replace is give for a block whose content lies in a larger one now: nothing has ended by that, so it is no progress, neither of the peer's nor of those that wait.
func (c *Server) replace(b []byte) {
	c.held -= cap(b)
	c.h.Pool.Free(b)
	if c.place > 0 {
		c.await()
	}
	c.h.come()
}
