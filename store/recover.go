package store

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/index"
)

// recovery rebuilds a partition's index, free slots and stale counts from its slabs. Among copies of a key the highest
// sequence number counts.
//
// A broken item was either interrupted by a crash, and never acknowledged, or damaged later. Every item, and the shard's state, has the number up to
// which all changes were on disk when it was written. A broken item up to the highest such number was damaged. It is not served, and neither is an older
// copy of its key.
type recovery struct {
	p        *Partition
	load     *index.Loader
	state    shardState // as it was on disk
	base     base
	onDisk   uint64
	last     uint64 // the highest number seen
	broken   []brokenItem
	damaged  []brokenItem    // broken items that no crash explains
	needless map[string]bool // keys of damaged tombstones without an older item of the key
	tombKeys [][]byte        // the keys of tombstones
	garbage  []place         // slots whose head cannot be read, brokenMax of them
	unclean  []bitTree       // by class: slots for wipe; nil: none

	exported []uint64 // of each entry of the partition's table, the number of the item that recovery has put there; nil: there is no table

	lostUnits  []lostUnit // brokenMax of them
	matching   []bitTree  // by class: units whose contents match the account
	duplicates map[lostUnit]bool
	unreadable uint64 // all slots whose head cannot be read
	unlisted   uint64 // damaged items beyond brokenMax
	stale      uint64 // copies that do not count
	report     Damage
}

// brokenItem is a broken item whose head is readable.
type brokenItem struct {
	key  []byte
	at   place
	kind uint8
	seq  uint64
}

// brokenMax bounds the lists of broken items and lost units, and the number of garbage heads to repair.
const brokenMax = 4096

// Damage is what a scan of a shard's slabs has found besides intact items.
type Damage struct {
	Corrupt    uint64    `json:"corrupt"`    // items that were damaged: they are not served
	Unreadable uint64    `json:"unreadable"` // slots whose former contents are unknown
	Unfinished uint64    `json:"unfinished"` // writes that a crash interrupted, and that were never acknowledged
	Items      []Corrupt `json:"items,omitempty"`

	LostPages uint64      `json:"lost_pages"`       // pages that do not hold what was written to them last
	LostKeys  uint64      `json:"lost_keys_max"`    // the most keys on these pages: each of them may be older, back although it was deleted, or gone
	Lost      []LostPages `json:"lost,omitempty"`   // the first of them
	Record    string      `json:"record,omitempty"` // why it is not known whether pages were lost
}

// Loses reports whether unknown keys may have an older value, be back although they were deleted, or be gone.
func (d *Damage) Loses() bool { return d.LostPages > 0 || d.Record != "" }

// Corrupt is an item that was damaged.
type Corrupt struct {
	Shard     int    `json:"shard"`
	SlotBytes int    `json:"slot_bytes"` // names the slab
	Slot      uint32 `json:"slot"`
	Key       string `json:"key"` // quoted, at most 64 bytes of it; "" if unknown
}

// String describes the item for a message.
func (c Corrupt) String() string {
	s := fmt.Sprintf("slot %d of the slab of %d-byte slots", c.Slot, c.SlotBytes)
	if c.Key != "" {
		s += ", key " + c.Key
	}
	return s
}

// recover reads all slabs. It blocks for the disk. It clears items that a crash interrupted, so that they do not count as damage
// later, and so that no later write completes them.
func (p *Partition) recover() error {
	v, err := p.examine()
	if err == nil {
		err = v.lossError()
	}
	if err == nil {
		err = v.allowChanges()
	}
	if err != nil {
		return fmt.Errorf("store: shard %d: %w", p.shard, err)
	}
	v.logLost()
	d := &v.report
	p.count.corrupt, p.count.unreadable, p.count.unfinished = d.Corrupt, d.Unreadable, d.Unfinished
	p.count.lostPages = d.LostPages
	if d.Corrupt > 0 {
		p.o.Log.Error("corrupt items will not be served (kvwire check names all)", "shard", p.shard, "items", d.Corrupt, "first", d.Items[0])
	}
	if d.Unreadable > 0 {
		p.o.Log.Error("slots could not be read, and are free now: if they were not being written when the store ended, their items are lost, or show an older value (kvwire check names such slots before an open frees them)", "shard", p.shard, "slots", d.Unreadable)
	}
	return nil
}

// examine reads the slabs into the index, and changes nothing on disk.
func (p *Partition) examine() (*recovery, error) {
	v := &recovery{p: p, load: index.NewLoader(p.index)}
	if p.table != nil {
		v.exported = make([]uint64, p.table.Entries) // until the store is open
	}
	defer v.load.Close()
	var err error
	if v.state, err = p.files.readState(); err != nil {
		return nil, err
	}
	v.onDisk, v.last = v.state.seq, v.state.seq
	pieces, err := p.piecesToRead()
	if err != nil {
		return nil, err
	}
	if err := v.readBase(); err != nil {
		return nil, err
	}
	p.stale = newStaleCounts(staleCounters(p.slabs))
	if err := v.readAll(pieces); err != nil {
		return nil, err
	}
	v.classifyBroken()
	if !v.load.Finish(v.superseded) {
		return nil, fmt.Errorf("no memory for the index of %d keys", p.count.items)
	}
	v.complete()
	p.window.last, p.window.onDisk = v.last, v.last
	return v, nil
}

// staleCounters returns the size of the table of stale counts: about one counter for two slots.
func staleCounters(slabs []slab) int {
	n := uint32(1 << 20)
	for i := range slabs {
		for n < slabs[i].free.slots/2 && n < 1<<31 {
			n *= 2
		}
	}
	return int(n)
}

// piece is a part of a slab that is read at once: whole units.
type piece struct {
	class uint8
	off   int64
	bytes int
	b     []byte
	err   error
}

// pieceBytes is the least size of a read, except at the end of a file, and readAhead the number of reads at the same time: with these a disk
// reaches its sequential speed.
const (
	pieceBytes = 1 << 20
	readAhead  = 4
)

// piecesToRead makes room for the slots of the files, and lists the pieces to read.
func (p *Partition) piecesToRead() (all []piece, err error) {
	for c := range p.slabs {
		s := &p.slabs[c]
		size, err := p.files.size(s.class)
		if err != nil {
			return nil, err
		}
		units := size / s.unitBytes() // a partial unit, left by a failed growth, is cut off later (trim)
		if units > s.unitsMax() {
			return nil, fmt.Errorf("slab of %d-byte slots has %d bytes: more than there are numbers for", classes[c].bytes, size)
		}
		s.addFile(uint32(units))
		s.extent = s.nextExtent()
		step := max(pieceBytes/s.unitBytes(), 1) * s.unitBytes()
		for off := int64(0); off < s.bytes(); off += step {
			all = append(all, piece{class: s.class, off: off, bytes: int(min(step, s.bytes()-off))})
		}
	}
	return all, nil
}

// readAll reads the pieces, several at a time, while this goroutine handles their slots.
func (v *recovery) readAll(pieces []piece) error {
	most, total := 0, int64(0)
	for _, c := range pieces {
		most = max(most, c.bytes)
		total += int64(c.bytes)
	}
	if most == 0 {
		return nil
	}
	const buffers = readAhead + 1
	memory, err := arena.New(buffers * most)
	if err != nil {
		return err
	}
	defer memory.Close()
	empty, full := make(chan []byte, buffers), make(chan piece, buffers)
	for i := range buffers {
		empty <- memory.Bytes()[i*most : (i+1)*most]
	}
	var next atomic.Int64
	var readers sync.WaitGroup
	for range readAhead {
		readers.Go(func() { // ends when empty is closed or all pieces were read
			for b := range empty {
				i := int(next.Add(1)) - 1
				if i >= len(pieces) {
					return
				}
				c := pieces[i]
				c.b = b[:c.bytes]
				c.err = v.p.files.readAt(c.class, c.b, c.off)
				full <- c
			}
		})
	}
	defer readers.Wait() // before memory is freed
	defer close(empty)
	done, reported := int64(0), int64(0)
	for range pieces {
		c := <-full
		if c.err != nil {
			return c.err
		}
		if err := v.parse(&c); err != nil {
			return err
		}
		done += int64(c.bytes)
		if f := v.p.o.Progress; f != nil && (done == total || done-reported > total/256) {
			f(v.p.shard, done, total)
			reported = done
		}
		empty <- c.b[:cap(c.b)][:most]
	}
	return nil
}

func (v *recovery) parse(c *piece) error {
	s := &v.p.slabs[c.class]
	cl := &classes[c.class]
	unit := int(s.unitBytes())
	first := uint32(c.off / s.unitBytes())
	for b := c.b; len(b) > 0; b, first = b[unit:], first+1 {
		var t tally
		for i := range s.free.perUnit {
			off := int(i) * cl.bytes
			if err := v.handleSlot(place{c.class, first*s.free.perUnit + i}, b[off:off+cl.bytes], &t); err != nil {
				return err
			}
		}
		v.compare(s, first, &t)
	}
	return nil
}

// handleSlot handles the contents of one slot.
func (v *recovery) handleSlot(at place, b []byte, t *tally) error {
	it, verdict := parseSlot(b)
	if verdict == slotUnused {
		return nil
	}
	s := &v.p.slabs[at.class]
	s.fresh = max(s.fresh, at.page()+1)
	sum := slotSum(b, verdict, at.nth())
	t.raw ^= sum
	repaired := false
	if verdict == slotGarbage {
		t.uncertain = true
		v.clearLater(at)
		if v.unreadable++; v.unreadable <= brokenMax {
			var head uint32
			if it, head, repaired = repairHead(b); repaired {
				sum = mixSum(head, at.nth())
			}
		}
		t.repaired ^= sum
		if !repaired {
			if len(v.garbage) < brokenMax {
				v.garbage = append(v.garbage, at)
			}
			return nil
		}
		v.unreadable--
		verdict = slotBroken
	} else {
		t.repaired ^= sum
	}
	t.newest = max(t.newest, it.seq)
	v.last = max(v.last, it.seq)
	if verdict == slotBroken {
		b := brokenItem{append([]byte(nil), it.key...), at, it.kind, it.seq}
		switch {
		case it.seq <= v.onDisk: // it was on disk before: it is damaged
			v.addDamaged(b)
		case len(v.broken) < brokenMax:
			v.broken = append(v.broken, b)
		default:
			v.unreadable++
		}
		return nil
	}
	v.onDisk = max(v.onDisk, it.stamp.onDisk())
	if owner := v.p.ownerOf(it.key); owner != v.p.shard {
		if !v.p.o.AcceptLoss {
			return fmt.Errorf("key %s belongs to shard %d: folders of shards were exchanged, or pages were copied between them (move the folders back, or restore the store from a backup; kvwire serve --accept-loss opens it without such items)", quoted(it.key), owner)
		}
		v.unreadable++
		return nil
	}
	flags := index.Flags(0)
	if verdict == slotTombstone {
		flags = flagTomb
		v.tombKeys = append(v.tombKeys, append([]byte(nil), it.key...))
	}
	if n := roundUp(itemBytes(len(it.key), len(it.value)), pageBytes); at.large() && v.p.buffers != nil && n > v.p.buffers.Largest() {
		return fmt.Errorf("the item of key %s has %d bytes: raise the largest value, or the buffers, to hold it", quoted(it.key), n)
	}
	if v.exported != nil && verdict == slotLive {
		v.export(it)
	}
	return v.addCopy(at, it.key, flags, it.seq, len(it.value))
}

// ownerOf returns the shard to which a key belongs.
func (p *Partition) ownerOf(key []byte) int {
	if p.shards < 2 {
		return p.shard
	}
	return kv.Shard(key, p.shards)
}

// export adds an item to the export table if it is the latest of its key so far. superseded removes it if a later one is found.
func (v *recovery) export(it item) {
	t := v.p.table
	n := &v.exported[t.Entry(it.key)]
	if t.Holds(it.key) {
		if *n >= it.seq {
			return
		}
		t.Drop(it.key)
	}
	if t.Offer(it.key, it.value) {
		*n = it.seq
	}
}

// addCopy adds a copy of a key's item to the index and the free map.
func (v *recovery) addCopy(at place, key []byte, flags index.Flags, seq uint64, valueBytes int) error {
	p := v.p
	s := &p.slabs[at.class]
	if !v.load.Add(key, index.Copy{Class: at.class, Slot: at.slot, Seq: seq}, flags) {
		return fmt.Errorf("no memory for the index after %d keys", p.count.items)
	}
	s.free.reserve(at.slot)
	if s.ownPages() {
		s.soleSlots[at.slot].bytes = uint32(itemBytes(len(key), valueBytes))
	}
	p.count.key(flags, 1)
	return nil
}

// classifyBroken separates damaged items from those that a crash interrupted.
func (v *recovery) classifyBroken() {
	for _, b := range v.broken {
		switch {
		case b.seq > v.onDisk && b.kind != kindOver:
			v.report.Unfinished++
			v.clearLater(b.at)
		default:
			v.addDamaged(b)
		}
	}
	v.broken = nil
}

// clearLater adds a slot to those that wipe clears.
func (v *recovery) clearLater(at place) {
	if v.unclean == nil {
		v.unclean = make([]bitTree, len(v.p.slabs))
	}
	v.unclean[at.class].grow(v.p.slabs[at.class].free.slots)
	v.unclean[at.class].set(at.slot)
}

// addDamaged counts and records a broken item that no crash explains.
func (v *recovery) addDamaged(b brokenItem) {
	switch {
	case v.addCopy(b.at, b.key, flagCorrupt, b.seq, 0) != nil:
		v.unreadable++
	case len(v.damaged) < brokenMax:
		v.damaged = append(v.damaged, b)
		if b.kind == kindTombstone {
			if v.needless == nil {
				v.needless = map[string]bool{}
			}
			v.needless[string(b.key)] = true // until superseded finds an item
		}
	default:
		v.unlisted++
	}
}

// superseded handles a copy that is not the latest of its key.
func (v *recovery) superseded(key []byte, flags index.Flags, c, later index.Copy) {
	p := v.p
	at := place{c.Class, c.Slot}
	if v.exported != nil && v.exported[p.table.Entry(key)] == c.Seq {
		p.table.Drop(key)
	}
	if c.Seq == later.Seq {
		v.duplicate(at, place{later.Class, later.Slot})
	}
	p.count.key(flags, -1)
	if flags&flagTomb == 0 {
		v.stale++
		p.stale.add(kv.Hash(key))
		delete(v.needless, string(key))
	}
	p.freeSlot(at, key, flags&flagTomb == 0)
}

// complete queues the tombstones that count, and fills in the report.
func (v *recovery) complete() {
	x, d := v.p.index, &v.report
	for _, key := range v.tombKeys {
		if rec, ok := x.Find(key); ok && x.Flags(rec)&(flagTomb|flagQueued) == flagTomb {
			v.p.queueTomb(rec)
		}
	}
	v.p.dropTombs(v.p.tombs.Len())
	place := func(at place, key string) {
		d.Items = append(d.Items, Corrupt{Shard: v.p.shard, SlotBytes: classes[at.class].bytes, Slot: at.slot, Key: key})
	}
	for _, b := range v.damaged {
		switch rec, ok := x.Find(b.key); {
		case !ok || v.p.placeOf(rec) != b.at: // a later change has replaced it
		case v.needless[string(b.key)]: // its key is deleted with or without it: a write over it may have been interrupted
			v.p.count.key(x.Flags(rec), -1)
			x.Delete(rec)
			v.p.freeSlot(b.at, b.key, false)
		default:
			d.Corrupt++
			place(b.at, quoted(b.key))
		}
	}
	d.Corrupt += v.unlisted
	d.Unreadable = v.unreadable
	if v.state.state == stateMissing && v.last > 0 { // the state is written before any item
		d.Record = stateName + " is missing"
	}
	v.listLost()
	for _, at := range v.garbage {
		place(at, "")
	}
	v.tombKeys, v.damaged, v.needless, v.garbage = nil, nil, nil, nil
}

func quoted(key []byte) string { return strconv.Quote(string(key[:min(len(key), 64)])) }

// wipe clears the heads of items that a crash interrupted, and of free slots that cannot be read. Of such an item a crash may have left the head without the
// rest of its key. A later write of the same key to the slot, of which only that rest reaches the disk, would complete it: a change that was undone before, with
// an old number. The rest of a slot stays as it is, so that a wipe of which only a part reaches the disk completes nothing either.
func (v *recovery) wipe() error {
	if v.unclean == nil {
		return nil
	}
	memory, err := arena.New(pageBytes)
	if err != nil {
		return err
	}
	defer memory.Close()
	page := memory.Bytes()
	for c := range v.unclean {
		s, t := &v.p.slabs[c], &v.unclean[c]
		for slot, ok := t.next(0); ok; {
			id := place{s.class, slot}.id()
			if err := v.p.files.readAt(s.class, page, id.offset()); err != nil {
				return err
			}
			for ; ok && (place{s.class, slot}).id() == id; slot, ok = t.next(slot + 1) {
				if !s.free.set.has(slot) { // a damaged item whose head was repaired: its key answers corrupt
					continue
				}
				at := place{s.class, slot}
				b := page[at.offset():][:min(classes[c].bytes, pageBytes-at.offset())]
				s.removeSum(at, b)
				clear(b[:headerBytes])
			}
			if err := v.p.files.writeAt(s.class, page, id.offset()); err != nil {
				return err
			}
		}
	}
	return nil
}
