package datagram

import (
	"fmt"
	"strings"
)

// Congestion is the way in which a client's session limits its rate.
type Congestion uint8

const (
	CongestionNone   Congestion = iota // credits alone limit the packets in flight
	CongestionTimely                   // the rate follows the gradient of the round trips
)

// String returns the name of the flag's value.
func (c Congestion) String() string {
	if c == CongestionTimely {
		return "timely"
	}
	return "none"
}

// Congestions returns the names of all ways.
func Congestions() []string {
	return []string{CongestionNone.String(), CongestionTimely.String()}
}

// ParseCongestion is the inverse of String.
func ParseCongestion(name string) (Congestion, error) {
	for c := CongestionNone; c <= CongestionTimely; c++ {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("congestion %q: %s", name, strings.Join(Congestions(), " or "))
}

// Constants of Timely. Source: Mittal et al., "TIMELY: RTT-based congestion control for the datacenter", SIGCOMM 2015, algorithm 1 and section 5; the
// thresholds, the least and the additive rate are those with which eRPC uses it (Kalia et al., "Datacenter RPCs can be general and fast", NSDI 2019, section 5.2 and src/cc/timely.h).
const (
	timelyLow      = 50e3  // ns: below, the rate grows whatever the gradient is
	timelyHigh     = 1e6   // ns: above, the rate falls whatever the gradient is
	timelyMinRTT   = 20e3  // ns: the unit of the gradient, and the shortest time in which the rate changes by a whole step
	timelyAlpha    = 0.02  // weight of the newest difference of round trips
	timelyBeta     = 0.8   // multiplicative decrease
	timelyAdd      = 5e6   // bytes/s: additive increase
	timelyLeast    = 5e6   // bytes/s
	timelyFast     = 5     // after so many samples that did not grow, the rate grows five times as fast
	pacingBurst    = 100e3 // ns: a session may be that far behind its rate and send at once
	nanosPerSecond = 1e9
)

// timely computes a session's rate in bytes per second.
type timely struct {
	rate     float64 // 0: not limited
	most     float64
	previous float64 // the last round trip, in ns; 0: none
	gradient float64 // smoothed difference of successive round trips, in ns
	shrinks  int     // successive round trips that did not grow
	updated  int64
}

// limits reports whether the rate is below its maximum: then packets are paced. eRPC, too, does not pace a session at its full rate.
func (t *timely) limits() bool { return t.rate > 0 && t.rate < t.most }

// sample adapts the rate to a measured round trip.
func (t *timely) sample(now, rtt int64) {
	if t.rate == 0 {
		return
	}
	r := float64(rtt)
	if t.previous == 0 {
		t.previous = r
	}
	diff := r - t.previous
	t.previous = r
	if t.shrinks++; diff > 0 {
		t.shrinks = 0
	}
	t.gradient += timelyAlpha * (diff - t.gradient)
	step := min(float64(now-t.updated)/timelyMinRTT, 1)
	t.updated = now
	rate := t.rate
	switch gradient := t.gradient / timelyMinRTT; {
	case r < timelyLow:
		rate += timelyAdd * step
	case r > timelyHigh:
		rate *= 1 - step*timelyBeta*(1-timelyHigh/r)
	case gradient <= 0:
		n := 1.0
		if t.shrinks >= timelyFast {
			n = 5
		}
		rate += n * timelyAdd * step
	default:
		rate *= 1 - step*timelyBeta*gradient
	}
	t.rate = max(min(max(rate, t.rate/2), t.most), timelyLeast)
}

// pacer delays packets to a rate.
type pacer struct{ next int64 }

// ready reports whether the session may send now.
func (p *pacer) ready(now int64) bool { return p.next <= now }

// sent charges the bytes of a packet.
func (p *pacer) sent(now int64, bytes int, rate float64) {
	p.next = max(p.next, now-pacingBurst) + int64(float64(bytes)*nanosPerSecond/rate)
}
