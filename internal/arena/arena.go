// Package arena owns memory that the kernel or a NIC may touch: mmap'd, page-aligned, outside the Go heap, so
// that neither the collector nor a fork can move or share it while an SQE or a work request points at it. It does
// not depend on io_uring or RDMA.
package arena

import (
	"fmt"
	"math/bits"
	"reflect"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PageBytes is the unit of alignment, and of disk IO.
const PageBytes = 4096

// HugePageBytes is the size of a huge page on x86-64, and on arm64 with pages of 4 KiB.
const HugePageBytes = 2 << 20

// Arena is one mapping. It is registered once, whole, with a ring or a protection domain.
type Arena struct {
	mem    []byte
	shared bool // it is a part of shared memory, at its offset at
	at     int
}

// New maps size bytes, rounded up to whole pages. Pages are touched on first use only.
func New(size int) (*Arena, error) {
	size = (size + PageBytes - 1) &^ (PageBytes - 1)
	if size <= 0 {
		return nil, fmt.Errorf("arena: size %d is not positive", size)
	}
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("arena: map %d MiB: %w (lower --cache-bytes or --conns, or raise ulimit -v)", size>>20, err)
	}
	// A child of fork+exec must not inherit pages that a NIC writes to.
	if err := unix.Madvise(mem, unix.MADV_DONTFORK); err != nil {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("arena: MADV_DONTFORK: %w", err)
	}
	return &Arena{mem: mem}, nil
}

// Bytes is the whole mapping.
func (a *Arena) Bytes() []byte { return a.mem }

// Huge requests huge pages for all pages that are not touched yet, if the kernel has some.
func (a *Arena) Huge() error { return unix.Madvise(a.mem, unix.MADV_HUGEPAGE) }

// Word is the first 8 bytes of b, which begins at a multiple of 8, for sync/atomic.
func Word(b []byte) *uint64 {
	if uintptr(unsafe.Pointer(unsafe.SliceData(b)))&7 != 0 || len(b) < 8 {
		panic("arena: a word that is not aligned")
	}
	return (*uint64)(unsafe.Pointer(unsafe.SliceData(b)))
}

// HugeFrom is Huge for what lies behind the first bytes, a multiple of PageBytes: those stay small pages, which
// need memory only once they are touched.
func (a *Arena) HugeFrom(bytes int) error { return unix.Madvise(a.mem[bytes:], unix.MADV_HUGEPAGE) }

// Of returns an arena as an array of as many T as there is room for. T must be free of pointers: the collector
// does not scan arenas.
func Of[T any](a *Arena) []T {
	t := reflect.TypeFor[T]()
	if pointers(t) {
		panic("arena: an array of " + t.String() + ", which holds pointers")
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(a.mem))), len(a.mem)/int(t.Size()))
}

// In returns a block of a pool as an empty array with capacity for as many T as fit. T must not contain pointers.
func In[T any](b []byte) []T {
	t := reflect.TypeFor[T]()
	if pointers(t) {
		panic("arena: an array of " + t.String() + ", which holds pointers")
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(b)))%uintptr(t.Align()) != 0 {
		panic("arena: an array that is not aligned")
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), cap(b)/int(t.Size()))[:0]
}

func pointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return pointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if pointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	}
	return t.Kind() > reflect.Complex128 || t.Kind() == reflect.Uintptr
}

// Close unmaps. Nothing may point into the arena any more: a later access is a fault.
func (a *Arena) Close() error {
	if a.mem == nil {
		return nil
	}
	mem := a.mem
	a.mem = nil
	if a.shared {
		return unshare(a.at, len(mem))
	}
	return unix.Munmap(mem)
}

// Pool hands out power-of-two blocks of an arena by the buddy method (Knowlton 1965).
// It is bounded: Alloc returns nil when the arena is used up. It belongs to one loop.
type Pool struct {
	arena    *Arena
	base     uintptr
	minShift uint
	orders   int
	free     [][]uint32           // per order: block indices in units of the smallest block, a stack
	where    []uint32             // per smallest block: its position in its free stack
	state    []uint8              // per smallest block: order+1 | freeBit or keptBit of the block that starts there; 0 inside a block
	kept     [keptOrders][]uint32 // free blocks that are not merged yet: a block is split and merged for nothing when the next one is of its size
	inUse    int
	poison   bool
}

// Poison makes later pools fill freed blocks with PoisonByte, and panic if a free block was written to. It is
// for tests: it detects buffers that the kernel still uses.
var Poison atomic.Bool

// PoisonByte fills free memory under Poison.
const PoisonByte = 0xDD

const (
	freeBit = 0x80
	keptBit = 0x40

	keptOrders = 8  // up to 64 KiB
	keptMax    = 64 // of each
)

// MinBlockBytes is the smallest block of a Pool.
const MinBlockBytes = 512

// PoolBytes returns the memory of a pool for size bytes.
func PoolBytes(size int) int { return 1 << bits.Len(uint(max(size, MinBlockBytes)-1)) }

// NewPool makes a pool over an arena of its own with size bytes, rounded up to a power of two.
func NewPool(size int) (*Pool, error) {
	size = PoolBytes(size)
	a, err := NewShared(size)
	if err != nil {
		return nil, err
	}
	minShift := uint(bits.TrailingZeros(MinBlockBytes))
	units := size >> minShift
	p := &Pool{arena: a, poison: Poison.Load(), base: uintptr(unsafe.Pointer(&a.mem[0])), minShift: minShift,
		orders: bits.Len(uint(units)), where: make([]uint32, units), state: make([]uint8, units)}
	p.free = make([][]uint32, p.orders)
	for o := range p.free {
		p.free[o] = make([]uint32, 0, units>>o) // every stack has its largest capacity: append never grows it
	}
	for o := range p.kept {
		p.kept[o] = make([]uint32, 0, keptMax)
	}
	p.push(0, p.orders-1)
	return p, nil
}

// Arena is the memory behind the pool, for registration.
func (p *Pool) Arena() *Arena { return p.arena }

// InUse returns the number of allocated bytes, in whole blocks.
func (p *Pool) InUse() int { return p.inUse }

// Largest returns the size in bytes of the largest block that the pool can ever allocate.
func (p *Pool) Largest() int { return 1 << (p.minShift + uint(p.orders) - 1) }

func (p *Pool) push(unit uint32, order int) {
	p.where[unit] = uint32(len(p.free[order]))
	p.state[unit] = uint8(order+1) | freeBit
	p.free[order] = append(p.free[order], unit)
}

func (p *Pool) remove(unit uint32, order int) {
	s, at := p.free[order], p.where[unit]
	last := s[len(s)-1]
	s[at] = last
	p.where[last] = at
	p.free[order] = s[:len(s)-1]
	p.state[unit] = 0
}

func (p *Pool) order(n int) int {
	if n <= MinBlockBytes {
		return 0
	}
	return bits.Len(uint(n-1)) - int(p.minShift)
}

// Alloc returns a block with length n and the block's whole capacity, or nil when there is
// none now (or ever: see Largest).
func (p *Pool) Alloc(n int) []byte {
	want := p.order(n)
	if want < keptOrders {
		if k := p.kept[want]; len(k) > 0 {
			unit := k[len(k)-1]
			p.kept[want] = k[:len(k)-1]
			return p.use(unit, want, n)
		}
	}
	o := p.least(want)
	if o >= p.orders {
		p.mergeKept()
		if o = p.least(want); o >= p.orders {
			return nil
		}
	}
	s := p.free[o]
	unit := s[len(s)-1]
	p.remove(unit, o)
	for o > want {
		o--
		p.push(unit+1<<o, o)
	}
	return p.use(unit, want, n)
}

// use marks a block as allocated and returns it.
func (p *Pool) use(unit uint32, order, n int) []byte {
	p.state[unit] = uint8(order + 1)
	bytes := 1 << (p.minShift + uint(order))
	p.inUse += bytes
	off := int(unit) << p.minShift
	b := p.arena.mem[off : off+n : off+bytes]
	if p.poison {
		checkPoison(b[:bytes])
	}
	return b
}

// least returns the smallest order from want on with a free block; orders: there is none.
func (p *Pool) least(want int) int {
	for want < p.orders && len(p.free[want]) == 0 {
		want++
	}
	return want
}

// Free frees a block. b must start where Alloc's block started; its length does not
// matter. Freeing a block twice, or something else, is a bug of kvwire and panics.
func (p *Pool) Free(b []byte) {
	off := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - p.base
	unit := uint32(off >> p.minShift)
	if off >= uintptr(len(p.arena.mem)) || off&(MinBlockBytes-1) != 0 || p.state[unit] == 0 || p.state[unit]&(freeBit|keptBit) != 0 {
		panic("arena: Free of what is not a block in use")
	}
	o := int(p.state[unit]) - 1
	if p.poison {
		b := p.arena.mem[off:][:MinBlockBytes<<o]
		for i := range b {
			b[i] = PoisonByte
		}
	}
	p.inUse -= 1 << (p.minShift + uint(o))
	if o < keptOrders && len(p.kept[o]) < keptMax {
		p.state[unit] = uint8(o+1) | keptBit
		p.kept[o] = append(p.kept[o], unit)
		return
	}
	p.merge(unit, o)
}

// checkPoison panics if a free block was written to. Memory that was never used is all zero.
func checkPoison(b []byte) {
	for i, v := range b {
		if v != PoisonByte && v != 0 {
			panic(fmt.Sprintf("arena: byte %d of a free block of %d is %#x: somebody writes to what is not his any more", i, len(b), v))
		}
	}
}

// mergeKept merges the kept blocks.
func (p *Pool) mergeKept() {
	for o, k := range p.kept {
		for _, unit := range k {
			p.merge(unit, o)
		}
		p.kept[o] = k[:0]
	}
}

// merge frees a block, merged with its buddy if that is free, and so on.
func (p *Pool) merge(unit uint32, o int) {
	p.state[unit] = 0
	for o < p.orders-1 {
		buddy := unit ^ 1<<o
		if p.state[buddy] != uint8(o+1)|freeBit {
			break
		}
		p.remove(buddy, o)
		unit &^= 1 << o
		o++
	}
	p.push(unit, o)
}

// Close unmaps the arena. All blocks must be free or abandoned.
func (p *Pool) Close() error { return p.arena.Close() }
