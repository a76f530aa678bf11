package bench

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// mem is a store in a map, a handler on a client's loop. A test may change answers on their way.
type mem struct {
	l      *loop.Loop
	items  map[string][]byte
	change func(*kv.Request) // called before a request completes; nil: none
	puts   int
}

func (m *mem) Submit(r *kv.Request) {
	r.Status = kv.StatusOK
	switch r.Op {
	case kv.OpPut:
		m.puts++
		m.items[string(r.Key)] = append(m.items[string(r.Key)][:0], r.Value...)
	case kv.OpGet:
		v, ok := m.items[string(r.Key)]
		switch {
		case !ok:
			r.Status = kv.StatusNotFound
		case len(v) > cap(r.Value):
			r.Status, r.Need = kv.StatusTooSmall, uint32(len(v))
		default:
			r.Value = append(r.Value[:0], v...)
		}
	case kv.OpScan:
		m.scan(r)
	case kv.OpDelete:
		if _, ok := m.items[string(r.Key)]; !ok {
			r.Status = kv.StatusNotFound
		}
		delete(m.items, string(r.Key))
	}
	if m.change != nil {
		m.change(r)
	}
	m.l.Finish(r)
}

func (m *mem) scan(r *kv.Request) {
	id, _ := keyID(r.Key, len(r.Key))
	key := append([]byte(nil), r.Key...)
	for n := uint32(0); n < r.Limit; id++ {
		putKey(key, id)
		v, ok := m.items[string(key)]
		if !ok {
			return // tests load without gaps
		}
		r.Value, _ = kv.AppendItem(r.Value, key, v)
		n++
	}
}

func startLoop(t testing.TB) *loop.Loop {
	t.Helper()
	l, err := loop.Start(loop.Options{Name: "client", Sleep: loop.SleepEpoll}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// loaded gives clients over stores of their own, all loaded with spec's records by Load.
func loaded(t testing.TB, spec Spec, threads, inFlight int) ([]Client, []*mem) {
	t.Helper()
	clients, stores := make([]Client, threads), make([]*mem, threads)
	for i := range clients {
		l := startLoop(t)
		stores[i] = &mem{l: l, items: map[string][]byte{}}
		clients[i] = Client{Loop: l, Handler: stores[i], InFlight: inFlight}
	}
	for _, c := range clients { // each has all records: they do not share a store
		got, err := Load(context.Background(), spec, []Client{c}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Records != spec.Records || got.Bytes != spec.Records*uint64(spec.Defaults().KeyBytes+spec.ValueBytes) {
			t.Fatalf("loaded %+v", got)
		}
	}
	return clients, stores
}

func TestRunYCSBReadsWhatWasWritten(t *testing.T) {
	for _, mix := range []string{"a", "b", "c", "d", "e", "f", "get", "put", "insert", "scan", "rmw", "get=1,scan=1,rmw=2"} {
		t.Run(mix, func(t *testing.T) {
			spec := Spec{Mix: mix, ValueBytes: 100, Records: 1000, ScanItems: 10, Operations: 20_000, Warmup: time.Millisecond, Verify: true}
			clients, stores := loaded(t, spec, 2, 4)
			var windows []bool
			spec.OnWindow = func(begin bool) { windows = append(windows, begin) }
			phases := map[string]bool{}
			res, err := Run(context.Background(), spec, clients, func(p Progress) { phases[p.Phase] = true })
			if err != nil {
				t.Fatal(err)
			}
			if res.Errors != 0 || res.Misses != 0 || res.VerifyFailures != 0 {
				t.Fatalf("%d errors (%s), %d misses, %d wrong values: %s", res.Errors, res.StatusErrors(), res.Misses, res.VerifyFailures, res.FirstFailure)
			}
			if len(windows) != 2 || !windows[0] || windows[1] {
				t.Errorf("the window was announced as %v", windows)
			}
			if res.Ops != spec.Operations || res.Svc != nil {
				t.Errorf("%d ops, %d latencies in %v", res.Ops, res.Lat.TotalCount(), res.Duration)
			}
			if late := res.Lat.TotalCount() - int64(res.Ops); late < 0 || late > 8 { // those that were under way at the end
				t.Errorf("%d latencies of %d operations", res.Lat.TotalCount(), res.Ops)
			}
			m, _ := ParseMix(mix)
			var series uint64
			for k, share := range m.Share {
				got := float64(res.Op[k].Ops) / float64(res.Ops)
				if tolerance := 5*math.Sqrt(share*(1-share)/float64(res.Ops)) + 20/float64(res.Ops); math.Abs(got-share) > tolerance {
					t.Errorf("%.4f of the operations were %v, expected %.4f ± %.4f", got, Kind(k), share, tolerance)
				}
			}
			for _, v := range res.Series {
				series += v.Ops
			}
			if series != res.Ops {
				t.Errorf("the time series has %d operations, the result %d", series, res.Ops)
			}
			if res.MaxInFlight != 8 {
				t.Errorf("at most %d requests were in flight, expected 2 × 4", res.MaxInFlight)
			}
			if (m.Share[Get] != 1 && m.Share[Scan] != 1) && stores[0].puts+stores[1].puts == 2000 {
				t.Error("nothing was written")
			}
		})
	}
}

func TestRunRecordsStages(t *testing.T) {
	spec := Spec{Mix: "get=1,rmw=1", ValueBytes: 100, Records: 1000, Operations: 10_000, Stages: 1}
	clients, _ := loaded(t, spec, 2, 4)
	res, err := Run(context.Background(), spec, clients, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []Kind{Get, RMW} {
		st := res.Stages[k]
		if st == nil || st.N == 0 || st.N > res.Op[k].Ops+8 || st.N+8 < res.Op[k].Ops { // those under way at an end of the window are in one of the two
			t.Fatalf("%v: %d operations, and stages %+v", k, res.Op[k].Ops, st)
		}
		// The handler marks nothing: all is the last stage's. Histograms have two digits.
		sum, mean := float64(st.Sum[kv.StageNotifyClient]), st.Total.Mean()
		if got := sum / float64(st.N); st.SumTotal() != int64(sum) || math.Abs(got-mean) > 0.02*mean {
			t.Errorf("%v: the stages' mean is %.0f ns, that of the totals %.0f", k, got, mean)
		}
	}
	if res.Stages[Put] != nil {
		t.Error("puts have stages, and there were none")
	}
	spec.Stages = 1000
	if res, err = Run(context.Background(), spec, clients, nil); err != nil {
		t.Fatal(err)
	}
	if st := res.Stages[Get]; st != nil && st.N > res.Op[Get].Ops/100+100 {
		t.Errorf("one in 1000 makes %d of %d", st.N, res.Op[Get].Ops)
	}
}

func TestRunFindsWrongAnswers(t *testing.T) {
	spec := Spec{ValueBytes: 64, Records: 500, ScanItems: 5, Operations: 1000, Verify: true}
	for name, c := range map[string]struct {
		mix    string
		change func(*kv.Request)
		words  string
	}{
		"flipped byte":  {"get", func(r *kv.Request) { r.Value[40] ^= 1 }, "corrupt bytes"},
		"header":        {"get", func(r *kv.Request) { r.Value[8] ^= 1 }, "corrupt header"},
		"wrong length":  {"rmw", func(r *kv.Request) { r.Value = r.Value[:63] }, "wrong length"},
		"other record":  {"get", func(r *kv.Request) { fillValue(r.Value, 999, 0, 0) }, "another record"},
		"scan reversed": {"scan", func(r *kv.Request) { putKey(r.Value[kv.ItemHeaderBytes:][:16], 0) }, "scan of record"},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec
			s.Mix = c.mix
			clients, stores := loaded(t, s, 1, 2)
			n := 0
			stores[0].change = func(r *kv.Request) {
				if n++; n == 10 && r.Op != kv.OpPut || n == 11 && r.Op != kv.OpPut && c.mix == "rmw" {
					c.change(r)
				}
			}
			res, err := Run(context.Background(), s, clients, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.VerifyFailures == 0 || !strings.Contains(res.FirstFailure, c.words) {
				t.Fatalf("%d failures, the first: %q", res.VerifyFailures, res.FirstFailure)
			}
			s.Verify = false
			n = 0
			if res, err = Run(context.Background(), s, clients, nil); err != nil || res.VerifyFailures != 0 {
				t.Fatalf("not asked to verify: %v, %d failures", err, res.VerifyFailures)
			}
		})
	}
}

func TestRunCountsMissesAndErrorsByStatus(t *testing.T) {
	spec := Spec{ValueBytes: 64, Records: 500, Operations: 3000, Verify: true}
	clients, stores := loaded(t, spec, 1, 2)
	n := 0
	stores[0].change = func(r *kv.Request) {
		switch n++; n % 3 {
		case 1:
			r.Status = kv.StatusNotFound
		case 2:
			r.Status = kv.StatusTooSmall
		}
	}
	res, err := Run(context.Background(), spec, clients, nil)
	if err != nil {
		t.Fatal(err)
	}
	near := func(a, b uint64) bool { return a+8 > b && b+8 > a }
	if !near(res.Misses*2, res.Ops) || !near(res.Errors, res.Misses) || res.ByStatus[kv.StatusTooSmall] != res.Errors {
		t.Fatalf("%d ops, %d misses, errors: %s", res.Ops, res.Misses, res.StatusErrors())
	}
}

// gate holds requests until as many are in flight as there may be.
type gate struct {
	l           *loop.Loop
	full        int
	held        []*kv.Request
	open        bool
	rounds, max int
}

func (g *gate) Submit(r *kv.Request) {
	g.held = append(g.held, r)
	g.max = max(g.max, len(g.held))
	if len(g.held) == g.full || g.open {
		g.release()
	}
}

func (g *gate) release() {
	g.rounds++
	for _, r := range g.held {
		r.Status = kv.StatusOK
		g.l.Finish(r)
	}
	g.held = g.held[:0]
}

// The gate opens only when exactly InFlight requests stand before it: one fewer, and the run hangs.
func TestRunClosedLoopKeepsExactlyInFlight(t *testing.T) {
	l := startLoop(t)
	h := &gate{l: l, full: 7}
	spec := Spec{Operations: 70}
	spec.OnWindow = func(begin bool) {
		if !begin {
			_ = l.Call(func() { h.open = true; h.release() })
		}
	}
	res, err := Run(context.Background(), spec, []Client{{l, h, 7}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if h.max != 7 || h.rounds < 10 || res.MaxInFlight != 7 {
		t.Fatalf("at most %d in flight, %d rounds in %v", h.max, h.rounds, res.Duration)
	}
}

// staller answers at once, except for one pause during which it answers nothing.
type staller struct {
	l     *loop.Loop
	begun atomic.Bool // written when the window begins
	until int64
	pause int64
	held  []*kv.Request
}

func (s *staller) Submit(r *kv.Request) {
	if s.until == 0 && s.begun.Load() {
		s.until = loop.Nanos() + s.pause
	}
	if loop.Nanos() < s.until {
		s.held = append(s.held, r)
		return
	}
	r.Status = kv.StatusOK
	s.l.Finish(r)
}

func (s *staller) OnEvent(uint64, int32, uint32) {}
func (s *staller) Close() bool                   { return true }
func (s *staller) Poll() int {
	n := len(s.held)
	if n == 0 || loop.Nanos() < s.until {
		return 0
	}
	for _, r := range s.held {
		r.Status = kv.StatusOK
		s.l.Finish(r)
	}
	s.held = s.held[:0]
	return n
}
func (s *staller) Stage() error {
	if len(s.held) > 0 {
		s.l.WakeAt(s.until)
	}
	return nil
}

// With one slot, a pause of 120 ms meets one request, but 120 arrivals: the latency from the intended
// start tells of all of them, the one from the send of one (coordinated omission).
func TestRunOpenLoopCountsFromTheIntendedStart(t *testing.T) {
	for _, a := range []Arrival{Constant, Poisson} {
		t.Run(a.String(), func(t *testing.T) {
			l := startLoop(t)
			h := &staller{l: l, pause: int64(120 * time.Millisecond)}
			if err := l.Call(func() { _, _ = l.Add(h) }); err != nil {
				t.Fatal(err)
			}
			spec := Spec{Loop: Open, Arrival: a, TargetPerS: 1000, Duration: 200 * time.Millisecond,
				OnWindow: func(bool) { h.begun.Store(true) }}
			res, err := Run(context.Background(), spec, []Client{{l, h, 1}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			late := func(k interface{ ValueAtPercentile(float64) int64 }) (n int) {
				for p := 0.5; p < 100; p++ {
					if k.ValueAtPercentile(p) > int64(30*time.Millisecond) {
						n++
					}
				}
				return n
			}
			if n := late(res.Lat); n < 25 { // 90 of 200 arrivals wait for more than 30 ms
				t.Errorf("only %d %% of the latencies tell of the pause", n)
			}
			if n := late(res.Svc); n > 10 {
				t.Errorf("%d %% of the service times tell of the pause, which met one request", n)
			}
			if n := late(res.Lag); n < 25 {
				t.Errorf("only %d %% of the sends were late", n)
			}
			if res.Lat.TotalCount() != int64(res.Scheduled) || res.Scheduled < 120 || res.MissedSends < 50 || res.Unsent != 0 {
				t.Errorf("%d latencies of %d arrivals, %d missed, %d unsent", res.Lat.TotalCount(), res.Scheduled, res.MissedSends, res.Unsent)
			}
			if res.MaxInFlight != 1 {
				t.Errorf("%d in flight", res.MaxInFlight)
			}
		})
	}
}

// never answers until it is told to.
type never struct {
	l    *loop.Loop
	held []*kv.Request
}

func (n *never) Submit(r *kv.Request) { n.held = append(n.held, r) }

func TestRunReportsRequestsThatNeverComplete(t *testing.T) {
	for _, kind := range []LoopKind{Closed, Open} {
		t.Run(kind.String(), func(t *testing.T) {
			l := startLoop(t)
			h := &never{l: l}
			spec := Spec{Loop: kind, Duration: 20 * time.Millisecond, DrainMax: 10 * time.Millisecond}
			if kind == Open {
				spec.TargetPerS = 2000
			}
			res, err := Run(context.Background(), spec, []Client{{l, h, 3}}, nil)
			if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "3 requests had no answer") {
				t.Fatalf("error %v", err)
			}
			if kind == Open && (res.Scheduled < 20 || res.Unsent+3 < res.Scheduled) { // the slots may be taken before the window
				t.Errorf("%d arrivals, %d of them never sent", res.Scheduled, res.Unsent)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			if _, err := Load(ctx, spec, []Client{{l, h, 3}}, nil); !errors.Is(err, ErrStuck) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("load: %v", err)
			}
			if err := l.Call(func() { // what comes back late is taken back, and its memory freed
				for _, r := range h.held {
					r.Status = kv.StatusUnknown
					l.Finish(r)
				}
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRunEndsWhenTheConnectionDies(t *testing.T) {
	for _, status := range []kv.Status{kv.StatusClosed, kv.StatusUnknown} {
		for _, kind := range []LoopKind{Closed, Open} {
			t.Run(status.String()+"/"+kind.String(), func(t *testing.T) {
				spec := Spec{Loop: kind, Records: 100, Duration: time.Hour}
				if kind == Open {
					spec.TargetPerS = 10_000
				}
				clients, stores := loaded(t, Spec{Records: 100}, 2, 4)
				n := 0
				stores[1].change = func(r *kv.Request) {
					if n++; n > 100 {
						r.Status = status
					}
				}
				res, err := Run(context.Background(), spec, clients, nil)
				if !errors.Is(err, ErrDead) || !strings.Contains(err.Error(), status.String()) {
					t.Fatalf("error %v", err)
				}
				if res.ByStatus[status] == 0 || res.Interrupted {
					t.Errorf("errors: %q", res.StatusErrors())
				}
			})
		}
	}
}

func TestRunHonoursItsContext(t *testing.T) {
	for _, warmup := range []time.Duration{0, time.Hour} {
		for _, kind := range []LoopKind{Closed, Open} {
			spec := Spec{Loop: kind, Records: 100, Duration: time.Hour, Warmup: warmup, Verify: true}
			if kind == Open {
				spec.TargetPerS = 20_000
			}
			clients, _ := loaded(t, Spec{Records: 100}, 1, 4)
			ctx, cancel := context.WithCancel(context.Background())
			res, err := Run(ctx, spec, clients, func(Progress) { cancel() })
			if err != nil || !res.Interrupted {
				t.Fatalf("warm-up %v: error %v, interrupted %v", warmup, err, res.Interrupted)
			}
			if warmup == 0 && (res.Ops == 0 || res.Duration <= 0 || res.Duration > time.Minute || uint64(res.Lat.TotalCount()) < res.Ops/2) {
				t.Errorf("%d operations in %v, %d latencies", res.Ops, res.Duration, res.Lat.TotalCount())
			}
			if warmup != 0 && (res.Ops != 0 || res.Duration != 0) {
				t.Errorf("interrupted in the warm-up, and yet %d operations in %v", res.Ops, res.Duration)
			}
			ctx, cancel = context.WithCancel(context.Background())
			cancel()
			if _, err := Load(ctx, Spec{Records: 1 << 30}, clients, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("load: %v", err)
			}
		}
	}
}

func TestRunEndsWhenAClientLoopEnds(t *testing.T) {
	l, err := loop.Start(loop.Options{Sleep: loop.SleepEpoll}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &mem{l: l, items: map[string][]byte{}}
	var once atomic.Bool
	stopped := make(chan struct{})
	h.change = func(*kv.Request) {
		if once.CompareAndSwap(false, true) {
			go func() { _ = l.Stop(); close(stopped) }()
		}
	}
	_, err = Run(context.Background(), Spec{Duration: time.Hour}, []Client{{l, h, 1}}, nil)
	if !errors.Is(err, loop.ErrStopped) {
		t.Fatalf("error %v", err)
	}
	<-stopped
}

func TestRunRefusesClientsThatDoNotFitTheSpec(t *testing.T) {
	l := startLoop(t)
	h := &mem{l: l, items: map[string][]byte{}}
	for word, c := range map[string]struct {
		spec    Spec
		clients []Client
	}{
		"0 client":       {Spec{}, nil},
		"needs a loop":   {Spec{}, []Client{{l, nil, 1}}},
		"2 specified":    {Spec{ClientThreads: 2}, []Client{{l, h, 1}}},
		"depth 4 specif": {Spec{Conns: 2, Depth: 4}, []Client{{l, h, 7}}},
		`mix "nonsense"`: {Spec{Mix: "nonsense"}, []Client{{l, h, 1}}},
	} {
		_, err := Run(context.Background(), c.spec, c.clients, nil)
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v, expected %q", err, word)
		}
		if _, err := Load(context.Background(), c.spec, c.clients, nil); err == nil {
			t.Error("Load took it")
		}
	}
}

func TestLoadComesAgainWhenBusyAndStopsAtAnError(t *testing.T) {
	l := startLoop(t)
	h := &mem{l: l, items: map[string][]byte{}}
	n := 0
	h.change = func(r *kv.Request) {
		if n++; n%3 == 0 {
			r.Status = kv.StatusBusy
		}
	}
	got, err := Load(context.Background(), Spec{Records: 1000}, []Client{{l, h, 5}}, nil)
	if err != nil || got.Records != 1000 || got.Busy == 0 || len(h.items) != 1000 {
		t.Fatalf("%+v %v", got, err)
	}
	h.change = func(r *kv.Request) { r.Status = kv.StatusNoSpace }
	if got, err = Load(context.Background(), Spec{Records: 1000}, []Client{{l, h, 5}}, nil); err == nil || !strings.Contains(err.Error(), "no space") || got.Records != 0 {
		t.Fatalf("%+v %v", got, err)
	}
}

func TestLoadSplitsTheRecordsOverThreads(t *testing.T) {
	var clients []Client
	var stores []*mem
	for range 3 {
		l := startLoop(t)
		h := &mem{l: l, items: map[string][]byte{}}
		stores = append(stores, h)
		clients = append(clients, Client{l, h, 2})
	}
	for _, records := range []uint64{1, 2, 100} { // fewer than threads, fewer than slots
		for _, h := range stores {
			h.items = map[string][]byte{}
		}
		got, err := Load(context.Background(), Spec{Records: records, KeyBytes: 8}, clients, nil)
		if err != nil || got.Records != records {
			t.Fatalf("%+v %v", got, err)
		}
		all := map[string]bool{}
		for _, h := range stores {
			for k := range h.items {
				if all[k] {
					t.Errorf("key %x was loaded twice", k)
				}
				all[k] = true
			}
		}
		if len(all) != int(records) {
			t.Errorf("%d different keys of %d", len(all), records)
		}
	}
}

// queue is a handler without a loop: the test completes its requests, oldest first.
type queue struct{ head, tail *kv.Request }

func (q *queue) Submit(r *kv.Request) {
	r.Value, r.Link = r.Value[:cap(r.Value)], nil
	if q.head == nil {
		q.head = r
	} else {
		q.tail.Link = r
	}
	q.tail = r
}

func (q *queue) next() *kv.Request {
	r := q.head
	if r != nil {
		q.head = r.Link
	}
	return r
}

// driven is a generator in its measured window, without a loop.
func driven(t testing.TB, spec Spec, inFlight int) (*generator, *queue) {
	t.Helper()
	spec = spec.Defaults()
	if err := spec.Check(); err != nil {
		t.Fatal(err)
	}
	m, _ := ParseMix(spec.Mix)
	q := &queue{}
	g, err := newGenerator(spec, m, Client{Handler: q, InFlight: inFlight}, 0, 1, seriesBins(spec.Duration))
	if err != nil {
		t.Fatal(err)
	}
	g.drained, g.died = make(chan struct{}, 1), make(chan error, 1)
	g.start.Store(loop.Nanos())
	t.Cleanup(func() { _ = g.slots.mem.Close() })
	return g, q
}

func TestGeneratorAllocatesNothing(t *testing.T) {
	for _, mix := range []string{"a", "d", "e", "f", "get=1,put=1"} {
		for _, kind := range []LoopKind{Closed, Open} {
			spec := Spec{Mix: mix, Loop: kind, ValueBytes: 100, Records: 1000, Duration: time.Hour}
			if kind == Open {
				spec.TargetPerS = 1e8
			}
			g, q := driven(t, spec, 8)
			g.begin(loop.Nanos())
			if n := testing.AllocsPerRun(5000, func() {
				g.Poll()
				for range 4 {
					if r := q.next(); r != nil {
						g.Complete(r)
					}
				}
			}); n != 0 {
				t.Errorf("mix %s, %v: %v allocations in a turn", mix, kind, n)
			}
		}
	}
}

// null completes everything at once, without looking.
type null struct{ l *loop.Loop }

func (n *null) Submit(r *kv.Request) { r.Status = kv.StatusOK; n.l.Finish(r) }

// BenchmarkGenerator is what the generator itself costs per operation: the ceiling of all else. turn
// leaves out the loop; loop is a Run over a handler that answers at once.
func BenchmarkGenerator(b *testing.B) {
	for _, mix := range []string{"get", "c", "a"} {
		b.Run("turn/"+mix, func(b *testing.B) {
			g, q := driven(b, Spec{Mix: mix, ValueBytes: 64, Records: 100_000, Duration: time.Hour}, 16)
			g.begin(0)
			b.ReportAllocs()
			for b.Loop() {
				g.Complete(q.next())
			}
		})
	}
	for _, inFlight := range []int{1, 16} {
		b.Run("loop/get/"+map[int]string{1: "1", 16: "16"}[inFlight], func(b *testing.B) {
			l := startLoop(b)
			b.ReportAllocs()
			ctx, cancel := context.WithCancel(context.Background())
			h := &counted{null{l}, b.N, cancel}
			b.ResetTimer()
			if _, err := Run(ctx, Spec{ValueBytes: 64, Duration: time.Hour}, []Client{{l, h, inFlight}}, nil); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// counted is null until n requests have come.
type counted struct {
	null
	n      int
	cancel func()
}

func (c *counted) Submit(r *kv.Request) {
	if c.n--; c.n == 0 {
		c.cancel()
	}
	c.null.Submit(r)
}
