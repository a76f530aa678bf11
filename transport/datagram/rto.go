package datagram

// estimator computes a retransmission time-out from measured times (RFC 6298, section 2). All times are in ns. It has no clock granularity term: the clock
// counts ns. It departs from the RFC in its least time-out: that of the options, not 1 s (eRPC has 5 ms, because datacenter round trips are microseconds).
type estimator struct {
	smoothed, variation int64 // SRTT and RTTVAR; smoothed is 0 until the first sample
}

// add adds a measured time.
func (e *estimator) add(sample int64) {
	sample = max(sample, 1)
	if e.smoothed == 0 {
		e.smoothed, e.variation = sample, sample/2
		return
	}
	off := e.smoothed - sample
	if off < 0 {
		off = -off
	}
	e.variation += (off - e.variation) / 4
	e.smoothed = max(1, e.smoothed+(sample-e.smoothed)/8)
}

// timeout returns the time-out, between least and most; first if nothing was measured yet.
func (e *estimator) timeout(first, least, most int64) int64 {
	if e.smoothed == 0 {
		return first
	}
	return min(max(e.smoothed+4*e.variation, least), most)
}
