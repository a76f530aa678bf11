package stream

import "github.com/kvwire/kvwire/loop"

// Touched lists the connections that a driver serves in its member's next stage step. It belongs to one loop.
type Touched[T any] struct {
	list   []T
	spare  []T    // the list of the last Stage, for reuse in the next
	staged uint64 // the turn of the last Stage
}

// Add adds a connection, unless *listed is true: then it is in the list. A connection added after the turn's stage step is served in the next turn.
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

// Detach returns the list, once in each stage step. The caller owns it until the next call, and clears the entries and their marks.
func (t *Touched[T]) Detach(l *loop.Loop) []T {
	t.staged = l.Stats.Turns
	list := t.list
	t.list, t.spare = t.spare[:0], list
	return list
}
