package store

import (
	"math"

	"github.com/kvwire/kvwire/kv"

	"github.com/kvwire/kvwire/internal/arena"
)

// slab is the slots of one class: a file, or with the mem backend memory.
type slab struct {
	class uint8
	free  freeMap
	whole []wholeSlot // of slots that have their pages to themselves
	sums  []uint32    // of files: by unit, what it holds (see slotSum)
	fresh uint32      // the first page that was never written: it is zero, and need not be read
	cur   uint32      // the unit that puts are filling

	extent  int64    // bytes to grow by next: a part of what there is, halved while there is no space
	asked   int64    // bytes of the growth under way
	growing bool     // a growth is queued or under way
	waiting kv.Queue // puts that wait for it
	refused bool     // the last growth found no space, and no slab has grown since: the next put that needs a slot asks again

	mem []*arena.Arena // mem backend: chunks of memChunkBytes, or of one slot if that is larger
}

// wholeSlot is what is known of a slot that has its pages to itself, and that is written without being read.
type wholeSlot struct {
	bytes uint32 // of the item in it
	stale uint32 // a free slot's: the hash of the key of which it holds a copy that counts as stale, if has
	has   bool
}

const (
	extentMin = 64 << 10
	extentMax = 64 << 20
	extentOne = 1 << 20 // a slab's first extent

	// memChunkBytes is how the mem backend's slabs grow: a huge page. Memory that no slot uses is not touched, but for the rest of such a
	// page, which a slab's first chunk is therefore not.
	memChunkBytes = arena.HugePageBytes

	// A slab whose items are rewritten elsewhere has up to a quarter more slots than items (spareShift): so that
	// changes find pages with room for several of them. 1.25 is the bound of the space that a store takes.
	spareShift = 2

	// reserveShift is the part of a slab, and reserveMax the number, of its last free slots that only changes of items
	// that are there get, so that a full store can be changed, and deleted from.
	reserveShift = 5
	reserveMax   = 256
)

func newSlab(class uint8) slab {
	s := slab{class: class, extent: extentOne}
	s.free.perUnit = uint32(max(classes[class].perPage, 1))
	return s
}

// alone reports whether each slot has its own pages.
func (s *slab) alone() bool { return s.free.perUnit == 1 }

func (s *slab) unitBytes() int64 { return int64(classes[s.class].pages) * pageBytes }

// bytes is the size of the slab's file.
func (s *slab) bytes() int64 { return int64(s.free.slots/s.free.perUnit) * s.unitBytes() }

func (s *slab) used() uint32 { return s.free.slots - s.free.free }

// units rounds the size of an extent to whole units: one at least, and 0 when slot numbers are used up.
func (s *slab) units(bytes int64) int64 {
	units := max(bytes/s.unitBytes(), 1)
	units = min(units, int64((math.MaxUint32-s.free.slots)/s.free.perUnit))
	units = min(units, (math.MaxUint32-s.bytes()/pageBytes)/int64(classes[s.class].pages)) // page numbers
	return max(units, 0) * s.unitBytes()
}

// grown takes over an extent of so many bytes.
func (s *slab) grown(bytes int64) {
	s.addFile(uint32(bytes / s.unitBytes()))
	s.extent = s.nextExtent()
}

// nextExtent is small beside the slab, so that the space that it takes stays near that of its items.
func (s *slab) nextExtent() int64 { return min(max(extentOne, s.bytes()/16), extentMax) }

// add makes room for so many units more.
func (s *slab) add(units uint32) {
	s.free.grow(units * s.free.perUnit)
	if s.alone() {
		s.whole = append(s.whole, make([]wholeSlot, units)...)
	}
}

// addFile is add for a slab that is a file: the new units are zero.
func (s *slab) addFile(units uint32) {
	s.add(units)
	s.sums = append(s.sums, make([]uint32, units)...)
}

// shrink makes the next attempt ask for less; false when it cannot be less.
func (s *slab) shrink() bool {
	if s.extent <= max(extentMin, s.unitBytes()) {
		return false
	}
	s.extent /= 2
	return true
}

// wants is how many bytes the slab should grow by now, before its free slots are used up: new items take them one after
// the other, and changes want pages with room for several.
func (s *slab) wants(change bool) int64 {
	switch spare := s.used() >> spareShift; {
	case int64(s.free.free/s.free.perUnit)*s.unitBytes() < s.extent/4:
		return s.units(s.extent)
	case change && !s.alone() && s.free.free < spare && !s.free.roomy():
		return s.units(min(s.extent, int64((spare-s.free.free)/s.free.perUnit)*s.unitBytes()))
	}
	return 0
}

// reserved says that the free slots left are for changes of items that are there. Tombstones that have taken some of
// them, and will go when their keys' slots are used again, leave fewer to be kept.
func (s *slab) reserved(tombstones int64) bool {
	return int64(s.free.free) <= int64(min(s.free.slots>>reserveShift, reserveMax))-tombstones
}

// take claims a slot, in a unit that fit is content with (see freeMap.pick).
func (s *slab) take(fit func(unit uint32) int) (slot uint32, ok bool) {
	if s.cur < s.free.slots/s.free.perUnit && (fit == nil || fit(s.cur) == 2) {
		if slot, ok = s.free.takeIn(s.cur); ok {
			return slot, true
		}
	}
	u, ok := s.free.pick(fit)
	if !ok {
		return 0, false
	}
	s.cur = u
	return s.free.takeIn(u)
}

// memory is a slot of the mem backend, whole.
func (s *slab) memory(slot uint32) []byte {
	c := &classes[s.class]
	per := s.memChunkSlots()
	chunk := s.mem[slot/per].Bytes()
	at := place{s.class, slot % per}
	off := int(at.page())*pageBytes + at.offset()
	return chunk[off : off+c.bytes]
}

// memChunkSlots is the number of slots in a chunk of memory.
func (s *slab) memChunkSlots() uint32 {
	return uint32(max(memChunkBytes/s.unitBytes(), 1)) * s.free.perUnit
}

func (s *slab) memChunk() int64 { return int64(s.memChunkSlots()/s.free.perUnit) * s.unitBytes() }

// growMemory adds a chunk of memory; false when there is none.
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
