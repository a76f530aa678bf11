package store

import (
	"syscall"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/index"
)

// A change, put or delete, writes its item, or a tombstone, to a free slot, and frees the slot of the item before it
// when that write has ended (adr/0007). All other slots of the page are free, or keep their bytes. So a write of which only a part
// reaches the disk damages no other item. Among the copies of a key the highest sequence number counts. With UpdateInPlace an item
// overwrites the previous one of the same class, and a torn write may lose both.
//
// Reads return an item only when it is on disk. The record of a small item points to it as soon as it is in its page, and reads wait for the
// write. The record of a large item changes after the write, and reads return the previous item until then.

// phase is the progress of a change.
type phase uint8

const (
	phaseNew      phase = iota // it has reserved nothing
	phaseReserved              // it has a slot, and its key's record is busy
	phaseWriting               // its item is in a page or buffer that is queued or being written
)

type changeFlags uint8

const (
	hasOld    changeFlags = 1 << iota // the key had an item or a tombstone before
	oldIsTomb                         // … a tombstone
	inPlace                           // the item overwrites the previous one
)

// change begins a put or delete.
func (p *Partition) change(r *kv.Request) {
	x := p.index
	rec, found := p.findToChange(r)
	there := false
	if found {
		f := x.Flags(rec)
		if f&flagBusy != 0 {
			p.keyList(rec).Push(r)
			return
		}
		there = f&(flagHidden|flagTomb) == 0
	}
	switch {
	case !there && (r.Op.Deletes() || r.If == kv.IfPresent):
		p.finishUnchanged(r, rec, found, kv.StatusNotFound)
	case there && r.If == kv.IfAbsent && r.Op != kv.OpSwap:
		p.finishUnchanged(r, rec, found, kv.StatusExists)
	case there && r.Op.Updates():
		p.readToUpdate(r, rec)
	default:
		p.changeFrom(r, rec, found, nil)
	}
}

// finishUnchanged ends a change that has no effect because of its key's present state. It waits until that state is on disk.
func (p *Partition) finishUnchanged(r *kv.Request, rec uint32, found bool, s kv.Status) {
	if !found || !p.waitsForKey(r, rec, p.index.Flags(rec)) {
		p.finish(r, s)
	}
}

// changeFrom continues a change while no other change of its key is under way. An update computes its new value from the present item, old: see update.go.
func (p *Partition) changeFrom(r *kv.Request, rec uint32, found bool, old []byte) {
	x := p.index
	there := found && x.Flags(rec)&(flagHidden|flagTomb) == 0
	bytes, s := updatedBytes(r, old, there, p.o.Limits.MaxValueBytes)
	if s != kv.StatusOK {
		p.finishUnchanged(r, rec, found, s)
		return
	}
	if p.files == nil {
		p.changeMemory(r, rec, found, old, bytes)
		return
	}
	c := change{phase: phaseReserved}
	class := classOf(itemBytes(len(r.Key), bytes))
	if there && p.o.Update == UpdateInPlace && r.Op == kv.OpPut && p.placeOf(rec).class == class && !p.placeOf(rec).large() {
		c.to, c.flags = p.placeOf(rec), inPlace
	} else {
		frees := there && (r.Op.Deletes() || p.placeOf(rec).class == class)
		to, ok := p.reserve(r, class, there, frees)
		if !ok {
			return
		}
		c.to = to
		p.reserved++
	}
	if !found {
		var ok bool
		if rec, ok = x.Insert(r.Key); !ok {
			p.slabs[c.to.class].free.release(c.to.slot)
			p.reserved--
			p.freed = true
			p.finish(r, kv.StatusBusy)
			return
		}
		x.SetFlags(rec, flagHidden)
	}
	x.SetFlags(rec, x.Flags(rec)|flagBusy)
	applyUpdate(r, old, there)
	c.rec = rec
	c.save(r, rec)
	p.writeChange(r)
}

// changeMemory is changeFrom for the mem backend. It never waits.
func (p *Partition) changeMemory(r *kv.Request, rec uint32, found bool, old []byte, bytes int) {
	x := p.index
	if r.Op.Deletes() {
		p.unexport(r.Key)
		at := p.placeOf(rec)
		x.Delete(rec)
		applyUpdate(r, old, true)
		p.slabs[at.class].free.release(at.slot)
		p.count.items--
		p.finish(r, kv.StatusOK)
		return
	}
	rec, s := p.placeInMemory(r.Key, rec, found, bytes)
	if s != kv.StatusOK {
		p.finish(r, s)
		return
	}
	p.unexport(r.Key)
	applyUpdate(r, old, found)
	p.encode(p.memoryOf(rec), r.Key, r.Value, kindLive)
	p.exportIfFree(r.Key, r.Value)
	p.finish(r, kv.StatusOK)
}

// placeInMemory returns the record of a key, which is new if the key was not found, with a slot for a value of that many bytes. The bytes of an earlier slot stay as
// they are until the next change. For the mem backend.
func (p *Partition) placeInMemory(key []byte, rec uint32, found bool, bytes int) (placed uint32, s kv.Status) {
	class := classOf(itemBytes(len(key), bytes))
	if found && p.placeOf(rec).class == class {
		return rec, kv.StatusOK
	}
	b := &p.slabs[class]
	slot, ok := b.reserve(nil)
	if !ok && p.growMemory(b) {
		slot, ok = b.reserve(nil)
	}
	if !ok {
		return 0, kv.StatusNoSpace
	}
	if found {
		old := p.placeOf(rec)
		p.slabs[old.class].free.release(old.slot)
	} else {
		if rec, ok = p.index.Insert(key); !ok {
			b.free.release(slot)
			return 0, kv.StatusBusy
		}
		p.count.items++
	}
	p.setPlace(rec, place{class, slot})
	return rec, kv.StatusOK
}

// memoryOf returns the slot of a record. For the mem backend.
func (p *Partition) memoryOf(rec uint32) []byte {
	at := p.placeOf(rec)
	return p.slabs[at.class].memory(at.slot)
}

// writeChange writes a change to its reserved slot.
func (p *Partition) writeChange(r *kv.Request) {
	c := changeOf(r)
	if c.flags&inPlace != 0 && (p.placeOf(c.rec) != c.to || p.index.Flags(c.rec)&flagHidden != 0) {
		p.restart(r, c.rec) // the item to overwrite is gone: its own write has failed
		return
	}
	if p.window.full() {
		p.waitIn(&p.noFrame, r)
		return
	}
	if c.to.large() {
		p.writeLarge(r, c)
	} else if f := p.frameToChange(r, c.to); f != 0 {
		p.apply(r, c, f)
	}
}

// restart begins a change in place again from the start.
func (p *Partition) restart(r *kv.Request, rec uint32) {
	if f := p.index.Flags(rec); f&flagHidden != 0 {
		p.index.Delete(rec)
	} else {
		p.index.SetFlags(rec, f&^flagBusy)
	}
	r.Work = kv.Work{}
	p.change(r)
}

// frameToChange returns the frame of a slot's page, in a state in which it may be changed. 0: r waits for a frame, for the page, or
// for the end of the page's write, during which it must not change.
func (p *Partition) frameToChange(r *kv.Request, at place) uint32 {
	s := &p.slabs[at.class]
	fresh := at.page() >= s.fresh
	f := p.frameOf(r, at, fresh || s.ownPages())
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

// apply copies a small item, or a tombstone, into its page. The request ends when the page is on disk.
func (p *Partition) apply(r *kv.Request, c change, f uint32) {
	x, fr, rec := p.index, &p.cache.frames[f], c.rec
	b := p.cache.page(f)[c.to.offset():][:classes[c.to.class].bytes]
	p.unexport(r.Key)
	kind := uint8(kindLive)
	switch {
	case r.Op.Deletes():
		kind = kindTombstone
	case c.flags&inPlace != 0:
		kind = kindOver
	}
	if kind == kindOver {
		p.slabs[c.to.class].removeSum(c.to, b)
	} else {
		c.stale = p.removeOverwritten(c.to, b)
	}
	if servesStale {
		p.keepStale(c.to, b)
	}
	c.low = uint16(p.encode(b, r.Key, r.Value, kind).seq)
	p.slabs[c.to.class].addSum(c.to, b)
	fr.verified |= 1 << c.to.nth()
	fr.ahead |= 1 << c.to.nth()
	was := x.Flags(rec)
	if kind != kindOver {
		if was&flagHidden == 0 {
			c.old = p.placeOf(rec)
			c.flags |= hasOld
			if was&flagTomb != 0 {
				c.flags |= oldIsTomb
			} else {
				p.stale.add(kv.Hash(r.Key))
			}
		}
		p.setPlace(rec, c.to)
	}
	p.setFlagsAfter(rec, was, kind)
	c.phase = phaseWriting
	c.save(r, c.old.slot)
	if ackEarly {
		r = p.acknowledgeEarly(r)
	}
	fr.applied.Push(r)
	if fr.state == frameClean {
		p.cache.set(f, frameDirty)
		p.cache.push(&p.cache.toWrite, f)
	}
	p.resumeKey(rec)
}

// setFlagsAfter sets a record's flags after a change that wrote an item of that kind.
func (p *Partition) setFlagsAfter(rec uint32, was index.Flags, kind uint8) {
	now := was &^ (flagBusy | flagHidden | flagTomb | flagCorrupt)
	if kind == kindTombstone {
		now |= flagTomb
	}
	p.setFlags(rec, was, now)
}

// setFlags changes a record's flags and the counts of keys.
func (p *Partition) setFlags(rec uint32, was, now index.Flags) {
	p.index.SetFlags(rec, now)
	p.count.key(was, -1)
	p.count.key(now, 1)
}

// removeOverwritten removes a slot's present bytes b from the sum of its unit. It returns the stale copy that writing the slot destroys (change.stale); 0: none.
func (p *Partition) removeOverwritten(at place, b []byte) (stale uint32) {
	s := &p.slabs[at.class]
	it, v := s.removeSum(at, b)
	if s.ownPages() {
		if w := &s.soleSlots[at.slot]; w.hasStale {
			w.hasStale = false
			return w.stale | staleKnown
		}
	} else if v == slotLive {
		return kv.Hash(it.key) | staleKnown
	}
	return 0
}

// staleKnown in change.stale means that the bits below it are from the hash of the key whose stale copy is destroyed. The bit replaces the
// highest one of the hash, which no table of counters uses.
const staleKnown = 1 << 31

// encode writes an item, or a tombstone, to the start of b. Items in memory have no sums, because nothing reads them there.
func (p *Partition) encode(b, key, value []byte, kind uint8) stamp {
	st := p.window.next(kind)
	if kind == kindTombstone {
		value = nil
	}
	if p.files == nil {
		encodeWithoutSums(b, key, value, st)
	} else {
		encodeItem(b, key, value, st)
	}
	p.l.Stats.Copied += uint64(len(value))
	return st
}

// writeLarge writes an item, or a tombstone, to a slot with pages of its own: only the pages that it needs.
func (p *Partition) writeLarge(r *kv.Request, c change) {
	kind, n := uint8(kindLive), itemBytes(len(r.Key), len(r.Value))
	if r.Op.Deletes() {
		kind, n = kindTombstone, itemBytes(len(r.Key), 0)
	}
	b := p.allocBuffer(r, roundUp(n, pageBytes))
	if b == nil {
		return
	}
	c.stale = p.removeOverwritten(c.to, nil)
	c.low = uint16(p.encode(b, r.Key, r.Value, kind).seq)
	clear(b[n:]) // earlier contents of the buffer must not reach the disk
	s := &p.slabs[c.to.class]
	s.addSum(c.to, b)
	s.soleSlots[c.to.slot].bytes = uint32(n)
	c.phase = phaseWriting
	c.save(r, c.rec)
	p.beginItem(writeItem, r, c.to, b)
}

func (p *Partition) pageWritten(f uint32, errno syscall.Errno) {
	fr := &p.cache.frames[f]
	applied, waiting := fr.applied.Detach(), fr.waiting.Detach()
	if errno != 0 {
		p.writeFailed(errno)
		p.cache.drop(f) // the disk may have the old page or the new one: read it again
		var newestFirst kv.Queue
		for r := applied.Pop(); r != nil; r = applied.Pop() {
			newestFirst.PushFront(r)
		}
		for r := newestFirst.Pop(); r != nil; r = newestFirst.Pop() {
			p.undo(r)
		}
	} else {
		p.cache.set(f, frameClean)
		fr.ahead = 0
		tombChecks := 0
		for r := applied.Pop(); r != nil; r = applied.Pop() {
			tombChecks += p.finishWritten(r, f)
		}
		p.dropTombs(2 * tombChecks)
	}
	p.resume(waiting)
}

// finishWritten ends a change whose page, in frame f, is on disk. It returns 1 if a tombstone may have become superfluous.
func (p *Partition) finishWritten(r *kv.Request, f uint32) (tombChecks int) {
	c := changeOf(r)
	tombChecks = p.changeOnDisk(c.low, c.stale)
	if c.flags&inPlace == 0 {
		p.reserved--
	}
	if c.flags&hasOld != 0 {
		p.freeSlot(c.old, r.Key, c.flags&oldIsTomb == 0)
	}
	if r.Op.Deletes() {
		tombChecks = 1
		if rec, ok := p.index.Find(r.Key); ok && p.index.Flags(rec)&(flagTomb|flagQueued) == flagTomb {
			p.queueTomb(rec)
		}
	} else if p.table != nil {
		p.exportWritten(r.Key, c.to, f)
	}
	p.finish(r, kv.StatusOK)
	return tombChecks
}

// exportWritten exports the item in a slot of the page in frame f, which is on disk, if it is still the key's item. It reads the item from the
// page, because a later change of the same slot may be in the same write.
func (p *Partition) exportWritten(key []byte, at place, f uint32) {
	rec, ok := p.index.Find(key)
	if !ok || p.placeOf(rec) != at || p.index.Flags(rec)&(flagHidden|flagTomb|flagCorrupt) != 0 {
		return
	}
	if it, ok := peekItem(p.cache.page(f)[at.offset():][:classes[at.class].bytes]); ok {
		p.exportIfFree(key, it.value)
	}
}

// changeOnDisk records that the change with these low bits of its sequence number is on disk. stale is the copy that it has overwritten (change.stale); 0: none.
func (p *Partition) changeOnDisk(low uint16, stale uint32) (tombChecks int) {
	p.window.complete(low)
	if stale != 0 {
		p.stale.sub(stale)
		return 1
	}
	return 0
}

// freeSlot frees a slot, once no read of it is under way. stale is true if the slot holds a copy of key's item that was counted.
func (p *Partition) freeSlot(at place, key []byte, stale bool) {
	l := deferredFree{at: at}
	if stale && p.slabs[at.class].ownPages() {
		l.hash, l.stale = kv.Hash(key), true
	}
	if at.large() && p.reading(at) {
		p.deferred = append(p.deferred, l) // bounded by the transfers under way
		return
	}
	p.freeSlotNow(l)
}

// deferredFree is a slot to free when the read of it has ended.
type deferredFree struct {
	at    place
	stale bool   // it has its own pages, and holds a copy that was counted
	hash  uint32 // … of the key with that hash
}

func (p *Partition) freeSlotNow(l deferredFree) {
	s := &p.slabs[l.at.class]
	s.free.release(l.at.slot)
	if l.stale {
		w := &s.soleSlots[l.at.slot]
		w.stale, w.hasStale = l.hash, true
	}
}

// freeDeferred frees the slots whose reads have ended.
func (p *Partition) freeDeferred() {
	keep := p.deferred[:0]
	for _, l := range p.deferred {
		if p.reading(l.at) {
			keep = append(keep, l)
		} else {
			p.freeSlotNow(l)
		}
	}
	p.deferred = keep
}

func (p *Partition) queueTomb(rec uint32) {
	p.index.SetFlags(rec, p.index.Flags(rec)|flagQueued)
	p.tombs.Append(rec)
}

// dropTombs checks n tombstones, and frees those whose keys have no older copy on disk.
func (p *Partition) dropTombs(n int) {
	x := p.index
	for n = min(n, p.tombs.Len()); n > 0 && !p.window.lost; n-- {
		rec := p.tombs.Pop()
		f := x.Flags(rec) &^ flagQueued
		x.SetFlags(rec, f)
		switch {
		case f&flagTomb == 0: // the key has an item again
		case f&flagBusy != 0 || *p.stale.of(kv.Hash(x.Key(rec))) > 0:
			p.queueTomb(rec)
		default:
			at := p.placeOf(rec)
			x.Delete(rec)
			p.count.key(f, -1)
			p.freeSlotNow(deferredFree{at: at})
		}
	}
}

// largeWritten ends a change whose slot has pages of its own.
func (p *Partition) largeWritten(r *kv.Request, errno syscall.Errno) {
	x, c := p.index, changeOf(r)
	was := x.Flags(c.rec)
	if errno != 0 {
		p.writeFailed(errno)
		p.abandon(r, c, kv.StatusIOError)
		return
	}
	tombChecks := p.changeOnDisk(c.low, c.stale)
	p.reserved--
	old, kind := p.placeOf(c.rec), uint8(kindLive)
	if r.Op.Deletes() {
		kind = kindTombstone
	}
	p.unexport(r.Key)
	p.setPlace(c.rec, c.to)
	p.setFlagsAfter(c.rec, was, kind)
	if was&flagHidden == 0 {
		if was&flagTomb == 0 {
			p.stale.add(kv.Hash(r.Key))
		}
		p.freeSlot(old, r.Key, was&flagTomb == 0)
	}
	if kind == kindTombstone {
		tombChecks = 1
		p.queueTomb(c.rec)
	} else {
		p.exportIfFree(r.Key, r.Value)
	}
	p.finish(r, kv.StatusOK)
	p.dropTombs(2 * tombChecks)
	p.resumeKey(c.rec)
}

// abandon ends a change that is not in its page yet, and frees what it has reserved.
func (p *Partition) abandon(r *kv.Request, c change, s kv.Status) {
	if c.flags&inPlace == 0 {
		p.slabs[c.to.class].free.release(c.to.slot)
		p.reserved--
	}
	if f := p.index.Flags(c.rec); f&flagHidden != 0 {
		p.index.Delete(c.rec)
	} else {
		p.index.SetFlags(c.rec, f&^flagBusy)
	}
	p.freed = true
	p.finish(r, s)
	p.resumeKey(c.rec)
}

// writeFailed records that the disk may have any part of a failed write. Its requests end as StatusIOError whatever the reason, because any other
// status promises that nothing was changed.
func (p *Partition) writeFailed(errno syscall.Errno) {
	if !p.window.lost {
		p.window.fail()
		p.o.Log.Warn("a write has failed: tombstones stay until the store is opened again", "shard", p.shard, "reason", errno, "remedy", spaceRemedy(errno, "see dmesg"))
	}
}

// undo reverts a change whose page could not be written: the key has its previous item again. The disk may have the change
// nevertheless, and the next start finds it, unless the key is changed again.
func (p *Partition) undo(r *kv.Request) {
	x, c := p.index, changeOf(r)
	p.unexport(r.Key) // a read may have exported it since
	if c.flags&inPlace != 0 {
		p.finish(r, kv.StatusIOError)
		return
	}
	p.reserved--
	if rec, found := x.Find(r.Key); found && p.placeOf(rec) == c.to { // it is the key's last change
		p.revert(rec, c)
		p.slabs[c.to.class].free.release(c.to.slot)
	} else if later := p.changeAfter(c.to); later != nil { // it would free our slot: it frees the previous one instead
		l := changeOf(later)
		l.flags = l.flags&^(hasOld|oldIsTomb) | c.flags&(hasOld|oldIsTomb)
		l.old = c.old
		l.save(later, l.old.slot)
		p.slabs[c.to.class].free.release(c.to.slot)
	} else if c.flags&hasOld != 0 { // a later change is on disk, and has freed our slot
		p.freeSlot(c.old, r.Key, c.flags&oldIsTomb == 0)
	}
	p.finish(r, kv.StatusIOError)
}

// revert gives a key's record the state before its last change.
func (p *Partition) revert(rec uint32, c change) {
	x := p.index
	was := x.Flags(rec)
	now := was &^ (flagTomb | flagCorrupt)
	switch {
	case c.flags&hasOld == 0:
		now |= flagHidden
	case c.flags&oldIsTomb != 0:
		now |= flagTomb
		fallthrough
	default:
		p.setPlace(rec, c.old)
	}
	p.setFlags(rec, was, now)
	switch {
	case now&(flagHidden|flagBusy) == flagHidden:
		x.Delete(rec)
	case now&(flagTomb|flagQueued) == flagTomb:
		p.queueTomb(rec)
	}
}

// changeAfter returns the small change under way that replaces the item in that slot; nil: none. It searches all frames, and is called
// after failures only.
func (p *Partition) changeAfter(at place) (found *kv.Request) {
	for f := range p.cache.frames {
		q := p.cache.frames[f].applied.Detach()
		for r := q.Pop(); r != nil; r = q.Pop() {
			if c := changeOf(r); c.flags&hasOld != 0 && c.old == at {
				found = r
			}
			p.cache.frames[f].applied.Push(r)
		}
	}
	return found
}

// resumeKey runs the requests that have waited for the end of a key's change.
func (p *Partition) resumeKey(rec uint32) {
	if q := p.keyList(rec); !q.Empty() {
		p.resume(q.Detach())
	}
}

// abort ends a waiting request with an error.
func (p *Partition) abort(r *kv.Request, s kv.Status) {
	if r.Op.Changes() {
		if c := changeOf(r); c.phase == phaseReserved {
			p.abandon(r, c, s)
			return
		}
	}
	p.finish(r, s)
}

func (p *Partition) abortAll(q kv.Queue, s kv.Status) {
	for r := q.Pop(); r != nil; r = q.Pop() {
		p.abort(r, s)
	}
}

// reserve reserves a slot for a change. there: the key has an item, whose slot becomes free when the change ends. frees: that slot is large
// enough for the tombstones that the reserved one could hold. If there is no slot, r waits until the slab has grown, or fails.
func (p *Partition) reserve(r *kv.Request, class uint8, there, frees bool) (at place, ok bool) {
	s := &p.slabs[class]
	if p.othersWait(&p.noSlot) {
		if p.refusing == s && !r.Op.Deletes() { // it has waited for the slab's growth, and no slot is free
			p.finish(r, p.refusal)
		} else {
			p.waitIn(&p.noSlot, r)
		}
		return place{}, false
	}
	if !frees && !p.roomForTombs() {
		p.awaitGrowth(r, &p.slabs[tombClass], p.slabs[tombClass].units(extentMin))
		return place{}, false
	}
	if there || !s.onlyForChanges(p.count.tombs) {
		if slot, ok := s.reserve(p.fits[class]); ok {
			if !s.growing && !s.refused {
				if n := s.growthDue(there && p.o.Update == UpdateCOW); n > 0 {
					p.growSlab(s, n)
				}
			}
			return place{class, slot}, true
		}
		// Every unit with a free slot is being written: use the first of them.
		if slot, ok := s.free.set.next(0); ok {
			s.free.reserve(slot)
			return place{class, slot}, true
		}
	}
	n := s.units(s.extent)
	if r.Op.Deletes() && (s.refused || n == 0) { // a tombstone fits into every larger slot
		if at, ok = p.reserveAbove(class); ok {
			return at, true
		}
		if p.reserved > 0 || len(p.deferred) > 0 { // each of these will free a slot
			p.waitIn(&p.noSlot, r)
			return place{}, false
		}
	}
	p.awaitGrowth(r, s, n)
	return place{}, false
}

// reserveAbove reserves a free slot of the smallest larger class that has one.
func (p *Partition) reserveAbove(class uint8) (at place, ok bool) {
	for c := int(class) + 1; c < len(p.slabs); c++ {
		if slot, ok := p.slabs[c].free.set.next(0); ok {
			p.slabs[c].free.reserve(slot)
			return place{uint8(c), slot}, true
		}
	}
	return place{}, false
}

// Room for tombstones. A delete takes a slot and, when its tombstone is on disk, frees the slot of the item, which is large enough for the
// tombstone of the next delete. So a store that cannot grow can be emptied through a few slots, if these are large enough for every
// key: those of tombClass and above. A partition keeps tombRoomMin of them from all changes that would leave fewer, which are those that put a new
// item or move one to another class, and grows by an extent of extentMin (48 slots) when it has fewer than tombRoomWanted. What is between the two is
// for deletes of items in smaller slots, which free none of tombClass: as many as there are smaller classes, at most, before one finds
// a free slot below (each frees one of a larger class than any that was free). Deletes that find no slot free wait for changes that are under way.
const (
	tombRoomMin    = smallClasses
	tombRoomWanted = 2 * tombRoomMin
)

// tombClass is the smallest class that holds a tombstone of any key.
var tombClass = classOf(itemBytes(KeyBytesMax, 0))

// roomForTombs reports whether a new item may take a slot. It also makes the partition grow when room for tombstones is short.
func (p *Partition) roomForTombs() bool {
	s := &p.slabs[tombClass]
	if s.free.count >= tombRoomWanted {
		return true
	}
	room := uint64(0)
	for c := int(tombClass); c < len(p.slabs); c++ {
		room += uint64(p.slabs[c].free.count)
	}
	if room < tombRoomWanted && !s.growing && !s.refused {
		p.growSlab(s, s.units(extentMin))
	}
	return room > tombRoomMin
}

// awaitGrowth lets r wait until a slab has grown by n bytes or more. r fails if that growth has just failed.
func (p *Partition) awaitGrowth(r *kv.Request, s *slab, n int64) {
	switch {
	case n == 0:
		p.finish(r, kv.StatusNoSpace)
	case p.refusing == s:
		p.finish(r, p.refusal)
	default:
		s.waiting.Push(r)
		if !s.growing {
			p.growSlab(s, n)
		}
	}
}

// fit rates a page with free slots for a change: 0 if it is being written, 1 if it must be read first, 2 if it can be changed now.
func (p *Partition) fit(class uint8, page uint32) int {
	s := &p.slabs[class]
	f := p.cache.find(pageID(class)<<32 | pageID(page))
	switch {
	case f == 0 && page < s.fresh && !s.ownPages():
		return 1
	case f != 0 && p.cache.frames[f].state == frameWriting:
		return 0
	}
	return 2
}

// growSlab queues the growth of a slab.
func (p *Partition) growSlab(s *slab, bytes int64) {
	s.growing, s.growth = true, bytes
	p.grows = append(p.grows, s.class) // each slab at most once: capacity is the number of classes
}

func (p *Partition) slabGrown(s *slab, bytes int64, errno syscall.Errno) {
	if errno == syscall.EOPNOTSUPP || errno == syscall.ENOSYS { // then writes find whether there is space
		errno = 0
		if err := p.files.extend(s.class, s.bytes()+bytes); err != nil {
			errno = syscall.ENOSPC
		}
	}
	if statusOf(errno) == kv.StatusNoSpace && !p.closing && s.shrink() {
		s.growth = s.units(min(s.extent, s.growth))
		p.grows = append(p.grows, s.class)
		return
	}
	s.growing = false
	waiting := s.waiting.Detach()
	if errno == 0 {
		s.grown(bytes)
		p.fullLogged = false
		for i := range p.slabs { // they may try again, too; else tombstones would continue to use larger slots
			p.slabs[i].refused = false
		}
		p.resume(waiting)
		return
	}
	s.refused = true
	p.logFull(s, errno)
	p.refusing, p.refusal = s, statusOf(errno)
	p.resume(waiting) // some may find a slot that was freed since
	p.refusing = nil
}

// logFull logs that a slab cannot grow: once, and again only after a slab has grown and fullPause has passed.
func (p *Partition) logFull(s *slab, errno syscall.Errno) {
	if p.fullLogged || p.l.Now() < p.fullLogAt {
		return
	}
	p.fullLogged, p.fullLogAt = true, p.l.Now()+fullPause
	p.o.Log.Error("a slab cannot grow: requests that need it are refused, all others are served", "file", slabPath(p.o.Dir, p.shard, s.class), "reason", errno, "remedy", spaceRemedy(errno, "free some space")+", or delete keys")
}

const fullPause = 10e9 // ns

// growMemory adds memory to a slab of the mem backend, up to MemBytes.
func (p *Partition) growMemory(s *slab) bool {
	n := s.memChunk()
	if most := p.o.MemBytes; most > 0 && p.count.memBytes+n > int64(most) || !s.growMemory() {
		return false
	}
	p.count.memBytes += n
	return true
}
