package index

import (
	"math/bits"
	"reflect"

	"github.com/kvwire/kvwire/internal/arena"
)

// indexChunkBytes is the step by which the index's memory grows. It is address space: a page costs memory from its first use on.
const indexChunkBytes = 32 << 20

// smallPagesBytes is the first part of the first chunk, which uses small pages. Huge pages make a Find among 2 million keys
// a fifth faster, but the last one costs memory as a whole. Beyond this size that is little compared with the rest.
const smallPagesBytes = 8 << 20

// indexChunk maps the n-th chunk.
func indexChunk(n int) (*arena.Arena, error) {
	a, err := arena.New(indexChunkBytes)
	if err != nil {
		return nil, err
	}
	small := 0
	if n == 0 {
		small = smallPagesBytes
	}
	_ = a.HugeFrom(small) // without huge pages it is only slower
	return a, nil
}

// indexChunksBytes returns the memory of n chunks, in bytes, if used bytes of the last one are in use.
func indexChunksBytes(n, used int) int {
	switch {
	case n == 0:
		return 0
	case n == 1 && used <= smallPagesBytes:
		return roundUp(used, arena.PageBytes)
	}
	return (n-1)*indexChunkBytes + roundUp(used, arena.HugePageBytes)
}

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

func closeAll(arenas []*arena.Arena) {
	for _, a := range arenas {
		_ = a.Close()
	}
}

// nodePool is an array of nodes in mapped memory. It grows without moving nodes, and reuses freed ones. Number 0 is
// never used.
type nodePool[T any] struct {
	chunks    [][]T
	arenas    []*arena.Arena
	nodeBytes int
	shift     uint8 // log2 of the nodes in a chunk
	mask      uint32
	next      uint32
	freed     []uint32 // freed numbers
}

func newNodePool[T any]() nodePool[T] {
	size := int(reflect.TypeFor[T]().Size())
	shift := bits.Len(uint(indexChunkBytes/size)) - 1 // a number is split by a shift, not by a division
	return nodePool[T]{nodeBytes: size, shift: uint8(shift), mask: 1<<shift - 1, next: 1}
}

func (p *nodePool[T]) at(i uint32) *T { return &p.chunks[i>>p.shift][i&p.mask] }

// add returns the number of an unused node. Its content is zero, or that from when it was freed. ok is false if there is no memory.
func (p *nodePool[T]) add() (i uint32, ok bool) {
	if n := len(p.freed); n > 0 {
		i = p.freed[n-1]
		p.freed = p.freed[:n-1]
		return i, true
	}
	if int(p.next>>p.shift) == len(p.chunks) {
		a, err := indexChunk(len(p.chunks))
		if err != nil {
			return 0, false
		}
		p.arenas = append(p.arenas, a)
		p.chunks = append(p.chunks, arena.Of[T](a))
	}
	p.next++
	return p.next - 1, true
}

func (p *nodePool[T]) free(i uint32) { p.freed = append(p.freed, i) }

func (p *nodePool[T]) bytes() int {
	used := int((p.next-1)&p.mask+1) * p.nodeBytes
	return indexChunksBytes(len(p.chunks), used) + cap(p.freed)*4
}

func (p *nodePool[T]) close() {
	closeAll(p.arenas)
	*p = newNodePool[T]()
}
