package memory

import (
	"slices"
	"testing"
)

// fakeLoop is a loop whose clock the test sets.
type fakeLoop struct {
	now   int64
	again int
}

func (l *fakeLoop) AwakeNow() int64 { return l.now }
func (l *fakeLoop) Again()          { l.again++ }

// conn is a connection: it keeps what it gets, and notes in the test's log whenever it gets what it waited for.
type conn struct {
	Account
	name        string
	log         *[]string
	wanted      int            // the message that it tries to receive; 0: none
	answerBytes map[*Claim]int // its answers' bytes
	blocks      [][]byte
	unsent      bool

	first                    *Claim // in order: the answer that is next
	busy, command, arguments bool
}

func (c *conn) Unsent() bool          { return c.unsent }
func (c *conn) IsNext(cl *Claim) bool { return cl == c.first }
func (c *conn) Busy() bool            { return c.busy }
func (c *conn) HoldsCommand() bool    { return c.command }
func (c *conn) HoldsArguments() bool  { return c.arguments }

func (c *conn) AllocAnswer(cl *Claim) bool {
	b := c.Answer(cl, c.answerBytes[cl])
	if b != nil {
		c.blocks = append(c.blocks, b)
	}
	return b != nil
}

func (c *conn) ContinueRequest(cl *Claim) { *c.log = append(*c.log, c.name) }

func (c *conn) ContinueReading() {
	if c.wanted > 0 && c.receive(c.wanted) {
		*c.log = append(*c.log, c.name)
		c.wanted = 0
	}
}

// receive allocates a message's block.
func (c *conn) receive(n int) bool {
	c.wanted = n
	b := c.Message(n)
	if b != nil {
		c.wanted = 0
		c.blocks = append(c.blocks, b)
	}
	return b != nil
}

// answer allocates an answer's block, and waits if there is none.
func (c *conn) answer(cl *Claim, n int) bool {
	c.answerBytes[cl] = n
	if c.AllocAnswer(cl) {
		return true
	}
	c.Wait(cl)
	return false
}

// release frees all blocks.
func (c *conn) release() {
	for _, b := range c.blocks {
		c.Free(b)
	}
	c.blocks = nil
}

const kib = 1 << 10

// bench is a pool of 1 MiB and its connections.
type bench struct {
	*Pool
	loop    fakeLoop
	log     []string
	waiting int // calls
}

func newBench(t *testing.T) *bench {
	b := &bench{}
	p, err := NewPool(1<<20, &b.loop, func() { b.waiting++ })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	b.Pool = p
	return b
}

func (b *bench) conn(name string) *conn {
	c := &conn{name: name, log: &b.log, answerBytes: map[*Claim]int{}}
	c.Account = b.Open(c)
	return c
}

// Freed memory goes to answers before messages, and to the smallest need first. The owner's deadlines know which accounts wait.
func TestAnswersAndSmallNeedsGoFirst(t *testing.T) {
	b := newBench(t)
	all := b.conn("all")
	if !all.receive(1 << 20) {
		t.Fatal("a free pool has nothing")
	}
	large, small, answer := b.conn("large message"), b.conn("small message"), b.conn("answer")
	if large.receive(64*kib) || small.receive(4*kib) || answer.answer(&Claim{}, 128*kib) {
		t.Fatal("memory from nowhere")
	}
	if b.Waiting() != 3 || b.waiting != 3 || large.state != AwaitsMessage || small.state != AwaitsMessage || answer.state != AwaitsAnswer {
		t.Fatalf("%d wait; states %d, %d, %d", b.Waiting(), large.state, small.state, answer.state)
	}
	b.Resume()
	if len(b.log) > 0 || b.loop.again > 0 {
		t.Errorf("without memory: %q go on, and the loop comes again", b.log)
	}
	all.release()
	if b.loop.again == 0 {
		t.Error("the loop sleeps though memory came back")
	}
	b.Resume()
	if want := []string{"answer", "small message", "large message"}; !slices.Equal(b.log, want) {
		t.Errorf("%q go on, want %q", b.log, want)
	}
	if b.Waiting() != 0 || large.state != Idle || answer.AnswerWaits() || small.Paused() {
		t.Errorf("%d wait still", b.Waiting())
	}
}

// However much k connections request, they leave 1/(k+1) of the pool to others.
func TestGreedyConnectionsLeaveAShare(t *testing.T) {
	for k := 1; k <= 5; k++ {
		b := newBench(t)
		var greedy []*conn
		for range k {
			greedy = append(greedy, b.conn("greedy"))
		}
		for more := true; more; {
			more = false
			for _, c := range greedy {
				more = !c.Paused() && c.receive(4*kib) || more
			}
		}
		if left := b.Unused() + 4*kib; left < b.Largest()/(k+1) {
			t.Errorf("%d greedy connections leave %d KiB", k, left/kib)
		}
		if !b.conn("newcomer").receive(4 * kib) {
			t.Errorf("a newcomer gets nothing beside %d greedy connections", k)
		}
	}
}

// One account goes through all states: an answer waits for the peer, then for memory; a message waits for memory; the connection ends.
func TestStatesOfAnAccount(t *testing.T) {
	b := newBench(t)
	c := b.conn("c")
	var claims [4]Claim
	in := func(want State, what string) {
		t.Helper()
		if c.state != want {
			t.Fatalf("%s: state %d, want %d", what, c.state, want)
		}
	}
	in(Idle, "new")
	if b.UnsentMax() != 128*kib || !c.answer(&claims[0], 100*kib) {
		t.Fatal("the first answer waits")
	}
	in(Idle, "the first answer has its block")
	b.loop.now = 7
	c.answer(&claims[1], 100*kib)
	in(AwaitsPeer, "a second answer beyond the bound")
	if b.Waiting() != 0 || c.AnswerWaits() {
		t.Error("it waits for memory, and not for its peer")
	}
	if !c.answer(&claims[2], 200) {
		t.Error("a small answer waits for the peer")
	}
	c.release()
	c.RemoveUnsent(&claims[0])
	c.RemoveUnsent(&claims[2])
	b.loop.now = 8
	c.AnswersSent()
	in(AwaitsAnswer, "the peer took the first answer")
	if c.AnswerWaitSince != 8 {
		t.Errorf("it waits since %d", c.AnswerWaitSince)
	}
	b.Resume()
	in(Idle, "the second answer has its block")
	if c.UnsentBytes() != 128*kib || c.Held() != 128*kib {
		t.Errorf("%d bytes owed, %d held", c.UnsentBytes(), c.Held())
	}
	other := b.conn("other")
	other.receive(512 * kib)
	c.receive(400 * kib)
	in(AwaitsMessage, "a message without memory")
	if !c.Paused() || !other.OthersWait() || c.OthersWait() {
		t.Error("it is not known who waits")
	}
	other.release()
	b.Resume()
	in(Idle, "memory came back")
	c.Yield()
	in(AwaitsMessage, "a pause of one turn")
	b.Resume()
	in(Idle, "the turn is over")
	c.answer(&claims[2], 600*kib)
	c.answer(&claims[3], 600*kib)
	in(AwaitsPeer, "two answers beyond the bound")
	var ended []*Claim
	c.Close(func(cl *Claim) { ended = append(ended, cl) })
	in(Closed, "the end")
	if !slices.Equal(ended, []*Claim{&claims[2], &claims[3]}) {
		t.Errorf("%d claims end", len(ended))
	}
	c.release()
	in(Closed, "its blocks came back")
	if b.InUse() != 0 || c.Held() != 0 {
		t.Errorf("%d bytes are in use, %d held", b.InUse(), c.Held())
	}
}

// Of connections that wait for each other, the one with the smallest need gets a block, unless its peer has answers to read, or memory was freed.
func TestUnblockEndsADeadlock(t *testing.T) {
	for _, c := range []struct {
		name         string
		unsent, gave bool
		want         []string
	}{
		{"both are stuck", false, false, []string{"less"}},
		{"one has answers to take", true, false, []string{"more"}},
		{"memory came back", false, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			less, more := b.conn("less"), b.conn("more")
			if !more.receive(256*kib) || !less.receive(256*kib) || !more.receive(256*kib) {
				t.Fatal("a free pool has nothing")
			}
			if less.receive(256*kib) || more.receive(256*kib) {
				t.Fatal("they do not wait for each other")
			}
			less.unsent, b.ownerFreed = c.unsent, c.gave
			b.Resume()
			if len(b.log) > 0 {
				t.Fatalf("%q got a block beyond its share", b.log)
			}
			if b.Unblock(); !slices.Equal(b.log, c.want) {
				t.Errorf("%q got a block, want %q", b.log, c.want)
			}
			if b.ownerFreed {
				t.Error("the next look is held up as well")
			}
		})
	}
}

// Answers wait in the order of their requests if there is one, and otherwise in the order of arrival.
func TestAnswersWaitInTheirOrder(t *testing.T) {
	b := newBench(t)
	c := b.conn("c")
	c.answer(&Claim{}, 128*kib)
	claims := []Claim{{Index: 0, Nth: 5}, {Index: 1, Nth: 3}, {Index: 2, Nth: 5}, {Index: 3, Nth: 4}, {Index: 4}}
	for i := range claims {
		c.answer(&claims[i], 128*kib)
	}
	var got []int
	c.Close(func(cl *Claim) { got = append(got, cl.Index) })
	if want := []int{4, 1, 3, 0, 2}; !slices.Equal(got, want) {
		t.Errorf("claims in the order %v, want %v", got, want)
	}
}

// On a connection that answers in order, the next answer may begin whatever is unsent, once the peer has received all before it; and a command leaves memory for
// the answers that it has to wait for.
func TestConnectionsThatAnswerInOrder(t *testing.T) {
	b := newBench(t)
	c := b.conn("c")
	c.SetOrder(c)
	first, next := &Claim{}, &Claim{Nth: 1}
	c.answer(first, 128*kib)
	c.first = next
	if !c.MayBegin(next, 128*kib) || c.MayBegin(first, 128*kib) || c.MayBegin(nil, 128*kib) {
		t.Error("only the next answer may begin")
	}
	if c.unsent = true; c.MayBegin(next, 128*kib) {
		t.Error("an answer begins before the peer took those that are ready")
	}
	c.unsent = false
	const n, share = 4 * kib, 132 * kib // what it would hold then
	for _, s := range []struct {
		name                     string
		busy, command, arguments bool
		message, answer          int
	}{
		{"nothing is under way", false, false, false, share, share},
		{"requests are under way", true, false, false, share + n, share},
		{"a command has a block", true, true, false, share + n, n},
		{"a command's arguments have one", true, false, true, n, share},
	} {
		c.busy, c.command, c.arguments = s.busy, s.command, s.arguments
		if m, a := c.messageShare(n), c.answerShare(n); m != s.message || a != s.answer {
			t.Errorf("%s: %d and %d bytes have to be free, want %d and %d", s.name, m, a, s.message, s.answer)
		}
	}
	c.Wait(&Claim{})
	c.busy, c.command, c.arguments = true, false, false
	if m := c.messageShare(n); m != b.Largest()*3/4+2*n {
		t.Errorf("while an answer waits, %d bytes have to be free for a message", m)
	}
}
