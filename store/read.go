package store

import (
	"bytes"
	"syscall"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/index"
)

// A change of a small item is in its page before it is on disk, and until then a crash or a failing disk may undo it. So a read of it waits for
// the write, and records the slot. Then it returns the item in that slot, even if the key was changed again since: that change began after the
// read. Otherwise a key that changes all the time could never be read.

// get answers with the key's item, once its page is in the cache.
func (p *Partition) get(r *kv.Request) {
	if at, ok := popAwaited(r); ok {
		switch it, v := p.awaitedItem(at, r.Key); v {
		case slotLive:
			p.answer(r, it, kv.StatusOK)
			return
		case slotTombstone:
			p.finish(r, kv.StatusNotFound)
			return
		}
	}
	rec, ok := p.findRecord(r)
	if !ok {
		p.finish(r, kv.StatusNotFound)
		return
	}
	if f := p.index.Flags(rec); f&(flagHidden|flagTomb) != 0 {
		if !p.waitsForKey(r, rec, f) {
			p.finish(r, kv.StatusNotFound)
		}
		return
	}
	it, s, ok := p.fetchItem(r, rec)
	if !ok {
		return
	}
	if s == kv.StatusOK && p.table != nil {
		p.table.Put(r.Key, it.value)
	}
	p.answer(r, it, s)
}

// fetchItem returns the item of r's record. ok is false if r has ended, or waits for a read.
func (p *Partition) fetchItem(r *kv.Request, rec uint32) (it item, s kv.Status, ok bool) {
	if p.index.Flags(rec)&flagCorrupt != 0 {
		p.count.corrupt++
		p.finish(r, kv.StatusCorrupt)
		return it, s, false
	}
	at := p.placeOf(rec)
	if p.files != nil && at.large() {
		if s = checkReadRoom(r, p.largeBytes(at)-len(r.Key), p.o.Limits.MaxValueBytes); s != kv.StatusOK {
			p.finish(r, s)
		} else {
			p.readLarge(r, at)
		}
		return it, s, false
	}
	return p.itemAt(r, at, r.Key)
}

// findRecord returns a get's record. It uses the stored record number if that is still valid, because a Find costs two or more cache misses.
func (p *Partition) findRecord(r *kv.Request) (rec uint32, ok bool) {
	if rec = recordOf(r, p.index.Deletes()); rec != 0 {
		return rec, true
	}
	if rec, ok = p.index.Find(r.Key); ok {
		setRecord(r, rec, p.index.Deletes())
	}
	return rec, ok
}

// answer ends a get with an item.
func (p *Partition) answer(r *kv.Request, it item, s kv.Status) {
	if s == kv.StatusOK {
		s = checkRoom(r, len(it.value))
	}
	if s == kv.StatusOK {
		r.Value = append(r.Value[:0], it.value...)
		p.l.Stats.Copied += uint64(len(it.value))
	}
	p.finish(r, s)
}

// checkReadRoom returns StatusOK if r, a get or an update, has room for a value of that many bytes, and otherwise the status with which r ends; most is
// the longest value. The length of a large item is known before it is read, so a request that must be repeated with more room costs no read.
func checkReadRoom(r *kv.Request, bytes, most int) kv.Status {
	switch r.Op {
	case kv.OpGet:
		return checkRoom(r, bytes)
	case kv.OpAppend:
		if bytes+len(r.Value) > most {
			return kv.StatusTooLarge
		}
		return checkRoom(r, bytes+len(r.Value))
	case kv.OpSwap:
		return checkRoom(r, bytes+len(r.Value))
	}
	return kv.StatusOK
}

func checkRoom(r *kv.Request, bytes int) kv.Status {
	if bytes > cap(r.Value) {
		r.Need = uint32(bytes)
		return kv.StatusTooSmall
	}
	return kv.StatusOK
}

// itemAt returns the item in a slot, without a copy: any item with the mem backend, a small one with the disk backend. ok is false if r must
// wait; then it is run again.
func (p *Partition) itemAt(r *kv.Request, at place, key []byte) (it item, s kv.Status, ok bool) {
	if p.files == nil {
		it, _ = peekItem(p.slabs[at.class].memory(at.slot))
		return it, kv.StatusOK, true
	}
	f := p.frameOf(r, at, false)
	if f == 0 {
		return item{}, 0, false
	}
	if !r.Op.Changes() && p.waitsForSlot(r, f, at) {
		return item{}, 0, false
	}
	it, s = p.itemInPage(f, at, key)
	return it, s, true
}

// waitsForKey reports whether a key's present value, or its deletion, is not on disk yet. Then r waits for it, and is run again. f are the record's
// flags. A change whose answer only depends on the present value waits, too. A change that writes need not wait: it is acknowledged after its own
// later write.
func (p *Partition) waitsForKey(r *kv.Request, rec uint32, f index.Flags) bool {
	if p.files == nil || f&flagHidden != 0 {
		return false
	}
	at := p.placeOf(rec)
	return !at.large() && p.waitsForSlot(r, p.cache.find(at.id()), at)
}

// waitsForSlot is waitsForKey for a slot whose page is in frame f; 0: in none.
func (p *Partition) waitsForSlot(r *kv.Request, f uint32, at place) bool {
	fr := &p.cache.frames[f]
	if fr.ahead>>at.nth()&1 == 0 {
		return false
	}
	if r.Op == kv.OpGet || r.Op == kv.OpScan {
		setAwaited(r, at)
	}
	fr.waiting.Push(r)
	return true
}

// awaitedItem returns the item that a read has waited for: slotLive or slotTombstone, or slotUnused if the slot has another key's item now. It is
// called in the step in which the write ended, so the page is in the cache, or was dropped because its write has failed.
func (p *Partition) awaitedItem(at place, key []byte) (item, verdict) {
	f := p.cache.find(at.id())
	if fr := &p.cache.frames[f]; f == 0 || fr.state == frameReading || fr.ahead>>at.nth()&1 != 0 {
		return item{}, slotUnused
	}
	it, _ := peekItem(p.cache.page(f)[at.offset():][:classes[at.class].bytes])
	switch {
	case !bytes.Equal(it.key, key):
		return item{}, slotUnused
	case it.kind == kindTombstone:
		return it, slotTombstone
	}
	return it, slotLive
}

// itemInPage returns the item in a slot of a page. It checks an item once per stay of its page in the cache.
func (p *Partition) itemInPage(f uint32, at place, key []byte) (item, kv.Status) {
	fr := &p.cache.frames[f]
	off := at.offset()
	b := p.cache.page(f)[off : off+classes[at.class].bytes]
	if servesStale {
		b = p.staleSlot(at, key, b)
	}
	if fr.verified>>at.nth()&1 != 0 {
		it, _ := peekItem(b)
		return it, kv.StatusOK
	}
	it, s := p.verifyItem(b, key)
	if s == kv.StatusOK {
		fr.verified |= 1 << at.nth()
	}
	return it, s
}

// verifyItem checks bytes that were read from disk. Only an intact item of that key is returned.
func (p *Partition) verifyItem(b, key []byte) (item, kv.Status) {
	it, v := parseSlot(b)
	switch {
	case v == slotLive && bytes.Equal(it.key, key):
		return it, kv.StatusOK
	}
	p.count.corrupt++
	return item{}, kv.StatusCorrupt
}

// frameOf returns the frame with the page of a slot. 0: r waits, for the page or for a frame, and is run again. blank: the page is zero on
// disk, or the caller overwrites all of it, so it is not read.
func (p *Partition) frameOf(r *kv.Request, at place, blank bool) uint32 {
	c := p.cache
	id := at.id()
	f := c.find(id)
	if f != 0 {
		if !p.resumed { // a resumed request was counted before: as the miss that read the page, or as a hit that joined it
			p.count.hits++
			c.frames[f].used = true
		}
		fr := &c.frames[f]
		if fr.state == frameReading {
			p.count.joins++
			fr.waiting.Push(r)
			return 0
		}
		return f
	}
	if p.othersWait(&p.noFrame) {
		p.waitIn(&p.noFrame, r)
		return 0
	}
	if f = c.assign(id); f == 0 {
		p.waitIn(&p.noFrame, r)
		return 0
	}
	if blank {
		c.frames[f].used = true // as by the requests that will fill it: so pages of new items leave in the order in which they came
		clear(c.page(f))
		c.set(f, frameClean)
		return f
	}
	p.count.misses++
	p.reads++
	c.frames[f].demanded = true
	c.frames[f].waiting.Push(r)
	c.push(&c.toRead, f)
	return 0
}

// prefetch begins to read a page that will be needed soon, if no request waits for a frame and at least half of the frames are clean.
func (p *Partition) prefetch(at place) {
	c := p.cache
	if c.find(at.id()) != 0 || !p.noFrame.Empty() || c.clean < len(c.frames)/2 {
		return
	}
	if f := c.assign(at.id()); f != 0 {
		p.count.misses++
		c.push(&c.toRead, f)
	}
}

func (p *Partition) pageRead(f uint32, errno syscall.Errno) {
	fr := &p.cache.frames[f]
	if fr.demanded {
		fr.demanded = false
		p.reads--
	}
	waiting := fr.waiting.Detach()
	if errno != 0 {
		p.cache.drop(f)
		p.abortAll(waiting, statusOf(errno))
		return
	}
	p.cache.set(f, frameClean)
	p.resume(waiting)
}

// readLarge reads an item that has pages of its own into a buffer. The slot is not reused before the read has ended: see freeSlot.
func (p *Partition) readLarge(r *kv.Request, at place) {
	n := roundUp(headerBytes+p.largeBytes(at), pageBytes)
	if b := p.allocBuffer(r, n); b != nil {
		p.beginItem(readItem, r, at, b)
	}
}

// largeBytes returns the length of a large item's key and value together.
func (p *Partition) largeBytes(at place) int {
	return int(p.slabs[at.class].soleSlots[at.slot].bytes) - headerBytes
}

// allocBuffer returns n bytes for a large item, if a transfer can begin, too; nil: r waits.
func (p *Partition) allocBuffer(r *kv.Request, n int) []byte {
	if !p.othersWait(&p.noBuffer) && p.io.Room() {
		if b := p.buffers.Alloc(n); b != nil {
			return b
		}
	}
	p.waitIn(&p.noBuffer, r)
	return nil
}

func (p *Partition) itemRead(t *transfer, errno syscall.Errno) {
	r := t.r
	switch {
	case errno != 0:
		p.abort(r, statusOf(errno))
	case r.Op == kv.OpScan:
		p.scanLarge(r, t.buffer)
	case r.Op.Updates():
		p.updateLarge(r, t.place(), t.buffer)
	default:
		it, s := p.verifyItem(t.buffer, r.Key)
		if s == kv.StatusOK && p.table != nil {
			if rec, ok := p.index.Find(r.Key); ok && p.placeOf(rec) == t.place() { // the key was not changed during the read
				p.table.Put(r.Key, it.value)
			}
		}
		p.answer(r, it, s)
	}
	p.buffers.Free(t.buffer)
	if len(p.deferred) > 0 {
		p.freeDeferred()
	}
}
