package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Kind is an operation as a workload counts it.
type Kind uint8

const (
	Get    Kind = iota // read one record
	Put                // overwrite one existing record
	Insert             // put a new record
	Scan               // read up to ScanItems records in key order
	RMW                // get, then put a new version: one operation, with the latency of both
	Delete             // delete one record, whether it is there or not; only traces do
	kindEnd
)

// Kinds is the number of kinds.
const Kinds = int(kindEnd)

var kindNames = [...]string{"get", "put", "insert", "scan", "rmw", "delete"}

// String is the kind's name in a mix.
func (k Kind) String() string { return name(kindNames[:], int(k)) }

// Mix is the share of each kind; the shares sum to 1.
type Mix struct {
	Share [Kinds]float64
	dist  KeyDist // the default distribution of keys
}

// ycsb are the core workloads of Cooper et al., "Benchmarking cloud serving systems with YCSB" (2010).
var ycsb = map[string]Mix{
	"a": {Share: [Kinds]float64{Get: 0.5, Put: 0.5}, dist: Zipfian},
	"b": {Share: [Kinds]float64{Get: 0.95, Put: 0.05}, dist: Zipfian},
	"c": {Share: [Kinds]float64{Get: 1}, dist: Zipfian},
	"d": {Share: [Kinds]float64{Get: 0.95, Insert: 0.05}, dist: Latest},
	"e": {Share: [Kinds]float64{Scan: 0.95, Insert: 0.05}, dist: Zipfian},
	"f": {Share: [Kinds]float64{Get: 0.5, RMW: 0.5}, dist: Zipfian},
}

// ParseMix reads a mix: a YCSB letter, one kind, or kinds with shares, which need not sum to 100.
func ParseMix(s string) (Mix, error) {
	if m, ok := ycsb[s]; ok {
		return m, nil
	}
	m := Mix{dist: Uniform}
	if !strings.Contains(s, "=") {
		k, ok := kindOf(s)
		if !ok {
			return Mix{}, fmt.Errorf("mix %q is unknown (a to f for YCSB, get, put, insert, scan, rmw, or shares such as get=50,put=50)", s)
		}
		m.Share[k] = 1
		return m, nil
	}
	sum := 0.0
	for part := range strings.SplitSeq(s, ",") {
		word, share, found := strings.Cut(strings.TrimSpace(part), "=")
		k, ok := kindOf(word)
		if !ok || !found {
			return Mix{}, fmt.Errorf("mix %q: %q is not a kind and its share (get, put, insert, scan or rmw, as in get=50)", s, part)
		}
		v, err := strconv.ParseFloat(share, 64)
		if err != nil || !(v >= 0) || math.IsInf(v, 0) {
			return Mix{}, fmt.Errorf("mix %q: the share %q is not a number of 0 or more", s, share)
		}
		if m.Share[k] != 0 {
			return Mix{}, fmt.Errorf("mix %q names %s twice", s, k)
		}
		m.Share[k] = v
		sum += v
	}
	if !(sum > 0) || math.IsInf(sum, 0) {
		return Mix{}, fmt.Errorf("mix %q: the shares sum to %v", s, sum)
	}
	for k := range m.Share {
		m.Share[k] /= sum
	}
	return m, nil
}

func kindOf(s string) (Kind, bool) {
	for i, n := range kindNames {
		if n == s {
			return Kind(i), true
		}
	}
	return 0, false
}

// thresholds are the running sums of the shares, for pick.
func (m Mix) thresholds() (t [Kinds]float64) {
	sum, last := 0.0, 0
	for k, v := range m.Share {
		sum += v
		t[k] = sum
		if v > 0 {
			last = k
		}
	}
	for k := last; k < Kinds; k++ {
		t[k] = math.Inf(1) // rounding must not leave a gap at 1
	}
	return t
}

// pick turns a number in [0,1) into a kind.
func pick(t *[Kinds]float64, u float64) Kind {
	k := Kind(0)
	for u >= t[k] {
		k++
	}
	return k
}
