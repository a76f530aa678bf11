package disk

import (
	"syscall"

	"github.com/kvwire/kvwire/internal/arena"
	"golang.org/x/sys/unix"
)

// Transfers is the bounded table of one partition's disk IO under way. It decides which transfers go when: those of a turn at its end, or held back
// to a batch. A transfer that the disk did not accept is kept, in order, and offered again; so is the rest of one that moved only a part of its bytes.
// It belongs to the partition's loop.
type Transfers struct {
	Disk   Disk
	Counts Counts

	table    []underWay
	free     []uint32
	unsent   []uint32 // a ring as long as the table
	first, n int      // of unsent
	sent     int      // in flight at the disk
	batch    int
}

// underWay is a place in the table.
type underWay struct {
	Transfer
	busy bool
	gen  uint32 // a completion of an earlier user of the place is noticed
}

// Counts are what was done since the start. Bytes are those of transfers begun.
type Counts struct {
	Reads, ReadBytes, Writes, WriteBytes uint64

	Batches   uint64 // times that transfers were handed to the disk
	Transfers uint64 // in these
	DepthSum  uint64 // transfers in flight after each batch
	DepthMax  int
}

// NewTransfers makes the table for up to depth transfers, 1 to DepthLimit. batch is Options.Batch.
func NewTransfers(d Disk, depth, batch int) Transfers {
	x := Transfers{Disk: d, table: make([]underWay, depth), free: make([]uint32, depth), unsent: make([]uint32, depth), batch: batch}
	for i := range x.free {
		x.free[i] = uint32(depth - 1 - i)
	}
	return x
}

const genShift = 16 // a tag is the place in the table (DepthLimit fits) and, above, its generation

// Begin queues a transfer and returns its place, 0 to depth-1, which no other has until it has ended: the caller remembers by it what the transfer is for.
// The caller has checked that there is Room.
func (x *Transfers) Begin(t Transfer) (place int) {
	i := x.free[len(x.free)-1]
	x.free = x.free[:len(x.free)-1]
	u := &x.table[i]
	u.Transfer, u.busy = t, true
	u.gen++
	x.queue(i)
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

func (x *Transfers) queue(i uint32) {
	x.unsent[(x.first+x.n)%len(x.unsent)] = i
	x.n++
}

// Stage hands the turn's transfers to the disk, once at the end of each turn. It returns false when the disk accepted only a part: then the loop has
// to come again. The error is the disk's, and ends the loop.
func (x *Transfers) Stage() (all bool, err error) {
	held := x.n < x.batch && x.sent > 0 // what is in flight brings another turn
	all = held || x.send()
	return all, x.Disk.Flush()
}

func (x *Transfers) send() bool {
	was := x.n
	for x.n > 0 {
		i := x.unsent[x.first]
		u := &x.table[i]
		if !x.Disk.Submit(uint64(u.gen)<<genShift|uint64(i), &u.Transfer) {
			break
		}
		x.first = (x.first + 1) % len(x.unsent)
		x.n--
		x.sent++
	}
	if k := was - x.n; k > 0 {
		c := &x.Counts
		c.Batches++
		c.Transfers += uint64(k)
		c.DepthSum += uint64(x.sent)
		c.DepthMax = max(c.DepthMax, x.sent)
	}
	return x.n == 0
}

// Complete accepts a completion. ended is true when the transfer in that place has ended, with an error or 0; its place is free then. A
// transfer that moved a part of its bytes goes on with the rest, from a whole page.
func (x *Transfers) Complete(c Completion) (place int, errno syscall.Errno, ended bool) {
	i := uint32(c.Tag & (1<<genShift - 1))
	u := &x.table[i]
	if !u.busy || uint64(u.gen) != c.Tag>>genShift {
		panic("disk: a completion of a transfer that is not in flight")
	}
	x.sent--
	switch n := int(c.Res); {
	case n == -int(unix.EINTR) || n == -int(unix.EAGAIN):
		x.queue(i)
		return int(i), 0, false
	case n < 0:
		errno = syscall.Errno(-n)
	case u.Op == Grow || n >= len(u.Buf):
	case n >= arena.PageBytes:
		n -= n % arena.PageBytes
		u.Buf, u.Off = u.Buf[n:], u.Off+int64(n)
		x.queue(i)
		return int(i), 0, false
	default:
		errno = unix.EIO // not a page of progress: the file ends early, or the device is gone
	}
	u.busy, u.Buf = false, nil
	x.free = append(x.free, i)
	return int(i), errno, true
}
