package ring

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/kvwire/kvwire/internal/arena"
)

// Buffers is a group of provided buffers (IORING_REGISTER_PBUF_RING, Linux 5.19): the kernel uses the oldest for each receive that
// selects from the group, and the reader returns it by Give. It belongs to the goroutine of its ring.
type Buffers struct {
	r     *Ring
	group uint16
	ring  *arena.Arena // n entries of 16 bytes
	mem   *arena.Arena // n buffers; nil: the owner adds its own memory
	n     int
	size  int
	tail  uint16   // the next place
	at    []uint16 // by buffer: the place where it was added last
	order []uint16 // by place: the buffer
}

// bufReg is struct io_uring_buf_reg.
type bufReg struct {
	addr    uint64
	entries uint32
	group   uint16
	flags   uint16
	_       [3]uint64
}

const bufEntry = 16 // bytes of struct io_uring_buf: address, length, identity, and in the first one's last two bytes the tail

// Provide makes a group of n buffers, a power of two up to 32768, of so many bytes each, and gives all of them to the kernel. A group without
// memory (size 0) is empty: Add.
func (r *Ring) Provide(n, size int) (*Buffers, error) {
	if n < 1 || n > 1<<15 || n&(n-1) != 0 {
		return nil, fmt.Errorf("ring: %d provided buffers: must be a power of two up to %d", n, 1<<15)
	}
	b := &Buffers{r: r, n: n, size: size, at: make([]uint16, n), order: make([]uint16, n)}
	var err error
	if b.ring, err = arena.New(n * bufEntry); err != nil {
		return nil, err
	}
	if size > 0 {
		if b.mem, err = arena.New(n * size); err != nil {
			_ = b.ring.Close()
			return nil, err
		}
	}
	if b.group, err = r.registerGroup(&bufReg{addr: addr(b.ring.Bytes()), entries: uint32(n)}); err != nil {
		b.free()
		return nil, err
	}
	if size > 0 {
		for i := range n {
			b.Give(i)
		}
		b.Publish()
	}
	return b, nil
}

// Group returns the number by which entries select the group.
func (b *Buffers) Group() uint16 { return b.group }

// Bytes returns the first n bytes of a buffer, at most all.
func (b *Buffers) Bytes(id, n int) []byte {
	at := id * b.size
	return b.mem.Bytes()[at : at+min(n, b.size)]
}

// Next returns the buffer that follows a buffer in a bundle.
func (b *Buffers) Next(id int) int { return int(b.order[int(b.at[id]+1)&(b.n-1)]) }

// Give returns a buffer to the kernel, which sees it after Publish.
func (b *Buffers) Give(id int) {
	at := id * b.size
	b.Add(b.mem.Bytes()[at:at+b.size], id)
}

// Add gives the caller's memory to the kernel, as the buffer of that number. The kernel sees it after Publish. At most n buffers exist at a time.
func (b *Buffers) Add(p []byte, id int) {
	place := int(b.tail) & (b.n - 1)
	e := b.ring.Bytes()[place*bufEntry:]
	binary.NativeEndian.PutUint64(e, addr(p))
	binary.NativeEndian.PutUint32(e[8:], uint32(len(p)))
	if place == 0 { // this entry also has the tail, which the kernel reads
		atomic.StoreUint32(b.word(), b.first(uint16(id), uint16(atomic.LoadUint32(b.word())>>16)))
	} else {
		binary.NativeEndian.PutUint16(e[12:], uint16(id))
	}
	b.at[id], b.order[place] = b.tail, uint16(id)
	b.tail++
}

// Publish makes buffers of Give and Add visible to the kernel.
func (b *Buffers) Publish() {
	atomic.StoreUint32(b.word(), b.first(b.order[0], b.tail))
}

// word returns the word that has the first entry's identity and the tail.
func (b *Buffers) word() *uint32 { return (*uint32)(unsafe.Pointer(&b.ring.Bytes()[12])) }

func (b *Buffers) first(id, tail uint16) uint32 { return uint32(tail)<<16 | uint32(id) }

// Close unregisters the group. No request that selects from it may be in flight.
func (b *Buffers) Close() {
	b.r.unregisterGroup(b.group)
	b.free()
}

func (b *Buffers) free() {
	_ = b.ring.Close()
	if b.mem != nil {
		_ = b.mem.Close()
	}
}
