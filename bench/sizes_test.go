package bench

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

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

// randomSizes returns a list within its limits.
func randomSizes(rng *rand.Rand) (list []Size) {
	at := rng.IntN(100)
	for n := 1 + rng.IntN(12); len(list) < n; at += 1 + rng.IntN(5000) {
		list = append(list, Size{at, 1 + rng.IntN(50)})
	}
	return list
}

func TestListedSizesHaveTheirWeightsAndStay(t *testing.T) {
	const records = 100_000
	rng := rand.New(rand.NewPCG(7, 8))
	for range 20 {
		s := Spec{ValueDist: ListedSizes, ValueSizes: randomSizes(rng), Records: records}.Defaults()
		if err := s.Check(); err != nil {
			t.Fatalf("%v: %v", s.ValueSizes, err)
		}
		z, again, other := newSizes(s), newSizes(s), s
		other.Seed, other.Records = 99, records*2 // neither moves a size
		third := newSizes(other.Defaults())
		found, bytes := map[int]int{}, 0
		for id := range uint64(records) {
			n := z.of(id)
			if n != again.of(id) || n != third.of(id) || n != z.room(id) {
				t.Fatalf("%v: record %d has %d, %d and %d B, and room for %d", s.ValueSizes, id, n, again.of(id), third.of(id), z.room(id))
			}
			found[n]++
			bytes += n
		}
		sum, exact := 0, 0
		for _, size := range s.ValueSizes {
			sum += size.Weight
			exact += size.Bytes * size.Weight
		}
		for _, size := range s.ValueSizes {
			p := float64(size.Weight) / float64(sum)
			if got, sd := float64(found[size.Bytes]), math.Sqrt(records*p*(1-p)); math.Abs(got-records*p) > 5*sd+1 {
				t.Errorf("%v: %v records of %d B, want %.0f", s.ValueSizes, got, size.Bytes, records*p)
			}
			delete(found, size.Bytes)
		}
		if len(found) > 0 {
			t.Errorf("%v: records of other sizes: %v", s.ValueSizes, found)
		}
		if mean, measured := z.mean(), float64(bytes)/records; mean != float64(exact)/float64(sum) || math.Abs(mean/measured-1) > 0.05 {
			t.Errorf("%v: %v B on average are expected, and %v were found", s.ValueSizes, mean, measured)
		}
		if s.ValueMinBytes != s.ValueSizes[0].Bytes || s.ValueBytes != s.ValueSizes[len(s.ValueSizes)-1].Bytes {
			t.Errorf("%v: from %d to %d B", s.ValueSizes, s.ValueMinBytes, s.ValueBytes)
		}
	}
}

func TestListsOfSizesThatAreNone(t *testing.T) {
	for want, s := range map[string]Spec{
		"a list of 0 sizes":                    {ValueDist: ListedSizes},
		"a list of 101 sizes":                  {ValueDist: ListedSizes, ValueSizes: make([]Size, listedSizesMax+1)},
		"needs the distribution of sizes list": {ValueSizes: []Size{{1, 1}}},
		"values of -1 B":                       {ValueDist: ListedSizes, ValueSizes: []Size{{-1, 1}}},
		"values of 16777217 B":                 {ValueDist: ListedSizes, ValueSizes: []Size{{maxValueBytes + 1, 1}}},
		"60 B after 60 B":                      {ValueDist: ListedSizes, ValueSizes: []Size{{60, 1}, {60, 1}}},
		"59 B after 60 B":                      {ValueDist: ListedSizes, ValueSizes: []Size{{60, 1}, {59, 1}}},
		"60 B the weight 0":                    {ValueDist: ListedSizes, ValueSizes: []Size{{60, 0}}},
		"61 B the weight 1":                    {ValueDist: ListedSizes, ValueSizes: []Size{{60, sizeWeightsMax}, {61, 1}}},
		"61 B the weight 9223372036854775807":  {ValueDist: ListedSizes, ValueSizes: []Size{{60, 1}, {61, math.MaxInt}}},
	} {
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
