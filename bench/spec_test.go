package bench

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestParseMix(t *testing.T) {
	for s, want := range map[string][Kinds]float64{
		"a": {Get: 0.5, Put: 0.5}, "b": {Get: 0.95, Put: 0.05}, "c": {Get: 1}, "d": {Get: 0.95, Insert: 0.05},
		"e": {Scan: 0.95, Insert: 0.05}, "f": {Get: 0.5, RMW: 0.5},
		"get": {Get: 1}, "put": {Put: 1}, "scan": {Scan: 1}, "insert": {Insert: 1}, "rmw": {RMW: 1},
		"get=50,put=50": {Get: 0.5, Put: 0.5}, "get=3, scan=1": {Get: 0.75, Scan: 0.25}, "put=1": {Put: 1}, "get=0,put=2": {Put: 1},
	} {
		m, err := ParseMix(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		for k := range want {
			if math.Abs(m.Share[k]-want[k]) > 1e-12 {
				t.Errorf("%s: share of %v is %v, expected %v", s, Kind(k), m.Share[k], want[k])
			}
		}
	}
	for s, word := range map[string]string{
		"g": `"g"`, "": "unknown", "get=50,foo=50": `"foo=50"`, "get=x": `"x"`, "get=-1": `"-1"`, "get=NaN": "NaN", "get=Inf": "Inf",
		"get=0": "sum to 0", "get=1,get=2": "twice", "get=50,put": `"put"`, "=5": `"=5"`, "get=1e308,put=1e308": "sum",
	} {
		_, err := ParseMix(s)
		if err == nil || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v, expected one line with %s", s, err, word)
		}
	}
}

func TestMixIsMetByTheDraws(t *testing.T) {
	for s := range ycsb {
		m, _ := ParseMix(s)
		th := m.thresholds()
		rng := rand.New(rand.NewPCG(4, 4))
		var counts [Kinds]float64
		const draws = 200_000
		for range draws {
			counts[pick(&th, rng.Float64())]++
		}
		for k, share := range m.Share {
			if math.Abs(counts[k]/draws-share) > 0.005 || share == 0 && counts[k] > 0 {
				t.Errorf("%s: %v of the draws are %v, expected %v", s, counts[k]/draws, Kind(k), share)
			}
		}
		if k := pick(&th, math.Nextafter(1, 0)); m.Share[k] == 0 {
			t.Errorf("%s: the last draw is %v, which the mix does not have", s, k)
		}
	}
}

func TestCheckNamesTheMistake(t *testing.T) {
	if err := (Spec{}).Check(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	for word, s := range map[string]Spec{
		"mix":              {Mix: "z"},
		"theta":            {Theta: 1},
		"keys of":          {KeyBytes: 5000},
		"values of":        {ValueBytes: -1},
		"to be distinct":   {KeyBytes: 1, Records: 1000},
		"run out":          {KeyBytes: 4, Records: 10, Mix: "d"},
		"scans of":         {ScanItems: -1},
		"target rate, abo": {Loop: Open},
		"needs an open":    {TargetPerS: 5},
		"from 0 to 1200h":  {Duration: -1},
		"to 1200h0m0s":     {Warmup: math.MaxInt64},
		"1200h0m0s":        {Duration: WindowMax + 1},
		"requests in flig": {Conns: math.MaxInt64, Depth: 1024},
		"distribution 9":   {KeyDist: 9},
		"records":          {Records: 1 << 41},
		"threads":          {ClientThreads: -1},
	} {
		err := s.Check()
		if err == nil || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: error %v, expected one line with %q", s, err, word)
		}
	}
	for s, d := range map[string]KeyDist{"a": Zipfian, "d": Latest, "get": Uniform, "get=1,put=1": Uniform} {
		if got := (Spec{Mix: s}).Defaults().KeyDist; got != d {
			t.Errorf("mix %s: distribution %v, expected %v", s, got, d)
		}
	}
	if got := (Spec{Mix: "a", KeyDist: Uniform}).Defaults().KeyDist; got != Uniform {
		t.Errorf("an explicit distribution became %v", got)
	}
}

func TestArrivalsHaveTheirProcess(t *testing.T) {
	const n = 200_000
	for _, threads := range []int{1, 4} {
		s := Spec{Loop: Open, TargetPerS: 1e6, Seed: 11}
		a := newArrivals(s, 0, threads, 0)
		mean := 1000.0 * float64(threads)
		var sum, squares, last float64
		for range n {
			gap := float64(a.next) - last
			last = float64(a.next)
			sum += gap
			squares += gap * gap
			a.advance()
		}
		m := sum / n
		if math.Abs(m/mean-1) > 0.02 {
			t.Errorf("%d threads: mean gap %.1f ns, expected %.1f", threads, m, mean)
		}
		if sd := math.Sqrt(squares/n - m*m); math.Abs(sd/mean-1) > 0.02 { // exponential: as large as the mean
			t.Errorf("%d threads: gaps have a standard deviation of %.1f ns, expected %.1f", threads, sd, mean)
		}
	}
	s := Spec{Loop: Open, TargetPerS: 1000, Arrival: Constant}
	for thread, first := range []int64{0, 1_000_000} {
		a := newArrivals(s, thread, 2, 7_000_000)
		for i := range int64(10) {
			if want := 7_000_000 + first + i*2_000_000; a.next != want {
				t.Fatalf("thread %d: arrival %d at %d, expected %d", thread, i, a.next, want)
			}
			a.advance()
		}
	}
}

func TestArrivalsFollowFromTheSeed(t *testing.T) {
	s := Spec{Loop: Open, TargetPerS: 1000, Seed: 3}
	a, b := newArrivals(s, 0, 1, 0), newArrivals(s, 0, 1, 0)
	s.Seed = 4
	c := newArrivals(s, 0, 1, 0)
	same := true
	for range 100 {
		if a.next != b.next {
			t.Fatal("the same seed gave other arrivals")
		}
		same = same && a.next == c.next
		a.advance()
		b.advance()
		c.advance()
	}
	if same {
		t.Fatal("another seed gave the same arrivals")
	}
}

func TestIntervalsOfTheSeriesAreFewAndMakeTheWindow(t *testing.T) {
	for _, d := range []time.Duration{1, 5, time.Millisecond, time.Second, 10 * time.Second, 9_999_999_937, 12 * time.Second, 12_500 * time.Millisecond, time.Minute,
		2 * time.Minute, 121 * time.Second, time.Hour, 100 * time.Hour, WindowMax} {
		n := seriesBins(d)
		if n > binsMax || n < binsMin && d > binsMin {
			t.Errorf("%v: %d bins", d, n)
		}
		if binBegin(d, 0, n) != 0 || binBegin(d, n, n) != d {
			t.Errorf("%v: the bins are from %v to %v", d, binBegin(d, 0, n), binBegin(d, n, n))
		}
		for i := range n {
			if each := binBegin(d, i+1, n) - binBegin(d, i, n); each != d/time.Duration(n) && each != d/time.Duration(n)+1 {
				t.Fatalf("%v: bin %d of %d takes %v", d, i, n, each)
			}
		}
	}
	if n := seriesBins(45 * time.Second); n != 45 {
		t.Errorf("45 s have %d bins", n)
	}
}

// Wherever the window is cut, its series is as long as it is, has all operations, and no bin is so short that its rate has no meaning.
func TestSeriesOfACutWindowIsAsLongAsTheWindow(t *testing.T) {
	spec := Spec{Duration: 12 * time.Second}
	for _, window := range []time.Duration{1, 499_999_999, 500 * time.Millisecond, time.Second, time.Second + 4, 1499 * time.Millisecond, 1500 * time.Millisecond, 11_999_999_996, 12 * time.Second} {
		rec := newRecorder(spec, seriesBins(spec.Duration))
		ops := uint64(0)
		for at := time.Duration(0); at < window; at += 100 * time.Millisecond {
			rec.addToSeries(5, 5+int64(at), 1000)
			ops++
		}
		r := &Result{Spec: spec, bins: rec.series}
		r.series(window)
		at, got := time.Duration(0), uint64(0)
		for i, v := range r.Series {
			if v.Begin != at || v.Length < 500*time.Millisecond && i > 0 {
				t.Errorf("%v: bin %d is %v from %v on", window, i, v.Length, v.Begin)
			}
			at, got = at+v.Length, got+v.Ops
		}
		if at != window || got != ops {
			t.Errorf("%v: the series has %v and %d of %d operations", window, at, got, ops)
		}
	}
}

// The recorder of the shortest and the longest window has a time series of few bins.
func TestTheTimeSeriesOfAnyWindowIsBounded(t *testing.T) {
	for _, d := range []time.Duration{1, 999, time.Microsecond, time.Second, time.Hour, WindowMax} {
		if n := seriesBins(d); n < 1 || n > binsMax+1 {
			t.Errorf("%v: %d bins", d, n)
		}
	}
}
