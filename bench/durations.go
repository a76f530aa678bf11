package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// durations counts durations in ns while a load runs. Its buckets are those of an HdrHistogram from 1 ns to histMax with three digits, into
// which it can be put. Unlike one, it clears and merges only what was touched, so that it can be used again for every slice: durations between
// 8 µs and 1 ms touch 7 blocks of 46.
type durations struct {
	counts  []uint64 // by bucket; 368 KiB, resident only where it is used
	touched uint64   // bit i: a count in block i may not be 0
}

// The buckets come in blocks of 1024: block 0 and 1 have a width of 1 ns, and each block after them twice the width of the one before.
const (
	blockBits = 10
	blockLen  = 1 << blockBits
	blocks    = 46 // the last begins at histMax
)

func newDurations() *durations { return &durations{counts: make([]uint64, blocks*blockLen)} }

// bucketOf is the bucket of a duration in ns, from 0 to histMax.
func bucketOf(ns int64) int {
	width := 64 - bits.LeadingZeros64(uint64(ns)|(2*blockLen-1)) - (blockBits + 1) // log2 of the bucket's width
	return width<<blockBits + int(ns>>width)
}

// bucketEnds are the least and the greatest duration of a bucket, in ns.
func bucketEnds(i int) (least, greatest int64) {
	width := max(0, i>>blockBits-1)
	least = int64(i-width<<blockBits) << width
	return least, least + 1<<width - 1
}

// record adds one duration in ns. A value out of range counts as the nearest value in it.
func (d *durations) record(ns int64) {
	i := bucketOf(min(max(ns, 0), histMax))
	d.counts[i]++
	d.touched |= 1 << (i >> blockBits)
}

// merge adds o's counts. o may be nil.
func (d *durations) merge(o *durations) {
	if o == nil {
		return
	}
	for b := range o.blocks {
		to := d.counts[b*blockLen:][:blockLen]
		for i, n := range o.counts[b*blockLen:][:blockLen] {
			to[i] += n
		}
	}
	d.touched |= o.touched
}

// reset sets all counts to 0. d may be nil.
func (d *durations) reset() {
	if d == nil {
		return
	}
	for b := range d.blocks {
		clear(d.counts[b*blockLen:][:blockLen])
	}
	d.touched = 0
}

// blocks yields the touched blocks, the lowest first.
func (d *durations) blocks(yield func(b int) bool) {
	for t := d.touched; t != 0; t &= t - 1 {
		if !yield(bits.TrailingZeros64(t)) {
			return
		}
	}
}

// each yields the buckets that are not empty, the lowest first, and their counts.
func (d *durations) each(yield func(i int, n uint64) bool) {
	for b := range d.blocks {
		for i, n := range d.counts[b*blockLen:][:blockLen] {
			if n > 0 && !yield(b*blockLen+i, n) {
				return
			}
		}
	}
}

// total is the number of durations.
func (d *durations) total() (n uint64) {
	for _, c := range d.each {
		n += c
	}
	return n
}

// percentiles are the greatest durations of the buckets in which they lie, in ns, as HdrHistogram has them. The percentages rise.
// Without any duration, all are 0.
func (d *durations) percentiles(to []int64, percent ...float64) {
	clear(to)
	total, sum, at := d.total(), uint64(0), 0
	for i, n := range d.each {
		sum += n
		for at < len(percent) && sum >= min(max(uint64(percent[at]/100*float64(total)+0.5), 1), total) {
			_, to[at] = bucketEnds(i)
			at++
		}
	}
}

// hist is an HdrHistogram of the same counts; nil of nil.
func (d *durations) hist() *hdrhistogram.Histogram {
	if d == nil {
		return nil
	}
	h := newHist()
	d.addTo(h)
	return h
}

// addTo adds the counts to those of an HdrHistogram.
func (d *durations) addTo(h *hdrhistogram.Histogram) {
	for i, n := range d.each {
		least, _ := bucketEnds(i)
		_ = h.RecordValues(least, int64(n)) // cannot fail within the range
	}
}

// encode writes the buckets that are not empty, the lowest first: the distance from the one before (from -1), and the count, both as unsigned
// varints. 60,000 latencies need about 3 KiB.
func (d *durations) encode() (b []byte) {
	last := -1
	for i, n := range d.each {
		b = binary.AppendUvarint(b, uint64(i-last))
		b = binary.AppendUvarint(b, n)
		last = i
	}
	return b
}

var errDurations = errors.New("bench: decode the latencies of a slice")

// decode adds what encode wrote, perhaps in another process: countMost durations at most. With an error, d is of no use.
func (d *durations) decode(b []byte) error {
	for last, sum := -1, uint64(0); len(b) > 0; {
		step, n := binary.Uvarint(b)
		if n <= 0 || step == 0 || step >= uint64(len(d.counts)-last) {
			return fmt.Errorf("%w: %d beyond bucket %d", errDurations, step, last)
		}
		b, last = b[n:], last+int(step)
		count, n := binary.Uvarint(b)
		if n <= 0 || count > countMost-sum {
			return fmt.Errorf("%w: %d of them in bucket %d", errDurations, count, last)
		}
		b, sum = b[n:], sum+count
		d.counts[last] += count
		d.touched |= 1 << (last >> blockBits)
	}
	return nil
}
