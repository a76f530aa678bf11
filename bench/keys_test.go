package bench

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The probability of rank r is (r+1)^-theta / zeta(n).
func TestRanksHaveZipfsFrequencies(t *testing.T) {
	const n, draws = 1000, 2_000_000
	z := NewRanks(n, 0.99)
	rng := rand.New(rand.NewPCG(1, 2))
	counts := make([]int, n)
	for range draws {
		counts[z.Rank(rng.Float64())]++
	}
	sum := 0.0
	for i := 1; i <= n; i++ {
		sum += math.Pow(float64(i), -0.99)
	}
	// Ranks 0 and 1 are exact in Gray's method, the others approximate: YCSB's rank 2 is 13 % too rare.
	for rank, tolerance := range map[int]float64{0: 0.01, 1: 0.01, 2: 0.2, 9: 0.1, 99: 0.1} {
		got, want := float64(counts[rank])/draws, math.Pow(float64(rank+1), -0.99)/sum
		if math.Abs(got/want-1) > tolerance {
			t.Errorf("rank %d: share %.5f, expected %.5f", rank, got, want)
		}
	}
	for name, c := range map[string]struct{ from, to int }{"first 10": {0, 10}, "first 100": {0, 100}, "last half": {n / 2, n}} {
		got, want := 0.0, 0.0
		for i := c.from; i < c.to; i++ {
			got += float64(counts[i]) / draws
			want += math.Pow(float64(i+1), -0.99) / sum
		}
		if math.Abs(got/want-1) > 0.05 {
			t.Errorf("%s ranks: share %.4f, expected %.4f", name, got, want)
		}
	}
}

func TestZetaAgreesWithYCSBAndWithTheSum(t *testing.T) {
	// ScrambledZipfianGenerator.ZETAN of YCSB, for 10^10 items and 0.99.
	if got := zeta(scrambleItems, 0.99); math.Abs(got-26.46902820178302) > 1e-7 {
		t.Errorf("zeta(10^10, 0.99) = %.12f", got)
	}
	for _, theta := range []float64{0.1, 0.5, 0.99} {
		sum := 0.0
		for i := 1; i <= 50_000; i++ {
			sum += math.Pow(float64(i), -theta)
		}
		if got := zeta(50_000, theta); math.Abs(got/sum-1) > 1e-10 {
			t.Errorf("zeta(50000, %v) = %.12f, sum %.12f", theta, got, sum)
		}
	}
}

func TestRanksGrowAsIfMadeLarger(t *testing.T) {
	grown := NewRanks(100, 0.99)
	grown.Grow(5000)
	made := NewRanks(5000, 0.99)
	for u := 0.0; u < 1; u += 0.001 {
		if a, b := grown.Rank(u), made.Rank(u); a != b && max(a, b)-min(a, b) > 1 {
			t.Fatalf("u=%v: rank %d after growing, %d when made so", u, a, b)
		}
	}
	for n := uint64(1); n < 5; n++ { // tiny spaces stay inside themselves
		z := NewRanks(n, 0.99)
		for u := 0.0; u < 1; u += 0.01 {
			if r := z.Rank(u); r >= n {
				t.Fatalf("n=%d u=%v: rank %d", n, u, r)
			}
		}
	}
}

// FNV-1a over the eight bytes, least first, and the absolute value, as Utils.fnvhash64 of YCSB does.
func TestScrambleIsFNV1a(t *testing.T) {
	want := func(v uint64) uint64 {
		h := uint64(14695981039346656037)
		for i := range 8 {
			h ^= v >> (8 * i) & 0xff
			h *= 1099511628211
		}
		if int64(h) < 0 {
			return uint64(-int64(h))
		}
		return h
	}
	for _, v := range []uint64{0, 1, 255, 256, 1 << 40, math.MaxUint64} {
		if scramble(v) != want(v) {
			t.Errorf("scramble(%d) = %d", v, scramble(v))
		}
	}
}

func choose(dist KeyDist, seed, records uint64, n int) []uint64 {
	c := newChooser(Spec{KeyDist: dist, Seed: seed, Records: records, Theta: 0.99}, 0, 1, false)
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = c.read()
	}
	return ids
}

func TestZipfianIsSkewedAndScattered(t *testing.T) {
	const records, draws = 10_000, 500_000
	counts := make([]int, records)
	for _, id := range choose(Zipfian, 7, records, draws) {
		counts[id]++
	}
	halves, hottest := [2]int{}, 0
	for id, n := range counts {
		halves[id/(records/2)] += n
		if n > counts[hottest] {
			hottest = id
		}
	}
	// The most popular of 10^10 ranks has 1/26.469 = 3.8 % (plus what else falls on its record).
	if share := float64(counts[hottest]) / draws; share < 0.035 || share > 0.045 {
		t.Errorf("the hottest record has %.4f of the requests", share)
	}
	if hottest != int(scramble(0)%records) {
		t.Errorf("the hottest record is %d, not where rank 0 is scattered to", hottest)
	}
	if share := float64(halves[0]) / draws; share < 0.4 || share > 0.6 {
		t.Errorf("the lower half of the key space has %.3f of the requests: not scattered", share)
	}
	top := slices.Clone(counts)
	slices.SortFunc(top, func(a, b int) int { return b - a })
	sum := 0
	for _, n := range top[:100] {
		sum += n
	}
	if share := float64(sum) / draws; share < 0.15 || share > 0.4 {
		t.Errorf("the hottest 1 %% of the records have %.3f of the requests", share)
	}
}

func TestZipfianRecordsHasARankForEachRecord(t *testing.T) {
	const records, draws = 10_000, 500_000
	counts := make([]int, records)
	for _, id := range choose(ZipfianRecords, 7, records, draws) {
		counts[id]++
	}
	for _, rank := range []uint64{0, 1, 9} { // its share is 1/(rank+1)^0.99 of the sum over all ranks
		want := math.Pow(float64(rank+1), -0.99) / zeta(records, 0.99)
		if share := float64(counts[scatter(rank, records)]) / draws; math.Abs(share-want) > 0.05*want {
			t.Errorf("rank %d has %.4f of the requests, expected %.4f", rank, share, want)
		}
	}
}

func TestScatterIsOneToOneAndSeparatesNeighbours(t *testing.T) {
	for _, n := range []uint64{1, 2, 3, 4, 5, 7, 8, 9, 100, 1023, 1024, 1025, 100_000} {
		seen, close := make([]bool, n), 0
		for rank := range n {
			v := scatter(rank, n)
			if v >= n || seen[v] {
				t.Fatalf("%d records: rank %d has record %d, which is beyond the last or taken", n, rank, v)
			}
			seen[v] = true
			if before := scatter((rank+n-1)%n, n); max(v, before)-min(v, before) < 4 {
				close++
			}
		}
		if n >= 1000 && close > int(n)/50 { // a random order has about 7
			t.Errorf("%d records: %d ranks are near the rank before", n, close)
		}
	}
}

func TestUniformReachesEverythingAlike(t *testing.T) {
	counts := make([]int, 100)
	for _, id := range choose(Uniform, 3, 100, 100_000) {
		counts[id]++
	}
	for id, n := range counts {
		if n < 800 || n > 1200 { // 1000 ± 6 standard deviations
			t.Errorf("record %d was chosen %d times of 100,000", id, n)
		}
	}
}

func TestSameSeedSameKeys(t *testing.T) {
	for _, d := range []KeyDist{Uniform, Zipfian, ZipfianRecords, Latest} {
		a, b, other := choose(d, 5, 1000, 500), choose(d, 5, 1000, 500), choose(d, 6, 1000, 500)
		if !slices.Equal(a, b) {
			t.Errorf("%v: the same seed chose other keys", d)
		}
		if slices.Equal(a, other) {
			t.Errorf("%v: another seed chose the same keys", d)
		}
	}
}

func TestLatestFavoursTheYoungestThatIsAcknowledged(t *testing.T) {
	const records = 10_000
	c := newChooser(Spec{KeyDist: Latest, Records: records, Theta: 0.99}, 1, 4, true)
	var ids []uint64
	for range 1000 {
		id, _ := c.insert()
		if (id-records)%4 != 1 {
			t.Fatalf("thread 1 of 4 inserted record %d", id)
		}
		ids = append(ids, id)
	}
	for _, id := range ids[1:] { // all but the first: nothing is readable yet
		c.ack(id)
	}
	if id := c.read(); id >= records || c.acked != 0 {
		t.Fatalf("record %d was read before record %d was acknowledged", id, ids[0])
	}
	c.ack(ids[0])
	if c.acked != 1000 {
		t.Fatalf("%d inserts are readable, not 1000", c.acked)
	}
	newest, young := 0, 0
	const draws = 100_000
	for range draws {
		id := c.read()
		if id == ids[999] {
			newest++
		}
		if id >= records {
			young++
		}
	}
	if share := float64(newest) / draws; share < 0.08 || share > 0.12 { // 1/zeta(11000) = 0.098
		t.Errorf("the youngest record has %.3f of the requests", share)
	}
	if share := float64(young) / draws; share < 0.7 {
		t.Errorf("the youngest 9 %% of the records have %.3f of the requests", share)
	}
}

func TestInsertsAreBoundedByTheOldestUnacknowledged(t *testing.T) {
	c := newChooser(Spec{KeyDist: Latest, Records: 1, Theta: 0.99}, 0, 1, true)
	for i := range insertWindow {
		if _, ok := c.insert(); !ok {
			t.Fatalf("insert %d was refused", i)
		}
	}
	if _, ok := c.insert(); ok {
		t.Fatal("an insert beyond the window was granted")
	}
	c.ack(1)
	if id, ok := c.insert(); !ok || id != insertWindow+1 {
		t.Fatalf("after an acknowledgement: %d %v", id, ok)
	}
}

func TestKeysAreInTheOrderOfIDsAndCanBeReadBack(t *testing.T) {
	for _, n := range []int{1, 3, 7, 8, 9, 16, 100} {
		var last []byte
		for _, id := range []uint64{0, 1, 2, 200, 255, 256, 65536, 1 << 30, 1 << 39} {
			if n < 8 && id >= 1<<(8*n) {
				continue
			}
			key := make([]byte, n)
			padKey(key)
			putKey(key, id)
			if got, ok := keyID(key, n); !ok || got != id {
				t.Errorf("%d B: record %d reads back as %d %v", n, id, got, ok)
			}
			if last != nil && bytes.Compare(last, key) >= 0 {
				t.Errorf("%d B: the key of record %d is not above the one before", n, id)
			}
			last = key
		}
	}
	if _, ok := keyID([]byte("kkkkkkkx00000000"), 16); ok {
		t.Error("a foreign key was taken for one of ours")
	}
}
