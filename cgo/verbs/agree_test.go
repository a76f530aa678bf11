//go:build rdma && cgo && linux

package verbs

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/cgo/verbs/model"
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/testenv"
)

// TestDevicesAgree posts work requests from a seeded generator, right ones and wrong ones, and compares what comes of them with testdata/golden/agree.txt: the
// completions of each queue pair in their order, the errors, and all bytes of both memories. The file is the same for the model and for soft-RoCE, so
// if the test passes on both, both do the same, but for the statuses in mistakes. A line of the file has the counts of one queue pair's life and a hash; the whole transcript is in the log.
func TestDevicesAgree(t *testing.T) {
	d := open(t)
	var lines strings.Builder
	var all tally
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 22))
		for life := range len(mistakes) {
			l := newLife(t, d, rng, mistakes[life])
			l.run()
			l.end()
			fmt.Fprintf(&lines, "seed %d, %s: %s, %08x\n", seed, l.title(), &l.tally, crc32.ChecksumIEEE([]byte(l.said.String())))
			t.Logf("seed %d, %s: %s\n%s", seed, l.title(), &l.tally, l.said.String())
			all.add(l.tally)
			if t.Failed() {
				return
			}
		}
	}
	fmt.Fprintf(&lines, "all: %s\n", &all)
	testenv.Golden(t, "agree.txt", lines.String())
	lost, timers := model.Losses()
	t.Logf("%s: %s; %d packets lost, %d times shown by the transport timer", d.Name, &all, lost, timers)
}

const seeds = 5

// tally are the counts of a test.
type tally struct{ requests, completions, errors int }

func (y *tally) add(other tally) {
	y.requests += other.requests
	y.completions += other.completions
	y.errors += other.errors
}

func (y *tally) String() string {
	return fmt.Sprintf("%d work requests, %d completions, %d errors", y.requests, y.completions, y.errors)
}

// The memory of an end. What a work request reads is not what another one writes at the same time: the specification has no order between them.
const (
	slotBytes  = 1024 // of a receive
	pieceBytes = 4096 // of a work request, in each of the areas behind the receives
	batchOps   = 8
	slots      = 16
	targetAt   = slots * slotBytes              // the peer writes here
	exportAt   = targetAt + batchOps*pieceBytes // the peer reads here
	sourceAt   = exportAt + batchOps*pieceBytes // SENDs and WRITEs come from here
	resultAt   = sourceAt + batchOps*pieceBytes // READs go here
	lifeBytes  = resultAt + batchOps*pieceBytes // of memory
	sendWR     = 1000                           // the first number of a work request that is no receive
	boundWR    = 999                            // of a bind
	inlineMost = 64                             // bytes
)

// party is one of two ends.
type party struct {
	name   string
	mem    []byte
	rw, ro *Region // of all memory: for the peer to write, and for it to read
	cq     *CQ
	qp     *QP
	srq    *SRQ
	batch  *Batch
	calls  uint64
	free   []uint64          // slots without a receive
	posted int               // receives without a completion
	lens   map[uint64]uint64 // bytes of the posted receives
	sent   int               // work requests so far
	sends  []Completion      // that were not compared yet; of receives, too
	recvs  []Completion
}

// life is the life of two connected queue pairs: batches of right work requests, and then a mistake.
type life struct {
	*testing.T
	tally
	dev     *Device
	rng     *rand.Rand
	mistake mistake
	shared  bool
	a, b    *party
	closers []func() error
	said    strings.Builder
}

func newLife(t *testing.T, d *Device, rng *rand.Rand, m mistake) *life {
	t.Helper()
	l := &life{T: t, dev: d, rng: rng, mistake: m, shared: rng.IntN(3) == 0}
	l.a, l.b = l.newParty("a"), l.newParty("b")
	for _, p := range []*party{l.a, l.b} {
		for i := range p.mem {
			p.mem[i] = byte(rng.Uint32())
		}
	}
	if !m.unconnected {
		connect(t, &end{dev: d, qp: l.a.qp}, &end{dev: d, qp: l.b.qp})
	}
	return l
}

func (l *life) title() string {
	if l.shared {
		return l.mistake.name + ", shared receives"
	}
	return l.mistake.name
}

func (l *life) check(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// later closes what a life has made, in the opposite order.
func (l *life) later(f func() error) { l.closers = append(l.closers, f) }

func (l *life) end() {
	for i := len(l.closers) - 1; i >= 0; i-- {
		if err := l.closers[i](); err != nil {
			l.Error(err)
		}
	}
	l.closers = nil
}

func (l *life) newParty(name string) *party {
	l.Helper()
	p := &party{name: name, lens: map[uint64]uint64{}}
	mem, err := arena.NewShared(lifeBytes)
	l.check(err)
	l.later(mem.Close)
	p.mem = mem.Bytes()
	p.rw, err = l.dev.Register(p.mem, RemoteWrite)
	l.check(err)
	l.later(func() error { return p.rw.Close() })
	p.ro, err = l.dev.Register(p.mem, RemoteRead)
	l.check(err)
	l.later(p.ro.Close)
	p.cq, err = l.dev.NewCQ(128, 0, &p.calls)
	l.check(err)
	l.later(p.cq.Close)
	p.batch, err = NewBatch(&p.calls)
	l.check(err)
	l.later(p.batch.Close)
	if l.shared {
		p.srq, err = l.dev.NewSRQ(slots)
		l.check(err)
		l.later(p.srq.Close)
	}
	p.qp, err = l.dev.NewQP(p.cq, QPOptions{SRQ: p.srq, Access: RemoteRead | RemoteWrite, SendWRs: 2 * batchOps, RecvWRs: slots, Inline: inlineMost, Port: 1})
	l.check(err)
	l.later(p.qp.Close)
	for i := range uint64(slots) {
		p.free = append(p.free, i)
	}
	return p
}

func (l *life) line(format string, args ...any) { fmt.Fprintf(&l.said, format+"\n", args...) }

// receive posts n receives, of at least bytes each.
func (l *life) receive(p *party, n, bytes int) {
	l.Helper()
	for range n {
		l.receiveWith(p, bytes+l.rng.IntN(slotBytes-bytes+1), p.rw.LKey)
	}
	l.check(p.batch.PostRecvs())
}

func (l *life) receiveWith(p *party, bytes int, key uint32) {
	l.Helper()
	slot := p.free[0]
	p.free = p.free[1:]
	var mem []byte
	if bytes > 0 {
		mem = p.mem[slot*slotBytes:][:bytes]
	}
	q := p.qp
	if p.srq != nil {
		q = nil
	}
	l.check(p.batch.Recv(q, p.srq, slot, mem, key))
	p.posted++
	p.lens[slot] = uint64(bytes)
	l.line("%s receives %d B in slot %d", p.name, bytes, slot)
}

var kindNames = map[uint32]string{OpSend: "send with immediate", OpPlain: "send", OpWrite: "write with immediate", OpWritePlain: "write", OpRead: "read"}
var kinds = []uint32{OpSend, OpPlain, OpWrite, OpWritePlain, OpRead}

// consumes reports whether a kind of work request uses a receive of the peer.
func consumes(kind uint32) bool { return kind == OpSend || kind == OpPlain || kind == OpWrite }

// op puts a right work request into the batch, as number i of it. bytes are in pieces of its area.
func (l *life) op(from, to *party, i int, kind uint32, bytes int, flags uint32) *Op {
	o := from.batch.Next(from.qp)
	*o = Op{qp: o.qp, WR: uint64(sendWR + from.sent), Kind: kind, Flags: flags, Imm: l.rng.Uint32()}
	from.sent++
	area, key := from.mem[sourceAt+i*pieceBytes:][:pieceBytes], from.rw.LKey
	switch kind {
	case OpRead:
		area = from.mem[resultAt+i*pieceBytes:][:pieceBytes]
		o.Remote, o.RKey = Address(to.mem[exportAt+i*pieceBytes+l.rng.IntN(pieceBytes-bytes+1):]), to.ro.RKey
	case OpWrite, OpWritePlain:
		o.Remote, o.RKey = Address(to.mem[targetAt+i*pieceBytes+l.rng.IntN(pieceBytes-bytes+1):]), to.rw.RKey
	}
	area = area[:bytes]
	for o.SGEs = 1; o.SGEs < MaxSGE && len(area) > 16 && l.rng.IntN(3) == 0; o.SGEs++ {
		n := 1 + l.rng.IntN(len(area)-1)
		o.SGE[o.SGEs-1] = Piece(area[:n], key)
		area = area[n:]
	}
	o.SGE[o.SGEs-1] = Piece(area, key)
	return o
}

func (l *life) lineOp(from *party, o *Op, bytes int) {
	how := ""
	if o.Flags&Inline != 0 {
		how += ", inline"
	}
	if o.Flags&Signaled == 0 {
		how += ", unsignalled"
	}
	l.line("%s posts %d: %s of %d B in %d pieces%s", from.name, o.WR, kindNames[o.Kind], bytes, o.SGEs, how)
	l.requests++
}

// sizes are those of work requests; messages into a receive are no longer than that.
var sizes = []int{0, 1, 8, 64, 100, 500, 1024, 2500, 4096}

func (l *life) size(kind uint32) int {
	for {
		if n := sizes[l.rng.IntN(len(sizes))]; n <= slotBytes || kind != OpSend && kind != OpPlain {
			return n
		}
	}
}

// run has some batches of right work requests, from either side, and then the mistake.
func (l *life) run() {
	if !l.mistake.unconnected {
		for range 1 + l.rng.IntN(3) {
			from, to := l.a, l.b
			if l.rng.IntN(2) == 0 {
				from, to = to, from
			}
			n := 1 + l.rng.IntN(batchOps)
			reported := l.right(from, to, 0, n)
			l.post(from)
			l.await(from, reported, to, -1)
			l.compare(from, to)
		}
	}
	l.mistake.make(l)
}

// right puts right work requests from number i to n into the batch, the last one signalled, and posts the receives for them. It returns how many report.
func (l *life) right(from, to *party, i, n int) (reported int) {
	for ; i < n; i++ {
		kind := kinds[l.rng.IntN(len(kinds))]
		bytes, flags := l.size(kind), uint32(Signaled)
		if kind != OpRead && bytes <= min(inlineMost, from.qp.Inline) && l.rng.IntN(2) == 0 {
			flags |= Inline
		}
		if i < n-1 && l.rng.IntN(3) == 0 {
			flags &^= Signaled
		} else {
			reported++
		}
		if consumes(kind) {
			l.receive(to, 1, min(bytes, slotBytes))
		}
		l.lineOp(from, l.op(from, to, i, kind, bytes, flags), bytes)
	}
	return reported
}

// post posts the batch, and records what is refused.
func (l *life) post(p *party) {
	l.Helper()
	for p.batch.Len() > 0 {
		if _, _, err := p.batch.Post(BatchMax); err != nil {
			var n syscall.Errno
			if !errors.As(err, &n) {
				l.Fatal(err)
			}
			l.line("%s is refused one: %v", p.name, n)
			l.errors++
		}
	}
}

// await waits for completions: sends of one party's sends, and all but left of the other's receives; below 0: as many as were sent successfully need.
func (l *life) await(from *party, sends int, to *party, left int) {
	l.Helper()
	if left < 0 {
		left = 0
	}
	for until := time.Now().Add(patience); len(from.sends) < sends || to.posted > left; {
		if time.Now().After(until) {
			l.Fatalf("%s: %d of %d completions of %s, and %d of %s's receives without one\n%s", l.title(), len(from.sends), sends, from.name, to.posted, to.name, l.said.String())
		}
		for _, p := range []*party{l.a, l.b} {
			l.poll(p)
		}
	}
}

func (l *life) poll(p *party) {
	l.Helper()
	cs, err := p.cq.Poll()
	l.check(err)
	for _, c := range cs {
		if c.QP != p.qp.Num {
			l.Fatalf("queue pair %d: %+v", p.qp.Num, c)
		}
		if c.WR >= boundWR {
			p.sends = append(p.sends, c)
			continue
		}
		p.recvs = append(p.recvs, c)
		p.free = append(p.free, c.WR)
		p.posted--
	}
}

// compare writes the completions since the last time, and hashes of the memories, into the transcript.
func (l *life) compare(ps ...*party) {
	for _, p := range ps {
		l.poll(p) // more than was awaited
		for _, c := range p.sends {
			l.line("%s: %d: %s", p.name, c.WR, l.status(c, false))
		}
		for _, c := range p.recvs {
			status := l.status(c, true)
			if status == "" {
				continue
			}
			l.completions++
			l.line("%s: slot %d: %s", p.name, c.WR, status)
			if c.Status != 0 { // its bytes are undefined
				clear(p.mem[c.WR*slotBytes:][:slotBytes])
			}
		}
		l.completions += len(p.sends)
		p.sends, p.recvs = nil, nil
	}
	l.line("a's memory %08x, b's %08x", crc32.ChecksumIEEE(l.a.mem), crc32.ChecksumIEEE(l.b.mem))
}

// status describes a completion; "": the specification has none here.
func (l *life) status(c Completion, receive bool) string {
	if c.Status != 0 {
		text, of := StatusText(c.Status), ""
		if receive {
			of = " of a receive"
		}
		if other, ok := l.mistake.softRoCE[text+of]; ok && strings.HasPrefix(l.dev.Name, "rxe") {
			if text = other; l.shared && text == StatusText(StatusFlushed) {
				return "" // it would have stayed in the shared queue
			}
		}
		l.errors++
		return text
	}
	if !receive {
		return "done"
	}
	return fmt.Sprintf("kind %d, %d B, immediate %08x", c.Recv, c.Bytes, c.Imm)
}

// A mistake is what ends a life.
type mistake struct {
	name        string
	unconnected bool
	make        func(l *life)

	softRoCE map[string]string // the status that the specification names, by the one that soft-RoCE reports (Linux 6.1)
}

var mistakes = []mistake{
	{name: "no mistake", make: func(l *life) { l.fail(l.b); l.finish(0) }},
	{name: "write with a wrong key", make: oneWrong(OpWritePlain, 64, func(l *life, o *Op) { o.RKey ^= 0xFF00 })},
	{name: "write with immediate across the end", make: oneWrong(OpWrite, 64, func(l *life, o *Op) { o.Remote = Address(l.b.mem) + lifeBytes - 8 }),
		softRoCE: map[string]string{"remote access error of a receive": "Work Request Flushed Error"}}, // the receive is not consumed

	{name: "write to memory for reading", make: oneWrong(OpWritePlain, 200, func(l *life, o *Op) { o.RKey = l.b.ro.RKey })},
	{name: "read with a wrong key", make: oneWrong(OpRead, 64, func(l *life, o *Op) { o.RKey ^= 0xFF00 })},
	{name: "read of memory for writing", make: oneWrong(OpRead, 64, func(l *life, o *Op) { o.RKey = l.b.rw.RKey })},
	{name: "read before the start", make: oneWrong(OpRead, 64, func(l *life, o *Op) { o.Remote = Address(l.b.mem) - 1 })},
	{name: "send of memory with a wrong key", make: oneWrong(OpPlain, 64, func(_ *life, o *Op) { o.SGE[0].LKey ^= 0xFF00 }),
		softRoCE: map[string]string{"local QP operation error": "local protection error"}},
	{name: "write of memory behind its end", make: oneWrong(OpWritePlain, 64, func(l *life, o *Op) { o.SGE[0].Addr = Address(l.a.mem) + lifeBytes })},
	{name: "read into memory with a wrong key", make: oneWrong(OpRead, 64, func(_ *life, o *Op) { o.SGE[0].LKey ^= 0xFF00 })},
	{name: "read into memory for reading", make: oneWrong(OpRead, 64, func(l *life, o *Op) { o.SGE[0].LKey = l.a.ro.LKey })},
	{name: "send that is longer than its receive", make: tooLong,
		softRoCE: map[string]string{"remote operation error": "remote invalid request error", "local QP operation error of a receive": "local length error"}},
	{name: "receive with a wrong key", make: wrongReceive, softRoCE: map[string]string{"local QP operation error of a receive": "local protection error"}},
	{name: "send without a receive", make: noReceive},
	{name: "send that waits for a receive", make: lateReceive},
	{name: "send that waits when its queue pair fails", make: failWhileWaiting},
	{name: "inline bytes beyond the limit", make: longInline},
	{name: "send before the connection", unconnected: true, make: tooEarly},
	{name: "send after the failure", make: tooLate},
	{name: "no peer", make: noPeer},
	{name: "a window", make: aWindow},
	{name: "a closed window", make: closedWindow},
}

// fail takes a queue pair to its error state.
func (l *life) fail(p *party) {
	l.Helper()
	l.check(p.qp.Fail())
	l.line("%s fails", p.name)
}

// finish takes both queue pairs to their error state after a's sends have completed, and waits for all that were posted.
func (l *life) finish(sends int) {
	l.Helper()
	l.await(l.a, sends, l.b, slots)
	for _, p := range []*party{l.a, l.b} {
		l.fail(p)
		if !l.shared { // of a shared queue, what no queue pair has consumed stays
			l.await(l.a, sends, p, 0)
		}
	}
	l.compare(l.a, l.b)
}

// oneWrong makes a right batch, a wrong work request behind it, and right ones behind that, which are flushed.
func oneWrong(kind uint32, bytes int, change func(*life, *Op)) func(*life) {
	return func(l *life) {
		wrong := l.rng.IntN(3)
		reported := 0
		if wrong > 0 {
			reported = l.right(l.a, l.b, 0, wrong)
		}
		l.post(l.a)
		l.await(l.a, reported, l.b, 0)
		o := l.op(l.a, l.b, wrong, kind, bytes, l.rng.Uint32()&Signaled)
		o.SGEs, o.SGE[0] = 1, SGE{o.SGE[0].Addr, uint32(bytes), o.SGE[0].LKey}
		change(l, o)
		l.lineOp(l.a, o, bytes)
		if kind == OpWrite {
			l.receive(l.b, 1, 0)
		}
		more := l.rng.IntN(3)
		l.right(l.a, l.b, wrong+1, wrong+1+more)
		l.post(l.a)
		l.finish(reported + 1 + more)
	}
}

func tooLong(l *life) {
	bytes := 100 + l.rng.IntN(500)
	l.receiveWith(l.b, bytes, l.b.rw.LKey)
	l.check(l.b.batch.PostRecvs())
	l.lineOp(l.a, l.op(l.a, l.b, 0, OpPlain, bytes+1, Signaled), bytes+1)
	l.post(l.a)
	l.await(l.a, 1, l.b, 0)
	l.finish(1)
}

func wrongReceive(l *life) {
	l.receiveWith(l.b, 500, l.b.rw.LKey^0xFF00)
	l.check(l.b.batch.PostRecvs())
	l.lineOp(l.a, l.op(l.a, l.b, 0, OpPlain, 400, Signaled), 400)
	l.post(l.a)
	l.await(l.a, 1, l.b, 0)
	l.finish(1)
}

func noReceive(l *life) {
	l.lineOp(l.a, l.op(l.a, l.b, 0, OpSend, 10, Signaled), 10)
	l.lineOp(l.a, l.op(l.a, l.b, 1, OpWritePlain, 10, 0), 10)
	l.post(l.a)
	l.finish(2)
}

// lateReceive posts the receive when the send waits for it.
func lateReceive(l *life) {
	l.lineOp(l.a, l.op(l.a, l.b, 0, OpSend, 10, Signaled), 10)
	l.lineOp(l.a, l.op(l.a, l.b, 1, OpRead, 4096, Signaled), 4096)
	l.post(l.a)
	l.receive(l.b, 1, 10)
	l.await(l.a, 2, l.b, 0)
	l.finish(2)
}

func failWhileWaiting(l *life) {
	l.lineOp(l.a, l.op(l.a, l.b, 0, OpSend, 10, 0), 10)
	l.lineOp(l.a, l.op(l.a, l.b, 1, OpWritePlain, 300, 0), 300)
	l.post(l.a)
	l.fail(l.a)
	l.finish(2)
}

func longInline(l *life) {
	bytes := l.a.qp.Inline + 1
	l.lineOp(l.a, l.op(l.a, l.b, 0, OpWritePlain, 10, Signaled), 10)
	o := l.op(l.a, l.b, 1, OpPlain, 0, Inline|Signaled)
	o.SGE[0].Len = uint32(bytes)
	l.line("a posts a send with more inline bytes than were granted")
	l.requests++
	l.post(l.a)
	l.finish(1)
}

func tooEarly(l *life) {
	l.lineOp(l.a, l.op(l.a, l.b, 0, OpPlain, 10, Signaled), 10)
	l.post(l.a)
	l.line("a's memory %08x, b's %08x", crc32.ChecksumIEEE(l.a.mem), crc32.ChecksumIEEE(l.b.mem))
}

func tooLate(l *life) {
	l.receive(l.a, 2, 0)
	l.receive(l.b, 2, 0)
	l.fail(l.a)
	for i, kind := range kinds {
		l.lineOp(l.a, l.op(l.a, l.b, i, kind, 10, uint32(i)&Signaled), 10)
	}
	l.post(l.a)
	l.finish(len(kinds))
}

// noPeer sends to a queue pair that has failed: it answers nothing.
func noPeer(l *life) {
	l.receive(l.b, 1, 0)
	l.fail(l.b)
	if !l.shared {
		l.await(l.a, 0, l.b, 0)
	}
	kind := kinds[l.rng.IntN(len(kinds))]
	l.lineOp(l.a, l.op(l.a, l.b, 0, kind, 10, 0), 10)
	l.lineOp(l.a, l.op(l.a, l.b, 1, OpWritePlain, 10, 0), 10)
	l.post(l.a)
	l.finish(2)
}

// bind binds a window of b to its target area, at whose end the region ends, too: soft-RoCE (Linux 6.1) compares a request with the bounds of the region, not with the window's.
func (l *life) bind() *MemoryWindow {
	l.Helper()
	if !l.dev.Limits.MemoryWindows {
		l.Fatalf("%s has no memory windows of type 2B", l.dev.Name)
	}
	r, err := l.dev.Register(l.b.mem[:exportAt], Bindable)
	l.check(err)
	l.later(r.Close)
	w, err := l.dev.NewMemoryWindow()
	l.check(err)
	l.check(w.Bind(l.b.qp, r, l.b.mem[targetAt:exportAt], boundWR))
	l.line("b binds a window")
	l.requests++
	l.await(l.b, 1, l.b, 0)
	l.compare(l.a, l.b)
	return w
}

// aWindow writes through a window, and then behind it.
func aWindow(l *life) {
	w := l.bind()
	l.later(w.Close)
	for i := range 3 {
		kind := []uint32{OpWritePlain, OpWrite}[l.rng.IntN(2)]
		if kind == OpWrite {
			l.receive(l.b, 1, 0)
		}
		o := l.op(l.a, l.b, i, kind, 2500, Signaled)
		o.RKey = w.RKey
		l.lineOp(l.a, o, 2500)
	}
	l.post(l.a)
	l.await(l.a, 3, l.b, 0)
	o := l.op(l.a, l.b, 0, OpWritePlain, 64, Signaled)
	o.RKey, o.Remote = w.RKey, Address(l.b.mem[exportAt-32:])
	l.lineOp(l.a, o, 64)
	l.post(l.a)
	l.finish(4)
}

// closedWindow writes with the key of a window that was closed.
func closedWindow(l *life) {
	w := l.bind()
	o := l.op(l.a, l.b, 0, OpWritePlain, 2500, Signaled)
	o.RKey = w.RKey
	l.lineOp(l.a, o, 2500)
	l.post(l.a)
	l.await(l.a, 1, l.b, 0)
	l.check(w.Close())
	l.line("b closes its window")
	o = l.op(l.a, l.b, 1, OpWritePlain, 64, Signaled)
	o.RKey = w.RKey
	l.lineOp(l.a, o, 64)
	l.post(l.a)
	l.finish(2)
}
