package bench

import (
	"math"
	"runtime/metrics"
	"testing"
	"testing/fstest"
	"time"
)

func TestHostTimesOfCannedText(t *testing.T) {
	h, err := parseHostTimes([]byte("cpu  100 20 300 4000 50 6 70 8 9 10\ncpu0 1 2 3\nintr 5\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := HostTimes{User: time.Second, Nice: 200 * time.Millisecond, System: 3 * time.Second, Idle: 40 * time.Second,
		IOWait: 500 * time.Millisecond, IRQ: 60 * time.Millisecond, SoftIRQ: 700 * time.Millisecond, Steal: 80 * time.Millisecond}
	if h != want {
		t.Fatalf("%+v", h)
	}
	if h.Busy() != 4960*time.Millisecond || h.Total() != 45540*time.Millisecond {
		t.Fatalf("busy %v, total %v", h.Busy(), h.Total())
	}
	for _, bad := range []string{"", "cpu", "cpu 1 2 3 4 5 6 7", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 x 4 5 6 7 8", "cpu 1 2 -3 4 5 6 7 8", "cpu 1 2 99999999999999999999 4 5 6 7 8"} {
		if _, err := parseHostTimes([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestHostDeltaNeverRunsBackwardsAndKnowsWhenItIsTooShort(t *testing.T) {
	a := HostTimes{User: time.Second, Idle: 10 * time.Second}
	b := HostTimes{User: 2 * time.Second, Idle: 9 * time.Second, Steal: 50 * time.Millisecond}
	h := hostDelta(a, b, nil)
	if h.Idle != 0 || h.User != time.Second || !h.Known {
		t.Errorf("%+v", h)
	}
	if r := h.Ratio(h.Steal); math.Abs(r-0.05/1.05) > 1e-12 {
		t.Errorf("steal ratio %v", r)
	}
	if hostDelta(a, HostTimes{User: time.Second, Idle: 10*time.Second + 500*time.Millisecond}, nil).Known {
		t.Error("half a second of CPU time cannot resolve 1 %")
	}
}

func TestReadHostTimesOfThisMachine(t *testing.T) {
	h, err := ReadHostTimes()
	if err != nil {
		t.Fatal(err)
	}
	if h.Total() == 0 {
		t.Fatalf("%+v", h)
	}
}

func TestBucketQuantile(t *testing.T) {
	buckets := []float64{math.Inf(-1), 0, 1e-6, 2e-6, 5e-6, math.Inf(1)}
	before := &metrics.Float64Histogram{Counts: []uint64{0, 5, 5, 0, 0}, Buckets: buckets}
	after := &metrics.Float64Histogram{Counts: []uint64{0, 95, 14, 1, 0}, Buckets: buckets}
	for q, want := range map[float64]time.Duration{0.5: 1000, 0.9: 1000, 0.95: 2000, 1: 5000} {
		if got := bucketQuantile(after, before, q); got != want {
			t.Errorf("quantile %v: %v, expected %v", q, got, want)
		}
	}
	if got := bucketQuantile(after, after, 0.99); got != 0 {
		t.Errorf("nothing waited: %v", got)
	}
}

func TestThrottledIsTheWorstQuotasShare(t *testing.T) {
	before := HostTimes{Quotas: [quotasMax]QuotaTimes{{100, 10}, {50, 0}, {9, 9}}}
	after := HostTimes{Quotas: [quotasMax]QuotaTimes{{145, 46}, {90, 1}, {3, 3}}}
	if ratio, known := after.Sub(before).Throttled(); ratio != 0.8 || !known {
		t.Errorf("%v, %v; 36 of 45 periods expected", ratio, known)
	}
	if _, known := after.Sub(after).Throttled(); known {
		t.Error("a share of no period")
	}
	root := fstest.MapFS{}
	cgroup := ""
	for range quotasMax + 2 { // more groups in groups than are looked at
		cgroup += "/a"
		root["sys/fs/cgroup"+cgroup+"/cpu.max"] = &fstest.MapFile{Data: []byte("1000 1000\n")}
		root["sys/fs/cgroup"+cgroup+"/cpu.stat"] = &fstest.MapFile{Data: []byte("nr_periods 7\nnr_throttled 3\n")}
	}
	root["proc/self/cgroup"] = &fstest.MapFile{Data: []byte("0::" + cgroup + "\n")}
	if got := quotaTimes(root); got != [quotasMax]QuotaTimes{{7, 3}, {7, 3}, {7, 3}, {7, 3}} {
		t.Errorf("%v", got)
	}
}
