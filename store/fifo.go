package store

import "github.com/kvwire/kvwire/kv"

// fifo is a list of requests that wait for the same thing, linked through their own Link field: it
// never allocates, and is bounded by the requests that there are.
type fifo struct{ head, tail *kv.Request }

func (q *fifo) empty() bool { return q.head == nil }

func (q *fifo) push(r *kv.Request) {
	r.Link = nil
	if q.tail == nil {
		q.head = r
	} else {
		q.tail.Link = r
	}
	q.tail = r
}

func (q *fifo) pushFront(r *kv.Request) {
	r.Link = q.head
	q.head = r
	if q.tail == nil {
		q.tail = r
	}
}

func (q *fifo) pop() *kv.Request {
	r := q.head
	if r == nil {
		return nil
	}
	if q.head = r.Link; q.head == nil {
		q.tail = nil
	}
	r.Link = nil
	return r
}

// take empties the list and returns what was in it.
func (q *fifo) take() fifo {
	all := *q
	*q = fifo{}
	return all
}
