// Package verify asks whether what clients saw of a store is what a single copy of the data, changed by one request at a time, could have
// shown them (linearizability; Herlihy and Wing 1990), while connections are cut, processes killed, and disks are slow and fail.
//
// A run goes one way: clients in processes of their own (client.go) tell what they ask for and what they got, as events, to the parent
// (run.go), which kills and restarts them and the server (process.go); the events make a History (this file); and a History is
// checked (check.go). It is for tests: it may import everything but cmd, and nothing imports it.
package verify

import (
	"maps"
	"slices"

	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// kind says what an event is.
type kind uint8

const (
	invoked  kind = iota // an operation is about to be submitted
	returned             // … has completed
	ended                // the client has done what it was told to
	ready                // the server listens at Text, with the faults that it was told
	cut                  // it cuts a connection
	failed               // the process gives up, for the reason Text
)

// event is what a child process tells. Times are CLOCK_MONOTONIC's, in ns, which all processes of a machine share.
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
	Got    string    // get: the state; append, add: the new one; swap: the one before
	Items  []item    // scan
	More   bool      // scan: it ended for want of room

	Text   string
	Counts counts // ready: since the server's start
}

// item is one of a scan's answer.
type item struct{ Key, State string }

// operation is a request from its client's point of view.
type operation struct {
	process int
	call    event
	end     *event // nil: nobody knows how it ended, or whether it will
}

// History is what happened to some keys, from their first use to their last.
type History struct {
	ops   []*operation
	notes []note
	open  map[[2]int]*operation // by process and number
}

// note is what was done to the processes meanwhile, for who reads of a violation.
type note struct {
	at   int64
	text string
}

// note remembers what is being done now.
func (h *History) note(text string) { h.notes = append(h.notes, note{now(), text}) }

// before notes what a key has when the history begins: as if process 0, which there is not, had put it before all else.
func (h *History) before(key, state string) {
	h.ops = append(h.ops, &operation{call: event{Kind: invoked, Op: kv.OpPut, Key: key, Wrote: state}, end: &event{Kind: returned}})
}

// add takes an event of a process.
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

// nothingDone says that a status promises that the request had no effect: it is left out, and what it would have written must not be seen.
func nothingDone(s kv.Status) bool {
	switch s {
	case kv.StatusClosed, kv.StatusBusy, kv.StatusNoSpace, kv.StatusTooLarge, kv.StatusTooSmall, kv.StatusBadRequest:
		return true
	}
	return false
}

// known says that the operation's outcome is known.
func (o *operation) known() bool {
	if o.end == nil {
		return false
	}
	switch o.end.Status {
	case kv.StatusUnknown, kv.StatusIOError, kv.StatusTruncated:
		return false
	}
	return true
}

// perKey gives each key's operations. Those without an outcome have none to be checked against, and may take effect at any time; reads without
// one are left out. A scan is a read of every key of the history within its range: each, by itself, at some moment while it ran.
func (h *History) perKey() map[string][]*operation {
	by := map[string][]*operation{}
	for _, o := range h.ops {
		if o.end != nil && nothingDone(o.end.Status) || o.call.Op == kv.OpScan || o.call.Op == kv.OpGet && !o.known() {
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
			if k < o.call.Key || !covers(o, k) {
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

// covers says that a scan would have found the key.
func covers(scan *operation, key string) bool {
	items := scan.end.Items
	if len(items) < scan.call.Limit && !scan.end.More {
		return true
	}
	return len(items) > 0 && key <= items[len(items)-1].Key
}

// now is CLOCK_MONOTONIC: the same clock in every process.
func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic("verify: CLOCK_MONOTONIC: " + err.Error())
	}
	return t.Nano()
}
