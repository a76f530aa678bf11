package bench

import (
	"math/rand/v2"
	"testing"
	"time"
)

// spread are durations over the whole range, the ends of the first buckets among them.
func spread() (all []int64) {
	for i := range int64(4100) {
		all = append(all, i)
	}
	for at := int64(4096); at < histMax; at *= 2 {
		all = append(all, at-1, at, at+1, at+at/2, at+at/3)
	}
	return append(all, histMax-1, histMax)
}

func TestDurationsAreThoseOfAnHdrHistogram(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, all := range map[string][]int64{"none": nil, "one": {1234567}, "spread": spread(), "beyond": {-5, histMax + 1, histMax + 1}} {
		for range 1000 {
			if name == "spread" {
				all = append(all, int64(10*time.Microsecond)+rng.Int64N(int64(time.Millisecond)))
			}
		}
		d, h := newDurations(), newHist()
		for _, ns := range all {
			d.record(ns)
			record(h, ns)
		}
		if !d.hist().Equals(h) || int64(d.total()) != h.TotalCount() {
			t.Fatalf("%s: %d durations are not those of the histogram", name, d.total())
		}
		percent := []float64{0.01, 1, 50, 90, 99, 99.99, 100}
		got := make([]int64, len(percent))
		d.percentiles(got, percent...)
		for i, p := range percent {
			if want := h.ValueAtQuantile(p); got[i] != want {
				t.Errorf("%s: %v %% of them take %d ns, of the histogram %d", name, p, got[i], want)
			}
		}
		back := newDurations()
		if err := back.decode(d.encode()); err != nil || !back.hist().Equals(h) {
			t.Errorf("%s: encoded and decoded, they are others: %v", name, err)
		}
		back.merge(d)
		if back.total() != 2*d.total() || back.touched != d.touched {
			t.Errorf("%s: merged with themselves they are %d", name, back.total())
		}
		back.reset()
		for i, n := range back.counts {
			if n != 0 || back.touched != 0 {
				t.Fatalf("%s: bucket %d has %d after the reset", name, i, n)
			}
		}
	}
}

func TestDurationsRefuseWhatIsNoEncoding(t *testing.T) {
	for name, b := range map[string][]byte{
		"step 0":    {0, 1},
		"no count":  {1},
		"too far":   {0xff, 0xff, 0x7f, 1},
		"huge step": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1},
		"cut":       {0x80},
		"too many":  {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"overlong":  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		if err := newDurations().decode(b); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzDurationsDecode(f *testing.F) {
	d := newDurations()
	for _, ns := range spread() {
		d.record(ns)
	}
	f.Add(d.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, back := newDurations(), newDurations()
		if d.decode(b) != nil {
			return
		}
		if err := back.decode(d.encode()); err != nil || back.total() != d.total() {
			t.Fatalf("%d durations come back as %d: %v", d.total(), back.total(), err)
		}
	})
}
