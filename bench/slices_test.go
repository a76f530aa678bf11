package bench

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

const (
	settle = 2 * time.Millisecond
	window = 10 * time.Millisecond
)

func openSlices(t testing.TB, spec Spec, clients ...Client) *Slices {
	t.Helper()
	s, err := OpenSlices(spec, clients)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeSlices(t, s) })
	return s
}

func closeSlices(t testing.TB, s *Slices) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// expectIdle looks at the generators on their loops: nothing is in flight, and nothing is to be sent.
func expectIdle(t testing.TB, s *Slices) {
	t.Helper()
	for i, g := range s.w.gens {
		if err := s.w.clients[i].Loop.Call(func() {
			if n := g.slots.inFlight(); n != 0 || !g.stopped {
				t.Errorf("thread %d has %d requests in flight between slices, and stopped is %v", i, n, g.stopped)
			}
		}); err != nil {
			t.Error(err)
		}
	}
}

func TestSlicesAddUp(t *testing.T) {
	for name, spec := range map[string]Spec{
		"closed": {Mix: "a"},
		"rmw":    {Mix: "rmw=1,scan=1"},
		"insert": {Mix: "insert"},
		"open":   {Mix: "a", Loop: Open, TargetPerS: 20_000},
		"stages": {Mix: "get", Stages: 1},
	} {
		t.Run(name, func(t *testing.T) {
			spec.ValueBytes, spec.Records, spec.ScanItems, spec.Verify = 64, 500, 5, true
			clients, _ := loaded(t, spec, 2, 4)
			calls := 0
			spec.OnWindow = func(begin bool) {
				if calls++; begin != (calls%2 == 1) {
					t.Errorf("call %d says that the window begins: %v", calls, begin)
				}
			}
			s := openSlices(t, spec, clients...)
			expectIdle(t, s)
			var sum Slice
			var windows, settles time.Duration
			late := false // two loops on one CPU
			var n uint64
			for range 7 {
				v, err := s.Slice(context.Background(), settle, window)
				if err != nil {
					t.Fatal(err)
				}
				expectIdle(t, s)
				if v.AllOps < v.Ops || v.Settle != settle || v.Window != window || v.Drain < 0 || v.Length != settle+window+v.Drain || v.Late < 0 ||
					v.Late > v.Length || v.Interrupted || v.Counts != nil {
					t.Errorf("a slice: %+v", v)
				}
				if v.N < v.Ops && spec.Loop == Closed || v.P50 > v.P90 || v.P90 > v.P99 || (v.P99 == 0) != (v.N == 0) {
					t.Errorf("a slice: %+v", v)
				}
				late = late || v.Late > v.Settle
				windows, settles, n = windows+v.Window, settles+v.Settle, n+v.N
				sum.addCounts(&v)
				sum.ClientLoops.Add(v.ClientLoops)
				sum.Threads.Add(v.Threads)
			}
			r := s.Result()
			if r.Ops != sum.Ops || r.CostOps != sum.AllOps || r.Bytes != sum.Bytes || r.Errors != 0 || r.Misses != 0 ||
				r.VerifyFailures != 0 || r.Scheduled != sum.Scheduled ||
				r.MissedSends != sum.MissedSends || r.Unsent != 0 || uint64(r.Lat.TotalCount()) != n || r.Duration != windows || r.Warmup != settles || r.Slices != 7 ||
				r.Spec.Duration != windows || r.Threads != sum.Threads || r.ClientLoops != sum.ClientLoops || r.ClientThreads != 2 || r.CPURatio <= 0 || r.Interrupted {
				t.Errorf("together %+v,\nand the slices' sum is %+v", *r, sum)
			}
			if sum.Ops == 0 || sum.Threads.CPU() <= 0 || sum.ClientLoops.Turns == 0 {
				t.Errorf("the slices' sum is %+v", sum)
			}
			if r.MaxInFlight < 1 || r.MaxInFlight > 8 || spec.Loop == Closed && r.MaxInFlight != 8 && !late {
				t.Errorf("%d requests in flight", r.MaxInFlight)
			}
			var ops uint64
			for _, v := range r.Series {
				ops += v.Ops
			}
			if len(r.Series) != 7 || ops != r.Ops || r.Drift.Known != (r.Drift.First > 0) {
				t.Errorf("%d bins with %d operations, drift %+v", len(r.Series), ops, r.Drift)
			}
			if spec.Stages > 0 && (r.Stages[Get] == nil || r.Stages[Get].N+8*7*2 < r.Ops || r.Stages[Get].N > r.Ops+8*7) {
				t.Errorf("stages %+v of %d operations", r.Stages[Get], r.Ops)
			}
			if calls != 14 {
				t.Errorf("%d calls for 7 slices", calls)
			}
		})
	}
}

func TestSlicesOfSeveralHostsGoTogether(t *testing.T) {
	for name, spec := range map[string]Spec{"closed": {Mix: "a"}, "open": {Mix: "get", Loop: Open, TargetPerS: 20_000}} {
		t.Run(name, func(t *testing.T) {
			spec.ValueBytes, spec.Records, spec.Verify = 64, 500, true
			var parts []*Result
			var slices [2][]Slice
			for i := range 2 {
				clients, _ := loaded(t, spec, 1, 4)
				share := spec
				share.FirstThread, share.AllThreads = i, 2
				s := openSlices(t, share, clients...)
				s.Latencies = true
				for range 3 + i { // one was interrupted before the other
					v, err := s.Slice(context.Background(), settle, 5*window)
					if err != nil {
						t.Fatal(err)
					}
					slices[i] = append(slices[i], v)
				}
				b, err := s.Result().Encode()
				if err != nil {
					t.Fatal(err)
				}
				r, err := DecodeResult(b, nil)
				if err != nil {
					t.Fatal(err)
				}
				if want := s.Result(); r.Drift != want.Drift || r.CostOps != want.CostOps || r.Slices != want.Slices || !r.Lat.Equals(want.Lat) {
					t.Errorf("it was %+v,\nand came back as %+v", want, r)
				}
				parts = append(parts, r)
			}
			all, err := Together(parts)
			if err != nil {
				t.Fatal(err)
			}
			if all.Ops != parts[0].Ops+parts[1].Ops || all.CostOps != parts[0].CostOps+parts[1].CostOps || all.Slices != 4 || all.Duration != 4*5*window ||
				all.Drift.First != parts[0].Drift.First+parts[1].Drift.First || !all.Drift.Known {
				t.Errorf("together %+v", all)
			}
			a, b := slices[0][0], slices[1][0]
			if b.Counts == nil {
				t.Fatal("a slice does not carry its latencies")
			}
			text, err := json.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			back := Slice{}
			if err := json.Unmarshal(text, &back); err != nil || !back.Began.Equal(b.Began) {
				t.Errorf("%s: %v", text, err)
			}
			if back.Began = b.Began; !reflect.DeepEqual(back, b) {
				t.Errorf("%+v comes back as %+v", b, back)
			}
			v, err := TogetherSlices([]Slice{a, b})
			if err != nil {
				t.Fatal(err)
			}
			if v.Ops != a.Ops+b.Ops || v.N != a.N+b.N || v.Scheduled != a.Scheduled+b.Scheduled || v.P50 < min(a.P50, b.P50) || v.P50 > max(a.P50, b.P50) ||
				v.P99 < min(a.P99, b.P99) || v.P99 > max(a.P99, b.P99) || v.Length != max(a.Length, b.Length) || !v.Began.Equal(a.Began) {
				t.Errorf("%+v and %+v are together %+v", a, b, v)
			}
			again, err := TogetherSlices([]Slice{v})
			if err != nil || !reflect.DeepEqual(again, v) {
				t.Errorf("one alone is another: %+v, %v", again, err)
			}
			b.Counts = nil
			if v, err = TogetherSlices([]Slice{a, b}); err != nil || v.N != 0 || v.P50 != 0 || v.Ops != a.Ops+b.Ops {
				t.Errorf("without the latencies of one: %+v, %v", v, err)
			}
			b.Counts = []byte{0}
			if _, err = TogetherSlices([]Slice{a, b}); err == nil {
				t.Error("latencies that are none are taken")
			}
		})
	}
}

// Loops that spin begin and end a slice as those that block do.
func TestSlicesOnLoopsThatSpin(t *testing.T) {
	for _, wait := range []loop.Wait{loop.WaitBlock, loop.WaitSpin, loop.WaitHybrid} {
		for _, kind := range []LoopKind{Closed, Open} {
			l, err := loop.Start(loop.Options{Name: "client", Sleep: loop.SleepEpoll, Wait: wait}, nil)
			if err != nil {
				t.Fatal(err)
			}
			spec := Spec{Loop: kind}
			if kind == Open {
				spec.TargetPerS = 5000
			}
			s, err := OpenSlices(spec, []Client{{l, &null{l}, 4}})
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < 3 || i < 300 && s.Result().Ops == 0; i++ { // a window may pass without this process
				if v, err := s.Slice(context.Background(), settle, window); err != nil || v.Window != window || v.Unanswered != 0 {
					t.Errorf("%v, %v loop: %v, %+v", wait, kind, err, v)
				}
				expectIdle(t, s)
			}
			if r := s.Result(); r.Ops == 0 {
				t.Errorf("%v, %v loop: no operations", wait, kind)
			}
			closeSlices(t, s)
			if err := l.Stop(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A slice's results do not go together with those of a run.
func TestTogetherRefusesSlicesAndARun(t *testing.T) {
	spec := Spec{Records: 10, Duration: window}
	clients, _ := loaded(t, spec, 1, 1)
	run, err := Run(context.Background(), spec, clients, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := openSlices(t, spec, clients...)
	if _, err := s.Slice(context.Background(), 0, window); err != nil {
		t.Fatal(err)
	}
	for _, parts := range [][]*Result{{run, s.Result()}, {s.Result(), run}} {
		if _, err := Together(parts); err == nil {
			t.Error("they go together")
		}
	}
}

func TestOpenLoopGoesOnFromSliceToSlice(t *testing.T) {
	for _, a := range []Arrival{Constant, Poisson} {
		l := startLoop(t)
		at := 0
		h := &seen{null: null{l}}
		// A gap of 7 ms does not fit into slices of 12 ms.
		s := openSlices(t, Spec{Loop: Open, Arrival: a, TargetPerS: 1e9 / 7e6}, Client{l, h, 4})
		const n = 14
		for range n {
			h.at = nil
			v, err := s.Slice(context.Background(), settle, window)
			if err != nil || v.MissedSends != 0 || v.Unsent != 0 || v.Scheduled != v.N {
				t.Fatalf("%v: %+v", err, v)
			}
			at += len(h.at)
		}
		if r := s.Result(); a == Constant && (at != n*12/7 || r.Scheduled < n*10/7-3 || r.Scheduled > n*10/7+3) {
			t.Errorf("%d arrivals, %d of them in windows", at, r.Scheduled)
		} else if a == Poisson && (at < 8 || at > 48) {
			t.Errorf("%d arrivals, expected %d", at, n*12/7)
		}
	}
}

// seen is null, and takes down when requests came.
type seen struct {
	null
	at []int64
}

func (h *seen) Submit(r *kv.Request) {
	h.at = append(h.at, loop.Nanos())
	h.null.Submit(r)
}

// A handler that answers nothing for a while has open loops send what waited after the window.
func TestSliceSendsArrivalsThatWait(t *testing.T) {
	l := startLoop(t)
	h := &staller{l: l, pause: int64(300 * time.Millisecond)}
	h.begun.Store(true)
	if err := l.Call(func() { _, _ = l.Add(h) }); err != nil {
		t.Fatal(err)
	}
	s := openSlices(t, Spec{Loop: Open, Arrival: Constant, TargetPerS: 1000}, Client{l, h, 1})
	v, err := s.Slice(context.Background(), settle, window)
	if err != nil {
		t.Fatal(err)
	}
	if v.Scheduled != 10 || v.N != 10 || v.MissedSends < 9 || v.Unsent != 0 || v.Ops != 0 || v.AllOps != 12 ||
		v.Drain < 15*time.Millisecond || v.P99 < int64(20*time.Millisecond) {
		t.Errorf("%+v", v)
	}
}

func TestSliceHonoursItsContext(t *testing.T) {
	for _, settling := range []time.Duration{0, time.Hour} {
		for _, kind := range []LoopKind{Closed, Open} {
			spec := Spec{Loop: kind, Records: 100, Verify: true}
			if kind == Open {
				spec.TargetPerS = 20_000
			}
			clients, stores := loaded(t, Spec{Records: 100}, 2, 4)
			s := openSlices(t, spec, clients...)
			ctx, cancel := context.WithCancel(context.Background())
			n := 0
			stores[0].change = func(*kv.Request) {
				if n++; n == 100 {
					cancel()
				}
			}
			v, err := s.Slice(ctx, settling, time.Hour)
			if err != nil || !v.Interrupted || v.AllOps < 100 || v.Unanswered != 0 || v.Window+v.Settle > time.Minute {
				t.Fatalf("settle %v: %v, %+v", settling, err, v)
			}
			if settling == 0 && (v.Ops == 0 || v.N < v.Ops) || settling > 0 && (v.Ops != 0 || v.N != 0 || v.Window != 0) {
				t.Errorf("settle %v: %+v", settling, v)
			}
			expectIdle(t, s)
			if v, err = s.Slice(ctx, settle, window); err != nil || !v.Interrupted || v.AllOps != 0 {
				t.Errorf("a slice after ctx has ended: %v, %+v", err, v)
			}
			stores[0].change = nil
			if v, err = s.Slice(context.Background(), settle, window); err != nil || v.Interrupted || kind == Open && v.Scheduled > 400 {
				t.Errorf("a slice after the interrupted one: %v, %+v", err, v)
			}
			if r := s.Result(); !r.Interrupted || r.Drift.Known {
				t.Errorf("%+v", r)
			}
		}
	}
}

func TestSliceEndsWhenTheConnectionDies(t *testing.T) {
	for _, kind := range []LoopKind{Closed, Open} {
		spec := Spec{Loop: kind, Records: 100}
		if kind == Open {
			spec.TargetPerS = 10_000
		}
		clients, stores := loaded(t, Spec{Records: 100}, 2, 4)
		s := openSlices(t, spec, clients...)
		if _, err := s.Slice(context.Background(), settle, window); err != nil {
			t.Fatal(err)
		}
		n := 0
		stores[1].change = func(r *kv.Request) {
			if n++; n > 50 {
				r.Status = kv.StatusClosed
			}
		}
		v, err := s.Slice(context.Background(), settle, time.Hour)
		if !errors.Is(err, ErrDead) || v.Errors == 0 || v.Interrupted || v.Window > time.Minute || v.Unanswered != 0 {
			t.Fatalf("%v, %+v", err, v)
		}
		refused(t, s)
		closeSlices(t, s)
	}
}

// What is under way at the window's end is waited for.
func TestSliceWaitsForWhatIsUnderWay(t *testing.T) {
	l := startLoop(t)
	h := &staller{l: l, pause: int64(300 * time.Millisecond)}
	h.begun.Store(true)
	if err := l.Call(func() { _, _ = l.Add(h) }); err != nil {
		t.Fatal(err)
	}
	s := openSlices(t, Spec{}, Client{l, h, 3})
	v, err := s.Slice(context.Background(), settle, window)
	if err != nil || v.Ops != 0 || v.AllOps != 3 || v.N != 3 || v.Unanswered != 0 || v.Drain < 15*time.Millisecond || v.P50 < int64(20*time.Millisecond) {
		t.Errorf("%v, %+v", err, v)
	}
	expectIdle(t, s)
}

func TestInterruptedSliceReportsRequestsThatNeverComplete(t *testing.T) {
	for _, settling := range []time.Duration{0, time.Hour} {
		l := startLoop(t)
		ctx, cancel := context.WithCancel(context.Background())
		h := &muted{l: l, answers: 10, full: cancel}
		s := openSlices(t, Spec{DrainMax: 20 * time.Millisecond}, Client{l, h, 4})
		v, err := s.Slice(ctx, settling, time.Hour)
		if !errors.Is(err, ErrStuck) || !v.Interrupted || v.Unanswered != 4 || v.AllOps != 10 || (v.N > 0) != (settling == 0) {
			t.Errorf("settle %v: %v, %+v", settling, err, v)
		}
		refused(t, s)
		closeSlices(t, s)
		if err := l.Call(h.release); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}

// A loop that does not turn, as one that is parked, does not hold Close for ever.
func TestSlicesCloseIsBounded(t *testing.T) {
	l := startLoop(t)
	s := openSlices(t, Spec{}, Client{l, &null{l}, 4})
	if _, err := s.Slice(context.Background(), settle, window); err != nil {
		t.Fatal(err)
	}
	parked := make(chan struct{})
	l.Do(func() { <-parked })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	close(parked)
	closeSlices(t, s)
}

// refused looks for the error of a slice after one that failed.
func refused(t *testing.T, s *Slices) {
	t.Helper()
	if v, err := s.Slice(context.Background(), settle, window); err == nil || !strings.Contains(err.Error(), "no slice follows one that failed") || v.AllOps != 0 {
		t.Errorf("a slice after one that failed: %v, %+v", err, v)
	}
}

func TestSliceReportsRequestsThatNeverComplete(t *testing.T) {
	for _, kind := range []LoopKind{Closed, Open} {
		for _, answers := range []int{0, 20} {
			l := startLoop(t)
			h := &muted{l: l, answers: answers}
			spec := Spec{Loop: kind, DrainMax: 20 * time.Millisecond}
			if kind == Open {
				spec.TargetPerS = 5000
			}
			s := openSlices(t, spec, Client{l, h, 4})
			s.Latencies = true
			v, err := s.Slice(context.Background(), settle, 5*window)
			before := uint64(0)
			for i := 0; i < 100 && err == nil; i++ { // the window may have passed without this process
				before += v.AllOps
				v, err = s.Slice(context.Background(), settle, 5*window)
			}
			if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "4 requests had no answer") || v.Unanswered != 4 ||
				before+v.AllOps != uint64(answers) || v.N < 4 || v.Window != 5*window {
				t.Errorf("%v, %+v", err, v)
			}
			if most := v.Drain; most < spec.DrainMax || most > 4*time.Second { // less than the default, also on a busy machine
				t.Errorf("drained for %v", most)
			}
			if kind == Open && (v.Unsent == 0 || v.N < v.Scheduled) {
				t.Errorf("%+v", v)
			}
			if r := s.Result(); r.Unanswered != 4 || r.CostOps != uint64(answers) || time.Duration(r.Lat.Max()) < spec.DrainMax {
				t.Errorf("together %+v", r)
			}
			refused(t, s)
			closeSlices(t, s)
			if err := l.Call(h.release); err != nil { // what comes back late is taken back, and its memory freed
				t.Fatal(err)
			}
			if err := l.Call(func() {
				if s.w.gens[0].slots.mem != nil {
					t.Error("the buffers are kept")
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSliceCountsWrongAnswersOnce(t *testing.T) {
	spec := Spec{ValueBytes: 64, Records: 100, Verify: true}
	clients, stores := loaded(t, spec, 1, 2)
	s := openSlices(t, spec, clients...)
	n := 0
	stores[0].change = func(r *kv.Request) {
		if n++; n == 10 {
			r.Value[40] ^= 1
		}
	}
	found := 0
	for range 5 {
		v, err := s.Slice(context.Background(), settle, window)
		if err != nil || v.VerifyFailures > 1 || (v.FirstFailure != "") != (v.VerifyFailures > 0) {
			t.Errorf("%v, %+v", err, v)
		}
		found += int(v.VerifyFailures)
	}
	if found != 1 {
		t.Errorf("found in %d slices", found)
	}
	if r := s.Result(); r.VerifyFailures != 1 || !strings.Contains(r.FirstFailure, "corrupt bytes") {
		t.Errorf("together %+v", r)
	}
}

func TestSliceEndsWhenAClientLoopEnds(t *testing.T) {
	for _, when := range []string{"before", "within", "between"} {
		clients, _ := loaded(t, Spec{Records: 100}, 1, 4)
		l, err := loop.Start(loop.Options{Sleep: loop.SleepEpoll}, nil)
		if err != nil {
			t.Fatal(err)
		}
		stopped := make(chan struct{})
		stop := func() { _ = l.Stop(); close(stopped) }
		h := &mem{l: l, items: map[string][]byte{}}
		clients = append(clients, Client{l, h, 4})
		if when == "before" {
			stop()
			if _, err := OpenSlices(Spec{Records: 100}, clients); !errors.Is(err, loop.ErrStopped) {
				t.Errorf("error %v", err)
			}
			continue
		}
		s := openSlices(t, Spec{Records: 100}, clients...)
		n := 0
		if when == "within" {
			h.change = func(*kv.Request) {
				if n++; n == 10 {
					go stop()
				}
			}
		} else {
			stop()
		}
		v, err := s.Slice(context.Background(), settle, time.Hour)
		if !errors.Is(err, loop.ErrStopped) || v.Unanswered != 0 || v.Window > time.Minute {
			t.Errorf("%s: %v, %+v", when, err, v)
		}
		<-stopped
		refused(t, s)
		closeSlices(t, s)
	}
}

func TestOpenSlicesRefusesWhatRunRefuses(t *testing.T) {
	l := startLoop(t)
	h := &mem{l: l, items: map[string][]byte{}}
	for word, c := range map[string]struct {
		spec    Spec
		clients []Client
	}{
		"0 client":       {Spec{}, nil},
		"2 specified":    {Spec{ClientThreads: 2}, []Client{{l, h, 1}}},
		`mix "nonsense"`: {Spec{Mix: "nonsense"}, []Client{{l, h, 1}}},
		"trace":          {Spec{Trace: traceOf(t, "time,op,key,size\n0,get,a,10\n")}, []Client{{l, h, 1}}},
	} {
		if _, err := OpenSlices(c.spec, c.clients); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v, expected %q", err, word)
		}
	}
	s := openSlices(t, Spec{}, Client{l, h, 1})
	for _, d := range [][2]time.Duration{{-1, window}, {0, 0}, {0, WindowMax + 1}, {WindowMax + 1, window}} {
		if _, err := s.Slice(context.Background(), d[0], d[1]); err == nil || !strings.Contains(err.Error(), "a slice with a window of") {
			t.Errorf("%v: error %v", d, err)
		}
	}
	if r := s.Result(); r.Ops != 0 || r.Slices != 0 || r.sane() != nil {
		t.Errorf("without a slice: %+v, %v", r, r.sane())
	}
	closeSlices(t, s)
	if _, err := s.Slice(context.Background(), settle, window); !errors.Is(err, errSlicesClosed) {
		t.Errorf("a slice after Close: %v", err)
	}
}

// What a slice reads of its loops at its ends does not allocate.
func TestMarksAllocateNothing(t *testing.T) {
	l := startLoop(t)
	var m [2]threadCounters
	if err := l.Call(func() {
		if n := testing.AllocsPerRun(100, func() { m[0], m[1] = readThread(l), m[0] }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// A generator begins and ends a slice, and records within it, without allocating; to clear and merge what it wrote does not allocate either.
func TestSliceAllocatesNothing(t *testing.T) {
	for _, kind := range []LoopKind{Closed, Open} {
		spec := Spec{Mix: "a", Loop: kind, ValueBytes: 100, Records: 1000}
		if kind == Open {
			spec.TargetPerS = 1e8
		}
		g, q := driven(t, spec, 8)
		drained := make(chan struct{}, 1)
		g.drained = drained
		lat, all, ops := newDurations(), newRecorder(spec, 0), uint64(0)
		if n := testing.AllocsPerRun(100, func() {
			now := loop.Nanos()
			g.start.Store(now)
			g.end.Store(now + int64(time.Hour))
			g.begin(now)
			for range 100 {
				g.Poll()
				if r := q.next(); r != nil {
					g.Complete(r)
				}
			}
			g.end.Store(loop.Nanos())
			g.stop()
			for r := q.next(); r != nil; r = q.next() {
				g.Complete(r)
			}
			if !g.reported || g.slots.inFlight() != 0 {
				t.Fatal("it has not settled")
			}
			<-drained
			for _, n := range g.rec.ops {
				ops += n
			}
			lat.merge(g.rec.lat[Get])
			all.mergeDurations(g.rec)
			g.rec.reset()
			lat.reset()
		}); n != 0 {
			t.Errorf("%v: %v allocations in a slice", kind, n)
		}
		if ops < 5000 {
			t.Errorf("%v: only %d operations were recorded", kind, ops)
		}
	}
}
