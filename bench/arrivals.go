package bench

import (
	"math"
	"math/rand/v2"
)

// arrivals gives the intended starts of one thread of an open loop, one after the other. They depend
// on the seed or the trace alone, and neither on the system's speed nor on the operations. The sum of
// independent Poisson processes is one, so each thread has its own at its share of the rate.
type arrivals struct {
	next int64 // the next intended start, as loop.Nanos counts
	at   float64
	gap  float64 // mean, ns
	rng  *rand.Rand
	kind Arrival

	replay *replay // TraceTimes: whose times these are
}

// neverDue is a time beyond any run.
const neverDue = math.MaxInt64 / 2

func newArrivals(s Spec, thread, threads int, begin int64) arrivals {
	a := arrivals{gap: 1e9 * float64(threads) / s.TargetPerS, kind: s.Arrival,
		rng: rand.New(rand.NewPCG(s.Seed, 2*uint64(thread)+2))}
	a.at = float64(begin)
	if a.kind == Constant {
		a.at += a.gap * (float64(thread)/float64(threads) - 1) // threads alternate
	}
	a.advance()
	return a
}

// shift moves the remaining arrivals. The arrivals of a load in slices do not count the time between two slices.
func (a *arrivals) shift(by int64) {
	a.at = min(a.at+float64(by), neverDue)
	a.next = int64(a.at)
}

// newTraceArrivals returns the times of a thread's rows of a trace that starts at begin.
func newTraceArrivals(p *replay, begin int64) arrivals {
	p.begin = begin
	a := arrivals{kind: TraceTimes, replay: p}
	a.advance()
	return a
}

// advance goes on to the next arrival.
func (a *arrivals) advance() {
	if a.replay != nil {
		a.next = a.replay.due()
		return
	}
	if a.kind == Constant {
		a.at += a.gap
	} else {
		a.at += a.gap * a.rng.ExpFloat64()
	}
	if a.at >= neverDue {
		a.at = neverDue
	}
	a.next = int64(a.at)
}
