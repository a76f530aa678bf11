package bench

import (
	"fmt"
	"slices"
)

// SizeDist is the distribution of the sizes of values.
type SizeDist uint8

const (
	FixedSize    SizeDist = iota // all ValueBytes
	UniformSizes                 // from ValueMinBytes to ValueBytes, all lengths equally often
	ZipfianSizes                 // from ValueMinBytes to ValueBytes, short ones most often (theta 0.99)
	ListedSizes                  // those of ValueSizes, each as often as its weight
	TraceSizes                   // those of the trace; a record's may change
	sizeDistEnd
)

var sizeDistNames = [...]string{"fixed", "uniform", "zipfian", "list", "trace"}

// String is the distribution as it stands in the value_dist column.
func (d SizeDist) String() string { return name(sizeDistNames[:], int(d)) }

// ParseSizeDist reads the name of a distribution that needs no trace.
func ParseSizeDist(s string) (SizeDist, error) {
	i, err := index(sizeDistNames[:TraceSizes], s, "distribution of sizes", "fixed, uniform, zipfian or list")
	return SizeDist(i), err
}

// Size is a size of values in a list, and its weight: with weights 1 and 3, a quarter of the records has the first size.
type Size struct{ Bytes, Weight int }

// Limits of a list of sizes. They bound the memory of each thread's copy, 8 B for each unit of weight, and the length of the list's text.
const (
	listedSizesMax = 100
	sizeWeightsMax = 10_000
)

// CheckSizes returns an error for a list of sizes that is not one. The smallest size comes first.
func CheckSizes(list []Size) error {
	if len(list) == 0 || len(list) > listedSizesMax {
		return fmt.Errorf("a list of %d sizes of values: must be 1 to %d sizes", len(list), listedSizesMax)
	}
	sum := 0
	for i, z := range list {
		switch {
		case z.Bytes < 0 || z.Bytes > maxValueBytes:
			return fmt.Errorf("a list of sizes with values of %d B: must be from 0 to %d", z.Bytes, maxValueBytes)
		case i > 0 && z.Bytes <= list[i-1].Bytes:
			return fmt.Errorf("a list of sizes has %d B after %d B: each size must be larger than the one before it", z.Bytes, list[i-1].Bytes)
		case z.Weight < 1 || z.Weight > sizeWeightsMax-sum:
			return fmt.Errorf("a list of sizes gives %d B the weight %d: weights must be 1 or more, and their sum at most %d", z.Bytes, z.Weight, sizeWeightsMax)
		}
		sum += z.Weight
	}
	return nil
}

// sizes has the length of each record's values. It is the same in all versions and in every process, so that reads can be
// checked. With a trace, the length depends on the version, and sizes has the length that is loaded. It does not change, and
// any goroutine may use it.
type sizes struct {
	dist        SizeDist
	least, most int
	ranks       Ranks
	list        []int // each size as often as its weight
	trace       *Trace
}

func newSizes(s Spec) *sizes {
	z := &sizes{dist: s.ValueDist, least: s.ValueMinBytes, most: s.ValueBytes, trace: s.Trace}
	switch z.dist {
	case ZipfianSizes:
		z.ranks = NewRanks(uint64(z.most-z.least+1), 0.99)
	case ListedSizes:
		for _, size := range s.ValueSizes {
			z.list = append(z.list, slices.Repeat([]int{size.Bytes}, size.Weight)...)
		}
	}
	return z
}

func (z *sizes) of(id uint64) int {
	switch z.dist {
	case FixedSize:
		return z.most
	case TraceSizes:
		return int(z.trace.first[id])
	}
	h := mixBits(id ^ 0x73697a65)
	switch z.dist {
	case UniformSizes:
		return z.least + int(h%uint64(z.most-z.least+1))
	case ListedSizes:
		return z.list[h%uint64(len(z.list))]
	}
	return z.least + int(z.ranks.Rank(float64(h>>11)/(1<<53)))
}

// room returns the largest size of a record's values.
func (z *sizes) room(id uint64) int {
	if z.dist == TraceSizes {
		return z.most
	}
	return z.of(id)
}

// sampled is the number of records in a sample.
const sampled = 10_000

// mean returns the mean size of a value, from a sample.
func (z *sizes) mean() float64 {
	sum := 0
	all := z.sample()
	for _, n := range all {
		sum += n
	}
	return float64(sum) / float64(len(all))
}

// sample returns the lengths of the first records' values; only one if all are the same; of a list, its sizes in their exact shares.
func (z *sizes) sample() []int {
	switch z.dist {
	case FixedSize:
		return []int{z.most}
	case ListedSizes:
		return z.list
	}
	n := uint64(sampled)
	if z.dist == TraceSizes {
		n = min(n, z.trace.Keys())
	}
	all := make([]int, 0, n)
	for id := range n {
		if z.dist != TraceSizes || z.trace.first[id] != noSize {
			all = append(all, z.of(id))
		}
	}
	if len(all) == 0 { // of the first keys none has a size
		return []int{z.most}
	}
	return all
}

// SampleSizes returns the lengths of values of a sample of the records.
func (s Spec) SampleSizes() []int { return newSizes(s).sample() }
