package bench

import "testing"

func TestSizesAreTheSameForARecordAndInTheirBounds(t *testing.T) {
	for _, d := range []SizeDist{FixedSize, UniformSizes, ZipfianSizes} {
		s := Spec{ValueBytes: 4000, ValueDist: d}
		if d != FixedSize {
			s.ValueMinBytes = 100
		}
		z, again := newSizes(s), newSizes(s)
		least, most := 1<<30, 0
		for id := range uint64(200_000) {
			n := z.of(id)
			if n != again.of(id) {
				t.Fatalf("%v: record %d has %d B, and %d", d, id, n, again.of(id))
			}
			least, most = min(least, n), max(most, n)
		}
		mean := z.mean()
		wantLeast, lo, hi := 100, 2000.0, 2100.0
		switch d {
		case FixedSize:
			wantLeast, lo, hi = 4000, 4000, 4000
		case ZipfianSizes:
			lo, hi = 450, 700 // 1/k over 3901 lengths: 99 + 3901/(ln 3901 + 0.58)
		}
		if least != wantLeast || most > 4000 || most < 3900 || mean < lo || mean > hi {
			t.Errorf("%v: %d to %d B, %.0f on average", d, least, most, mean)
		}
	}
}
