package store

import (
	"io"
	"syscall"

	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// disk carries pages between memory and files while the partition serves. It belongs to the
// partition's loop, and none of it waits (but the engine sync, in flush).
type disk interface {
	// submit takes a transfer, which stays as it is until flush; false means that the disk takes no more in this
	// turn. Its completion carries tag.
	submit(tag uint64, t *transfer) bool

	// flush hands over what was submitted, in one go where the engine can. It is called once a turn, also when nothing
	// was. Its error ends the loop.
	flush() error

	// poll copies completions into done, and returns how many.
	poll(done []completion) int

	// calls is how many system calls were made for transfers, on whatever thread.
	calls() uint64
}

// files is the slabs' storage as opening, recovering and closing see it: one file per class, and
// every call waits.
type files interface {
	size(class uint8) (int64, error)
	readAt(class uint8, b []byte, off int64) error // all of b; whole pages
	writeAt(class uint8, b []byte, off int64) error
	extend(class uint8, size int64) error // where the file system cannot preallocate; or cuts off what is behind size
	sync() error                          // what was written is durable
	mark() (mark, error)                  // what setMark was last given
	setMark(m mark) error                 // keeps it, durably, and all or nothing
	account() (io.ReadCloser, error)      // what setAccount was last given; nil: nothing
	setAccount(write func(io.Writer) error) error
	close() error
}

// completion is a transfer's end: res is bytes, or -errno.
type completion struct {
	tag uint64
	res int32
}

// transferKind says what a transfer is for, and so who hears of its end.
type transferKind uint8

const (
	readPage  transferKind = iota // into a frame of the cache
	writePage                     // from frames of the cache, one after the other
	readItem                      // a large item into a buffer
	writeItem                     // a large item, or its tombstone, from a buffer
	growSlab                      // no bytes: reserves length bytes at off
)

// String is what the log calls it.
func (k transferKind) String() string {
	return [...]string{"page read", "page write", "item read", "item write", "file growth"}[k]
}

// transfer is one piece of disk IO, from before it is submitted until its completion.
type transfer struct {
	kind   transferKind
	class  uint8
	busy   bool
	gen    uint32 // of this place in the table: a completion of an earlier user is noticed
	fixed  int    // index of the registered buffer that buf lies in
	slot   uint32 // items: whose they are, with class
	frame  uint32 // pages: the first one's, and how many
	pages  uint32
	r      *kv.Request // items: who asked
	buf    []byte      // what is still to be read or written
	whole  []byte      // items: all of the buffer
	off    int64       // of buf in the file
	length int64       // growSlab
}

func (t *transfer) at() place { return place{t.class, t.slot} }

// transfers is the bounded table of disk IO under way. A transfer that the disk did not take is kept, in
// order, and offered again.
type transfers struct {
	disk   disk
	table  []transfer
	free   []uint32
	unsent fifo.Queue[uint32] // places in the table, in order; as long as it
	sent   int                // in flight at the disk
	batch  int                // hold back until so many are queued, unless nothing is in flight; 0: hand over each turn's

	count                                batches
	reads, readBytes, writes, writeBytes uint64 // begun since the start
}

// batches are counted where transfers are handed over.
type batches struct {
	n         uint64 // times that some were handed over
	transfers uint64 // in these
	depthSum  uint64 // in flight after each
	depthMax  int
}

func newTransfers(d disk, depth int) transfers {
	x := transfers{disk: d, table: make([]transfer, depth), free: make([]uint32, depth), unsent: fifo.Make[uint32](depth)}
	for i := range x.free {
		x.free[i] = uint32(depth - 1 - i)
	}
	return x
}

const genShift = 16 // a tag is the place in the table (depthLimit fits) and, above, its generation

// begin queues a transfer. The caller has seen that there is room.
func (x *transfers) begin(t transfer) {
	i := x.free[len(x.free)-1]
	x.free = x.free[:len(x.free)-1]
	t.gen, t.busy = x.table[i].gen+1, true
	x.table[i] = t
	x.unsent.Push(i)
	switch t.kind {
	case readPage, readItem:
		x.reads++
		x.readBytes += uint64(len(t.buf))
	case writePage, writeItem:
		x.writes++
		x.writeBytes += uint64(len(t.buf))
	}
}

func (x *transfers) room() bool  { return len(x.free) > 0 }
func (x *transfers) active() int { return len(x.table) - len(x.free) }

// stage hands the turn's transfers to the disk, and reports false when it took only a part.
func (x *transfers) stage() (bool, error) {
	held := x.unsent.Len() < x.batch && x.sent > 0 // what is in flight brings another turn
	all := held || x.send()
	return all, x.disk.flush()
}

func (x *transfers) send() bool {
	was := x.unsent.Len()
	for x.unsent.Len() > 0 {
		i := *x.unsent.Front()
		t := &x.table[i]
		if !x.disk.submit(uint64(t.gen)<<genShift|uint64(i), t) {
			break
		}
		x.unsent.Pop()
		x.sent++
	}
	if k := was - x.unsent.Len(); k > 0 {
		c := &x.count
		c.n++
		c.transfers += uint64(k)
		c.depthSum += uint64(x.sent)
		c.depthMax = max(c.depthMax, x.sent)
	}
	return x.unsent.Len() == 0
}

// complete takes a completion and gives the transfer when it has ended, with its error or 0. A
// transfer that moved a part of its bytes goes on with the rest, from a whole page.
func (x *transfers) complete(c completion) (t transfer, errno syscall.Errno, ended bool) {
	i := uint32(c.tag & (1<<genShift - 1))
	p := &x.table[i]
	if !p.busy || uint64(p.gen) != c.tag>>genShift {
		panic("store: the disk completed what is not in flight")
	}
	x.sent--
	switch n := int(c.res); {
	case n == -int(unix.EINTR) || n == -int(unix.EAGAIN):
		x.unsent.Push(i)
		return transfer{}, 0, false
	case n < 0:
		errno = syscall.Errno(-n)
	case p.kind == growSlab || n >= len(p.buf):
	case n >= pageBytes:
		n -= n % pageBytes
		p.buf, p.off = p.buf[n:], p.off+int64(n)
		x.unsent.Push(i)
		return transfer{}, 0, false
	default:
		errno = unix.EIO // not a page of progress: the file ends early, or the device is gone
	}
	t = *p
	p.busy, p.r, p.buf, p.whole = false, nil, nil, nil
	x.free = append(x.free, i)
	return t, errno, true
}

// reading says whether a large item is being read from the slot.
func (x *transfers) reading(at place) bool {
	for i := range x.table {
		if t := &x.table[i]; t.busy && t.kind == readItem && t.at() == at {
			return true
		}
	}
	return false
}

// statusOf is what a request is told about a disk's error.
func statusOf(e syscall.Errno) kv.Status {
	switch e {
	case 0:
		return kv.StatusOK
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG:
		return kv.StatusNoSpace
	}
	return kv.StatusIOError
}
