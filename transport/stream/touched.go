package stream

import "github.com/kvwire/kvwire/loop"

// Touched are the connections that a driver looks at when its member is staged next. It belongs to one loop.
type Touched[T any] struct {
	list   []T
	spare  []T    // the list of the last Stage, for the next one
	staged uint64 // the turn of the last Stage
}

// Add lists a connection, unless its mark says that it is. What is listed after the turn's Stage is looked at in the next turn.
func (t *Touched[T]) Add(l *loop.Loop, c T, listed *bool) {
	if *listed {
		return
	}
	*listed = true
	t.list = append(t.list, c)
	if t.staged == l.Stats.Turns {
		l.Again()
	}
}

// Take gives the list, once in each Stage. It is the caller's until the next call: it clears the entries, and their marks.
func (t *Touched[T]) Take(l *loop.Loop) []T {
	t.staged = l.Stats.Turns
	list := t.list
	t.list, t.spare = t.spare[:0], list
	return list
}
