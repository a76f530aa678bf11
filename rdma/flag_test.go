package rdma

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestFlagsRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range 1000 {
		bytes, count := rng.Uint32N(1<<20)+1, rng.Uint32()
		if i == 0 {
			bytes, count = 1<<20, math.MaxUint32
		}
		for _, lap := range []uint64{0, flagLaps} {
			v := encodeFlag(bytes, count, lap)
			if b, c, ok := decodeFlag(v, lap); !ok || b != bytes || c != count {
				t.Fatalf("%d B and count %d came back as %d, %d, %v", bytes, count, b, c, ok)
			}
			if _, _, ok := decodeFlag(v, lap^flagLaps); ok {
				t.Fatalf("%#x is there in another lap", v)
			}
		}
	}
}

// The bytes of a flag become visible in any order, over those of the lap before, or over zeros.
func TestAFlagIsThereWhenAllItsBytesAre(t *testing.T) {
	const slots = 16
	old := uint64(0)
	for n := uint32(3); n < 10*slots; n += slots {
		lap := lapBits(n, slots)
		now := encodeFlag(n*1000, 1<<31+n, lap)
		for there := range 1 << 8 {
			mask := uint64(0)
			for i := range 8 {
				if there>>i&1 != 0 {
					mask |= 0xFF << (8 * i)
				}
			}
			bytes, count, ok := decodeFlag(now&mask|old&^mask, lap)
			if ok != (there == 1<<8-1) || ok && (bytes != n*1000 || count != 1<<31+n) {
				t.Fatalf("message %d, bytes %#x of its flag: %d B, count %d, %v", n, there, bytes, count, ok)
			}
		}
		old = now
	}
}

// The number of a message passes 2^32.
func TestLapsAlternate(t *testing.T) {
	for _, slots := range []int{4, 16, 256, 4096} {
		n := uint32(math.MaxUint32 - 3*slots + 1)
		for i := range 10 {
			first, last := lapBits(n, slots), lapBits(n+uint32(slots)-1, slots)
			if first != last || i > 0 && first == lapBits(n-1, slots) {
				t.Fatalf("lap %d of %d slots, from message %d: %#x to %#x", i, slots, n, first, last)
			}
			n += uint32(slots)
		}
	}
}

func FuzzFlag(f *testing.F) {
	f.Add(uint64(flagLaps), true)
	f.Fuzz(func(t *testing.T, v uint64, first bool) {
		lap := uint64(0)
		if first {
			lap = flagLaps
		}
		const spare = 7 << 60 // the bits above the count
		if bytes, count, ok := decodeFlag(v, lap); ok && encodeFlag(bytes, count, lap) != v&^spare {
			t.Fatalf("%#x is %d B and count %d, which is %#x", v, bytes, count, encodeFlag(bytes, count, lap))
		}
	})
}
