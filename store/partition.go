// Package store owns the keys: partitions that share nothing, each on one loop, with an ordered index in
// memory (store/index), slabs of slots by size class, a page cache, and the disk under them (store/disk; KVell's design, SOSP'19). It
// may import kv, loop, store/disk, store/index and internal packages, but no transport.
package store

import (
	"encoding/json"
	"syscall"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/export"
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store/disk"
	"github.com/kvwire/kvwire/store/index"
)

// Partition is one shard of a store: the mem and disk backends. It belongs to its loop, and all methods are for
// the loop's goroutine.
//
// A request that must wait is put into a list of the event or resource that it waits for. It is then run again
// from the start, because what it read before the wait may have changed. Only what it owns (a slot, its key's
// record) is kept, in its Work (work.go).
type Partition struct {
	l      *loop.Loop
	shard  int
	shards int // of the store; 0: not known
	o      Options

	table  *export.Table // of items that NICs may read; nil: none
	index  *index.Index
	slabs  []slab // by class
	window window // of the changes' sequence numbers
	group  group  // requests that are looked up together

	// The rest is nil and unused with the mem backend.
	cache       *cache
	buffers     *arena.Pool // for large items
	bufferFixed int         // index of the pool's registered buffer
	io          disk.Transfers
	under       []transfer // transfers under way, by their place in io
	writing     int        // number of pages that are being written
	files       files
	direct      bool        // files are open with O_DIRECT
	based       bool        // the account on disk describes an earlier state
	engine      disk.Engine // of files on a disk
	fixed       bool        // memory is registered with the ring
	grows       []uint8
	stale       staleCounts
	tombs       fifo.Queue[uint32] // records of tombstones that may be dropped some day, oldest first
	lingers     []lingering
	fits        []func(page uint32) int // by class: what freeMap.pick asks

	noFrame  kv.Queue // requests that wait for a frame of the cache
	noBuffer kv.Queue // … for a transfer and its buffer
	noSlot   kv.Queue // deletes that wait for a slot which a change under way will free, and changes that came after them
	claims   int      // slots that changes have taken which have not ended

	refusing *slab     // while what waited for a slab's growth is run, after it was refused
	refusal  kv.Status // … and how what needs the growth ends
	keys     [keyLists]kv.Queue
	later    kv.Queue // scans whose turn was up
	marks    scanMarks
	scanTurn int // keys that a scan looks at in a turn: scanTurn, but for tests

	full      bool  // a slab could not grow, none has grown since, and this was logged
	fullAgain int64 // earliest time of the next log message about that

	freed    bool      // something that requests may wait for was given back
	draining *kv.Queue // the list that is being run again
	stalled  bool      // … and its first request has to wait on
	resumed  bool      // the request that is run has waited: its page was counted before

	closing, closed bool

	count     counters
	writeBack writeBack
	done      [64]disk.Completion
}

// keyLists is the number of lists in which requests wait for a key that is being changed. Keys
// that share a list cost a look in vain.
const keyLists = 64

// keyList is where requests wait for a record. Multiplying (Knuth 6.4) spreads numbers that are multiples of some.
func (p *Partition) keyList(rec uint32) *kv.Queue { return &p.keys[rec*2654435769>>26%keyLists] }

var _ loop.Partition = (*Partition)(nil)
var _ loop.Busier = (*Partition)(nil)

// Export is the table that NICs may read; nil: none. An item gets into it when the store is opened, when a change of it is acknowledged, and, in
// the place of another one, when it is read; and out of it before anybody can see that it changes.
func (p *Partition) Export() *export.Table { return p.table }

// unexport is called before a key's item changes for those who read it here.
func (p *Partition) unexport(key []byte) {
	if p.table != nil {
		p.table.Drop(key)
	}
}

// offer makes readable what a change has left of its key, where no item of another key is in the way: those that are read are worth more.
func (p *Partition) offer(key, value []byte) {
	if p.table != nil {
		p.table.Offer(key, value)
	}
}

// Submit takes a request.
func (p *Partition) Submit(r *kv.Request) {
	r.Work, r.Need, r.More = kv.Work{}, 0, false
	if r.Stages != nil {
		r.Stages.Mark(kv.StageServerQueue, loop.Nanos())
		r.Stages.Hand = kv.AtWork
	}
	if s := p.o.Limits.Check(r); s != kv.StatusOK {
		p.finish(r, s)
		return
	}
	if p.group.open && r.Op != kv.OpScan && r.Op != kv.OpKeys && r.Op != kv.OpStats && r.Stages == nil {
		p.join(r)
		return
	}
	if p.group.n > 0 { // what came before it
		p.lookUp()
	}
	p.run(r)
}

// run takes a request as far as it can go now.
func (p *Partition) run(r *kv.Request) {
	if r.Stages == nil {
		p.step(r)
		return
	}
	if r.Stages.Hand == kv.Aside {
		r.Stages.Mark(kv.StageDisk, loop.Nanos())
		r.Stages.Hand = kv.AtWork
	}
	p.step(r)
	if r.Stages.Hand == kv.AtWork { // it was finished otherwise, and is delivered in a later step of the turn
		r.Stages.Mark(kv.StageStore, loop.Nanos())
		r.Stages.Hand = kv.Aside
	}
}

func (p *Partition) step(r *kv.Request) {
	if p.closing {
		p.abort(r, kv.StatusClosed)
		return
	}
	switch r.Op {
	case kv.OpGet:
		p.get(r)
	case kv.OpScan:
		p.scan(r)
	case kv.OpKeys:
		p.walk(r)
	case kv.OpStats:
		p.answerStats(r)
	default:
		if phaseOf(r) == phaseNew {
			p.change(r)
		} else {
			p.store(r)
		}
	}
}

func (p *Partition) finish(r *kv.Request, s kv.Status) {
	if r.Op == kv.OpScan {
		p.marks.free(r)
	}
	r.Status = s
	finish(p.l, r)
}

// finish gives a request back.
func finish(l *loop.Loop, r *kv.Request) {
	if t := r.Stages; t != nil {
		stage := kv.StageStore
		if t.Hand == kv.Aside {
			stage = kv.StageDisk
		}
		t.Mark(stage, loop.Nanos())
		t.Hand = kv.Done
	}
	l.Finish(r)
}

// resume runs what has waited.
func (p *Partition) resume(q kv.Queue) {
	was := p.resumed
	p.resumed = true
	for r := q.Pop(); r != nil; r = q.Pop() {
		p.run(r)
	}
	p.resumed = was
}

// starve puts a request into a list that is run again when something was given back.
func (p *Partition) starve(q *kv.Queue, r *kv.Request) {
	if p.draining == q {
		q.PushFront(r)
		p.stalled = true
		return
	}
	q.Push(r)
}

// behind reports whether earlier requests wait in q, which r must not overtake.
func (p *Partition) behind(q *kv.Queue) bool { return p.draining != q && !q.Empty() }

// drain runs a list until its first request has to wait on.
func (p *Partition) drain(q *kv.Queue) {
	was := p.resumed
	p.draining, p.stalled, p.resumed = q, false, true
	for !p.stalled && !q.Empty() {
		p.run(q.Pop())
	}
	p.draining, p.resumed = nil, was
}

// OnEvent implements loop.Member. It is never called: the disk engine handles the disk's events.
func (p *Partition) OnEvent(uint64, int32, uint32) {}

// Poll goes on with a scan whose turn was up, and takes the disk's completions.
func (p *Partition) Poll() (found int) {
	if p.closed {
		return 0
	}
	if found = p.goOn(); p.files == nil {
		return found
	}
	for {
		n := p.io.Disk.Reap(p.done[:])
		for _, c := range p.done[:n] {
			p.complete(c)
		}
		if found += n; n < len(p.done) {
			return found
		}
	}
}

func (p *Partition) complete(c disk.Completion) {
	i, errno, ended := p.io.Complete(c)
	if !ended {
		return
	}
	t := p.under[i]
	p.under[i].r, p.under[i].whole, p.under[i].Buf = nil, nil, nil
	p.freed = true
	if errno != 0 && t.kind != growSlab {
		p.count.ioErrors++
		p.failed(&t, errno)
	}
	switch t.kind {
	case readPage:
		p.pageRead(t.frame, errno)
	case writePage:
		p.writing--
		for f := t.frame; f < t.frame+t.pages; f++ {
			p.pageWritten(f, errno)
		}
	case readItem:
		p.itemRead(&t, errno)
	case writeItem:
		p.buffers.Free(t.whole)
		p.largeWritten(t.r, errno)
	case growSlab:
		p.slabGrown(&p.slabs[t.File], t.Length, errno)
	}
}

// failed logs a failed transfer. The request gets an error status in addition.
func (p *Partition) failed(t *transfer, errno syscall.Errno) {
	p.o.Log.Error("disk "+t.kind.String()+" failed", "file", slabPath(p.o.Dir, p.shard, t.File), "at", t.Off, "reason", errno)
}

// Stage runs what waited for something that was given back, and hands the turn's transfers to the disk.
func (p *Partition) Stage() error {
	if p.files == nil || p.closed {
		return nil
	}
	if p.freed {
		p.freed = false
		p.drain(&p.noFrame)
		p.drain(&p.noBuffer)
		p.drain(&p.noSlot)
	}
	p.stageGrowth()
	// Writes first: they are bounded, and reads ahead of scans may take all places for as long as there are scans.
	for p.io.Room() && p.writing < writingMax {
		f := p.cache.pop(&p.cache.toWrite)
		if f == 0 {
			break
		}
		p.cache.set(f, frameWriting)
		n := uint32(1)
		for n < runMax && p.cache.adjoins(f+n-1, p.cache.toWrite.head) {
			p.cache.set(p.cache.pop(&p.cache.toWrite), frameWriting)
			n++
		}
		p.writing++
		p.stagePages(f, n, writePage)
	}
	for p.io.Room() {
		f := p.cache.pop(&p.cache.toRead)
		if f == 0 {
			break
		}
		p.stagePages(f, 1, readPage)
	}
	all, err := p.io.Stage()
	if !all || p.freed {
		p.l.Again()
	}
	return err
}

// writingMax is how many writes of pages are under way at the same time: as many as keep a disk busy. Pages that wait meanwhile take
// more changes in, which then share their write.
const writingMax = 32

// runMax is how many pages that lie together, on disk and in memory, are written in one go: new items fill page after page.
const runMax = 32

func (p *Partition) stagePages(f, n uint32, kind transferKind) {
	id := p.cache.frames[f].id
	p.begin(transfer{kind: kind, frame: f, pages: n, Transfer: disk.Transfer{File: id.class(), Buf: p.cache.pages(f, n),
		Off: id.offset(), Fixed: p.cache.offset(f) >> disk.FixedShift}})
}

func (p *Partition) stageGrowth() {
	for len(p.grows) > 0 && p.io.Room() {
		s := &p.slabs[p.grows[len(p.grows)-1]]
		p.grows = p.grows[:len(p.grows)-1]
		p.begin(transfer{kind: growSlab, Transfer: disk.Transfer{File: s.class, Off: s.bytes(), Length: s.asked}})
	}
}

// Close lets transfers in flight end and completes what waits as closed.
func (p *Partition) Close() bool {
	if p.closed {
		return true
	}
	if !p.closing {
		p.closing = true
		p.sweep()
	}
	if p.files != nil && (p.io.Active() > 0 || p.cache.toRead.head != 0 || p.cache.toWrite.head != 0) {
		return false
	}
	p.closed = true
	p.settle()
	p.free()
	return true
}

// Busy implements loop.Busier: a partition is at rest when it has no request, no transfer in flight or planned, and nothing of it is in the kernel's page cache alone.
func (p *Partition) Busy() string {
	switch {
	case p.closed:
		return ""
	case !p.later.Empty():
		return "a scan goes on"
	case p.files == nil:
		return ""
	case p.io.Active() > 0, p.cache.toRead.head != 0, p.cache.toWrite.head != 0, len(p.grows) > 0:
		return "the disk reads or writes"
	case p.freed, p.claims > 0, !p.noFrame.Empty(), !p.noBuffer.Empty(), !p.noSlot.Empty():
		return "requests wait for the disk"
	case !p.direct:
		return p.writeBack.busy(p.io.Counts.Writes, p.files.sync, &p.o)
	}
	return ""
}

// sweep ends what waits for something that no transfer in flight will bring.
func (p *Partition) sweep() {
	for _, s := range p.grows {
		p.slabs[s].growing = false
	}
	p.grows = p.grows[:0]
	for _, q := range []*kv.Queue{&p.noFrame, &p.noBuffer, &p.noSlot, &p.later} {
		p.resume(q.Take())
	}
	for i := range p.keys {
		p.resume(p.keys[i].Take())
	}
	for i := range p.slabs {
		p.resume(p.slabs[i].waiting.Take())
	}
}

// free frees what the partition holds.
func (p *Partition) free() {
	p.writeBack.wait()
	if p.table != nil {
		_ = p.table.Close()
	}
	p.index.Close()
	for i := range p.slabs {
		p.slabs[i].close()
	}
	if p.cache != nil {
		_ = p.cache.memory.Close()
	}
	if p.buffers != nil {
		_ = p.buffers.Close()
	}
	if p.files != nil {
		_ = p.files.close()
	}
}

// answerStats serves a client that asks the partition itself; a server's router answers for all.
func (p *Partition) answerStats(r *kv.Request) {
	b, err := json.Marshal(p.Snapshot())
	switch {
	case err != nil:
		p.finish(r, kv.StatusIOError)
	case len(b) > cap(r.Value):
		r.Need = uint32(len(b))
		p.finish(r, kv.StatusTooSmall)
	default:
		r.Value = append(r.Value[:0], b...)
		p.finish(r, kv.StatusOK)
	}
}
