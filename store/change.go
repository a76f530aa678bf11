package store

import (
	"syscall"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/index"
)

// A change, put or delete, writes its item, or a tombstone, to a free slot, and frees the slot of the item before it
// when that write has ended (adr/0007). The page that it writes holds besides only slots that are free, or whose bytes
// stay as they are: so whatever part of a page write reaches the disk, no item that was there is hurt, and among
// the copies of a key the highest sequence number counts. With UpdateInPlace an item of the same class
// is written over the one before it instead, and a torn write may lose both.
//
// Reads see an item when it is on disk: until then they wait for a small one, whose record points to it as soon as it is in its page, and see what
// was before a large one.

// phase is how far a change has come.
type phase uint8

const (
	phaseNew      phase = iota // nothing was taken for it
	phaseClaimed               // has a slot, and its key's record is busy
	phaseOnItsWay              // in its page or its buffer, which is being written
)

type changeMarks uint8

const (
	markOld     changeMarks = 1 << iota // there was an item, or a tombstone, of the key before it
	markOldTomb                         // … a tombstone
	markInPlace                         // it is written over the one before it
)

// change begins a put or delete.
func (p *Partition) change(r *kv.Request) {
	x := p.index
	rec, found := x.Find(r.Key)
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

// finishUnchanged ends a change that changes nothing for what its key has, when that is on disk.
func (p *Partition) finishUnchanged(r *kv.Request, rec uint32, found bool, s kv.Status) {
	if !found || !p.awaits(r, rec, p.index.Flags(rec)) {
		p.finish(r, s)
	}
}

// changeFrom continues a change that no other change can overtake. An update's new value is made from the present item: see update.go.
func (p *Partition) changeFrom(r *kv.Request, rec uint32, found bool, old []byte) {
	x := p.index
	there := found && x.Flags(rec)&(flagHidden|flagTomb) == 0
	bytes, s := updated(r, old, there, p.o.Limits.MaxValueBytes)
	if s != kv.StatusOK {
		p.finishUnchanged(r, rec, found, s)
		return
	}
	if p.files == nil {
		p.changeMemory(r, rec, found, old, bytes)
		return
	}
	c := change{phase: phaseClaimed}
	class := classOf(itemBytes(len(r.Key), bytes))
	if there && p.o.Update == UpdateInPlace && r.Op == kv.OpPut && p.at(rec).class == class && !p.at(rec).large() {
		c.to, c.marks = p.at(rec), markInPlace
	} else {
		frees := there && (r.Op.Deletes() || p.at(rec).class == class)
		to, ok := p.claim(r, class, there, frees)
		if !ok {
			return
		}
		c.to = to
		p.claims++
	}
	if !found {
		var ok bool
		if rec, ok = x.Insert(r.Key); !ok {
			p.slabs[c.to.class].free.put(c.to.slot)
			p.claims--
			p.freed = true
			p.finish(r, kv.StatusBusy)
			return
		}
		x.SetFlags(rec, flagHidden)
	}
	x.SetFlags(rec, x.Flags(rec)|flagBusy)
	update(r, old, there)
	c.rec = rec
	c.keep(r, rec)
	p.store(r)
}

// changeMemory is changeFrom for the mem backend: at once.
func (p *Partition) changeMemory(r *kv.Request, rec uint32, found bool, old []byte, bytes int) {
	x := p.index
	if r.Op.Deletes() {
		p.unexport(r.Key)
		at := p.at(rec)
		x.Delete(rec)
		update(r, old, true)
		p.slabs[at.class].free.put(at.slot)
		p.count.items--
		p.finish(r, kv.StatusOK)
		return
	}
	class := classOf(itemBytes(len(r.Key), bytes))
	if !found || p.at(rec).class != class {
		s := &p.slabs[class]
		slot, ok := s.take(nil)
		if !ok && p.growMemory(s) {
			slot, ok = s.take(nil)
		}
		if !ok {
			p.finish(r, kv.StatusNoSpace)
			return
		}
		if found {
			old := p.at(rec)
			p.slabs[old.class].free.put(old.slot)
		} else {
			if rec, ok = x.Insert(r.Key); !ok {
				s.free.put(slot)
				p.finish(r, kv.StatusBusy)
				return
			}
			p.count.items++
		}
		p.setAt(rec, place{class, slot})
	}
	p.unexport(r.Key)
	update(r, old, found)
	p.encode(p.slabs[class].memory(p.at(rec).slot), r, kindLive)
	p.offer(r.Key, r.Value)
	p.finish(r, kv.StatusOK)
}

// store puts a change that has a slot into it.
func (p *Partition) store(r *kv.Request) {
	c := changeOf(r)
	if c.marks&markInPlace != 0 && (p.at(c.rec) != c.to || p.index.Flags(c.rec)&flagHidden != 0) {
		p.restart(r, c.rec) // the item that it was to be written over could not be written, and is gone
		return
	}
	if p.window.full() {
		p.starve(&p.noFrame, r)
		return
	}
	if c.to.large() {
		p.storeLarge(r, c)
	} else if f := p.pageToChange(r, c.to); f != 0 {
		p.apply(r, c, f)
	}
}

// restart begins a change in place anew.
func (p *Partition) restart(r *kv.Request, rec uint32) {
	if f := p.index.Flags(rec); f&flagHidden != 0 {
		p.index.Delete(rec)
	} else {
		p.index.SetFlags(rec, f&^flagBusy)
	}
	r.Work = kv.Work{}
	p.change(r)
}

// pageToChange gives the frame of a slot's page, in a state in which it may be changed. 0 means
// that r waits: also for the end of a write, since a page in flight must not change.
func (p *Partition) pageToChange(r *kv.Request, at place) uint32 {
	s := &p.slabs[at.class]
	fresh := at.page() >= s.fresh
	f := p.page(r, at, fresh || s.alone())
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

// apply puts a small item, or a tombstone, into its page. The request goes on when the page is written.
func (p *Partition) apply(r *kv.Request, c change, f uint32) {
	x, fr, rec := p.index, &p.cache.frames[f], c.rec
	b := p.cache.page(f)[c.to.offset():][:classes[c.to.class].bytes]
	p.unexport(r.Key)
	kind := uint8(kindLive)
	switch {
	case r.Op.Deletes():
		kind = kindTombstone
	case c.marks&markInPlace != 0:
		kind = kindOver
	}
	if kind == kindOver {
		p.slabs[c.to.class].forget(c.to, b)
	} else {
		c.stale = p.overwrites(c.to, b)
	}
	if servesStale {
		p.keepStale(c.to, b)
	}
	c.low = uint16(p.encode(b, r, kind).seq)
	p.slabs[c.to.class].note(c.to, b)
	fr.verified |= 1 << c.to.nth()
	fr.ahead |= 1 << c.to.nth()
	was := x.Flags(rec)
	if kind != kindOver {
		if was&flagHidden == 0 {
			c.old = p.at(rec)
			c.marks |= markOld
			if was&flagTomb != 0 {
				c.marks |= markOldTomb
			} else {
				p.stale.add(kv.Hash(r.Key))
			}
		}
		p.setAt(rec, c.to)
	}
	p.turned(rec, was, kind)
	c.phase = phaseOnItsWay
	c.keep(r, c.old.slot)
	if ackEarly {
		r = p.acknowledgeEarly(r)
	}
	fr.applied.Push(r)
	if fr.state == frameClean {
		p.cache.set(f, frameDirty)
		p.cache.push(&p.cache.toWrite, f)
	}
	p.wakeKey(rec)
}

// turned notes of a record what its key has now, after a change of that kind.
func (p *Partition) turned(rec uint32, was index.Flags, kind uint8) {
	now := was &^ (flagBusy | flagHidden | flagTomb | flagCorrupt)
	if kind == kindTombstone {
		now |= flagTomb
	}
	p.setFlags(rec, was, now)
}

// setFlags changes a record's flags, and counts the change.
func (p *Partition) setFlags(rec uint32, was, now index.Flags) {
	p.index.SetFlags(rec, now)
	p.count.key(was, -1)
	p.count.key(now, 1)
}

// overwrites returns the stale copy, if any, that is lost when a slot with the bytes b is written (change.stale).
func (p *Partition) overwrites(at place, b []byte) (stale uint32) {
	s := &p.slabs[at.class]
	it, v := s.forget(at, b)
	if s.alone() {
		if w := &s.whole[at.slot]; w.has {
			w.has = false
			return w.stale | staleNoted
		}
	} else if v == slotLive {
		return kv.Hash(it.key) | staleNoted
	}
	return 0
}

// staleNoted in change.stale means that the bits below it are from the hash of a key whose stale copy is lost. The lost bit
// is above those that any table of counters looks at.
const staleNoted = 1 << 31

func (p *Partition) encode(b []byte, r *kv.Request, kind uint8) stamp {
	st := p.window.next(kind)
	value := r.Value
	if kind == kindTombstone {
		value = nil
	}
	encodeItem(b, r.Key, value, st)
	p.l.Stats.Copied += uint64(len(value))
	return st
}

// storeLarge writes an item, or a tombstone, to a slot with pages of its own, as far as it reaches.
func (p *Partition) storeLarge(r *kv.Request, c change) {
	kind, n := uint8(kindLive), itemBytes(len(r.Key), len(r.Value))
	if r.Op.Deletes() {
		kind, n = kindTombstone, itemBytes(len(r.Key), 0)
	}
	b := p.buffer(r, roundUp(n, pageBytes))
	if b == nil {
		return
	}
	c.stale = p.overwrites(c.to, nil)
	c.low = uint16(p.encode(b, r, kind).seq)
	clear(b[n:]) // what others left in the buffer does not go to disk
	s := &p.slabs[c.to.class]
	s.note(c.to, b)
	s.whole[c.to.slot].bytes = uint32(n)
	c.phase = phaseOnItsWay
	c.keep(r, c.rec)
	p.beginItem(writeItem, r, c.to, b)
}

func (p *Partition) pageWritten(f uint32, errno syscall.Errno) {
	fr := &p.cache.frames[f]
	applied, waiting := fr.applied.Take(), fr.waiting.Take()
	if errno != 0 {
		p.writeFailed(errno)
		p.cache.drop(f) // the disk may hold the old page or the new one: ask it
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
		buried := 0
		for r := applied.Pop(); r != nil; r = applied.Pop() {
			buried += p.written(r, f)
		}
		p.dropTombs(2 * buried)
	}
	p.resume(waiting)
}

// written ends a change of which the page, in the frame f, is on disk. It returns 1 if tombstones may have become superfluous.
func (p *Partition) written(r *kv.Request, f uint32) (buried int) {
	c := changeOf(r)
	buried = p.settled(c.low, c.stale)
	if c.marks&markInPlace == 0 {
		p.claims--
	}
	if c.marks&markOld != 0 {
		p.release(c.old, r.Key, c.marks&markOldTomb == 0)
	}
	if r.Op.Deletes() {
		buried = 1
		if rec, ok := p.index.Find(r.Key); ok && p.index.Flags(rec)&(flagTomb|flagQueued) == flagTomb {
			p.queueTomb(rec)
		}
	} else if p.table != nil {
		p.offerWritten(r.Key, c.to, f)
	}
	p.finish(r, kv.StatusOK)
	return buried
}

// offerWritten offers what the page in f, which is on disk as it is, has in a slot, if it is still what the key has. It takes the item from
// the page: a change of the same slot may have followed r's into it.
func (p *Partition) offerWritten(key []byte, at place, f uint32) {
	rec, ok := p.index.Find(key)
	if !ok || p.at(rec) != at || p.index.Flags(rec)&(flagHidden|flagTomb|flagCorrupt) != 0 {
		return
	}
	if it, ok := peekItem(p.cache.page(f)[at.offset():][:classes[at.class].bytes]); ok {
		p.offer(key, it.value)
	}
}

// settled notes that the change with these low bits of its sequence number is on disk. stale names the copy that it overwrote (change.stale); 0: none.
func (p *Partition) settled(low uint16, stale uint32) (buried int) {
	p.window.complete(low)
	if stale != 0 {
		p.stale.sub(stale)
		return 1
	}
	return 0
}

// release frees a slot. stale is true if the slot holds a copy of key's item that was counted.
func (p *Partition) release(at place, key []byte, stale bool) {
	l := lingering{at: at}
	if stale && p.slabs[at.class].alone() {
		l.hash, l.stale = kv.Hash(key), true
	}
	if at.large() && p.reading(at) {
		p.lingers = append(p.lingers, l) // bounded by the transfers under way
		return
	}
	p.put(l)
}

// lingering is a slot that is freed when a read of it has ended.
type lingering struct {
	at    place
	stale bool   // it has its pages to itself, and holds a copy that was counted
	hash  uint32 // … of the key with that hash
}

func (p *Partition) put(l lingering) {
	s := &p.slabs[l.at.class]
	s.free.put(l.at.slot)
	if l.stale {
		w := &s.whole[l.at.slot]
		w.stale, w.has = l.hash, true
	}
}

// linger frees the slots whose reads have ended.
func (p *Partition) linger() {
	keep := p.lingers[:0]
	for _, l := range p.lingers {
		if p.reading(l.at) {
			keep = append(keep, l)
		} else {
			p.put(l)
		}
	}
	p.lingers = keep
}

func (p *Partition) queueTomb(rec uint32) {
	p.index.SetFlags(rec, p.index.Flags(rec)|flagQueued)
	p.tombs.Append(rec)
}

// dropTombs looks at n tombstones, and frees those of whose keys no older copy is left.
func (p *Partition) dropTombs(n int) {
	x := p.index
	for n = min(n, p.tombs.Len()); n > 0 && !p.window.lost; n-- {
		rec := p.tombs.Pop()
		f := x.Flags(rec) &^ flagQueued
		x.SetFlags(rec, f)
		switch {
		case f&flagTomb == 0: // the key is there again
		case f&flagBusy != 0 || *p.stale.of(kv.Hash(x.Key(rec))) > 0:
			p.queueTomb(rec)
		default:
			at := p.at(rec)
			x.Delete(rec)
			p.count.key(f, -1)
			p.put(lingering{at: at})
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
	buried := p.settled(c.low, c.stale)
	p.claims--
	old, kind := p.at(c.rec), uint8(kindLive)
	if r.Op.Deletes() {
		kind = kindTombstone
	}
	p.unexport(r.Key)
	p.setAt(c.rec, c.to)
	p.turned(c.rec, was, kind)
	if was&flagHidden == 0 {
		if was&flagTomb == 0 {
			p.stale.add(kv.Hash(r.Key))
		}
		p.release(old, r.Key, was&flagTomb == 0)
	}
	if kind == kindTombstone {
		buried = 1
		p.queueTomb(c.rec)
	} else {
		p.offer(r.Key, r.Value)
	}
	p.finish(r, kv.StatusOK)
	p.dropTombs(2 * buried)
	p.wakeKey(c.rec)
}

// abandon gives back what a change that is not in its page has taken.
func (p *Partition) abandon(r *kv.Request, c change, s kv.Status) {
	if c.marks&markInPlace == 0 {
		p.slabs[c.to.class].free.put(c.to.slot)
		p.claims--
	}
	if f := p.index.Flags(c.rec); f&flagHidden != 0 {
		p.index.Delete(c.rec)
	} else {
		p.index.SetFlags(c.rec, f&^flagBusy)
	}
	p.freed = true
	p.finish(r, s)
	p.wakeKey(c.rec)
}

// writeFailed notes that nobody knows what the disk has of a write. What is told of it is StatusIOError, for whatever reason it failed: the
// others promise that nothing was done.
func (p *Partition) writeFailed(errno syscall.Errno) {
	if !p.window.lost {
		p.window.fail()
		p.o.Log.Warn("a write has failed: tombstones stay until the store is opened again", "shard", p.shard, "reason", errno, "remedy", spaceRemedy(errno, "see dmesg"))
	}
}

// undo takes a change back whose page could not be written: the key has again what it had before. The disk may
// have it all the same, and give it to who opens the store next, unless the key is changed again.
func (p *Partition) undo(r *kv.Request) {
	x, c := p.index, changeOf(r)
	p.unexport(r.Key) // who has read it since may have put it there
	if c.marks&markInPlace != 0 {
		p.finish(r, kv.StatusIOError)
		return
	}
	p.claims--
	if rec, found := x.Find(r.Key); found && p.at(rec) == c.to { // it is the key's last change
		p.revert(rec, c)
		p.slabs[c.to.class].free.put(c.to.slot)
	} else if later := p.changeAfter(c.to); later != nil { // which would free our slot: it frees the one before instead
		l := changeOf(later)
		l.marks = l.marks&^(markOld|markOldTomb) | c.marks&(markOld|markOldTomb)
		l.old = c.old
		l.keep(later, l.old.slot)
		p.slabs[c.to.class].free.put(c.to.slot)
	} else if c.marks&markOld != 0 { // a later one is on disk, and has freed our slot
		p.release(c.old, r.Key, c.marks&markOldTomb == 0)
	}
	p.finish(r, kv.StatusIOError)
}

// revert gives a key what it had before its last change.
func (p *Partition) revert(rec uint32, c change) {
	x := p.index
	was := x.Flags(rec)
	now := was &^ (flagTomb | flagCorrupt)
	switch {
	case c.marks&markOld == 0:
		now |= flagHidden
	case c.marks&markOldTomb != 0:
		now |= flagTomb
		fallthrough
	default:
		p.setAt(rec, c.old)
	}
	p.setFlags(rec, was, now)
	switch {
	case now&(flagHidden|flagBusy) == flagHidden:
		x.Delete(rec)
	case now&(flagTomb|flagQueued) == flagTomb:
		p.queueTomb(rec)
	}
}

// changeAfter is the small change on its way that replaces what is in that slot; nil if there is none. It looks
// everywhere: for failures only.
func (p *Partition) changeAfter(at place) (found *kv.Request) {
	for f := range p.cache.frames {
		q := p.cache.frames[f].applied.Take()
		for r := q.Pop(); r != nil; r = q.Pop() {
			if c := changeOf(r); c.marks&markOld != 0 && c.old == at {
				found = r
			}
			p.cache.frames[f].applied.Push(r)
		}
	}
	return found
}

// wakeKey runs what waited for a key that is not being changed any more.
func (p *Partition) wakeKey(rec uint32) {
	if q := p.keyList(rec); !q.Empty() {
		p.resume(q.Take())
	}
}

// abort ends a request that waits for something that will not come.
func (p *Partition) abort(r *kv.Request, s kv.Status) {
	if r.Op.Changes() {
		if c := changeOf(r); c.phase == phaseClaimed {
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

// claim takes a slot for a change. there: the key has an item, whose slot becomes free in turn; frees: that slot is as good for a
// tombstone as the one that is taken. If there is no slot, r waits until the slab has grown, or fails.
func (p *Partition) claim(r *kv.Request, class uint8, there, frees bool) (at place, ok bool) {
	s := &p.slabs[class]
	if p.behind(&p.noSlot) {
		if p.refusing == s && !r.Op.Deletes() { // it has waited for the slab, and there is no slot free at all
			p.finish(r, p.refusal)
		} else {
			p.starve(&p.noSlot, r)
		}
		return place{}, false
	}
	if !frees && !p.roomForTombs() {
		p.awaitGrowth(r, &p.slabs[tombClass], p.slabs[tombClass].units(extentMin))
		return place{}, false
	}
	if there || !s.reserved(p.count.tombs) {
		if slot, ok := s.take(p.fits[class]); ok {
			if !s.growing && !s.refused {
				if n := s.wants(there && p.o.Update == UpdateCOW); n > 0 {
					p.growSlab(s, n)
				}
			}
			return place{class, slot}, true
		}
		// Every unit with a free slot is being written: the first of them.
		if slot, ok := s.free.set.next(0); ok {
			s.free.claim(slot)
			return place{class, slot}, true
		}
	}
	n := s.units(s.extent)
	if r.Op.Deletes() && (s.refused || n == 0) { // a tombstone fits into every larger slot
		if at, ok = p.claimAbove(class); ok {
			return at, true
		}
		if p.claims > 0 || len(p.lingers) > 0 { // each of these will free a slot
			p.starve(&p.noSlot, r)
			return place{}, false
		}
	}
	p.awaitGrowth(r, s, n)
	return place{}, false
}

// claimAbove takes a free slot of the smallest larger class that has one.
func (p *Partition) claimAbove(class uint8) (at place, ok bool) {
	for c := int(class) + 1; c < len(p.slabs); c++ {
		if slot, ok := p.slabs[c].free.set.next(0); ok {
			p.slabs[c].free.claim(slot)
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
	if s.free.free >= tombRoomWanted {
		return true
	}
	room := uint64(0)
	for c := int(tombClass); c < len(p.slabs); c++ {
		room += uint64(p.slabs[c].free.free)
	}
	if room < tombRoomWanted && !s.growing && !s.refused {
		p.growSlab(s, s.units(extentMin))
	}
	return room > tombRoomMin
}

// awaitGrowth has r wait until a slab has grown by n bytes or more, or fails if it was refused that just now.
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

// fit is what claim thinks of a page of a class with free slots: 0 for no, 1 if it has to be read, 2 for yes.
func (p *Partition) fit(class uint8, page uint32) int {
	s := &p.slabs[class]
	f := p.cache.find(pageID(class)<<32 | pageID(page))
	switch {
	case f == 0 && page < s.fresh && !s.alone():
		return 1
	case f != 0 && p.cache.frames[f].state == frameWriting:
		return 0
	}
	return 2
}

// growSlab asks for the slab's next extent.
func (p *Partition) growSlab(s *slab, bytes int64) {
	s.growing, s.asked = true, bytes
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
		s.asked = s.units(min(s.extent, s.asked))
		p.grows = append(p.grows, s.class)
		return
	}
	s.growing = false
	waiting := s.waiting.Take()
	if errno == 0 {
		s.grown(bytes)
		p.full = false
		for i := range p.slabs { // they may ask again, too: else tombstones would go on to take larger slots
			p.slabs[i].refused = false
		}
		p.resume(waiting)
		return
	}
	s.refused = true
	p.sayFull(s, errno)
	p.refusing, p.refusal = s, statusOf(errno)
	p.resume(waiting) // some may find a slot that was freed since
	p.refusing = nil
}

// sayFull logs that a slab cannot grow: once, and once more when some have grown in between, and fullPause has gone by.
func (p *Partition) sayFull(s *slab, errno syscall.Errno) {
	if p.full || p.l.Now() < p.fullAgain {
		return
	}
	p.full, p.fullAgain = true, p.l.Now()+fullPause
	p.o.Log.Error("a slab cannot grow: requests that need it are refused, all others are served", "file", slabPath(p.o.Dir, p.shard, s.class), "reason", errno, "remedy", spaceRemedy(errno, "free some space")+", or delete keys")
}

const fullPause = 10e9 // ns

// growMemory gives a slab of the mem backend more memory, within the bound.
func (p *Partition) growMemory(s *slab) bool {
	n := s.memChunk()
	if most := p.o.MemBytes; most > 0 && p.count.memBytes+n > int64(most) || !s.growMemory() {
		return false
	}
	p.count.memBytes += n
	return true
}
