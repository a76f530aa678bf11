package store

import (
	"fmt"
	"strconv"

	"github.com/kvwire/kvwire/internal/arena"
)

// recovery rebuilds a partition's index and free slots from its slabs. Among copies of a key the highest
// sequence number wins, and the others are freed on disk before anything else is changed: else a
// delete of the winner would let one of them come back.
type recovery struct {
	p       *Partition
	seqs    map[uint32]uint64 // by record: the sequence of its item; 0 for one whose value is broken, so that any whole copy wins
	losers  []place
	corrupt uint64
	first   string // the first corrupt item, in words
}

// recover reads all slabs. It waits for the disk; a goroutine reads the next piece while this one is parsed.
func (p *Partition) recover() error {
	v := &recovery{p: p, seqs: map[uint32]uint64{}}
	pieces, err := p.piecesToRead()
	if err != nil {
		return fmt.Errorf("store: shard %d: %w", p.shard, err)
	}
	if err := v.readAll(pieces); err != nil {
		return fmt.Errorf("store: shard %d: %w", p.shard, err)
	}
	if err := v.freeLosers(); err != nil {
		return fmt.Errorf("store: shard %d: free what was replaced: %w", p.shard, err)
	}
	p.count.corrupt += v.corrupt
	if v.corrupt > 0 {
		p.o.Log(fmt.Sprintf("store: shard %d: %d corrupt items will not be served; the first is %s", p.shard, v.corrupt, v.first))
	}
	return nil
}

// piece is a part of a slab that is read at once: whole units.
type piece struct {
	class uint8
	off   int64
	bytes int
	b     []byte
	err   error
}

// pieceBytes is the least that is read at once, if there is as much: 1 MiB is where a disk's sequential speed begins.
const pieceBytes = 1 << 20

// piecesToRead makes room for the slots that the files have, and lists what is to be read.
func (p *Partition) piecesToRead() (all []piece, err error) {
	for c := range p.slabs {
		s := &p.slabs[c]
		size, err := p.files.size(s.class)
		if err != nil {
			return nil, err
		}
		units := size / s.unitBytes() // what a growth that failed left behind it is grown into again
		if units > (1<<32-1)/max(int64(s.unitSlots()), int64(classes[c].pages)) {
			return nil, fmt.Errorf("slab of %d-byte slots has %d bytes: more than there are numbers for", classes[c].bytes, size)
		}
		s.free.grow(uint32(units) * s.unitSlots())
		s.extent = min(max(s.extent, s.bytes()/4), extentMax)
		step := max(pieceBytes/s.unitBytes(), 1) * s.unitBytes()
		for off := int64(0); off < s.bytes(); off += step {
			all = append(all, piece{class: s.class, off: off, bytes: int(min(step, s.bytes()-off))})
		}
	}
	return all, nil
}

func (v *recovery) readAll(pieces []piece) error {
	most := 0
	for _, c := range pieces {
		most = max(most, c.bytes)
	}
	if most == 0 {
		return nil
	}
	memory, err := arena.New(2 * most)
	if err != nil {
		return err
	}
	defer memory.Close()
	empty, full := make(chan []byte, 2), make(chan piece, 2)
	empty <- memory.Bytes()[:most]
	empty <- memory.Bytes()[most:]
	go func() { // ends when empty is closed or the pieces are
		defer close(full)
		for _, c := range pieces {
			b, ok := <-empty
			if !ok {
				return
			}
			c.b = b[:c.bytes]
			c.err = v.p.files.readAt(c.class, c.b, c.off)
			full <- c
		}
	}()
	for c := range full {
		if err == nil {
			err = c.err
		}
		if err == nil {
			err = v.parse(&c)
		}
		if err != nil { // let the reader end before its memory goes
			close(empty)
			for range full {
			}
			return err
		}
		empty <- c.b[:cap(c.b)][:most]
	}
	return nil
}

func (v *recovery) parse(c *piece) error {
	s := &v.p.slabs[c.class]
	cl := &classes[c.class]
	unit := int(s.unitBytes())
	slot := uint32(c.off/s.unitBytes()) * s.unitSlots()
	for b := c.b; len(b) > 0; b = b[unit:] {
		for i := range s.unitSlots() {
			off := int(i) * cl.bytes
			if err := v.found(place{c.class, slot + i}, b[off:off+cl.bytes]); err != nil {
				return err
			}
		}
		slot += s.unitSlots()
	}
	return nil
}

// found takes in what one slot holds.
func (v *recovery) found(at place, b []byte) error {
	it, verdict := parseSlot(b)
	if verdict == slotUnused {
		return nil
	}
	s := &v.p.slabs[at.class]
	s.fresh = max(s.fresh, at.page()+1)
	v.p.seq = max(v.p.seq, it.seq)
	switch verdict {
	case slotGarbage:
		v.damaged(at, nil)
		return nil
	case slotBroken:
		v.damaged(at, it.key)
		if at.large() {
			return nil // or a write that the end of the process cut short: nobody was told that it is there
		}
		it.seq = 0
	case slotTombstone:
		return nil
	}
	return v.adopt(at, it)
}

// adopt makes an item the key's, unless there is a later one.
func (v *recovery) adopt(at place, it item) error {
	p := v.p
	if n := roundUp(itemBytes(len(it.key), len(it.value)), pageBytes); at.large() && n > p.buffers.Largest() {
		return fmt.Errorf("the item of key %s has %d bytes: raise the largest value, or the buffers, to hold it", quoted(it.key), n)
	}
	rec, ok := p.index.find(it.key)
	if !ok {
		if rec, ok = p.index.insert(it.key); !ok {
			return fmt.Errorf("no memory for the index after %d keys", p.items)
		}
		p.items++
		p.live += int64(len(it.key))
	} else {
		old := p.index.at(rec)
		if it.seq <= v.seqs[rec] {
			v.losers = append(v.losers, at)
			return nil
		}
		v.losers = append(v.losers, old)
		p.freeSlot(old)
	}
	p.index.put(rec, at)
	p.resize(rec, len(it.value))
	p.slabs[at.class].free.claim(at.slot)
	v.seqs[rec] = it.seq
	return nil
}

func (v *recovery) damaged(at place, key []byte) {
	v.corrupt++
	if v.first != "" {
		return
	}
	v.first = fmt.Sprintf("slot %d of the slab of %d-byte slots", at.slot, classes[at.class].bytes)
	if key != nil {
		v.first += ", key " + quoted(key)
	}
}

func quoted(key []byte) string { return strconv.Quote(string(key[:min(len(key), 64)])) }

// freeLosers writes tombstones over the copies that lost.
func (v *recovery) freeLosers() error {
	if len(v.losers) == 0 {
		return nil
	}
	memory, err := arena.New(pageBytes)
	if err != nil {
		return err
	}
	defer memory.Close()
	page := memory.Bytes()
	for _, at := range v.losers {
		off := at.id().offset()
		if err := v.p.files.readAt(at.class, page, off); err != nil {
			return err
		}
		v.p.seq++
		encodeTombstone(page[at.offset():], v.p.seq)
		if err := v.p.files.writeAt(at.class, page, off); err != nil {
			return err
		}
	}
	return v.p.files.sync()
}
