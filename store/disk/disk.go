// Package disk owns the disk engines, which move pages between memory and files while a partition serves, behind one interface (Engine), and the
// table of the transfers under way (Transfers). The owner of a table records the purpose of its transfers and the meaning of its files. The package
// may import loop and internal packages, and nothing else of kvwire: no request, no index and no store.
package disk

import (
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/loop"
)

// Disk moves pages between memory and files. It belongs to its partition's loop, whose goroutine calls all methods. No method blocks, except Flush
// of the engine sync.
type Disk interface {
	// Submit queues a transfer; *t must not change until Flush. Its completion carries tag. false: the disk accepts no more
	// transfers in this turn.
	Submit(tag uint64, t *Transfer) bool

	// Flush starts the queued transfers, with one system call if the engine can. It is called once a turn, even if nothing is
	// queued. Its error ends the loop.
	Flush() error

	// Reap copies completions into done, in any order, and returns their number: fewer than len(done) if there are no more.
	Reap(done []Completion) int

	// Calls returns the number of system calls made for transfers so far, on all threads.
	Calls() uint64
}

// Engine is a Disk that is a member of its partition's loop, added before the partition (Start). It handles the completions of the kernel and of other
// threads; the partition gets them by Reap. It closes after the partition, when no transfer is in flight.
type Engine interface {
	Disk
	loop.Member

	// Open starts the engine, on the loop. Transfer.File is an index into fds, which the caller keeps. bufs is the memory of the
	// transfers (Registered), and Transfer.Fixed is an index into it.
	Open(id loop.MemberID, fds []int, bufs [][]byte) error

	// Fixed reports whether memory and files are registered with a ring.
	Fixed() (buffers, files bool)
}

// Start adds an engine to a loop and opens it, and then adds the partition that uses it, so that the partition closes first. Only the loop's goroutine
// may call it.
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
	File   uint8  // index into the fds of Engine.Open
	Fixed  int    // index of the registered buffer that contains Buf
	Buf    []byte // Read, Write: whole pages, at an address that is a multiple of a page
	Off    int64  // in the file, in bytes: a multiple of a page
	Length int64  // Grow: in bytes
}

// Completion is a transfer's end.
type Completion struct {
	Tag uint64
	Res int32 // bytes, or -errno
}

// FixedShift is log2 of a registered buffer's size: the kernel accepts at most 1 GiB. The byte at an offset of registered memory is in buffer offset >> FixedShift.
const FixedShift = 30

// Registered splits memory into buffers for Engine.Open.
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
