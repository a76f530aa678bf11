package loop

import (
	"bytes"

	"github.com/kvwire/kvwire/kv"
)

// Router is the handler on a loop that carries connections. A request whose key lives on this loop
// goes to its partition directly; others cross a mailbox and come back through one. A scan asks all
// partitions and merges their answers. It belongs to its loop.
type Router struct {
	l      *Loop
	shards []*Loop
	stats  [kv.StatsKinds]func(r *kv.Request)

	scans   []*scan  // idle
	made    int      // scans that exist
	waiting kv.Queue // scans that wait for an idle one
}

func newRouter(l *Loop, shards []*Loop) *Router { return &Router{l: l, shards: shards} }

// OnStats sets what answers a kv.OpStats whose Limit is what: a function that may block, called on a goroutine of its own. It owns the request meanwhile, and
// sets its outcome. To be set before requests arrive.
func (t *Router) OnStats(what uint32, f func(r *kv.Request)) { t.stats[what] = f }

// Stats calls what answers such a request; without any it is a bad one. Any goroutine but a loop's.
func (t *Router) Stats(what uint32, r *kv.Request) {
	if f := t.stats[what]; f != nil {
		f(r)
		return
	}
	r.Status = kv.StatusBadRequest
}

// Submit sends r to the partition of its key.
func (t *Router) Submit(r *kv.Request) {
	switch {
	case r.Op == kv.OpScan && len(t.shards) > 1:
		t.scan(r)
	case r.Op == kv.OpStats:
		t.answerStats(r)
	case r.Op == kv.OpKeys:
		t.page(r)
	default:
		t.send(r, kv.Shard(r.Key, len(t.shards)))
	}
}

var _ kv.Batcher = (*Router)(nil)

// Begin is kv.Batcher's: for this loop's own partition.
func (t *Router) Begin() {
	if t.l.batch != nil {
		t.l.batch.Begin()
	}
}

// End is kv.Batcher's.
func (t *Router) End() {
	if t.l.batch != nil {
		t.l.batch.End()
	}
}

func (t *Router) send(r *kv.Request, shard int) {
	to := t.shards[shard]
	if to == t.l {
		t.l.local.Submit(r)
		return
	}
	r.Home, r.Owner = r.Owner, &t.l.relay
	if !to.Push(r) {
		r.Owner, r.Home = r.Home, nil
		r.Status = kv.StatusClosed
		t.l.Finish(r)
		return
	}
}

// Shards is the number of partitions.
func (t *Router) Shards() int { return len(t.shards) }

// page sends a page of a walk to the partition whose turn it is.
func (t *Router) page(r *kv.Request) {
	shard := len(t.shards)
	if len(r.Key) == kv.PositionBytes {
		shard = kv.PositionIn(r.Key).Shard()
	}
	if shard >= len(t.shards) {
		r.Status = kv.StatusBadRequest
		t.l.Finish(r)
		return
	}
	t.send(r, shard)
}

func (t *Router) answerStats(r *kv.Request) {
	if r.Limit >= kv.StatsKinds || t.stats[r.Limit] == nil {
		r.Status = kv.StatusBadRequest
		t.l.Finish(r)
		return
	}
	go func() { // off the data path; it owns r until Do hands it back
		t.Stats(r.Limit, r)
		t.l.Do(func() {
			Mark(r, kv.StageStore)
			t.l.Finish(r)
		})
	}()
}

// maxScans bounds the scans that one router merges at a time; more wait. Each holds one answer
// buffer per partition.
const maxScans = 16

// scan is one scan under way over all partitions.
type scan struct {
	t    *Router
	r    *kv.Request // the request that it answers
	part []kv.Request
	buf  [][]byte // room for each partition's answer: grows to the largest asked for, then stays
	rest [][]byte // what is left of each partition's answer while merging
	left int      // partitions that have not answered
	n    uint32   // items that are merged
}

// mergeTurn bounds what a merge does in one turn, in looks at a partition's next item: some 300 µs.
const mergeTurn = 16 << 10

func (t *Router) scan(r *kv.Request) {
	if len(t.scans) == 0 && t.made == maxScans {
		t.waiting.Push(r)
		return
	}
	var s *scan
	if n := len(t.scans); n > 0 {
		s, t.scans = t.scans[n-1], t.scans[:n-1]
	} else {
		s = &scan{t: t, part: make([]kv.Request, len(t.shards)), buf: make([][]byte, len(t.shards)), rest: make([][]byte, len(t.shards))}
		t.made++
	}
	s.r, s.left = r, len(s.part)
	for i := range s.part {
		p := &s.part[i]
		if len(s.buf[i]) < cap(r.Value) {
			s.buf[i] = make([]byte, cap(r.Value))
		}
		*p = kv.Request{Op: kv.OpScan, Key: r.Key, Limit: r.Limit, Value: s.buf[i][:0:cap(r.Value)], Owner: s}
		t.send(p, i)
	}
}

// Complete takes one partition's answer. When all are there they are merged, in one turn or more, and the scan ends.
func (s *scan) Complete(*kv.Request) {
	if s.left > 0 {
		if s.left--; s.left > 0 {
			return
		}
		s.begin()
	}
	r, t := s.r, s.t
	if !s.merge(r) {
		t.l.Finish(&s.part[0]) // it is delivered to us again, in the next turn
		return
	}
	Mark(r, kv.StageStore)
	s.r = nil
	t.scans = append(t.scans, s)
	t.l.Finish(r)
	if next := t.waiting.Pop(); next != nil {
		t.scan(next)
	}
}

// begin begins the merge. The first answer that is none is the scan's.
func (s *scan) begin() {
	r := s.r
	r.Status, r.Value, r.Need, r.More = kv.StatusOK, r.Value[:0], 0, false
	s.n = 0
	for i := range s.part {
		p := &s.part[i]
		if p.Status != kv.StatusOK {
			r.Status, r.Need = p.Status, p.Need
			return
		}
		s.rest[i] = p.Value
	}
}

// merge puts the answers together in key order, until the limit or the room is reached, or, reporting false, its turn is up. An answer that
// stopped short for want of room ends the merge where it ends: beyond it that partition may
// have smaller keys than the others.
func (s *scan) merge(r *kv.Request) (ended bool) {
	for looks := 0; r.Status == kv.StatusOK && s.n < r.Limit; s.n++ {
		if looks += len(s.part); looks > mergeTurn {
			return false
		}
		least := -1
		var key, value, after []byte
		for i, b := range s.rest {
			k, v, rest, ok := kv.NextItem(b)
			if !ok {
				if s.part[i].More {
					r.More = true
					return true
				}
				continue
			}
			if least < 0 || bytes.Compare(k, key) < 0 {
				least, key, value, after = i, k, v, rest
			}
		}
		if least < 0 {
			return true
		}
		out, ok := kv.AppendItem(r.Value, key, value)
		if !ok {
			r.More = true
			return true
		}
		s.t.l.Stats.Copied += uint64(len(out) - len(r.Value))
		r.Value, s.rest[least] = out, after
	}
	return true
}
