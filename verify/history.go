// Package verify tests whether a store is linearizable (Herlihy and Wing 1990): whether all answers could come from a single copy of the
// data that executes one request at a time. Meanwhile connections are cut, processes are killed, and disks are slow and fail.
//
// Clients in processes of their own (client.go) send an event for each start and end of an operation to the parent (run.go), which kills
// and restarts them and the server (process.go). The events make a History (this file), which is then checked (check.go). It is for tests: it may import everything but cmd, and nothing imports it.
package verify

import (
	"maps"
	"slices"

	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// kind is the kind of an event.
type kind uint8

const (
	invoked  kind = iota // an operation is about to be submitted
	returned             // an operation has completed
	ended                // the client has finished its work
	ready                // the server listens at Text, and has set its faults
	cut                  // the client cuts a connection
	failed               // the process fails, for the reason Text
)

// event is a message from a child process. Times are CLOCK_MONOTONIC's, in ns, which all processes of a machine share.
type event struct {
	Kind   kind
	Number int // of the operation, in its process
	At     int64

	Worker int // invoked
	Op     kv.Op
	If     kv.If
	Key    string
	Wrote  string // what a put, swap or append writes, as a state
	By     int64  // add
	Limit  int    // scan

	Status kv.Status // returned
	Got    string    // get: the state; append, add: the new state; swap: the old state
	Items  []item    // scan
	More   bool      // scan: it ended because its buffer was full

	Text   string
	Counts counts // ready: since the server's start
}

// item is an item of a scan's answer.
type item struct{ Key, State string }

// operation is a request from its client's point of view.
type operation struct {
	process int
	call    event
	end     *event // nil: its end is not known
}

// History has all operations on some keys, from their first use to their last.
type History struct {
	ops   []*operation
	notes []note
	open  map[[2]int]*operation // by process and number
}

// note is an action on a process, such as a kill, for the explanation of a violation.
type note struct {
	at   int64
	text string
}

// note records an action with the present time.
func (h *History) note(text string) { h.notes = append(h.notes, note{now(), text}) }

// before records the state of a key at the start of the history, as a put by process 0, which does not exist.
func (h *History) before(key, state string) {
	h.ops = append(h.ops, &operation{call: event{Kind: invoked, Op: kv.OpPut, Key: key, Wrote: state}, end: &event{Kind: returned}})
}

// add adds an event of a process.
func (h *History) add(process int, e event) {
	at := [2]int{process, e.Number}
	switch e.Kind {
	case invoked:
		if h.open == nil {
			h.open = map[[2]int]*operation{}
		}
		o := &operation{process: process, call: e}
		h.ops = append(h.ops, o)
		h.open[at] = o
	case returned:
		if o := h.open[at]; o != nil {
			o.end = &e
			delete(h.open, at)
		}
	}
}

// hasNoEffect reports whether a status guarantees that the request had no effect. Such a request is left out, and its value must not be read.
func hasNoEffect(s kv.Status) bool {
	switch s {
	case kv.StatusClosed, kv.StatusBusy, kv.StatusNoSpace, kv.StatusTooLarge, kv.StatusTooSmall, kv.StatusBadRequest:
		return true
	}
	return false
}

// hasOutcome reports whether the operation's outcome is known.
func (o *operation) hasOutcome() bool {
	if o.end == nil {
		return false
	}
	switch o.end.Status {
	case kv.StatusUnknown, kv.StatusIOError, kv.StatusTruncated:
		return false
	}
	return true
}

// perKey returns the operations of each key. An operation without an outcome may have an effect at any time after its start, or none; reads
// without an outcome are left out. A scan is a read of each key of the history in its range, each at its own moment during the scan.
func (h *History) perKey() map[string][]*operation {
	by := map[string][]*operation{}
	for _, o := range h.ops {
		if o.end != nil && hasNoEffect(o.end.Status) || o.call.Op == kv.OpScan || o.call.Op == kv.OpGet && !o.hasOutcome() {
			continue
		}
		by[o.call.Key] = append(by[o.call.Key], o)
	}
	keys := slices.Sorted(maps.Keys(by))
	for _, o := range h.ops {
		if o.call.Op != kv.OpScan || o.end == nil || o.end.Status != kv.StatusOK {
			continue
		}
		found := map[string]string{}
		for _, it := range o.end.Items {
			found[it.Key] = it.State
		}
		for _, k := range keys {
			if k < o.call.Key || !inRange(o, k) {
				continue
			}
			got, ok := found[k]
			read := *o.end
			if read.Got = got; !ok {
				read.Got, read.Status = absent, kv.StatusNotFound
			}
			by[k] = append(by[k], &operation{process: o.process, call: o.call, end: &read})
		}
	}
	return by
}

// inRange reports whether a scan covers the key.
func inRange(scan *operation, key string) bool {
	items := scan.end.Items
	if len(items) < scan.call.Limit && !scan.end.More {
		return true
	}
	return len(items) > 0 && key <= items[len(items)-1].Key
}

// now reads CLOCK_MONOTONIC, which is the same clock in all processes.
func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic("verify: CLOCK_MONOTONIC: " + err.Error())
	}
	return t.Nano()
}
