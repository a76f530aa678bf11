package bench

import (
	"fmt"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/kv"
)

// slot is one request that a thread may have in flight, with its memory, used again and again.
type slot struct {
	req      kv.Request
	key      []byte // in the arena, KeyBytes long
	buf      []byte // in the arena: a value, or a scan's answer
	id       uint64
	intended int64 // when it should have started, as loop.Nanos counts
	sent     int64 // when it did
	kind     Kind
	second   bool // rmw: the get is done, the put is under way
	inFlight bool // between alloc and release
	stages   kv.Stages
}

// slots are a thread's requests: one per request in flight, sized once.
type slots struct {
	mem  *arena.Arena
	slot []slot
	free []uint32 // stack of slots that are not in flight
}

const bufferAlign = 64 // a cache line: neighbours do not share one

func alignUp(v int) int { return (v + bufferAlign - 1) &^ (bufferAlign - 1) }

// slotBytes is the memory of a slot's key and value.
func slotBytes(keyBytes, valueBytes int) int { return alignUp(keyBytes) + alignUp(valueBytes) }

// newSlots makes n requests whose completions go to owner, with room for keys and values.
func newSlots(n, keyBytes, valueBytes int, owner kv.Completer) (slots, error) {
	each := slotBytes(keyBytes, valueBytes)
	mem, err := arena.New(n * each)
	if err != nil {
		return slots{}, fmt.Errorf("bench: buffers of %d requests in flight, %d B each: %w", n, each, err)
	}
	s := slots{mem: mem, slot: make([]slot, n), free: make([]uint32, n)}
	for i := range s.slot {
		b := mem.Bytes()[i*each : (i+1)*each]
		t := &s.slot[i]
		t.key = b[:keyBytes:keyBytes]
		t.buf = b[alignUp(keyBytes):][:valueBytes:valueBytes]
		padKey(t.key)
		t.req = kv.Request{Key: t.key, Owner: owner, Slot: uint64(i)}
		s.free[i] = uint32(n - 1 - i)
	}
	return s, nil
}

func (s *slots) inFlight() int { return len(s.slot) - len(s.free) }

func (s *slots) alloc() *slot {
	n := len(s.free) - 1
	i := s.free[n]
	s.free = s.free[:n]
	s.slot[i].inFlight = true
	return &s.slot[i]
}

func (s *slots) release(t *slot) {
	t.inFlight = false
	s.free = append(s.free, uint32(t.req.Slot)) // never grows: one entry per slot
}
