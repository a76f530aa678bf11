package stream

// line is a queue of indexes of slots or calls, oldest first: a ring with room for all of them.
type line struct {
	q       []int
	head, n int
}

func (l *line) push(i int) {
	l.q[(l.head+l.n)%len(l.q)] = i
	l.n++
}

// first returns the oldest index. The queue must not be empty.
func (l *line) first() int { return l.q[l.head] }

func (l *line) pop() {
	if l.head++; l.head == len(l.q) {
		l.head = 0
	}
	l.n--
}
