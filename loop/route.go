package loop

import (
	"bytes"

	"github.com/kvwire/kvwire/kv"
)

// Router is the handler on a network loop: it sends each request to the partition of its key. If that is on the same loop,
// it calls the partition; else the request goes through that loop's mailbox and returns through this one's. A scan
// goes to all partitions, and the router merges their answers. It belongs to its loop.
type Router struct {
	l      *Loop
	shards []*Loop
	relays []relay // by shard
	stats  [kv.StatsKinds]func(r *kv.Request)

	scans     []*scan  // unused
	scanCount int      // number of scans, used or not
	waiting   kv.Queue // requests that wait for an unused scan
}

func newRouter(l *Loop, shards []*Loop) *Router {
	t := &Router{l: l, shards: shards, relays: make([]relay, len(shards))}
	for i, other := range shards {
		t.relays[i] = relay{l, other}
	}
	return t
}

// OnStats sets the function that answers kv.OpStats with this Limit. It may block, is called on a goroutine of its own, owns the request meanwhile, and
// sets its outcome. It must be set before requests arrive.
func (t *Router) OnStats(what uint32, f func(r *kv.Request)) { t.stats[what] = f }

// Stats answers a kv.OpStats by the function that OnStats has set; without one the status is StatusBadRequest. Any goroutine except a loop's may call it.
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
		t.startScan(r)
	case r.Op == kv.OpStats:
		t.answerStats(r)
	case r.Op == kv.OpKeys:
		t.sendPage(r)
	default:
		t.send(r, kv.Shard(r.Key, len(t.shards)))
	}
}

var _ kv.Batcher = (*Router)(nil)

// Begin implements kv.Batcher, for this loop's own partition.
func (t *Router) Begin() {
	if t.l.batch != nil {
		t.l.batch.Begin()
	}
}

// End implements kv.Batcher.
func (t *Router) End() {
	if t.l.batch != nil {
		t.l.batch.End()
	}
}

var _ kv.Direct = (*Router)(nil)

// Read implements kv.Direct for keys of this loop's own partition.
func (t *Router) Read(keys, values [][]byte) int {
	n := t.own(keys)
	if n == 0 {
		return 0
	}
	return t.l.direct.Read(keys[:n], values)
}

// Write implements kv.Direct for keys of this loop's own partition.
func (t *Router) Write(keys, values [][]byte) int {
	n := t.own(keys)
	if n == 0 {
		return 0
	}
	return t.l.direct.Write(keys[:n], values)
}

// own returns the number of keys, from the first on, that are this loop's own partition's, if that is a kv.Direct; else 0.
func (t *Router) own(keys [][]byte) (n int) {
	if t.l.direct == nil {
		return 0
	}
	for n < len(keys) && t.shards[kv.Shard(keys[n], len(t.shards))] == t.l {
		n++
	}
	return n
}

func (t *Router) send(r *kv.Request, shard int) {
	to := t.shards[shard]
	if to == t.l {
		t.l.local.Submit(r)
		return
	}
	r.Home, r.Owner = r.Owner, &t.relays[shard]
	if !t.l.post(to, r) {
		r.Owner, r.Home = r.Home, nil
		r.Status = kv.StatusClosed
		t.l.Finish(r)
		return
	}
}

// Shards returns the number of partitions.
func (t *Router) Shards() int { return len(t.shards) }

// sendPage sends a request for a page of a walk to the partition of its position.
func (t *Router) sendPage(r *kv.Request) {
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
	go func() { // not on the data path; it owns r until Do
		t.Stats(r.Limit, r)
		t.l.Do(func() {
			Mark(r, kv.StageStore)
			t.l.Finish(r)
		})
	}()
}

// maxScans bounds the scans that one router merges at the same time; further ones wait. Each has one
// buffer per partition.
const maxScans = 16

// scan is one scan under way over all partitions.
type scan struct {
	t          *Router
	r          *kv.Request // the client's request
	part       []kv.Request
	buf        [][]byte // room for each partition's answer; grows to the largest request's
	rest       [][]byte // items of each partition's answer that are not merged yet
	unanswered int      // number of partitions that have not answered
	n          uint32   // merged items
}

// mergeTurn bounds the work of a merge in one turn, in comparisons of items: some 300 µs.
const mergeTurn = 16 << 10

func (t *Router) startScan(r *kv.Request) {
	if len(t.scans) == 0 && t.scanCount == maxScans {
		t.waiting.Push(r)
		return
	}
	var s *scan
	if n := len(t.scans); n > 0 {
		s, t.scans = t.scans[n-1], t.scans[:n-1]
	} else {
		s = &scan{t: t, part: make([]kv.Request, len(t.shards)), buf: make([][]byte, len(t.shards)), rest: make([][]byte, len(t.shards))}
		t.scanCount++
	}
	s.r, s.unanswered = r, len(s.part)
	for i := range s.part {
		p := &s.part[i]
		if len(s.buf[i]) < cap(r.Value) {
			s.buf[i] = make([]byte, cap(r.Value))
		}
		*p = kv.Request{Op: kv.OpScan, Key: r.Key, Limit: r.Limit, Value: s.buf[i][:0:cap(r.Value)], Owner: s}
		t.send(p, i)
	}
}

// Complete implements kv.Completer. It counts one partition's answer. After the last one it merges them, in one turn or more, and ends the scan.
func (s *scan) Complete(*kv.Request) {
	if s.unanswered > 0 {
		if s.unanswered--; s.unanswered > 0 {
			return
		}
		s.beginMerge()
	}
	r, t := s.r, s.t
	if !s.merge(r) {
		t.l.Finish(&s.part[0]) // so that the next turn calls Complete again
		return
	}
	Mark(r, kv.StageStore)
	s.r = nil
	t.scans = append(t.scans, s)
	t.l.Finish(r)
	if next := t.waiting.Pop(); next != nil {
		t.startScan(next)
	}
}

// beginMerge begins the merge. If a partition's request has failed, the scan fails with its status.
func (s *scan) beginMerge() {
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

// merge merges the answers in key order, until the limit or the room is reached, or until mergeTurn comparisons are done: then it returns false.
// If a partition's answer is incomplete because its room was full, the merge ends with its last item: beyond it that partition may
// have smaller keys than the others.
func (s *scan) merge(r *kv.Request) (ended bool) {
	for compared := 0; r.Status == kv.StatusOK && s.n < r.Limit; s.n++ {
		if compared += len(s.part); compared > mergeTurn {
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
