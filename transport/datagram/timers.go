package datagram

import "math"

// timer is the deadline of a session, a part of it. The deadline in the heap may be earlier than the true one, and never later: a session that makes progress does
// not touch the heap, and its true deadline is found when the early one has passed.
type timer struct {
	at    int64 // of the heap
	place int   // in the heap, from 1; 0: not in it
}

// timed is a session with a timer.
type timed interface{ due() *timer }

// timers is a heap of sessions, the earliest deadline first.
type timers[T timed] struct{ heap []T }

// earliest returns the first deadline; MaxInt64: there is none.
func (h *timers[T]) earliest() int64 {
	if len(h.heap) == 0 {
		return math.MaxInt64
	}
	return h.heap[0].due().at
}

// plan makes sure that s is due at the time at, or earlier.
func (h *timers[T]) plan(s T, at int64) {
	t := s.due()
	switch {
	case t.place == 0:
		h.heap = append(h.heap, s)
		t.at, t.place = at, len(h.heap)
	case at < t.at:
		t.at = at
	default:
		return
	}
	h.up(t.place - 1)
}

// cancel removes s.
func (h *timers[T]) cancel(s T) {
	t := s.due()
	if t.place == 0 {
		return
	}
	i, last := t.place-1, len(h.heap)-1
	t.place = 0
	moved := h.heap[last]
	var none T
	h.heap[last] = none
	if h.heap = h.heap[:last]; i == last {
		return
	}
	h.heap[i] = moved
	moved.due().place = i + 1
	h.up(i)
	h.down(moved.due().place - 1)
}

func (h *timers[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if h.heap[parent].due().at <= h.heap[i].due().at {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *timers[T]) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h.heap) {
			return
		}
		if child+1 < len(h.heap) && h.heap[child+1].due().at < h.heap[child].due().at {
			child++
		}
		if h.heap[i].due().at <= h.heap[child].due().at {
			return
		}
		h.swap(i, child)
		i = child
	}
}

func (h *timers[T]) swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].due().place, h.heap[j].due().place = i+1, j+1
}
