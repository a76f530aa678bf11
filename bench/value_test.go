package bench

import (
	"bytes"
	"testing"

	"github.com/kvwire/kvwire/kv"
)

var valueSizes = []int{0, 1, 7, 8, 23, 24, 25, 64, 100, 1000, 4096, pieceBytes, pieceBytes + valueHeaderBytes, 3*pieceBytes + 5, 1 << 20}

func TestValueIsRightAsWritten(t *testing.T) {
	for _, n := range valueSizes {
		v := make([]byte, n)
		for _, version := range []uint64{0, 1, 1<<48 | 7} {
			fillValue(v, 42, version, 9)
			if f := checkValue(v, 42, n); f != faultNone {
				t.Errorf("%d B version %d: %s", n, version, faultNames[f])
			}
		}
	}
}

func TestValueNoticesEveryFlippedByte(t *testing.T) {
	for _, n := range valueSizes {
		v := make([]byte, n)
		fillValue(v, 42, 3, 9)
		step := max(1, n/5000)
		for i := 0; i < n; i += step {
			v[i] ^= 0x10
			if checkValue(v, 42, n) == faultNone {
				t.Fatalf("%d B: byte %d flipped, and nobody noticed", n, i)
			}
			v[i] ^= 0x10
		}
	}
}

func TestValueNoticesOtherRecordsVersionsLengthsAndPlaces(t *testing.T) {
	fresh := func(n int, id, version uint64) []byte {
		v := make([]byte, n)
		fillValue(v, id, version, 9)
		return v
	}
	if f := checkValue(fresh(100, 41, 3), 42, 100); f != faultRecord {
		t.Errorf("another record's value is %s", faultNames[f])
	}
	if f := checkValue(fresh(8, 41, 3), 42, 8); f != faultFill {
		t.Errorf("another record's short value is %s", faultNames[f])
	}
	// The header of one version on the fill of another: a torn write.
	for _, n := range []int{32, 64, 1000, 4096, 100_000} {
		torn := fresh(n, 42, 3)
		copy(torn, fresh(n, 42, 4)[:valueHeaderBytes])
		if f := checkValue(torn, 42, n); f != faultFill {
			t.Errorf("%d B: version 4's header on version 3's bytes is %s", n, faultNames[f])
		}
	}
	for _, n := range []int{0, 99, 101} {
		if f := checkValue(fresh(n, 42, 3), 42, 100); f != faultLength {
			t.Errorf("%d B instead of 100 is %s", n, faultNames[f])
		}
	}
	// Two pieces of a large value changed places.
	v := fresh(4*pieceBytes, 42, 3)
	a, b := v[valueHeaderBytes:][:pieceBytes], v[valueHeaderBytes+pieceBytes:][:pieceBytes]
	tmp := bytes.Clone(a)
	copy(a, b)
	copy(b, tmp)
	if f := checkValue(v, 42, len(v)); f != faultFill {
		t.Errorf("swapped pieces are %s", faultNames[f])
	}
}

// items makes a scan's answer of the given records.
func items(spec Spec, ids ...uint64) []byte {
	b := make([]byte, 0, 1<<16)
	for _, id := range ids {
		key, v := make([]byte, spec.KeyBytes), make([]byte, spec.ValueBytes)
		padKey(key)
		putKey(key, id)
		fillValue(v, id, 1, 1)
		b, _ = kv.AppendItem(b, key, v)
	}
	return b
}

func TestScanIsCheckedForOrderValuesAndGaps(t *testing.T) {
	spec := Spec{KeyBytes: 16, ValueBytes: 64, Records: 100}
	flipped := items(spec, 10, 11)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		answer  []byte
		first   uint64
		limit   uint32
		more    bool
		fault   fault
		missing uint64
	}{
		"whole":                 {items(spec, 10, 11, 12), 10, 3, false, faultNone, 0},
		"gap":                   {items(spec, 10, 12, 13), 10, 3, false, faultNone, 1},
		"first left out":        {items(spec, 12), 10, 1, false, faultNone, 2},
		"end of the records":    {items(spec, 98, 99), 98, 10, false, faultNone, 0},
		"inserted ones may lag": {items(spec, 99, 103, 110), 99, 10, false, faultNone, 0},
		"stops early":           {items(spec, 10, 11), 10, 5, false, faultNone, 3},
		"no room":               {items(spec, 10, 11), 10, 5, true, faultNone, 0},
		"below the first":       {items(spec, 9, 10), 10, 5, false, faultOrder, 0},
		"twice":                 {items(spec, 10, 10), 10, 5, false, faultOrder, 0},
		"backwards":             {items(spec, 10, 12, 11), 10, 3, false, faultOrder, 1},
		"too many":              {items(spec, 10, 11, 12), 10, 2, false, faultItems, 0},
		"flipped":               {flipped, 10, 2, false, faultFill, 0},
		"cut off":               {items(spec, 10, 11)[:100], 10, 2, false, faultForm, 0},
		"foreign key":           {items(Spec{KeyBytes: 15, ValueBytes: 64}, 10), 10, 2, false, faultKey, 0},
	} {
		f, missing := checkScan(c.answer, c.first, c.limit, c.more, &spec, newSizes(spec))
		if f != c.fault || missing != c.missing {
			t.Errorf("%s: %s, %d missing; expected %s, %d", name, faultNames[f], missing, faultNames[c.fault], c.missing)
		}
	}
}

func BenchmarkValue(b *testing.B) {
	for _, n := range []int{64, 1024, 4096} {
		v := make([]byte, n)
		b.Run("fill/"+sizeName(n), func(b *testing.B) {
			for i := uint64(0); b.Loop(); i++ {
				fillValue(v, i, i, 1)
			}
		})
		fillValue(v, 5, 5, 1)
		b.Run("check/"+sizeName(n), func(b *testing.B) {
			for b.Loop() {
				if checkValue(v, 5, n) != faultNone {
					b.Fatal("wrong")
				}
			}
		})
	}
}

func sizeName(n int) string { return map[int]string{64: "64B", 1024: "1KiB", 4096: "4KiB"}[n] }
