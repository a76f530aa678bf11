package disk

import (
	"syscall"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/fifo"
	"golang.org/x/sys/unix"
)

// Transfers is the bounded table of one partition's disk IO under way. It decides when transfers are submitted: at the end of each turn, or in larger
// batches. It keeps a transfer that the disk did not accept, in order, and submits it again; likewise the rest of a transfer that moved only a part of
// its bytes. It belongs to the partition's loop.
type Transfers struct {
	Disk   Disk
	Counts Counts

	table  []underWay
	free   []uint32
	unsent fifo.Queue[uint32] // places of transfers to submit; room for all of the table
	sent   int                // in flight at the disk
	batch  int
}

// underWay is one place of the table.
type underWay struct {
	Transfer
	busy bool
	gen  uint32 // generation: detects a completion of an earlier transfer in this place
}

// Counts are counters since the start. Bytes are counted when a transfer begins.
type Counts struct {
	Reads, ReadBytes, Writes, WriteBytes uint64

	Batches   uint64 // number of submissions to the disk
	Transfers uint64 // transfers in these
	DepthSum  uint64 // sum over the batches of the transfers in flight afterwards
	DepthMax  int
}

// NewTransfers makes the table for up to depth transfers, 1 to DepthLimit. batch is Options.Batch.
func NewTransfers(d Disk, depth, batch int) Transfers {
	x := Transfers{Disk: d, table: make([]underWay, depth), free: make([]uint32, depth), unsent: fifo.Make[uint32](depth), batch: batch}
	for i := range x.free {
		x.free[i] = uint32(depth - 1 - i)
	}
	return x
}

const genShift = 16 // a tag is the place in the table, in the low bits (DepthLimit fits), and its generation

// Begin queues a transfer and returns its place, 0 to depth-1, which is its own until it has ended. The caller uses the place as an index to record the
// transfer's purpose. It must have checked that there is Room.
func (x *Transfers) Begin(t Transfer) (place int) {
	i := x.free[len(x.free)-1]
	x.free = x.free[:len(x.free)-1]
	u := &x.table[i]
	u.Transfer, u.busy = t, true
	u.gen++
	x.unsent.Push(i)
	switch c := &x.Counts; t.Op {
	case Read:
		c.Reads++
		c.ReadBytes += uint64(len(t.Buf))
	case Write:
		c.Writes++
		c.WriteBytes += uint64(len(t.Buf))
	}
	return int(i)
}

// Room reports whether one more transfer may begin.
func (x *Transfers) Room() bool { return len(x.free) > 0 }

// Active is the number of transfers that have begun and not ended.
func (x *Transfers) Active() int { return len(x.table) - len(x.free) }

// Stage submits the turn's transfers to the disk. It is called once at the end of each turn. all is false if the disk accepted only a part: then the loop
// needs another turn. The error is the disk's, and ends the loop.
func (x *Transfers) Stage() (all bool, err error) {
	held := x.unsent.Len() < x.batch && x.sent > 0 // a completion in flight will cause another turn
	all = held || x.send()
	return all, x.Disk.Flush()
}

func (x *Transfers) send() bool {
	was := x.unsent.Len()
	for x.unsent.Len() > 0 {
		i := *x.unsent.Front()
		u := &x.table[i]
		if !x.Disk.Submit(uint64(u.gen)<<genShift|uint64(i), &u.Transfer) {
			break
		}
		x.unsent.Pop()
		x.sent++
	}
	if k := was - x.unsent.Len(); k > 0 {
		c := &x.Counts
		c.Batches++
		c.Transfers += uint64(k)
		c.DepthSum += uint64(x.sent)
		c.DepthMax = max(c.DepthMax, x.sent)
	}
	return x.unsent.Len() == 0
}

// Complete handles a completion. If the transfer has ended, ended is true, errno is its result, and its place is free. If it moved only a
// part of its bytes, it is queued again for the rest, from a page boundary on.
func (x *Transfers) Complete(c Completion) (place int, errno syscall.Errno, ended bool) {
	i := uint32(c.Tag & (1<<genShift - 1))
	u := &x.table[i]
	if !u.busy || uint64(u.gen) != c.Tag>>genShift {
		panic("disk: a completion of a transfer that is not in flight")
	}
	x.sent--
	switch n := int(c.Res); {
	case n == -int(unix.EINTR) || n == -int(unix.EAGAIN):
		x.unsent.Push(i)
		return int(i), 0, false
	case n < 0:
		errno = syscall.Errno(-n)
	case u.Op == Grow || n >= len(u.Buf):
	case n >= arena.PageBytes:
		n -= n % arena.PageBytes
		u.Buf, u.Off = u.Buf[n:], u.Off+int64(n)
		x.unsent.Push(i)
		return int(i), 0, false
	default:
		errno = unix.EIO // less than a page was moved: the file ends early, or the device is gone
	}
	u.busy, u.Buf = false, nil
	x.free = append(x.free, i)
	return int(i), errno, true
}
