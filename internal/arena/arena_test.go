package arena

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

func TestPoolBlocksNeverOverlapAndAllComeBack(t *testing.T) {
	p, err := NewPool(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	type held struct {
		b    []byte
		mark byte
	}
	var live []held
	for i := range 200_000 {
		if rng.IntN(2) == 0 || len(live) == 0 {
			n := 1 + rng.IntN(1<<rng.IntN(18))
			b := p.Alloc(n)
			if b == nil {
				continue
			}
			if len(b) != n {
				t.Fatalf("Alloc(%d) has length %d", n, len(b))
			}
			b = b[:cap(b)]
			b[0], b[len(b)-1] = byte(i), byte(i)
			live = append(live, held{b, byte(i)})
			continue
		}
		k := rng.IntN(len(live))
		h := live[k]
		if h.b[0] != h.mark || h.b[len(h.b)-1] != h.mark {
			t.Fatal("a block was written through another one")
		}
		p.Free(h.b)
		live[k] = live[len(live)-1]
		live = live[:len(live)-1]
	}
	for _, h := range live {
		p.Free(h.b)
	}
	if p.InUse() != 0 {
		t.Fatalf("%d bytes in use after all were freed", p.InUse())
	}
	if b := p.Alloc(p.Largest()); b == nil {
		t.Fatal("freed blocks did not merge back into the largest one")
	}
	if p.Alloc(1) != nil {
		t.Fatal("a full pool handed out a block")
	}
}

func TestPoolBlocksAreAligned(t *testing.T) {
	p, err := NewPool(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Alloc(1)
	b := p.Alloc(PageBytes)
	if addr := uintptr(unsafe.Pointer(&b[0])); addr%PageBytes != 0 {
		t.Fatalf("a page-sized block lies at %#x", addr)
	}
}

func TestPoolPanicsOnDoubleFree(t *testing.T) {
	p, err := NewPool(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b := p.Alloc(100)
	p.Free(b)
	defer func() {
		if recover() == nil {
			t.Fatal("a double free went unnoticed")
		}
	}()
	p.Free(b)
}

func TestOfIsTheWholeArena(t *testing.T) {
	type item struct {
		_ uint64
		b [3]uint16
	}
	a, err := New(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	all := Of[item](a)
	if len(all) != 1<<12 {
		t.Fatalf("%d items of 16 bytes in 64 KiB", len(all))
	}
	all[len(all)-1].b[2] = 0x1234
	if b := a.Bytes(); b[len(b)-4] != 0x34 || b[len(b)-3] != 0x12 {
		t.Fatal("the last item is not the last of the arena")
	}
}

func TestOfPanicsOnPointers(t *testing.T) {
	a, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer func() {
		if recover() == nil {
			t.Fatal("an array of pointers went unnoticed")
		}
	}()
	Of[struct {
		n int
		s [2]struct{ b []byte }
	}](a)
}

func BenchmarkPoolAllocFree(b *testing.B) {
	p, err := NewPool(1 << 20)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	b.ReportAllocs()
	for b.Loop() {
		p.Free(p.Alloc(4096 + 32))
	}
}
