package bench

import "math"

// traced puts what the trace has into a Spec.
func (s Spec) traced() Spec {
	s.Mix, s.KeyDist, s.Records = s.Trace.Mix(), TraceKeys, s.Trace.Records()
	s.ValueMinBytes, s.ValueBytes = s.Trace.ValueBytes()
	if s.ValueDist = TraceSizes; s.ValueMinBytes == s.ValueBytes {
		s.ValueDist, s.ValueMinBytes = FixedSize, 0
	}
	if s.Loop == Open {
		s.Arrival = TraceTimes
	}
	def(&s.TraceSpeed, 1)
	return s
}

// fromTheFirstRow says that the window begins with the trace: there is no warm-up that takes rows before it.
func (s Spec) fromTheFirstRow() bool { return s.Trace != nil && s.Warmup == 0 }

// replay hands out one thread's rows of a trace, in order: their times first, ahead, and then the rows. It belongs to the thread's
// loop; a nil one has none.
type replay struct {
	trace  *Trace
	mine   []uint32
	repeat bool
	speed  float64
	begin  int64  // when the trace begins, as loop.Nanos counts
	timed  uint64 // rows whose time was given, in all rounds
	taken  uint64 // rows that were given, likewise
	row    uint32 // the last one
}

func newReplay(s Spec, thread, threads int) *replay {
	if s.Trace == nil {
		return nil
	}
	return &replay{trace: s.Trace, mine: s.Trace.of(thread, threads), repeat: s.TraceRepeat, speed: s.TraceSpeed}
}

// left is how many rows were not given yet; of a repeated trace there is always one more, unless this thread has none at all.
func (p *replay) left() uint64 {
	n := uint64(len(p.mine))
	if p.repeat && n > 0 {
		return math.MaxUint64
	}
	return n - p.taken
}

// over says that no row is left.
func (p *replay) over() bool { return p != nil && p.left() == 0 }

// due is the time of the next row, and goes on to the one after it. After the last one it is beyond any run.
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

// take goes on to the next row. Somebody has seen that there is one.
func (p *replay) take() Kind {
	p.row = p.mine[p.taken%uint64(len(p.mine))]
	p.taken++
	return p.trace.rows[p.row].kind()
}

// id is the record of the row that was taken last.
func (p *replay) id() uint64 { return uint64(p.trace.rows[p.row].id) }

// written is what that row writes.
func (p *replay) written() (version uint64, bytes int) {
	return uint64(p.row) + 1, int(p.trace.rows[p.row].size &^ putBit)
}
