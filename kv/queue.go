package kv

// Queue is a list of requests, oldest first, linked through their Link field. It never allocates, and its length is
// bounded by the number of requests. A request is in one queue at a time, which then owns it. The
// zero value is empty; a queue belongs to one goroutine.
type Queue struct{ head, tail *Request }

// Empty reports whether the queue is empty.
func (q *Queue) Empty() bool { return q.head == nil }

// Push appends r.
func (q *Queue) Push(r *Request) {
	r.Link = nil
	if q.tail == nil {
		q.head = r
	} else {
		q.tail.Link = r
	}
	q.tail = r
}

// PushFront inserts r before all others.
func (q *Queue) PushFront(r *Request) {
	r.Link = q.head
	q.head = r
	if q.tail == nil {
		q.tail = r
	}
}

// Pop removes and returns the oldest request; nil if there is none.
func (q *Queue) Pop() *Request {
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

// Detach empties the queue and returns its former content.
func (q *Queue) Detach() Queue {
	all := *q
	*q = Queue{}
	return all
}
