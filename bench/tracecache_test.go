package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

func cacheTraceOf(t testing.TB, text string, o TraceOptions) *Trace {
	t.Helper()
	tr, err := o.parse("t", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// ofTwitter has five keys: a and e,x are there, b is missed and then set, c is added, d is deleted.
const ofTwitter = `100,a,1,300,7,get,0
100,b,1,0,7,get,0
100,b,1,40,7,set,2
100,e,x,3,5,8,gets,0
101,c,1,10,7,add,60
101,d,1,0,7,delete,0
104,b,1,40,7,get,0
104,a,1,0,9,delete,0
`

const second = int64(time.Second)

func TestACachesTraceSpreadsItsSecondsAndLoadsItsWorkingSet(t *testing.T) {
	tr := cacheTraceOf(t, ofTwitter, TraceOptions{Format: TraceTwitter})
	// a and e,x are loaded, and so are the first records; then come b, c and d.
	want := []traceRow{{0, 0, 0}, {second / 4, 2, 0}, {second / 2, 2, 40 | putBit}, {3 * second / 4, 1, 0}, {second, 3, 10 | putBit}, {3 * second / 2, 4, deleteBit},
		{4 * second, 2, 0}, {9 * second / 2, 0, deleteBit}}
	if !slices.Equal(tr.rows, want) {
		t.Errorf("rows %v", tr.rows)
	}
	if tr.Records() != 2 || tr.Keys() != 5 || !slices.Equal(tr.first, []uint32{300, 5, 40, 10, noSize}) || !slices.Equal(tr.missing, []bool{true, false, true, true, true}) {
		t.Errorf("%d of %d keys are loaded: sizes %v, missing %v", tr.Records(), tr.Keys(), tr.first, tr.missing)
	}
	if least, most := tr.ValueBytes(); least != 5 || most != 300 || tr.Mix() != "get=0.5,put=0.25,delete=0.25" {
		t.Errorf("%d to %d B, %s", least, most, tr.Mix())
	}
	if _, err := ParseMix(tr.Mix()); err != nil {
		t.Error(err)
	}
}

func TestTimesToLiveAreAnsweredAsTheOptionSays(t *testing.T) {
	text := "0,a,1,30,1,set,2\n1,a,1,30,1,set,3\n2,b,1,30,1,set,1\n3,b,1,0,1,delete,0\n3,c,1,30,1,set,9\n6,c,1,30,1,get,0\n"
	tr := cacheTraceOf(t, text, TraceOptions{Format: TraceTwitter, TTL: TTLDelete})
	var dead []string
	for _, r := range tr.rows {
		if r.kind() == Delete {
			dead = append(dead, fmt.Sprintf("%d at %d", r.id, r.at/second))
		}
	}
	// a's first time ends after it was set again; b is deleted at that moment anyway; c's time ends after the trace.
	if !slices.Equal(dead, []string{"1 at 3", "0 at 4"}) {
		t.Errorf("deleted: %v", dead)
	}
	if tr := cacheTraceOf(t, text, TraceOptions{Format: TraceTwitter}); tr.Rows() != 6 || tr.kinds[Delete] != 1 {
		t.Errorf("ignored: %v", tr.rows)
	}
}

func TestMetasLinesAreSeveralRequests(t *testing.T) {
	tr := cacheTraceOf(t, `op_time,key,key_size,op,op_count,size,cache_hits,ttl,usecase
7,k1,20,GET,3,100,3,0,5
7,k2,20,GET_LEASE,1,0,0,0,5
8,k2,20,SET,1,50,0,3600,5
9,k1,20,DELETE,1,0,0,0,5
`, TraceOptions{Format: TraceMeta})
	want := []traceRow{{0, 0, 0}, {second / 4, 0, 0}, {second / 2, 0, 0}, {3 * second / 4, 1, 0}, {second, 1, 50 | putBit}, {2 * second, 0, deleteBit}}
	if !slices.Equal(tr.rows, want) || tr.Records() != 1 || tr.Keys() != 2 {
		t.Errorf("%v, %d of %d keys are loaded", tr.rows, tr.Records(), tr.Keys())
	}
}

func TestACachesTraceNamesTheMistakeAndItsLine(t *testing.T) {
	const ok, head = "1,a,1,5,1,get,0\n", "op_time,key,op,op_count,size\n"
	for _, c := range []struct {
		format     TraceFormat
		text, want string
	}{
		{TraceTwitter, "", "t: there is no row"},
		{TraceTwitter, ok + "1,a,5,get,0\n", "t:2: number of fields 5: must be 7 (timestamp, key"},
		{TraceTwitter, ok + "1,a,1,5,1,scan,0\n", `t:2: operation "scan" is unknown`},
		{TraceTwitter, ok + "0,a,1,5,1,get,0\n", `t:2: time "0" is before`},
		{TraceTwitter, ok + "0.5,a,1,5,1,get,0\n", `t:2: time "0.5" is not a whole number`},
		{TraceTwitter, ok + "99999999999,a,1,5,1,get,0\n", `t:2: time "99999999999" is more than 9223372036 seconds`},
		{TraceTwitter, ok + "9000000,a,1,5,1,get,0\n", "is more than 744h0m0s after"},
		{TraceTwitter, ok + "1,,1,5,1,get,0\n", "t:2: the key is empty"},
		{TraceTwitter, ok + "1,a,1,16777217,1,get,0\n", `t:2: size "16777217"`},
		{TraceTwitter, ok + "1,a,1,-5,1,get,0\n", `t:2: size "-5"`},
		{TraceTwitter, ok + "99999999999999999999,a,1,5,1,get,0\n", "is more than 9223372036 seconds"},
		{TraceTwitter, ok + "-99999999999999999999,a,1,5,1,get,0\n", "is not a whole number"},
		{TraceTwitter, ok + "1,a,1,5,1,set,4294967296\n", `t:2: TTL "4294967296" is more than 4294967295 seconds`},
		{TraceTwitter, ok + "1,a,1,5,1,set,1d\n", `t:2: TTL "1d"`},
		{TraceTwitter, ok + strings.Repeat("\n", 2*traceLineBytes), "more than 65536 bytes of blank lines"},
		{TraceTwitter, ok + strings.Repeat("k", 2*traceLineBytes), "t:2: the line is longer than 65536 bytes"},
		{TraceMeta, "key,op,size,op_count,key_size\n", "t:1: no column op_time"},
		{TraceMeta, head + "1,a,GET,1\n", "t:2: number of fields 4: the first line names 5 columns"},
		{TraceMeta, head + "1,a,GET,0,5\n", `t:2: op_count "0"`},
		{TraceMeta, head + "1,a,PUT,1,5\n", `t:2: op "PUT" is unknown`},
		{TraceMeta, head + "1,a,GET,4000000000,5\n", "t:2: more than 16777216 requests"},
		{TraceMeta, head, "t: there is no row"},
	} {
		_, err := TraceOptions{Format: c.format}.parse("t", strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60q:\ngot  %v\nwant %s", c.text, err, c.want)
		}
	}
	for _, o := range []TraceOptions{{Format: TraceMeta, Unit: Milliseconds}, {TTL: TTLDelete}} {
		if o.Check() == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// A mix of a user's own does not delete: its records would be gone after a while.
func TestOnlyTracesDelete(t *testing.T) {
	if err := (Spec{Mix: "get=50,delete=50"}).Check(); err == nil || !strings.Contains(err.Error(), "only a trace can") {
		t.Error(err)
	}
}

// Deletes, and keys that nobody loaded: what the trace expects to be missing is no error, and a loaded key that is gone is one.
func TestExpectedMissesAreNoMisses(t *testing.T) {
	for _, gone := range []bool{false, true} {
		l := startLoop(t)
		h := &mem{l: l, items: map[string][]byte{}}
		clients := []Client{{l, h, 1}}
		spec := Spec{Trace: cacheTraceOf(t, ofTwitter, TraceOptions{Format: TraceTwitter}), Loop: Closed, Duration: time.Hour, Verify: true}
		if got, err := Load(context.Background(), spec, clients, nil); err != nil || got.Records != 2 || len(h.items) != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
		if gone {
			clear(h.items)
		}
		res, err := Run(context.Background(), spec, clients, nil)
		if err != nil || res.Ops != 8 || res.Op[Delete].Ops != 2 || res.VerifyFailures != 0 || res.Errors != 0 {
			t.Fatalf("%v: %d operations, %d deletes, %s", err, res.Ops, res.Op[Delete].Ops, res.FirstFailure)
		}
		misses, expected := uint64(0), uint64(1)
		if gone { // e,x, which the trace never deletes, and a, which it does
			misses, expected = 1, 2
		}
		if res.Misses != misses || res.ExpectedMisses != expected {
			t.Errorf("gone %v: %d misses, %d expected ones", gone, res.Misses, res.ExpectedMisses)
		}
	}
}

const sampleTrace = "../examples/traces/twitter-like.csv.gz"

// sampleRow is a line of the sample, read without the parser.
type sampleRow struct {
	second, size, ttl int
	key, op           string
}

func sampleRows(t testing.TB) (all []sampleRow) {
	t.Helper()
	packed, err := os.ReadFile(sampleTrace)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ",")
		second, err1 := strconv.Atoi(f[0])
		size, err2 := strconv.Atoi(f[3])
		ttl, err3 := strconv.Atoi(f[6])
		if len(f) != 7 || err1 != nil || err2 != nil || err3 != nil {
			t.Fatalf("%q", line)
		}
		all = append(all, sampleRow{second, size, ttl, f[1], f[5]})
	}
	return all
}

// The replay of the sample is compared with the file: kinds, keys and their popularity, gaps, sizes, and what it finds.
func TestReplayIsTheTrace(t *testing.T) {
	rows := sampleRows(t)
	tr, err := ReadTrace(t.Context(), sampleTrace, TraceOptions{Format: TraceTwitter})
	if err != nil {
		t.Fatal(err)
	}
	perSecond, seen, there := map[int]int{}, map[string]bool{}, map[string]bool{}
	for _, r := range rows {
		perSecond[r.second]++
		if !seen[r.key] && r.op == "get" && r.size > 0 {
			there[r.key] = true
		}
		seen[r.key] = true
	}
	if tr.Records() != uint64(len(there)) || tr.Keys() != uint64(len(seen)) || tr.Rows() != len(rows) {
		t.Fatalf("%d of %d keys are loaded in %d rows; the file has %d of %d in %d", tr.Records(), tr.Keys(), tr.Rows(), len(there), len(seen), len(rows))
	}
	g, q := driven(t, Spec{Trace: tr, Loop: Open, Duration: 2 * time.Hour, Verify: true}, 1)
	begin := loop.Nanos() - int64(time.Hour)
	g.start.Store(begin)
	g.begin(begin)
	g.Poll()
	kept := map[uint64][]byte{} // the store, by record
	for id := range tr.Records() {
		kept[id] = make([]byte, tr.first[id])
		fillValue(kept[id], id, 0, 1)
	}
	ids, kinds, popularity := map[string]uint64{}, map[string]uint64{}, map[uint64]int{}
	var expected uint64
	at, last := 0, -1 // row within its second
	for i, r := range rows {
		req := q.next()
		if req == nil {
			t.Fatalf("row %d was not sent", i)
		}
		s := &g.slots.slot[req.Slot]
		if id, known := ids[r.key]; known && id != s.id {
			t.Fatalf("row %d: key %s is record %d, and was %d", i, r.key, s.id, id)
		}
		ids[r.key] = s.id
		popularity[s.id]++
		kinds[req.Op.String()]++
		if at++; r.second != last {
			at, last = 0, r.second
		}
		if want := int64(r.second-rows[0].second)*second + int64(at)*second/int64(perSecond[r.second]); s.intended-begin != want {
			t.Fatalf("row %d is due after %d ns, not %d", i, s.intended-begin, want)
		}
		req.Status = kv.StatusOK
		switch op := map[string]kv.Op{"get": kv.OpGet, "set": kv.OpPut, "delete": kv.OpDelete}[r.op]; {
		case op != req.Op:
			t.Fatalf("row %d, a %s, is sent as %s", i, r.op, req.Op)
		case op == kv.OpPut:
			req.Value = req.Value[:r.size] // the queue has made it as long as its room
			if _, bytes := g.replay.written(); bytes != r.size || checkValue(req.Value, s.id, r.size) != faultNone {
				t.Fatalf("row %d writes %d B, not %d, or another value", i, bytes, r.size)
			}
			kept[s.id], there[r.key] = slices.Clone(req.Value), true
		case op == kv.OpDelete:
			if !there[r.key] {
				req.Status = kv.StatusNotFound
			}
			delete(kept, s.id)
			there[r.key] = false
		case there[r.key]:
			req.Value = append(req.Value[:0], kept[s.id]...)
		default:
			req.Status = kv.StatusNotFound
			expected++
		}
		g.Complete(req)
	}
	if !g.reported || q.next() != nil {
		t.Error("more was sent than the file has")
	}
	of := map[string]uint64{}
	files := map[string]int{}
	for _, r := range rows {
		of[map[string]string{"get": "get", "set": "put", "delete": "delete"}[r.op]]++
		files[r.key]++
	}
	for kind, n := range of {
		if k, _ := kindOf(kind); kinds[kind] != n || g.rec.ops[k] != n || tr.kinds[k] != int(n) {
			t.Errorf("%d %ss were sent and %d recorded; the file has %d", kinds[kind], kind, g.rec.ops[k], n)
		}
	}
	for key, n := range files {
		if popularity[ids[key]] != n {
			t.Errorf("key %s was asked for %d times; in the file %d times", key, popularity[ids[key]], n)
		}
	}
	if len(popularity) != len(files) || g.rec.verifyFailures != 0 || g.rec.misses != 0 || g.rec.expectedMisses != expected {
		t.Errorf("%d records for %d keys, %d misses, %d expected ones (the file has %d), %d wrong: %s",
			len(popularity), len(files), g.rec.misses, g.rec.expectedMisses, expected, g.rec.verifyFailures, g.rec.firstFailure)
	}
}

// The sample has the statistics of the cluster that it stands for (examples/traces/README.md).
func TestTheSampleHasTheStatisticsOfItsCluster(t *testing.T) {
	var gets, sets, misses, bytes, hits float64
	popularity := map[string]float64{}
	rows := sampleRows(t)
	for _, r := range rows {
		switch {
		case r.op == "set":
			sets++
			continue
		case r.op != "get":
			continue
		case r.size == 0:
			misses++
		default:
			hits++
			bytes += float64(r.size)
		}
		gets++
		popularity[r.key]++
	}
	var counts []float64
	for _, n := range popularity {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	slices.Reverse(counts)
	// The slope of the logarithms, of the ranks that have enough requests.
	var n, x, y, xx, xy float64
	for i, c := range counts[:200] {
		a, b := math.Log(float64(i+2)), math.Log(c) // rand.Zipf: (1 + rank)^-alpha, from rank 0 on
		n, x, y, xx, xy = n+1, x+a, y+b, xx+a*a, xy+a*b
	}
	alpha := -(n*xy - x*y) / (n*xx - x*x)
	for name, c := range map[string]struct{ got, want, within float64 }{
		"gets": {gets / float64(len(rows)), 0.93, 0.01}, "sets": {sets / float64(len(rows)), 0.07, 0.005}, "misses": {misses / gets, 0.3941, 0.02},
		"value": {bytes / hits, 2439, 250}, "alpha": {alpha, 1.1004, 0.1},
	} {
		if math.Abs(c.got-c.want) > c.within {
			t.Errorf("%s: %.4g, published %.4g", name, c.got, c.want)
		}
	}
}

func fuzzCacheTrace(f *testing.F, format TraceFormat) {
	f.Fuzz(func(t *testing.T, text []byte, ttl bool) {
		o := TraceOptions{Format: format}
		if ttl {
			o.TTL = TTLDelete
		}
		tr, err := o.parse("t", bytes.NewReader(text))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") || tr != nil {
				t.Fatalf("%q, %v", err, tr)
			}
			return
		}
		checkTrace(t, tr)
	})
}

// Whatever is taken is in order, and can be split, loaded and run.
func FuzzParseTwitterTrace(f *testing.F) {
	f.Add([]byte(ofTwitter), true)
	f.Add([]byte("5,k,1,0,1,get,0\n5,k,1,0,1,set,1\n9,k,1,0,1,incr,4294967295\n"), true)
	f.Add([]byte("\ufeff0,,,a,1,2,3,get,0\r\n"), false)
	fuzzCacheTrace(f, TraceTwitter)
}

func FuzzParseMetaTrace(f *testing.F) {
	f.Add([]byte("op_time,key,key_size,op,op_count,size,cache_hits,ttl,usecase,sub_usecase\n604038471,82131353f9ddc8c6,48,GET,2,87,1,0,3,4\n604038473,8,6,SET,1,65,0,2,2,6\n604038476,8,6,DELETE,1,0,0,0,2,6\n"), true)
	f.Add([]byte("op,size,op_count,key,op_time\nSET_LEASE,9,3,k,0\nGET,0,1,j,0"), false)
	fuzzCacheTrace(f, TraceMeta)
}
