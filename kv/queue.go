package kv

// Queue is a list of requests, oldest first, linked through their own Link field: it never allocates, and is
// bounded by the requests that there are. A request is in one queue at a time, and belongs to it. The
// zero value is empty; a queue belongs to one goroutine.
type Queue struct{ head, tail *Request }

// Empty says whether there is nothing.
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

// PushFront puts r before all others.
func (q *Queue) PushFront(r *Request) {
	r.Link = q.head
	q.head = r
	if q.tail == nil {
		q.tail = r
	}
}

// Pop takes the oldest; nil when there is none.
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

// Take empties the queue and returns what was in it.
func (q *Queue) Take() Queue {
	all := *q
	*q = Queue{}
	return all
}
