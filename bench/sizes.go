package bench

// SizeDist says how long values are.
type SizeDist uint8

const (
	FixedSize    SizeDist = iota // all ValueBytes
	UniformSizes                 // from ValueMinBytes to ValueBytes, every length alike
	ZipfianSizes                 // from ValueMinBytes to ValueBytes, short ones most often (theta 0.99)
	TraceSizes                   // as the trace has them; a record's may change
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

// sizes gives every record the length of its values, the same in all versions and in every process, so that what is read
// can be checked; of a trace, whose values tell their length by their version, the length that is loaded. It does not change, and
// any goroutine may ask it.
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

// room is the most that a value of a record may have.
func (z *sizes) room(id uint64) int {
	if z.dist == TraceSizes {
		return z.most
	}
	return z.of(id)
}

// sampled is how many records stand for all of them.
const sampled = 10_000

// mean is what a value has on average, from the first records.
func (z *sizes) mean() float64 {
	sum := 0
	all := z.sample()
	for _, n := range all {
		sum += n
	}
	return float64(sum) / float64(len(all))
}

// sample is the lengths of the first records' values; one is enough where all are alike.
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

// SampleSizes is the lengths of some of the records' values, each as often as it is among all of them, or nearly.
func (s Spec) SampleSizes() []int { return newSizes(s).sample() }
