// Package fifo has a first-in-first-out queue in a ring of memory. It owns the items until they are popped, and
// imports no other package of kvwire. (Waiting requests are in linked lists instead: kv.Queue.)
//
// A queue belongs to one goroutine, or is protected by its owner's lock. Make, Grow and Append allocate its memory; Push and Pop
// never do. It never shrinks.
package fifo

// Queue holds items, oldest first. The zero value is empty and has no room.
type Queue[T any] struct {
	items []T // a ring
	first int // index of the oldest
	n     int
}

// Make makes a queue with room for so many items.
func Make[T any](room int) Queue[T] { return Queue[T]{items: make([]T, room)} }

// Len is the number of items.
func (q *Queue[T]) Len() int { return q.n }

// Room is the number of items that the queue can hold before it must grow.
func (q *Queue[T]) Room() int { return len(q.items) }

// Push adds an item at the end. It panics if there is no room, so it is for queues that are bounded by construction.
func (q *Queue[T]) Push(v T) {
	if q.n == len(q.items) {
		panic("fifo: more items than there is room for")
	}
	q.items[q.place(q.n)] = v
	q.n++
}

// leastRoom is the room of a queue after its first growth.
const leastRoom = 8

// Append adds an item at the end. If there is no room, it doubles the room first. The caller must bound the number of items.
func (q *Queue[T]) Append(v T) {
	if q.n == len(q.items) {
		q.Grow(max(leastRoom, 2*q.n))
	}
	q.Push(v)
}

// Grow makes room for room items in all, which must not be less than Len. It invalidates pointers from At and Front.
func (q *Queue[T]) Grow(room int) {
	items := make([]T, room)
	for i := range q.n {
		items[i] = *q.At(i)
	}
	q.items, q.first = items, 0
}

// At returns item i, counted from the oldest, which is 0. It panics if there is none. The pointer is valid until the item is popped or the queue grows.
func (q *Queue[T]) At(i int) *T {
	if uint(i) >= uint(q.n) {
		panic("fifo: no such item")
	}
	return &q.items[q.place(i)]
}

// Front returns the oldest item: At(0).
func (q *Queue[T]) Front() *T { return q.At(0) }

// Pop removes the oldest item and returns it. It panics if there is none. It clears the item's memory, so that the garbage collector can free what it points to.
func (q *Queue[T]) Pop() T {
	v := *q.Front()
	q.Drop()
	return v
}

// Drop removes the oldest item, as Pop does, without a copy of it. It panics if there is none.
func (q *Queue[T]) Drop() {
	var zero T
	*q.Front() = zero
	if q.first++; q.first == len(q.items) {
		q.first = 0
	}
	q.n--
}

// place returns the index in items of item i. It uses a comparison, because a division costs 20 to 40 cycles.
func (q *Queue[T]) place(i int) int {
	if i += q.first; i >= len(q.items) {
		i -= len(q.items)
	}
	return i
}
