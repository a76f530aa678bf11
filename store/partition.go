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
	transfers   []transfer // transfers under way, by their place in io
	writing     int        // number of pages that are being written
	files       files
	direct      bool        // files are open with O_DIRECT
	hasAccount  bool        // the account on disk describes an earlier state
	engine      disk.Engine // of files on a disk
	fixed       bool        // memory is registered with the ring
	grows       []uint8
	stale       staleCounts
	tombs       fifo.Queue[uint32] // records of tombstones that may be dropped some day, oldest first
	deferred    []deferredFree
	fits        []func(page uint32) int // by class: the fit of freeMap.pick

	arrived  kv.Queue // requests that have not begun, because readsMax pages are being read, in the order in which they came
	reads    int      // pages that are being read for requests, or queued for that; not those that are read ahead of scans
	readsMax int      // bound of reads, for requests to begin. Those that have begun may exceed it: after a wait for a frame, or for a second page

	noFrame  kv.Queue // requests that wait for a frame of the cache
	noBuffer kv.Queue // … for a transfer and its buffer
	noSlot   kv.Queue // deletes that wait for a slot which a change under way will free, and changes that came after them
	reserved int      // slots of changes under way

	refusing    *slab     // the slab whose growth has failed, while the requests that waited for it are run
	refusal     kv.Status // … and the status of those that need the growth
	keys        [keyLists]kv.Queue
	pausedScans kv.Queue // scans that have used up their turn
	positions   scanPositions
	scanTurn    int // keys that a scan visits in a turn: the constant scanTurn, except in tests

	fullLogged bool  // a slab could not grow, none has grown since, and this was logged
	fullLogAt  int64 // earliest time of the next log message about that

	freed     bool      // something that requests may wait for has become free
	rerunning *kv.Queue // the list that is being run again
	stalled   bool      // … and its first request must wait again
	resumed   bool      // the request that is run has waited: its page was counted before

	closing, closed bool

	count     counters
	writeBack writeBack
	done      [64]disk.Completion
}

// keyLists is the number of lists in which requests wait for a key that is being changed. Keys may share a list: then some of its requests
// are run too early, and wait again.
const keyLists = 64

// keyList returns the list in which requests wait for a record. Multiplying (Knuth 6.4) spreads numbers that are multiples of some.
func (p *Partition) keyList(rec uint32) *kv.Queue { return &p.keys[rec*2654435769>>26%keyLists] }

var _ loop.Partition = (*Partition)(nil)
var _ loop.Busier = (*Partition)(nil)

// Export returns the table that NICs may read; nil: none. An item is added when the store is opened, when a change of it is acknowledged, and when
// it is read; only a read replaces another item. It is removed before a change of it becomes visible.
func (p *Partition) Export() *export.Table { return p.table }

// unexport removes a key from the export table. It is called before a change of the key's item becomes visible.
func (p *Partition) unexport(key []byte) {
	if p.table != nil {
		p.table.Drop(key)
	}
}

// exportIfFree adds a changed item to the export table if its entry is not used by another key: items that are read have priority.
func (p *Partition) exportIfFree(key, value []byte) {
	if p.table != nil {
		p.table.Offer(key, value)
	}
}

// Submit implements kv.Handler.
func (p *Partition) Submit(r *kv.Request) {
	r.Work, r.Need, r.More = kv.Work{}, 0, false
	if s := p.o.Limits.Check(r); s != kv.StatusOK {
		markStart(r)
		p.finish(r, s)
		return
	}
	grouped := p.group.open && groupable(r)
	if !grouped && p.group.n > 0 { // earlier requests come first
		p.runGroup()
	}
	switch {
	case p.reads >= p.readsMax || !p.arrived.Empty():
		p.arrived.Push(r)
	case grouped:
		p.addToGroup(r)
	default:
		p.start(r)
	}
}

// start runs a request for the first time.
func (p *Partition) start(r *kv.Request) {
	markStart(r)
	p.run(r)
}

// markStart marks that the partition begins with a request.
func markStart(r *kv.Request) {
	if r.Stages != nil {
		r.Stages.Mark(kv.StageServerQueue, loop.Nanos())
		r.Stages.State = kv.StoreRunning
	}
}

// startArrived starts requests that have waited for the reads of earlier ones to end. They are looked up in groups, each of which is no larger than the
// number of reads that may begin.
func (p *Partition) startArrived() {
	for p.reads < p.readsMax && !p.arrived.Empty() {
		r := p.arrived.Pop()
		if groupable(r) {
			p.addToGroup(r)
			continue
		}
		p.runGroup()
		if p.reads >= p.readsMax {
			p.arrived.PushFront(r)
			return
		}
		p.start(r)
	}
	p.runGroup()
}

// run executes a request until it ends or must wait.
func (p *Partition) run(r *kv.Request) {
	if r.Stages == nil {
		p.step(r)
		return
	}
	if r.Stages.State == kv.StoreWaiting {
		r.Stages.Mark(kv.StageDisk, loop.Nanos())
		r.Stages.State = kv.StoreRunning
	}
	p.step(r)
	if r.Stages.State == kv.StoreRunning { // it waits now
		r.Stages.Mark(kv.StageStore, loop.Nanos())
		r.Stages.State = kv.StoreWaiting
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
			p.writeChange(r)
		}
	}
}

func (p *Partition) finish(r *kv.Request, s kv.Status) {
	if r.Op == kv.OpScan {
		p.positions.free(r)
	}
	r.Status = s
	finish(p.l, r)
}

// finish ends a request, and marks the end of its stage.
func finish(l *loop.Loop, r *kv.Request) {
	if t := r.Stages; t != nil {
		stage := kv.StageStore
		if t.State == kv.StoreWaiting {
			stage = kv.StageDisk
		}
		t.Mark(stage, loop.Nanos())
		t.State = kv.StoreDone
	}
	l.Finish(r)
}

// resume runs requests that have waited.
func (p *Partition) resume(q kv.Queue) {
	was := p.resumed
	p.resumed = true
	for r := q.Pop(); r != nil; r = q.Pop() {
		p.run(r)
	}
	p.resumed = was
}

// waitIn adds a request to a list that is run when something has become free.
func (p *Partition) waitIn(q *kv.Queue, r *kv.Request) {
	if p.rerunning == q {
		q.PushFront(r)
		p.stalled = true
		return
	}
	q.Push(r)
}

// othersWait reports whether earlier requests wait in q, which r must not overtake.
func (p *Partition) othersWait(q *kv.Queue) bool { return p.rerunning != q && !q.Empty() }

// rerun runs a list until its first request must wait again.
func (p *Partition) rerun(q *kv.Queue) {
	was := p.resumed
	p.rerunning, p.stalled, p.resumed = q, false, true
	for !p.stalled && !q.Empty() {
		p.run(q.Pop())
	}
	p.rerunning, p.resumed = nil, was
}

// OnEvent implements loop.Member. It is never called: the disk engine handles the disk's events.
func (p *Partition) OnEvent(uint64, int32, uint32) {}

// Poll continues a scan that has used up its turn, and handles the disk's completions.
func (p *Partition) Poll() (found int) {
	if p.closed {
		return 0
	}
	if found = p.continueScan(); p.files == nil {
		return found
	}
	for {
		n := p.io.Disk.Reap(p.done[:])
		for _, c := range p.done[:n] {
			p.complete(c)
		}
		if found += n; n < len(p.done) {
			p.startArrived()
			return found
		}
	}
}

func (p *Partition) complete(c disk.Completion) {
	i, errno, ended := p.io.Complete(c)
	if !ended {
		return
	}
	t := p.transfers[i]
	p.transfers[i].r, p.transfers[i].buffer, p.transfers[i].Buf = nil, nil, nil
	p.freed = true
	if errno != 0 && t.kind != growSlab {
		p.count.ioErrors++
		p.logFailure(&t, errno)
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
		p.buffers.Free(t.buffer)
		p.largeWritten(t.r, errno)
	case growSlab:
		p.slabGrown(&p.slabs[t.File], t.Length, errno)
	}
}

// logFailure logs a failed transfer. The request gets an error status in addition.
func (p *Partition) logFailure(t *transfer, errno syscall.Errno) {
	p.o.Log.Error("disk "+t.kind.String()+" failed", "file", slabPath(p.o.Dir, p.shard, t.File), "at", t.Off, "reason", errno)
}

// Stage runs requests that waited for something that has become free, and submits the turn's transfers to the disk.
func (p *Partition) Stage() error {
	if p.files == nil || p.closed {
		return nil
	}
	if p.freed {
		p.freed = false
		p.rerun(&p.noFrame)
		p.rerun(&p.noBuffer)
		p.rerun(&p.noSlot)
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

// writingMax is the most page writes under way at the same time: enough to keep a disk busy. Pages that wait meanwhile get more changes, which
// then share one write.
const writingMax = 32

// runMax is the most pages in one write. They must be consecutive on disk and in memory, as the pages that new items fill are.
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
		p.begin(transfer{kind: growSlab, Transfer: disk.Transfer{File: s.class, Off: s.bytes(), Length: s.growth}})
	}
}

// Close waits for transfers in flight, and ends waiting requests with StatusClosed.
func (p *Partition) Close() bool {
	if p.closed {
		return true
	}
	if !p.closing {
		p.closing = true
		p.endWaiting()
	}
	if p.files != nil && (p.io.Active() > 0 || p.cache.toRead.head != 0 || p.cache.toWrite.head != 0) {
		return false
	}
	p.closed = true
	p.recordClose()
	p.free()
	return true
}

// Busy implements loop.Busier: a partition is at rest when it has no request, no transfer in flight or planned, and nothing of it is in the kernel's page cache alone.
func (p *Partition) Busy() string {
	switch {
	case p.closed:
		return ""
	case !p.pausedScans.Empty():
		return "a scan goes on"
	case p.files == nil:
		return ""
	case p.io.Active() > 0, p.cache.toRead.head != 0, p.cache.toWrite.head != 0, len(p.grows) > 0:
		return "the disk reads or writes"
	case p.freed, p.reserved > 0, !p.arrived.Empty(), !p.noFrame.Empty(), !p.noBuffer.Empty(), !p.noSlot.Empty():
		return "requests wait for the disk"
	case !p.direct:
		return p.writeBack.busy(p.io.Counts.Writes, p.files.sync, &p.o)
	}
	return ""
}

// endWaiting ends the requests that wait for anything but a transfer in flight.
func (p *Partition) endWaiting() {
	for _, s := range p.grows {
		p.slabs[s].growing = false
	}
	p.grows = p.grows[:0]
	for _, q := range []*kv.Queue{&p.arrived, &p.noFrame, &p.noBuffer, &p.noSlot, &p.pausedScans} {
		p.resume(q.Detach())
	}
	for i := range p.keys {
		p.resume(p.keys[i].Detach())
	}
	for i := range p.slabs {
		p.resume(p.slabs[i].waiting.Detach())
	}
}

// free releases the partition's memory, files and table.
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

// answerStats answers a statistics request for this partition. A server's router adds those of all partitions.
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
