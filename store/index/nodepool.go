package index

import (
	"math/bits"
	"reflect"

	"github.com/kvwire/kvwire/internal/arena"
)

// indexChunkBytes is what the index's memory grows by. It is mapped, not used: pages count from their first use on.
const indexChunkBytes = 32 << 20

// smallPagesBytes is how far the first chunk is used in small pages. Huge ones make a find among 2 million keys
// a fifth faster, but the last of them is in use as a whole: from here on that is little beside the rest.
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
	_ = a.HugeFrom(small) // a kernel without huge pages makes it slower, not wrong
	return a, nil
}

// indexChunksBytes is the memory behind n chunks of which the last is used up to some bytes.
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

// nodePool is an array of nodes in mapped memory that grows without moving and reuses what was freed.
// Number 0 is nobody.
type nodePool[T any] struct {
	chunks    [][]T
	arenas    []*arena.Arena
	nodeBytes int
	shift     uint8 // log2 of the nodes in a chunk
	mask      uint32
	next      uint32
	spare     []uint32 // freed numbers
}

func newNodePool[T any]() nodePool[T] {
	size := int(reflect.TypeFor[T]().Size())
	shift := bits.Len(uint(indexChunkBytes/size)) - 1 // a number is taken apart by shifting, not by dividing
	return nodePool[T]{nodeBytes: size, shift: uint8(shift), mask: 1<<shift - 1, next: 1}
}

func (p *nodePool[T]) at(i uint32) *T { return &p.chunks[i>>p.shift][i&p.mask] }

// add gives the number of a node that is as it was when it was freed, or zero; ok is false when there is no memory.
func (p *nodePool[T]) add() (i uint32, ok bool) {
	if n := len(p.spare); n > 0 {
		i = p.spare[n-1]
		p.spare = p.spare[:n-1]
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

func (p *nodePool[T]) free(i uint32) { p.spare = append(p.spare, i) }

// inUse is the number of nodes that were added and not freed.
func (p *nodePool[T]) inUse() int { return int(p.next) - 1 - len(p.spare) }

func (p *nodePool[T]) bytes() int {
	used := int((p.next-1)&p.mask+1) * p.nodeBytes
	return indexChunksBytes(len(p.chunks), used) + cap(p.spare)*4
}

func (p *nodePool[T]) close() {
	closeAll(p.arenas)
	*p = newNodePool[T]()
}
