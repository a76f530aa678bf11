// Package kv is the interface between networks, load and store: a request, its outcome, and two interfaces of one
// method each, through which a request travels. The client is a remote store and the store is a local one; both are a
// Handler. It owns no resources and imports nothing of ours.
package kv

import "hash/crc32"

// Op is the operation of a request.
type Op uint8

const (
	OpGet    Op = 1 // Value receives the item's bytes
	OpPut    Op = 2 // Value holds the bytes to keep; insert or overwrite
	OpDelete Op = 3 // NotFound when the key was not there
	OpScan   Op = 4 // Value receives up to Limit items from Key on, in key order (AppendItem's form)
	OpStats  Op = 5 // Value receives the counters or the text that Limit selects (StatsAll …); never on the data path

	// Updates read and change an item in one step, in the key's partition. If Value's capacity is too small, they end as
	// TooSmall, with Need, and change nothing. They are not part of the native frame.
	OpAdd    Op = 6  // Value is an int64, little-endian, to add to the item's decimal number (0 where there is none); it becomes the sum in decimal
	OpAppend Op = 7  // Value is appended to the item; it becomes the whole item
	OpSwap   Op = 8  // a put; the old item follows Value's bytes, in its capacity, and Limit is the old item's length + 1, or 0 if there was none
	OpTake   Op = 9  // a delete that returns the old item in Value
	OpPatch  Op = 10 // Value replaces the item's bytes from Limit on, after zero bytes if the item is shorter; it becomes the whole item

	// OpKeys reads a page of a walk (Position). It is not part of the native frame either.
	OpKeys Op = 11 // Key is a position; Value receives up to Limit keys (AppendItem's form, without values), and Record the place after them
)

// AddBytes is the least capacity of Value for OpAdd: the length of the longest sum in decimal.
const AddBytes = 20

// Updates reports whether the op reads and changes an item in one step.
func (o Op) Updates() bool { return o >= OpAdd && o <= OpPatch }

// Deletes reports whether the op removes the item.
func (o Op) Deletes() bool { return o == OpDelete || o == OpTake }

// Changes reports whether the op may change an item.
func (o Op) Changes() bool { return o == OpPut || o == OpDelete || o.Updates() }

// String returns the op's name in columns: get, put, …
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
	StatusIOError    Status = 6  // the disk returned an error; a put may have reached it
	StatusCorrupt    Status = 7  // the item on disk fails its checksum; nothing is returned
	StatusBusy       Status = 8  // no memory for this request now; nothing was done
	StatusClosed     Status = 9  // the handler was closed before the request began; nothing was done
	StatusUnknown    Status = 10 // the connection died after the request was sent: it may have been applied
	StatusExists     Status = 11 // IfAbsent, and the key exists; nothing was done
	StatusNoNumber   Status = 12 // add: the item is not an int64 in decimal; nothing was done
	StatusOverflow   Status = 13 // add: the sum is not an int64; nothing was done
	StatusTruncated  Status = 14 // a transfer ended short, and the client does not continue it: a put may have been applied
	StatusReadOnly   Status = 15 // the client may only read; nothing was done
	statusEnd        Status = 16
)

var statusNames = [statusEnd]string{"ok", "not found", "buffer too small", "too large", "bad request",
	"no space", "io error", "corrupt", "busy", "closed", "unknown outcome", "exists", "not a number", "overflow", "truncated", "read only"}

// String describes the status in words.
func (s Status) String() string {
	if s < statusEnd {
		return statusNames[s]
	}
	return "invalid status"
}

// Valid reports whether s is one of the named statuses. A byte from a peer may be any other.
func (s Status) Valid() bool { return s < statusEnd }

// If is the condition of a put or swap.
type If uint8

const (
	Always    If = iota
	IfAbsent     // else StatusExists; a swap then still returns the item
	IfPresent    // else StatusNotFound
)

// Request is one operation under way. It has exactly one owner: Submit passes it to
// the handler, Complete passes it back, and only the owner touches its fields or the
// bytes they point to. The submitter allocates it once and reuses it.
//
// The handler sets the outcome before it completes the request; the submitter reads it afterwards: Status, Value, and More, Need or Record
// as far as Status and Op define them.
type Request struct {
	Op     Op
	Status Status // outcome
	If     If     // put, swap: the condition
	More   bool   // outcome of a scan, OK: it ended because Value was full, not at its limit or the last key

	// Returning marks a completed request in the mailbox of the loop that submitted it. Only package loop uses it.
	Returning bool

	// Key is read by the handler until it completes the request. 1 byte to the handler's limit.
	Key []byte

	// Value is the input of a put, which stores all of it. For get, scan and stats its capacity is
	// the room for the answer: with OK the handler fills it and sets its length, with TooSmall
	// it does not change it and sets Need.
	Value []byte

	Limit  uint32 // scan, OpKeys: most items to return, ≥ 1; stats: StatsAll …; patch: the first byte that is replaced
	Need   uint32 // outcome, TooSmall: the capacity in bytes that Value must have (before Submit: a server's guess of it, while it allocates that room)
	Record uint32 // outcome of OpKeys, OK: the number of the record after the page's last key (Position.Next)

	Work Work // state of the partition

	Owner Completer // gets the completed request; set by the submitter
	Slot  uint64    // number of the submitter's slot; only the submitter uses it

	// Stages, set by the submitter, receives the times of the request's stages; nil: no times are taken.
	Stages *Stages

	// The rest belongs to the present owner of the request.
	Link *Request  // intrusive queues: mailbox, delivery, waiting lists
	Home Completer // the owner to restore when a request has crossed to another loop
}

// Work is a partition's state of a request, from Submit until it completes the request. Only the partition reads or writes it; the meaning of its words
// depends on the op. It is part of the request so that a waiting request needs no allocation.
type Work [5]uint32

// What OpStats returns, selected by Limit. Clients of the native protocol can request the first two.
const (
	// StatsAll selects the server's counters, as JSON.
	StatsAll uint32 = iota

	// StatsBrief selects the number of items of each partition and the CPU time of the process, as JSON.
	StatsBrief

	// StatsInfo selects the text of Redis's INFO; Key has one byte for each section.
	StatsInfo

	// StatsClients selects the text of Redis's CLIENT LIST, a line for each connection. Key is empty, or has the ids of the connections to list: 8 bytes
	// each, little-endian.
	StatsClients

	// StatsKinds is the number of these values.
	StatsKinds
)

// SetAnswer ends a request, as far as its outcome goes, with an answer that lies elsewhere.
func (r *Request) SetAnswer(b []byte) {
	if len(b) > cap(r.Value) {
		r.Status, r.Need = StatusTooSmall, uint32(len(b))
		return
	}
	r.Status, r.Value = StatusOK, append(r.Value[:0], b...)
}

// Handler executes requests. Submit returns at once; every request completes exactly once,
// also after the handler was closed, and never from inside Submit: the completion is
// queued on the loop and delivered in its turn. Only the handler's loop may call it.
type Handler interface{ Submit(r *Request) }

// Batcher is a Handler that executes several requests together more cheaply. Between Begin and End, which are called in the same step
// of a turn, it may delay requests; End submits them. Only the handler's loop may call it.
type Batcher interface {
	Begin()
	End()
}

// Direct is a Handler that can execute gets and puts at once, without requests, where their items are in memory. Only the handler's loop may call it.
type Direct interface {
	// Read looks up keys, which are within the limits, and sets values[i] to the value of keys[i], without a copy; nil: there is no such key. It returns the number of
	// keys that are looked up, the first ones; 0: the first one needs a request. Values must not be changed, and are valid until the handler is called again.
	Read(keys, values [][]byte) int

	// Write puts values[i] as the item of keys[i], in this order. Keys and values are within the limits, and are not used after the call. It returns the number of puts that
	// are done, the first ones; the put after them needs a request.
	Write(keys, values [][]byte) int
}

// Completer receives completed requests. It is called from the turn of the loop that submitted the
// request, must not block, and may submit again.
type Completer interface{ Complete(r *Request) }

// Limits bound the sizes of one request.
type Limits struct {
	MaxKeyBytes   int
	MaxValueBytes int
}

// ScanRoom returns the most room for a scan's answer, in bytes: that of the largest item.
func (l Limits) ScanRoom() int { return ItemHeaderBytes + l.MaxKeyBytes + l.MaxValueBytes }

// Check returns StatusOK if r is well formed and within the limits, else the reason.
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

// Hash returns the CRC32C of a key (one instruction per 8 bytes on amd64 and arm64). It is
// the same on every machine and in every version, because files and shard maps depend on it.
func Hash(key []byte) uint32 { return crc32.Checksum(key, castagnoli) }

// Shard returns the number of the partition, 0 to n-1, that owns a key. It uses the hash's high bits
// (multiply–shift), so that tables inside a partition can use the low bits.
func Shard(key []byte, n int) int {
	if n == 1 {
		return 0
	}
	return int(uint64(Hash(key)) * uint64(n) >> 32)
}
