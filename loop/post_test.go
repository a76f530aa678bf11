package loop

import (
	"testing"

	"github.com/kvwire/kvwire/kv"
)

// A loop that sleeps is woken once for the requests of one step of another loop's turn, or once for postMax of them, and not for each.
func TestASleepingLoopIsWokenOnceForManyRequests(t *testing.T) {
	for _, n := range []int{1, 20, postMax, 3*postMax + 1} {
		g := newMapGroup(t, Plan{Placement: Dispatched, NetLoops: 1, StoreLoops: 1, Net: Options{Sleep: SleepEpoll}, Store: Options{Sleep: SleepEpoll}})
		d := &driver{make(chan *kv.Request, n)}
		net := g.Net()[0]
		rs := make([]kv.Request, n)
		const rounds = 200
		for range rounds {
			if err := net.Call(func() {
				for i := range rs {
					rs[i] = kv.Request{Op: kv.OpPut, Key: key(i), Value: []byte("v"), Owner: d}
					g.Router(0).Submit(&rs[i])
				}
			}); err != nil {
				t.Fatal(err)
			}
			for range rs {
				if r := <-d.back; r.Status != kv.StatusOK {
					t.Fatal(r.Status)
				}
			}
		}
		var s Stats
		if err := net.Call(func() { s = net.Snapshot() }); err != nil {
			t.Fatal(err)
		}
		if most := uint64(rounds * ((n + postMax - 1) / postMax)); s.Wakes == 0 || s.Wakes > most {
			t.Errorf("%d requests at a time, %d times: %d wake-ups, want 1 to %d", n, rounds, s.Wakes, most)
		}
	}
}

// groups is a partition that counts the requests between a Begin and an End.
type groups struct {
	bare
	l       *Loop
	open    bool
	alone   int // requests outside
	grouped int
}

func (p *groups) Begin() { p.open = true }
func (p *groups) End()   { p.open = false }

func (p *groups) Submit(r *kv.Request) {
	if p.open {
		p.grouped++
	} else {
		p.alone++
	}
	r.Status = kv.StatusOK
	p.l.Finish(r)
}

// resubmitter submits each completed request again, until left is 0.
type resubmitter struct {
	p    *groups
	left int
	done chan struct{}
}

func (y *resubmitter) Complete(r *kv.Request) {
	if y.left--; y.left > 0 {
		y.p.Submit(r)
	} else if y.left == 0 {
		close(y.done)
	}
}

// What owners submit when they get their completed requests reaches the loop's own partition as a group.
func TestRequestsSubmittedByOwnersAreGrouped(t *testing.T) {
	p := new(groups)
	l, err := Start(Options{Sleep: SleepEpoll}, func(l *Loop) error {
		p.l = l
		l.SetLocal(p)
		_, err := l.Add(p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	y := &resubmitter{p: p, left: 1000, done: make(chan struct{})}
	rs := make([]kv.Request, 10)
	if err := l.Call(func() {
		for i := range rs {
			rs[i].Owner = y
			p.Submit(&rs[i])
		}
	}); err != nil {
		t.Fatal(err)
	}
	<-y.done
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	if p.alone != len(rs) || p.grouped < 1000-len(rs)-1 || p.open {
		t.Errorf("%d requests alone, %d in groups, a group open: %v", p.alone, p.grouped, p.open)
	}
}
