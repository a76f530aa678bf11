package report

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"testing"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench"
)

// HdrHistogram's own reader finds in a log when the window was and how long it took, so that its tools can compute a throughput.
func TestHistogramLogHasTheTimesOfTheWindow(t *testing.T) {
	started := time.Date(2026, 11, 28, 13, 0, 0, 250e6, time.UTC)
	res := &bench.Result{Started: started, Warmup: 1500 * time.Millisecond, Duration: 2 * time.Second, Lat: hist(1000, 3e6), Svc: hist(900), Lag: hist(5)}
	dir := t.TempDir()
	if err := Record(dir, "one", res); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(histogramFile(dir, "one"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := hdrhistogram.NewHistogramLogReader(f)
	for _, want := range []struct {
		tag string
		max int64
	}{{"", 3e6}, {kindSvc, 900}, {kindLag, 5}} {
		h, err := r.NextIntervalHistogram()
		if err != nil || h == nil {
			t.Fatalf("no interval %q: %v", want.tag, err)
		}
		begin, end := started.Add(res.Warmup).UnixMilli(), started.Add(res.Warmup+res.Duration).UnixMilli()
		if h.Tag() != want.tag || h.StartTimeMs() != begin || h.EndTimeMs() != end || !h.ValuesAreEquivalent(h.Max(), want.max) {
			t.Errorf("%q, expected %q: from %d to %d, expected %d to %d; at most %d", h.Tag(), want.tag, h.StartTimeMs(), h.EndTimeMs(), begin, end, h.Max())
		}
	}
	if h, err := r.NextIntervalHistogram(); h != nil || err != nil {
		t.Errorf("one more interval: %v", err)
	}
}

// A run that is there is left as it is, in all files.
func TestRecordDoesNotReplaceARun(t *testing.T) {
	dir := t.TempDir()
	res := &bench.Result{Lat: hist(1000), Series: []bench.Bin{{Length: time.Second, Ops: 1}}}
	if err := Record(dir, "one", res); err != nil {
		t.Fatal(err)
	}
	before := [2]string{read(t, histogramFile(dir, "one")), read(t, dir+"/"+seriesName)}
	res.Lat = hist(2000, 3000)
	if err := Record(dir, "one", res); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v", err)
	}
	if after := [2]string{read(t, histogramFile(dir, "one")), read(t, dir+"/"+seriesName)}; after != before {
		t.Errorf("it was\n%s, and is\n%s", before, after)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A folder that has lost a run's histogram keeps the buckets that it has of it.
func TestLostHistogramsAreNotForgotten(t *testing.T) {
	dir, rows := recorded(t)
	if err := WriteHistograms(dir, rows); err != nil {
		t.Fatal(err)
	}
	before := read(t, dir+"/"+histName)
	if err := os.Remove(histogramFile(dir, "one")); err != nil {
		t.Fatal(err)
	}
	if err := WriteHistograms(dir, rows); err != nil {
		t.Fatal(err)
	}
	if read(t, dir+"/"+histName) != before {
		t.Error("hist.csv.gz was made anew without them")
	}
	if _, h, err := Together(rows, func(id string) (*hdrhistogram.Histogram, error) {
		if id == "one" {
			return nil, nil
		}
		return ReadHistogram(dir, id)
	}); err != nil || h != nil {
		t.Errorf("percentiles of half the blocks: %v, %v", h, err)
	}
}

// Processes that are in Locked for one folder are there one after the other.
func TestLockedLetsInOneAtATime(t *testing.T) {
	dir := t.TempDir() + "/new"
	var in atomic.Int32
	ended := make(chan error)
	for range 8 {
		go func() {
			ended <- Locked(dir, func() error {
				if in.Add(1) != 1 {
					return errors.New("two at once")
				}
				in.Add(-1)
				return nil
			})
		}()
	}
	for range 8 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	boom := errors.New("boom")
	if err := Locked(dir, func() error { return boom }); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
}
