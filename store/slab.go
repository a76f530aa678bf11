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
	fresh uint32 // the first page that nobody has written since it was made: it is zero, and need not be read

	extent  int64    // bytes to grow by next: doubles with each success, halves when there is no space
	growing bool     // a growth is queued or under way
	waiting kv.Queue // puts that wait for it
	refused bool     // the last growth found no space: the next put that needs a slot asks again

	mem []*arena.Arena // mem backend: chunks of memChunkBytes, or of one slot if that is larger
}

const (
	extentMin = 64 << 10
	extentMax = 64 << 20
	extentOne = 1 << 20 // a slab's first extent

	// memChunkBytes is how the mem backend's slabs grow. Memory that no slot uses is not touched.
	memChunkBytes = 1 << 20
)

func newSlab(class uint8) slab { return slab{class: class, extent: extentOne} }

// unitSlots is the number of slots in the least that a slab grows by: a page, or a large slot.
func (s *slab) unitSlots() uint32 { return uint32(max(classes[s.class].perPage, 1)) }

func (s *slab) unitBytes() int64 { return int64(classes[s.class].pages) * pageBytes }

// bytes is the size of the slab's file.
func (s *slab) bytes() int64 { return int64(s.free.slots/s.unitSlots()) * s.unitBytes() }

// growth is the size of the next extent, in whole units; 0 when slot numbers are used up.
func (s *slab) growth() int64 {
	units := max(s.extent/s.unitBytes(), 1)
	units = min(units, int64((math.MaxUint32-s.free.slots)/s.unitSlots()))
	units = min(units, (math.MaxUint32-s.bytes()/pageBytes)/int64(classes[s.class].pages)) // page numbers
	return max(units, 0) * s.unitBytes()
}

// grown takes over an extent of so many bytes.
func (s *slab) grown(bytes int64) {
	s.free.grow(uint32(bytes/s.unitBytes()) * s.unitSlots())
	s.extent = min(max(s.extent*2, s.bytes()/4), extentMax)
	s.refused = false
}

// shrink makes the next attempt ask for less; false when it cannot be less.
func (s *slab) shrink() bool {
	if s.extent <= max(extentMin, s.unitBytes()) {
		return false
	}
	s.extent /= 2
	return true
}

// low says that the free slots will not last for long: growing now spares the puts the wait.
func (s *slab) low() bool { return int64(s.free.free/s.unitSlots())*s.unitBytes() < s.extent/8 }

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
	return uint32(max(memChunkBytes/s.unitBytes(), 1)) * s.unitSlots()
}

func (s *slab) memChunk() int64 { return int64(s.memChunkSlots()/s.unitSlots()) * s.unitBytes() }

// growMemory adds a chunk of memory; false when there is none.
func (s *slab) growMemory() bool {
	if s.free.slots > math.MaxUint32-s.memChunkSlots() {
		return false
	}
	a, err := arena.New(int(s.memChunk()))
	if err != nil {
		return false
	}
	s.mem = append(s.mem, a)
	s.free.grow(s.memChunkSlots())
	return true
}

func (s *slab) close() {
	for _, a := range s.mem {
		_ = a.Close()
	}
	s.mem = nil
}
