// Package memory shares a loop's memory for messages and answers among its connections: what one connection may have, which connections wait, and who is next
// when memory comes back. It knows no protocol, no request and no socket. It may import internal/arena only.
//
// The rules, with their reasons, are in docs/adr/0020 (shares of the pool) and docs/adr/0021 (the bound on answers that the peer has not taken).
package memory

import (
	"cmp"
	"container/heap"

	"github.com/kvwire/kvwire/internal/arena"
)

// SmallBytes is the size up to which a message or an answer lies in its slot's own memory: it needs no block of the pool, and has no bound.
const SmallBytes = 256

// Loop is what a pool needs of the loop that it belongs to.
type Loop interface {
	Awake() int64 // the loop's clock, in ns, without the time that it was parked
	Again()       // asks for another turn, in whose stage step Resume is called
}

// Pool is the memory for messages and answers of one loop's connections. It belongs to that loop. Who waits is in two heaps, ordered by what has to be free,
// so that nobody looks at thousands that need more than there is.
type Pool struct {
	*arena.Pool

	loop    Loop
	waiting func() // called when an account begins to wait: deadlines are to be looked at

	answers  waiters // accounts in state AwaitsAnswer
	messages waiters // accounts in state AwaitsMessage

	tried   []*Account // by this Resume or Unblock: they wait again when all were tried
	trying  *Account   // whose owner goes on now; it keeps its state meanwhile
	lenient bool       // the next block is given whatever the share is
	full    bool       // the last one that asked got nothing, whatever its share: no block is left that is large enough

	freed bool // memory came back since the last Resume
	gave  bool // an owner gave memory back since the last Unblock
}

// NewPool makes a pool of so many bytes at least, as address space. waiting is called whenever an account begins to wait.
func NewPool(bytes int, l Loop, waiting func()) (*Pool, error) {
	p, err := arena.NewPool(bytes)
	if err != nil {
		return nil, err
	}
	return &Pool{Pool: p, loop: l, waiting: waiting}, nil
}

// Unused returns the bytes that are free, in blocks of whatever size.
func (p *Pool) Unused() int { return p.Largest() - p.InUse() }

// Waiting returns how many accounts wait for memory.
func (p *Pool) Waiting() int { return len(p.answers) + len(p.messages) }

// Ahead returns the most bytes of answers that a peer may have begun and not taken: 4 MiB, or an eighth of the pool if that is less. 4 MiB are enough for two
// answers of 1 MiB, in blocks of powers of two.
func (p *Pool) Ahead() int { return min(4<<20, p.Largest()/8) }

// CameBack must be called when memory came back, or something else that an account waits for: Resume looks at those that wait, in this turn or, if that is
// over, the next.
func (p *Pool) CameBack() {
	p.freed = true
	if unused := p.Unused(); p.answers.helps(unused) || p.messages.helps(unused) {
		p.loop.Again()
	}
}

// Resume lets those go on that waited for memory, answers before messages, the one that needs least first, as far as it reaches. It is called in the stage step.
func (p *Pool) Resume() {
	if !p.freed {
		return
	}
	p.freed, p.full = false, false
	for _, w := range [...]*waiters{&p.answers, &p.messages} {
		for !p.full && w.helps(p.Unused()) {
			p.try((*w)[0])
		}
	}
	p.waitAgain()
}

// Unblock is for connections that wait for each other: if nobody gave memory back since it was last called, one of them gets a block, whatever its share. It is
// none whose peer has answers to take: it waits for its peer, and a block for it may be the last for those whose peers do take theirs.
func (p *Pool) Unblock() {
	if !p.gave {
		if a := cmp.Or(p.answers.stuck(), p.messages.stuck()); a != nil {
			p.lenient = true
			p.try(a)
			p.lenient = false
			p.waitAgain()
		}
	}
	p.gave = false
}

// try lets one of those that wait go on. If it has to, it waits again after waitAgain.
func (p *Pool) try(a *Account) {
	a.leave()
	p.tried, p.trying = append(p.tried, a), a
	a.goOn()
	p.trying = nil
}

// waitAgain puts those that were tried where they belong.
func (p *Pool) waitAgain() {
	for i, a := range p.tried {
		p.tried[i] = nil
		a.move()
	}
	p.tried = p.tried[:0]
}

// waiters are accounts that wait for memory, as a heap: the first is the one that needs least.
type waiters []*Account

var _ heap.Interface = (*waiters)(nil)

// Len, Less, Swap, Push and Pop are heap.Interface's.
func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].free < w[j].free }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].place, w[j].place = i+1, j+1
}

func (w *waiters) Push(x any) {
	a := x.(*Account)
	*w = append(*w, a)
	a.place = len(*w)
}

func (w *waiters) Pop() any {
	last := len(*w) - 1
	a := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	a.place = 0
	return a
}

// helps reports whether so many unused bytes may be enough for one of those that wait.
func (w waiters) helps(unused int) bool { return len(w) > 0 && w[0].free <= unused }

// stuck returns the one that needs least of those whose peers can do nothing; nil: there is none.
func (w waiters) stuck() (least *Account) {
	for _, a := range w {
		if !a.owner.Unsent() && (least == nil || a.free < least.free) {
			least = a
		}
	}
	return least
}
