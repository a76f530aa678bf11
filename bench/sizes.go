package bench

// SizeDist is the distribution of the sizes of values.
type SizeDist uint8

const (
	FixedSize    SizeDist = iota // all ValueBytes
	UniformSizes                 // from ValueMinBytes to ValueBytes, all lengths equally often
	ZipfianSizes                 // from ValueMinBytes to ValueBytes, short ones most often (theta 0.99)
	TraceSizes                   // those of the trace; a record's may change
	sizeDistEnd
)

var sizeDistNames = [...]string{"fixed", "uniform", "zipfian", "trace"}

// String is the distribution as it stands in the value_dist column.
func (d SizeDist) String() string { return name(sizeDistNames[:], int(d)) }

// ParseSizeDist reads the name of a distribution that needs no trace.
func ParseSizeDist(s string) (SizeDist, error) {
	i, err := index(sizeDistNames[:TraceSizes], s, "distribution of sizes", "fixed, uniform or zipfian")
	return SizeDist(i), err
}

// sizes has the length of each record's values. It is the same in all versions and in every process, so that reads can be
// checked. With a trace, the length depends on the version, and sizes has the length that is loaded. It does not change, and
// any goroutine may use it.
type sizes struct {
	dist        SizeDist
	least, most int
	ranks       Ranks
	trace       *Trace
}

func newSizes(s Spec) *sizes {
	z := &sizes{dist: s.ValueDist, least: s.ValueMinBytes, most: s.ValueBytes, trace: s.Trace}
	if z.dist == ZipfianSizes {
		z.ranks = NewRanks(uint64(z.most-z.least+1), 0.99)
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
	if z.dist == UniformSizes {
		return z.least + int(h%uint64(z.most-z.least+1))
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

// sample returns the lengths of the first records' values; only one if all are the same.
func (z *sizes) sample() []int {
	if z.dist == FixedSize {
		return []int{z.most}
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
