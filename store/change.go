package store

import (
	"syscall"

	"github.com/kvwire/kvwire/kv"
)

// put writes an item to the slot that its key has, if that is of the right size and shares its page:
// one page write on a process crash is all or nothing. Other items get a new slot, and the old one
// is freed after the new one has been written.
func (p *Partition) put(r *kv.Request) {
	class := classOf(itemBytes(len(r.Key), len(r.Value)))
	rec, found := p.index.find(r.Key)
	switch {
	case !found:
		p.insert(r, class)
	case !p.mayChange(r, rec):
	case p.index.at(rec).class != class || place{class: class}.large():
		p.move(r, rec, class)
	default:
		p.overwrite(r, rec)
	}
}

// mayChange says whether the key's item may be changed now. If not, r waits or has failed.
func (p *Partition) mayChange(r *kv.Request, rec uint32) bool {
	switch f := p.index.flags(rec); {
	case f&flagBusy != 0:
		p.keyList(rec).Push(r)
		return false
	case f&flagStuck != 0:
		p.finish(r, kv.StatusIOError)
		return false
	}
	return true
}

func (p *Partition) overwrite(r *kv.Request, rec uint32) {
	at := p.index.at(rec)
	f := uint32(0)
	if p.files != nil {
		if f = p.pageToChange(r, at); f == 0 {
			return
		}
	}
	p.resize(rec, len(r.Value))
	setPhase(r, phaseApply, 0)
	p.apply(r, at, f, false)
}

func (p *Partition) insert(r *kv.Request, class uint8) {
	at, ok := p.takeSlot(r, class)
	if !ok {
		return
	}
	rec, ok := p.index.insert(r.Key)
	if !ok {
		p.freeSlot(at)
		p.finish(r, kv.StatusBusy)
		return
	}
	p.index.put(rec, at)
	p.index.setValueBytes(rec, uint32(len(r.Value)))
	p.index.setFlags(rec, flagBusy|flagHidden)
	setPhase(r, phaseInsert, rec)
	p.store(r)
}

func (p *Partition) move(r *kv.Request, rec uint32, class uint8) {
	if p.behind(&p.noJob) {
		p.starve(&p.noJob, r)
		return
	}
	n, ok := p.jobs.take()
	if !ok {
		p.starve(&p.noJob, r)
		return
	}
	at, ok := p.takeSlot(r, class)
	if !ok {
		p.jobs.put(n)
		return
	}
	p.jobs.table[n].rec, p.jobs.table[n].at = rec, at
	p.index.setFlags(rec, p.index.flags(rec)|flagBusy)
	setPhase(r, phaseMove, n)
	p.store(r)
}

// erase deletes: the slot gets a tombstone, and only when that is written is the key gone and the slot free.
func (p *Partition) erase(r *kv.Request) {
	rec, ok := p.index.find(r.Key)
	if !ok {
		p.finish(r, kv.StatusNotFound)
		return
	}
	if !p.mayChange(r, rec) {
		return
	}
	p.index.setFlags(rec, p.index.flags(rec)|flagBusy|flagHidden)
	p.unexport(r.Key)
	setPhase(r, phaseErase, rec)
	p.store(r)
}

// store puts what a request's phase asks for into its slot: the item or a tombstone.
func (p *Partition) store(r *kv.Request) {
	at, tombstone := p.target(r)
	switch {
	case p.files == nil:
		p.apply(r, at, 0, tombstone)
	case at.large():
		p.storeLarge(r, at, tombstone)
	default:
		if f := p.pageToChange(r, at); f != 0 {
			p.apply(r, at, f, tombstone)
		}
	}
}

func (p *Partition) target(r *kv.Request) (at place, tombstone bool) {
	switch ph, n := phaseOf(r); ph {
	case phaseInsert:
		return p.index.at(n), false
	case phaseMove:
		return p.jobs.table[n].at, false
	case phaseErase, phaseUndo:
		return p.index.at(n), true
	case phaseFree:
		return p.jobs.table[n].at, true
	}
	panic("store: a request without a slot is to be stored")
}

// pageToChange gives the frame of a slot's page, in a state in which it may be changed. 0 means
// that r waits: also for the end of a write, since a page in flight must not change.
func (p *Partition) pageToChange(r *kv.Request, at place) uint32 {
	s := &p.slabs[at.class]
	fresh := at.page() >= s.fresh
	f := p.page(r, at, fresh || classes[at.class].perPage == 1)
	if f == 0 {
		return 0
	}
	if fresh {
		s.fresh = at.page() + 1
	}
	if fr := &p.cache.frames[f]; fr.state == frameWriting {
		fr.waiting.Push(r)
		return 0
	}
	return f
}

// apply changes a slot in memory. With the disk backend r goes on when the page is written, with the mem
// backend at once.
func (p *Partition) apply(r *kv.Request, at place, f uint32, tombstone bool) {
	var b []byte
	if f == 0 {
		b = p.slabs[at.class].memory(at.slot)
	} else {
		b = p.cache.page(f)[at.offset():][:classes[at.class].bytes]
	}
	p.unexport(r.Key)
	p.encode(b, r, tombstone)
	if f == 0 {
		p.written(r, kv.StatusOK)
		return
	}
	fr := &p.cache.frames[f]
	fr.verified |= 1 << at.nth()
	if tombstone {
		fr.verified &^= 1 << at.nth()
	}
	fr.applied.Push(r)
	if fr.state == frameClean {
		p.cache.set(f, frameDirty)
		p.cache.queue(f)
	}
}

func (p *Partition) encode(b []byte, r *kv.Request, tombstone bool) (n int) {
	p.seq++
	if tombstone {
		encodeTombstone(b, p.seq)
		return headerBytes
	}
	p.l.Stats.Copied += uint64(len(r.Value))
	return encodeItem(b, r.Key, r.Value, p.seq)
}

// storeLarge writes an item with pages of its own, as far as it reaches, or the first of its pages
// with a tombstone.
func (p *Partition) storeLarge(r *kv.Request, at place, tombstone bool) {
	n := pageBytes
	if tombstone && p.io.reading(at) {
		p.readers.Push(r)
		return
	}
	if !tombstone {
		n = roundUp(itemBytes(len(r.Key), len(r.Value)), pageBytes)
	}
	b := p.buffer(r, n)
	if b == nil {
		return
	}
	clear(b[p.encode(b, r, tombstone):]) // what others left in the buffer does not go to disk
	p.io.begin(transfer{kind: writeItem, class: at.class, slot: at.slot, r: r, buf: b, whole: b,
		off: at.id().offset(), fixed: p.bufferFixed})
}

func (p *Partition) pageWritten(f uint32, errno syscall.Errno) {
	fr := &p.cache.frames[f]
	applied, waiting := fr.applied.Take(), fr.waiting.Take()
	if errno != 0 {
		p.cache.drop(f) // the disk may hold the old page or the new one: ask it
	} else {
		p.cache.set(f, frameClean)
	}
	for r := applied.Pop(); r != nil; r = applied.Pop() {
		p.written(r, statusOf(errno))
	}
	p.resume(waiting)
}

// written goes on with a request whose slot has been written, or could not be.
func (p *Partition) written(r *kv.Request, s kv.Status) {
	ph, n := phaseOf(r)
	switch ph {
	case phaseApply:
		if s != kv.StatusOK {
			p.unexport(r.Key) // who has read it since may have put it there, and it may be gone
		}
		p.finish(r, s)
	case phaseInsert:
		p.inserted(r, n, s)
	case phaseMove:
		p.moved(r, n, s)
	case phaseErase:
		p.erased(r, n, s)
	case phaseUndo:
		p.undone(r, n, s)
	case phaseFree:
		p.jobDone(n, s)
	default:
		panic("store: a write ended that nobody began")
	}
}

func (p *Partition) inserted(r *kv.Request, rec uint32, s kv.Status) {
	if s != kv.StatusOK { // the item may have reached the disk: it must not come back some day
		r.Status = s
		setPhase(r, phaseUndo, rec)
		p.run(r)
		return
	}
	p.index.setFlags(rec, p.index.flags(rec)&^(flagBusy|flagHidden))
	p.items++
	p.live += p.index.itemBytes(rec)
	p.finish(r, s)
	p.wakeKey(rec)
}

// moved switches the key to its new slot, and frees the other one of the two.
func (p *Partition) moved(r *kv.Request, n uint32, s kv.Status) {
	j := &p.jobs.table[n]
	if s == kv.StatusOK {
		old := p.index.at(j.rec)
		p.unexport(r.Key)
		p.index.put(j.rec, j.at)
		p.resize(j.rec, len(r.Value))
		j.at = old
	}
	p.finish(r, s)
	setPhase(&j.req, phaseFree, n)
	p.run(&j.req)
}

func (p *Partition) erased(r *kv.Request, rec uint32, s kv.Status) {
	if s != kv.StatusOK { // the disk holds the item or the tombstone: a read will tell
		p.index.setFlags(rec, p.index.flags(rec)&^(flagBusy|flagHidden))
		p.finish(r, s)
		p.wakeKey(rec)
		return
	}
	p.items--
	p.live -= p.index.itemBytes(rec)
	p.freeSlot(p.index.at(rec))
	p.index.delete(rec)
	p.finish(r, s)
	p.wakeKey(rec)
}

func (p *Partition) undone(r *kv.Request, rec uint32, s kv.Status) {
	if s != kv.StatusOK {
		p.stick(rec)
	} else {
		p.freeSlot(p.index.at(rec))
		p.index.delete(rec)
	}
	p.finish(r, r.Status)
	p.wakeKey(rec)
}

func (p *Partition) jobDone(n uint32, s kv.Status) {
	j := &p.jobs.table[n]
	rec := j.rec
	if s != kv.StatusOK {
		p.stick(rec)
	} else {
		p.index.setFlags(rec, p.index.flags(rec)&^flagBusy)
		p.freeSlot(j.at)
	}
	p.jobs.put(n)
	p.freed = true
	p.wakeKey(rec)
}

// stick marks a key of which the disk may hold a copy that could not be freed. The slot is not used
// again. A delete of the key would let that copy come back after a restart, so it fails from now on;
// recovery sorts it out.
func (p *Partition) stick(rec uint32) {
	p.index.setFlags(rec, p.index.flags(rec)&^flagBusy|flagStuck)
}

// wakeKey runs what waited for a key that is not being changed any more.
func (p *Partition) wakeKey(rec uint32) {
	if q := p.keyList(rec); !q.Empty() {
		p.resume(q.Take())
	}
}

// resize notes the length of a key's new value.
func (p *Partition) resize(rec uint32, valueBytes int) {
	p.live += int64(valueBytes) - int64(p.index.valueBytes(rec))
	p.index.setValueBytes(rec, uint32(valueBytes))
}

// abort ends a request of which nothing has been written in its present phase, and gives back what was taken
// for it.
func (p *Partition) abort(r *kv.Request, s kv.Status) {
	if r.Op == kv.OpScan || r.Op == kv.OpGet {
		p.finish(r, s)
		return
	}
	switch ph, n := phaseOf(r); ph {
	case phaseInsert:
		p.freeSlot(p.index.at(n))
		p.index.delete(n)
		p.finish(r, s)
		p.wakeKey(n)
	case phaseMove:
		j := &p.jobs.table[n]
		p.freeSlot(j.at)
		p.index.setFlags(j.rec, p.index.flags(j.rec)&^flagBusy)
		p.jobs.put(n)
		p.freed = true
		p.finish(r, s)
		p.wakeKey(j.rec)
	case phaseErase, phaseUndo, phaseFree:
		p.written(r, s)
	default:
		p.finish(r, s)
	}
}

func (p *Partition) abortAll(q kv.Queue, s kv.Status) {
	for r := q.Pop(); r != nil; r = q.Pop() {
		p.abort(r, s)
	}
}

// takeSlot claims a slot. If there is none, r waits until the slab has grown, or fails.
func (p *Partition) takeSlot(r *kv.Request, class uint8) (at place, ok bool) {
	s := &p.slabs[class]
	slot, ok := s.free.take()
	if !ok && p.files == nil && p.growMemory(s) {
		slot, ok = s.free.take()
	}
	switch {
	case ok:
		if p.files != nil && !s.growing && !s.refused && s.low() && s.growth() > 0 {
			p.growSlab(s)
		}
		return place{class, slot}, true
	case p.files == nil || s.growth() == 0:
		p.finish(r, kv.StatusNoSpace)
		return place{}, false
	}
	s.waiting.Push(r)
	if !s.growing {
		p.growSlab(s)
	}
	return place{}, false
}

func (p *Partition) freeSlot(at place) { p.slabs[at.class].free.put(at.slot) }

// growSlab asks for the slab's next extent.
func (p *Partition) growSlab(s *slab) {
	s.growing = true
	p.grows = append(p.grows, s.class) // each slab at most once: capacity is the number of classes
}

func (p *Partition) slabGrown(s *slab, bytes int64, errno syscall.Errno) {
	if errno == syscall.EOPNOTSUPP || errno == syscall.ENOSYS { // then space is found, or not, by writing
		errno = 0
		if err := p.files.extend(s.class, s.bytes()+bytes); err != nil {
			errno = syscall.ENOSPC
		}
	}
	if statusOf(errno) == kv.StatusNoSpace && !p.closing && s.shrink() {
		p.grows = append(p.grows, s.class)
		return
	}
	s.growing = false
	waiting := s.waiting.Take()
	if errno == 0 {
		s.grown(bytes)
		p.resume(waiting)
		return
	}
	s.refused = true
	for r := waiting.Pop(); r != nil; r = waiting.Pop() {
		if s.free.free > 0 {
			p.run(r) // a slot was freed in the meantime
			continue
		}
		p.abort(r, statusOf(errno))
	}
}

// growMemory gives a slab of the mem backend more memory, within the bound.
func (p *Partition) growMemory(s *slab) bool {
	n := s.memChunk()
	if most := p.o.MemBytes; most > 0 && p.count.memBytes+n > int64(most) || !s.growMemory() {
		return false
	}
	p.count.memBytes += n
	return true
}
