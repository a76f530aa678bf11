package loop

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// waitMax bounds the waits of these tests.
const waitMax = 100 * time.Second

// within fails the test when f takes longer than that.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(waitMax):
		t.Fatalf("%s: not within %v", what, waitMax)
	}
}

// threadCPU is the CPU time of a thread of this process, in ns: clock_getcpuclockid's clock, of one thread (CPUCLOCK_PERTHREAD|CPUCLOCK_SCHED).
func threadCPU(t *testing.T, tid int) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^tid<<3|6), &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}

// counters returns a loop's counters, from another goroutine.
func counters(l *Loop) (s Stats, err error) {
	err = l.Call(func() { s = l.Snapshot() })
	return s, err
}

// start is Start, for a loop that is stopped with the test.
func start(t *testing.T, o Options, setup func(l *Loop) error) *Loop {
	t.Helper()
	if o.Sleep == SleepRing {
		testenv.Uring(t)
	}
	l, err := Start(o, setup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Stop() })
	return l
}

func TestAParkedLoopTakesNoCPUWhateverItsPolicy(t *testing.T) {
	for _, sleep := range []Sleep{SleepEpoll, SleepRing} {
		for _, wait := range []Wait{WaitBlock, WaitSpin, WaitHybrid} {
			t.Run(sleep.String()+"/"+wait.String(), func(t *testing.T) {
				l := start(t, Options{Sleep: sleep, Wait: wait, SpinMax: time.Hour}, nil)
				var tid int
				var parked Stats
				if err := l.Park(func() { tid, parked = unix.Gettid(), l.Snapshot() }); err != nil {
					t.Fatal(err)
				}
				begun := threadCPU(t, tid)
				<-time.After(60 * time.Millisecond)
				if used := threadCPU(t, tid) - begun; used > int64(10*time.Millisecond) {
					t.Fatalf("a parked loop has used %v of CPU time in 60ms", time.Duration(used))
				}
				l.Resume()
				within(t, "a call after Resume", func() {
					if c, err := counters(l); err != nil || c.Turns <= parked.Turns {
						t.Errorf("%d turns after Resume, %d before: %v", c.Turns, parked.Turns, err)
					}
				})
			})
		}
	}
}

func TestWhatComesToAParkedLoopIsDoneAfterResume(t *testing.T) {
	for _, sleep := range []Sleep{SleepEpoll, SleepRing} {
		t.Run(sleep.String(), func(t *testing.T) {
			gone := &bare{}
			l := start(t, Options{Sleep: sleep}, func(l *Loop) error {
				l.SetLocal(&nullPartition{l: l})
				_, err := l.Add(gone)
				return err
			})
			if err := l.Park(nil); err != nil {
				t.Fatal(err)
			}
			all := make(chan struct{}, 4)
			if !l.Do(func() { all <- struct{}{} }) {
				t.Fatal("a parked loop refused a function")
			}
			r := &kv.Request{Op: kv.OpGet, Key: []byte("k"), Owner: ownerFunc(func(*kv.Request) { all <- struct{}{} })}
			if !l.Push(r) {
				t.Fatal("a parked loop refused a request")
			}
			var calls sync.WaitGroup
			calls.Go(func() { _ = l.Call(func() { all <- struct{}{} }) })
			calls.Go(func() { l.Remove(gone); all <- struct{}{} })
			select {
			case <-all:
				t.Fatal("something was done on a parked loop")
			case <-time.After(20 * time.Millisecond):
			}
			l.Resume()
			within(t, "calls", calls.Wait)
			within(t, "all that came", func() {
				for range cap(all) {
					<-all
				}
			})
		})
	}
}

type ownerFunc func(r *kv.Request)

func (f ownerFunc) Complete(r *kv.Request) { f(r) }

func TestParkAndResumeInTheWrongOrder(t *testing.T) {
	l := start(t, Options{Sleep: SleepEpoll, Wait: WaitSpin}, nil)
	l.Resume() // nothing
	if err := l.Park(nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Park(nil); !errors.Is(err, ErrParked) {
		t.Fatalf("parking a parked loop: %v", err)
	}
	l.Resume()
	l.Resume()
	if err := l.Park(nil); err != nil { // at once: the loop may not have woken
		t.Fatal(err)
	}
	within(t, "stopping a parked loop", func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := l.Park(nil); !errors.Is(err, ErrStopped) {
		t.Fatalf("parking a loop that has ended: %v", err)
	}
	if err := l.Park(nil); !errors.Is(err, ErrStopped) {
		t.Fatalf("parking a loop that has ended, again: %v", err)
	}
}

// Park and Stop at the same time end in any order, and never hang.
func TestParkAndStopAtTheSameTime(t *testing.T) {
	for range 100 {
		l, err := Start(Options{Sleep: SleepEpoll}, func(l *Loop) error { _, err := l.Add(&bare{}); return err })
		if err != nil {
			t.Fatal(err)
		}
		within(t, "park and stop", func() {
			var both sync.WaitGroup
			both.Go(func() {
				if err := l.Park(nil); err != nil && !errors.Is(err, ErrStopped) {
					t.Error(err)
				}
			})
			both.Go(func() { l.Resume() })
			if err := l.Stop(); err != nil {
				t.Error(err)
			}
			both.Wait()
		})
	}
}

// The timer of startTimer runs while at least one loop is not parked.
func TestTheTimerRunsWhileALoopIsAwake(t *testing.T) {
	ticking := func() (stop chan struct{}) {
		gcTimer.mu.Lock()
		defer gcTimer.mu.Unlock()
		return gcTimer.stop
	}
	a, b := start(t, Options{Sleep: SleepEpoll}, nil), start(t, Options{Sleep: SleepEpoll}, nil)
	stop := ticking()
	ended := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	_ = a.Park(nil)
	if ended() {
		t.Fatal("the timer ended with a loop awake")
	}
	_ = b.Park(nil)
	if !ended() {
		t.Fatal("the timer runs while all loops are parked")
	}
	a.Resume()
	_ = a.Call(func() {})
	if next := ticking(); next == stop {
		t.Fatal("the timer did not begin again")
	}
}

func TestTimeParkedIsNotTimeAwake(t *testing.T) {
	l := start(t, Options{Sleep: SleepEpoll}, nil)
	behind := func() (ns int64) {
		_ = l.Call(func() { ns = l.Now() - l.AwakeNow() })
		return ns
	}
	if ns := behind(); ns != 0 {
		t.Fatalf("never parked, and %d ns behind", ns)
	}
	const pause = 30 * time.Millisecond
	for i := range 2 {
		begun := Nanos()
		if err := l.Park(nil); err != nil {
			t.Fatal(err)
		}
		<-time.After(pause)
		l.Resume()
		if ns := behind(); ns < int64(i+1)*int64(pause) || i == 0 && ns > Nanos()-begun {
			t.Fatalf("parked %d times for %v, and %v behind", i+1, pause, time.Duration(ns))
		}
	}
}

// worker is busy until its work is done.
type worker struct {
	bare
	ask  func()
	left atomic.Int32 // looks that find it busy
}

func (w *worker) Busy() string {
	if w.ask != nil {
		w.ask()
	}
	if w.left.Load() > 0 {
		w.left.Add(-1)
		return "the worker works"
	}
	return ""
}

func TestAGroupParksWhenItsMembersAreQuiet(t *testing.T) {
	w := &worker{}
	w.left.Store(1 << 30)
	g, err := NewGroup(Plan{NetLoops: 1, StoreLoops: 1, Placement: Dispatched, Net: Options{Sleep: SleepEpoll}, Store: Options{Sleep: SleepEpoll, Wait: WaitSpin}},
		func(l *Loop, _, _ int) (Partition, error) {
			p := &nullPartition{l: l}
			_, err := l.Add(p)
			if err == nil {
				_, err = l.Add(w)
			}
			return p, err
		})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	err = g.Park(5*time.Millisecond, nil)
	if err == nil || !strings.Contains(err.Error(), "store0") || !strings.Contains(err.Error(), "the worker works") {
		t.Fatalf("a group with a busy member: %v", err)
	}
	for _, l := range g.All() { // awake
		within(t, l.Name(), func() { _ = l.Call(func() {}) })
	}
	w.left.Store(3)
	var mu sync.Mutex
	last := map[string]int{}
	if err := g.Park(waitMax, func(l *Loop) {
		mu.Lock()
		defer mu.Unlock()
		last[l.Name()]++
	}); err != nil {
		t.Fatal(err)
	}
	if last["net0"] != 4 || last["store0"] != 1 { // that of the loop before the busy one runs at each attempt
		t.Fatalf("last ran %v times", last)
	}
	if err := g.Park(time.Millisecond, nil); !errors.Is(err, ErrParked) {
		t.Fatalf("parking a parked group: %v", err)
	}
	within(t, "stopping a parked group", func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// Each turn wakes the thread that submits, so a loop whose turns are checked again and again would never find it asleep.
func TestALoopParksWhenTheKernelsSubmitterSleeps(t *testing.T) {
	for name, o := range map[string]Options{
		"one ring":  {Sleep: SleepRing, SQPoll: true},
		"two rings": {Sleep: SleepRing, SQPoll: true, SocketRing: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := start(t, o, nil)
			for range 3 {
				if err := ParkAll([]*Loop{l}, waitMax, nil); err != nil {
					t.Fatal(err)
				}
				// A wake-up of the loop that comes late is a completion, for which the thread wakes once more.
				within(t, "the thread's sleep while the loop is parked", func() {
					for !l.submittersSleep() {
						runtime.Gosched()
					}
				})
				l.Resume()
				within(t, "a turn", func() { _ = l.Call(func() {}) })
			}
		})
	}
}

// A loop that waits for one that was parked before it is not a deadlock: the first is resumed.
func TestALoopThatWaitsForAParkedOneResumesIt(t *testing.T) {
	first := start(t, Options{Name: "first", Sleep: SleepEpoll}, nil)
	w := &worker{}
	var helped atomic.Bool
	w.ask = func() {
		first.Do(func() { helped.Store(true) })
		if !helped.Load() {
			w.left.Store(1)
		}
	}
	second := start(t, Options{Name: "second", Sleep: SleepEpoll}, func(l *Loop) error { _, err := l.Add(w); return err })
	if err := ParkAll([]*Loop{first, second}, waitMax, nil); err != nil {
		t.Fatal(err)
	}
	if !helped.Load() {
		t.Fatal("the second loop was parked with its work undone")
	}
	ResumeAll([]*Loop{first, second})
}
