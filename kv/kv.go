// Package kv is the seam of kvwire: a request, its outcome, and the two
// one-method interfaces through which a request travels. The client is a remote
// store and the store is a local one; both are a Handler. It owns no resources and
// imports nothing of ours.
package kv

import "hash/crc32"

// Op says what a request asks for.
type Op uint8

const (
	OpGet    Op = 1 // Value receives the item's bytes
	OpPut    Op = 2 // Value holds the bytes to keep; insert or overwrite
	OpDelete Op = 3 // NotFound when the key was not there
	OpScan   Op = 4 // Value receives up to Limit items from Key on, in key order (AppendItem's form)
	OpStats  Op = 5 // Value receives what Limit asks for (StatsAll …); never on the data path

	// Updates read an item and change it in one step at the key's owner. Where Value's capacity does not do, they end as
	// TooSmall, with Need, and nothing was done. They are no part of the native frame.
	OpAdd    Op = 6  // Value is an int64, little-endian, to add to the item's decimal number (0 where there is none); it becomes the sum in decimal
	OpAppend Op = 7  // Value is put behind the item's bytes; it becomes the whole item
	OpSwap   Op = 8  // a put; the old item follows Value's bytes, in its capacity, and Limit is the old item's length + 1, or 0 if there was none
	OpTake   Op = 9  // a delete; Value becomes the old item
	OpPatch  Op = 10 // Value replaces the item's bytes from Limit on, after zero bytes if the item is shorter; it becomes the whole item

	// OpKeys reads a page of a walk (Position). It is not part of the native frame either.
	OpKeys Op = 11 // Key is a position; Value receives up to Limit keys (AppendItem's form, without values), and Mark the place after them
)

// AddBytes is the capacity that OpAdd's Value must have: the longest sum in decimal.
const AddBytes = 20

// Updates says whether the op reads an item and changes it in one step.
func (o Op) Updates() bool { return o >= OpAdd && o <= OpPatch }

// Deletes reports whether the op removes the item.
func (o Op) Deletes() bool { return o == OpDelete || o == OpTake }

// Changes says whether the op may change an item.
func (o Op) Changes() bool { return o == OpPut || o == OpDelete || o.Updates() }

// String is the op as it stands in a column: get, put, …
func (o Op) String() string {
	switch o {
	case OpGet:
		return "get"
	case OpPut:
		return "put"
	case OpDelete:
		return "delete"
	case OpScan:
		return "scan"
	case OpStats:
		return "stats"
	case OpAdd:
		return "add"
	case OpAppend:
		return "append"
	case OpSwap:
		return "swap"
	case OpKeys:
		return "keys"
	case OpTake:
		return "take"
	case OpPatch:
		return "patch"
	}
	return "unknown"
}

// Status is a request's outcome. A dead connection is an error of the connection;
// its requests end as Unknown or Closed.
type Status uint8

const (
	StatusOK         Status = 0
	StatusNotFound   Status = 1  // no such key
	StatusTooSmall   Status = 2  // Value's capacity is below Need bytes, of a scan for its first item alone; nothing was copied
	StatusTooLarge   Status = 3  // key or value beyond the limit; nothing was done
	StatusBadRequest Status = 4  // empty key, unknown op, zero scan limit; nothing was done
	StatusNoSpace    Status = 5  // the disk or the slab is full; nothing was done
	StatusIOError    Status = 6  // the disk said no; a put may or may not have reached it
	StatusCorrupt    Status = 7  // the item on disk fails its checksum; nothing is served
	StatusBusy       Status = 8  // out of memory for this request now; nothing was done
	StatusClosed     Status = 9  // the handler was closed before it began; nothing was done
	StatusUnknown    Status = 10 // the connection died after the request was sent: it may have been applied
	StatusExists     Status = 11 // IfAbsent, and there is such a key; nothing was done
	StatusNoNumber   Status = 12 // add: the item is no int64 in decimal; nothing was done
	StatusOverflow   Status = 13 // add: the sum is no int64; nothing was done
	StatusTruncated  Status = 14 // a transfer ended short, and its client does not go on with it: a put may have been applied
	StatusReadOnly   Status = 15 // who asks may only read; nothing was done
	statusEnd        Status = 16
)

var statusNames = [statusEnd]string{"ok", "not found", "buffer too small", "too large", "bad request",
	"no space", "io error", "corrupt", "busy", "closed", "unknown outcome", "exists", "not a number", "overflow", "truncated", "read only"}

// String is the status in words.
func (s Status) String() string {
	if s < statusEnd {
		return statusNames[s]
	}
	return "invalid status"
}

// Valid reports whether s is one of the named statuses; a peer's byte may not be.
func (s Status) Valid() bool { return s < statusEnd }

// If is a condition under which put and swap are done.
type If uint8

const (
	Always    If = iota
	IfAbsent     // StatusExists where there is such a key; a swap still gives what is there
	IfPresent    // StatusNotFound where there is none
)

// Request is one operation under way. It has exactly one owner: Submit passes it to
// the handler, Complete passes it back, and only the owner touches its fields or the
// bytes they point to. Whoever makes it allocates it once and uses it again.
//
// The outcome is set by the handler before it completes the request, and read by the submitter afterwards: Status, Value, and More, Need or Mark
// where Status and Op give them a meaning.
type Request struct {
	Op     Op
	Status Status // outcome
	If     If     // put, swap: the condition
	More   bool   // outcome of a scan, OK: it ended for want of room, not at its limit or the last key

	// Returning is the loop's: the request is in a mailbox on its way home. Nobody else reads or writes it.
	Returning bool

	// Key is read by the handler until it completes the request. 1 byte to the handler's limit.
	Key []byte

	// Value is input for put (all of it is kept). For get, scan and stats its capacity is
	// the room for the answer: on OK the handler sets its length and fills it, on TooSmall
	// it leaves it alone and sets Need.
	Value []byte

	Limit uint32 // scan, OpKeys: most items to return, ≥ 1; stats: StatsAll …; patch: the first byte that is replaced
	Need  uint32 // outcome, TooSmall: the capacity in bytes that Value must have (a server's own guess of it while it looks for that room, before Submit)
	Mark  uint32 // outcome of OpKeys, OK: the mark after the page's last key (Position.Next)

	Work Work // the partition's

	Owner Completer // gets the request back; set by the submitter
	Slot  uint64    // the submitter's own: which of its slots this is

	// Stages, set by the submitter, is where each owner marks what of its time has passed; nil: nobody does.
	Stages *Stages

	// The rest belongs to whoever owns the request at the moment.
	Link *Request  // intrusive queues: mailbox, delivery, waiting lists
	Home Completer // the owner to restore when a request has crossed to another loop
}

// Work is what a partition remembers of a request, from Submit until it completes the request. Only the partition reads or writes it; what its words mean
// depends on the op, and is the partition's affair. It lies in the request so that a request that waits allocates nothing.
type Work [5]uint32

// What OpStats gives, by Limit. The native frame knows the first two, of which each client may ask.
const (
	// StatsAll are the server's counters, as JSON.
	StatsAll uint32 = iota

	// StatsBrief are the number of items and the CPU time of the process, as JSON: a few hundred bytes, however many loops and
	// partitions a server has.
	StatsBrief

	// StatsInfo is the text of Redis's INFO; Key has one byte for each section.
	StatsInfo

	// StatsClients is the text of Redis's CLIENT LIST, a line for each connection. Key is empty, or has the ids of those that are listed: 8 bytes
	// each, little-endian.
	StatsClients

	// StatsKinds is how many there are.
	StatsKinds
)

// Answer ends a request, as far as its outcome goes, with an answer that lies elsewhere.
func (r *Request) Answer(b []byte) {
	if len(b) > cap(r.Value) {
		r.Status, r.Need = StatusTooSmall, uint32(len(b))
		return
	}
	r.Status, r.Value = StatusOK, append(r.Value[:0], b...)
}

// Handler takes requests. Submit returns at once; every request completes exactly once,
// also after the handler was closed, and never from inside Submit: the completion is
// queued on the loop and delivered in its turn. Only the handler's loop may call it.
type Handler interface{ Submit(r *Request) }

// Batcher is a Handler that does better when it knows of several requests at once. Between Begin and End, which are called in the same step
// of a turn, it may hold requests back; End submits them. Only the handler's loop may call it.
type Batcher interface {
	Begin()
	End()
}

// Completer gets requests back. It is called from the turn of the loop that submitted the
// request, must not block, and may submit again.
type Completer interface{ Complete(r *Request) }

// Limits bound what one request may carry.
type Limits struct {
	MaxKeyBytes   int
	MaxValueBytes int
}

// ScanRoom is the most room that a scan's answer is given: an item of the largest kind fits.
func (l Limits) ScanRoom() int { return ItemHeaderBytes + l.MaxKeyBytes + l.MaxValueBytes }

// Check says whether r is well formed and within the limits.
func (l Limits) Check(r *Request) Status {
	switch r.Op {
	case OpGet, OpDelete, OpPut:
		if len(r.Key) == 0 {
			return StatusBadRequest
		}
	case OpAppend, OpSwap, OpTake, OpPatch:
		if len(r.Key) == 0 {
			return StatusBadRequest
		}
	case OpAdd:
		if len(r.Key) == 0 || len(r.Value) != 8 || cap(r.Value) < AddBytes {
			return StatusBadRequest
		}
	case OpScan: // an empty key scans from the first item
		if r.Limit == 0 {
			return StatusBadRequest
		}
	case OpStats:
		if len(r.Key) != 0 || r.Limit > StatsBrief {
			return StatusBadRequest
		}
	case OpKeys:
		if len(r.Key) != PositionBytes || r.Limit == 0 {
			return StatusBadRequest
		}
		return StatusOK // a position is not a key
	default:
		return StatusBadRequest
	}
	if len(r.Key) > l.MaxKeyBytes || r.Op.Changes() && !r.Op.Deletes() && len(r.Value) > l.MaxValueBytes {
		return StatusTooLarge
	}
	return StatusOK
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Hash places a key: CRC32C of its bytes (one instruction per 8 bytes on amd64 and arm64),
// the same on every machine and in every version, since files and shard maps depend on it.
func Hash(key []byte) uint32 { return crc32.Checksum(key, castagnoli) }

// Shard is the partition, 0 to n-1, that owns a key. It takes the hash's high bits
// (multiply–shift), so that its low bits stay free for tables inside a partition.
func Shard(key []byte, n int) int { return int(uint64(Hash(key)) * uint64(n) >> 32) }
