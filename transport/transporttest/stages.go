package transporttest

import (
	"bytes"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
)

// watched makes a request record its stages from now on.
func watched(r *kv.Request) *kv.Request {
	r.Stages = new(kv.Stages)
	r.Stages.Start(loop.Nanos())
	return r
}

// stages checks that the stages of each request add up to its time, and that a delay counts for the right stage.
func stages(t *testing.T, n Network) {
	const depth = 8
	r := NewRig(t, n, 1, transport.ServerOptions{Depth: depth})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: depth}))
	check := func(r *kv.Request, start int64) {
		t.Helper()
		st := r.Stages
		if st.Total() != st.At-start {
			t.Errorf("%v: the stages %v make %d ns, and it took %d", r.Op, st.Ns, st.Total(), st.At-start)
		}
		for s, ns := range st.Ns {
			if ns < 0 {
				t.Errorf("%v: %v took %d ns", r.Op, kv.Stage(s), ns)
			}
		}
		if n.Stream && (st.Ns[kv.StageFabric] != 0 || st.Ns[kv.StageFabricOut] == 0 || st.Ns[kv.StageFabricBack] == 0) {
			t.Errorf("%v: the way there was not told from the way back: %v", r.Op, st.Ns)
		}
		if n.Name() == "inproc" && st.Ns[kv.StageFabric]+st.Ns[kv.StageFabricOut]+st.Ns[kv.StageFabricBack] != 0 {
			t.Errorf("%v: a call has a fabric: %v", r.Op, st.Ns)
		}
	}
	one := func(q *kv.Request, want kv.Status) *kv.Request {
		t.Helper()
		start := watched(q).Stages.At
		c.Expect(q, want)
		check(q, start)
		return q
	}
	large := Fill(300_000, 1)
	one(Put("a", Fill(100, 2)), kv.StatusOK)
	one(Put("large", large), kv.StatusOK)
	one(Get("none", 10), kv.StatusNotFound)
	one(Get("a", 10), kv.StatusTooSmall)
	one(&kv.Request{Op: kv.OpScan, Value: make([]byte, 0, 100), Limit: 1}, kv.StatusOK)
	if got := one(Get("large", len(large)), kv.StatusOK); !bytes.Equal(got.Value, large) {
		t.Error("another value came back")
	}
	if c.Expect(Get("a", 100), kv.StatusOK); t.Failed() { // a request without stages among them
		return
	}

	p := r.Parts[0]
	seen := p.seen.Load()
	p.Hold(t)
	q := watched(Get("a", 100))
	start := q.Stages.At
	c.Submit(q)
	p.Await(t, seen+1)
	from := loop.Nanos()
	for loop.Nanos()-from < 1e6 {
	}
	to := loop.Nanos()
	p.Release(t)
	check(c.Next(), start)
	if q.Stages.Ns[kv.StageDisk] < to-from {
		t.Errorf("it was held back for %d ns at least, and its stages are %v", to-from, q.Stages.Ns)
	}

	var many []*kv.Request
	starts := map[*kv.Request]int64{}
	for i := range 4 * depth { // more than may be in flight, and every other one watched
		q := Get("large", len(large))
		if i%2 == 0 {
			starts[q] = watched(q).Stages.At
		}
		many = append(many, q)
	}
	c.Submit(many...)
	for range many {
		if q := c.Next(); q.Stages != nil {
			check(q, starts[q])
		}
	}
}
