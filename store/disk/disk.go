// Package disk owns the engines: the ways in which pages travel between memory and files while a partition serves, behind one
// interface (Engine), and the table of the transfers under way (Transfers). What a transfer is for, and which file is which, is its owner's affair.
// It may import loop and internal packages, and nothing else of ours: no request, no index and no store.
package disk

import (
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/loop"
)

// Disk carries pages between memory and files. It belongs to its partition's loop, whose goroutine calls all methods, and none of them
// waits (but the engine sync, in Flush).
type Disk interface {
	// Submit accepts a transfer, which stays as it is until Flush; false means that the disk accepts no more in this
	// turn. Its completion carries tag.
	Submit(tag uint64, t *Transfer) bool

	// Flush hands over what was submitted, in one go where the engine can. It is called once a turn, also when nothing
	// was. Its error ends the loop.
	Flush() error

	// Reap copies completions into done, in any order, and returns how many: fewer than len(done) when there are no more.
	Reap(done []Completion) int

	// Calls is how many system calls were made for transfers, on whatever thread.
	Calls() uint64
}

// Engine is a Disk that lives on its partition's loop, as a member added before the partition (Start). Completions of the kernel and of other threads
// come to the engine; the partition gets them by Reap. Its Close comes after the partition's, so that nothing is in flight.
type Engine interface {
	Disk
	loop.Member

	// Open begins, on the loop. Transfer.File is an index of fds, which stay the caller's. bufs is the memory that transfers use
	// (Registered), and Transfer.Fixed an index of it.
	Open(id loop.MemberID, fds []int, bufs [][]byte) error

	// Fixed reports whether memory and files are registered with a ring.
	Fixed() (buffers, files bool)
}

// Start opens an engine on a loop, and then adds the partition that uses it, which so closes first. On the loop's goroutine.
func Start(l *loop.Loop, e Engine, partition loop.Member, fds []int, bufs [][]byte) error {
	id, err := l.Add(e)
	if err == nil {
		err = e.Open(id, fds, bufs)
	}
	if err == nil {
		_, err = l.Add(partition)
	}
	return err
}

// Op is what a transfer does.
type Op uint8

const (
	Read  Op = iota // from the file into Buf
	Write           // from Buf to the file
	Grow            // no bytes: reserves Length bytes at Off
)

// Transfer is one piece of disk IO. Its bytes belong to the disk from Submit until the completion.
type Transfer struct {
	Op     Op
	File   uint8  // index of the files that Engine.Open was given
	Fixed  int    // index of the registered buffer that Buf lies in
	Buf    []byte // Read, Write: whole pages, at an address that is a multiple of a page
	Off    int64  // in the file, in bytes: a multiple of a page
	Length int64  // Grow: in bytes
}

// Completion is a transfer's end.
type Completion struct {
	Tag uint64
	Res int32 // bytes, or -errno
}

// FixedShift: the kernel accepts at most 1 GiB in one registered buffer. The byte at an offset of registered memory is in buffer offset >> FixedShift.
const FixedShift = 30

// Registered splits memory into the buffers that Engine.Open is given.
func Registered(arenas ...*arena.Arena) (bufs [][]byte) {
	for _, a := range arenas {
		for b := a.Bytes(); len(b) > 0; {
			n := min(len(b), 1<<FixedShift)
			bufs = append(bufs, b[:n])
			b = b[n:]
		}
	}
	return bufs
}
