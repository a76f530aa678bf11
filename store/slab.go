package store

import (
	"math"

	"github.com/kvwire/kvwire/kv"

	"github.com/kvwire/kvwire/internal/arena"
)

// slab has the slots of one class: a file, or memory with the mem backend.
type slab struct {
	class     uint8
	free      freeMap
	soleSlots []soleSlot // of slots with their own pages
	sums      []uint32   // of files: by unit, the sum of its items' heads (see slotSum)
	fresh     uint32     // the first page that was never written: from here on pages are zero, and need not be read
	filling   uint32     // the unit that puts fill at present

	extent  int64    // bytes of the next growth: a part of the present size, halved while there is no space
	growth  int64    // bytes of the growth under way
	growing bool     // a growth is queued or under way
	waiting kv.Queue // changes that wait for the growth
	refused bool     // the last growth found no space, and no slab has grown since: the next put that needs a slot tries again

	mem []*arena.Arena // mem backend: chunks of memChunkBytes, or of one slot if that is larger
}

// soleSlot is the data in memory about a slot with its own pages, which is written without being read.
type soleSlot struct {
	bytes    uint32 // of the item in it
	stale    uint32 // of a free slot, if hasStale: the hash of the key of the stale copy in it
	hasStale bool
}

const (
	extentMin = 64 << 10
	extentMax = 64 << 20
	extentOne = 1 << 20 // a slab's first extent

	// memChunkBytes is the step by which the mem backend's slabs grow: a huge page. A huge page costs memory as a whole from its first use
	// on, so a slab's first chunk has small pages.
	memChunkBytes = arena.HugePageBytes

	// spareShift: a slab whose items are rewritten to other slots has up to a quarter more slots than items, so that changes find pages with
	// room for several of them. So a store needs at most 1.25 times the space of its items.
	spareShift = 2

	// reserveShift and reserveMax: the last free slots of a slab, 1/32 and at most 256, are for changes of existing items only, so that a full
	// store can be changed, and deleted from.
	reserveShift = 5
	reserveMax   = 256
)

func newSlab(class uint8) slab {
	s := slab{class: class, extent: extentOne}
	s.free.perUnit = uint32(max(classes[class].perPage, 1))
	return s
}

// ownPages reports whether each slot has its own pages.
func (s *slab) ownPages() bool { return s.free.perUnit == 1 }

func (s *slab) unitBytes() int64 { return int64(classes[s.class].pages) * pageBytes }

// bytes returns the size of the slab's file.
func (s *slab) bytes() int64 { return int64(s.free.slots/s.free.perUnit) * s.unitBytes() }

func (s *slab) used() uint32 { return s.free.slots - s.free.count }

// units rounds the size of an extent down to whole units, at least one. It returns 0 if slot or page numbers are used up.
func (s *slab) units(bytes int64) int64 {
	units := max(bytes/s.unitBytes(), 1)
	units = min(units, int64((math.MaxUint32-s.free.slots)/s.free.perUnit))
	units = min(units, (math.MaxUint32-s.bytes()/pageBytes)/int64(classes[s.class].pages)) // page numbers
	return max(units, 0) * s.unitBytes()
}

// grown adds an extent of that many bytes.
func (s *slab) grown(bytes int64) {
	s.addFile(uint32(bytes / s.unitBytes()))
	s.extent = s.nextExtent()
}

// nextExtent returns the size of the next extent: 1/16 of the slab, within bounds, so that the unused space stays small.
func (s *slab) nextExtent() int64 { return min(max(extentOne, s.bytes()/16), extentMax) }

// add adds that many units.
func (s *slab) add(units uint32) {
	s.free.grow(units * s.free.perUnit)
	if s.ownPages() {
		s.soleSlots = append(s.soleSlots, make([]soleSlot, units)...)
	}
}

// addFile is add for a slab that is a file: the new units are zero.
func (s *slab) addFile(units uint32) {
	s.add(units)
	s.sums = append(s.sums, make([]uint32, units)...)
}

// shrink halves the next extent; false: it is the smallest already.
func (s *slab) shrink() bool {
	if s.extent <= max(extentMin, s.unitBytes()) {
		return false
	}
	s.extent /= 2
	return true
}

// growthDue returns the bytes by which the slab should grow now; 0: none. It grows before its free slots are used up, and for changes so that
// pages have room for several of them.
func (s *slab) growthDue(change bool) int64 {
	switch spare := s.used() >> spareShift; {
	case int64(s.free.count/s.free.perUnit)*s.unitBytes() < s.extent/4:
		return s.units(s.extent)
	case change && !s.ownPages() && s.free.count < spare && !s.free.hasRoomyUnit():
		return s.units(min(s.extent, int64((spare-s.free.count)/s.free.perUnit)*s.unitBytes()))
	}
	return 0
}

// onlyForChanges reports whether the remaining free slots are for changes of existing items. Each tombstone counts as one of these slots, because it
// will be freed.
func (s *slab) onlyForChanges(tombstones int64) bool {
	return int64(s.free.count) <= int64(min(s.free.slots>>reserveShift, reserveMax))-tombstones
}

// reserve reserves a slot, in a unit that fit does not exclude (see freeMap.pick).
func (s *slab) reserve(fit func(unit uint32) int) (slot uint32, ok bool) {
	if s.filling < s.free.slots/s.free.perUnit && (fit == nil || fit(s.filling) == 2) {
		if slot, ok = s.free.reserveIn(s.filling); ok {
			return slot, true
		}
	}
	u, ok := s.free.pick(fit)
	if !ok {
		return 0, false
	}
	s.filling = u
	return s.free.reserveIn(u)
}

// memory returns the bytes of a slot of the mem backend.
func (s *slab) memory(slot uint32) []byte {
	c := &classes[s.class]
	per := s.memChunkSlots()
	chunk := s.mem[slot/per].Bytes()
	at := place{s.class, slot % per}
	off := int(at.page())*pageBytes + at.offset()
	return chunk[off : off+c.bytes]
}

// memChunkSlots returns the number of slots in a chunk of memory.
func (s *slab) memChunkSlots() uint32 {
	return uint32(max(memChunkBytes/s.unitBytes(), 1)) * s.free.perUnit
}

func (s *slab) memChunk() int64 { return int64(s.memChunkSlots()/s.free.perUnit) * s.unitBytes() }

// growMemory adds a chunk of memory; false: there is no memory.
func (s *slab) growMemory() bool {
	if s.free.slots > math.MaxUint32-s.memChunkSlots() {
		return false
	}
	a, err := arena.New(int(s.memChunk()))
	if err != nil {
		return false
	}
	if len(s.mem) > 0 {
		_ = a.Huge() // a kernel without huge pages makes it slower, not wrong
	}
	s.mem = append(s.mem, a)
	s.add(s.memChunkSlots() / s.free.perUnit)
	return true
}

func (s *slab) close() {
	for _, a := range s.mem {
		_ = a.Close()
	}
	s.mem = nil
}
