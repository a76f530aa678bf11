package bench

// SizeDist says how long values are.
type SizeDist uint8

const (
	FixedSize    SizeDist = iota // all ValueBytes
	UniformSizes                 // from ValueMinBytes to ValueBytes, every length alike
	ZipfianSizes                 // from ValueMinBytes to ValueBytes, short ones most often (theta 0.99)
	sizeDistEnd
)

var sizeDistNames = [...]string{"fixed", "uniform", "zipfian"}

// String is the distribution as it stands in the value_dist column.
func (d SizeDist) String() string { return name(sizeDistNames[:], int(d)) }

// ParseSizeDist reads a distribution's name.
func ParseSizeDist(s string) (SizeDist, error) {
	i, err := index(sizeDistNames[:], s, "distribution of sizes", "fixed, uniform or zipfian")
	return SizeDist(i), err
}

// sizes gives every record the length of its values, the same in all versions and in every process, so that what is read
// can be checked. It does not change, and any goroutine may ask it.
type sizes struct {
	dist        SizeDist
	least, most int
	ranks       Ranks
}

func newSizes(s Spec) *sizes {
	z := &sizes{dist: s.ValueDist, least: s.ValueMinBytes, most: s.ValueBytes}
	if z.dist == ZipfianSizes {
		z.ranks = NewRanks(uint64(z.most-z.least+1), 0.99)
	}
	return z
}

func (z *sizes) of(id uint64) int {
	if z.dist == FixedSize {
		return z.most
	}
	h := mixBits(id ^ 0x73697a65)
	if z.dist == UniformSizes {
		return z.least + int(h%uint64(z.most-z.least+1))
	}
	return z.least + int(z.ranks.Rank(float64(h>>11)/(1<<53)))
}

// mean is what a value has on average, from the first records.
func (z *sizes) mean() float64 {
	if z.dist == FixedSize {
		return float64(z.most)
	}
	const n = 10_000
	sum := 0
	for id := range uint64(n) {
		sum += z.of(id)
	}
	return float64(sum) / n
}
