package store

import (
	"math/bits"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/fifo"
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
}

// usesMost is the most uses that are counted for a frame, and so the number of times that it begins again in the old queue without a further use.
const usesMost = 3

// youngShare is the share, 1 in so many, of the frames in which pages stay that have not been asked for again since they were read.
const youngShare = 10

// cache keeps pages in a fixed number of frames, evicted by S3-FIFO (Yang et al., SOSP 2023) without its queue of evicted pages: a page begins in the young queue and is
// evicted from its end, unless it was asked for again, or is busy. Then it goes to the old queue, at whose end it is evicted if it has no uses left and is clean. Else it
// begins again there, with one use fewer if it has any. docs/adr/0050 has what this saves.
type cache struct {
	frames []frame // frame 0 is never used and has no memory
	memory *arena.Arena
	table  []uint32 // frames by page: open addressing with linear probing, at most half full
	shift  uint
	clean  int // frames that are free or clean: one of them can be assigned

	unused     uint32             // the first frame that never had a page, and is in no queue; len(frames): there is none
	young, old fifo.Queue[uint32] // the other frames
	uses       []uint8            // by frame: uses that are left, at most usesMost. It is not in frame, so that most steps of victim read one byte

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
	return &cache{frames: make([]frame, n+1), memory: a, table: make([]uint32, 1<<size), shift: uint(64 - size), clean: n,
		unused: 1, young: fifo.Make[uint32](n), old: fifo.Make[uint32](n), uses: make([]uint8, n+1)}, nil
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
// state frameReading and in the young queue; the caller puts it into toRead if its page must be read.
func (c *cache) assign(id pageID) uint32 {
	if c.clean == 0 {
		return 0
	}
	f := c.victim()
	c.young.Push(f)
	fr := &c.frames[f]
	if fr.state == frameClean {
		c.unmap(fr.id)
	}
	fr.id, fr.verified, fr.ahead, c.uses[f] = id, 0, 0, 0
	c.set(f, frameReading)
	mask := uint32(len(c.table) - 1)
	i := c.home(id)
	for c.table[i] != 0 {
		i = (i + 1) & mask
	}
	c.table[i] = f
	return f
}

// use counts a request for the page of a frame.
func (c *cache) use(f uint32) {
	if c.uses[f] < usesMost {
		c.uses[f]++
	}
}

// victim returns a free or clean frame, which is then in no queue: first those that never had a page, then as S3-FIFO chooses. The caller checks that there is one
// (clean > 0).
func (c *cache) victim() uint32 {
	if int(c.unused) < len(c.frames) {
		c.unused++
		return c.unused - 1
	}
	// After a round of the old queue without a victim, the young queue is next: every page in the old one had uses left, or is being read, changed or written.
	for left := c.old.Len(); ; left-- {
		if c.young.Len() > len(c.frames)/youngShare || c.young.Len() > 0 && left <= 0 {
			f := c.young.Pop()
			if c.uses[f] == 0 && evictable(c.frames[f].state) {
				return f
			}
			c.uses[f] = 0
			c.old.Push(f)
			continue
		}
		f := c.old.Pop()
		switch {
		case c.uses[f] > 0:
			c.uses[f]--
		case evictable(c.frames[f].state):
			return f
		}
		c.old.Push(f)
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
	c.frames[f].id, c.frames[f].ahead, c.uses[f] = 0, 0, 0
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
