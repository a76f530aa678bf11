package store

import (
	"bytes"
	"syscall"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/index"
)

// A change of a small item is in its page before it is on disk, and until then a crash or a failing disk may undo it. So a read that comes upon
// it waits for its end, and notes for which slot. When that is on disk it takes what is there, although the key
// may have been changed again: that was after the read had begun, and else a key that is changed all the time could never be read.

// get answers from the page that holds the item, when it is there.
func (p *Partition) get(r *kv.Request) {
	if at, ok := popAwaited(r); ok {
		switch it, v := p.awaited(at, r.Key); v {
		case slotLive:
			p.answer(r, it, kv.StatusOK)
			return
		case slotTombstone:
			p.finish(r, kv.StatusNotFound)
			return
		}
	}
	rec, ok := p.recall(r)
	if !ok {
		p.finish(r, kv.StatusNotFound)
		return
	}
	if f := p.index.Flags(rec); f&(flagHidden|flagTomb) != 0 {
		if !p.awaits(r, rec, f) {
			p.finish(r, kv.StatusNotFound)
		}
		return
	}
	it, s, ok := p.itemOf(r, rec)
	if !ok {
		return
	}
	if s == kv.StatusOK && p.table != nil {
		p.table.Put(r.Key, it.value)
	}
	p.answer(r, it, s)
}

// itemOf gives what lies at r's record; not ok: r has ended, or goes on when that was read.
func (p *Partition) itemOf(r *kv.Request, rec uint32) (it item, s kv.Status, ok bool) {
	if p.index.Flags(rec)&flagCorrupt != 0 {
		p.count.corrupt++
		p.finish(r, kv.StatusCorrupt)
		return it, s, false
	}
	at := p.at(rec)
	if p.files != nil && at.large() {
		if s = roomToRead(r, p.largeBytes(at)-len(r.Key), p.o.Limits.MaxValueBytes); s != kv.StatusOK {
			p.finish(r, s)
		} else {
			p.readLarge(r, at)
		}
		return it, s, false
	}
	return p.item(r, at, r.Key)
}

// recall finds a get's record. It uses the stored record number if that is still valid, because a Find costs two or more cache misses.
func (p *Partition) recall(r *kv.Request) (rec uint32, ok bool) {
	if rec = recordOf(r, p.index.Deletes()); rec != 0 {
		return rec, true
	}
	if rec, ok = p.index.Find(r.Key); ok {
		setRecord(r, rec, p.index.Deletes())
	}
	return rec, ok
}

// answer ends a get.
func (p *Partition) answer(r *kv.Request, it item, s kv.Status) {
	if s == kv.StatusOK {
		s = roomFor(r, len(it.value))
	}
	if s == kv.StatusOK {
		r.Value = append(r.Value[:0], it.value...)
		p.l.Stats.Copied += uint64(len(it.value))
	}
	p.finish(r, s)
}

// roomToRead is OK if r, a get or an update, has the room that an item's value of so many bytes takes, and otherwise how r ends; most is the
// longest value. The length of a large item is known before it is read, so one that has to be requested again, with more room, is read once.
func roomToRead(r *kv.Request, bytes, most int) kv.Status {
	switch r.Op {
	case kv.OpGet:
		return roomFor(r, bytes)
	case kv.OpAppend:
		if bytes+len(r.Value) > most {
			return kv.StatusTooLarge
		}
		return roomFor(r, bytes+len(r.Value))
	case kv.OpSwap:
		return roomFor(r, bytes+len(r.Value))
	}
	return kv.StatusOK
}

func roomFor(r *kv.Request, bytes int) kv.Status {
	if bytes > cap(r.Value) {
		r.Need = uint32(bytes)
		return kv.StatusTooSmall
	}
	return kv.StatusOK
}

// item gives a key's item in place: with the mem backend any, with the disk backend one that shares
// its page. ok is false when r has to wait; it is run again then.
func (p *Partition) item(r *kv.Request, at place, key []byte) (it item, s kv.Status, ok bool) {
	if p.files == nil {
		it, _ = peekItem(p.slabs[at.class].memory(at.slot))
		return it, kv.StatusOK, true
	}
	f := p.page(r, at, false)
	if f == 0 {
		return item{}, 0, false
	}
	if !r.Op.Changes() && p.awaitsSlot(r, f, at) {
		return item{}, 0, false
	}
	it, s = p.inPage(f, at, key)
	return it, s, true
}

// awaits reports whether a key's present value, or its deletion, is not on disk yet; r is run again when it is. f are the record's
// flags. A change that only tells of it waits, too: one that writes has a later place, and is on disk itself when it is acknowledged.
func (p *Partition) awaits(r *kv.Request, rec uint32, f index.Flags) bool {
	if p.files == nil || f&flagHidden != 0 {
		return false
	}
	at := p.at(rec)
	return !at.large() && p.awaitsSlot(r, p.cache.find(at.id()), at)
}

// awaitsSlot is awaits of a slot, whose page is in the frame f, or in none.
func (p *Partition) awaitsSlot(r *kv.Request, f uint32, at place) bool {
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

// awaited gives what a read has waited for: slotLive or slotTombstone, or slotUnused if the slot is another's by now. It is
// called in the step in which the write ended, so that the page is there, or was dropped because its write has failed.
func (p *Partition) awaited(at place, key []byte) (item, verdict) {
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

// inPage gives the item in a slot of a page, after checking it once per stay in the cache.
func (p *Partition) inPage(f uint32, at place, key []byte) (item, kv.Status) {
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
	it, s := p.judge(b, key)
	if s == kv.StatusOK {
		fr.verified |= 1 << at.nth()
	}
	return it, s
}

// judge checks what was read from disk: only the whole item of that key is served.
func (p *Partition) judge(b, key []byte) (item, kv.Status) {
	it, v := parseSlot(b)
	switch {
	case v == slotLive && bytes.Equal(it.key, key):
		return it, kv.StatusOK
	}
	p.count.corrupt++
	return item{}, kv.StatusCorrupt
}

// page gives the frame that holds the page of a slot. 0 means that r waits, for the page or for a frame,
// and is run again. blank says that the caller will overwrite the whole page, or that it is known
// to be zero: it is not read then.
func (p *Partition) page(r *kv.Request, at place, blank bool) uint32 {
	c := p.cache
	id := at.id()
	f := c.find(id)
	if f != 0 {
		if !p.resumed {
			p.count.hits++
		}
		fr := &c.frames[f]
		fr.used = true
		if fr.state == frameReading {
			p.count.joins++
			fr.waiting.Push(r)
			return 0
		}
		return f
	}
	if p.behind(&p.noFrame) {
		p.starve(&p.noFrame, r)
		return 0
	}
	if f = c.take(id); f == 0 {
		p.starve(&p.noFrame, r)
		return 0
	}
	if blank {
		clear(c.page(f))
		c.set(f, frameClean)
		return f
	}
	p.count.misses++
	c.frames[f].waiting.Push(r)
	c.push(&c.toRead, f)
	return 0
}

// prefetch begins to read a page that will be wanted soon, if that takes nothing from others.
func (p *Partition) prefetch(at place) {
	c := p.cache
	if c.find(at.id()) != 0 || !p.noFrame.Empty() || c.clean < len(c.frames)/2 {
		return
	}
	if f := c.take(at.id()); f != 0 {
		p.count.misses++
		c.push(&c.toRead, f)
	}
}

func (p *Partition) pageRead(f uint32, errno syscall.Errno) {
	waiting := p.cache.frames[f].waiting.Take()
	if errno != 0 {
		p.cache.drop(f)
		p.abortAll(waiting, statusOf(errno))
		return
	}
	p.cache.set(f, frameClean)
	p.resume(waiting)
}

// readLarge reads an item that has pages of its own into a buffer. The slot stays as it is until the
// read has ended: see release.
func (p *Partition) readLarge(r *kv.Request, at place) {
	n := roundUp(headerBytes+p.largeBytes(at), pageBytes)
	if b := p.buffer(r, n); b != nil {
		p.beginItem(readItem, r, at, b)
	}
}

// largeBytes is how many bytes key and value of a large item have.
func (p *Partition) largeBytes(at place) int {
	return int(p.slabs[at.class].whole[at.slot].bytes) - headerBytes
}

// buffer gives n bytes for a large item, and sees to it that a transfer is to be had; nil means that r waits.
func (p *Partition) buffer(r *kv.Request, n int) []byte {
	if !p.behind(&p.noBuffer) && p.io.Room() {
		if b := p.buffers.Alloc(n); b != nil {
			return b
		}
	}
	p.starve(&p.noBuffer, r)
	return nil
}

func (p *Partition) itemRead(t *transfer, errno syscall.Errno) {
	r := t.r
	switch {
	case errno != 0:
		p.abort(r, statusOf(errno))
	case r.Op == kv.OpScan:
		p.scanLarge(r, t.whole)
	case r.Op.Updates():
		p.updateLarge(r, t.at(), t.whole)
	default:
		it, s := p.judge(t.whole, r.Key)
		if s == kv.StatusOK && p.table != nil {
			if rec, ok := p.index.Find(r.Key); ok && p.at(rec) == t.at() { // the key was not changed during the read
				p.table.Put(r.Key, it.value)
			}
		}
		p.answer(r, it, s)
	}
	p.buffers.Free(t.whole)
	if len(p.lingers) > 0 {
		p.linger()
	}
}
