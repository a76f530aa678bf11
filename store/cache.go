package store

import (
	"math/bits"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/disk"
)

// frameState is the state of a frame of the page cache.
type frameState uint8

const (
	frameFree    frameState = iota // has no page
	frameReading                   // queued to be read, or being read: its bytes are not valid
	frameClean                     // same bytes as on disk: may be evicted
	frameDirty                     // changed, and queued to be written: may be changed further
	frameWriting                   // being written: may be read, must not be changed
)

// frame is room for one page in memory.
type frame struct {
	id       pageID
	verified uint64   // slots of the page whose sums were checked since it was read, or that were written here
	ahead    uint64   // slots whose changes are in the page and not on disk
	waiting  kv.Queue // requests that wait for the end of the page's transfer
	applied  kv.Queue // changes that are in the page, and complete with its next write
	next     uint32   // the next frame of the frameQueue that it is in
	state    frameState
	used     bool // since the clock's hand passed it, or since its page was read
	demanded bool // frameReading: a request caused the read, which counts in Partition.reads
}

// cache keeps pages in a fixed number of frames, evicted by CLOCK (Corbató 1968). The hand goes through the frames in the order of their addresses, so that new pages, which follow
// each other on disk, get frames that follow each other, and are written together (adjoins). docs/adr/0050 has what other policies would save and cost.
type cache struct {
	frames []frame // frame 0 is never used and has no memory
	memory *arena.Arena
	table  []uint32 // frames by page: open addressing with linear probing, at most half full
	shift  uint
	hand   uint32
	clean  int // frames that are free or clean: the hand can stop at one

	toRead, toWrite frameQueue
}

// frameQueue is a list of frames, oldest first; a frame is in one of them at a time.
type frameQueue struct{ head, tail uint32 }

func newCache(bytes int) (*cache, error) {
	n := bytes / pageBytes
	a, err := arena.New(n * pageBytes)
	if err != nil {
		return nil, err
	}
	_ = a.Huge() // a read through the cache takes about 8 % less CPU then
	size := bits.Len(uint(2*n - 1))
	return &cache{frames: make([]frame, n+1), memory: a, table: make([]uint32, 1<<size), shift: uint(64 - size), hand: 1, clean: n}, nil
}

func (c *cache) page(f uint32) []byte { return c.pages(f, 1) }

// pages returns the memory of n frames, from f on.
func (c *cache) pages(f, n uint32) []byte {
	off, end := c.offset(f), c.offset(f+n)
	return c.memory.Bytes()[off:end:end]
}

// adjoins reports whether one transfer can have the frames f and g: g follows f in memory, and g's page follows f's page on disk. g
// may be 0.
func (c *cache) adjoins(f, g uint32) bool {
	return g == f+1 && c.frames[g].id == c.frames[f].id+1 && c.frames[g].id.class() == c.frames[f].id.class() &&
		c.offset(f)>>disk.FixedShift == c.offset(g)>>disk.FixedShift
}

func (c *cache) offset(f uint32) int { return int(f-1) * pageBytes }

// home returns the index at which the search for a page begins (multiplicative hashing, Knuth 6.4).
func (c *cache) home(id pageID) uint32 { return uint32(uint64(id) * 0x9E3779B97F4A7C15 >> c.shift) }

// find returns the frame that has a page; 0: none.
func (c *cache) find(id pageID) uint32 {
	mask := uint32(len(c.table) - 1)
	for i := c.home(id); ; i = (i + 1) & mask {
		if f := c.table[i]; f == 0 || c.frames[f].id == id {
			return f
		}
	}
}

// assign gives a page a frame, and evicts another page if needed. It returns 0 if every frame is busy. The frame is in
// state frameReading, and in no queue.
func (c *cache) assign(id pageID) uint32 {
	if c.clean == 0 {
		return 0
	}
	f := c.victim()
	fr := &c.frames[f]
	if fr.state == frameClean {
		c.unmap(fr.id)
	}
	fr.id, fr.verified, fr.ahead, fr.used = id, 0, 0, false
	c.set(f, frameReading)
	mask := uint32(len(c.table) - 1)
	i := c.home(id)
	for c.table[i] != 0 {
		i = (i + 1) & mask
	}
	c.table[i] = f
	return f
}

func (c *cache) victim() uint32 {
	for {
		f := c.hand
		if c.hand++; int(c.hand) == len(c.frames) {
			c.hand = 1
		}
		fr := &c.frames[f]
		if fr.state == frameFree || fr.state == frameClean && !fr.used {
			return f
		}
		fr.used = false
	}
}

// set moves a frame from one state to another.
func (c *cache) set(f uint32, to frameState) {
	fr := &c.frames[f]
	if evictable(fr.state) {
		c.clean--
	}
	if evictable(to) {
		c.clean++
	}
	fr.state = to
}

func evictable(s frameState) bool { return s == frameFree || s == frameClean }

// drop empties a frame whose bytes may differ from the disk's.
func (c *cache) drop(f uint32) {
	c.unmap(c.frames[f].id)
	c.frames[f].id, c.frames[f].ahead = 0, 0
	c.set(f, frameFree)
}

// unmap removes a page from the table and closes the gap (Knuth 6.4, algorithm R).
func (c *cache) unmap(id pageID) {
	mask := uint32(len(c.table) - 1)
	i := c.home(id)
	for c.frames[c.table[i]].id != id {
		i = (i + 1) & mask
	}
	for j := i; ; {
		j = (j + 1) & mask
		f := c.table[j]
		if f == 0 {
			break
		}
		if h := c.home(c.frames[f].id); (j-h)&mask >= (j-i)&mask {
			c.table[i] = f
			i = j
		}
	}
	c.table[i] = 0
}

// push appends a frame to a queue.
func (c *cache) push(q *frameQueue, f uint32) {
	c.frames[f].next = 0
	if q.tail == 0 {
		q.head = f
	} else {
		c.frames[q.tail].next = f
	}
	q.tail = f
}

// pop removes and returns the first frame of a queue; 0: none.
func (c *cache) pop(q *frameQueue) uint32 {
	f := q.head
	if f != 0 {
		if q.head = c.frames[f].next; q.head == 0 {
			q.tail = 0
		}
	}
	return f
}
