package export

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

func table(t testing.TB, entries, itemBytes int) *Table {
	t.Helper()
	x, err := New(entries, itemBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

// read is what a NIC would bring.
func (t *Table) read(key []byte, room int) []byte {
	at := t.Place(key)
	return bytes.Clone(t.mem.Bytes()[at : at+t.ReadBytes(len(key), room)])
}

func TestAnOfferLeavesAnothersPlaceAlone(t *testing.T) {
	x := table(t, 1, 100) // one place for all
	a, b := []byte("a"), []byte("b")
	if !x.Offer(a, []byte("1")) || !x.Holds(a) || x.Offer(b, []byte("2")) || x.Holds(b) || !x.Holds(a) {
		t.Error("the first one is not there, or was displaced")
	}
	if x.Drop(a); !x.Offer(b, []byte("2")) || x.Holds(a) {
		t.Error("a free place was not taken")
	}
	if x.Put(a, []byte("3")); !x.Holds(a) || x.Holds(b) {
		t.Error("Put displaces")
	}
	if x.Drop(a); x.Offer(a, make([]byte, 200)) || x.Holds(a) {
		t.Error("what is too large was taken")
	}
}

func TestAnItemIsReadAsItWasPut(t *testing.T) {
	x := table(t, 100, 300)
	if x.Entries != 128 || x.EntryBytes%64 != 0 {
		t.Fatalf("%+v", x.Shape)
	}
	for _, n := range []int{0, 1, 7, 8, 100, 292} {
		key, value := fmt.Appendf(nil, "key%05d", n), bytes.Repeat([]byte{byte(n)}, n)
		if _, err := Parse(x.read(key, 300), key); !errors.Is(err, ErrMiss) {
			t.Errorf("before it was put: %v", err)
		}
		x.Put(key, value)
		got, err := Parse(x.read(key, n), key)
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("%d B: %q, %v", n, got, err)
		}
		if n > 0 {
			if _, err := Parse(x.read(key, n-1), key); !errors.Is(err, ErrShort) {
				t.Errorf("%d B with room for one less: %v", n, err)
			}
		}
		x.Put(key, []byte("not taken: it is there"))
		x.Drop(key)
		if _, err := Parse(x.read(key, 300), key); !errors.Is(err, ErrMiss) {
			t.Errorf("after it was dropped: %v", err)
		}
	}
	key := []byte("key")
	x.Put(key, make([]byte, 1000))
	if _, err := Parse(x.read(key, 1000), key); !errors.Is(err, ErrMiss) {
		t.Errorf("an item larger than an entry: %v", err)
	}
}

func TestKeysOfOnePlaceReplaceEachOther(t *testing.T) {
	x := table(t, 1, 100)
	a, b := []byte("a"), []byte("b")
	x.Put(a, []byte("1"))
	x.Put(b, []byte("2"))
	x.Drop(a) // not b
	if _, err := Parse(x.read(a, 10), a); !errors.Is(err, ErrMiss) {
		t.Errorf("a: %v", err)
	}
	if v, err := Parse(x.read(b, 10), b); err != nil || string(v) != "2" {
		t.Errorf("b: %q %v", v, err)
	}
}

// TestNoMixtureOfTwoItemsPasses puts entries together from pieces of two versions, cut anywhere, as a READ during a write
// may bring them.
func TestNoMixtureOfTwoItemsPasses(t *testing.T) {
	rounds := 1_000_000
	if testing.Short() {
		rounds = 100_000
	}
	x := table(t, 1, 200)
	key := []byte("the key")
	rng := rand.New(rand.NewPCG(1, 2))
	version := func(n int) []byte {
		v := make([]byte, n)
		for i := range v {
			v[i] = byte(rng.Uint32() & 3) // alike in most places
		}
		x.Drop(key)
		x.Put(key, v)
		return x.read(key, 200)
	}
	old := version(64)
	passed := 0
	for range rounds {
		now := version(64)
		mix := bytes.Clone(old)
		for at := 0; at < len(mix); {
			n := 1 + rng.IntN(64)
			if rng.IntN(2) == 0 {
				copy(mix[at:], now[at:min(at+n, len(now))])
			}
			at += n
		}
		v, err := Parse(mix, key)
		if err == nil {
			passed++
			o, _ := Parse(old, key)
			if n, _ := Parse(now, key); !bytes.Equal(v, o) && !bytes.Equal(v, n) {
				t.Fatalf("a mixture passes: %x of %x and %x", v, o, n)
			}
		}
		old = now
	}
	t.Logf("%d of %d were one version, whole", passed, rounds)
}

func TestParsingNeverAllocates(t *testing.T) {
	x := table(t, 16, 200)
	key := []byte("key")
	x.Put(key, make([]byte, 100))
	b := x.read(key, 100)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Parse(b, key); err != nil {
			t.Fatal(err)
		}
		x.Drop(key)
		x.Put(key, b[:100])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	x := table(f, 1, 64)
	x.Put([]byte("key"), []byte("value"))
	f.Add(x.read([]byte("key"), 5), []byte("key"))
	f.Add(make([]byte, 40), []byte{})
	f.Fuzz(func(t *testing.T, b, key []byte) {
		v, err := Parse(b, key)
		if err == nil && (len(v) > len(b) || binary.LittleEndian.Uint64(b)&1 != 0) {
			t.Fatalf("%x passes", b)
		}
	})
}
