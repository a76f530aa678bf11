//go:build ignore

// Command generate writes a sample trace in the format of Twitter's cache traces to standard output. It is not a part of those traces: its rows are
// drawn from the statistics that Twitter published about one of its clusters (cluster 4 of March 2020). It imports nothing of ours.
package main

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
)

// What is published about the cluster (https://github.com/twitter/cache-trace, stat/2020Mar.md; Yang, Yue, Rashmi: OSDI 2020).
const (
	zipf      = 1.1004
	keyBytes  = 67
	valueMean = 2439
	missShare = 0.3941
	setShare  = 0.07
)

// What is chosen here: a short piece with few keys, and deletes, which are below 1 % there.
const (
	seconds     = 120
	perSecond   = 200
	keys        = 20_000
	deleteShare = 0.005
	clients     = 40
	sigma       = 1.0 // of the logarithm of the sizes
)

// ttls are the cluster's common times to live in seconds, with their shares.
var ttls = []struct {
	share   float64
	seconds int
}{{0.39, 60}, {0.24, 300}, {0.13, 3600}, {0.12, 600}, {0.09, 14400}, {0.03, 86400}}

// key is an anonymized key with its item.
type key struct {
	name    string
	size    int
	present bool
	expires int // second; 0: never
}

func main() {
	rng := rand.New(rand.NewPCG(2020, 4))
	all := make([]key, keys)
	absent, sum := 0.0, 0.0
	for i := range all {
		k := &all[i]
		k.name = fmt.Sprintf("tw:%010x", rng.Uint64()&(1<<40-1))
		k.size = max(1, int(math.Exp(math.Log(valueMean)-sigma*sigma/2+sigma*rng.NormFloat64())))
		weight := math.Pow(float64(i+1), -zipf)
		sum += weight
		if k.present = absent+weight > missShare*sum; !k.present {
			absent += weight
		}
	}
	popular := rand.NewZipf(rng, zipf, 1, keys-1)
	out := bufio.NewWriter(os.Stdout)
	for second := range seconds {
		for range perSecond {
			k := &all[popular.Uint64()]
			u := rng.Float64()
			if u < setShare+deleteShare {
				k = &all[rng.IntN(keys)] // what is popular stays as it is, and with it the share of misses
			}
			if k.expires > 0 && second >= k.expires {
				k.present, k.expires = false, 0
			}
			op, size, ttl := "get", 0, 0
			switch {
			case u < setShare:
				op, size, ttl = "set", k.size, live(rng)
				k.present, k.expires = true, second+ttl
			case u < setShare+deleteShare:
				op, k.present = "delete", false
			case k.present:
				size = k.size
			}
			fmt.Fprintf(out, "%d,%s,%d,%d,%d,%s,%d\n", second, k.name, keyBytes, size, 1+rng.IntN(clients), op, ttl)
		}
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func live(rng *rand.Rand) int {
	u := rng.Float64()
	for _, t := range ttls {
		if u -= t.share; u < 0 {
			return t.seconds
		}
	}
	return ttls[0].seconds
}
