package stream

// line is a queue of places, oldest first, a ring of as many as there can be.
type line struct {
	q       []int
	head, n int
}

func (l *line) push(i int) {
	l.q[(l.head+l.n)%len(l.q)] = i
	l.n++
}

// first is the oldest; there is one.
func (l *line) first() int { return l.q[l.head] }

func (l *line) pop() {
	if l.head++; l.head == len(l.q) {
		l.head = 0
	}
	l.n--
}
