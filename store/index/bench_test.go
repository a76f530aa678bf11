package index

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"testing"
	"time"
)

const userKeyBytes = 23

// userKey writes the i-th of many keys in no order: "user" and the last digits, at most 19, of a random number.
func userKey(b []byte, i int) {
	z := uint64(i)*0x9e3779b97f4a7c15 + 0x9e3779b97f4a7c15 // splitmix64 (Steele et al. 2014)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z = (z ^ z>>31) >> 1
	copy(b, "user")
	for at := len(b) - 1; at >= 4; at-- {
		b[at] = '0' + byte(z%10)
		z /= 10
	}
}

// indexSizes are numbers of keys; KVWIRE_LONG asks for many, and KVWIRE_KEYS is one number (protostore's study has 250 million, for which 15 GiB of memory do).
func indexSizes() []int {
	if n, err := strconv.Atoi(os.Getenv("KVWIRE_KEYS")); err == nil && n > 0 {
		return []int{n}
	}
	if os.Getenv("KVWIRE_LONG") != "" {
		return []int{1_000_000, 2_000_000, 10_000_000}
	}
	return []int{1_000_000}
}

func filledIndex(tb testing.TB, n int) *Index {
	x := New()
	tb.Cleanup(x.Close)
	var key [userKeyBytes]byte
	for i := range n {
		userKey(key[:], i)
		if _, ok := x.Insert(key[:]); !ok {
			tb.Fatal("no memory")
		}
	}
	return x
}

func reportIndex(b *testing.B, x *Index) {
	b.ReportMetric(float64(x.Bytes())/float64(x.n)-userKeyBytes, "B/key-beyond-it")
}

// BenchmarkIndexKey is what the keys cost that the others make.
func BenchmarkIndexKey(b *testing.B) {
	var key [userKeyBytes]byte
	for i := 0; b.Loop(); i++ {
		userKey(key[:], i)
	}
}

func BenchmarkIndexFind(b *testing.B) {
	for _, n := range indexSizes() {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			x := filledIndex(b, n)
			b.ReportAllocs()
			var key [userKeyBytes]byte
			for i := 0; b.Loop(); i = (i + 7919) % n {
				userKey(key[:], i)
				if _, ok := x.Find(key[:]); !ok {
					b.Fatal("a key is not there")
				}
			}
			reportIndex(b, x)
		})
	}
}

// BenchmarkIndexInsert adds to an index that has a number of keys.
func BenchmarkIndexInsert(b *testing.B) {
	for _, n := range indexSizes() {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			x := filledIndex(b, n)
			b.ReportAllocs()
			var key [userKeyBytes]byte
			for i := n; b.Loop(); i++ {
				userKey(key[:], i)
				if _, ok := x.Insert(key[:]); !ok {
					b.Fatal("no memory")
				}
			}
			reportIndex(b, x)
		})
	}
}

// BenchmarkIndexLoad measures the time per key: for adding and sorting, which a recovery does while it reads, and for the rest.
func BenchmarkIndexLoad(b *testing.B) {
	for _, n := range indexSizes() {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			var add, finish time.Duration
			var key [userKeyBytes]byte
			for b.Loop() {
				x := New()
				ld := NewLoader(x)
				begun := time.Now()
				for i := range n {
					userKey(key[:], i)
					if !ld.Add(key[:], Copy{Seq: uint64(i)}, 0) {
						b.Fatal("no memory")
					}
				}
				added := time.Now()
				if !ld.Finish(nil) {
					b.Fatal("no memory")
				}
				add, finish = add+added.Sub(begun), finish+time.Since(added)
				reportIndex(b, x)
				x.Close()
			}
			keys := float64(b.N) * float64(n)
			b.ReportMetric(float64(add.Nanoseconds())/keys, "add-ns/key")
			b.ReportMetric(float64(finish.Nanoseconds())/keys, "finish-ns/key")
		})
	}
}

// BenchmarkIndexGC measures a full garbage collection with an index and with none: its duration, and how long the world was
// stopped. The longest stop is often due to a thread that had lost its core to other processes.
func BenchmarkIndexGC(b *testing.B) {
	for _, n := range append([]int{0}, indexSizes()...) {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			x := filledIndex(b, n)
			runtime.GC()
			before := gcPauses()
			for b.Loop() {
				runtime.GC()
			}
			after := gcPauses()
			all, seen := uint64(0), uint64(0)
			for i := range after.Counts {
				after.Counts[i] -= before.Counts[i]
				all += after.Counts[i]
			}
			for i, count := range after.Counts {
				if seen += count; count > 0 && seen >= all/2 && seen-count < all/2 {
					b.ReportMetric(after.Buckets[i+1]*1e6, "median-pause-us")
				}
				if count > 0 && seen == all {
					b.ReportMetric(after.Buckets[i+1]*1e6, "max-pause-us")
				}
			}
			runtime.KeepAlive(x)
		})
	}
}

func gcPauses() *metrics.Float64Histogram {
	s := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64Histogram()
}
