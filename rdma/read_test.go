//go:build rdma && cgo && linux

package rdma

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/export"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
)

// tabled is a partition of a few items, with a table. With churn it changes them all the time, by itself.
type tabled struct {
	l     *loop.Loop
	table *export.Table
	items map[string][]byte
	churn []string
	gets  int // that the table did not answer
}

func (p *tabled) OnEvent(uint64, int32, uint32) {}
func (p *tabled) Stage() error                  { return nil }
func (p *tabled) Close() bool                   { _ = p.table.Close(); return true }
func (p *tabled) Export() *export.Table         { return p.table }

// Poll writes new versions: each is one number, again and again.
func (p *tabled) Poll() int {
	for _, k := range p.churn {
		v := p.items[k]
		n := binary.LittleEndian.Uint64(v) + 1
		p.table.Drop([]byte(k))
		for i := 0; i < len(v); i += 8 {
			binary.LittleEndian.PutUint64(v[i:], n)
		}
		p.table.Put([]byte(k), v)
	}
	if len(p.churn) > 0 {
		p.l.Again()
	}
	return 0
}

func (p *tabled) Submit(r *kv.Request) {
	v, ok := p.items[string(r.Key)]
	r.Status = kv.StatusOK
	switch {
	case r.Op == kv.OpPut:
		p.table.Drop(r.Key)
		p.items[string(r.Key)] = bytes.Clone(r.Value)
	case !ok:
		r.Status = kv.StatusNotFound
	case len(v) > cap(r.Value):
		r.Status, r.Need = kv.StatusTooSmall, uint32(len(v))
	default:
		p.gets++
		r.Value = append(r.Value[:0], v...)
		p.table.Put(r.Key, v)
	}
	p.l.Finish(r)
}

// readRig is a server with tables and a client that reads them.
type readRig struct {
	t    *testing.T
	part *tabled
	l    *loop.Loop
	conn transport.Conn
	back chan *kv.Request
}

func newReadRig(t *testing.T, entries, itemBytes int) *readRig {
	n := need(t, Options{Verb: Read})
	r := &readRig{t: t, back: make(chan *kv.Request, 256)}
	g, err := loop.NewGroup(loop.Plan{NetLoops: 1, Net: loop.Options{Sleep: n.Sleep()}}, func(l *loop.Loop, _, _ int) (loop.Partition, error) {
		x, err := export.New(entries, itemBytes)
		if err != nil {
			return nil, err
		}
		r.part = &tabled{l: l, table: x, items: map[string][]byte{}}
		_, err = l.Add(r.part)
		return r.part, err
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.Serve(n.Host+":0", g, transport.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.l, err = loop.Start(loop.Options{Name: "client", Sleep: n.Sleep()}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.l.Stop(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if r.conn, err = n.Dial(ctx, r.l, s.Addr(), transport.DialOptions{Depth: 16, DialMax: time.Minute}); err != nil {
		t.Fatal(err)
	}
	return r
}

// Complete implements kv.Completer.
func (r *readRig) Complete(q *kv.Request) { r.back <- q }

func (r *readRig) submit(qs ...*kv.Request) {
	r.t.Helper()
	if err := r.l.Call(func() {
		for _, q := range qs {
			q.Owner = r
			r.conn.Submit(q)
		}
	}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *readRig) next() *kv.Request {
	r.t.Helper()
	select {
	case q := <-r.back:
		return q
	case <-time.After(time.Minute):
		r.t.Fatal("no completion within a minute")
		return nil
	}
}

func (r *readRig) do(q *kv.Request, want kv.Status) *kv.Request {
	r.t.Helper()
	r.submit(q)
	if q := r.next(); q.Status != want {
		r.t.Fatalf("%v %.20q: %v, want %v", q.Op, q.Key, q.Status, want)
	}
	return q
}

func (r *readRig) counters() (s transport.Counters) {
	_ = r.l.Call(func() { s = *transport.CountersOf(r.l) })
	return s
}

func (r *readRig) requests() (n int) {
	_ = r.part.l.Call(func() { n = r.part.gets })
	return n
}

func get(key string, room int) *kv.Request {
	return &kv.Request{Op: kv.OpGet, Key: []byte(key), Value: make([]byte, 0, room)}
}

func put(key string, v []byte) *kv.Request {
	return &kv.Request{Op: kv.OpPut, Key: []byte(key), Value: v}
}

func TestReadGetsWhatIsExportedAndAsksForTheRest(t *testing.T) {
	r := newReadRig(t, 64, 1100)
	for _, n := range []int{0, 1, 64, 1000} {
		key, v := fmt.Sprint("key", n), bytes.Repeat([]byte{byte(n), 7}, n/2)
		r.do(put(key, v), kv.StatusOK)
		before := r.requests()
		for i := range 10 {
			if q := r.do(get(key, 1000), kv.StatusOK); !bytes.Equal(q.Value, v) {
				t.Fatalf("%d B: get %d gives %d B", n, i, len(q.Value))
			}
		}
		if asked := r.requests() - before; asked != 1 {
			t.Errorf("%d B: the server answered %d of 10 gets, want the first", n, asked)
		}
	}
	// What changed is not read as it was.
	for i := range 20 {
		v := []byte(fmt.Sprint("version", i))
		r.do(put("key64", v), kv.StatusOK)
		for range 3 {
			if q := r.do(get("key64", 100), kv.StatusOK); !bytes.Equal(q.Value, v) {
				t.Fatalf("after version %d: %q", i, q.Value)
			}
		}
	}
	large := bytes.Repeat([]byte("large"), 1000)
	r.do(put("large", large), kv.StatusOK)
	for range 3 {
		if q := r.do(get("large", 5000), kv.StatusOK); !bytes.Equal(q.Value, large) {
			t.Fatal("another value")
		}
	}
	r.do(get("nothing", 10), kv.StatusNotFound)
	if q := r.do(get("large", 10), kv.StatusTooSmall); q.Need != 5000 {
		t.Fatalf("Need %d", q.Need)
	}
	if q := r.do(get("key1000", 10), kv.StatusTooSmall); q.Need != 1000 {
		t.Fatalf("Need %d", q.Need)
	}
	if s := r.counters(); s.Reads < 30 || s.ReadMisses == 0 {
		t.Errorf("counted: %d READs, %d misses", s.Reads, s.ReadMisses)
	}
}

func TestReadBeyondTheDepthWaits(t *testing.T) {
	modelSuffices(t)
	r := newReadRig(t, 64, 200)
	r.do(put("k", []byte("v")), kv.StatusOK)
	var qs []*kv.Request
	for range 200 {
		qs = append(qs, get("k", 10))
	}
	r.submit(qs...)
	for range qs {
		if q := r.next(); q.Status != kv.StatusOK || string(q.Value) != "v" {
			t.Fatal(q.Status, q.Value)
		}
	}
}

// TestReadTornByPutsIsNeverAWrongValue reads items that change all the time.
func TestReadTornByPutsIsNeverAWrongValue(t *testing.T) {
	tries := 1_000_000
	switch {
	case os.Getenv("KVWIRE_LONG") != "":
	case os.Getenv("KVWIRE_ACCEL") == "tcg":
		tries = 2_000
	case testenv.Race:
		tries = 10_000
	case testenv.Short():
		tries = 20_000
	default:
		tries = 100_000
	}
	const bytesOf = 3000
	r := newReadRig(t, 64, 3100)
	var keys []string
	var qs []*kv.Request
	for i := range 12 { // one get at a time for each, since a later one must not be older
		keys = append(keys, fmt.Sprint("key", i))
		qs = append(qs, get(keys[i], bytesOf))
	}
	_ = r.part.l.Call(func() {
		for _, k := range keys {
			r.part.items[k] = make([]byte, bytesOf)
		}
		r.part.churn = keys
	})
	defer func() { _ = r.part.l.Call(func() { r.part.churn = nil }) }()
	last := map[string]uint64{}
	for n := range tries / len(qs) {
		r.submit(qs...)
		for range qs {
			q := r.next()
			if q.Status != kv.StatusOK || len(q.Value) != bytesOf {
				t.Fatalf("%s: %v, %d B", q.Key, q.Status, len(q.Value))
			}
			n := binary.LittleEndian.Uint64(q.Value)
			for i := 8; i < bytesOf; i += 8 {
				if m := binary.LittleEndian.Uint64(q.Value[i:]); m != n {
					t.Fatalf("%s: version %d at byte 0, %d at byte %d", q.Key, n, m, i)
				}
			}
			if n < last[string(q.Key)] {
				t.Fatalf("%s: version %d after %d", q.Key, n, last[string(q.Key)])
			}
			last[string(q.Key)] = n
		}
		if n%(1+100_000/len(qs)) == 0 && n > 0 {
			t.Logf("%d of %d", n*len(qs), tries)
		}
	}
	s := r.counters()
	t.Logf("%d READs, %d again since the entry was being written, %d gets asked of the server; last versions %v", s.Reads, s.ReadRetries, s.ReadMisses, last)
}
