// Package fifo is the one queue of the tree that lies in a ring of memory: first in, first out. It owns the items until they are
// popped, and imports nothing of ours. (Requests that wait are linked through themselves instead: kv.Queue.)
//
// A queue belongs to one goroutine, or to whoever holds the lock beside it. Its memory is allocated by Make, Grow and Append, never
// by Push or Pop, and it never shrinks.
package fifo

// Queue holds items, oldest first. The zero value is empty and has no room.
type Queue[T any] struct {
	items []T // a ring
	first int // where the oldest is
	n     int
}

// Make makes a queue with room for so many items.
func Make[T any](room int) Queue[T] { return Queue[T]{items: make([]T, room)} }

// Len is the number of items.
func (q *Queue[T]) Len() int { return q.n }

// Room is how many items there can be before the queue has to grow.
func (q *Queue[T]) Room() int { return len(q.items) }

// Push adds an item behind all others. For queues that are bounded by construction: it panics where there is no room.
func (q *Queue[T]) Push(v T) {
	if q.n == len(q.items) {
		panic("fifo: more items than there is room for")
	}
	q.items[q.place(q.n)] = v
	q.n++
}

// leastRoom is the room of a queue that grows for the first time.
const leastRoom = 8

// Append is Push for queues that grow: where there is no room, it doubles first. The caller has a bound on the items.
func (q *Queue[T]) Append(v T) {
	if q.n == len(q.items) {
		q.Grow(max(leastRoom, 2*q.n))
	}
	q.Push(v)
}

// Grow makes room for so many items in all, as many as there are at least. Pointers from At and Front do not survive it.
func (q *Queue[T]) Grow(room int) {
	items := make([]T, room)
	for i := range q.n {
		items[i] = *q.At(i)
	}
	q.items, q.first = items, 0
}

// At is item i, counted from the oldest, which is 0. It panics where there is none. The pointer is good until the item is popped.
func (q *Queue[T]) At(i int) *T {
	if uint(i) >= uint(q.n) {
		panic("fifo: no such item")
	}
	return &q.items[q.place(i)]
}

// Front is the oldest item: At(0).
func (q *Queue[T]) Front() *T { return q.At(0) }

// Pop removes the oldest item and returns it. It panics where there is none. What the item points to is not kept alive.
func (q *Queue[T]) Pop() T {
	var zero T
	at := q.At(0)
	v := *at
	*at = zero
	q.first = q.place(1)
	q.n--
	return v
}

// place is where item i lies, or would lie next. A comparison: a division costs 20 to 40 cycles.
func (q *Queue[T]) place(i int) int {
	if i += q.first; i >= len(q.items) {
		i -= len(q.items)
	}
	return i
}
