package bench

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// muted answers so many requests, and then none: they are held until the test releases them.
type muted struct {
	l       *loop.Loop
	answers int
	held    []*kv.Request
	full    func() // called when it holds as many as a thread has in flight, 4; nil: nobody cares
}

func (m *muted) Submit(r *kv.Request) {
	if m.answers == 0 {
		if m.held = append(m.held, r); len(m.held) == 4 && m.full != nil {
			m.full()
		}
		return
	}
	m.answers--
	r.Status = kv.StatusOK
	m.l.Finish(r)
}

func (m *muted) release() {
	m.answers = -1 // and for ever
	for _, r := range m.held {
		r.Status = kv.StatusOK
		m.l.Finish(r)
	}
	m.held = nil
}

// A server that stops to answer leaves its traces: the requests are counted, and their ages are in the latencies.
func TestRunCountsRequestsWithoutAnAnswer(t *testing.T) {
	trace := traceOf(t, "time,op,key,size\n"+strings.Repeat("0,get,a,10\n", 400))
	for name, spec := range map[string]Spec{
		"closed": {},
		"open":   {Loop: Open, TargetPerS: 5000},
		"trace":  {Loop: Open, Trace: trace},
		"rmw":    {Mix: "rmw"},
	} {
		for _, answers := range []int{0, 20} {
			t.Run(name+"/"+map[int]string{0: "never", 20: "until then"}[answers], func(t *testing.T) {
				l := startLoop(t)
				h := &muted{l: l, answers: answers}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				spec.Duration, spec.DrainMax = 300*time.Millisecond, 100*time.Millisecond
				if spec.Loop == Closed { // the window ends when nothing moves any more
					spec.Duration, h.full = time.Hour, cancel
				}
				res, err := Run(ctx, spec, []Client{{l, h, 4}}, nil)
				for i := 0; i < 100 && err == nil; i++ { // the window may have passed without this process
					res, err = Run(ctx, spec, []Client{{l, h, 4}}, nil)
				}
				if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "4 requests had no answer") {
					t.Errorf("error %v", err)
				}
				if res.Unanswered != 4 {
					t.Errorf("%d requests without an answer", res.Unanswered)
				}
				if most := time.Duration(res.Lat.Max()); most < spec.DrainMax {
					t.Errorf("the greatest latency is %v", most)
				}
				of := res.Op[Get].Lat
				if name == "rmw" {
					of = res.Op[RMW].Lat
				}
				if of == nil || time.Duration(of.Max()) < spec.DrainMax {
					t.Error("the kind's own latencies have none of them")
				}
				if answers == 0 { // then all percentiles are theirs
					if p50 := time.Duration(res.Lat.ValueAtPercentile(50)); p50 < spec.DrainMax {
						t.Errorf("nothing was answered, and the median is %v", p50)
					}
				}
				if spec.Loop == Open {
					if uint64(res.Lat.TotalCount()) < res.Scheduled || res.Unsent == 0 {
						t.Errorf("%d latencies of %d arrivals, of which %d were never sent", res.Lat.TotalCount(), res.Scheduled, res.Unsent)
					}
					if time.Duration(res.Svc.Max()) < spec.DrainMax || time.Duration(res.Lag.Max()) < spec.DrainMax {
						t.Errorf("the greatest service time is %v, the greatest lag %v", time.Duration(res.Svc.Max()), time.Duration(res.Lag.Max()))
					}
				} else if want := int64(res.Ops) + 4; res.Lat.TotalCount() != want {
					t.Errorf("%d latencies, expected %d", res.Lat.TotalCount(), want)
				}
				b, err := res.Encode()
				if err != nil {
					t.Fatal(err)
				}
				if spec.Trace == nil { // load hosts have none
					back, err := DecodeResult(b, nil)
					if err != nil {
						t.Fatal(err)
					}
					if all, err := Together([]*Result{back, back}); err != nil || all.Unanswered != 8 || all.Lat.Max() != res.Lat.Max() {
						t.Errorf("two hosts together: %v, %+v", err, all)
					}
				}
				if err := l.Call(h.release); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// One of two threads goes on: its share does not hide what the other one lost.
func TestRunCountsTheUnansweredOfOneThread(t *testing.T) {
	clients, _ := loaded(t, Spec{Records: 100}, 2, 4)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := &muted{l: clients[1].Loop, answers: 50, full: cancel}
	clients[1].Handler = h
	spec := Spec{Records: 100, Duration: time.Hour, DrainMax: 30 * time.Millisecond}
	res, err := Run(ctx, spec, clients, nil)
	if !errors.Is(err, ErrStuck) || res.Unanswered != 4 || time.Duration(res.Lat.Max()) < spec.DrainMax {
		t.Fatalf("error %v, %d unanswered, at most %v", err, res.Unanswered, time.Duration(res.Lat.Max()))
	}
	if err := clients[1].Loop.Call(h.release); err != nil {
		t.Fatal(err)
	}
}

// A pause that begins in the window and ends in the drain is the greatest latency, though nothing of it completed in the window.
func TestRunCountsLatenciesThatEndInTheDrain(t *testing.T) {
	l := startLoop(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := &muted{l: l, answers: 100, full: cancel}
	spec := Spec{Duration: time.Hour}
	spec.OnWindow = func(begin bool) {
		if !begin {
			_ = l.Call(h.release)
		}
	}
	res, err := Run(ctx, spec, []Client{{l, h, 4}}, nil)
	if err != nil || res.Unanswered != 0 || res.Ops > 100 {
		t.Fatalf("error %v, %d unanswered, %d operations", err, res.Unanswered, res.Ops)
	}
	if res.Lat.TotalCount() != int64(res.Ops)+4 {
		t.Errorf("%d latencies of %d operations and 4 requests under way at the end", res.Lat.TotalCount(), res.Ops)
	}
}

// Also what was interrupted, or did not reach its window, says what it lost.
func TestInterruptedRunCountsRequestsWithoutAnAnswer(t *testing.T) {
	for _, warmup := range []time.Duration{0, time.Hour} {
		l := startLoop(t)
		h := &muted{l: l, answers: 10}
		ctx, cancel := context.WithCancel(context.Background())
		spec := Spec{Duration: time.Hour, Warmup: warmup, DrainMax: 30 * time.Millisecond}
		res, err := Run(ctx, spec, []Client{{l, h, 4}}, func(Progress) { cancel() })
		if !errors.Is(err, ErrStuck) || !res.Interrupted || res.Unanswered != 4 {
			t.Fatalf("warm-up %v: error %v, interrupted %v, %d unanswered", warmup, err, res.Interrupted, res.Unanswered)
		}
		if had := res.Lat.TotalCount() > 0; had != (warmup == 0) {
			t.Errorf("warm-up %v: %d latencies", warmup, res.Lat.TotalCount())
		}
		if err := l.Call(h.release); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadEndsWhenNothingIsAnswered(t *testing.T) {
	l := startLoop(t)
	h := &muted{l: l, answers: 100}
	got, err := Load(context.Background(), Spec{Records: 1000, SilenceMax: 200 * time.Millisecond, DrainMax: time.Hour}, []Client{{l, h, 4}}, nil)
	if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "none of the 4 puts in flight") || got.Records != 100 {
		t.Fatalf("error %v, %d records", err, got.Records)
	}
	if err := l.Call(h.release); err != nil {
		t.Fatal(err)
	}
}

func TestLatenciesOfHoursAreNotCutShort(t *testing.T) {
	for _, d := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour, 4 * WindowMax} {
		h := newHist()
		record(h, int64(d))
		if got := time.Duration(h.Max()); got < d || got-d > d/500 {
			t.Errorf("%v is recorded as %v", d, got)
		}
	}
	if err := (Spec{Duration: WindowMax + 1}).Check(); err == nil {
		t.Error("a window is longer than latencies can be")
	}
}

// A load checks each answer, a sample of them, or none.
func TestChecksAreOfASample(t *testing.T) {
	for oneIn, want := range map[int]struct{ least, most float64 }{0: {1, 1}, 4: {1. / 6, 1. / 3}, -1: {}} {
		spec := Spec{ValueBytes: 100, Records: 1000, Operations: 8000, Verify: true, VerifyOneIn: oneIn}
		clients, stores := loaded(t, spec, 1, 1)
		wrong := 0
		stores[0].change = func(r *kv.Request) {
			r.Value[50] ^= 1
			wrong++
		}
		res, err := Run(context.Background(), spec, clients, nil)
		if err != nil {
			t.Fatal(err)
		}
		if found := float64(res.VerifyFailures) / float64(wrong); found < want.least || found > want.most || spec.Checks() != (want.most > 0) {
			t.Errorf("one in %d: %d of %d wrong answers were found", oneIn, res.VerifyFailures, wrong)
		}
	}
}

// Goodput is of values: keys and headers of a scan's items are not among them.
func TestBytesOfAScanAreThoseOfItsValues(t *testing.T) {
	for mix, each := range map[string]uint64{"scan": 10 * 100, "get": 100, "put": 100, "rmw": 200} {
		spec := Spec{Mix: mix, ValueBytes: 100, Records: 1000, Operations: 1000, Verify: true}
		clients, stores := loaded(t, spec, 1, 1)
		stores[0].change = func(r *kv.Request) { // as if every scan had asked for 10 items
			if r.Op != kv.OpScan {
				return
			}
			r.Value = r.Value[:0]
			for id := range uint64(10) {
				key, value := make([]byte, 16), make([]byte, 100)
				putKey(key, id)
				fillValue(value, id, 0, 0)
				r.Value, _ = kv.AppendItem(r.Value, key, value)
			}
		}
		spec.Verify = false // the items are not those that were asked for
		res, err := Run(context.Background(), spec, clients, nil)
		if err != nil {
			t.Fatal(err)
		}
		if lost := res.Ops*each - res.Bytes; res.Ops == 0 || lost != 0 && lost != each && mix != "rmw" || res.Bytes > (res.Ops+1)*each {
			t.Errorf("%s: %d bytes in %d operations, expected %d each", mix, res.Bytes, res.Ops, each)
		}
	}
}
