package bench

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
)

// KeyDist is the distribution of the requested records.
type KeyDist uint8

const (
	DistOfMix      KeyDist = iota // that of the mix: see Spec.KeyDist
	Uniform                       // all records equally often
	Zipfian                       // few records most often, spread over the key space as YCSB does, with 10^10 ranks
	ZipfianRecords                // as Zipfian, with one rank for each record, as KVell draws: more skewed
	Latest                        // the youngest records most often
	TraceKeys                     // those of the trace
	distEnd
)

var distNames = [...]string{"default", "uniform", "zipfian", "zipfian-records", "latest", "trace"}

// String is the distribution as it stands in the key_dist column.
func (d KeyDist) String() string { return name(distNames[:], int(d)) }

// ParseKeyDist reads the name of a distribution that needs no trace.
func ParseKeyDist(s string) (KeyDist, error) {
	i, err := index(distNames[1:TraceKeys], s, "key distribution", "uniform, zipfian, zipfian-records or latest")
	return KeyDist(i + 1), err
}

// Ranks draws ranks 0 to n-1 with probability proportional to 1/(rank+1)^theta, by the method of
// Gray et al., "Quickly generating billion-record synthetic databases" (1994), as YCSB does.
type Ranks struct {
	n                               uint64
	theta, alpha, zeta2, zetan, eta float64
	second                          float64 // below it, u·zetan is rank 1
}

// NewRanks prepares n ranks, n ≥ 1, 0 < theta < 1.
func NewRanks(n uint64, theta float64) Ranks {
	z := Ranks{n: n, theta: theta, alpha: 1 / (1 - theta), zeta2: zeta(2, theta), zetan: zeta(n, theta), second: 1 + math.Pow(0.5, theta)}
	z.setEta()
	return z
}

// Grow adds the ranks up to n-1: one power for each new one.
func (z *Ranks) Grow(n uint64) {
	if n <= z.n {
		return
	}
	for z.n < n {
		z.n++
		z.zetan += math.Pow(float64(z.n), -z.theta)
	}
	z.setEta()
}

func (z *Ranks) setEta() {
	z.eta = (1 - math.Pow(2/float64(z.n), 1-z.theta)) / (1 - z.zeta2/z.zetan)
}

// Rank turns a number in [0,1) into a rank.
func (z *Ranks) Rank(u float64) uint64 {
	uz := u * z.zetan
	switch {
	case uz < 1:
		return 0
	case uz < z.second:
		return min(1, z.n-1)
	}
	// Log and Exp instead of Pow, whose loop over an exponent of 100 costs 100 ns more (BenchmarkGenerator/turn/c).
	return min(uint64(float64(z.n)*math.Exp(z.alpha*math.Log(z.eta*u-z.eta+1))), z.n-1)
}

// zeta is the sum of i^-theta for i = 1 to n. The tail is summed by Euler and Maclaurin (relative
// error below 1e-12), since YCSB's 10^10 items would need minutes one by one.
func zeta(n uint64, theta float64) float64 {
	const direct = 1000
	m := min(n, direct)
	sum := 0.0
	for i := m; i >= 1; i-- {
		sum += math.Pow(float64(i), -theta)
	}
	if n > m {
		a, b := float64(m), float64(n)
		sum += (math.Pow(b, 1-theta) - math.Pow(a, 1-theta)) / (1 - theta)
		sum += (math.Pow(b, -theta) - math.Pow(a, -theta)) / 2
		sum += theta / 12 * (math.Pow(a, -theta-1) - math.Pow(b, -theta-1))
	}
	return sum
}

// scrambleItems is the number of ranks that YCSB's scrambled zipfian draws from, whatever the
// number of records is; its hash spreads them.
const scrambleItems = 10_000_000_000

// scramble is YCSB's fnvhash64: FNV-1a over the eight bytes, made positive.
func scramble(v uint64) uint64 {
	h := uint64(0xCBF29CE484222325)
	for range 8 {
		h = (h ^ v&0xff) * 1099511628211
		v >>= 8
	}
	if int64(h) < 0 {
		h = -h
	}
	return h
}

// scatter maps ranks 0 to n-1 onto records 0 to n-1, one to one, so that popular records are not neighbours. Each multiplication and each
// shift is one to one on the integers below 2^width, where width is the number of bits of n-1. A result of n or more is mapped again (cycle walking, Black and Rogaway 2002).
func scatter(rank, n uint64) uint64 {
	width := uint(bits.Len64(n - 1))
	mask, half := uint64(1)<<width-1, width/2+1
	for v := rank; ; {
		v = (v * 0x9E3779B97F4A7C15) & mask
		v ^= v >> half
		v = (v * 0xD6E8FEB86659FD93) & mask
		if v ^= v >> half; v < n {
			return v
		}
	}
}

// chooser picks records for one thread. A thread inserts records Records + i·threads + thread and
// reads back only those of its own that were acknowledged: threads share nothing, and a run is the
// same for the same seed whatever the timing of the others. (YCSB shares one counter.)
type chooser struct {
	dist    KeyDist
	rng     *rand.Rand
	ranks   Ranks
	records uint64 // loaded: readable from the start
	thread  uint64
	threads uint64

	inserts uint64 // own inserts begun
	acked   uint64 // own inserts of which all up to here have been acknowledged
	done    []bool // ring: acknowledged, out of order, between acked and inserts

	replay *replay // TraceKeys: whose records these are
}

// insertWindow bounds how far inserts run ahead of the oldest that is not acknowledged.
const insertWindow = 1 << 16

func newChooser(s Spec, thread, threads int, inserts bool) chooser {
	c := chooser{dist: s.KeyDist, rng: rand.New(rand.NewPCG(s.Seed, 2*uint64(thread)+1)),
		records: s.Records, thread: uint64(thread), threads: uint64(threads)}
	switch s.KeyDist {
	case Zipfian:
		c.ranks = NewRanks(scrambleItems, s.Theta)
	case ZipfianRecords, Latest:
		c.ranks = NewRanks(s.Records, s.Theta)
	}
	if inserts {
		c.done = make([]bool, insertWindow)
	}
	return c
}

// read picks an existing record.
func (c *chooser) read() uint64 {
	switch c.dist {
	case TraceKeys:
		return c.replay.id()
	case Zipfian:
		// Loaded records only: a modulus that grows would make others popular with every insert.
		return scramble(c.ranks.Rank(c.rng.Float64())) % c.records
	case ZipfianRecords:
		return scatter(c.ranks.Rank(c.rng.Float64()), c.records)
	case Latest:
		n := c.records + c.acked
		c.ranks.Grow(n)
		return c.id(n - 1 - c.ranks.Rank(c.rng.Float64()))
	}
	return c.id(c.rng.Uint64N(c.records + c.acked))
}

// id is the record at a place in this thread's own order: those loaded, then its inserts.
func (c *chooser) id(at uint64) uint64 {
	if at < c.records {
		return at
	}
	return c.records + (at-c.records)*c.threads + c.thread
}

// insert returns a new record. ok is false while insertWindow are not acknowledged.
func (c *chooser) insert() (id uint64, ok bool) {
	if c.inserts-c.acked >= insertWindow {
		return 0, false
	}
	id = c.id(c.records + c.inserts)
	c.inserts++
	return id, true
}

// ack makes an inserted record readable, once all before it are.
func (c *chooser) ack(id uint64) {
	c.done[(id-c.records)/c.threads%insertWindow] = true
	for c.acked < c.inserts && c.done[c.acked%insertWindow] {
		c.done[c.acked%insertWindow] = false
		c.acked++
	}
}

// A record's key is its id, big-endian, so that keys are in the order of ids: the lowest KeyBytes
// bytes of it, or, where keys are longer than 8 bytes, the 8 bytes after as many bytes keyPad as needed.
const keyPad = 'k'

// padKey fills the part of a key that is the same for all records.
func padKey(key []byte) {
	for i := 0; i < len(key)-8; i++ {
		key[i] = keyPad
	}
}

// putKey writes the rest of a padded key.
func putKey(key []byte, id uint64) {
	if n := len(key); n >= 8 {
		binary.BigEndian.PutUint64(key[n-8:], id)
		return
	}
	for i := len(key) - 1; i >= 0; i-- {
		key[i] = byte(id)
		id >>= 8
	}
}

// keyID reads a key back; ok is false when it is no record's key of keyBytes.
func keyID(key []byte, keyBytes int) (id uint64, ok bool) {
	if len(key) != keyBytes {
		return 0, false
	}
	if n := len(key); n > 8 {
		for _, b := range key[:n-8] {
			if b != keyPad {
				return 0, false
			}
		}
		key = key[n-8:]
	}
	for _, b := range key {
		id = id<<8 | uint64(b)
	}
	return id, true
}
