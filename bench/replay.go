package bench

import "math"

// withTrace returns the Spec with the trace's mix, distributions, sizes and records.
func (s Spec) withTrace() Spec {
	s.Mix, s.KeyDist, s.Records = s.Trace.Mix(), TraceKeys, s.Trace.Records()
	s.ValueMinBytes, s.ValueBytes = s.Trace.ValueBytes()
	if s.ValueDist = TraceSizes; s.ValueMinBytes == s.ValueBytes {
		s.ValueDist, s.ValueMinBytes = FixedSize, 0
	}
	if s.Loop == Open {
		s.Arrival = TraceTimes
	}
	setDefault(&s.TraceSpeed, 1)
	return s
}

// startsWithTrace reports whether the window starts with the trace's first row, because there is no warm-up.
func (s Spec) startsWithTrace() bool { return s.Trace != nil && s.Warmup == 0 }

// replay iterates over one thread's rows of a trace, in order. The times of rows are read ahead of the rows. It belongs to the thread's
// loop. A nil replay has no rows.
type replay struct {
	trace  *Trace
	mine   []uint32
	repeat bool
	speed  float64
	begin  int64  // when the trace begins, as loop.Nanos counts
	timed  uint64 // number of rows whose time was read, in all rounds
	used   uint64 // number of rows that were read, in all rounds
	row    uint32 // the last one
}

func newReplay(s Spec, thread, threads int) *replay {
	if s.Trace == nil {
		return nil
	}
	return &replay{trace: s.Trace, mine: s.Trace.of(thread, threads), repeat: s.TraceRepeat, speed: s.TraceSpeed}
}

// remaining returns the number of rows that are left. A repeated trace has no end, unless this thread has no rows.
func (p *replay) remaining() uint64 {
	n := uint64(len(p.mine))
	if p.repeat && n > 0 {
		return math.MaxUint64
	}
	return n - p.used
}

// over reports whether no row is left.
func (p *replay) over() bool { return p != nil && p.remaining() == 0 }

// due returns the time of the next row and advances to the one after it. After the last row it returns a time beyond any run.
func (p *replay) due() int64 {
	n := uint64(len(p.mine))
	if n == 0 || p.timed >= n && !p.repeat {
		return neverDue
	}
	round, i := p.timed/n, p.timed%n
	p.timed++
	at := float64(round)*float64(p.trace.period()) + float64(p.trace.rows[p.mine[i]].at)
	return p.begin + int64(min(at/p.speed, neverDue/2))
}

// advance goes to the next row and returns its kind of operation. There must be a next row.
func (p *replay) advance() Kind {
	p.row = p.mine[p.used%uint64(len(p.mine))]
	p.used++
	return p.trace.rows[p.row].kind()
}

// id returns the record of the present row.
func (p *replay) id() uint64 { return uint64(p.trace.rows[p.row].id) }

// written returns the version and the size of the value that the present row writes.
func (p *replay) written() (version uint64, bytes int) {
	return uint64(p.row) + 1, int(p.trace.rows[p.row].size &^ putBit)
}
